//! The usage API in the shapes of OpenMeter, so that its SDKs work unchanged: `/api/v1/events` and `/api/v1/meters`.
//!
//! What differs from the rest of the API is theirs: camel case, bare lists, numbers instead of texts, 400 for input
//! that is wrong.

use std::collections::BTreeMap;

use axum::{
    body::{Body, to_bytes},
    extract::{FromRef, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Metering, Outcome, Subjects, UsageQuery, WindowTotal,
    event::Sent,
    openmeter_meters_http::{self, no_meter},
    openmeter_query::{QueryBody, parse_query},
};
use crate::{
    kernel::{Faults, TenantId, Timestamp},
    store::EventFilter,
    web::{
        Json, Kind, Path, Problem, UsageScope, Verifier,
        extract::{MAX_BODY_BYTES, body_problem, from_json},
    },
};

/// The most events of one request.
const MAX_BATCH: usize = 1_000;
/// Events listed at once.
const MAX_LISTED: i64 = 100;

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Metering: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(ingest_events, list_events))
        .merge(openmeter_meters_http::routes())
        .routes(routes!(query_meter, query_meter_by_body))
        .routes(routes!(list_meter_subjects))
        .routes(routes!(list_group_values))
}

/// How the body of a request is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    One,
    Batch,
    Either,
}

fn form(headers: &HeaderMap) -> Option<Form> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    match value.split(';').next()?.trim().to_ascii_lowercase().as_str() {
        "application/cloudevents+json" => Some(Form::One),
        "application/cloudevents-batch+json" => Some(Form::Batch),
        "application/json" => Some(Form::Either),
        _ => None,
    }
}

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutcomeView {
    id: String,
    source: String,
    /// `counted`, or `known` when it had been counted before.
    outcome: &'static str,
}

/// Takes events in: one CloudEvent or a batch of up to 1,000, all or none. The answer comes after they are on disk.
#[utoipa::path(post, path = "/api/v1/events", tag = "usage", request_body = Value, responses(
    (status = 204), (status = 200, body = Vec<OutcomeView>, description = "with `Prefer: return=representation`"),
    (status = 400), (status = 403), (status = 409), (status = 413), (status = 415)))]
async fn ingest_events(
    scope: UsageScope,
    State(metering): State<Metering>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    scope.require_scope("usage:write")?;
    let Some(form) = form(request.headers()) else {
        let types = "application/cloudevents+json, application/cloudevents-batch+json or application/json";
        return Err(Problem::new(Kind::UNSUPPORTED_MEDIA_TYPE, format!("the body must be {types}")));
    };
    let prefer = request.headers().get_all("prefer").iter();
    let representation =
        prefer.filter_map(|value| value.to_str().ok()).any(|value| value.contains("return=representation"));
    let bytes = to_bytes(request.into_body(), MAX_BODY_BYTES).await.map_err(|error| body_problem(&error))?;
    let body = serde_json::from_slice(&bytes).or_else(|_| from_json(&bytes))?;
    let (sent, listed) = parse_events(body, form, &metering)?;
    if !representation {
        metering.take_events(scope.scope, sent, listed).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let names: Vec<(String, String)> = sent.iter().map(|sent| (sent.id.clone(), sent.source.clone())).collect();
    let outcomes = metering.take_events(scope.scope, sent, listed).await?;
    let view = |((id, source), outcome): ((String, String), Outcome)| OutcomeView {
        id,
        source,
        outcome: match outcome {
            Outcome::Counted => "counted",
            Outcome::Known => "known",
        },
    };
    Ok(Json(names.into_iter().zip(outcomes).map(view).collect::<Vec<_>>()).into_response())
}

fn parse_events(body: Value, form: Form, metering: &Metering) -> Result<(Vec<Sent>, bool), Problem> {
    let limits = metering.time_limits();
    let mut faults = Faults::new();
    let (events, listed) = match (body, form) {
        (Value::Array(events), Form::Batch | Form::Either) => (events, true),
        (Value::Array(_), Form::One) => return Err(Problem::bad_field("body", "must be one event")),
        (_, Form::Batch) => return Err(Problem::bad_field("body", "must be an array of events")),
        (one, _) => (vec![one], false),
    };
    if events.is_empty() || events.len() > MAX_BATCH {
        return Err(Problem::bad_field("body", format!("must have 1 to {MAX_BATCH} events")));
    }
    let mut sent = Vec::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        let prefix = if listed { format!("[{index}].") } else { String::new() };
        sent.extend(Sent::parse(event, &prefix, limits, &mut faults));
    }
    let sent = faults.finish(Some(sent)).map_err(|faults| Problem::bad(&faults))?;
    Ok((sent, listed))
}

