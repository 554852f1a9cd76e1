//! Billing periods other than calendar months in UTC: days that months do not have, zones, years, ten days, and changes of all that.

use axum::extract::FromRef as _;
use serde_json::{Value, json};
use tollgate::{
    billing::{Billing, audit::audit},
    kernel::{Clock as _, Timestamp},
    metering::{Recount, Snapshot},
    store::{Scope, Store},
};

use super::{
    invoices::{adds_up, at, cents, close, invoices, lines, plan, plan_of},
    ledger::record_units,
};
use crate::support::{
    app::{Reply, TestApp},
    audit::Audit,
};

/// Periods of invoices or bills, as `from to`.
fn periods(invoices: &[Value]) -> Vec<String> {
    let of = |invoice: &Value| {
        let edge = |name: &str| invoice["period"][name].as_str().unwrap().to_owned();
        format!("{} {}", edge("from"), edge("to"))
    };
    invoices.iter().map(of).collect()
}

/// Amounts due, in cents.
fn totals(invoices: &[Value]) -> Vec<i64> {
    invoices.iter().map(|invoice| cents(&invoice["total"])).collect()
}

async fn billing(app: &TestApp, tenant: &str, patch: Value) -> Reply {
    app.admin().await.patch(&format!("/admin/v1/tenants/{tenant}/billing"), patch).await
}

async fn bill(app: &TestApp, tenant: &str, query: &str) -> Value {
    app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/bill{query}")).await.expect(200).body
}

async fn move_to(app: &TestApp, tenant: &str, tier: &str) {
    app.admin().await.post(&format!("/admin/v1/tenants/{tenant}/tier"), json!({"tier": tier})).await.expect(200);
}

/// The doctor finds nothing, and what of a meter is billed and is not.
pub async fn doctor_agrees(app: &TestApp, meter: &str) -> (String, String) {
    let (store, billing) = (Store::from_ref(app.app.state()), Billing::from_ref(app.app.state()));
    let then = Snapshot::take(&store).await.unwrap();
    let recount = Recount::open(&store, then, app.clock.now()).await.unwrap();
    let report = audit(&billing, &recount).await.unwrap();
    assert!(report.differences.is_empty(), "{:?}", report.differences);
    let balance = report.balances[&meter.parse().unwrap()];
    assert!(balance.agrees());
    (balance.billed.to_string(), balance.unbilled.to_string())
}

/// A year of an account whose periods begin on the 31st, or on the last day there is, with a request in the first and in the
/// last minute of each.
async fn a_year_from_the_thirty_first(app: TestApp, tenant: String, hours: &[(&str, &str)]) {
    for (from, _) in hours {
        // The first period began before the tenant came.
        if *from > "2026-11-10" {
            at(&app, from);
            record_units(&app, &tenant, &[("apis", 100)]);
        }
        let last: Timestamp = hours.iter().find(|(own, _)| own == from).unwrap().1.parse().unwrap();
        app.clock.set(last.plus_secs(-1));
        record_units(&app, &tenant, &[("apis", 1)]);
        app.clock.set(last.plus_secs(3_600));
        close(&app).await;
    }
    let found = invoices(&app, &tenant).await;
    let expected: Vec<String> = hours.iter().map(|(from, to)| format!("{from} {to}")).collect();
    assert_eq!(periods(&found), expected);
    for (place, invoice) in found.iter().enumerate() {
        adds_up(invoice);
        let used = if place == 0 { "usage apis 1 0.01" } else { "usage apis 101 1.01" };
        assert_eq!(lines(invoice), ["base base 1 30.00", used], "{invoice}");
    }
    let used = 101 * hours.len() - 100;
    assert_eq!(doctor_agrees(&app, "apis").await, (used.to_string(), "0".to_owned()));
}

const NEW_YORK: [(&str, &str); 12] = [
    ("2026-10-31T04:00:00Z", "2026-11-30T05:00:00Z"),
    ("2026-11-30T05:00:00Z", "2026-12-31T05:00:00Z"),
    ("2026-12-31T05:00:00Z", "2027-01-31T05:00:00Z"),
    ("2027-01-31T05:00:00Z", "2027-02-28T05:00:00Z"),
    ("2027-02-28T05:00:00Z", "2027-03-31T04:00:00Z"),
    ("2027-03-31T04:00:00Z", "2027-04-30T04:00:00Z"),
    ("2027-04-30T04:00:00Z", "2027-05-31T04:00:00Z"),
    ("2027-05-31T04:00:00Z", "2027-06-30T04:00:00Z"),
    ("2027-06-30T04:00:00Z", "2027-07-31T04:00:00Z"),
    ("2027-07-31T04:00:00Z", "2027-08-31T04:00:00Z"),
    ("2027-08-31T04:00:00Z", "2027-09-30T04:00:00Z"),
    ("2027-09-30T04:00:00Z", "2027-10-31T04:00:00Z"),
];

