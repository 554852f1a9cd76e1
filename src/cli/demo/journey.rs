//! The journey, step by step. Each step checks what came back; the first that is wrong ends it.

use axum::http::Method;
use serde_json::{Value, json};

use super::{
    ADMIN_PASSWORD, DataFolder,
    client::{Answer, Broken, Client},
    password,
    print::Printer,
};

/// A customer of the demo.
struct Customer {
    name: &'static str,
    email: &'static str,
    tier: &'static str,
    calls: usize,
    work: u32,
}

const CUSTOMERS: [Customer; 3] = [
    Customer { name: "customer_1", email: "ada@customer-1.example", tier: "standard", calls: 12, work: 400 },
    Customer { name: "customer_2", email: "grace@customer-2.example", tier: "premium", calls: 8, work: 900 },
    Customer { name: "customer_3", email: "alan@customer-3.example", tier: "free", calls: 3, work: 20 },
];

/// A registered customer who is signed in.
struct Member {
    customer: &'static Customer,
    tenant_id: String,
    token: String,
}

pub(super) async fn run(client: &Client, printer: &mut Printer, data: &DataFolder) -> Result<(), Broken> {
    printer.step("The platform administrator signs in");
    let admin = login(client, printer, "admin@localhost", ADMIN_PASSWORD).await?.text("/access_token");

    printer.step("Onboarding: tenant → user → billing account → provisioning");
    let mut tenants = Vec::new();
    for customer in &CUSTOMERS {
        tenants.push(register(client, printer, &admin, customer, customer.tier, 201).await?.text("/tenant_id"));
    }
    second_registration(client, printer, &admin, &tenants[0]).await?;

    printer.step("Everybody signs in; a wrong password does not");
    let mut members = Vec::new();
    for (customer, tenant_id) in CUSTOMERS.iter().zip(tenants) {
        let token = login(client, printer, customer.email, password().expose()).await?.text("/access_token");
        members.push(Member { customer, tenant_id, token });
    }
    let wrong = json!({"email": CUSTOMERS[0].email, "password": "violet-Harbour-43-lamps"});
    printer.call(&client.post("/v1/login", "", wrong).await?.expect(401)?);

    printer.step("Calls through the gateway: the token is checked, the usage counted");
    for member in &members {
        use_the_api(client, printer, member).await?;
    }
    forged(client, printer, &members[0]).await?;

    for member in &members {
        show(client, printer, &admin, member).await?;
    }

    move_to_premium(client, printer, &admin, &members[0], data).await?;
    unregister(client, printer, &admin, &members[0], data).await
}

async fn login(client: &Client, printer: &Printer, email: &str, password: &str) -> Result<Answer, Broken> {
    let answer = client.post("/v1/login", "", json!({"email": email, "password": password})).await?.expect(200)?;
    printer.call(&answer);
    printer.fact("email", email);
    printer.fact("scope", &answer.text("/scope"));
    Ok(answer)
}

async fn register(
    client: &Client,
    printer: &Printer,
    admin: &str,
    customer: &Customer,
    tier: &str,
    status: u16,
) -> Result<Answer, Broken> {
    let body = json!({
        "email": customer.email,
        "customer_name": customer.name,
        "billing_address": {"line1": "1 Main Street", "city": "Springfield", "country": "US"},
        "tier": tier,
        "password": password().expose(),
    });
    let answer = client.post("/admin/v1/registrations", admin, body).await?.expect(status)?;
    printer.call(&answer);
    printer.fact("customer", customer.name);
    printer.fact("tenant", &answer.text("/tenant_id"));
    let steps = answer.body["steps"].as_array().into_iter().flatten();
    let steps: Vec<String> = steps.map(|step| format!("{} {}", name(&step["name"]), name(&step["status"]))).collect();
    printer.fact("steps", &steps.join(", "));
    check(answer.text("/status") == "active", "the registration is not active")?;
    Ok(answer)
}

