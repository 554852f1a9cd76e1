//! What a tenant is held to: its plan's limits or its own; and, while it owes what is overdue and the policy says so, no more than
//! those of the plan that the settings name for it.

use std::sync::Arc;

use serde_json::json;

use super::{
    error::Error,
    model::{Plan, Quota, QuotaMode, RateLimit},
    service::Billing,
};
use crate::{
    kernel::{Event, EventName, InvoiceId, TenantId, TierName, Timestamp},
    store::{Scope, Tx},
};

/// What a tenant is held to.
#[derive(Debug, Clone)]
pub struct Limits {
    /// By calendar period.
    pub quotas: Vec<Quota>,
    /// By second.
    pub rate: Option<RateLimit>,
    /// How many requests may be under way at once.
    pub max_concurrency: Option<u32>,
    /// Why they are lower than its own, if they are.
    pub limited: Option<Limited>,
}

/// A tenant is held to lower limits because an invoice is overdue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// Since when.
    pub since: Timestamp,
    /// Whose limits hold.
    pub tier: TierName,
}

impl Billing {
    /// What a tenant of a tier is held to. `plan` is the one in force.
    pub async fn limits(&self, scope: Scope, tenant: TenantId, plan: &Plan) -> Result<Limits, Error> {
        let own = self.quotas(scope, tenant).await?;
        let limits = Limits {
            quotas: own.unwrap_or_else(|| plan.quotas.clone()),
            rate: plan.rate_limit,
            max_concurrency: plan.max_concurrency,
            limited: None,
        };
        let mut tx = self.store.read(scope).await?;
        let Some(since) = tx.account_limited(tenant).await? else { return Ok(limits) };
        let Some(lower) = self.plan_of_overdue(&mut tx, tenant).await? else { return Ok(limits) };
        Ok(limits.held_to(&lower, since))
    }

    /// Whether a tenant is held to lower limits.
    pub async fn limited(&self, scope: Scope, tenant: TenantId) -> Result<Option<Limited>, Error> {
        let mut tx = self.store.read(scope).await?;
        let since = tx.account_limited(tenant).await?;
        let lower = self.plan_of_overdue(&mut tx, tenant).await?;
        Ok(since.zip(lower).map(|(since, lower)| Limited { since, tier: lower.tier.clone() }))
    }

    /// The plan whose limits hold for a tenant that does not pay: the one that the settings name, else that with the lowest base
    /// among those in its currency.
    async fn plan_of_overdue(&self, tx: &mut Tx, tenant: TenantId) -> Result<Option<Arc<Plan>>, Error> {
        if let Some(named) = self.config.overdue_tier.as_ref().and_then(|tier| self.plan(tier)) {
            return Ok(Some(named));
        }
        let account = tx.billing_account(tenant).await?;
        let currency = account.map_or(self.config.currency, |account| account.currency);
        let catalogue = self.catalogue();
        let plans = catalogue.tiers().filter_map(|tier| self.plan(tier)).filter(|plan| plan.currency() == currency);
        Ok(plans.min_by(|one, other| (one.base.minor(), &one.tier).cmp(&(other.base.minor(), &other.tier))))
    }

    /// Holds a tenant to lower limits because of an invoice, within the caller's transaction; `false` when it is already.
    pub async fn limit_in(&self, tx: &mut Tx, tenant: TenantId, invoice: InvoiceId) -> Result<bool, Error> {
        let limited = tx.account_limit(tenant, self.clock.now()).await?;
        if limited {
            self.tell_of_limit(tx, EventName::TenantLimited, tenant, Some(invoice)).await?;
        }
        Ok(limited)
    }

    /// Ends that within the caller's transaction; `false` when there is nothing to end.
    pub async fn lift_limit_in(&self, tx: &mut Tx, tenant: TenantId) -> Result<bool, Error> {
        let lifted = tx.account_unlimit(tenant).await?;
        if lifted {
            self.tell_of_limit(tx, EventName::TenantLimitLifted, tenant, None).await?;
        }
        Ok(lifted)
    }

    async fn tell_of_limit(
        &self,
        tx: &mut Tx,
        name: EventName,
        tenant: TenantId,
        invoice: Option<InvoiceId>,
    ) -> Result<(), Error> {
        let tier = self.plan_of_overdue(tx, tenant).await?.map(|plan| plan.tier.to_string());
        let data = json!({"tenant_id": tenant, "limits_of": tier, "invoice_id": invoice});
        let event = Event::new(name, Some(tenant), data, self.clock.now(), &*self.rng);
        Ok(tx.event_insert(&event).await?)
    }
}

impl Limits {
    /// These, or those of a plan where they are lower, all of them hard there.
    fn held_to(self, plan: &Plan, since: Timestamp) -> Self {
        let mut quotas = self.quotas;
        for lower in &plan.quotas {
            let same = |own: &&mut Quota| own.meter == lower.meter && own.period == lower.period;
            match quotas.iter_mut().find(same) {
                Some(own) => {
                    own.limit = own.limit.min(lower.limit);
                    own.mode = QuotaMode::Hard;
                }
                None => quotas.push(Quota { mode: QuotaMode::Hard, ..lower.clone() }),
            }
        }
        let most = [self.max_concurrency, plan.max_concurrency].into_iter().flatten().min();
        let rate = match (self.rate, plan.rate_limit) {
            (Some(own), Some(other)) => Some(lower_rate(own, other)),
            (own, other) => own.or(other),
        };
        Self { quotas, rate, max_concurrency: most, limited: Some(Limited { since, tier: plan.tier.clone() }) }
    }
}

/// The slower of two rates, with the smaller burst.
fn lower_rate(one: RateLimit, other: RateLimit) -> RateLimit {
    let is_slower = |a: RateLimit, b: RateLimit| {
        u64::from(a.requests) * u64::from(b.per_s) <= u64::from(b.requests) * u64::from(a.per_s)
    };
    let slower = if is_slower(one, other) { one } else { other };
    RateLimit { burst: one.burst.min(other.burst), ..slower }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::stock_plans;

    #[test]
    fn what_is_lower_holds_and_what_only_one_has_too() {
        let mut plans = stock_plans();
        plans[0].max_concurrency = Some(5);
        let (free, standard) = (&plans[0], &plans[1]);
        let mut quotas = standard.quotas.clone();
        quotas.push(Quota { meter: "compute".parse().unwrap(), ..quotas[0].clone() });
        let own = Limits { quotas, rate: standard.rate_limit, max_concurrency: Some(9), limited: None };
        let held = own.clone().held_to(free, Timestamp::MIN);
        let shown = |limits: &Limits| {
            limits.quotas.iter().map(|quota| format!("{} {}", quota.meter, quota.limit)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&held), ["apis 1000", "compute 100000"]);
        assert_eq!((held.rate, held.max_concurrency), (free.rate_limit, Some(5)));
        // A plan that allows more changes nothing but that what it limits is hard.
        let premium = own.clone().held_to(&plans[2], Timestamp::MIN);
        assert_eq!((shown(&premium), premium.rate), (shown(&own), own.rate));
        assert!(premium.quotas.iter().all(|quota| quota.mode == QuotaMode::Hard));
    }

    #[test]
    fn a_rate_is_slower_by_its_requests_a_second_not_by_its_numbers() {
        let rate = |requests, per_s, burst| RateLimit { requests, per_s, burst };
        assert_eq!(lower_rate(rate(100, 60, 10), rate(2, 1, 5)), rate(100, 60, 5));
        assert_eq!(lower_rate(rate(2, 1, 5), rate(100, 60, 10)), rate(100, 60, 5));
    }
}
