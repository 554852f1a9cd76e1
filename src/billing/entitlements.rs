//! What a tenant's plan entitles it to: the features it switches on, and meters up to their quotas.

use std::collections::BTreeMap;

use super::{
    error::Error,
    model::{Plan, Quota, QuotaMode},
    service::Billing,
};
use crate::{
    kernel::{Period, Quantity, QuantityError, TenantId, TierName, Timestamp},
    metering,
    store::Scope,
};

/// Whether something may be used, and how much of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entitlement {
    /// The plan does not have it, or the tenant is not in use.
    Refused(Option<Metered>),
    /// It may be used; as much as one likes, unless it is metered.
    Granted(Option<Metered>),
}

/// A quota and what of it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metered {
    /// How much there is in the period.
    pub limit: Quantity,
    /// What was used of it.
    pub usage: Quantity,
    /// What is left, never below zero.
    pub balance: Quantity,
    /// What was used beyond it.
    pub overage: Quantity,
}

impl Metered {
    fn new(limit: Quantity, usage: Quantity) -> Result<Self, QuantityError> {
        let left = limit.sub(usage)?;
        let beyond = usage.sub(limit)?;
        let or_zero = |quantity: Quantity| if quantity.is_negative() { Quantity::ZERO } else { quantity };
        Ok(Self { limit, usage, balance: or_zero(left), overage: or_zero(beyond) })
    }
}

impl Entitlement {
    /// Of one quota: a hard one ends, a soft one only tells.
    const fn of(mode: QuotaMode, metered: Metered, used_up: bool) -> Self {
        match mode {
            QuotaMode::Hard if used_up => Self::Refused(Some(metered)),
            _ => Self::Granted(Some(metered)),
        }
    }

    /// Of a meter with several quotas: the one that has least left is told, and each may refuse.
    fn and(self, other: Self) -> Self {
        let metered = match (self.metered(), other.metered()) {
            (Some(one), Some(other)) => {
                let nearer = (other.balance, one.overage) < (one.balance, other.overage);
                Some(if nearer { other } else { one })
            }
            (one, other) => one.or(other),
        };
        if self.granted() && other.granted() { Self::Granted(metered) } else { Self::Refused(metered) }
    }

    /// Of a tenant that is not in use.
    const fn refused(self) -> Self {
        Self::Refused(self.metered())
    }

    /// Whether it may be used.
    pub const fn granted(self) -> bool {
        matches!(self, Self::Granted(_))
    }

    /// The quota it comes from, if it does.
    pub const fn metered(self) -> Option<Metered> {
        match self {
            Self::Refused(metered) | Self::Granted(metered) => metered,
        }
    }
}

/// Whose entitlements are asked for, and when.
#[derive(Debug, Clone)]
pub struct EntitlementQuery {
    /// The tenant.
    pub tenant: TenantId,
    /// Its tier.
    pub tier: TierName,
    /// Whether it is in use.
    pub in_use: bool,
    /// As of when; now when absent.
    pub at: Option<Timestamp>,
}

impl Billing {
    /// Everything a tenant's plan names, by the key of the feature or meter.
    pub async fn entitlements(
        &self,
        scope: Scope,
        query: &EntitlementQuery,
    ) -> Result<BTreeMap<String, Entitlement>, Error> {
        let at = query.at.unwrap_or_else(|| self.now());
        let catalogue = self.catalogue();
        let plan = catalogue.at(&query.tier, at).map(|version| &version.plan);
        let features = plan.into_iter().flat_map(|plan| &plan.features);
        let mut all: BTreeMap<String, Entitlement> =
            features.map(|feature| (feature.clone(), Entitlement::Granted(None))).collect();
        let quotas = match plan {
            Some(plan) => self.limits(scope, query.tenant, plan).await?.quotas,
            None => self.quotas(scope, query.tenant).await?.unwrap_or_default(),
        };
        for quota in &quotas {
            let entitlement = self.metered(scope, query, quota, at).await?;
            all.entry(quota.meter.to_string()).and_modify(|own| *own = own.and(entitlement)).or_insert(entitlement);
        }
        if !query.in_use {
            for entitlement in all.values_mut() {
                *entitlement = entitlement.refused();
            }
        }
        Ok(all)
    }

