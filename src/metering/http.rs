//! Usage queries, the list of meters, and how metering is doing.

use std::collections::BTreeMap;

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    FieldNames, Meter, MeterDraft, Metering, MeteringHealth, Source, Subjects, UnreadUsage, UsageQuery, WindowTotal,
    corrections_http,
};
use crate::{
    kernel::{CalendarUnit, Clock, Faults, MeterId, Period, Quantity, TenantId, Timestamp},
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
        .routes(routes!(list_meters, create_meter))
        .merge(corrections_http::routes())
        .routes(routes!(read_usage))
        .routes(routes!(read_own_usage))
        .routes(routes!(read_metering_health))
}

/// A meter.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeterView {
    meter_id: MeterId,
    key: String,
    name: String,
    description: String,
    /// The unit of a stock meter's quantities.
    unit: Option<&'static str>,
    /// The `type` of the events it counts; `null` for what the gateway counts.
    event_type: Option<String>,
    /// `sum`, `count`, `unique_count`, `avg`, `min`, `max`, `latest`, `weighted_sum`, `p50`, `p90`, `p95` or `p99`.
    aggregation: &'static str,
    /// Where in `data` the value is, as a JSON path (RFC 9535).
    value_property: Option<String>,
    /// Where in `data` the values of group-by keys are.
    group_by: BTreeMap<String, String>,
    created_at: Timestamp,
}

/// All meters.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeterList {
    items: Vec<MeterView>,
    /// Always `null`: there are few meters.
    next_cursor: Option<String>,
}

impl From<&Meter> for MeterView {
    fn from(meter: &Meter) -> Self {
        let (mut unit, mut value_property, mut paths) = (None, None, BTreeMap::new());
        match &meter.source {
            Source::Gateway { unit: of } => unit = Some(*of),
            Source::Events { value, group_by, .. } => {
                value_property = value.as_ref().map(|path| path.as_str().to_owned());
                paths = group_by.iter().map(|(key, path)| (key.clone(), path.as_str().to_owned())).collect();
            }
        }
        Self {
            meter_id: meter.id,
            key: meter.key.to_string(),
            name: meter.name.clone(),
            description: meter.description.clone(),
            unit,
            event_type: meter.event_type().map(str::to_owned),
            aggregation: meter.aggregation.name(),
            value_property,
            group_by: paths,
            created_at: meter.created_at,
        }
    }
}

/// Lists the meters.
#[utoipa::path(get, path = "/admin/v1/meters", tag = "catalogue", responses((status = 200, body = MeterList)))]
async fn list_meters(_: AdminScope, State(metering): State<Metering>) -> Json<MeterList> {
    Json(MeterList { items: metering.meters().iter().map(|meter| (&**meter).into()).collect(), next_cursor: None })
}

/// A meter of events to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterRequest {
    /// What plans and queries call it: 1 to 64 lower-case letters, digits or `_`.
    key: Option<String>,
    /// What people call it; the key when absent.
    name: Option<String>,
    /// What it counts, in words.
    description: Option<String>,
    /// The `type` of the events.
    event_type: Option<String>,
    /// How values are put together.
    aggregation: Option<String>,
    /// Where in `data` the value is, as a JSON path (RFC 9535); nothing for `count`.
    value_property: Option<String>,
    /// Where in `data` the values of group-by keys are.
    #[serde(default)]
    group_by: BTreeMap<String, String>,
}

impl MeterRequest {
    fn draft(self) -> MeterDraft {
        let Self { key, name, description, event_type, aggregation, value_property, group_by } = self;
        MeterDraft { key, name, description, event_type, aggregation, value_property, group_by }
    }
}

/// A new meter out of a draft.
pub(super) fn new_meter(draft: MeterDraft, names: FieldNames, metering: &Metering) -> Result<Meter, Problem> {
    let mut faults = Faults::new();
    let definition = draft.check(names, &mut faults);
    let definition = faults.finish(definition).map_err(|faults| Problem::invalid(&faults))?;
    let now = metering.time_limits().now;
    Ok(definition.into_meter(MeterId::generate(now, metering.rng()), now))
}

/// Makes a meter of events. Events of its type that are kept already are counted, too.
#[utoipa::path(post, path = "/admin/v1/meters", tag = "catalogue", request_body = MeterRequest,
    responses((status = 201, body = MeterView), (status = 409), (status = 422)))]
