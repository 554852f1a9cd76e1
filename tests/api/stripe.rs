//! What goes to Stripe: customers and invoices, each once, whatever fails between which two steps.

use axum::extract::FromRef as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tollgate::{kernel::Clock as _, pushes, stripe::Stripe};

use super::invoices::{at, close, invoices};
use crate::support::{
    actors::email_of,
    app::TestApp,
    audit::Audit,
    stripe::{Fault, StripeDouble},
};

pub const JUST_AFTER_NOVEMBER: &str = "2026-12-01T01:00:00Z";

fn stripe(app: &TestApp) -> Stripe {
    Stripe::from_ref(app.app.state())
}

/// Has Stripe told of all that is due now; how many calls did what they should.
pub async fn push(app: &TestApp) -> usize {
    let stripe = stripe(app);
    let outbound = pushes::outbound(stripe.config().unwrap());
    pushes::push_once(&stripe, &outbound, &CancellationToken::new()).await.unwrap()
}

/// Looks what Stripe is to be told.
pub async fn look(app: &TestApp) {
    pushes::plan_once(&stripe(app), None).await.unwrap();
}

/// Time goes by, for the app and for Stripe.
pub fn later(app: &TestApp, double: &StripeDouble, seconds: i64) {
    app.clock.advance_secs(seconds);
    double.set_now(app.clock.now().as_secs());
}

/// Pushes until nothing waits, through all waits between tries.
pub async fn push_all(app: &TestApp, double: &StripeDouble) {
    for _ in 0..60 {
        push(app).await;
        if waiting(app).await == 0 {
            return;
        }
        later(app, double, 100);
    }
    panic!("it does not end: {}", overview(app).await);
}

pub async fn overview(app: &TestApp) -> Value {
    app.admin().await.get("/admin/v1/stripe?limit=500").await.expect(200).body
}

async fn waiting(app: &TestApp) -> i64 {
    overview(app).await["items"].as_array().unwrap().iter().map(|item| item["waiting"].as_i64().unwrap()).sum()
}

/// An app that has a double for Stripe.
pub async fn scene(mode: &str, rest: &str) -> (TestApp, StripeDouble) {
    let double =
        StripeDouble::start(crate::support::app::NOW.parse::<tollgate::kernel::Timestamp>().unwrap().as_secs());
    let app = TestApp::with(&double.settings(mode, rest)).await;
    (app, double)
}

async fn on_postgres(mode: &str) -> Option<(TestApp, StripeDouble)> {
    let double = StripeDouble::start(0);
    let app = TestApp::on_postgres_with(&double.settings(mode, "")).await?;
    later(&app, &double, 0);
    Some((app, double))
}

/// A tenant's invoice of November, issued.
pub async fn issued(app: &TestApp, double: &StripeDouble, tenant: &str) -> Value {
    at(app, JUST_AFTER_NOVEMBER);
    later(app, double, 0);
    close(app).await;
    invoices(app, tenant).await.pop().unwrap()
}

async fn made_line_by_line((app, double): (TestApp, StripeDouble)) {
    let tenant = app.tenant("Acme", "standard").await;
    let of = |what: &str| format!("/admin/v1/tenants/{tenant}/{what}");
    let admin = app.admin().await;
    admin.patch(&of("billing"), json!({"tax_rates": [{"name": "GST", "percent": "5"}]})).await.expect(200);
    admin.post(&of("coupons"), json!({"name": "Loyal", "amount_off": "2.00"})).await.expect(201);
    let credit = json!({"amount": "4.00", "priority": 1, "expires_at": null, "reason": "prepaid"});
    admin.post(&of("credits"), credit).await.expect(201);
    let invoice = issued(&app, &double, &tenant).await;
    // 30 less 2, plus 5%, less 4 that were paid before.
    assert_eq!(invoice["amount_due"], "25.40");
    push_all(&app, &double).await;

    let [customer] = &double.customers()[..] else { panic!() };
    assert_eq!((&customer["name"], &customer["email"]), (&json!("Acme"), &json!(email_of("Acme"))));
    assert_eq!(customer["metadata"]["tenant_id"], tenant.as_str());
    let [made] = &double.invoices()[..] else { panic!() };
    assert_eq!((&made["status"], &made["total"], &made["currency"]), (&json!("open"), &json!(2_540), &json!("usd")));
    assert_eq!((&made["customer"], &made["auto_advance"]), (&customer["id"], &json!("false")));
    assert_eq!(made["description"], format!("Invoice {}", invoice["number"].as_str().unwrap()));
    assert_eq!(made["metadata"]["tollgate_invoice"], invoice["invoice_id"]);
    assert_eq!(made["days_until_due"], "14");
    let items = double.items(made);
    let amounts: Vec<i64> = items.iter().map(|(amount, _)| *amount).collect();
    let lines = invoice["lines"].as_array().unwrap().len();
    assert_eq!((amounts[0], &amounts[lines..]), (3_000, &[-200, 140, -400][..]), "{items:?}");
    assert_eq!((amounts.iter().sum::<i64>(), &*items[0].1), (2_540, "Base fee, standard"));
    assert_eq!(items[lines].1, "Discount: Loyal");
    assert!(double.versions().iter().all(|version| version == "2026-10-28.endive"));

    let standing = overview(&app).await;
    let [own] = &standing["items"].as_array().unwrap()[..] else { panic!("{standing}") };
    assert_eq!((&standing["mode"], &standing["halted"]), (&json!("invoice_items"), &Value::Null));
    assert_eq!((&own["customer_id"], &own["waiting"], &own["next"]), (&customer["id"], &json!(0), &Value::Null));
    assert!(own["sent"].as_i64().unwrap() >= 2 && own["last_success_at"].is_string(), "{own}");

    // Nothing is told twice, by this process or by the next.
    double.seen();
    push_all(&app, &double).await;
    let app = app.restarted().await;
    push_all(&app, &double).await;
    assert!(double.seen().is_empty());
}