#[tokio::test]
async fn a_year_from_the_thirty_first_in_new_york() {
    let app = TestApp::with("[billing]\nanchor = \"2026-01-31\"\nzone = \"America/New_York\"").await;
    plan(&app, json!({})).await;
    let tenant = app.tenant("Acme", "pro").await;
    Box::pin(a_year_from_the_thirty_first(app, tenant, &NEW_YORK)).await;
}

#[tokio::test]
async fn a_year_from_the_thirty_first_in_new_york_on_postgresql() {
    let settings = "[billing]\nanchor = \"2026-01-31\"\nzone = \"America/New_York\"";
    let Some(app) = TestApp::on_postgres_with(settings).await else { return };
    plan(&app, json!({})).await;
    let tenant = app.tenant("Acme", "pro").await;
    Box::pin(a_year_from_the_thirty_first(app, tenant, &NEW_YORK)).await;
}

#[tokio::test]
async fn a_year_from_the_thirty_first_in_kathmandu() {
    let app = TestApp::with("[billing]\nanchor = \"2026-01-31\"\nzone = \"Asia/Kathmandu\"").await;
    plan(&app, json!({})).await;
    let tenant = app.tenant("Acme", "pro").await;
    let days = [
        "2026-10-30",
        "2026-11-29",
        "2026-12-30",
        "2027-01-30",
        "2027-02-27",
        "2027-03-30",
        "2027-04-29",
        "2027-05-30",
        "2027-06-29",
        "2027-07-30",
        "2027-08-30",
        "2027-09-29",
        "2027-10-30",
    ];
    let edges = days.map(|day| format!("{day}T18:15:00Z"));
    let hours: Vec<(&str, &str)> = edges.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    Box::pin(a_year_from_the_thirty_first(app, tenant, &hours)).await;
}

#[tokio::test]
async fn an_invoices_days_are_those_of_its_zone_and_a_line_is_explained_by_them() {
    let app = TestApp::with("[billing]\nanchor = \"2026-01-31\"\nzone = \"Asia/Kathmandu\"").await;
    plan(&app, json!({})).await;
    let tenant = app.tenant("Acme", "pro").await;
    record_units(&app, &tenant, &[("apis", 5)]);
    // The eleventh there, the tenth in UTC.
    at(&app, "2026-11-10T18:30:00Z");
    record_units(&app, &tenant, &[("apis", 7)]);
    at(&app, "2026-11-29T19:15:00Z");
    close(&app).await;
    let invoice = invoices(&app, &tenant).await.remove(0);
    assert_eq!(invoice["time_zone"], "Asia/Kathmandu");
    let path = format!("/admin/v1/invoices/{}", invoice["invoice_id"].as_str().unwrap());
    let admin = app.admin().await;
    let windows = admin.get(&format!("{path}/lines/2/explain")).await.expect(200).body["windows"].clone();
    let window = |day: u32, value: &str| {
        let edge = |day: u32| format!("2026-11-{day:02}T18:15:00Z");
        json!({"window_start": edge(day), "window_end": edge(day + 1), "value": value})
    };
    assert_eq!(windows, json!([window(9, "5"), window(10, "7")]));
    let page = admin.get(&format!("{path}.html")).await.expect(200);
    let page = page.body.as_str().unwrap();
    for shown in ["2026-10-31 – 2026-11-29", "Asia/Kathmandu", "2026-11-30"] {
        assert!(page.contains(shown), "no {shown}: {page}");
    }
}