    /// One of them. What only other plans have is refused, what only they limit is granted; `None` for what no plan
    /// names.
    pub async fn entitlement(
        &self,
        scope: Scope,
        query: &EntitlementQuery,
        feature: &str,
    ) -> Result<Option<Entitlement>, Error> {
        if let Some(own) = self.entitlements(scope, query).await?.remove(feature) {
            return Ok(Some(own));
        }
        let (catalogue, now) = (self.catalogue(), self.now());
        let plans = || catalogue.tiers().filter_map(|tier| catalogue.at(tier, now)).map(|version| &version.plan);
        let limited = |plan: &Plan| plan.quotas.iter().any(|quota| quota.meter.as_str() == feature);
        Ok(if plans().any(|plan| limited(plan)) {
            Some(if query.in_use { Entitlement::Granted(None) } else { Entitlement::Refused(None) })
        } else {
            plans().any(|plan| plan.features.iter().any(|own| own == feature)).then_some(Entitlement::Refused(None))
        })
    }

    async fn metered(
        &self,
        scope: Scope,
        query: &EntitlementQuery,
        quota: &Quota,
        at: Timestamp,
    ) -> Result<Entitlement, Error> {
        let whole = Period::containing(at, quota.period);
        // As of an instant: nothing that came after its minute.
        let until = query.at.map_or(whole.to(), |at| at.plus_micros(1).ceil_minute().min(whole.to()));
        let period = Period::new(whole.from(), until).unwrap_or(whole);
        let usage = self.usage().total(scope, query.tenant, &quota.meter, period).await?;
        let inexact = |source| metering::Error::Inexact { meter: quota.meter.clone(), source };
        let metered = Metered::new(quota.limit, usage).map_err(inexact)?;
        Ok(Entitlement::of(quota.mode, metered, metered.balance.is_zero()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entitlement(mode: QuotaMode, limit: i64, usage: i64) -> Entitlement {
        let metered = Metered::new(limit.into(), usage.into()).unwrap();
        Entitlement::of(mode, metered, metered.balance.is_zero())
    }

    fn shown(entitlement: Entitlement) -> (bool, String) {
        let metered = entitlement.metered().unwrap();
        (entitlement.granted(), format!("{} {} {}", metered.usage, metered.balance, metered.overage))
    }

    #[test]
    fn a_hard_quota_ends_and_a_soft_one_tells() {
        for (mode, usage, expected) in [
            (QuotaMode::Hard, 4, (true, "4 6 0")),
            (QuotaMode::Hard, 10, (false, "10 0 0")),
            (QuotaMode::Hard, 13, (false, "13 0 3")),
            (QuotaMode::Soft, 13, (true, "13 0 3")),
        ] {
            let (granted, text) = shown(entitlement(mode, 10, usage));
            assert_eq!((granted, text.as_str()), expected);
        }
    }

    #[test]
    fn of_several_quotas_the_nearest_is_told_and_each_may_refuse() {
        let (day, month) = (entitlement(QuotaMode::Hard, 10, 3), entitlement(QuotaMode::Hard, 100, 98));
        assert_eq!(shown(day.and(month)), (true, "98 2 0".into()));
        assert_eq!(shown(month.and(day)), (true, "98 2 0".into()));
        let soft = entitlement(QuotaMode::Soft, 10, 30);
        let hard = entitlement(QuotaMode::Hard, 30, 30);
        assert_eq!(shown(hard.and(soft)), (false, "30 0 20".into()));
        assert_eq!(shown(soft.and(hard)), (false, "30 0 20".into()));
    }
}
