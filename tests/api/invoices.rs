//! An invoice's life: drafted when its period is over, issued with a number, adjusted by later ones, never changed.

use axum::extract::FromRef as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use tollgate::{
    billing::{Billing, audit::audit},
    kernel::{Actor as Who, Clock as _, InvoiceId},
    metering::{Recount, Snapshot},
    onboarding::{Closed, Onboarding},
    store::{InvoiceFilter, Scope, Store},
};

use super::{
    events::{event, meter, post},
    ledger::record_units,
    webhook_deliveries::ALLOWED,
};
use crate::support::app::{Reply, TestApp};

/// Does what the server does for invoices every few seconds.
pub async fn close(app: &TestApp) -> Closed {
    Onboarding::from_ref(app.app.state()).close_periods().await.unwrap()
}

/// Moves the clock.
pub fn at(app: &TestApp, time: &str) {
    app.clock.set(time.parse().unwrap());
}

/// A tenant's invoices, as the administrator sees them, by their periods and numbers: of one instant they come in no order.
pub async fn invoices(app: &TestApp, tenant: &str) -> Vec<Value> {
    let list = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/invoices?limit=500")).await.expect(200);
    let mut found = list.body["items"].as_array().unwrap().clone();
    found.sort_by_key(|invoice| {
        let text = |name: &str| invoice[name].as_str().map(str::to_owned);
        (invoice["period"]["from"].as_str().map(str::to_owned), text("number").is_none(), text("number"))
    });
    found
}

/// Lines: kind, meter, quantity, amount.
pub fn lines(invoice: &Value) -> Vec<String> {
    let line = |line: &Value| {
        ["kind", "meter", "quantity", "amount"].map(|field| line[field].as_str().unwrap().to_owned()).join(" ")
    };
    invoice["lines"].as_array().unwrap().iter().map(line).collect()
}

/// An amount in cents.
pub fn cents(amount: &Value) -> i64 {
    amount.as_str().unwrap().replace('.', "").parse().unwrap()
}

/// Asserts that an invoice adds up.
pub fn adds_up(invoice: &Value) {
    let sum = |list: &str| invoice[list].as_array().unwrap().iter().map(|item| cents(&item["amount"])).sum::<i64>();
    assert_eq!(sum("lines"), cents(&invoice["subtotal"]), "{invoice}");
    assert_eq!(sum("taxes"), cents(&invoice["tax"]), "{invoice}");
    assert_eq!(
        cents(&invoice["subtotal"]) - sum("discounts") + cents(&invoice["tax"]),
        cents(&invoice["total"]),
        "{invoice}"
    );
    let due = cents(&invoice["total"]) - sum("credits");
    assert_eq!(due.max(0), cents(&invoice["amount_due"]), "{invoice}");
}

/// A plan of one price, for the tier `pro`: its first version, which holds for ever.
pub async fn plan(app: &TestApp, more: Value) {
    plan_of(app, "pro", more).await;
}

/// The same for a tier; from now on, when it has a plan.
pub async fn plan_of(app: &TestApp, tier: &str, more: Value) {
    let mut plan = json!({"isolation": "pool", "currency": "USD", "base": "30.00", "effective": "now",
        "prices": [{"meter": "apis", "model": "per_unit", "unit": "0.01"}]});
    plan.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.admin().await.put(&format!("/admin/v1/plans/{tier}"), plan).await.expect(200);
}

/// A month of 2,500 requests, closed and issued at the grace's end.
async fn month(app: &TestApp) -> (String, Value) {
    let tenant = app.tenant("Acme", "standard").await;
    record_units(app, &tenant, &[("apis", 12_500)]);
    at(app, "2026-12-01T01:00:00Z");
    close(app).await;
    let invoice = invoices(app, &tenant).await.remove(0);
    (tenant, invoice)
}

