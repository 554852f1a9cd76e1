//! What operators ask: liveness, readiness, numbers.

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    routing::get,
};

use crate::{app::AppState, metering::Metering, provisioning::Reconciler};

/// Where they ask.
pub const PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Liveness, readiness, and numbers for Prometheus.
pub fn routes() -> Router<AppState> {
    Router::new().route(PATHS[0], get(|| async { "ok\n" })).route(PATHS[1], get(ready)).route(PATHS[2], get(metrics))
}

/// Ready is who can record usage, count it and reach the store: what `GET /admin/v1/metering/health` calls `ok`.
async fn ready(State(metering): State<Metering>) -> (StatusCode, String) {
    match metering.health().await.error() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// Prometheus text format, version 0.0.4.
async fn metrics(
    State(metering): State<Metering>,
    State(reconciler): State<Reconciler>,
) -> ([(HeaderName, &'static str); 1], String) {
    let health = metering.health_here();
    let (looks, repairs, open, round_s) = reconciler.counts().all();
    let failing = u8::from(health.error().is_some());
    let text = format!(
        "# HELP tollgate_journal_records_total Usage records written since the journal began.\n\
         # TYPE tollgate_journal_records_total counter\n\
         tollgate_journal_records_total {}\n\
         # HELP tollgate_journal_durable_records_total Of these, records that the disk has.\n\
         # TYPE tollgate_journal_durable_records_total counter\n\
         tollgate_journal_durable_records_total {}\n\
         # HELP tollgate_metering_failing Whether usage cannot be recorded or counted.\n\
         # TYPE tollgate_metering_failing gauge\n\
         tollgate_metering_failing {failing}\n\
         # HELP tollgate_journal_counted_records_total Of these, records that the ledger has.\n\
         # TYPE tollgate_journal_counted_records_total counter\n\
         tollgate_journal_counted_records_total {}\n\
         # HELP tollgate_journal_uncounted_age_seconds Age of the oldest record that the ledger does not have.\n\
         # TYPE tollgate_journal_uncounted_age_seconds gauge\n\
         tollgate_journal_uncounted_age_seconds {}\n\
         # HELP tollgate_reconcile_looks_total Looks at tenants' infrastructure.\n\
         # TYPE tollgate_reconcile_looks_total counter\n\
         tollgate_reconcile_looks_total {looks}\n\
         # HELP tollgate_reconcile_repairs_total Drift that was mended.\n\
         # TYPE tollgate_reconcile_repairs_total counter\n\
         tollgate_reconcile_repairs_total {repairs}\n\
         # HELP tollgate_reconcile_round_seconds How long the last round took that ended here.\n\
         # TYPE tollgate_reconcile_round_seconds gauge\n\
         tollgate_reconcile_round_seconds {round_s}\n\
         # HELP tollgate_drift_open What is not as it should be of tenants' infrastructure.\n\
         # TYPE tollgate_drift_open gauge\n\
         tollgate_drift_open {open}\n",
        health.journal.last_seq,
        health.journal.durable_seq,
        health.journal.counted_seq,
        health.uncounted_age_s().unwrap_or(0),
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
