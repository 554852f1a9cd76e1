//! Where the directory's facts come from: the services that own them.

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::{
    admission::RateTerms,
    directory::{BoxFuture, Facts, SourceError, TenantSource, UsageAsOf},
    terms::QuotaTerms,
};
use crate::{
    billing::{Billing, Quota, QuotaMode},
    kernel::{Period, Quantity, Standing, TenantId},
    metering::{Metering, UsedAsOf},
    provisioning::Provisioning,
    store::Scope,
    tenants::{self, Status, Tenant, Tenants},
};

/// The services that know about tenants.
#[derive(Clone)]
pub struct Services {
    /// State and tier.
    pub tenants: Tenants,
    /// Plans and quotas.
    pub billing: Billing,
    /// What was used.
    pub metering: Metering,
    /// Where a tenant's own upstream is.
    pub provisioning: Provisioning,
    /// Where the store's connections live: a call may be on a thread of its own.
    pub runtime: Handle,
}

impl TenantSource for Services {
    fn load(&self, tenant: TenantId, usage: UsageAsOf) -> BoxFuture<'_, Result<Option<Facts>, SourceError>> {
        let own = self.clone();
        let loading = AbortOnDropHandle::new(self.runtime.spawn(async move { own.find(tenant, usage).await }));
        Box::pin(async move { loading.await.map_err(|error| SourceError(error.into()))? })
    }
}

impl Services {
    async fn find(&self, tenant: TenantId, usage: UsageAsOf) -> Result<Option<Facts>, SourceError> {
        let scope = Scope::Job("gateway");
        match self.tenants.find(scope, tenant).await {
            Ok(tenant) => self.facts(scope, tenant, usage).await.map(Some),
            Err(tenants::Error::Unknown(_)) => Ok(None),
            Err(error) => Err(SourceError(error.into())),
        }
    }

    async fn facts(&self, scope: Scope, tenant: Tenant, usage: UsageAsOf) -> Result<Facts, SourceError> {
        let standing = match &tenant.status {
            Status::Active | Status::ChangingTier { .. } if tenant.unavailable.is_some() => Standing::Unavailable,
            Status::Active | Status::ChangingTier { .. } => Standing::Active,
            Status::Deleted { .. } => Standing::Gone,
            status => Standing::Refused(status.name()),
        };
        let Some(plan) = self.billing.plan(&tenant.tier) else {
            return Ok(Facts {
                tier: tenant.tier,
                standing: Standing::Refused("without a plan"),
                features: Vec::new(),
                rate: None,
                max_concurrency: None,
                upstream: None,
                quotas: Vec::new(),
                limited_to: None,
                as_of: 0,
            });
        };
        let upstream = self.provisioning.upstream(scope, tenant.id).await;
        let upstream = upstream.map_err(|error| SourceError(error.into()))?;
        let limits = self.billing.limits(scope, tenant.id, &plan).await.map_err(|error| SourceError(error.into()))?;
        if usage == UsageAsOf::Now {
            self.metering.catch_up().await.map_err(|error| SourceError(error.into()))?;
        }
        let terms: Vec<QuotaTerms> = limits.quotas.iter().filter_map(|quota| self.terms(quota)).collect();
        let now = self.billing.now();
        let wanted: Vec<_> =
            terms.iter().map(|quota| (quota.key.clone(), Period::containing(now, quota.unit))).collect();
        let used = self.metering.used_as_of(scope, tenant.id, &wanted).await;
        let UsedAsOf { used, seq } = used.map_err(|error| SourceError(error.into()))?;
        let rate =
            limits.rate.map(|limit| RateTerms { requests: limit.requests, per_s: limit.per_s, burst: limit.burst });
        Ok(Facts {
            tier: tenant.tier,
            standing,
            features: plan.features.clone(),
            rate,
            max_concurrency: limits.max_concurrency,
            upstream: upstream.and_then(|address| address.parse().ok()),
            quotas: terms.into_iter().zip(used.into_iter().map(thousandths)).collect(),
            limited_to: limits.limited.map(|limited| limited.tier),
            as_of: seq,
        })
    }

    /// A quota of a meter that the gateway counts.
    fn terms(&self, quota: &Quota) -> Option<QuotaTerms> {
        Some(QuotaTerms {
            meter: self.metering.meter_number(quota.meter.as_str())?,
            key: quota.meter.clone(),
            limit: thousandths(quota.limit),
            unit: quota.period,
            hard: quota.mode == QuotaMode::Hard,
        })
    }
}

/// A quantity in whole thousandths, rounded down; held at the largest number.
fn thousandths(quantity: Quantity) -> i64 {
    use rust_decimal::prelude::ToPrimitive as _;
    let scaled = quantity.as_decimal().checked_mul(rust_decimal::Decimal::from(1_000));
    scaled.and_then(|scaled| scaled.floor().to_i64()).unwrap_or(i64::MAX)
}