async fn lives(app: TestApp) {
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 12_500)]);
    assert_eq!(close(&app).await, Closed::default(), "the period runs");
    at(&app, "2026-12-01T00:00:00Z");
    assert_eq!(close(&app).await, Closed { drafted: 1, ..Closed::default() });
    assert_eq!(close(&app).await, Closed::default());
    let draft = invoices(&app, &tenant).await.remove(0);
    assert_eq!((&draft["status"], &draft["number"]), (&json!("draft"), &Value::Null));
    assert_eq!(draft["period"], json!({"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}));
    // 2,500 beyond what is included × 0.0005.
    assert_eq!(draft["total"], "31.25");

    // Late usage has an hour.
    at(&app, "2026-11-30T23:59:00Z");
    record_units(&app, &tenant, &[("apis", 2_000)]);
    at(&app, "2026-12-01T00:59:59Z");
    assert_eq!(close(&app).await, Closed::default());
    at(&app, "2026-12-01T01:00:00Z");
    assert_eq!(close(&app).await, Closed { finalized: 1, ..Closed::default() });
    let invoice = invoices(&app, &tenant).await.remove(0);
    adds_up(&invoice);
    assert_eq!(lines(&invoice)[..2], ["base base 1 30.00", "usage apis 14500 2.25"]);
    assert_eq!(
        (&invoice["status"], &invoice["number"], &invoice["total"]),
        (&json!("finalized"), &json!("INV-000001"), &json!("32.25"))
    );
    assert_eq!(
        (&invoice["issued_at"], &invoice["due_at"]),
        (&json!("2026-12-01T01:00:00Z"), &json!("2026-12-15T01:00:00Z"))
    );
    assert_eq!(invoice["customer"], json!({"name": "Acme", "billing_address": "1 Main Street", "tax_id": null}));
    assert_eq!((&invoice["entity"], &invoice["amount_remaining"]), (&json!("default"), &json!("32.25")));
    assert_eq!(invoice["lines"][1]["tiers"][0]["quantity"], "4500");

    // Nothing that happens later changes it.
    let admin = app.admin().await;
    let renamed = json!({"customer_name": "Acme Works", "billing_address": "2 Side Street"});
    admin.patch(&format!("/admin/v1/tenants/{tenant}"), renamed).await.expect(200);
    plan_of(&app, "standard", json!({"base": "99.00"})).await;
    let path = format!("/admin/v1/invoices/{}", invoice["invoice_id"].as_str().unwrap());
    let read = |reply: Reply| {
        let mut body = reply.expect(200).body;
        body.as_object_mut().unwrap().retain(|name, _| !["payments", "credit_notes"].contains(&&**name));
        body
    };
    assert_eq!(read(admin.post(&format!("{path}/finalize"), Value::Null).await), invoice);
    let app = app.restarted().await;
    assert_eq!(read(app.admin().await.get(&path).await), invoice);
    at(&app, "2027-01-02T00:00:00Z");
    close(&app).await;
    let both = invoices(&app, &tenant).await;
    assert_eq!((&both[0]["document"], &both[0]["lines"]), (&invoice["document"], &invoice["lines"]));
    assert_eq!((&both[1]["number"], &both[1]["customer"]["name"]), (&json!("INV-000002"), &json!("Acme Works")));
}

#[tokio::test]
async fn an_invoice_is_drafted_issued_after_the_grace_and_never_changed() {
    Box::pin(lives(TestApp::new().await)).await;
}

#[tokio::test]
async fn an_invoice_is_drafted_issued_after_the_grace_and_never_changed_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(lives(app)).await;
}

async fn late_and_voided_usage_is_adjusted(app: TestApp) {
    let admin = app.admin().await;
    meter(&admin, "tokens", "SUM").await;
    let prices = json!([{"meter": "tokens", "model": "graduated", "included": "10",
        "tiers": [{"up_to": "100", "unit": "1"}, {"up_to": null, "unit": "0.5"}]}]);
    plan(&app, json!({"prices": prices})).await;
    let tenant = app.tenant("Acme", "pro").await;
    let said = |id: &str, time: &str, tokens: i64| {
        let mut event = event(id, &tenant, tokens);
        event["time"] = time.into();
        event
    };
    post(&admin, json!([said("1", "2026-11-10T11:00:00Z", 70), said("2", "2026-11-10T11:30:00Z", 60)]))
        .await
        .expect(204);
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    // 10 included, 100 at 1, 20 at 0.5.
    assert_eq!(lines(&invoices(&app, &tenant).await[0])[1], "usage tokens 130 110.00");
    // 20 more come late; of what was billed, 60 is taken back; and December has 40 of its own.
    let admin = app.admin().await;
    post(&admin, json!([said("3", "2026-11-20T11:00:00Z", 20), said("4", "2026-12-01T00:30:00Z", 40)]))
        .await
        .expect(204);
    admin.post("/admin/v1/usage/2/void", json!({"reason": "sent twice"})).await.expect(200);
    at(&app, "2027-01-01T01:00:00Z");
    close(&app).await;
    let both = invoices(&app, &tenant).await;
    // November now: 90, of which 80 at 1 are 80: 30 less than was billed.
    let expected = ["base base 1 30.00", "usage tokens 40 30.00", "adjustment tokens -40 -30.00"];
    assert_eq!(lines(&both[1]), expected);
    let adjusts = json!({"invoice_id": both[0]["invoice_id"], "number": "INV-000001", "period": both[0]["period"]});
    assert_eq!((&both[1]["lines"][2]["adjusts"], &both[1]["lines"][2]["already"]), (&adjusts, &json!("130")));
    assert_eq!(both[1]["lines"][2]["period"]["from"], "2026-11-01T00:00:00Z");
    assert_eq!(both[1]["total"], "30.00");
    both.iter().for_each(adds_up);
    // What was adjusted is adjusted once; what changes again, again.
    at(&app, "2027-02-01T01:00:00Z");
    close(&app).await;
    assert_eq!(lines(&invoices(&app, &tenant).await[2]), ["base base 1 30.00", "usage tokens 0 0.00"]);
    app.admin().await.post("/admin/v1/usage/1/void", json!({"reason": "so was this"})).await.expect(200);
    for month in ["2027-03", "2027-04"] {
        at(&app, &format!("{month}-01T01:00:00Z"));
        close(&app).await;
    }
    let all = invoices(&app, &tenant).await;
    // 20 are left in November, of which 10 cost 10.
    assert_eq!(lines(&all[3])[2..], ["adjustment tokens -70 -70.00"], "three periods back, too");
    assert_eq!(lines(&all[4]).len(), 2);
    let numbers: Vec<_> = all.iter().map(|invoice| invoice["number"].as_str().unwrap()).collect();
    assert_eq!(numbers, ["INV-000001", "INV-000002", "INV-000003", "INV-000004", "INV-000005"]);
    // Below zero: the tenant owes nothing, and has the rest with us until it is used up.
    let of_four = (&all[3]["total"], &all[3]["amount_due"], &all[3]["status"]);
    assert_eq!(of_four, (&json!("-40.00"), &json!("0.00"), &json!("paid")));
    assert_eq!((&all[4]["credits"][0]["amount"], &all[4]["amount_due"]), (&json!("30.00"), &json!("0.00")));
    let credits = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/credits")).await.expect(200);
    assert_eq!((credits.text("/items/0/left"), credits.text("/items/0/reason")), ("10.00".into(), "INV-000004".into()));
}

#[tokio::test]
async fn late_and_voided_usage_is_on_the_next_invoice() {
    Box::pin(late_and_voided_usage_is_adjusted(TestApp::new().await)).await;
}

#[tokio::test]
async fn late_and_voided_usage_is_on_the_next_invoice_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(late_and_voided_usage_is_adjusted(app)).await;
}

