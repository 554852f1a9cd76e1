//! Random lives of tenants whose periods are cut in all ways: usage that comes late, moves between tiers, changes of cadence. Whatever
//! happens, periods follow each other without gaps, all that was metered is billed once, and invoices come to what bills say.

use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate::kernel::Timestamp;

use super::{
    billing_periods::doctor_agrees,
    invoices::{adds_up, at, cents, close, invoices, plan_of},
    ledger::record_units,
};
use crate::support::app::TestApp;

const BEGIN: &str = "2026-12-01T00:00:00Z";
const DAY_S: i64 = 86_400;
const WEEKS: usize = 14;

/// What happens in a week, so many seconds after it began.
#[derive(Debug, Clone)]
enum Happening {
    Used {
        requests: i64,
    },
    /// So many days before.
    Late {
        days: i64,
        requests: i64,
    },
    Moved,
    Recut {
        to: usize,
    },
}

fn happening() -> impl Strategy<Value = (i64, Happening)> {
    let what = prop_oneof![
        5 => (1_i64..30_000).prop_map(|requests| Happening::Used { requests }),
        3 => (1_i64..34, 1_i64..9_000).prop_map(|(days, requests)| Happening::Late { days, requests }),
        2 => Just(Happening::Moved),
        2 => (0..6_usize).prop_map(|to| Happening::Recut { to }),
    ];
    (0..7 * DAY_S, what)
}

fn cadence(number: usize) -> Value {
    match number {
        0 => json!({"interval": "month", "anchor": "2026-01-31", "zone": "America/New_York"}),
        1 => json!({"interval": {"days": 10}, "anchor": "sign_up", "zone": "Asia/Kathmandu"}),
        2 => json!({"interval": {"days": 3}, "zone": "Australia/Lord_Howe"}),
        3 => json!({"interval": {"days": 45}, "anchor": "2026-11-15"}),
        4 => json!({"interval": "month", "anchor": "2026-01-15", "zone": "Pacific/Apia"}),
        _ => json!({"interval": "month", "anchor": "month", "zone": "UTC"}),
    }
}

async fn live(first: usize, by_day: bool, weeks: Vec<Vec<(i64, Happening)>>) {
    let proration = if by_day { "day" } else { "second" };
    let app = TestApp::with(&format!("[billing]\nproration = \"{proration}\"")).await;
    let tiers = json!([{"up_to": "5000", "unit": "0.003"}, {"up_to": null, "unit": "0.0017", "flat": "1"}]);
    let prices = json!([{"meter": "apis", "model": "graduated", "included": "1000", "tiers": tiers}]);
    plan_of(&app, "pro", json!({"prices": prices, "commitment": "45.00"})).await;
    plan_of(&app, "max", json!({"prices": prices, "base": "1000.01", "interval": "year", "trial_days": 20})).await;
    let begin: Timestamp = BEGIN.parse().unwrap();
    app.clock.set(begin);
    let tenant = app.tenant("Acme", "pro").await;
    let recut = async |to: usize| {
        let path = format!("/admin/v1/tenants/{tenant}/billing");
        app.admin().await.patch(&path, cadence(to)).await.expect(200);
    };
    recut(first).await;
    let (mut used, mut tier, mut week) = (0, "pro", begin);
    for mut happenings in weeks {
        happenings.sort_by_key(|(after, _)| *after);
        for (after, happening) in happenings {
            let now = week.plus_secs(after);
            app.clock.set(now);
            match happening {
                Happening::Used { requests } => {
                    record_units(&app, &tenant, &[("apis", requests)]);
                    used += requests;
                }
                Happening::Late { days, requests } => {
                    app.clock.set(now.plus_secs(-days * DAY_S).max(begin));
                    record_units(&app, &tenant, &[("apis", requests)]);
                    app.clock.set(now);
                    // It is counted now, whether its month is closed or not.
                    app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/bill")).await.expect(200);
                    used += requests;
                }
                Happening::Moved => {
                    tier = if tier == "pro" { "max" } else { "pro" };
                    let path = format!("/admin/v1/tenants/{tenant}/tier");
                    app.admin().await.post(&path, json!({"tier": tier})).await.expect(200);
                }
                Happening::Recut { to } => recut(to).await,
            }
            close(&app).await;
        }
        week = week.plus_secs(7 * DAY_S);
        app.clock.set(week);
        close(&app).await;
    }
    for months in 1..=6 {
        app.clock.set(week.plus_secs(months * 31 * DAY_S));
        close(&app).await;
    }
    is_billed_once(&app, &tenant).await;
    let (billed, unbilled) = doctor_agrees(&app, "apis").await;
    assert_eq!((billed, unbilled), (used.to_string(), "0".to_owned()));
}

/// Periods follow each other, and what invoices have of each is what its bill says.
async fn is_billed_once(app: &TestApp, tenant: &str) {
    let all = invoices(app, tenant).await;
    let edge = |of: &Value, name: &str| of["period"][name].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(edge(&all[0], "from") <= BEGIN.parse().unwrap());
    for pair in all.windows(2) {
        assert_eq!(edge(&pair[0], "to"), edge(&pair[1], "from"));
    }
    let lines = || all.iter().flat_map(|invoice| invoice["lines"].as_array().unwrap());
    // The last ones may still be changed by what is late.
    for invoice in &all {
        adds_up(invoice);
        let (from, to) = (edge(invoice, "from"), edge(invoice, "to"));
        let own = lines().filter(|line| from <= edge(line, "from") && edge(line, "from") < to);
        let sum: i64 = own.map(|line| cents(&line["amount"])).sum();
        let bill = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/bill?at={from}")).await.expect(200).body;
        assert_eq!((edge(&bill, "from"), edge(&bill, "to")), (from, to), "a period never moves");
        assert_eq!(sum, cents(&bill["total"]), "{bill:#} {all:#?}");
    }
}

/// As many as run in some seconds; `PROPTEST_CASES` for more.
fn cases() -> ProptestConfig {
    let cases = ProptestConfig::default().cases;
    // The library's own number is meant for tests that take microseconds.
    ProptestConfig { cases: if cases == 256 { 4 } else { cases }, max_shrink_iters: 40, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn however_time_is_cut_what_was_metered_is_billed_once(
        first in 0..6_usize,
        by_day in any::<bool>(),
        weeks in prop::collection::vec(prop::collection::vec(happening(), 0..4), WEEKS),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Box::pin(live(first, by_day, weeks)));
    }
}

#[tokio::test]
async fn a_bill_of_a_period_is_the_same_before_and_after_a_change() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let path = format!("/admin/v1/tenants/{tenant}/bill?at=2026-11-20T00:00:00Z");
    let before = app.admin().await.get(&path).await.expect(200).body;
    for number in 0..6 {
        app.admin().await.patch(&format!("/admin/v1/tenants/{tenant}/billing"), cadence(number)).await.expect(200);
        assert_eq!(app.admin().await.get(&path).await.expect(200).body, before);
    }
    at(&app, "2027-03-01T00:00:00Z");
    close(&app).await;
    let first = invoices(&app, &tenant).await.remove(0);
    assert_eq!(first["period"], before["period"]);
}
