//! "No usage" and "metering is broken" look different.

use axum::extract::FromRef as _;
use sqlx::{Connection as _, SqliteConnection};
use tollgate::metering::Metering;

use super::ledger::{record_units, try_record};
use crate::support::{actors::Actor, app::TestApp};

async fn health(admin: &Actor<'_>) -> serde_json::Value {
    admin.get("/admin/v1/metering/health").await.expect(200).body
}

/// What `/readyz` says must agree with what the administrator reads.
async fn is(admin: &Actor<'_>, status: &str) -> serde_json::Value {
    let health = health(admin).await;
    assert_eq!(health["status"], status, "{health}");
    assert_eq!(health["error"].is_null(), status == "ok", "{health}");
    let ready = admin.get("/readyz").await;
    assert_eq!(ready.status == 200, status == "ok", "{}", ready.body);
    health
}

async fn execute(app: &TestApp, sql: &'static str) {
    let url = format!("sqlite:{}", app.folder.path().join("tollgate.db").display());
    let mut store = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query(sql).execute(&mut store).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_node_without_usage_is_well_and_has_no_lag() {
    let app = TestApp::new().await;
    let health = is(&app.admin().await, "ok").await;
    for (field, value) in [("last_seq", 0), ("not_durable", 0), ("not_counted", 0)] {
        assert_eq!(health[field], value, "{field}");
    }
    assert!(health["oldest_uncounted_s"].is_null() && health["last_error"].is_null(), "{health}");
    assert_eq!(health["last_roll_at"], crate::support::app::NOW);
}

#[tokio::test]
async fn usage_that_cannot_be_counted_is_told_with_its_age_and_the_fault_is_remembered() {
    let app = TestApp::new().await;
    let acme = app.tenant("Acme", "free").await;
    let admin = app.admin().await;
    let metering = Metering::from_ref(app.app.state());
    record_units(&app, &acme, &[("apis", 1)]);
    metering.catch_up().await.unwrap();
    let health = is(&admin, "ok").await;
    assert_eq!((&health["counted_seq"], &health["not_counted"]), (&1.into(), &0.into()));
    assert_eq!(health["last_flush_at"], crate::support::app::NOW);

    execute(&app, "ALTER TABLE usage_totals RENAME TO away").await;
    app.clock.advance_secs(10);
    record_units(&app, &acme, &[("apis", 1)]);
    app.clock.advance_secs(5);
    record_units(&app, &acme, &[("apis", 1)]);
    metering.catch_up().await.unwrap_err();
    app.clock.advance_secs(5);
    let health = is(&admin, "failing").await;
    assert_eq!((&health["not_counted"], &health["not_durable"]), (&2.into(), &0.into()), "{health}");
    assert_eq!(health["oldest_uncounted_s"], 10);
    assert_eq!(health["last_error"]["at"], "2026-11-10T12:00:15Z");
    assert_eq!(health["last_roll_at"], crate::support::app::NOW);
    assert!(health["error"].as_str().unwrap().contains("usage_totals"), "{health}");

    execute(&app, "ALTER TABLE away RENAME TO usage_totals").await;
    metering.catch_up().await.unwrap();
    let health = is(&admin, "ok").await;
    assert_eq!(health["not_counted"], 0);
    assert_eq!(health["last_roll_at"], "2026-11-10T12:00:20Z");
    assert_eq!(health["last_error"]["at"], "2026-11-10T12:00:15Z", "it is remembered");
}

#[tokio::test]
async fn usage_that_nobody_counts_is_a_fault_though_nothing_fails() {
    let app = TestApp::new().await;
    let acme = app.tenant("Acme", "free").await;
    let admin = app.admin().await;
    record_units(&app, &acme, &[("apis", 1)]);
    app.clock.advance_secs(60);
    assert_eq!(is(&admin, "ok").await["oldest_uncounted_s"], 60);
    app.clock.advance_secs(1);
    is(&admin, "failing").await;
    Metering::from_ref(app.app.state()).catch_up().await.unwrap();
    is(&admin, "ok").await;
}

#[tokio::test]
async fn a_journal_without_room_is_told_and_forgotten_when_there_is_room_again() {
    let app = TestApp::with("[metering]\nsegment_bytes = 262144").await;
    let acme = app.tenant("Acme", "free").await;
    let admin = app.admin().await;
    let (journal, away) = (app.folder.path().join("journal"), app.folder.path().join("away"));
    let until = async |status: &str| {
        let reached = async {
            while health(&admin).await["status"] != status {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), reached).await.unwrap();
    };
    std::fs::rename(&journal, &away).unwrap();
    // Until the next segment is used up, and there is no room for another.
    let mut written = 0_u64;
    while health(&admin).await["status"] == "ok" {
        assert!(written < 20_000, "it does not run out of room");
        written += (0..100).filter_map(|_| try_record(&app, &acme, &[("apis", 1_000)]).ok()).count() as u64;
    }
    let failing = is(&admin, "failing").await;
    assert!(failing["last_error"]["error"].as_str().is_some_and(|error| error.contains("journal")), "{failing}");
    std::fs::rename(&away, &journal).unwrap();
    until("ok").await;
    Metering::from_ref(app.app.state()).catch_up().await.unwrap();
    let well = is(&admin, "ok").await;
    assert_eq!((&well["counted_seq"], &well["not_counted"]), (&written.into(), &0.into()));
    assert!(!well["last_error"].is_null());
    Metering::from_ref(app.app.state()).close().await.unwrap();
    is(&admin, "failing").await;
}