#[tokio::test]
async fn an_invoice_is_made_at_stripe_line_by_line_and_finalised() {
    Box::pin(made_line_by_line(scene("invoice_items", "").await)).await;
}

#[tokio::test]
async fn an_invoice_is_made_at_stripe_line_by_line_on_postgresql() {
    let Some(scene) = on_postgres("invoice_items").await else { return };
    Box::pin(made_line_by_line(scene)).await;
}

/// The calls that make a customer and an invoice, which Stripe may do and not answer.
const STEPS: [&str; 5] =
    ["POST /v1/customers", "POST /v1/invoices", "POST /v1/invoiceitems", "GET /v1/invoices/", "POST /v1/invoices/in_"];

async fn once_whatever_fails((app, double): (TestApp, StripeDouble), faults: &[Fault], lost_for_s: i64) {
    let tenant = app.tenant("Acme", "standard").await;
    let invoice = issued(&app, &double, &tenant).await;
    for step in STEPS {
        for fault in faults {
            double.fail(step, fault.clone());
        }
    }
    for _ in 0..STEPS.len() * faults.len() {
        push(&app).await;
        later(&app, &double, lost_for_s);
    }
    push_all(&app, &double).await;
    let (customers, made) = (double.customers(), double.invoices());
    assert_eq!((customers.len(), made.len()), (1, 1), "{made:?}");
    assert_eq!((&made[0]["status"], &made[0]["total"]), (&json!("open"), &json!(3_000)));
    let lines = invoice["lines"].as_array().unwrap().len();
    assert_eq!(double.items(&made[0]).len(), lines, "{:?}", double.items(&made[0]));
    assert_eq!(overview(&app).await["items"][0]["waiting"], 0);
}

#[tokio::test]
async fn a_connection_that_ends_before_or_after_a_step_makes_nothing_twice() {
    let faults = [Fault::After, Fault::Before, Fault::After];
    once_whatever_fails(scene("invoice_items", "").await, &faults, 100).await;
}

#[tokio::test]
async fn a_connection_that_ends_after_a_step_makes_nothing_twice_on_postgresql() {
    let Some(scene) = on_postgres("invoice_items").await else { return };
    once_whatever_fails(scene, &[Fault::After], 100).await;
}

/// Stripe forgets keys after a day: what was made is found by what it says of us.
#[tokio::test]
async fn a_step_that_was_lost_for_longer_than_keys_are_kept_is_looked_up() {
    once_whatever_fails(scene("invoice_items", "").await, &[Fault::After], 25 * 3_600).await;
}

#[tokio::test]
async fn a_failure_that_is_kept_under_its_key_does_not_hold_a_step_up() {
    once_whatever_fails(scene("invoice_items", "").await, &[Fault::Broken, Fault::DoneBroken], 100).await;
}

#[tokio::test]
async fn too_many_calls_and_calls_in_each_others_way_are_made_later() {
    let faults = [
        Fault::Limited,
        Fault::Answer(409, "idempotency_error", "idempotency_key_in_use"),
        Fault::Answer(429, "invalid_request_error", "lock_timeout"),
        Fault::Answer(503, "api_error", ""),
    ];
    once_whatever_fails(scene("invoice_items", "").await, &faults, 100).await;
}