#[tokio::test]
async fn a_year_pays_twelve_bases_of_a_monthly_plan_and_a_change_of_tier_is_shared_out_by_its_months() {
    let app = TestApp::with("[billing]\ninterval = \"year\"\nanchor = \"sign_up\"\nzone = \"Europe/Berlin\"").await;
    plan(&app, json!({})).await;
    plan_of(&app, "max", json!({"base": "120.00", "prices": []})).await;
    plan_of(&app, "annual", json!({"base": "365.00", "interval": "year", "prices": []})).await;
    let (kept, moved) = (app.tenant("Acme", "pro").await, app.tenant("Globex", "pro").await);
    let annual = app.tenant("Initech", "annual").await;
    assert_eq!(
        periods(&[bill(&app, &kept, "").await]),
        ["2026-11-09T23:00:00Z 2027-11-09T23:00:00Z"],
        "from the day of sign-up"
    );
    assert_eq!(bill(&app, &kept, "").await["total"], "360.00");
    // Six months and a half of thirty days later, in local time: 10 May and fifteen days and a half of 31.
    at(&app, "2027-05-25T09:59:00Z");
    record_units(&app, &kept, &[("apis", 50)]);
    record_units(&app, &moved, &[("apis", 50)]);
    at(&app, "2027-05-25T10:00:00Z");
    move_to(&app, &moved, "max").await;
    at(&app, "2027-11-09T22:59:59Z");
    assert_eq!(close(&app).await.drafted, 0, "the year runs");
    at(&app, "2027-11-10T00:00:00Z");
    close(&app).await;
    let of = async |tenant: &str| invoices(&app, tenant).await.remove(0);
    assert_eq!(lines(&of(&kept).await), ["base base 1 360.00", "usage apis 50 0.50"]);
    // 15.5 of 31 days: 6 × 30 + 15, and 60 + 5 × 120.
    let expected = ["base base 1 195.00", "usage apis 50 0.50", "base base 1 660.00"];
    assert_eq!(lines(&of(&moved).await), expected);
    assert_eq!(lines(&of(&annual).await), ["base base 1 365.00"]);
    assert_eq!(doctor_agrees(&app, "apis").await, ("100".to_owned(), "0".to_owned()));
}

#[tokio::test]
async fn months_on_a_yearly_plan_pay_their_days_and_the_year_in_all() {
    let app = TestApp::new().await;
    plan(&app, json!({"base": "365.00", "interval": "year", "prices": []})).await;
    let tenant = app.tenant("Acme", "pro").await;
    for month in 1..=12 {
        at(&app, &format!("2027-{month:02}-01T01:00:00Z"));
        close(&app).await;
    }
    let found = invoices(&app, &tenant).await;
    // A dollar a day.
    assert_eq!(totals(&found)[..4], [3_000, 3_100, 3_100, 2_800]);
    assert_eq!(totals(&found)[..12].iter().sum::<i64>(), 36_500);
}

#[tokio::test]
async fn every_ten_days_late_usage_of_a_month_that_is_not_closed_is_adjusted_too() {
    let app = TestApp::with("[billing]\ninterval = { days = 10 }\nanchor = \"2026-11-01\"").await;
    plan(&app, json!({"interval": {"days": 10}, "base": "10.00"})).await;
    let tenant = app.tenant("Acme", "pro").await;
    // Six periods: the first runs from the first to the eleventh.
    for (day, hour) in [("11-11", "01"), ("11-21", "01")] {
        at(&app, &format!("2026-{day}T{hour}:00:00Z"));
        close(&app).await;
    }
    // Late for the first of them, while November runs: no adjustment is noted of it.
    at(&app, "2026-11-02T00:00:00Z");
    record_units(&app, &tenant, &[("apis", 300)]);
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let found = invoices(&app, &tenant).await;
    let expected = [
        "2026-11-01T00:00:00Z 2026-11-11T00:00:00Z",
        "2026-11-11T00:00:00Z 2026-11-21T00:00:00Z",
        "2026-11-21T00:00:00Z 2026-12-01T00:00:00Z",
    ];
    assert_eq!(periods(&found), expected);
    assert_eq!(lines(&found[2]), ["base base 1 10.00", "usage apis 0 0.00", "adjustment apis 300 3.00"]);
    assert_eq!(found[2]["lines"][2]["adjusts"]["number"], found[0]["number"]);
    // And once more when November is closed and December has three periods since.
    at(&app, "2026-11-12T00:00:00Z");
    record_units(&app, &tenant, &[("apis", 20)]);
    for day in ["12-11", "12-21", "12-31"] {
        at(&app, &format!("2026-{day}T01:00:00Z"));
        close(&app).await;
    }
    let found = invoices(&app, &tenant).await;
    assert_eq!(lines(&found[3])[2..], ["adjustment apis 20 0.20"]);
    assert!(found[4..].iter().all(|invoice| lines(invoice).len() == 2), "once");
    assert_eq!(doctor_agrees(&app, "apis").await, ("320".to_owned(), "0".to_owned()));
}

