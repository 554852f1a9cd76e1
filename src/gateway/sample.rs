//! The built-in protected API, to try the gateway with: `/sample/hello`, `/sample/compute`, `/sample/echo`,
//! `/sample/stream`.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::to_bytes,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response, Sse, sse::Event},
    routing::{any, get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tower::util::BoxCloneSyncService;

use super::{
    headers::{TENANT_ID, TENANT_TIER, TOLLGATE_USAGE},
    stack::Own,
};
use crate::web::{Json, Kind, Problem, Query, extract::MAX_BODY_BYTES, instance::write_problems};

/// The most work of one call.
const MAX_WORK: u32 = 1_000_000;
/// Hashes of a unit of work: about a tenth of a millisecond.
const HASHES: u32 = 500;
/// Units of work that are reported as one millisecond of compute.
const WORK_PER_MS: u32 = 10;
/// The most events of one stream.
const MAX_EVENTS: u32 = 1_000;
/// The longest pause between events, in milliseconds.
const MAX_INTERVAL_MS: u64 = 10_000;

/// The sample API as a service.
pub(super) fn service() -> Own {
    let router: Router = Router::new()
        .route("/sample/hello", get(hello))
        .route("/sample/compute", post(compute))
        .route("/sample/echo", any(echo))
        .route("/sample/stream", get(events))
        .fallback(|| async { Problem::new(Kind::NOT_FOUND, "the sample API has hello, compute, echo and stream") })
        .layer(axum::middleware::from_fn(write_problems));
    BoxCloneSyncService::new(router)
}

fn text<'h>(headers: &'h HeaderMap, name: &axum::http::HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn hello(headers: HeaderMap) -> Json<Value> {
    Json(json!({
        "message": "hello",
        "tenant_id": text(&headers, &TENANT_ID),
        "tier": text(&headers, &TENANT_TIER),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Work {
    work: u32,
}

async fn compute(Json(Work { work }): Json<Work>) -> Result<Response, Problem> {
    if work > MAX_WORK {
        return Err(Problem::invalid_field("work", format!("must be at most {MAX_WORK}")));
    }
    let digest = tokio::task::spawn_blocking(move || work_off(work)).await.map_err(Problem::internal)?;
    let (compute_ms, memory) = (work / WORK_PER_MS, work / 100);
    let mut response = Json(json!({"work": work, "digest": digest, "compute_ms": compute_ms})).into_response();
    let usage = format!("compute={compute_ms}, memory={memory}");
    if let Ok(usage) = HeaderValue::try_from(usage) {
        response.headers_mut().insert(TOLLGATE_USAGE, usage);
    }
    Ok(response)
}

/// Real work: a chain of hashes.
fn work_off(work: u32) -> String {
    let mut digest = blake3::hash(b"tollgate");
    for _ in 0..u64::from(work) * u64::from(HASHES) {
        digest = blake3::hash(digest.as_bytes());
    }
    digest.to_hex().to_string()
}

async fn echo(request: Request) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| crate::web::extract::body_problem(&error))?;
    let mut headers = Map::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        match headers.get_mut(name.as_str()) {
            Some(Value::Array(values)) => values.push(value.into()),
            Some(first) => *first = json!([first.take(), value]),
            None => drop(headers.insert(name.to_string(), value.into())),
        }
    }
    let mut seen = json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "headers": headers,
    });
    match String::from_utf8(bytes.to_vec()) {
        Ok(text) => seen["body"] = text.into(),
        Err(error) => seen["body_base64"] = STANDARD.encode(error.as_bytes()).into(),
    }
    Ok(Json(seen))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamParams {
    events: Option<u32>,
    interval_ms: Option<u64>,
}

async fn events(Query(params): Query<StreamParams>) -> Result<Response, Problem> {
    let events = params.events.unwrap_or(5);
    let interval_ms = params.interval_ms.unwrap_or(100);
    if events > MAX_EVENTS {
        return Err(Problem::invalid_field("events", format!("must be at most {MAX_EVENTS}")));
    }
    if interval_ms > MAX_INTERVAL_MS {
        return Err(Problem::invalid_field("interval_ms", format!("must be at most {MAX_INTERVAL_MS}")));
    }
    let mut response = Sse::new(ticks(events, Duration::from_millis(interval_ms))).into_response();
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn ticks(events: u32, interval: Duration) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(0, move |n| async move {
        if n == events {
            return None;
        }
        if n > 0 {
            tokio::time::sleep(interval).await;
        }
        let event = Event::default().event("tick").id(n.to_string()).data(json!({"n": n}).to_string());
        Some((Ok(event), n + 1))
    })
}