async fn create_meter(
    scope: AdminScope,
    State(metering): State<Metering>,
    Json(request): Json<MeterRequest>,
) -> Result<(StatusCode, Json<MeterView>), Problem> {
    let meter = new_meter(request.draft(), FieldNames::OURS, &metering)?;
    let meter = metering.create_meter((&scope).into(), scope.actor(), meter).await?;
    Ok((StatusCode::CREATED, Json((&*meter).into())))
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
    /// `minute`, `hour`, `day` or `month`; one window for all when absent.
    window: Option<String>,
    /// The IANA time zone of the windows; `UTC` when absent.
    time_zone: Option<String>,
    /// Keys of the meter's groups, separated by commas: `route` for what came through the gateway.
    group_by: Option<String>,
    /// `true` shows windows without usage, too.
    zero_fill: Option<bool>,
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
        let period = from
            .zip(to)
            .and_then(|(from, to)| faults.check("from", Period::new(from.floor_minute(), to.ceil_minute())));
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
        let zone = match self.time_zone.as_deref() {
            None => Some(TimeZone::UTC),
            Some(name) => faults.check("time_zone", TimeZone::get(name)),
        };
        let keys = self.group_by.as_deref().unwrap_or_default().split(',').filter(|key| !key.is_empty());
        let group_by: Vec<String> = keys.map(str::to_owned).collect();
        let query = meter.zip(period).zip(zone).map(|((meter, period), zone)| UsageQuery {
            meter,
            period,
            window,
            zone,
            group_by,
            filters: BTreeMap::new(),
            zero_fill: self.zero_fill.unwrap_or(false),
        });
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
    let data = metering.usage(scope, &Subjects::One(tenant), &query).await?.into_iter().map(WindowView::from).collect();
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

/// How metering is doing on this node. A node without usage has no lag and rolls all the same.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeteringHealthView {
    /// `ok` or `failing`, as of now; `/readyz` says the same.
    status: &'static str,
    /// Why usage cannot be recorded or counted now, if so.
    error: Option<String>,
    /// The last record written.
    last_seq: u64,
    /// The last record that the disk has.
    durable_seq: u64,
    /// The last record that the ledger has.
    counted_seq: u64,
    /// Records that the disk does not have yet.
    not_durable: u64,
    /// Records that the ledger does not have yet.
    not_counted: u64,
    /// The age of the oldest of these in seconds; `null` when there is none.
    oldest_uncounted_s: Option<i64>,
    /// When the disk last had everything (`fdatasync`); `null` when nothing was written since the start.
    last_flush_at: Option<Timestamp>,
    /// When everything that the disk had was last counted.
    last_roll_at: Option<Timestamp>,
    /// What last went wrong, mended or not.
    last_error: Option<MishapView>,
    /// Requests whose usage of a meter could not be read, since the start: they are billed for the other meters alone.
    unread: Vec<UnreadView>,
}

/// Requests of a route whose usage of a meter could not be read.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnreadView {
    route: String,
    meter: String,
    /// How many.
    requests: u64,
    /// When last, and why.
    last_at: Timestamp,
    last_error: String,
}

impl From<UnreadUsage> for UnreadView {
    fn from(unread: UnreadUsage) -> Self {
        let UnreadUsage { route, meter, requests, last_at, last_error } = unread;
        Self { route, meter, requests, last_at, last_error }
    }
}

/// Something that went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct MishapView {
    at: Timestamp,
    error: String,
}

impl From<MeteringHealth> for MeteringHealthView {
    fn from(health: MeteringHealth) -> Self {
        let error = health.error();
        let journal = &health.journal;
        Self {
            status: if error.is_some() { "failing" } else { "ok" },
            error,
            last_seq: journal.last_seq,
            durable_seq: journal.durable_seq,
            counted_seq: journal.counted_seq,
            not_durable: journal.last_seq.saturating_sub(journal.durable_seq),
            not_counted: journal.last_seq.saturating_sub(journal.counted_seq),
            oldest_uncounted_s: health.uncounted_age_s(),
            last_flush_at: journal.flushed_at,
            last_roll_at: health.rolls.rolled_at,
            last_error: health.last_error().map(|last| MishapView { at: last.at, error: last.what.clone() }),
            unread: health.unread.into_iter().map(UnreadView::from).collect(),
        }
    }
}

/// Tells "no usage" from "metering is broken".
#[utoipa::path(get, path = "/admin/v1/metering/health", tag = "running", responses((status = 200, body = MeteringHealthView)))]
async fn read_metering_health(_: AdminScope, State(metering): State<Metering>) -> Json<MeteringHealthView> {
    Json(metering.health().await.into())
}