#[tokio::test]
async fn a_period_of_five_days_looks_back_over_the_whole_month() {
    let app = TestApp::with("[billing]\ninterval = { days = 5 }\nanchor = \"2026-11-01\"").await;
    plan(&app, json!({"base": "0"})).await;
    let tenant = app.tenant("Acme", "pro").await;
    for day in [11, 16, 21, 26] {
        at(&app, &format!("2026-11-{day}T01:00:00Z"));
        close(&app).await;
    }
    at(&app, "2026-11-07T00:00:00Z");
    record_units(&app, &tenant, &[("apis", 300)]);
    at(&app, "2026-11-27T00:00:00Z");
    bill(&app, &tenant, "").await;
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let found = invoices(&app, &tenant).await;
    assert_eq!(lines(found.last().unwrap())[2..], ["adjustment apis 300 3.00"]);
}

async fn a_change_of_cadence(app: TestApp) {
    plan(&app, json!({})).await;
    let tenant = app.tenant("Acme", "pro").await;
    record_units(&app, &tenant, &[("apis", 100)]);
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let november = bill(&app, &tenant, "?period=2026-11").await;

    at(&app, "2026-12-20T00:00:00Z");
    let mut deeds = Audit::of(&app).await;
    // Two in one period: the last holds, with what the first had said and it does not.
    billing(&app, &tenant, json!({"interval": "year", "zone": "Asia/Kathmandu"})).await.expect(200);
    let said = billing(&app, &tenant, json!({"interval": "month", "anchor": "2026-01-15"})).await.expect(200).body;
    let cadence = ["interval", "anchor", "zone", "cadence_from"].map(|name| said[name].as_str().unwrap().to_owned());
    assert_eq!(cadence, ["month", "2026-01-15", "Asia/Kathmandu", "2027-01-01T00:00:00Z"]);
    assert_eq!(said["period"], json!({"from": "2026-12-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}));
    let again = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/billing")).await.expect(200).body;
    assert_eq!(again, said);
    let mut actions = deeds.actions().await;
    actions.retain(|action| action.starts_with("billing"));
    assert_eq!(actions, ["billing_cadence.changed", "billing_cadence.changed"]);

    for day in ["2026-12-31T10:00:00Z", "2027-01-05T10:00:00Z", "2027-01-20T10:00:00Z"] {
        at(&app, day);
        record_units(&app, &tenant, &[("apis", 10)]);
    }
    let app = app.restarted().await;
    at(&app, "2027-02-15T00:00:00Z");
    close(&app).await;
    let found = invoices(&app, &tenant).await;
    let expected = [
        "2026-11-01T00:00:00Z 2026-12-01T00:00:00Z",
        "2026-12-01T00:00:00Z 2027-01-01T00:00:00Z",
        // What lies between is short: 13 days, 18 hours and a quarter of the month from 15 December, there.
        "2027-01-01T00:00:00Z 2027-01-14T18:15:00Z",
        "2027-01-14T18:15:00Z 2027-02-14T18:15:00Z",
    ];
    assert_eq!(periods(&found), expected);
    // 3000 × 19,815 / 44,640 minutes = 1331.65…
    let bases: Vec<_> = found.iter().map(|invoice| cents(&invoice["lines"][0]["amount"])).collect();
    assert_eq!(bases, [3_000, 3_000, 1_332, 3_000]);
    let used: Vec<_> = found.iter().map(|invoice| invoice["lines"][1]["quantity"].as_str().unwrap()).collect();
    assert_eq!(used, ["100", "10", "10", "10"]);
    assert_eq!(found[2]["time_zone"], "Asia/Kathmandu");
    assert_eq!(bill(&app, &tenant, "?period=2026-11").await, november, "what was is as it was");
    assert_eq!(doctor_agrees(&app, "apis").await, ("130".to_owned(), "0".to_owned()));
}

#[tokio::test]
async fn a_change_of_cadence_holds_from_the_end_of_the_period_on() {
    Box::pin(a_change_of_cadence(TestApp::new().await)).await;
}

#[tokio::test]
async fn a_change_of_cadence_holds_from_the_end_of_the_period_on_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(a_change_of_cadence(app)).await;
}

#[tokio::test]
async fn a_change_that_is_taken_back_in_time_changes_nothing() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    billing(&app, &tenant, json!({"interval": {"days": 7}, "anchor": "sign_up"})).await.expect(200);
    let back = billing(&app, &tenant, json!({"interval": "month", "anchor": "1970-01-01"})).await.expect(200).body;
    assert_eq!(back["cadence_from"], Value::Null);
    at(&app, "2027-01-01T01:00:00Z");
    close(&app).await;
    let expected = ["2026-11-01T00:00:00Z 2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z 2027-01-01T00:00:00Z"];
    assert_eq!(periods(&invoices(&app, &tenant).await), expected);
}

/// A change while the invoice of the month before is not even drafted, to shorter periods: none is missed.
#[tokio::test]
async fn a_change_to_shorter_periods_is_noticed_by_the_next_pass() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    at(&app, "2026-12-03T00:00:00Z");
    billing(&app, &tenant, json!({"interval": {"days": 7}, "anchor": "2027-01-01"})).await.expect(200);
    at(&app, "2027-01-22T00:00:00Z");
    assert_eq!(close(&app).await.drafted, 2 + 3);
    at(&app, "2027-01-28T23:59:59Z");
    assert_eq!(close(&app).await.drafted, 0);
    at(&app, "2027-01-29T00:00:00Z");
    assert_eq!(close(&app).await.drafted, 1);
}

