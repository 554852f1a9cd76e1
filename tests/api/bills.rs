//! Bills, to the last digit: the figures are worked out by hand beside each.

use serde_json::{Value, json};

use super::{
    gateway::get,
    ledger::{record, record_units},
    upstream::Upstream,
};
use crate::support::app::{Reply, TestApp};

/// The running bill of a tenant, as the administrator sees it; `query` names another.
async fn bill(app: &TestApp, tenant: &str, query: &str) -> Reply {
    let bill = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/bill{query}")).await.expect(200);
    assert_eq!(bill.text("/subtotal"), sum_of_lines(&bill));
    assert_eq!((bill.text("/tax"), bill.text("/total")), ("0.00".into(), bill.text("/subtotal")));
    bill
}

/// The amounts of the lines added up in cents.
fn sum_of_lines(bill: &Reply) -> String {
    let cents = |line: &Value| line["amount"].as_str().unwrap().replace('.', "").parse::<i64>().unwrap();
    let sum: i64 = bill.body["lines"].as_array().unwrap().iter().map(cents).sum();
    format!("{}.{:02}", sum / 100, sum % 100)
}

/// Its lines: tier, meter, quantity, exact amount, rounded amount.
fn lines(bill: &Reply) -> Vec<String> {
    let line = |line: &Value| {
        let fields = ["tier", "meter", "quantity", "unrounded", "amount"];
        fields.map(|field| line[field].as_str().unwrap().to_owned()).join(" ")
    };
    bill.body["lines"].as_array().unwrap().iter().map(line).collect()
}

async fn move_to(app: &TestApp, tenant: &str, tier: &str) {
    app.admin().await.post(&format!("/admin/v1/tenants/{tenant}/tier"), json!({"tier": tier})).await.expect(200);
}

const MB: i64 = 1_000_000;

#[tokio::test]
async fn a_free_tenant_owes_nothing() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "free").await;
    record_units(&app, &tenant, &[("apis", 900), ("compute", 5_000_000)]);
    let bill = bill(&app, &tenant, "").await;
    assert_eq!(lines(&bill), ["free base 1 0 0.00", "free apis 900 0 0.00"]);
    assert_eq!((bill.text("/total"), bill.text("/currency")), ("0.00".into(), "USD".into()));
}

#[tokio::test]
async fn a_standard_bill_is_exact_and_shows_its_rounding() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 110_000), ("compute", 600_250), ("egress_bytes", 3_500 * MB)]);
    record(&app, &tenant, &[("memory", 3_125)]);
    let bill = bill(&app, &tenant, "").await;
    let expected = [
        "standard base 1 30 30.00",
        // 10,000 included; 90,000 × 0.0005 = 45; the other 10,000 × 0.0003 = 3.
        "standard apis 110000 48 48.00",
        // 250 beyond the 600,000 included × 0.00002 = 0.005: half a cent goes up.
        "standard compute 600250 0.005 0.01",
        // 3.125 × 0.0000003 = 0.0000009375.
        "standard memory 3.125 0.0000009375 0.00",
        // 2,500,000,000 beyond the first gigabyte × 0.00000000009 = 0.225: half a cent goes up.
        "standard egress_bytes 3500000000 0.225 0.23",
    ];
    assert_eq!(lines(&bill), expected);
    assert_eq!(bill.text("/total"), "78.24");
    let tiers = json!([
        {"up_to": "90000", "quantity": "90000", "unit": "0.0005", "flat": "0", "amount": "45"},
        {"up_to": "990000", "quantity": "10000", "unit": "0.0003", "flat": "0", "amount": "3"},
    ]);
    assert_eq!(bill.body["lines"][1]["tiers"], tiers);
    assert_eq!(bill.body["period"], json!({"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}));
    assert_eq!((bill.text("/status"), bill.text("/tenant_id")), ("open".into(), tenant));
    assert_eq!(bill.body["lines"][0]["price_version"], 1);
}

#[tokio::test]
async fn a_premium_bill_is_exact() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "premium").await;
    let usage = [("apis", 11 * MB), ("compute", 36 * MB + 1), ("memory", 50_000), ("egress_bytes", 100_100 * MB)];
    record_units(&app, &tenant, &usage);
    let bill = bill(&app, &tenant, "").await;
    let expected = [
        "premium base 1 300 300.00",
        // 1,000,000 included; 9,000,000 × 0.0002 = 1,800; the other 1,000,000 × 0.00005 = 50.
        "premium apis 11000000 1850 1850.00",
        // 1 beyond the included 36,000,000 × 0.00001.
        "premium compute 36000001 0.00001 0.00",
        // 50,000 × 0.0000002.
        "premium memory 50000 0.01 0.01",
        // 100,000,000 beyond the included 100 GB × 0.00000000005.
        "premium egress_bytes 100100000000 0.005 0.01",
    ];
    assert_eq!(lines(&bill), expected);
    assert_eq!(bill.text("/total"), "2150.02");
}