/// Eight workers of each of some nodes at once, for three tenants.
async fn is_made_once(nodes: &[TestApp]) {
    let app = &nodes[0];
    let mut tenants = Vec::new();
    for name in ["Acme", "Globex", "Initech"] {
        tenants.push(app.tenant(name, "standard").await);
    }
    record_units(app, &tenants[0], &[("apis", 12_500)]);
    at(app, "2027-01-01T02:00:00Z");
    let workers = nodes.iter().flat_map(|node| (0..8).map(move |_| close(node)));
    let done = join_all(workers).await;
    let sum = |of: fn(&Closed) -> usize| done.iter().map(of).sum::<usize>();
    assert_eq!((sum(|done| done.drafted), sum(|done| done.finalized)), (6, 6));
    let mut numbers = Vec::new();
    for tenant in &tenants {
        let both = invoices(app, tenant).await;
        assert_eq!(both.len(), 2, "November and December");
        assert!(both[0]["period"]["to"] == both[1]["period"]["from"]);
        assert!(both[0]["number"].as_str() < both[1]["number"].as_str(), "in order");
        numbers.extend(both.iter().map(|invoice| invoice["number"].as_str().unwrap().to_owned()));
    }
    numbers.sort_unstable();
    let expected: Vec<_> = (1..=6).map(|serial| format!("INV-{serial:06}")).collect();
    assert_eq!(numbers, expected, "without gaps");
    assert_eq!(invoices(app, &tenants[0]).await[0]["total"], "31.25");
}

#[tokio::test]
async fn eight_workers_make_one_invoice() {
    is_made_once(&[TestApp::new().await]).await;
}