#[tokio::test]
async fn as_long_as_stripe_asks_for_is_waited() {
    let (app, double) = scene("invoice_items", "").await;
    app.tenant("Acme", "standard").await;
    look(&app).await;
    double.fail("POST /v1/customers", Fault::Limited);
    assert_eq!(push(&app).await, 0);
    later(&app, &double, 6);
    assert_eq!(push(&app).await, 0, "7 seconds were asked for");
    assert_eq!(double.seen().len(), 1);
    later(&app, &double, 1);
    assert_eq!(push(&app).await, 1);
}

#[tokio::test]
async fn what_stripe_refuses_is_parked_with_its_reason_and_keeps_nobody_else() {
    let (app, double) = scene("invoice_items", "").await;
    let acme = app.tenant("Acme", "standard").await;
    look(&app).await;
    double.fail("POST /v1/customers", Fault::Answer(400, "invalid_request_error", "email_invalid"));
    push(&app).await;
    app.tenant("Bolt", "standard").await;
    issued(&app, &double, &acme).await;
    look(&app).await;
    push(&app).await;
    assert_eq!(double.customers().len(), 1, "the other one's");
    assert_eq!(double.invoices().len(), 1);
    let standing = overview(&app).await;
    let own = standing["items"].as_array().unwrap().iter().find(|item| item["tenant_id"] == acme.as_str()).unwrap();
    let error = own["next"]["error"].as_str().unwrap();
    assert!(error.contains("400, invalid_request_error, email_invalid: as the test says (req_double)"), "{error}");
    assert!(own["next"]["parked_at"].is_string() && own["customer_id"].is_null() && own["waiting"] == 2, "{own}");
    later(&app, &double, 100_000);
    assert_eq!(push(&app).await, 0, "it waits for somebody");

    // It was put right.
    let admin = app.admin().await;
    let mut audit = Audit::of(&app).await;
    let retried = admin.post("/admin/v1/stripe/retry", json!({"tenant_id": acme})).await.expect(202);
    assert_eq!(retried.body["jobs"], 1);
    push_all(&app, &double).await;
    assert_eq!((double.customers().len(), double.invoices().len()), (2, 2));
    let actions: Vec<_> = audit.actions().await.into_iter().filter(|action| action != "sign_in.succeeded").collect();
    assert_eq!(actions, ["stripe.retried"]);
    admin.post("/admin/v1/stripe/retry", json!({"tenant_id": acme})).await.refuses(409, &[]);
    admin.post("/admin/v1/stripe/retry", json!({"tenant_id": "me"})).await.refuses(422, &["tenant_id"]);
    admin.post("/admin/v1/stripe/retry", json!({"skip": true})).await.refuses(422, &["tenant_id"]);
    admin.post("/admin/v1/stripe/retry", json!({"tenant": acme})).await.refuses(422, &["tenant"]);
    assert_eq!(admin.post("/admin/v1/stripe/retry", json!({})).await.expect(202).body["jobs"], 0);
}

#[tokio::test]
async fn what_is_skipped_is_left_and_what_waits_behind_it_goes_on() {
    let (app, double) = scene("invoice_items", "").await;
    let acme = app.tenant("Acme", "standard").await;
    issued(&app, &double, &acme).await;
    push_all(&app, &double).await;
    at(&app, "2027-01-01T01:00:00Z");
    later(&app, &double, 0);
    double.fail("POST /v1/invoices", Fault::Answer(402, "card_error", "card_declined"));
    close(&app).await;
    push(&app).await;
    at(&app, "2027-02-01T01:00:00Z");
    later(&app, &double, 0);
    close(&app).await;
    push(&app).await;
    assert_eq!(double.invoices().len(), 1, "in order: February waits for January");
    let mut audit = Audit::of(&app).await;
    let skip = json!({"tenant_id": acme, "skip": true});
    assert_eq!(app.admin().await.post("/admin/v1/stripe/retry", skip).await.expect(202).body["jobs"], 1);
    let actions: Vec<_> = audit.actions().await.into_iter().filter(|action| action != "sign_in.succeeded").collect();
    assert_eq!(actions, ["stripe.skipped"]);
    push_all(&app, &double).await;
    let numbers: Vec<_> = double.invoices().iter().map(|made| made["metadata"]["tollgate_number"].clone()).collect();
    assert_eq!(numbers, ["INV-000001", "INV-000003"]);
}

