//! Usage of meters in OpenMeter's shapes: `/api/v1/meters/{id_or_slug}/query` and what goes with it, and the same for
//! whoever holds a portal token.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRef, Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use jiff::tz::TimeZone;
use serde::Serialize;
use tower_http::cors::{Any, CorsLayer};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Error, Meter, Metering, Subjects, UsageQuery, WindowTotal,
    openmeter_meters_http::no_meter,
    openmeter_query::{QueryBody, parse_query},
};
use crate::{
    kernel::{TenantId, Timestamp, cell::cell},
    store::Scope,
    web::{Json, Kind, Path, PortalAccess, Problem, UsageJson, UsageScope, Verifier},
};

/// How long a browser remembers that it may ask.
const PREFLIGHT: Duration = Duration::from_hours(1);

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Metering: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(query_meter, query_meter_by_body))
        .routes(routes!(list_meter_subjects))
        .routes(routes!(list_group_values))
        .merge(OpenApiRouter::new().routes(routes!(query_portal_meter)).layer(for_every_origin()))
}

/// Portals are shown by pages of any origin. What a page sends along by itself opens nothing here: the token does.
fn for_every_origin() -> CorsLayer {
    let headers = [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT];
    CorsLayer::new().allow_origin(Any).allow_methods([Method::GET]).allow_headers(headers).max_age(PREFLIGHT)
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
    /// The tenant, when subjects are kept apart, as the query called it.
    subject: Option<String>,
    /// The tenant's id, when subjects are kept apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<TenantId>,
    group_by: BTreeMap<String, Option<String>>,
}

impl MeterRow {
    fn new(total: WindowTotal, names: &Names) -> Self {
        Self {
            window_start: total.from,
            window_end: total.to,
            // A quantity's text is a JSON number.
            value: total.value.to_string().parse().unwrap_or_else(|_| 0.into()),
            subject: total.tenant.map(|tenant| name_of(tenant, names)),
            customer_id: total.tenant,
            group_by: total.group.into_iter().map(|(key, value)| (key, Some(value))).collect(),
        }
    }
}

/// What the caller called tenants: they are called so in the answer.
type Names = BTreeMap<TenantId, String>;

fn name_of(tenant: TenantId, names: &Names) -> String {
    names.get(&tenant).cloned().unwrap_or_else(|| tenant.to_string())
}

async fn named(metering: &Metering, scope: Scope, texts: Vec<String>) -> Result<Names, Problem> {
    let mut names = Names::new();
    for text in texts {
        names.entry(metering.subject_of(scope, &text).await?).or_insert(text);
    }
    Ok(names)
}

/// Whose usage a query is about. Whoever names subjects has them kept apart.
async fn subjects(metering: &Metering, scope: Scope, body: &QueryBody) -> Result<(Subjects, Names), Problem> {
    let (by_subject, by_customer) = (body.subjects(), body.customers());
    if by_subject.is_empty() && by_customer.is_empty() {
        let apart = body.by_subject();
        let subjects = match scope.tenant() {
            Some(own) => Subjects::Some { tenants: vec![own], apart },
            None => Subjects::All { apart },
        };
        return Ok((subjects, Names::new()));
    }
    let both = !by_subject.is_empty() && !by_customer.is_empty();
    let mut names = named(metering, scope, by_subject).await?;
    let customers = named(metering, scope, by_customer).await?;
    if both {
        names.retain(|tenant, _| customers.contains_key(tenant));
    } else {
        names.extend(customers);
    }
    Ok((Subjects::Some { tenants: names.keys().copied().collect(), apart: true }, names))
}

async fn answer(
    metering: &Metering,
    scope: Scope,
    meter: &Meter,
    body: QueryBody,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let window_size = body.window_size();
    let (from, to) = (body.from.is_some(), body.to.is_some());
    let (subjects, names) = subjects(metering, scope, &body).await?;
    let query: UsageQuery = body.parse(meter, metering.time_limits().now, TimeZone::UTC)?;
    let period = query.period;
    let totals = metering.usage(scope, &subjects, &query).await.map_err(refused)?;
    if wants_csv(headers) {
        return Ok(csv(meter, &query, totals, &names));
    }
    Ok(Json(MeterQueryView {
        from: from.then_some(period.from()),
        to: to.then_some(period.to()),
        window_size,
        data: totals.into_iter().map(|total| MeterRow::new(total, &names)).collect(),
    })
    .into_response())
}

/// What is wrong with a query shows only when it is run, too.
fn refused(error: Error) -> Problem {
    match error {
        Error::TooManyWindows(_) => Problem::bad_field("windowSize", error.to_string()),
        error => error.into(),
    }
}

fn wants_csv(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/csv")
}