#[tokio::test]
async fn what_says_no_cadence_is_refused_and_changes_nothing() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let before = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/billing")).await.expect(200).body;
    for (wrong, field) in [
        (json!({"interval": "week"}), "interval"),
        (json!({"interval": 30}), "interval"),
        (json!({"interval": {"days": 0}}), "interval"),
        (json!({"interval": {"days": 367}}), "interval"),
        (json!({"interval": {"weeks": 2}}), "interval"),
        (json!({"anchor": "the first"}), "anchor"),
        (json!({"anchor": "2026-02-30"}), "anchor"),
        (json!({"anchor": 31}), "anchor"),
        (json!({"zone": "Mars/Phobos"}), "zone"),
        (json!({"zone": ""}), "zone"),
        (json!({"zone": "Europe/Berlin", "tax_rates": [{"name": "VAT", "percent": "101"}]}), "tax_rates[0].percent"),
    ] {
        billing(&app, &tenant, wrong).await.refuses(422, &[field]);
    }
    let after = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/billing")).await.expect(200).body;
    assert_eq!(before, after);
    app.admin().await.delete(&format!("/admin/v1/tenants/{tenant}")).await.expect(200);
    billing(&app, &tenant, json!({"interval": "year"})).await.refuses(404, &[]);
}

#[tokio::test]
async fn a_month_names_the_period_that_begins_in_it_and_an_instant_the_one_it_lies_in() {
    let app = TestApp::with("[billing]\ninterval = \"year\"\nanchor = \"2026-11-01\"\nzone = \"Asia/Kathmandu\"").await;
    let tenant = app.tenant("Acme", "standard").await;
    let year = "2026-10-31T18:15:00Z 2027-10-31T18:15:00Z";
    for query in ["?period=2026-11", "?at=2027-10-31T18:14:59Z", "?at=2026-10-31T18:15:00Z", ""] {
        assert_eq!(periods(&[bill(&app, &tenant, query).await]), [year], "{query}");
    }
    assert_eq!(
        bill(&app, &tenant, "?at=2026-10-31T18:14:59Z").await["lines"],
        json!([]),
        "before there was an account"
    );
    let (admin, owner) = (app.admin().await, app.owner_of("Acme").await);
    let path = format!("/admin/v1/tenants/{tenant}/bill");
    for month in ["2026-10", "2026-12", "2027-05"] {
        admin.get(&format!("{path}?period={month}")).await.refuses(404, &[]);
        owner.get(&format!("/v1/bill?period={month}")).await.refuses(404, &[]);
    }
    for wrong in ["2026", "2026-13", "2026-11-01", "-2026-11", "0000-01", "november", ""] {
        admin.get(&format!("{path}?period={wrong}")).await.refuses(422, &["period"]);
    }
    // Of several the first.
    billing(&app, &tenant, json!({"interval": {"days": 7}, "anchor": "2026-01-01", "zone": "UTC"})).await.expect(200);
    let first = bill(&app, &tenant, "?period=2027-12").await;
    assert_eq!(periods(&[first]), ["2027-12-02T00:00:00Z 2027-12-09T00:00:00Z"]);
}

