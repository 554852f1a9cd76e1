//! Lines explained: the arithmetic of every price model, and the events behind a line, page by page.

use serde_json::{Value, json};

use super::{
    events::{event, meter, post},
    invoices::{at, close, invoices, plan},
    ledger::record_units,
};
use crate::support::app::TestApp;

async fn explained(app: &TestApp, invoice: &Value, query: &str) -> Value {
    let id = invoice["invoice_id"].as_str().unwrap();
    app.admin().await.get(&format!("/admin/v1/invoices/{id}/lines/{query}")).await.expect(200).body
}

fn steps(explained: &Value) -> Vec<&str> {
    explained["steps"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_model_is_explained_by_its_arithmetic() {
    let app = TestApp::new().await;
    let tiers = json!([{"up_to": "50", "unit": "0.4"}, {"up_to": null, "unit": "0.2", "flat": "1.5"}]);
    let cases = [
        (json!({"model": "flat", "amount": "7"}), vec!["7, whatever was used", "7 rounds to 7.00"]),
        (
            json!({"model": "per_unit", "unit": "0.333", "maximum": "40"}),
            vec!["130 at 0.333 is 43.29", "at most 40", "40 rounds to 40.00"],
        ),
        (
            json!({"model": "graduated", "included": "20", "tiers": tiers, "discount_percent": "10"}),
            vec![
                "the first 20 of the period cost nothing: 110 of 130 is left",
                "the tier up to 50: 50 at 0.4 is 20",
                "the last tier: 60 at 0.2 and 1.5 for entering it is 13.5",
                "all tiers together: 33.5",
                "less a discount of 10 per cent, 3.35: 30.15",
                "30.15 rounds to 30.15",
            ],
        ),
        (
            json!({"model": "volume", "tiers": tiers}),
            vec!["the last tier: 130 at 0.2 and 1.5 for entering it is 27.5", "27.5 rounds to 27.50"],
        ),
        (
            json!({"model": "package", "price": "0.375", "size": "30", "minimum": "2"}),
            vec![
                "130 in packages of 30 are 5, a broken one rounded up",
                "5 packages at 0.375 are 1.875",
                "at least 2",
                "2 rounds to 2.00",
            ],
        ),
        (
            json!({"model": "percentage", "rate_percent": "2.95", "fixed_per_event": "0.3"}),
            vec!["2.95 per cent of 130 and 0.3 for the transaction, is 4.135", "4.135 rounds to 4.14"],
        ),
        (
            json!({"model": "graduated_percentage", "tiers": tiers}),
            vec![
                "the tier up to 50: 50 at 0.4 per cent is 0.2",
                "the last tier: 80 at 0.2 per cent and 1.5 for entering it is 1.66",
                "all tiers together: 1.86",
                "1.86 rounds to 1.86",
            ],
        ),
        (
            json!({"model": "dynamic", "multiplier": "1.17"}),
            vec!["the quantity is an amount: 130 times 1.17 is 152.1", "152.1 rounds to 152.10"],
        ),
    ];
    let of_meter = |(price, _): &(Value, Vec<&str>)| {
        let mut price = price.clone();
        price["meter"] = "apis".into();
        price
    };
    let prices: Vec<Value> = cases.iter().map(of_meter).collect();
    plan(&app, json!({"prices": prices})).await;
    let tenant = app.tenant("Acme", "pro").await;
    record_units(&app, &tenant, &[("apis", 130)]);
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let invoice = invoices(&app, &tenant).await.remove(0);
    for (place, (price, expected)) in cases.iter().enumerate() {
        let line = explained(&app, &invoice, &format!("{}/explain", place + 2)).await;
        assert_eq!(line["line"]["model"], price["model"]);
        assert_eq!(steps(&line), *expected);
    }
}

#[tokio::test]
async fn trials_parts_commitments_and_adjustments_are_explained() {
    let app = TestApp::new().await;
    let prices = json!([{"meter": "apis", "model": "per_unit", "unit": "0.01", "included": "100"}]);
    plan(&app, json!({"prices": prices, "commitment": "60.00", "trial_days": 5})).await;
    let tenant = app.tenant("Acme", "pro").await;
    record_units(&app, &tenant, &[("apis", 130)]);
    at(&app, "2026-11-25T12:00:00Z");
    record_units(&app, &tenant, &[("apis", 300)]);
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    at(&app, "2026-11-25T13:00:00Z");
    record_units(&app, &tenant, &[("apis", 50)]);
    at(&app, "2027-01-01T01:00:00Z");
    close(&app).await;
    let both = invoices(&app, &tenant).await;
    let find = |of: &Value, kind: &str, trial: bool| {
        let lines = of["lines"].as_array().unwrap();
        let place = lines.iter().position(|line| line["kind"] == kind && (line["unrounded"] == "0") == trial);
        place.unwrap_or_else(|| panic!("{kind}: {of}")) + 1
    };
    let told = async |of: &Value, place: usize| {
        let explained = explained(&app, of, &format!("{place}/explain")).await;
        steps(&explained).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let trial = told(&both[0], find(&both[0], "usage", true)).await;
    assert_eq!(trial, ["this part is within the trial: nothing of it is charged", "0 rounds to 0.00"]);
    let base = told(&both[0], find(&both[0], "base", false)).await;
    assert!(base[0].starts_with("the base is 30.00 USD a period; this part's share by the second is "), "{base:?}");
    let usage = told(&both[0], find(&both[0], "usage", false)).await;
    assert_eq!(usage[..2], ["the first 100 of the period cost nothing: 200 of 300 is left", "200 at 0.01 is 2"]);
    let commitment = told(&both[0], find(&both[0], "commitment", false)).await;
    assert!(commitment[0].starts_with("the plan commits to 60.00 USD a period, of which this part"), "{commitment:?}");
    let adjusted = told(&both[1], find(&both[1], "adjustment", false)).await;
    assert_eq!(
        adjusted,
        [
            "300 was billed of this part by invoice INV-000001 and later ones",
            "what the part comes to now is 2.5, of which 2 was billed",
            "what the part comes to now, less that, is 0.5 for 50",
            "0.5 rounds to 0.50",
        ]
    );
}

#[tokio::test]
async fn the_events_behind_a_line_are_listed_page_by_page() {
    let app = TestApp::new().await;
    meter(&app.admin().await, "tokens", "SUM").await;
    let prices = json!([{"meter": "tokens", "model": "per_unit", "unit": "0.1"}]);
    plan(&app, json!({"prices": prices})).await;
    let (tenant, other) = (app.tenant("Acme", "pro").await, app.tenant("Globex", "pro").await);
    at(&app, "2026-11-13T00:00:00Z");
    let mut sent = Vec::new();
    for number in 0..9 {
        let owner = if number == 4 { &other } else { &tenant };
        let mut event = event(&format!("e.{number}"), owner, 10);
        // Three at a time have the same time.
        event["time"] = format!("2026-11-1{}T08:00:00Z", number / 3).into();
        sent.push(event);
    }
    post(&app.admin().await, json!(sent)).await.expect(204);
    let void = format!("/admin/v1/usage/e.7/void?tenant_id={tenant}");
    app.admin().await.post(&void, json!({"reason": "sent twice"})).await.expect(200);
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let invoice = invoices(&app, &tenant).await.remove(0);
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = explained(&app, &invoice, &format!("2/explain?limit=2{cursor}")).await;
        let items = page["events"]["items"].as_array().unwrap();
        assert!(items.len() <= 2 && items.iter().all(|item| item["source"] == "test"), "{items:?}");
        found.extend(items.iter().map(|item| item["event_id"].as_str().unwrap().to_owned()));
        assert_eq!(page["metered"], "70");
        match page["events"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["e.0", "e.1", "e.2", "e.3", "e.5", "e.6", "e.8"]);
}
