//! `GET /v1/quota`: what is left of the caller's limits, as the next request of this node would find them.

use axum::extract::{FromRef, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Directory, directory::QuotaFact};
use crate::{
    identity::Verifier,
    kernel::{CalendarUnit, Period, Quantity, Timestamp},
    metering::STOCK_METERS,
    web::{Json, Kind, Problem, TenantAccess},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Directory: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(read_quota))
}

/// The caller's limits.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitsView {
    tier: String,
    /// Limits by calendar period (UTC).
    quotas: Vec<QuotaView>,
    /// Limit by second; `null` when there is none.
    rate_limit: Option<RateView>,
}

/// A quota and how much of it is used.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuotaView {
    meter: &'static str,
    limit: Quantity,
    period: CalendarUnit,
    /// `hard` refuses more, `soft` only shows it.
    mode: &'static str,
    /// Used in the current period, requests under way included.
    used: Quantity,
    /// What is left; zero beyond a soft limit.
    remaining: Quantity,
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
    fn new(quota: &QuotaFact, period: Period, used: i64) -> Option<Self> {
        let quantity = |thousandths| Quantity::from_scaled(thousandths, 3);
        Some(Self {
            meter: STOCK_METERS.get(usize::from(quota.meter))?.key,
            limit: quantity(quota.limit)?,
            period: quota.unit,
            mode: if quota.hard { "hard" } else { "soft" },
            used: quantity(used)?,
            remaining: quantity(quota.limit.saturating_sub(used).max(0))?,
            resets_at: period.to(),
        })
    }
}

/// What is left of the caller's limits.
#[utoipa::path(get, path = "/v1/quota", tag = "tenant", responses((status = 200, body = LimitsView), (status = 403)))]
async fn read_quota(call: TenantAccess, State(directory): State<Directory>) -> Result<Json<LimitsView>, Problem> {
    call.require_scope("usage:read")?;
    let unreadable = |error| Problem::new(Kind::UNAVAILABLE, "the tenant's limits cannot be read now").caused_by(error);
    let loaded = directory.load(call.tenant).await.map_err(unreadable)?;
    let (_, loaded) = loaded.ok_or_else(|| Problem::new(Kind::NOT_FOUND, "there is no such tenant"))?;
    let now = directory.clock().now();
    let view = |(quota, counter): &(QuotaFact, std::sync::Arc<super::admission::Counter>)| {
        let (period, used) = counter.used(now);
        QuotaView::new(quota, period, used)
    };
    Ok(Json(LimitsView {
        tier: loaded.facts.tier.to_string(),
        quotas: loaded.limits.iter().filter_map(view).collect(),
        rate_limit: loaded.facts.rate.map(|rate| RateView {
            requests: rate.requests,
            per_s: rate.per_s,
            burst: rate.burst,
        }),
    }))
}
