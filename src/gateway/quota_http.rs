//! `GET /v1/quota`: what is left of the caller's limits, as the next request of this node would find them.

use axum::extract::{FromRef, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Directory, directory::Known, terms::QuotaTerms};
use crate::{
    identity::Verifier,
    kernel::{CalendarUnit, Clock, Period, Quantity, TenantId, Timestamp},
    web::{AdminScope, Json, Kind, Path, Problem, TenantAccess},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Directory: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(read_quota)).routes(routes!(read_quotas))
}

/// The caller's limits.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitsView {
    tier: String,
    /// Limits by calendar period (UTC).
    quotas: Vec<QuotaView>,
    /// Limit by second; `null` when there is none.
    rate_limit: Option<RateView>,
    /// How many requests may be under way at once; `null` when nobody minds.
    max_concurrency: Option<u32>,
    /// What the tier switches on.
    features: Vec<String>,
    /// The tier whose limits these are while an invoice is overdue; `null` when they are the tenant's own.
    limited_to: Option<String>,
}

/// A quota and how much of it is used.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuotaView {
    meter: String,
    limit: Quantity,
    period: CalendarUnit,
    /// `hard` refuses more, `soft` only shows it.
    mode: &'static str,
    /// Used in the current period, requests under way included.
    used: Quantity,
    /// What is left; zero beyond a soft limit.
    remaining: Quantity,
    /// More is used than the limit: only a soft one lets it come to that.
    exceeded: bool,
    /// When the period ends.
    resets_at: Timestamp,
}

/// `requests` every `per_s` seconds, with bursts of up to `burst`.
#[derive(Debug, Serialize, ToSchema)]
pub struct RateView {
    requests: u32,
    per_s: u32,
    burst: u32,
}

impl QuotaView {
    fn new(quota: &QuotaTerms, period: Period, used: i64) -> Self {
        // Thousandths of any number of units are a quantity.
        let quantity = |thousandths| Quantity::from_scaled(thousandths, 3).unwrap_or_default();
        Self {
            meter: quota.key.to_string(),
            limit: quantity(quota.limit),
            period: quota.unit,
            mode: if quota.hard { "hard" } else { "soft" },
            used: quantity(used),
            remaining: quantity(quota.limit.saturating_sub(used).max(0)),
            exceeded: used > quota.limit,
            resets_at: period.to(),
        }
    }
}

impl LimitsView {
    fn new((_, loaded): &Known, clock: &dyn Clock) -> Self {
        let (terms, now) = (&loaded.terms, clock.now());
        let quotas = terms.quotas.iter().zip(&loaded.counters).map(|(quota, counter)| {
            let (period, used) = counter.used(now);
            QuotaView::new(quota, period, used)
        });
        let rate = terms.rate.map(|rate| RateView { requests: rate.requests, per_s: rate.per_s, burst: rate.burst });
        Self {
            tier: terms.tier.to_string(),
            quotas: quotas.collect(),
            rate_limit: rate,
            max_concurrency: terms.max_concurrency,
            features: terms.features.clone(),
            limited_to: terms.limited_to.as_ref().map(ToString::to_string),
        }
    }
}

async fn limits(directory: &Directory, tenant: TenantId) -> Result<Json<LimitsView>, Problem> {
    let unreadable = |error| Problem::new(Kind::UNAVAILABLE, "the tenant's limits cannot be read now").caused_by(error);
    let known = directory.load(tenant).await.map_err(unreadable)?;
    let known = known.ok_or_else(|| Problem::new(Kind::NOT_FOUND, "there is no such tenant"))?;
    Ok(Json(LimitsView::new(&known, directory.clock())))
}

/// What is left of the caller's limits.
#[utoipa::path(get, path = "/v1/quota", tag = "tenant", responses((status = 200, body = LimitsView), (status = 403)))]
async fn read_quota(call: TenantAccess, State(directory): State<Directory>) -> Result<Json<LimitsView>, Problem> {
    call.require_scope("usage:read")?;
    limits(&directory, call.tenant).await
}

/// What is left of a tenant's limits, as the next request of this node would find them.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/quotas", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = LimitsView), (status = 404)))]
async fn read_quotas(
    _: AdminScope,
    State(directory): State<Directory>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<LimitsView>, Problem> {
    limits(&directory, tenant).await
}