fn csv(meter: &Meter, query: &UsageQuery, totals: Vec<WindowTotal>, names: &Names) -> Response {
    let mut text = String::from("window_start,window_end,subject");
    for key in &query.group_by {
        text.push(',');
        text.push_str(&cell(key));
    }
    text.push_str(",value\r\n");
    for total in totals {
        let subject = total.tenant.map(|tenant| cell(&name_of(tenant, names))).unwrap_or_default();
        let mut row = vec![total.from.to_string(), total.to.to_string(), subject];
        row.extend(total.group.iter().map(|(_, value)| cell(value)));
        row.push(total.value.to_string());
        text.push_str(&row.join(","));
        text.push_str("\r\n");
    }
    let mut response = ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response();
    // A key of a meter has nothing in it that would have to be quoted.
    let name = HeaderValue::try_from(format!("attachment; filename=\"{}.csv\"", meter.key));
    response.headers_mut().extend(name.map(|name| (header::CONTENT_DISPOSITION, name)));
    response
}

fn meter(metering: &Metering, which: &str) -> Result<Arc<Meter>, Problem> {
    metering.meter(which).ok_or_else(|| no_meter(which))
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
    scope.require_scope("usage:read")?;
    let meter = meter(&metering, &which)?;
    let body = parse_query(request.uri().query().unwrap_or_default())?;
    answer(&metering, scope.scope, &meter, body, request.headers()).await
}

/// The same, asked for by a body.
#[utoipa::path(post, path = "/api/v1/meters/{id_or_slug}/query", tag = "usage", request_body = QueryBody,
    params(("id_or_slug" = String, Path)), responses((status = 200, body = MeterQueryView), (status = 400), (status = 404)))]
async fn query_meter_by_body(
    scope: UsageScope,
    State(metering): State<Metering>,
    Path(which): Path<String>,
    headers: HeaderMap,
    body: Option<UsageJson<QueryBody>>,
) -> Result<Response, Problem> {
    scope.require_scope("usage:read")?;
    let meter = meter(&metering, &which)?;
    let UsageJson(body) = body.unwrap_or_default();
    answer(&metering, scope.scope, &meter, body, &headers).await
}

/// The tenants that have usage of a meter, in a time or at all.
#[utoipa::path(get, path = "/api/v1/meters/{id_or_slug}/subjects", tag = "usage", params(("id_or_slug" = String, Path)),
    responses((status = 200, body = Vec<String>), (status = 400), (status = 404)))]
async fn list_meter_subjects(
    scope: UsageScope,
    State(metering): State<Metering>,
    Path(which): Path<String>,
    request: Request<Body>,
) -> Result<Json<Vec<String>>, Problem> {
    scope.require_scope("usage:read")?;
    let meter = meter(&metering, &which)?;
    let query = parse_query(request.uri().query().unwrap_or_default())?.of_time_alone();
    let query = query.parse(&meter, metering.time_limits().now, TimeZone::UTC)?;
    let totals = metering.usage(scope.scope, &Subjects::All { apart: true }, &query).await.map_err(refused)?;
    Ok(Json(totals.into_iter().filter_map(|total| total.tenant).map(|tenant| tenant.to_string()).collect()))
}

/// The values of a group-by key that have usage, in a time or at all.
#[utoipa::path(get, path = "/api/v1/meters/{id_or_slug}/group-by/{key}/values", tag = "usage",
    params(("id_or_slug" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = Vec<String>), (status = 400), (status = 404)))]
async fn list_group_values(
    scope: UsageScope,
    State(metering): State<Metering>,
    Path((which, key)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Json<Vec<String>>, Problem> {
    scope.require_scope("usage:read")?;
    let meter = meter(&metering, &which)?;
    if !meter.group_keys().contains(&key.as_str()) {
        return Err(Problem::new(Kind::NOT_FOUND, format!("the meter {} has no group-by key {key}", meter.key)));
    }
    let query = parse_query(request.uri().query().unwrap_or_default())?.of_time_alone();
    let mut query = query.parse(&meter, metering.time_limits().now, TimeZone::UTC)?;
    query.group_by = vec![key];
    let totals = metering.usage(scope.scope, &Subjects::All { apart: false }, &query).await.map_err(refused)?;
    Ok(Json(totals.into_iter().flat_map(|total| total.group).map(|(_, value)| value).collect()))
}

/// Usage of a meter by the subject of a portal token; JSON, or CSV by `Accept`.
#[utoipa::path(get, path = "/api/v1/portal/meters/{meter_slug}/query", tag = "usage",
    params(("meter_slug" = String, Path)),
    responses((status = 200, body = MeterQueryView), (status = 400), (status = 401), (status = 403), (status = 404)))]
async fn query_portal_meter(
    portal: PortalAccess,
    State(metering): State<Metering>,
    Path(slug): Path<String>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    // What a tenant that is gone left behind opens nothing.
    match metering.standing((&portal).into(), portal.tenant).await? {
        None => return Err(portal.revoked()),
        Some("active" | "changing_tier") => {}
        Some(state) => return Err(Problem::new(Kind::TENANT_NOT_ACTIVE, format!("the tenant is {state}"))),
    }
    portal.require_meter(&slug)?;
    let meter = metering.meters().iter().find(|meter| meter.key.as_str() == slug).cloned();
    let meter = meter.ok_or_else(|| no_meter(&slug))?;
    let mut body = parse_query(request.uri().query().unwrap_or_default())?;
    body.name_subject(&portal.subject);
    answer(&metering, (&portal).into(), &meter, body, request.headers()).await
}