async fn second_registration(client: &Client, printer: &mut Printer, admin: &str, first: &str) -> Result<(), Broken> {
    printer.step("customer_1 registers again, asking for premium: nothing is made twice");
    let before = infrastructure(client, admin, first).await?;
    let again = register(client, printer, admin, &CUSTOMERS[0], "premium", 201).await?;
    for note in again.body["notes"].as_array().into_iter().flatten() {
        printer.fact("note", &name(note));
    }
    check(again.text("/tenant_id") == first, "the second registration made another tenant")?;
    let after = infrastructure(client, admin, first).await?;
    check(after.text("/infrastructure_id") == before.text("/infrastructure_id"), "infrastructure was provisioned twice")
}

async fn infrastructure(client: &Client, admin: &str, tenant: &str) -> Result<Answer, Broken> {
    client.get(&format!("/admin/v1/tenants/{tenant}/infrastructure"), admin).await?.expect(200)
}

async fn use_the_api(client: &Client, printer: &Printer, member: &Member) -> Result<(), Broken> {
    let Member { customer, token, .. } = member;
    for _ in 1..customer.calls {
        client.get("/sample/hello", token).await?.expect(200)?;
    }
    let answer = client.post("/sample/compute", token, json!({"work": customer.work})).await?.expect(200)?;
    printer.call(&answer);
    printer.fact("customer", customer.name);
    printer.fact("calls", &format!("{} in all, {} ms of compute", customer.calls, answer.text("/compute_ms")));
    Ok(())
}

/// The last character of a signature carries bits that nobody reads; one in the middle does not.
async fn forged(client: &Client, printer: &Printer, member: &Member) -> Result<(), Broken> {
    let (head, signature) = member.token.rsplit_once('.').unwrap_or_default();
    let (first, rest) = signature.split_at_checked(10).unwrap_or_default();
    let flipped = if rest.starts_with('A') { "B" } else { "A" };
    let forged = format!("{head}.{first}{flipped}{}", rest.get(1..).unwrap_or_default());
    let answer = client.get("/sample/hello", &forged).await?.expect(401)?;
    printer.call(&answer);
    printer.fact("forged token", &answer.text("/detail"));
    Ok(())
}

async fn show(client: &Client, printer: &mut Printer, admin: &str, member: &Member) -> Result<(), Broken> {
    let Member { customer, tenant_id, .. } = member;
    printer.step(&format!("What we know of {}", customer.name));
    let tenant = client.get(&format!("/admin/v1/tenants?customer_name={}", customer.name), admin).await?.expect(200)?;
    printer.call(&tenant);
    printer.fact("tier", &tenant.text("/items/0/tier"));
    let account = client.get(&format!("/admin/v1/tenants/{tenant_id}/billing-account"), admin).await?.expect(200)?;
    printer.fact("billing account", &format!("{} ({})", account.text("/account_id"), account.text("/status")));
    let place = infrastructure(client, admin, tenant_id).await?;
    printer.fact("infrastructure", &format!("{}: {}", place.text("/isolation"), place.text("/location")));
    let usage = client.get(&format!("/admin/v1/tenants/{tenant_id}/usage?meter=apis"), admin).await?.expect(200)?;
    printer.call(&usage);
    printer.fact("usage", &format!("{} requests", usage.text("/data/0/value")));
    check(usage.text("/data/0/value") == customer.calls.to_string(), "the count is not the number of calls")?;
    bill(client, printer, admin, tenant_id).await.map(drop)
}

