//! Taking events back, amending them, and what became of both: an event's history and a tenant's adjustments.

use std::collections::BTreeMap;

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Amendment, EventRef, Grounds, Metering,
    model::{Adjusted, Correction, Event},
    rules::read_group,
};
use crate::{
    kernel::{Faults, Quantity, TenantId, Timestamp},
    web::{AdminScope, Json, List, PageQuery, Path, Problem, Query, Verifier, extract::from_json},
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Metering: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(void_event))
        .routes(routes!(amend_event))
        .routes(routes!(read_event_history))
        .routes(routes!(list_adjustments))
}

/// Which event is meant, when several have its id.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// The tenant's id.
    tenant_id: Option<String>,
    /// The event's `source`.
    source: Option<String>,
}

impl EventQuery {
    fn parse(self, id: String) -> Result<EventRef, Problem> {
        let mut faults = Faults::new();
        let tenant = self.tenant_id.as_deref().map(|text| faults.parse::<TenantId>("tenant_id", text));
        let tenant = faults.finish(Some(tenant.flatten())).map_err(|faults| Problem::invalid(&faults))?;
        Ok(EventRef { id, tenant, source: self.source })
    }
}

/// The longest reason, in characters.
const MAX_REASON: usize = 1_000;

fn grounds(reason: String, scope: &AdminScope) -> Result<Grounds, Problem> {
    if reason.chars().count() > MAX_REASON || reason.contains('\0') {
        let detail = format!("must have at most {MAX_REASON} characters, none of them NUL");
        return Err(Problem::invalid_field("reason", detail));
    }
    Ok(Grounds { reason, by: scope.actor() })
}

/// Why an event is taken back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VoidRequest {
    /// In words, for the audit.
    #[serde(default)]
    reason: String,
}

/// What was taken back.
#[derive(Debug, Serialize, ToSchema)]
pub struct VoidView {
    event_id: String,
    source: String,
    tenant_id: TenantId,
    voided_at: Option<Timestamp>,
}

/// Takes an event back: it counts no more.
#[utoipa::path(post, path = "/admin/v1/usage/{event_id}/void", tag = "catalogue", request_body = VoidRequest,
    params(("event_id" = String, Path), EventQuery),
    responses((status = 200, body = VoidView), (status = 404), (status = 409)))]
async fn void_event(
    scope: AdminScope,
    State(metering): State<Metering>,
    Path(id): Path<String>,
    Query(query): Query<EventQuery>,
    body: axum::body::Bytes,
) -> Result<Json<VoidView>, Problem> {
    let event = query.parse(id)?;
    // A reason is welcome, not needed.
    let request: VoidRequest = if body.is_empty() { VoidRequest::default() } else { from_json(&body)? };
    let event = metering.void_event((&scope).into(), &event, &grounds(request.reason, &scope)?).await?;
    Ok(Json(VoidView { event_id: event.id, source: event.source, tenant_id: event.tenant, voided_at: event.voided_at }))
}

/// What of an event is amended, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AmendRequest {
    /// Takes the place of all of the event's `data`.
    #[schema(value_type = Option<Object>)]
    data: Option<Map<String, Value>>,
    /// Takes the place of the event's `time`, RFC 3339: one that would have been taken when the event arrived.
    time: Option<String>,
    /// In words, for the audit.
    #[serde(default)]
    reason: String,
}

/// An event after an amendment.
#[derive(Debug, Serialize, ToSchema)]
pub struct AmendView {
    event_id: String,
    source: String,
    tenant_id: TenantId,
    /// Whether the amendment changed anything.
    changed: bool,
    /// The event as it counts now.
    event: Value,
}

fn content(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or(Value::Null)
}

/// Amends an event: the new content counts, the old one is kept in the event's history. Sent again, either is known.
#[utoipa::path(post, path = "/admin/v1/usage/{event_id}/amend", tag = "catalogue", request_body = AmendRequest,
    params(("event_id" = String, Path), EventQuery),
    responses((status = 200, body = AmendView), (status = 400), (status = 404), (status = 409), (status = 422)))]
