//! Payments that others tell of: by Stripe's webhook, and by one that is signed as the Standard Webhooks specification says.

use aws_lc_rs::hmac;
use axum::{body::Body, http::Request};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tollgate::kernel::Clock as _;

use super::{
    invoices::{at, close},
    stripe::{issued, later, overview, push, push_all, scene},
};
use crate::support::{
    app::{Reply, TestApp},
    audit::Audit,
    stripe::{Fault, StripeDouble, WEBHOOK_SECRET, signature},
};

/// 32 bytes of `k`.
const PAYMENT_SECRET: &str = "whsec_a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

async fn send(app: &TestApp, path: &str, headers: &[(&str, &str)], body: String) -> Reply {
    let mut request = Request::post(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request.body(Body::from(body)).unwrap()).await
}

/// Tells of an event as Stripe does.
async fn tell(app: &TestApp, event: &Value) -> Reply {
    tell_signed(app, event, WEBHOOK_SECRET, 0).await
}

async fn tell_signed(app: &TestApp, event: &Value, secret: &str, age_s: i64) -> Reply {
    let body = event.to_string();
    let header = signature(secret, app.clock.now().as_secs() - age_s, &body);
    send(app, "/webhooks/stripe", &[("stripe-signature", &header)], body).await
}

async fn outcome(app: &TestApp, event: &Value) -> String {
    tell(app, event).await.expect(200).text("/outcome")
}

async fn status(app: &TestApp, invoice: &Value) -> (String, String) {
    let path = format!("/admin/v1/invoices/{}", invoice["invoice_id"].as_str().unwrap());
    let read = app.admin().await.get(&path).await.expect(200);
    (read.text("/status"), read.text("/amount_remaining"))
}

/// An app with an invoice over 30.00 that Stripe has.
async fn owed() -> (TestApp, StripeDouble, Value) {
    let (app, double) = scene("invoice_items", "[billing]\noverdue = \"suspend\"\n").await;
    let tenant = app.tenant("Acme", "standard").await;
    let invoice = issued(&app, &double, &tenant).await;
    push_all(&app, &double).await;
    (app, double, invoice)
}

fn odd(standing: &Value) -> Vec<String> {
    let outcome = |event: &Value| event["outcome"].as_str().unwrap().to_owned();
    standing["payment_events"].as_array().unwrap().iter().map(outcome).collect()
}

#[tokio::test]
async fn a_payment_that_stripe_took_is_noted_once_and_lifts_the_suspension() {
    let (app, double, invoice) = owed().await;
    at(&app, "2026-12-16T00:00:00Z");
    later(&app, &double, 0);
    close(&app).await;
    let tenant = invoice["tenant_id"].as_str().unwrap();
    let state =
        async || app.admin().await.get(&format!("/admin/v1/tenants/{tenant}")).await.expect(200).text("/status");
    assert_eq!((state().await, status(&app, &invoice).await.0), ("suspended".into(), "overdue".into()));

    let mut audit = Audit::of(&app).await;
    let event = double.pay(&double.invoices()[0], 3_000);
    // Eight times at once: one of them counts.
    let body = event.to_string();
    let header = signature(WEBHOOK_SECRET, app.clock.now().as_secs(), &body);
    let request =
        || Request::post("/webhooks/stripe").header("stripe-signature", &header).body(Body::from(body.clone()));
    let replies = app.send_together((0..8).map(|_| request().unwrap()).collect()).await;
    let mut outcomes: Vec<_> = replies.into_iter().map(|reply| reply.expect(200).text("/outcome")).collect();
    outcomes.sort_unstable();
    assert_eq!((outcomes.pop().unwrap(), outcomes), ("recorded".into(), vec!["known".to_owned(); 7]));
    assert_eq!((state().await, status(&app, &invoice).await), ("active".into(), ("paid".into(), "0.00".into())));
    let entries = audit.entries().await;
    let payment = entries.iter().find(|entry| entry["action"] == "invoice.paid").unwrap();
    assert_eq!(payment["actor"], "job:stripe");
    let read = format!("/admin/v1/invoices/{}", invoice["invoice_id"].as_str().unwrap());
    let payments = app.admin().await.get(&read).await.expect(200).body["payments"].clone();
    assert_eq!((payments.as_array().unwrap().len(), &payments[0]["reference"]), (1, &double.invoices()[0]["id"]));

    // Stripe tells of the same payment under another event; and is told nothing of what it knows.
    let mut again = event.clone();
    again["id"] = "evt_again".into();
    assert_eq!(outcome(&app, &again).await, "known");
    // What failed before is told after it.
    let mut failed = event;
    (failed["id"], failed["type"]) = ("evt_failed".into(), "invoice.payment_failed".into());
    assert_eq!(outcome(&app, &failed).await, "payment_failed");
    assert_eq!(status(&app, &invoice).await.0, "paid");
    assert_eq!(odd(&overview(&app).await), ["payment_failed"]);
    double.seen();
    push_all(&app, &double).await;
    assert!(double.seen().iter().all(|call| call.starts_with("GET")), "it is not paid twice");
}