async fn bill(client: &Client, printer: &Printer, admin: &str, tenant_id: &str) -> Result<Answer, Broken> {
    let bill = client.get(&format!("/admin/v1/tenants/{tenant_id}/bill"), admin).await?.expect(200)?;
    printer.call(&bill);
    for line in bill.body["lines"].as_array().into_iter().flatten() {
        let (meter, quantity) = (name(&line["meter"]), name(&line["quantity"]));
        let (tier, unrounded, amount) = (name(&line["tier"]), name(&line["unrounded"]), name(&line["amount"]));
        printer.fact(&meter, &format!("{amount:>8}  = {quantity} on {tier}, exactly {unrounded}"));
    }
    printer.fact("total", &format!("{:>8} {}", bill.text("/total"), bill.text("/currency")));
    Ok(bill)
}

async fn move_to_premium(
    client: &Client,
    printer: &mut Printer,
    admin: &str,
    member: &Member,
    data: &DataFolder,
) -> Result<(), Broken> {
    let Member { customer, tenant_id, token } = member;
    printer.step(&format!("{} moves to premium: infrastructure follows the tier", customer.name));
    let path = format!("/admin/v1/tenants/{tenant_id}/tier");
    let plan = client.post(&path, admin, json!({"tier": "premium", "dry_run": true})).await?.expect(200)?;
    printer.call(&plan);
    printer.fact(
        "dry run",
        &format!("would {} to {}", plan.text("/infrastructure/action"), plan.text("/infrastructure/isolation")),
    );
    let moved = client.post(&path, admin, json!({"tier": "premium"})).await?.expect(200)?;
    printer.call(&moved);
    printer.fact("before", &moved.text("/infrastructure/from/location"));
    printer.fact("now", &moved.text("/infrastructure/to/location"));
    let file = data.path.join("infrastructure").join(moved.text("/infrastructure/to/location"));
    check(file.exists(), "the silo's file was not made")?;
    let hello = client.get("/sample/hello", token).await?.expect(200)?;
    check(hello.text("/tier") == "premium", "the next call does not see the new tier")?;
    printer.call(&hello);
    printer.fact("upstream sees", &format!("tier {}", hello.text("/tier")));
    bill(client, printer, admin, tenant_id).await.map(drop)
}

async fn unregister(
    client: &Client,
    printer: &mut Printer,
    admin: &str,
    member: &Member,
    data: &DataFolder,
) -> Result<(), Broken> {
    let Member { customer, tenant_id, token } = member;
    printer.step(&format!("{} is unregistered: nothing is left", customer.name));
    let silo = data.path.join("infrastructure").join(infrastructure(client, admin, tenant_id).await?.text("/location"));
    let path = format!("/admin/v1/tenants/{tenant_id}");
    let gone = client.call(Method::DELETE, &path, admin, None).await?.expect(200)?;
    printer.call(&gone);
    printer.fact("tenant", &gone.text("/status"));
    let again = client.call(Method::DELETE, &path, admin, None).await?.expect(200)?;
    check(again.body == gone.body, "unregistering twice gave another answer")?;
    let place = client.get(&format!("{path}/infrastructure"), admin).await?.expect(404)?;
    printer.call(&place);
    check(!silo.exists(), "the silo's file is still there")?;
    let users = client.get(&format!("{path}/users"), admin).await?.expect(200)?;
    check(users.body["items"] == json!([]), "users are left")?;
    printer.call(&users);
    let account = client.get(&format!("{path}/billing-account"), admin).await?.expect(200)?;
    check(account.text("/status") == "closed", "the billing account is still open")?;
    printer.call(&account);
    printer.fact("billing account", &account.text("/status"));
    let listed = client.get(&format!("/admin/v1/tenants?customer_name={}", customer.name), admin).await?.expect(200)?;
    check(listed.body["items"] == json!([]), "the name is still taken")?;
    let login = json!({"email": customer.email, "password": password().expose()});
    printer.call(&client.post("/v1/login", "", login).await?.expect(401)?);
    printer.call(&client.get("/sample/hello", token).await?.expect(401)?);
    Ok(())
}

/// A JSON text without its quotes.
fn name(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn check(holds: bool, otherwise: &str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::Wrong(otherwise.to_owned())) }
}