async fn amend_event(
    scope: AdminScope,
    State(metering): State<Metering>,
    Path(id): Path<String>,
    Query(query): Query<EventQuery>,
    Json(request): Json<AmendRequest>,
) -> Result<Json<AmendView>, Problem> {
    let event = query.parse(id)?;
    let AmendRequest { data, time, reason } = request;
    let amendment = Amendment { data, time };
    let grounds = grounds(reason, &scope)?;
    let (event, changed) = metering.amend_event((&scope).into(), &event, &amendment, &grounds).await?;
    let Event { id, source, tenant, body, .. } = event;
    Ok(Json(AmendView { event_id: id, source, tenant_id: tenant, changed, event: content(&body) }))
}

/// What an event says, and what was done to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventHistoryView {
    event_id: String,
    source: String,
    tenant_id: TenantId,
    /// When it came.
    arrived_at: Option<Timestamp>,
    /// When it was taken back, if it was.
    voided_at: Option<Timestamp>,
    /// The event as it counts now, or did until it was taken back.
    event: Value,
    /// What was done to it, in order.
    items: Vec<CorrectionView>,
}

/// A correction.
#[derive(Debug, Serialize, ToSchema)]
pub struct CorrectionView {
    #[schema(value_type = String)]
    correction_id: Uuid,
    /// `amended` or `voided`.
    action: &'static str,
    reason: String,
    corrected_by: String,
    corrected_at: Timestamp,
    /// The event before it was amended.
    before: Option<Value>,
}

impl From<Correction> for CorrectionView {
    fn from(correction: Correction) -> Self {
        let Correction { id, before, reason, by, at, .. } = correction;
        Self {
            correction_id: id,
            action: if before.is_some() { "amended" } else { "voided" },
            reason,
            corrected_by: by,
            corrected_at: at,
            before: before.map(|before| content(&before.body)),
        }
    }
}

/// What was done to an event since it came, by whom and why.
#[utoipa::path(get, path = "/admin/v1/usage/{event_id}/history", tag = "catalogue",
    params(("event_id" = String, Path), EventQuery),
    responses((status = 200, body = EventHistoryView), (status = 404), (status = 409)))]
async fn read_event_history(
    scope: AdminScope,
    State(metering): State<Metering>,
    Path(id): Path<String>,
    Query(query): Query<EventQuery>,
) -> Result<Json<EventHistoryView>, Problem> {
    let (event, corrections) = metering.event_history((&scope).into(), &query.parse(id)?).await?;
    Ok(Json(EventHistoryView {
        event: content(&event.body),
        event_id: event.id,
        source: event.source,
        tenant_id: event.tenant,
        arrived_at: Timestamp::from_micros(event.arrival),
        voided_at: event.voided_at,
        items: corrections.into_iter().map(Into::into).collect(),
    }))
}

/// What came to a month that was closed by then, or was taken out of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdjustmentView {
    #[schema(value_type = String)]
    adjustment_id: Uuid,
    meter: String,
    /// The first instant of the month.
    month: Timestamp,
    group: BTreeMap<String, String>,
    /// How many events more; below zero when they were taken out.
    count: i64,
    /// The sum of their values.
    quantity: Quantity,
    made_at: Timestamp,
}

impl From<Adjusted> for AdjustmentView {
    fn from(adjusted: Adjusted) -> Self {
        let Adjusted { id, adjustment, made_at } = adjusted;
        Self {
            adjustment_id: id,
            meter: adjustment.meter.to_string(),
            month: adjustment.month,
            group: read_group(&adjustment.group),
            count: adjustment.count,
            quantity: adjustment.sum,
            made_at,
        }
    }
}

/// Lists what came to a tenant's closed months, or was taken out of them.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/adjustments", tag = "tenants",
    params(("tenant_id" = TenantId, Path), PageQuery),
    responses((status = 200, body = List<AdjustmentView>), (status = 404)))]
async fn list_adjustments(
    scope: AdminScope,
    State(metering): State<Metering>,
    Path(tenant): Path<TenantId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<AdjustmentView>>, Problem> {
    let page = metering.adjustments((&scope).into(), tenant, page.try_into()?).await?;
    Ok(Json(List::of(page, Into::into)))
}
