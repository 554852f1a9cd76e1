//! Usage queries, the list of meters, and how metering is doing.

use std::collections::BTreeMap;

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Meter, Metering, UsageQuery, WindowTotal};
use crate::{
    kernel::{CalendarUnit, Clock, Faults, Period, Quantity, TenantId, Timestamp},
    store::Scope,
    web::{AdminScope, Json, Path, Problem, Query, TenantAccess, Verifier},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Metering: FromRef<S>,
    std::sync::Arc<dyn Clock>: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list_meters))
        .routes(routes!(read_usage))
        .routes(routes!(read_own_usage))
        .routes(routes!(read_metering_health))
}

/// A meter.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeterView {
    key: String,
    description: &'static str,
    unit: &'static str,
    /// How values are put together: `sum` for all stock meters.
    aggregation: &'static str,
}

/// All meters.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeterList {
    items: Vec<MeterView>,
    /// Always `null`: there are few meters.
    next_cursor: Option<String>,
}

impl From<Meter> for MeterView {
    fn from(meter: Meter) -> Self {
        Self { key: meter.key.to_string(), description: meter.description, unit: meter.unit, aggregation: "sum" }
    }
}

/// Lists the meters.
#[utoipa::path(get, path = "/admin/v1/meters", tag = "catalogue", responses((status = 200, body = MeterList)))]
async fn list_meters(_: AdminScope) -> Json<MeterList> {
    Json(MeterList { items: Metering::meters().map(MeterView::from).collect(), next_cursor: None })
}

/// What of usage is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageParams {
    /// The meter; `apis` when absent.
    meter: Option<String>,
    /// First instant, RFC 3339; the start of this month (UTC) when absent.
    from: Option<String>,
    /// First instant after; the end of this month when absent. Times are cut to the minute.
    to: Option<String>,
    /// `minute`, `hour`, `day` or `month` (UTC); one window for all when absent.
    window: Option<String>,
    /// `route`.
    group_by: Option<String>,
}

impl UsageParams {
    fn parse(&self, now: Timestamp) -> Result<UsageQuery, Problem> {
        let mut faults = Faults::new();
        let month = Period::containing(now, CalendarUnit::Month);
        let meter = faults.parse("meter", self.meter.as_deref().unwrap_or("apis"));
        let mut instant = |name: &str, text: &Option<String>, default: Timestamp| match text {
            Some(text) => faults.parse::<Timestamp>(name, text),
            None => Some(default),
        };
        let (from, to) = (instant("from", &self.from, month.from()), instant("to", &self.to, month.to()));
        let period = from.zip(to).and_then(|(from, to)| faults.check("from", Period::new(from.floor_minute(), to)));
        let window = match self.window.as_deref() {
            None => None,
            Some("minute") => Some(CalendarUnit::Minute),
            Some("hour") => Some(CalendarUnit::Hour),
            Some("day") => Some(CalendarUnit::Day),
            Some("month") => Some(CalendarUnit::Month),
            Some(_) => {
                faults.add("window", "must be one of minute, hour, day, month");
                None
            }
        };
        if self.group_by.as_deref().is_some_and(|key| key != "route") {
            faults.add("group_by", "must be route");
        }
        let by_route = self.group_by.is_some();
        let query = meter.zip(period).map(|(meter, period)| UsageQuery { meter, period, window, by_route });
        faults.finish(query).map_err(|faults| Problem::invalid(&faults))
    }
}

/// A tenant's usage of a meter.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageView {
    meter: String,
    from: Timestamp,
    to: Timestamp,
    /// Windows with usage, in order of time.
    data: Vec<WindowView>,
}

/// One window.
#[derive(Debug, Serialize, ToSchema)]
pub struct WindowView {
    window_start: Timestamp,
    window_end: Timestamp,
    value: Quantity,
    /// The group's keys and values; empty without `group_by`.
    group: BTreeMap<String, String>,
}

impl From<WindowTotal> for WindowView {
    fn from(total: WindowTotal) -> Self {
        Self {
            window_start: total.from,
            window_end: total.to,
            value: total.value,
            group: total.group.into_iter().collect(),
        }
    }
}

async fn usage(
    metering: &Metering,
    scope: Scope,
    tenant: TenantId,
    query: UsageQuery,
) -> Result<Json<UsageView>, Problem> {
    let data = metering.usage(scope, tenant, &query).await?.into_iter().map(WindowView::from).collect();
    let UsageQuery { meter, period, .. } = query;
    Ok(Json(UsageView { meter: meter.to_string(), from: period.from(), to: period.to(), data }))
}

/// A tenant's usage. What was settled on this node before the call is in it.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/usage", tag = "tenants",
    params(("tenant_id" = TenantId, Path), UsageParams), responses((status = 200, body = UsageView), (status = 404), (status = 422)))]
async fn read_usage(
    scope: AdminScope,
    State(metering): State<Metering>,
    State(clock): State<std::sync::Arc<dyn Clock>>,
    Path(tenant): Path<TenantId>,
    Query(params): Query<UsageParams>,
) -> Result<Json<UsageView>, Problem> {
    usage(&metering, (&scope).into(), tenant, params.parse(clock.now())?).await
}

/// The caller's usage.
#[utoipa::path(get, path = "/v1/usage", tag = "tenant", params(UsageParams),
    responses((status = 200, body = UsageView), (status = 422)))]
async fn read_own_usage(
    call: TenantAccess,
    State(metering): State<Metering>,
    State(clock): State<std::sync::Arc<dyn Clock>>,
    Query(params): Query<UsageParams>,
) -> Result<Json<UsageView>, Problem> {
    call.require_scope("usage:read")?;
    usage(&metering, (&call).into(), call.tenant, params.parse(clock.now())?).await
}

/// How metering is doing on this node.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeteringHealthView {
    /// `ok` or `failing`.
    status: &'static str,
    /// The last record written.
    last_seq: u64,
    /// The last record that the disk has.
    durable_seq: u64,
    /// Why records are refused or not counted, if so.
    error: Option<String>,
}

/// Tells "no usage" from "metering is broken".
#[utoipa::path(get, path = "/admin/v1/metering/health", tag = "running", responses((status = 200, body = MeteringHealthView)))]
async fn read_metering_health(_: AdminScope, State(metering): State<Metering>) -> Json<MeteringHealthView> {
    let health = metering.health();
    let error = health.journal.error.or(health.roller_error);
    Json(MeteringHealthView {
        status: if error.is_some() { "failing" } else { "ok" },
        last_seq: health.journal.last_seq,
        durable_seq: health.journal.durable_seq,
        error,
    })
}