#[tokio::test]
async fn the_bounds_of_what_is_included_and_of_tiers_are_inclusive() {
    // Included 10,000; the first tier ends 90,000 later.
    for (apis, amount) in [(10_000, "0"), (10_001, "0.0005"), (100_000, "45"), (100_001, "45.0003")] {
        let app = TestApp::new().await;
        let tenant = app.tenant("Acme", "standard").await;
        record_units(&app, &tenant, &[("apis", apis)]);
        assert_eq!(bill(&app, &tenant, "").await.text("/lines/1/unrounded"), amount, "{apis}");
    }
}

#[tokio::test]
async fn what_the_gateway_metered_is_what_the_bill_charges() {
    let upstream = Upstream::start().await;
    let app = TestApp::with(&upstream.settings("[\"apis\", \"compute\"]")).await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    for (status, report) in [("200", "compute=700000"), ("500", "compute=700000"), ("404", "compute=0.5")] {
        let headers = [("x-answer", status), ("answer-tollgate-usage", report)];
        get(&owner, "/up/x", &headers).await.expect(status.parse().unwrap());
    }
    let bill = bill(&app, &tenant, "").await;
    // 100,000.5 beyond what is included × 0.00002 = 2.00001; the failure of the upstream's own is not there.
    assert_eq!(lines(&bill)[1..3], ["standard apis 2 0 0.00", "standard compute 700000.5 2.00001 2.00"]);
}

#[tokio::test]
async fn a_change_of_tier_splits_the_month() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 20_000)]);
    app.clock.set("2026-11-16T00:00:00Z".parse().unwrap());
    move_to(&app, &tenant, "premium").await;
    record_units(&app, &tenant, &[("apis", 2 * MB)]);
    let bill = bill(&app, &tenant, "").await;
    let found: Vec<String> =
        lines(&bill).into_iter().filter(|line| line.contains("base") || line.contains("apis")).collect();
    let expected = [
        // 15 of November's 30 days on each tier.
        "standard base 1 15 15.00",
        // 10,000 beyond what is included × 0.0005.
        "standard apis 20000 5 5.00",
        "premium base 1 150 150.00",
        // 1,000,000 beyond what is included × 0.0002.
        "premium apis 2000000 200 200.00",
    ];
    assert_eq!(found, expected);
    assert_eq!(bill.text("/total"), "370.00");
    assert_eq!(bill.body["lines"][0]["period"], json!({"from": "2026-11-01T00:00:00Z", "to": "2026-11-16T00:00:00Z"}));
    assert_eq!(bill.body["lines"][5]["period"], json!({"from": "2026-11-16T00:00:00Z", "to": "2026-12-01T00:00:00Z"}));
}

#[tokio::test]
async fn coming_back_to_a_tier_does_not_include_anything_twice() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 9_000)]);
    for (day, tier, apis) in [("11", "premium", 500), ("16", "standard", 3_000)] {
        app.clock.set(format!("2026-11-{day}T00:00:00Z").parse().unwrap());
        move_to(&app, &tenant, tier).await;
        record_units(&app, &tenant, &[("apis", apis)]);
    }
    let bill = bill(&app, &tenant, "").await;
    let apis: Vec<String> = lines(&bill).into_iter().filter(|line| line.contains("apis")).collect();
    // 9,000 of the 10,000 were used before: of the 3,000 later ones, 2,000 × 0.0005 are due.
    assert_eq!(apis, ["standard apis 9000 0 0.00", "premium apis 500 0 0.00", "standard apis 3000 1 1.00"]);
    // 10 days standard, 5 premium, 15 standard: 10 + 50 + 15, and the dollar.
    assert_eq!(bill.text("/total"), "76.00");
}

#[tokio::test]
async fn another_price_holds_from_the_next_month_or_from_now_on() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let admin = app.admin().await;
    let plan = |unit: &str, effective: &str| {
        let prices = json!([{"meter": "apis", "model": "per_unit", "unit": unit}]);
        json!({"isolation": "pool", "currency": "USD", "base": "30.00", "prices": prices, "effective": effective})
    };
    admin.put("/admin/v1/plans/standard", plan("1", "next_period")).await.expect(200);
    record_units(&app, &tenant, &[("apis", 10)]);
    assert_eq!(bill(&app, &tenant, "").await.text("/total"), "30.00");
    app.clock.set("2026-12-02T00:00:00Z".parse().unwrap());
    record_units(&app, &tenant, &[("apis", 10)]);
    let december = bill(&app, &tenant, "").await;
    assert_eq!(december.text("/total"), "40.00");
    assert_eq!(december.body["lines"][1]["price_version"], 2);

    app.clock.set("2026-12-16T12:00:00Z".parse().unwrap());
    app.admin().await.put("/admin/v1/plans/standard", plan("2", "now")).await.expect(200);
    record_units(&app, &tenant, &[("apis", 10)]);
    let december = bill(&app, &tenant, "").await;
    // Half of December each; ten requests at a dollar, ten at two.
    let expected = [
        "standard base 1 15 15.00",
        "standard apis 10 10 10.00",
        "standard base 1 15 15.00",
        "standard apis 10 20 20.00",
    ];
    assert_eq!(lines(&december), expected);
}

