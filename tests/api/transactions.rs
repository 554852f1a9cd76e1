//! Prices that look at single transactions: a bill made of events comes to what rating their amounts comes to.

use serde_json::{Value, json};
use tollgate::verification::{Against, Checked, verify_invoice};

use super::{
    events::{event, meter, post},
    invoice_exports::export,
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

/// An invoice over four payments, and two more after a new version of the same price with more to it.
async fn cut_in_two(app: &TestApp) -> Value {
    payments(&app.admin().await).await;
    let mut price = terms();
    price.as_object_mut().unwrap().extend([("discount_percent".into(), "10".into()), ("maximum".into(), "9".into())]);
    at(app, "2026-11-10T11:00:30Z");
    plan(app, json!({"base": "0.00", "prices": [price]})).await;
    let tenant = app.tenant("Acme", "pro").await;
    at(app, "2026-11-10T11:07:30Z");
    pay(app, &tenant, 1, &["60", "70.50", "10", "5"]).await;
    plan(app, json!({"base": "0.00", "prices": [price], "features": ["more"]})).await;
    at(app, "2026-11-10T11:20:00Z");
    pay(app, &tenant, 10, &["400", "1000"]).await;
    at(app, "2026-12-01T01:00:00Z");
    close(app).await;
    invoices(app, &tenant).await.remove(0)
}

fn check(file: &[u8]) -> Checked {
    verify_invoice(file, Against::default())
}

/// What is said of a file in which one thing is another.
fn said(file: &[u8], pointer: &str, edit: impl FnOnce(&mut Value)) -> (u8, String) {
    let mut value: Value = serde_json::from_slice(file).unwrap();
    edit(value.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")));
    let checked = check(value.to_string().as_bytes());
    (checked.status(), checked.refusal.map(|refusal| refusal.to_string()).unwrap_or_default())
}

#[tokio::test]
async fn a_file_has_the_transactions_and_what_they_come_to_is_worked_out_again() {
    let app = TestApp::new().await;
    let invoice = cut_in_two(&app).await;
    let file = export(&app, &invoice).await;
    let checked = check(&file);
    assert_eq!(checked.refusal, None, "{:?}\n{}", checked.lines, String::from_utf8_lossy(&file));
    assert!(!checked.lines.iter().any(|line| line.contains("as told")), "{:?}", checked.lines);
    let value: Value = serde_json::from_slice(&file).unwrap();
    let spans = value["evidence"]["usage"]["spans"].as_array().unwrap();
    let of_payments = |span: &Value| span["usage"][0]["transactions"].clone();
    let last = spans.len() - 1;
    assert_eq!(of_payments(&spans[last - 1]), json!(["60", "70.5", "10", "5"]));
    assert_eq!(of_payments(&spans[last]), json!(["400", "1000"]));
    let of = |span: usize, what: &str| format!("/evidence/usage/spans/{span}/{what}");
    let cases: [(String, Value, &str); 6] = [
        (of(last - 1, "charged/0/whole"), "3.2745".into(), "in all from"),
        (of(last - 1, "charged/0/earlier"), "1".into(), "before from"),
        (of(last, "charged/0/whole"), "11.2745".into(), "the file says 11.2745, but it comes to 12.2745"),
        (of(last, "charged/0/earlier"), "3.2745".into(), "the file says 3.2745, but it comes to 2.2745"),
        // The same sum of others.
        (
            of(last - 1, "usage/0/transactions"),
            json!(["60", "70.5", "14.9", "0.1"]),
            "what transactions of payments come to",
        ),
        (of(last, "usage/0/transactions"), json!(["400", "999"]), "but it comes to 1399 by its transactions"),
    ];
    for (pointer, other, expected) in cases {
        let (status, told) = said(&file, &pointer, |place| *place = other);
        assert!(status == 1 && told.contains(expected), "{pointer}: {status} {told}");
    }
    let (status, told) = said(&file, &of(last, "charged"), |charged| *charged = json!([]));
    assert!(status == 1 && told.contains("looked at in one part and not in another"), "{status} {told}");
    let (status, told) = said(&file, &of(last, "usage/0/days"), |days| *days = Value::Null);
    assert!(status == 1 && !told.contains("seal"), "{status} {told}");
    let (status, told) = said(&file, "/invoice/document/time_zone", |zone| *zone = "Etc/UTC".into());
    assert!(status == 1 && told.starts_with("time_zone: the file says"), "{status} {told}");
}

#[tokio::test]
async fn of_more_than_a_thousand_transactions_a_file_says_what_was_not_worked_out() {
    let app = TestApp::new().await;
    payments(&app.admin().await).await;
    plan(&app, json!({"base": "0.00", "prices": [terms()]})).await;
    let tenant = app.tenant("Acme", "pro").await;
    let of = |number: usize| {
        let mut event = event(&number.to_string(), &tenant, "10");
        event["time"] = format!("2026-11-10T{:02}:{:02}:00Z", number / 60, number % 60).into();
        event
    };
    at(&app, "2026-11-11T00:00:00Z");
    for hundred in 0..10 {
        let events: Vec<Value> = (0..100).map(|number| of(hundred * 100 + number)).collect();
        post(&app.admin().await, json!(events)).await.expect(204);
    }
    post(&app.admin().await, of(1_000)).await.expect(204);
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let file = export(&app, &invoices(&app, &tenant).await[0]).await;
    let checked = check(&file);
    assert_eq!(checked.refusal, None, "{:?}", checked.lines);
    assert!(checked.lines.contains(&"1 lines with single transactions taken as told".into()), "{:?}", checked.lines);
    assert!(!String::from_utf8_lossy(&file).contains("transactions"));
    let spans: Value = serde_json::from_slice(&file).unwrap();
    let last = spans["evidence"]["usage"]["spans"].as_array().unwrap().len() - 1;
    // Nothing was billed before, whatever they were.
    let earlier = format!("/evidence/usage/spans/{last}/charged/0/earlier");
    let (status, told) = said(&file, &earlier, |earlier| *earlier = "1".into());
    assert!(status == 1 && told.contains("the file says 1, but it comes to 0"), "{status} {told}");
}

#[tokio::test]
async fn a_line_of_transactions_is_explained_by_its_arithmetic_and_the_value_of_each() {
    let app = TestApp::new().await;
    let invoice = cut_in_two(&app).await;
    let found = invoice["lines"].as_array().unwrap().iter().enumerate().filter(|(_, line)| line["quantity"] != "0");
    let places: Vec<usize> =
        found.filter(|(_, line)| line["meter"] == "payments").map(|(place, _)| place + 1).collect();
    let [first, second] = places[..] else { panic!("{invoice}") };
    let explained = async |place: usize| {
        let id = invoice["invoice_id"].as_str().unwrap();
        app.admin().await.get(&format!("/admin/v1/invoices/{id}/lines/{place}/explain")).await.expect(200).body
    };
    let values = |explained: &Value| -> Vec<Value> {
        explained["events"]["items"].as_array().unwrap().iter().map(|event| event["value"].clone()).collect()
    };
    let one = explained(first).await;
    assert_eq!(values(&one), ["60", "70.5", "10", "5"]);
    let each = "of each transaction 2.9% + 0.3 each, at least 0.5, at most 5, the first 2 free, up to an amount of 100";
    assert_eq!(
        one["steps"],
        json!([
            each,
            "all transactions come to 2.2745",
            "less a discount of 10 per cent, 0.22745: 2.04705",
            "2.04705 rounds to 2.05",
        ])
    );
    let other = explained(second).await;
    assert_eq!(values(&other), ["400", "1000"]);
    assert_eq!(
        other["steps"],
        json!([
            each,
            "with those before in this period, all transactions come to 12.2745",
            "less a discount of 10 per cent, 1.22745: 11.04705",
            "at most 9",
            "those before in this period come to 2.2745",
            "less a discount of 10 per cent, 0.22745: 2.04705",
            "9 less 2.04705 is 6.95295",
            "6.95295 rounds to 6.95",
        ])
    );
}