#[tokio::test]
async fn eight_workers_of_each_of_two_nodes_make_one_invoice() {
    let Some(app) = TestApp::on_postgres().await else { return };
    let beside = app.beside().await;
    is_made_once(&[app, beside]).await;
}

#[tokio::test]
async fn eight_administrators_issue_a_draft_once() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    at(&app, "2026-12-01T00:00:00Z");
    close(&app).await;
    let id = invoices(&app, &tenant).await[0]["invoice_id"].as_str().unwrap().to_owned();
    let (admin, path) = (app.admin().await, format!("/admin/v1/invoices/{id}/finalize"));
    let answers = join_all((0..8).map(|_| admin.post(&path, Value::Null))).await;
    for answer in answers {
        assert_eq!(answer.expect(200).text("/number"), "INV-000001");
    }
    at(&app, "2027-01-01T00:00:00Z");
    close(&app).await;
    let next = invoices(&app, &tenant).await[1]["invoice_id"].as_str().unwrap().to_owned();
    let issued = app.admin().await.post(&format!("/admin/v1/invoices/{next}/finalize"), Value::Null).await;
    assert_eq!(issued.expect(200).text("/number"), "INV-000002");
}

#[tokio::test]
async fn what_a_step_left_the_next_pass_finds_in_another_process() {
    let app = TestApp::new().await;
    let mut tenants = vec![app.tenant("Acme", "standard").await, app.tenant("Globex", "standard").await];
    at(&app, "2026-12-01T00:00:00Z");
    // Drafted, and dead before it is issued; one is issued by hand meanwhile.
    close(&app).await;
    let app = app.restarted().await;
    tenants.push(app.tenant("Initech", "standard").await);
    let billing = Billing::from_ref(app.app.state());
    let first: InvoiceId = invoices(&app, &tenants[0]).await[0]["invoice_id"].as_str().unwrap().parse().unwrap();
    billing.finalize(Scope::Job("test"), Who::Job("test"), first).await.unwrap();
    let app = app.restarted().await;
    at(&app, "2027-01-01T01:00:00Z");
    let closed = close(&app).await;
    assert_eq!((closed.drafted, closed.finalized), (3, 4), "December of three, November of one");
    let app = app.restarted().await;
    assert_eq!(close(&app).await, Closed { overdue: 0, ..Closed::default() });
}

/// A transaction that dies after its number was taken gives the number back.
#[tokio::test]
async fn a_number_that_was_not_committed_is_the_next_ones() {
    let app = TestApp::new().await;
    let (tenant, invoice) = month(&app).await;
    assert_eq!(invoice["number"], "INV-000001");
    let store = Store::from_ref(app.app.state());
    let mut tx = store.begin(Scope::Job("test")).await.unwrap();
    assert_eq!(tx.series_next("default", "invoice", 1).await.unwrap(), 2);
    drop(tx);
    at(&app, "2027-01-01T01:00:00Z");
    close(&app).await;
    assert_eq!(invoices(&app, &tenant).await[1]["number"], "INV-000002");
    let mut tx = store.read(Scope::Job("test")).await.unwrap();
    let filter = InvoiceFilter { issued: true, ..InvoiceFilter::default() };
    let page = tollgate::kernel::PageRequest::new(None, None).unwrap();
    assert_eq!(tx.invoices(filter, page).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_tenant_sees_its_issued_invoices_and_nobody_elses() {
    let app = TestApp::new().await;
    let (acme, globex) = (app.tenant("Acme", "standard").await, app.tenant("Globex", "free").await);
    at(&app, "2026-12-01T00:00:00Z");
    close(&app).await;
    let drafts = [&invoices(&app, &acme).await[0], &invoices(&app, &globex).await[0]]
        .map(|draft| draft["invoice_id"].as_str().unwrap().to_owned());
    let owner = app.owner_of("Acme").await;
    assert_eq!(owner.get("/v1/invoices").await.expect(200).body["items"], json!([]));
    owner.get(&format!("/v1/invoices/{}", drafts[0])).await.refuses(404, &[]);
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let (owner, admin) = (app.owner_of("Acme").await, app.admin().await);
    let own = owner.get("/v1/invoices").await.expect(200);
    assert_eq!((own.body["items"].as_array().unwrap().len(), own.text("/items/0/invoice_id")), (1, drafts[0].clone()));
    assert_eq!(owner.get(&format!("/v1/invoices/{}", drafts[0])).await.expect(200).text("/total"), "30.00");
    owner.get(&format!("/v1/invoices/{}", drafts[1])).await.refuses(404, &[]);
    // Nothing to pay is paid.
    let free = admin.get(&format!("/admin/v1/invoices/{}", drafts[1])).await.expect(200);
    assert_eq!((free.text("/status"), free.text("/total")), ("paid".into(), "0.00".into()));
    let listed = |reply: Reply| reply.expect(200).body["items"].as_array().unwrap().len();
    assert_eq!(listed(admin.get("/admin/v1/invoices").await), 2);
    assert_eq!(listed(admin.get("/admin/v1/invoices?status=paid").await), 1);
    assert_eq!(listed(admin.get(&format!("/admin/v1/invoices?tenant_id={acme}&status=paid")).await), 0);
    assert_eq!(listed(admin.get("/admin/v1/invoices?limit=1").await), 1);
    admin.get("/admin/v1/invoices?status=lost").await.refuses(422, &["status"]);
    admin.get("/admin/v1/invoices?tenant_id=acme").await.refuses(422, &["tenant_id"]);
    owner.get("/v1/invoices?tenant_id=1").await.refuses(422, &["tenant_id"]);
}

#[tokio::test]
async fn a_deleted_tenants_last_month_is_billed_at_once_and_no_other() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    app.admin().await.delete(&format!("/admin/v1/tenants/{tenant}")).await.expect(200);
    at(&app, "2027-02-05T00:00:00Z");
    close(&app).await;
    let found = invoices(&app, &tenant).await;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["total"], &found[0]["customer"]["name"]), (&json!("9.50"), &json!("Acme")));
    assert_eq!(found[0]["issued_at"], "2026-11-10T12:00:00Z");
}

