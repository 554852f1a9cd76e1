//! What operators ask: liveness, readiness, numbers.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    routing::get,
};

use crate::{app::AppState, metering::Metering, store::Store};

/// How long readiness waits for the store.
const PATIENCE: Duration = Duration::from_secs(1);

/// Liveness, readiness, and numbers for Prometheus.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Ready is who can record usage and reach the store.
async fn ready(State(metering): State<Metering>, State(store): State<Store>) -> (StatusCode, String) {
    let health = metering.health();
    if let Some(error) = health.journal.error.or(health.roller_error) {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("metering: {error}\n"));
    }
    match tokio::time::timeout(PATIENCE, store.ping()).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("store: {error}\n")),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "store: no answer within a second\n".to_owned()),
    }
}

/// Prometheus text format, version 0.0.4.
async fn metrics(State(metering): State<Metering>) -> ([(HeaderName, &'static str); 1], String) {
    let health = metering.health();
    let failing = u8::from(health.journal.error.is_some() || health.roller_error.is_some());
    let text = format!(
        "# HELP tollgate_journal_records_total Usage records written since the journal began.\n\
         # TYPE tollgate_journal_records_total counter\n\
         tollgate_journal_records_total {}\n\
         # HELP tollgate_journal_durable_records_total Of these, records that the disk has.\n\
         # TYPE tollgate_journal_durable_records_total counter\n\
         tollgate_journal_durable_records_total {}\n\
         # HELP tollgate_metering_failing Whether usage cannot be recorded or counted.\n\
         # TYPE tollgate_metering_failing gauge\n\
         tollgate_metering_failing {failing}\n",
        health.journal.last_seq, health.journal.durable_seq,
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
