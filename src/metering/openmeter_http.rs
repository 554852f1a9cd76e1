//! The usage API in the shapes of OpenMeter, so that its SDKs work unchanged: `/api/v1/events` here, meters and queries
//! beside it. docs/openmeter.md says what differs.
//!
//! What differs from the rest of the API is theirs: camel case, bare lists, numbers instead of texts, 400 for input
//! that is wrong.

use std::collections::BTreeSet;

use axum::{
    body::{Body, to_bytes},
    extract::{FromRef, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Metering, Outcome, event::Sent, model::Event, openmeter_meters_http, openmeter_query_http};
use crate::{
    kernel::{Faults, TenantId, Timestamp},
    store::EventFilter,
    web::{
        Json, Kind, Problem, UsageScope, Verifier,
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
        .merge(openmeter_query_http::routes())
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
    let body = serde_json::from_slice(&bytes).or_else(|_| from_json(&bytes)).map_err(Problem::into_bad)?;
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

/// What events are asked for, and how many.
struct Asked {
    filter: EventFilter,
    subject: Option<String>,
    customers: Vec<String>,
    most: i64,
}

fn parse_asked(query: &str) -> Result<Asked, Problem> {
    let mut asked = Asked { filter: EventFilter::default(), subject: None, customers: Vec::new(), most: MAX_LISTED };
    let mut faults = Faults::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let filter = &mut asked.filter;
        match &*name {
            "id" => filter.id = Some(value.into_owned()),
            "type" => filter.kind = Some(value.into_owned()),
            "subject" => asked.subject = Some(value.into_owned()),
            "customerId" | "customerId[]" => asked.customers.push(value.into_owned()),
            "limit" => asked.most = faults.parse::<i64>("limit", &value).unwrap_or(MAX_LISTED).clamp(1, MAX_LISTED),
            "from" | "to" | "ingestedAtFrom" | "ingestedAtTo" => {
                let at = faults.parse::<Timestamp>(&name, &value).map(Timestamp::as_micros);
                let nanos = at.map(|micros| micros.saturating_mul(1_000));
                match &*name {
                    "from" => filter.from_ns = nanos,
                    "to" => filter.to_ns = nanos,
                    "ingestedAtFrom" => filter.arrived_from = at,
                    _ => filter.arrived_to = at,
                }
            }
            _ => {}
        }
    }
    faults.finish(Some(asked)).map_err(|faults| Problem::bad(&faults))
}

impl From<Event> for IngestedEvent {
    fn from(event: Event) -> Self {
        let arrived = Timestamp::from_micros(event.arrival);
        Self {
            event: serde_json::from_str(&event.body).unwrap_or(Value::Null),
            customer_id: event.tenant,
            ingested_at: arrived,
            stored_at: arrived,
            voided_at: event.voided_at,
        }
    }
}

/// Lists events, the newest first, 100 at most: by `id`, `type`, `subject`, `customerId` (one or several), `from` and
/// `to`, `ingestedAtFrom` and `ingestedAtTo`.
#[utoipa::path(get, path = "/api/v1/events", tag = "usage", responses((status = 200, body = Vec<IngestedEvent>),
    (status = 400), (status = 403)))]
async fn list_events(
    scope: UsageScope,
    State(metering): State<Metering>,
    request: Request<Body>,
) -> Result<Json<Vec<IngestedEvent>>, Problem> {
    scope.require_scope("usage:read")?;
    let Asked { filter, subject, customers, most } = parse_asked(request.uri().query().unwrap_or_default())?;
    let mut tenants = BTreeSet::new();
    for customer in &customers {
        tenants.insert(metering.subject_of(scope.scope, customer).await?);
    }
    if let Some(subject) = subject {
        let subject = metering.subject_of(scope.scope, &subject).await?;
        tenants.retain(|tenant| *tenant == subject);
        if customers.is_empty() {
            tenants.insert(subject);
        } else if tenants.is_empty() {
            return Ok(Json(Vec::new()));
        }
    }
    let wanted: Vec<_> =
        if tenants.is_empty() { vec![scope.scope.tenant()] } else { tenants.into_iter().map(Some).collect() };
    let mut events = Vec::new();
    for tenant in wanted {
        events.extend(metering.events(scope.scope, &EventFilter { tenant, ..filter.clone() }, most).await?);
    }
    // Each tenant's are in order; all of them together are not.
    events.sort_by(|one, other| (other.at_ns, other.arrival, &other.id).cmp(&(one.at_ns, one.arrival, &one.id)));
    Ok(Json(events.into_iter().map(IngestedEvent::from).take(usize::try_from(most).unwrap_or(0)).collect()))
}
