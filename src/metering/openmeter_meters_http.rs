//! Meters in OpenMeter's shape: `/api/v1/meters`.

use std::collections::BTreeMap;

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{FieldNames, Meter, MeterDraft, Metering, Source, http::new_meter};
use crate::{
    kernel::{Faults, MeterId, Timestamp},
    web::{Json, Kind, Path, Problem, Query, UsageJson, UsageScope, Verifier},
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Metering: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(list_usage_meters, create_usage_meter)).routes(routes!(
        read_usage_meter,
        update_usage_meter,
        delete_usage_meter
    ))
}

/// A meter in OpenMeter's shape.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageMeterView {
    id: MeterId,
    slug: String,
    name: String,
    description: String,
    /// `SUM`, `COUNT`, `UNIQUE_COUNT`, `AVG`, `MIN`, `MAX`, `LATEST`, `WEIGHTED_SUM`, `P50`, `P90`, `P95` or `P99`.
    aggregation: String,
    event_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_property: Option<String>,
    group_by: BTreeMap<String, String>,
    /// Always `MINUTE`: what the ledger keeps.
    window_size: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<&Meter> for UsageMeterView {
    fn from(meter: &Meter) -> Self {
        let (value_property, group_by) = match &meter.source {
            // What the gateway counts has no events; its route is a group all the same.
            Source::Gateway { .. } => (Some("$.value".to_owned()), [("route".to_owned(), "$.route".to_owned())].into()),
            Source::Events { value, group_by, .. } => (
                value.as_ref().map(|path| path.as_str().to_owned()),
                group_by.iter().map(|(key, path)| (key.clone(), path.as_str().to_owned())).collect(),
            ),
        };
        Self {
            id: meter.id,
            slug: meter.key.to_string(),
            name: meter.name.clone(),
            description: meter.description.clone(),
            aggregation: meter.aggregation.name().to_uppercase(),
            event_type: meter.event_type().unwrap_or("gateway").to_owned(),
            value_property,
            group_by,
            window_size: "MINUTE",
            created_at: meter.created_at,
            updated_at: meter.created_at,
        }
    }
}

/// A meter to be made, in OpenMeter's shape; members that are not known are let pass, as its SDKs send some.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageMeterRequest {
    slug: Option<String>,
    name: Option<String>,
    description: Option<String>,
    aggregation: Option<String>,
    event_type: Option<String>,
    /// A meter counts every event that is kept.
    #[schema(value_type = Option<String>)]
    event_from: Option<Value>,
    value_property: Option<String>,
    group_by: Option<BTreeMap<String, String>>,
}

/// What its fields are called.
const THEIR_NAMES: FieldNames = FieldNames {
    key: "slug",
    event_type: "eventType",
    aggregation: "aggregation",
    value_property: "valueProperty",
    group_by: "groupBy",
};

pub(super) fn no_meter(which: &str) -> Problem {
    Problem::new(Kind::NOT_FOUND, format!("there is no meter {which}"))
}

/// Which meters are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct MeterPage {
    /// From 1; all meters when neither this nor `pageSize` is there.
    page: Option<usize>,
    /// Meters on a page, 1 to 1,000; 100 when absent.
    page_size: Option<usize>,
}

impl MeterPage {
    /// How many to pass over, and how many to show.
    fn cut(&self) -> Result<(usize, usize), Problem> {
        let (page, size) = (self.page.unwrap_or(1), self.page_size.unwrap_or(100));
        let mut faults = Faults::new();
        if page == 0 {
            faults.add("page", "must be 1 or more");
        }
        if !(1..=1_000).contains(&size) {
            faults.add("pageSize", "must be 1 to 1000");
        }
        let all = self.page.is_none() && self.page_size.is_none();
        let cut = if all { (0, usize::MAX) } else { (page.saturating_sub(1).saturating_mul(size), size) };
        faults.finish(Some(cut)).map_err(|faults| Problem::bad(&faults))
    }
}

/// Lists the meters.
#[utoipa::path(get, path = "/api/v1/meters", tag = "usage", params(MeterPage),
    responses((status = 200, body = Vec<UsageMeterView>), (status = 400)))]