#[tokio::test]
async fn too_much_too_little_and_the_wrong_currency_are_said() {
    let (app, double, invoice) = owed().await;
    let made = double.invoices()[0].clone();
    let event = |id: &str, amount: i64, more: Value| {
        let mut event = double.pay(&made, amount);
        event["id"] = id.into();
        event["data"]["object"]["id"] = format!("in_{id}").into();
        event["data"]["object"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    assert_eq!(outcome(&app, &event("eur", 3_000, json!({"currency": "eur"}))).await, "wrong_currency");
    assert_eq!(outcome(&app, &event("none", 0, json!({}))).await, "ignored");
    assert_eq!(status(&app, &invoice).await, ("finalized".into(), "30.00".into()));
    assert_eq!(outcome(&app, &event("part", 1_000, json!({}))).await, "underpaid");
    assert_eq!(status(&app, &invoice).await, ("finalized".into(), "20.00".into()));
    assert_eq!(outcome(&app, &event("more", 2_500, json!({}))).await, "overpaid");
    assert_eq!(status(&app, &invoice).await, ("paid".into(), "0.00".into()));
    assert_eq!(outcome(&app, &event("late", 100, json!({}))).await, "not_owed");
    let unknown = json!({"metadata": {"tollgate_invoice": "01900000-0000-7000-8000-000000000000"}});
    assert_eq!(outcome(&app, &event("lost", 100, unknown)).await, "unknown_invoice");
    assert_eq!(outcome(&app, &event("theirs", 100, json!({"metadata": {}}))).await, "ignored");
    let mut said = odd(&overview(&app).await);
    said.sort_unstable();
    assert_eq!(said, ["not_owed", "overpaid", "underpaid", "unknown_invoice", "wrong_currency"]);
    let events = overview(&app).await["payment_events"].clone();
    let detail = |outcome: &str| {
        events.as_array().unwrap().iter().find(|event| event["outcome"] == outcome).unwrap()["detail"].clone()
    };
    assert_eq!(detail("overpaid"), "5.00 USD more than owed came, and is not booked");
    assert_eq!(detail("underpaid"), "20.00 USD is still owed");
}

/// An app whose invoice was paid here, by a transfer, which Stripe is to be told.
async fn paid_here() -> (TestApp, StripeDouble) {
    let (app, double, invoice) = owed().await;
    let path = format!("/admin/v1/invoices/{}/payments", invoice["invoice_id"].as_str().unwrap());
    let payment = json!({"amount": "30.00", "currency": "USD", "reference": "wire"});
    app.admin().await.post(&path, payment).await.expect(201);
    (app, double)
}

#[tokio::test]
async fn what_stripe_was_told_itself_is_known_and_a_second_payment_there_is_not_owed() {
    let (app, double) = paid_here().await;
    push_all(&app, &double).await;
    assert_eq!(double.invoices()[0]["status"], "paid");
    let event = double.pay(&double.invoices()[0], 3_000);
    assert_eq!(outcome(&app, &event).await, "known");
    assert_eq!(odd(&overview(&app).await), Vec::<String>::new());

    // Stripe has it open when it is looked at, and the customer is faster than what says that it is paid.
    let (app, double) = paid_here().await;
    double.fail("POST /v1/invoices/in_", Fault::Answer(400, "invalid_request_error", ""));
    for _ in 0..3 {
        push(&app).await;
        later(&app, &double, 100);
    }
    let next = overview(&app).await["items"][0]["next"].clone();
    assert!(next["parked_at"].is_string(), "{next}");
    let event = double.pay(&double.invoices()[0], 3_000);
    assert_eq!(outcome(&app, &event).await, "not_owed");
    assert_eq!(odd(&overview(&app).await), ["not_owed"]);
}

#[tokio::test]
async fn what_is_not_signed_by_stripe_just_now_is_refused() {
    let (app, double, invoice) = owed().await;
    let event = double.pay(&double.invoices()[0], 3_000);
    tell_signed(&app, &event, "whsec_other", 0).await.refuses(400, &[]);
    tell_signed(&app, &event, WEBHOOK_SECRET, 301).await.refuses(400, &[]);
    tell_signed(&app, &event, WEBHOOK_SECRET, -301).await.refuses(400, &[]);
    let (body, now) = (event.to_string(), app.clock.now().as_secs());
    let header = signature(WEBHOOK_SECRET, now, &body);
    let tampered = body.replace("3000", "9000");
    send(&app, "/webhooks/stripe", &[("stripe-signature", &header)], tampered).await.refuses(400, &[]);
    send(&app, "/webhooks/stripe", &[], body.clone()).await.refuses(400, &[]);
    let twice = [("stripe-signature", header.as_str()), ("stripe-signature", header.as_str())];
    send(&app, "/webhooks/stripe", &twice, body).await.refuses(400, &[]);
    // Signed, and nothing that was ever sent.
    for body in
        ["", "no JSON", "[]", "{}", "null", r#"{"id": 1, "type": "invoice.paid"}"#, r#"{"id": "evt", "type": ""}"#]
    {
        let header = signature(WEBHOOK_SECRET, now, body);
        send(&app, "/webhooks/stripe", &[("stripe-signature", &header)], body.into()).await.refuses(400, &[]);
    }
    for wrong in [json!("3000"), json!(30.5), Value::Null, json!([3_000]), json!(1e30)] {
        let mut event = event.clone();
        event["data"]["object"]["amount_paid"] = wrong;
        tell(&app, &event).await.refuses(400, &[]);
    }
    let huge = "x".repeat(1024 * 1024 + 1);
    let header = signature(WEBHOOK_SECRET, now, &huge);
    send(&app, "/webhooks/stripe", &[("stripe-signature", &header)], huge).await.refuses(413, &[]);
    assert_eq!(status(&app, &invoice).await, ("finalized".into(), "30.00".into()));
    assert_eq!(overview(&app).await["payment_events"], json!([]));
    // What it does not know is none of its business.
    assert_eq!(
        outcome(&app, &json!({"id": "evt_x", "type": "customer.subscription.created", "data": {}})).await,
        "ignored"
    );
    // What was refused was not taken: the event itself still counts.
    assert_eq!(outcome(&app, &event).await, "recorded");
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_hold() {
    let double = StripeDouble::start(0);
    let settings = double.settings("invoice_items", "").replace(
        &format!("webhook_secret = \"{WEBHOOK_SECRET}\""),
        &format!("webhook_secret = [\"whsec_new\", \"{WEBHOOK_SECRET}\"]"),
    );
    let app = TestApp::with(&settings).await;
    let event = json!({"id": "evt_1", "type": "ping"});
    for secret in ["whsec_new", WEBHOOK_SECRET] {
        assert_eq!(tell_signed(&app, &event, secret, 0).await.expect(200).text("/outcome"), "ignored");
    }
    tell_signed(&app, &event, "whsec_old", 0).await.refuses(400, &[]);
}

fn standard(id: &str, at: i64, body: &str) -> String {
    let key = STANDARD.decode(PAYMENT_SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), format!("{id}.{at}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

async fn told(app: &TestApp, id: &str, payment: &Value) -> Reply {
    told_at(app, id, app.clock.now().as_secs(), payment).await
}

async fn told_at(app: &TestApp, id: &str, at: i64, payment: &Value) -> Reply {
    let body = payment.to_string();
    let (at, signature) = (at.to_string(), standard(id, at, &body));
    let headers = [("webhook-id", id), ("webhook-timestamp", at.as_str()), ("webhook-signature", signature.as_str())];
    send(app, "/webhooks/payments", &headers, body).await
}

async fn by_another_provider(app: TestApp) {
    let tenant = app.tenant("Acme", "standard").await;
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let invoice = super::invoices::invoices(&app, &tenant).await.pop().unwrap();
    let payment = |amount: &str, reference: &str| json!({"invoice": invoice["number"], "amount": amount, "currency": "USD", "reference": reference});
    let first = told(&app, "msg_1", &payment("12.00", "wire 1")).await.expect(201);
    assert_eq!((first.text("/outcome"), first.text("/amount_remaining")), ("underpaid".into(), "18.00".into()));
    let again = told(&app, "msg_1", &payment("12.00", "wire 1")).await.expect(200);
    assert_eq!(again.text("/outcome"), "known");
    assert_eq!(status(&app, &invoice).await.1, "18.00");
    // What cannot be is refused, and may be told again, put right, under the same id.
    told(&app, "msg_2", &payment("18.01", "wire 2")).await.refuses(422, &["amount"]);
    told(&app, "msg_2", &payment("18.001", "wire 2")).await.refuses(422, &["amount"]);
    let mut other = payment("18.00", "wire 2");
    other["currency"] = "EUR".into();
    told(&app, "msg_2", &other).await.refuses(422, &["currency"]);
    other["invoice"] = "INV-999999".into();
    told(&app, "msg_2", &other).await.refuses(404, &[]);
    told(&app, "msg_2", &json!({"invoice": 1})).await.refuses(422, &["invoice"]);
    told(&app, "msg_2", &payment("12.50", "wire 1")).await.refuses(409, &[]);
    let mut by_id = payment("18.00", "wire 2");
    by_id["invoice"] = invoice["invoice_id"].clone();
    by_id["received_at"] = "2026-11-30T10:00:00Z".into();
    let second = told(&app, "msg_2", &by_id).await.expect(201);
    assert_eq!((second.text("/outcome"), second.text("/amount_remaining")), ("recorded".into(), "0.00".into()));
    assert_eq!(status(&app, &invoice).await.0, "paid");
    told(&app, "msg_3", &payment("1.00", "wire 3")).await.refuses(409, &[]);
    // Signed otherwise, at another time, under another id.
    let (now, body) = (app.clock.now().as_secs(), payment("1.00", "x").to_string());
    told_at(&app, "msg_4", now - 301, &payment("1.00", "x")).await.refuses(400, &[]);
    let signature = standard("msg_5", now, &body);
    let now = now.to_string();
    let headers = [("webhook-id", "msg_6"), ("webhook-timestamp", now.as_str()), ("webhook-signature", &*signature)];
    send(&app, "/webhooks/payments", &headers, body.clone()).await.refuses(400, &[]);
    send(&app, "/webhooks/payments", &headers[..2], body).await.refuses(400, &[]);
}

fn settings() -> String {
    format!("[billing]\npayment_webhook_secret = \"{PAYMENT_SECRET}\"\n")
}

#[tokio::test]
async fn a_payment_that_another_provider_took_is_noted_once() {
    Box::pin(by_another_provider(TestApp::with(&settings()).await)).await;
}

#[tokio::test]
async fn a_payment_that_another_provider_took_is_noted_once_on_postgresql() {
    let Some(app) = TestApp::on_postgres_with(&settings()).await else { return };
    Box::pin(by_another_provider(app)).await;
}