#[tokio::test]
async fn a_key_that_stripe_refuses_stops_everything_until_somebody_says_so() {
    let (app, double) = scene("invoice_items", "").await;
    let acme = app.tenant("Acme", "standard").await;
    app.tenant("Bolt", "standard").await;
    issued(&app, &double, &acme).await;
    look(&app).await;
    double.take_key("sk_another");
    push(&app).await;
    double.seen();
    later(&app, &double, 1_000);
    assert_eq!(push(&app).await, 0);
    assert!(double.seen().is_empty(), "nothing is sent");
    let halted = overview(&app).await["halted"].clone();
    assert!(halted["error"].as_str().unwrap().contains("401"), "{halted}");
    double.take_key(crate::support::stripe::KEY);
    app.admin().await.post("/admin/v1/stripe/retry", json!({})).await.expect(202);
    push_all(&app, &double).await;
    assert_eq!((double.customers().len(), double.invoices().len()), (2, 2));
    assert_eq!(overview(&app).await["halted"], Value::Null);
}

#[tokio::test]
async fn a_customer_follows_its_name_and_address() {
    let more = "customer_metadata = { region = \"eu\" }";
    let (app, double) = scene("invoice_items", more).await;
    let tenant = app.tenant("Acme", "standard").await;
    look(&app).await;
    push_all(&app, &double).await;
    assert_eq!(double.customers()[0]["metadata"], json!({"region": "eu", "tenant_id": tenant}));
    let admin = app.admin().await;
    admin.patch(&format!("/admin/v1/tenants/{tenant}"), json!({"customer_name": "Acme & Söhne"})).await.expect(200);
    let address = json!({"billing_address": {"line1": "1 Main St", "city": "Springfield", "country": "US"}});
    admin.patch(&format!("/admin/v1/tenants/{tenant}"), address).await.expect(200);
    look(&app).await;
    push_all(&app, &double).await;
    let [customer] = &double.customers()[..] else { panic!() };
    assert_eq!(customer["name"], "Acme & Söhne");
    assert_eq!((&customer["address"]["city"], &customer["address"]["line2"]), (&json!("Springfield"), &Value::Null));
    double.seen();
    look(&app).await;
    assert_eq!(push(&app).await, 0, "it is told once");
    assert!(double.seen().is_empty());
}

#[tokio::test]
async fn an_invoice_that_is_taken_back_or_paid_here_is_so_there() {
    let (app, double) = scene("invoice_items", "").await;
    let (acme, bolt) = (app.tenant("Acme", "standard").await, app.tenant("Bolt", "standard").await);
    let voided = issued(&app, &double, &acme).await;
    let paid = invoices(&app, &bolt).await.pop().unwrap();
    push_all(&app, &double).await;
    let admin = app.admin().await;
    let of =
        |invoice: &Value, what: &str| format!("/admin/v1/invoices/{}/{what}", invoice["invoice_id"].as_str().unwrap());
    admin.post(&of(&voided, "void"), json!({"reason": "no"})).await.expect(200);
    let payment = json!({"amount": "30.00", "currency": "USD", "reference": "wire"});
    admin.post(&of(&paid, "payments"), payment).await.expect(201);
    // Done, and not answered.
    double.fail("POST /v1/invoices/in_", Fault::After);
    double.fail("POST /v1/invoices/in_", Fault::DoneBroken);
    push_all(&app, &double).await;
    let status = |invoice: &Value| {
        let made = double.invoices();
        let own = made.iter().find(|own| own["metadata"]["tollgate_invoice"] == invoice["invoice_id"]).unwrap();
        own["status"].clone()
    };
    assert_eq!((status(&voided), status(&paid)), (json!("void"), json!("paid")));
}

#[tokio::test]
async fn an_invoice_that_comes_to_something_else_there_is_not_finalised() {
    let (app, double) = scene("invoice_items", "").await;
    let acme = app.tenant("Acme", "standard").await;
    issued(&app, &double, &acme).await;
    double.fail("GET /v1/invoices/in_", Fault::Before);
    push(&app).await;
    double.add_to_invoices(5);
    later(&app, &double, 100);
    push(&app).await;
    assert_eq!(double.invoices()[0]["status"], "draft");
    let next = overview(&app).await["items"][0]["next"].clone();
    assert!(next["error"].as_str().unwrap().contains("comes to 3005, ours to 3000"), "{next}");
}

#[tokio::test]
async fn nothing_waits_where_stripe_is_not_set_up() {
    let app = TestApp::new().await;
    let acme = app.tenant("Acme", "standard").await;
    at(&app, JUST_AFTER_NOVEMBER);
    close(&app).await;
    let standing = overview(&app).await;
    assert_eq!(standing, json!({"mode": null, "halted": null, "payment_events": [], "items": [], "next_cursor": null}));
    let admin = app.admin().await;
    admin.post("/admin/v1/stripe/retry", json!({"tenant_id": acme})).await.refuses(409, &[]);
    app.anon().post("/webhooks/stripe", json!({})).await.refuses(404, &[]);
    app.anon().post("/webhooks/payments", json!({})).await.refuses(404, &[]);
}
