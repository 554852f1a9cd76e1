//! The outbox, as administrators see it.

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{OutboxEvent, OutboxFilter, Webhooks};
use crate::{
    kernel::{EventId, EventName, Faults, TenantId, Timestamp},
    web::{AdminScope, Json, List, PageQuery, Problem, Query, Verifier},
};

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Webhooks: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(list_events))
}

/// An event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventView {
    /// The `webhook-id` of its deliveries.
    event_id: EventId,
    /// Whose affair it is; `null` for the platform's own.
    tenant_id: Option<TenantId>,
    /// Its place among the tenant's events.
    sequence: i64,
    name: String,
    occurred_at: Timestamp,
    /// What is told of it.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

impl TryFrom<OutboxEvent> for EventView {
    type Error = Problem;

    fn try_from(event: OutboxEvent) -> Result<Self, Problem> {
        let OutboxEvent { id, tenant, sequence, name, occurred_at, data } = event;
        let data = RawValue::from_string(data).map_err(Problem::internal)?;
        Ok(Self { event_id: id, tenant_id: tenant, sequence, name, occurred_at, data })
    }
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Of this tenant.
    tenant_id: Option<String>,
    /// Of this name.
    name: Option<String>,
    /// Items on the page, 1 to 500; 50 when absent.
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists the events of the outbox, the oldest first.
#[utoipa::path(get, path = "/admin/v1/events", tag = "running", params(EventQuery),
    responses((status = 200, body = List<EventView>), (status = 422)))]
async fn list_events(
    scope: AdminScope,
    State(webhooks): State<Webhooks>,
    Query(query): Query<EventQuery>,
) -> Result<Json<List<EventView>>, Problem> {
    let EventQuery { tenant_id, name, limit, cursor } = query;
    let mut faults = Faults::new();
    let tenant = tenant_id.as_deref().and_then(|text| faults.parse::<TenantId>("tenant_id", text));
    let name = name.as_deref().and_then(|text| faults.parse::<EventName>("name", text));
    let filter = faults.finish(Some(OutboxFilter { tenant, name })).map_err(|faults| Problem::invalid(&faults))?;
    let page = webhooks.events((&scope).into(), &filter, PageQuery { limit, cursor }.try_into()?).await?;
    let views = page.items.into_iter().map(EventView::try_from).collect::<Result<_, _>>()?;
    Ok(Json(List { items: views, next_cursor: page.next_cursor.map(|cursor| cursor.to_string()) }))
}