#[tokio::test]
async fn a_line_is_explained_by_its_days_and_its_arithmetic() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 12_000)]);
    at(&app, "2026-11-20T08:00:00Z");
    record_units(&app, &tenant, &[("apis", 500)]);
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let invoice = invoices(&app, &tenant).await.remove(0);
    let path = format!("/admin/v1/invoices/{}/lines", invoice["invoice_id"].as_str().unwrap());
    // Something comes late: the line stays, and what its days have now is more.
    at(&app, "2026-11-20T09:00:00Z");
    record_units(&app, &tenant, &[("apis", 7)]);
    at(&app, "2026-12-02T00:00:00Z");
    let admin = app.admin().await;
    let explained = admin.get(&format!("{path}/2/explain")).await.expect(200);
    assert_eq!(explained.body["line"], invoice["lines"][1]);
    let window = |day: &str, next: &str, value: &str| json!({"window_start": format!("2026-11-{day}T00:00:00Z"), "window_end": format!("2026-11-{next}T00:00:00Z"), "value": value});
    assert_eq!(explained.body["windows"], json!([window("10", "11", "12000"), window("20", "21", "507")]));
    assert_eq!(explained.text("/metered"), "12507");
    // What it was rated from stays.
    let rated = json!([{"day": "2026-11-10", "value": "12000"}, {"day": "2026-11-20", "value": "500"}]);
    assert_eq!(explained.body["rated"], rated);
    assert_eq!(explained.body["events"], json!({"items": [], "next_cursor": null}));
    let hours = admin.get(&format!("{path}/2/explain?window=hour")).await.expect(200);
    assert_eq!(hours.text("/windows/1/window_end"), "2026-11-20T09:00:00Z");
    assert_eq!((hours.text("/windows/1/value"), hours.text("/windows/2/value")), ("500".into(), "7".into()));
    for (query, field) in
        [("window=month", "window"), ("limit=0", "limit"), ("cursor=x", "cursor"), ("cursor=1.x.y", "cursor")]
    {
        admin.get(&format!("{path}/2/explain?{query}")).await.refuses(422, &[field]);
    }
    let steps = json!([
        "the first 10000 of the period cost nothing: 2500 of 12500 is left",
        "the tier up to 90000: 2500 at 0.0005 is 1.25",
        "1.25 rounds to 1.25",
    ]);
    assert_eq!(explained.body["steps"], steps);
    let base = admin.get(&format!("{path}/1/explain")).await.expect(200).body;
    assert_eq!((&base["windows"], &base["rated"]), (&json!([]), &Value::Null));
    assert_eq!(base["steps"], json!(["the base is 30.00 USD a period", "30 rounds to 30.00"]));
    for line in ["0", "9", "-1", "x"] {
        admin.get(&format!("{path}/{line}/explain")).await.refuses(404, &[]);
    }
}

