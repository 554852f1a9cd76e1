//! Prices that look at single transactions: a bill made of events comes to what rating their amounts comes to.

use serde_json::{Value, json};

use super::{
    events::{event, meter, post},
    invoices::{at, close, invoices, lines, plan},
    ledger::record_units,
};
use crate::support::{
    actors::Actor,
    app::{Reply, TestApp},
};

/// 2.9 per cent and 0.30 each; the first two and at most the first 100 are free; between 0.50 and 5.00.
fn terms() -> Value {
    json!({"meter": "payments", "model": "percentage", "rate_percent": "2.9", "fixed_per_event": "0.30", "free_events": "2",
        "free_amount": "100", "min_per_event": "0.50", "max_per_event": "5.00"})
}

/// A meter of payments, each with an amount.
async fn payments(admin: &Actor<'_>) {
    let body = json!({"slug": "payments", "eventType": "prompt", "aggregation": "SUM", "valueProperty": "$.tokens"});
    admin.post("/api/v1/meters", body).await.expect(201);
}

/// Events of these amounts, a minute apart.
async fn pay(app: &TestApp, tenant: &str, first: usize, amounts: &[&str]) {
    let admin = app.admin().await;
    for (place, amount) in amounts.iter().enumerate() {
        let id = first + place;
        let mut event = event(&id.to_string(), tenant, *amount);
        event["time"] = format!("2026-11-10T11:{id:02}:00Z").into();
        post(&admin, event).await.expect(204);
    }
}

async fn bill(app: &TestApp, tenant: &str) -> Reply {
    app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/bill")).await.expect(200)
}

/// What rating says of the same amounts.
async fn rated(app: &TestApp, price: &Value, amounts: &[&str]) -> (String, String) {
    let request = json!({"currency": "USD", "prices": [price], "usage": {"payments": amounts}});
    let rated = app.admin().await.post("/admin/v1/rate", request).await.expect(200);
    (rated.text("/lines/0/unrounded"), rated.text("/lines/0/amount"))
}

async fn each_is_looked_at(app: TestApp) {
    payments(&app.admin().await).await;
    plan(&app, json!({"base": "0.00", "prices": [terms()]})).await;
    let tenant = app.tenant("Acme", "pro").await;
    let amounts = ["60", "70.50", "10", "5", "400", "1000"];
    pay(&app, &tenant, 1, &amounts).await;
    // 60 and 40 of 70.50 are free, which ends the allowance: 30.50 are 1.1845; 10 are 0.59; 5 are 0.50 at least; 400 and 1000
    // are 5.00 at most.
    let found = bill(&app, &tenant).await;
    assert_eq!(found.text("/lines/1/quantity"), "1545.5");
    assert_eq!((found.text("/lines/1/unrounded"), found.text("/lines/1/amount")), ("12.2745".into(), "12.27".into()));
    assert_eq!(rated(&app, &terms(), &amounts).await, ("12.2745".into(), "12.27".into()));
    // What is taken back was no transaction: the allowance is that of the others, 70.50, 10 and 5 among them.
    app.admin().await.post("/admin/v1/usage/1/void", json!({"reason": "sent twice"})).await.expect(200);
    let rest = &amounts[1..];
    assert_eq!(bill(&app, &tenant).await.text("/lines/1/unrounded"), rated(&app, &terms(), rest).await.0);
    // So it is on the invoice, and what comes late is what it adds.
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let (_, before) = rated(&app, &terms(), rest).await;
    assert_eq!(lines(&invoices(&app, &tenant).await[0])[1], format!("usage payments 1485.5 {before}"));
    let mut late = event("late", &tenant, "8");
    late["time"] = "2026-11-20T10:00:00Z".into();
    post(&app.admin().await, late).await.expect(204);
    at(&app, "2027-01-01T01:00:00Z");
    close(&app).await;
    // 8 × 2.9 % + 0.30 = 0.532; the sum before is 0.11 + 0.50 + 5 + 5 with what 70.50 leaves of 100.
    let line = lines(&invoices(&app, &tenant).await[1]).pop().unwrap();
    assert_eq!(line, "adjustment payments 8 0.53");
}

#[tokio::test]
async fn a_percentage_of_each_transaction_is_worked_out_from_its_event() {
    Box::pin(each_is_looked_at(TestApp::new().await)).await;
}

#[tokio::test]
async fn a_percentage_of_each_transaction_is_worked_out_from_its_event_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(each_is_looked_at(app)).await;
}

#[tokio::test]
async fn what_is_free_is_free_once_a_period_whatever_cuts_it() {
    for more in [json!({}), json!({"included": "65"}), json!({"discount_percent": "10", "maximum": "9"})] {
        let app = TestApp::new().await;
        payments(&app.admin().await).await;
        let mut price = terms();
        price.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        at(&app, "2026-11-10T11:00:30Z");
        plan(&app, json!({"base": "0.00", "prices": [price]})).await;
        let tenant = app.tenant("Acme", "pro").await;
        let amounts = ["60", "70.50", "10", "5", "400", "1000"];
        // A new version of the same prices after each.
        for (place, amount) in amounts.iter().enumerate() {
            at(&app, &format!("2026-11-10T11:{:02}:00Z", place + 1));
            pay(&app, &tenant, place + 1, &[amount]).await;
            at(&app, &format!("2026-11-10T11:{:02}:59Z", place + 1));
            plan(&app, json!({"base": "0.00", "prices": [price], "features": [format!("v{place}")]})).await;
        }
        let found = bill(&app, &tenant).await;
        let used = found.body["lines"].as_array().unwrap().iter().filter(|line| line["meter"] == "payments");
        let exact: Vec<&str> = used.map(|line| line["unrounded"].as_str().unwrap()).collect();
        assert!(exact.len() > 4, "{exact:?}");
        let sum = exact.iter().map(|text| micros(text)).sum::<i64>();
        assert_eq!(sum, micros(&rated(&app, &price, &amounts).await.0), "{more}: {exact:?}");
    }
}

/// Millionths: six digits behind the point, and no float.
fn micros(text: &str) -> i64 {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{rest:0<6}").parse().unwrap()
}

#[tokio::test]
async fn an_amount_that_is_one_already_is_multiplied_and_what_has_no_events_is_one_transaction() {
    let app = TestApp::new().await;
    payments(&app.admin().await).await;
    meter(&app.admin().await, "most", "MAX").await;
    let prices = json!([
        {"meter": "payments", "model": "dynamic", "multiplier": "1.25"},
        {"meter": "payments", "model": "graduated_percentage", "tiers": [{"up_to": "100", "unit": "3"}, {"unit": "1"}]},
        {"meter": "apis", "model": "percentage", "rate_percent": "10", "fixed_per_event": "1"},
        {"meter": "most", "model": "percentage", "rate_percent": "10", "fixed_per_event": "1"},
    ]);
    plan(&app, json!({"base": "0.00", "prices": prices})).await;
    let tenant = app.tenant("Acme", "pro").await;
    pay(&app, &tenant, 1, &["60.10", "70.40"]).await;
    record_units(&app, &tenant, &[("apis", 50)]);
    let found = bill(&app, &tenant).await;
    let exact: Vec<String> = (1..5).map(|place| found.text(&format!("/lines/{place}/unrounded"))).collect();
    // 130.50 × 1.25; 3 + 30.50 %; 50 and 70.40 are a tenth and 1 each.
    assert_eq!(exact, ["163.125", "3.305", "6", "8.04"]);
}