/// An event as it is kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct IngestedEvent {
    /// The event as it was sent.
    event: Value,
    #[serde(rename = "customerId")]
    customer_id: TenantId,
    #[serde(rename = "ingestedAt")]
    ingested_at: Option<Timestamp>,
    #[serde(rename = "storedAt")]
    stored_at: Option<Timestamp>,
    #[serde(rename = "voidedAt", skip_serializing_if = "Option::is_none")]
    voided_at: Option<Timestamp>,
}

/// Lists events, the newest first, 100 at most.
#[utoipa::path(get, path = "/api/v1/events", tag = "usage", responses((status = 200, body = Vec<IngestedEvent>)))]
async fn list_events(
    scope: UsageScope,
    State(metering): State<Metering>,
    request: Request<Body>,
) -> Result<Json<Vec<IngestedEvent>>, Problem> {
    scope.require_scope("usage:read")?;
    let mut filter = EventFilter { tenant: scope.scope.tenant(), ..EventFilter::default() };
    let (mut most, mut faults) = (MAX_LISTED, Faults::new());
    for (name, value) in url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
        match &*name {
            "id" => filter.id = Some(value.into_owned()),
            "type" => filter.kind = Some(value.into_owned()),
            "limit" => most = faults.parse::<i64>("limit", &value).unwrap_or(most).clamp(1, MAX_LISTED),
            "from" | "to" => {
                let at = faults.parse::<Timestamp>(&name, &value).map(|at| at.as_micros().saturating_mul(1_000));
                *(if name == "from" { &mut filter.from_ns } else { &mut filter.to_ns }) = at;
            }
            "subject" if scope.scope.tenant().is_none() => {
                filter.tenant = Some(metering.subject_of(scope.scope, &value).await?);
            }
            _ => {}
        }
    }
    faults.finish(Some(())).map_err(|faults| Problem::bad(&faults))?;
    let events = metering.events(scope.scope, &filter, most).await?;
    let view = |event: super::model::Event| {
        let arrived = Timestamp::from_micros(event.arrival);
        IngestedEvent {
            event: serde_json::from_str(&event.body).unwrap_or(Value::Null),
            customer_id: event.tenant,
            ingested_at: arrived,
            stored_at: arrived,
            voided_at: event.voided_at,
        }
    };
    Ok(Json(events.into_iter().map(view).collect()))
}

/// Usage of a meter.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeterQueryView {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Timestamp>,
    #[serde(rename = "windowSize", skip_serializing_if = "Option::is_none")]
    window_size: Option<String>,
    data: Vec<MeterRow>,
}

/// One window.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeterRow {
    window_start: Timestamp,
    window_end: Timestamp,
    /// An exact number.
    #[schema(value_type = f64)]
    value: serde_json::Number,
    /// The tenant, when subjects are kept apart.
    subject: Option<TenantId>,
    group_by: BTreeMap<String, Option<String>>,
}

impl From<WindowTotal> for MeterRow {
    fn from(total: WindowTotal) -> Self {
        Self {
            window_start: total.from,
            window_end: total.to,
            // A quantity's text is a JSON number.
            value: total.value.to_string().parse().unwrap_or_else(|_| 0.into()),
            subject: total.tenant,
            group_by: total.group.into_iter().map(|(key, value)| (key, Some(value))).collect(),
        }
    }
}

async fn answer(
    scope: &UsageScope,
    metering: &Metering,
    which: &str,
    body: QueryBody,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    scope.require_scope("usage:read")?;
    let meter = metering.meter(which).ok_or_else(|| no_meter(which))?;
    let window_size = body.window_size.clone();
    let (from, to) = (body.from.clone(), body.to.clone());
    let mut subjects = Vec::new();
    for subject in body.subjects() {
        subjects.push(metering.subject_of(scope.scope, &subject).await?);
    }
    let apart = body.by_subject() || subjects.len() > 1;
    let subjects = match (subjects.is_empty(), scope.scope.tenant()) {
        (false, _) => Subjects::Some { tenants: subjects, apart: apart || !body.group_by().is_empty() },
        (true, Some(own)) => Subjects::Some { tenants: vec![own], apart },
        (true, None) => Subjects::All { apart },
    };
    let query: UsageQuery = body.parse(&meter, metering.time_limits().now, TimeZone::UTC)?;
    let (first, last) = (query.period.from(), query.period.to());
    let totals = metering.usage(scope.scope, &subjects, &query).await?;
    if wants_csv(headers) {
        return Ok(csv(&query, totals));
    }
    Ok(Json(MeterQueryView {
        from: from.map(|_| first),
        to: to.map(|_| last),
        window_size,
        data: totals.into_iter().map(MeterRow::from).collect(),
    })
    .into_response())
}