#[tokio::test]
async fn a_price_that_holds_from_the_next_period_never_cuts_one_that_runs() {
    let app = TestApp::with("[billing]\nanchor = \"2026-01-15\"").await;
    plan(&app, json!({})).await;
    let tenant = app.tenant("Acme", "pro").await;
    at(&app, "2026-11-20T00:00:00Z");
    let next = json!({"isolation": "pool", "currency": "USD", "base": "60.00"});
    let put = app.admin().await.put("/admin/v1/plans/pro", next).await.expect(200);
    assert_eq!((put.text("/version"), put.text("/effective_from")), ("2".into(), "2026-12-01T00:00:00Z".into()));
    at(&app, "2026-12-10T00:00:00Z");
    // From 15 November to 15 December: all of it by the first version.
    assert_eq!(lines(&bill(&app, &tenant, "").await)[0], "base base 1 30.00");
    assert_eq!(lines(&bill(&app, &tenant, "?at=2026-12-15T00:00:00Z").await), ["base base 1 60.00"]);
    // A new account that begins in December has it, and one in November's last days.
    let late = app.tenant("Globex", "pro").await;
    assert_eq!(lines(&bill(&app, &late, "").await)[0], "base base 1 30.00", "its period began before");
    // What is told to hold now cuts: 25 of 30 days, and 5.
    plan_of(&app, "pro", json!({"base": "90.00", "prices": []})).await;
    assert_eq!(lines(&bill(&app, &tenant, "").await), ["base base 1 25.00", "usage apis 0 0.00", "base base 1 15.00"]);
    let app = app.restarted().await;
    assert_eq!(lines(&bill(&app, &tenant, "").await).len(), 3, "also after a restart");
}

#[tokio::test]
async fn a_price_of_the_next_period_is_that_of_the_first_one_to_begin_after_it_was_made() {
    let app = TestApp::new().await;
    plan(&app, json!({})).await;
    let mut tenants = Vec::new();
    for (name, cadence) in [
        ("Acme", json!({"zone": "Europe/Berlin"})),
        ("Globex", json!({"anchor": "2026-01-25"})),
        ("Initech", json!({"zone": "America/New_York"})),
        ("Umbrella", json!({})),
    ] {
        let tenant = app.tenant(name, "pro").await;
        billing(&app, &tenant, cadence).await.expect(200);
        tenants.push(tenant);
    }
    // Their cadences hold from December on.
    at(&app, "2027-01-10T10:00:30Z");
    let next = |base: &str| json!({"isolation": "pool", "currency": "USD", "base": base});
    app.admin().await.put("/admin/v1/plans/pro", next("60.00")).await.expect(200);
    // A period that begins with the minute in which another version is made runs already.
    at(&app, "2027-01-31T23:00:00Z");
    app.admin().await.put("/admin/v1/plans/pro", next("90.00")).await.expect(200);
    let app = app.restarted().await;
    for (tenant, expected) in tenants.iter().zip([
        [("2026-12-31T23:00:00Z", "30.00"), ("2027-01-31T23:00:00Z", "60.00"), ("2027-02-28T23:00:00Z", "90.00")],
        [("2026-12-25T00:00:00Z", "30.00"), ("2027-01-25T00:00:00Z", "60.00"), ("2027-02-25T00:00:00Z", "90.00")],
        [("2027-01-01T05:00:00Z", "30.00"), ("2027-02-01T05:00:00Z", "90.00"), ("2027-03-01T05:00:00Z", "90.00")],
        [("2027-01-01T00:00:00Z", "30.00"), ("2027-02-01T00:00:00Z", "90.00"), ("2027-03-01T00:00:00Z", "90.00")],
    ]) {
        for (from, base) in expected {
            let owed = bill(&app, tenant, &format!("?at={from}")).await;
            let found = (owed["period"]["from"].as_str().unwrap(), lines(&owed).remove(0));
            assert_eq!(found, (from, format!("base base 1 {base}")));
        }
    }
}

