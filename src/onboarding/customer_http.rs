//! What customers may use, in OpenMeter's shapes: a customer is a tenant, features come from its tier's plan.

use std::collections::BTreeMap;

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    billing::{Billing, Entitlement, EntitlementQuery, Metered},
    kernel::{Faults, Quantity, Timestamp},
    metering::{self, Metering},
    tenants::{Status, Tenants},
    web::{Json, Kind, Path, Problem, Query, UsageScope, Verifier},
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Tenants: FromRef<S>,
    Billing: FromRef<S>,
    Metering: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(read_customer_access))
        .routes(routes!(read_entitlement_value))
        .routes(routes!(read_entitlement_value_v1))
}

/// Everything a customer's plan names.
#[derive(Debug, Serialize, ToSchema)]
pub struct CustomerAccessView {
    /// By the key of the feature, or of the meter that has a quota.
    entitlements: BTreeMap<String, EntitlementView>,
}

/// Whether something may be used, and how much of it is left.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntitlementView {
    has_access: bool,
    /// What is left of the quota in its period, never below zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    balance: Option<Number>,
    /// What was used in the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    usage: Option<Number>,
    /// What was used beyond the quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    overage: Option<Number>,
    /// The quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    total_available_grant_amount: Option<Number>,
}

impl From<Entitlement> for EntitlementView {
    fn from(entitlement: Entitlement) -> Self {
        // A quantity's text is a JSON number.
        let number =
            |of: fn(&Metered) -> Quantity| entitlement.metered().and_then(|own| of(&own).to_string().parse().ok());
        Self {
            has_access: entitlement.granted(),
            balance: number(|own| own.balance),
            usage: number(|own| own.usage),
            overage: number(|own| own.overage),
            total_available_grant_amount: number(|own| own.limit),
        }
    }
}

/// A tenant by its id or external id; for a tenant's token there is none but itself.
async fn customer(
    scope: &UsageScope,
    metering: &Metering,
    tenants: &Tenants,
    which: &str,
    at: Option<Timestamp>,
) -> Result<EntitlementQuery, Problem> {
    scope.require_scope("usage:read")?;
    let tenant = metering.subject_of(scope.scope, which).await.map_err(|error| match error {
        metering::Error::UnknownSubject { .. } | metering::Error::ForeignSubject(_) => {
            Problem::new(Kind::NOT_FOUND, format!("there is no customer {which}"))
        }
        error => error.into(),
    })?;
    let tenant = tenants.find(scope.scope, tenant).await?;
    let in_use = matches!(tenant.status, Status::Active | Status::ChangingTier { .. });
    let tier = match at {
        // What it had then; its first tier also before it had one.
        Some(at) => {
            let mut tiers = tenants.tiers(scope.scope, tenant.id).await?;
            let then = tiers.iter().rposition(|span| span.since <= at).unwrap_or(0);
            if tiers.is_empty() { tenant.tier } else { tiers.swap_remove(then).tier }
        }
        None => tenant.tier,
    };
    Ok(EntitlementQuery { tenant: tenant.id, tier, in_use, at })
}

/// Says what a customer may use: the features of its tier's plan, and the meters that have a quota.
#[utoipa::path(get, path = "/api/v1/customers/{customer_id_or_key}/access", tag = "usage",
    params(("customer_id_or_key" = String, Path)), responses((status = 200, body = CustomerAccessView), (status = 404)))]
async fn read_customer_access(
    scope: UsageScope,
    State(tenants): State<Tenants>,
    State(billing): State<Billing>,
    State(metering): State<Metering>,
    Path(which): Path<String>,
) -> Result<Json<CustomerAccessView>, Problem> {
    let query = customer(&scope, &metering, &tenants, &which, None).await?;
    let all = billing.entitlements(scope.scope, &query).await?;
    Ok(Json(CustomerAccessView { entitlements: all.into_iter().map(|(key, own)| (key, own.into())).collect() }))
}

/// As of when a value is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ValueQuery {
    /// RFC 3339; now when absent.
    time: Option<String>,
}

impl ValueQuery {
    fn parse(&self) -> Result<Option<Timestamp>, Problem> {
        let mut faults = Faults::new();
        let at = self.time.as_deref().map(|text| faults.parse::<Timestamp>("time", text));
        faults.finish(Some(at.flatten())).map_err(|faults| Problem::bad(&faults))
    }
}

/// The services a value comes from.
#[derive(Clone)]
struct Sources {
    tenants: Tenants,
    billing: Billing,
    metering: Metering,
}

impl<S> FromRef<S> for Sources
where
    Tenants: FromRef<S>,
    Billing: FromRef<S>,
    Metering: FromRef<S>,
{
    fn from_ref(state: &S) -> Self {
        Self {
            tenants: FromRef::from_ref(state),
            billing: FromRef::from_ref(state),
            metering: FromRef::from_ref(state),
        }
    }
}

async fn value(
    scope: &UsageScope,
    sources: &Sources,
    (which, feature): &(String, String),
    at: Option<Timestamp>,
) -> Result<Json<EntitlementView>, Problem> {
    let query = customer(scope, &sources.metering, &sources.tenants, which, at).await?;
    let found = sources.billing.entitlement(scope.scope, &query, feature).await?;
    let found = found.ok_or_else(|| Problem::new(Kind::NOT_FOUND, format!("no plan has the feature {feature}")))?;
    Ok(Json(found.into()))
}

/// Says whether a customer may use a feature, or how much is left of a meter. What only other tiers have is refused;
/// what no plan names is not there.
#[utoipa::path(get, path = "/api/v2/customers/{customer_id_or_key}/entitlements/{feature}/value", tag = "usage",
    params(("customer_id_or_key" = String, Path), ("feature" = String, Path), ValueQuery),
    responses((status = 200, body = EntitlementView), (status = 400), (status = 404)))]
async fn read_entitlement_value(
    scope: UsageScope,
    State(sources): State<Sources>,
    Path(which): Path<(String, String)>,
    Query(query): Query<ValueQuery>,
) -> Result<Json<EntitlementView>, Problem> {
    value(&scope, &sources, &which, query.parse()?).await
}

/// The same in the first version of their API.
#[utoipa::path(get, path = "/api/v1/customers/{customer_id_or_key}/entitlements/{feature}/value", tag = "usage",
    params(("customer_id_or_key" = String, Path), ("feature" = String, Path)),
    responses((status = 200, body = EntitlementView), (status = 404)))]
async fn read_entitlement_value_v1(
    scope: UsageScope,
    State(sources): State<Sources>,
    Path(which): Path<(String, String)>,
) -> Result<Json<EntitlementView>, Problem> {
    value(&scope, &sources, &which, None).await
}