fn wants_csv(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/csv")
}

fn csv(query: &UsageQuery, totals: Vec<WindowTotal>) -> Response {
    let mut text = String::from("window_start,window_end,subject");
    for key in &query.group_by {
        text.push(',');
        text.push_str(&cell(key));
    }
    text.push_str(",value\r\n");
    for total in totals {
        let subject = total.tenant.map(|tenant| tenant.to_string()).unwrap_or_default();
        let mut row = vec![total.from.to_string(), total.to.to_string(), subject];
        row.extend(total.group.iter().map(|(_, value)| cell(value)));
        row.push(total.value.to_string());
        text.push_str(&row.join(","));
        text.push_str("\r\n");
    }
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response()
}

/// A cell of RFC 4180 that no spreadsheet takes for a formula.
fn cell(text: &str) -> String {
    let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// Usage of a meter by window, subject and group; JSON, or CSV by `Accept`.
#[utoipa::path(get, path = "/api/v1/meters/{id_or_slug}/query", tag = "usage", params(("id_or_slug" = String, Path)),
    responses((status = 200, body = MeterQueryView), (status = 400), (status = 404)))]
async fn query_meter(
    scope: UsageScope,
    State(metering): State<Metering>,
    Path(which): Path<String>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let body = parse_query(request.uri().query().unwrap_or_default())?;
    answer(&scope, &metering, &which, body, request.headers()).await
}

/// The same, asked for by a body.
#[utoipa::path(post, path = "/api/v1/meters/{id_or_slug}/query", tag = "usage", request_body = QueryBody,
    params(("id_or_slug" = String, Path)), responses((status = 200, body = MeterQueryView), (status = 400), (status = 404)))]
async fn query_meter_by_body(
    scope: UsageScope,
    State(metering): State<Metering>,
    Path(which): Path<String>,
    headers: HeaderMap,
    Json(body): Json<QueryBody>,
) -> Result<Response, Problem> {
    answer(&scope, &metering, &which, body, &headers).await
}

/// The tenants that have usage of a meter.
#[utoipa::path(get, path = "/api/v1/meters/{id_or_slug}/subjects", tag = "usage", params(("id_or_slug" = String, Path)),
    responses((status = 200, body = Vec<String>), (status = 404)))]
async fn list_meter_subjects(
    scope: UsageScope,
    State(metering): State<Metering>,
    Path(which): Path<String>,
) -> Result<Json<Vec<String>>, Problem> {
    scope.require_scope("usage:read")?;
    let meter = metering.meter(&which).ok_or_else(|| no_meter(&which))?;
    let query = QueryBody::default().parse(&meter, metering.time_limits().now, TimeZone::UTC)?;
    let totals = metering.usage(scope.scope, &Subjects::All { apart: true }, &query).await?;
    Ok(Json(totals.into_iter().filter_map(|total| total.tenant).map(|tenant| tenant.to_string()).collect()))
}

/// The values of a group-by key that have usage.
#[utoipa::path(get, path = "/api/v1/meters/{id_or_slug}/group-by/{key}/values", tag = "usage",
    params(("id_or_slug" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = Vec<String>), (status = 404)))]
async fn list_group_values(
    scope: UsageScope,
    State(metering): State<Metering>,
    Path((which, key)): Path<(String, String)>,
) -> Result<Json<Vec<String>>, Problem> {
    scope.require_scope("usage:read")?;
    let meter = metering.meter(&which).ok_or_else(|| no_meter(&which))?;
    let mut query = QueryBody::default().parse(&meter, metering.time_limits().now, TimeZone::UTC)?;
    query.group_by = vec![key];
    let totals = metering.usage(scope.scope, &Subjects::All { apart: false }, &query).await?;
    Ok(Json(totals.into_iter().flat_map(|total| total.group).map(|(_, value)| value).collect()))
}