/// What the doctor says of invoices.
async fn doctor(app: &TestApp) -> Vec<String> {
    let (store, billing) = (Store::from_ref(app.app.state()), Billing::from_ref(app.app.state()));
    let then = Snapshot::take(&store).await.unwrap();
    let recount = Recount::open(&store, then, app.clock.now()).await.unwrap();
    let report = audit(&billing, &recount).await.unwrap();
    report.differences.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn the_doctor_finds_an_invoice_that_was_changed_and_one_that_is_gone() {
    let app = TestApp::new().await;
    month(&app).await;
    at(&app, "2027-01-01T01:00:00Z");
    close(&app).await;
    assert_eq!(doctor(&app).await, [""; 0]);
    let file = app.folder.path().join("tollgate.db");
    for (change, undo, said) in [
        (
            "UPDATE invoices SET document = REPLACE(document, '31.25', '31.26') WHERE serial = 1",
            "UPDATE invoices SET document = REPLACE(document, '31.26', '31.25') WHERE serial = 1",
            "invoice INV-000001",
        ),
        (
            "UPDATE invoice_lines SET amount = amount + 1 WHERE line = 2",
            "UPDATE invoice_lines SET amount = amount - 1 WHERE line = 2",
            "is booked",
        ),
        (
            "UPDATE invoice_lines SET quantity = '25000' WHERE quantity = '12500'",
            "UPDATE invoice_lines SET quantity = '12500' WHERE quantity = '25000'",
            "25000 is on invoices, but 12500 must be",
        ),
        (
            "UPDATE invoices SET paid = paid + 1 WHERE serial = 1",
            "UPDATE invoices SET paid = paid - 1 WHERE serial = 1",
            "what was paid of invoice INV-000001",
        ),
        (
            "UPDATE invoices SET credited = credited + 1 WHERE serial = 1",
            "UPDATE invoices SET credited = credited - 1 WHERE serial = 1",
            "what was credited of invoice INV-000001",
        ),
        (
            "UPDATE invoices SET serial = 3 WHERE serial = 2",
            "UPDATE invoices SET serial = 2 WHERE serial = 3",
            "2 is missing",
        ),
    ] {
        let mut store = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
        sqlx::query(change).execute(&mut store).await.unwrap();
        let found = doctor(&app).await;
        assert!(!found.is_empty() && found[0].contains(said), "{said}: {found:?}");
        sqlx::query(undo).execute(&mut store).await.unwrap();
        store.close().await.unwrap();
    }
    assert_eq!(doctor(&app).await, [""; 0]);
}

#[tokio::test]
async fn the_last_invoice_of_who_left_is_for_the_address_they_had_which_is_forgotten_then() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let admin = app.admin().await;
    let account = format!("/admin/v1/tenants/{tenant}/billing-account");
    let address = async || app.admin().await.get(&account).await.expect(200).text("/billing_address");
    assert_eq!(address().await, "1 Main Street");
    admin.delete(&format!("/admin/v1/tenants/{tenant}")).await.expect(200);
    let invoice = invoices(&app, &tenant).await.pop().unwrap();
    assert_eq!((&invoice["number"], &invoice["total"]), (&json!("INV-000001"), &json!("9.50")));
    assert_eq!(invoice["customer"]["billing_address"], "1 Main Street");
    assert_eq!(address().await, "closed");
}

#[tokio::test]
async fn issuing_is_told_and_noted() {
    let app = TestApp::with(ALLOWED).await;
    let (tenant, invoice) = month(&app).await;
    let admin = app.admin().await;
    let noted = admin.get(&format!("/admin/v1/audit?tenant_id={tenant}&action=invoice.finalized")).await.expect(200);
    assert_eq!(
        (noted.text("/items/0/actor"), noted.text("/items/0/detail")),
        ("job:invoices".into(), "INV-000001: 31.25 USD".into())
    );
    let told = admin.get(&format!("/admin/v1/events?tenant_id={tenant}&name=invoice.finalized")).await.expect(200);
    assert_eq!(told.text("/items/0/data/number"), "INV-000001");
    assert_eq!(told.body["items"][0]["data"]["invoice_id"], invoice["invoice_id"]);
    assert_eq!(told.text("/items/0/data/amount_due"), "31.25");
}