#[tokio::test]
async fn a_plan_in_another_currency_is_refused_and_bills_go_on() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let plan = json!({"isolation": "pool", "currency": "EUR", "base": "30.00", "effective": "now"});
    app.admin().await.put("/admin/v1/plans/standard", plan).await.refuses(422, &["currency"]);
    assert_eq!(bill(&app, &tenant, "").await.text("/total"), "30.00");
}

/// A closed month, recomputed in the next one and by the next process.
async fn is_recomputed_alike(app: TestApp) {
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 12_500)]);
    let open = bill(&app, &tenant, "").await;
    // 2,500 beyond what is included × 0.0005.
    assert_eq!(open.text("/total"), "31.25");
    app.clock.set("2026-12-05T00:00:00Z".parse().unwrap());
    record_units(&app, &tenant, &[("apis", 99)]);
    let closed = bill(&app, &tenant, "?period=2026-11").await;
    assert_eq!((closed.text("/status"), &closed.body["lines"]), ("closed".into(), &open.body["lines"]));
    assert_eq!(bill(&app, &tenant, "?at=2026-11-30T23:59:59Z").await.body, closed.body);
    assert_eq!(bill(&app, &tenant, "").await.text("/total"), "30.00");
    // Before the customer came, nothing was due.
    let earlier = bill(&app, &tenant, "?period=2026-10").await;
    assert_eq!((lines(&earlier).len(), earlier.text("/total")), (0, "0.00".into()));
    let app = app.restarted().await;
    assert_eq!(bill(&app, &tenant, "?period=2026-11").await.body, closed.body);
}

#[tokio::test]
async fn a_closed_month_is_recomputed_alike() {
    Box::pin(is_recomputed_alike(TestApp::new().await)).await;
}

#[tokio::test]
async fn a_closed_month_is_recomputed_alike_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(is_recomputed_alike(app)).await;
}

#[tokio::test]
async fn a_deleted_tenants_last_bill_stays_and_no_other_follows() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 12_500)]);
    app.admin().await.delete(&format!("/admin/v1/tenants/{tenant}")).await.expect(200);
    // The month ends with the minute, and so much of its base is owed: 13,681 minutes of 43,200.
    let last = bill(&app, &tenant, "").await;
    assert_eq!((last.text("/period/to"), last.text("/total")), ("2026-11-10T12:01:00Z".into(), "10.75".into()));
    app.clock.set("2026-12-05T00:00:00Z".parse().unwrap());
    assert_eq!(bill(&app, &tenant, "?period=2026-11").await.body["lines"], last.body["lines"]);
    assert_eq!(lines(&bill(&app, &tenant, "").await).len(), 0);
}

#[tokio::test]
async fn a_bill_is_its_own_tenants_and_nobody_elses() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "premium").await;
    let other = app.tenant("Globex", "standard").await;
    let (admin, globex) = (app.admin().await, app.owner_of("Globex").await);
    let own = globex.get("/v1/bill").await.expect(200);
    assert_eq!((own.text("/tenant_id"), own.text("/total")), (other.clone(), "30.00".into()));
    assert_eq!(own.body, bill(&app, &other, "").await.body);
    globex.get(&format!("/v1/bill?tenant_id={tenant}")).await.refuses(422, &["tenant_id"]);
    globex.get(&format!("/admin/v1/tenants/{tenant}/bill")).await.refuses(403, &[]);
    for unknown in ["01900000-0000-7000-8000-000000000000", "acme"] {
        admin.get(&format!("/admin/v1/tenants/{unknown}/bill")).await.refuses(404, &[]);
    }
    for (query, field) in
        [("period=2026-13", "period"), ("period=now", "period"), ("at=now", "at"), ("month=1", "month")]
    {
        globex.get(&format!("/v1/bill?{query}")).await.refuses(422, &[field]);
    }
    globex.get("/v1/bill?period=2026-11&at=2026-11-01T00:00:00Z").await.refuses(422, &["period"]);
}