#[tokio::test]
async fn a_commitment_is_compared_once_a_period_however_it_is_cut() {
    let app = TestApp::new().await;
    plan(&app, json!({"commitment": "100.00"})).await;
    plan_of(&app, "max", json!({"commitment": "400.00", "base": "40.00"})).await;
    let (kept, moved) = (app.tenant("Acme", "pro").await, app.tenant("Globex", "pro").await);
    at(&app, "2026-11-16T00:00:00Z");
    // All in the first half: more than half of the commitment, and less than all of it.
    record_units(&app, &kept, &[("apis", 6_500)]);
    record_units(&app, &moved, &[("apis", 6_500)]);
    assert_eq!(bill(&app, &kept, "").await["total"], "100.00");
    // The same plan once more, in mid-period.
    plan(&app, json!({"commitment": "100.00"})).await;
    move_to(&app, &moved, "max").await;
    at(&app, "2026-11-30T00:00:00Z");
    let cut = bill(&app, &kept, "").await;
    assert_eq!(cut["total"], "100.00");
    // 30 + 65, and 5 are missing; the line is about both parts.
    let expected = ["base base 1 15.00", "usage apis 0 0.00", "base base 1 15.00", "usage apis 6500 65.00"];
    assert_eq!(lines(&cut)[..4], expected);
    assert_eq!(lines(&cut)[4..], ["commitment commitment 1 5.00"]);
    assert_eq!(cut["lines"][4]["period"], cut["period"]);
    // Half of each: 50 + 200, of which came 15 + 20 + 65.
    let of_two = bill(&app, &moved, "").await;
    assert_eq!(
        (&of_two["total"], lines(&of_two).last().unwrap().as_str()),
        (&json!("250.00"), "commitment commitment 1 150.00")
    );
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let found = [invoices(&app, &kept).await.remove(0), invoices(&app, &moved).await.remove(0)];
    assert_eq!(totals(&found), [10_000, 25_000]);
    assert_eq!(doctor_agrees(&app, "apis").await, ("13000".to_owned(), "0".to_owned()));
}

#[tokio::test]
async fn a_pass_with_nothing_to_do_looks_at_nobody() {
    let app = TestApp::new().await;
    for name in ["Acme", "Globex", "Initech"] {
        app.tenant(name, "standard").await;
    }
    let gone = app.tenant("Gone", "standard").await;
    app.admin().await.delete(&format!("/admin/v1/tenants/{gone}")).await.expect(200);
    let due = async || {
        let store = Store::from_ref(app.app.state());
        let mut tx = store.read(Scope::Job("test")).await.unwrap();
        tx.accounts_due(app.clock.now(), None, 100).await.unwrap().len()
    };
    assert_eq!(due().await, 0);
    at(&app, "2026-12-01T00:00:00Z");
    assert_eq!((due().await, close(&app).await.drafted, due().await), (3, 3, 0), "who left has the last one already");
    at(&app, "2027-01-01T00:00:00Z");
    assert_eq!((due().await, close(&app).await.drafted, due().await), (3, 3, 0), "not the one that is gone");
}

#[tokio::test]
async fn a_tenant_owes_in_the_currency_of_its_tiers_plan_and_in_no_other() {
    let app = TestApp::new().await;
    let yen =
        json!({"currency": "JPY", "base": "3000", "prices": [{"meter": "apis", "model": "per_unit", "unit": "0.5"}]});
    plan_of(&app, "tokyo", yen).await;
    plan(&app, json!({})).await;
    let tenant = app.tenant("Acme", "tokyo").await;
    record_units(&app, &tenant, &[("apis", 3)]);
    let owed = bill(&app, &tenant, "").await;
    assert_eq!(
        (lines(&owed), &owed["currency"]),
        (vec!["base base 1 3000".into(), "usage apis 3 2".into()], &json!("JPY"))
    );
    let (admin, path) = (app.admin().await, format!("/admin/v1/tenants/{tenant}/tier"));
    for dry_run in [true, false] {
        let refused = admin.post(&path, json!({"tier": "pro", "dry_run": dry_run})).await.refuses(409, &[]);
        assert_eq!(refused.text("/detail"), "the plan of pro is in USD, and this tenant owes in JPY");
    }
    assert_eq!(admin.get(&format!("/admin/v1/tenants/{tenant}")).await.expect(200).text("/tier"), "tokyo");
    // Not by a new version either.
    let dollars = json!({"isolation": "pool", "currency": "USD", "base": "30.00"});
    admin.put("/admin/v1/plans/tokyo", dollars).await.refuses(422, &["currency"]);
    at(&app, "2026-12-01T01:00:00Z");
    close(&app).await;
    let invoice = invoices(&app, &tenant).await.remove(0);
    assert_eq!((&invoice["total"], &invoice["currency"]), (&json!("3002"), &json!("JPY")));
}