async fn list_usage_meters(
    scope: UsageScope,
    State(metering): State<Metering>,
    query: Result<Query<MeterPage>, Problem>,
) -> Result<Json<Vec<UsageMeterView>>, Problem> {
    scope.require_scope("usage:read")?;
    let Query(page) = query.map_err(Problem::into_bad)?;
    let (before, size) = page.cut()?;
    Ok(Json(metering.meters().iter().skip(before).take(size).map(|meter| (&**meter).into()).collect()))
}

/// Makes a meter of events; the platform administrator's.
#[utoipa::path(post, path = "/api/v1/meters", tag = "usage", request_body = UsageMeterRequest,
    responses((status = 201, body = UsageMeterView), (status = 400), (status = 403), (status = 409)))]
async fn create_usage_meter(
    scope: UsageScope,
    State(metering): State<Metering>,
    UsageJson(request): UsageJson<UsageMeterRequest>,
) -> Result<(StatusCode, Json<UsageMeterView>), Problem> {
    scope.require_admin()?;
    if request.event_from.is_some() {
        return Err(Problem::bad_field("eventFrom", "is not taken: a meter counts every event that is kept"));
    }
    // For `count` their clients may send one, and it is ignored.
    let counts = request.aggregation.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("count"));
    let draft = MeterDraft {
        key: request.slug,
        name: request.name,
        description: request.description,
        event_type: request.event_type,
        aggregation: request.aggregation,
        value_property: request.value_property.filter(|_| !counts),
        group_by: request.group_by.unwrap_or_default(),
    };
    let meter = new_meter(draft, THEIR_NAMES, &metering).map_err(Problem::into_bad)?;
    let meter = metering.create_meter(scope.scope, scope.actor(), meter).await?;
    Ok((StatusCode::CREATED, Json((&*meter).into())))
}

/// Reads a meter, by its id or its slug.
#[utoipa::path(get, path = "/api/v1/meters/{id_or_slug}", tag = "usage", params(("id_or_slug" = String, Path)),
    responses((status = 200, body = UsageMeterView), (status = 404)))]
async fn read_usage_meter(
    scope: UsageScope,
    State(metering): State<Metering>,
    Path(which): Path<String>,
) -> Result<Json<UsageMeterView>, Problem> {
    scope.require_scope("usage:read")?;
    Ok(Json((&*metering.meter(&which).ok_or_else(|| no_meter(&which))?).into()))
}

/// Sets a meter's name and description; what it counts stays, because it was counted so.
#[utoipa::path(put, path = "/api/v1/meters/{id_or_slug}", tag = "usage", request_body = UsageMeterRequest,
    params(("id_or_slug" = String, Path)), responses((status = 200, body = UsageMeterView), (status = 400), (status = 404)))]
async fn update_usage_meter(
    scope: UsageScope,
    State(metering): State<Metering>,
    Path(which): Path<String>,
    UsageJson(request): UsageJson<UsageMeterRequest>,
) -> Result<Json<UsageMeterView>, Problem> {
    scope.require_admin()?;
    let meter = metering.meter(&which).ok_or_else(|| no_meter(&which))?;
    let view = UsageMeterView::from(&*meter);
    if request.group_by.is_some_and(|group_by| group_by != view.group_by) {
        let detail = "cannot be changed: usage was counted by it; make another meter";
        return Err(Problem::bad_field("groupBy", detail));
    }
    let name = request.name.unwrap_or_else(|| meter.name.clone());
    let description = request.description.unwrap_or_else(|| meter.description.clone());
    let meter = metering.describe_meter(scope.scope, scope.actor(), &meter, (&name, &description)).await?;
    Ok(Json((&*meter.ok_or_else(|| no_meter(&which))?).into()))
}

/// Removes a meter with its totals; the events stay.
#[utoipa::path(delete, path = "/api/v1/meters/{id_or_slug}", tag = "usage", params(("id_or_slug" = String, Path)),
    responses((status = 204), (status = 404), (status = 409)))]
async fn delete_usage_meter(
    scope: UsageScope,
    State(metering): State<Metering>,
    Path(which): Path<String>,
) -> Result<StatusCode, Problem> {
    scope.require_admin()?;
    let meter = metering.meter(&which).ok_or_else(|| no_meter(&which))?;
    metering.delete_meter(scope.scope, scope.actor(), &meter).await?;
    Ok(StatusCode::NO_CONTENT)
}
