//! Moving a tenant to another tier, with its infrastructure.

use super::{error::Error, service::Onboarding};
use crate::{
    kernel::{Actor, Isolation, TenantId, TierName},
    provisioning::{self, Infrastructure},
    store::Scope,
    tenants::{self, Deed, Status, Tenant},
};

/// What a change of tier does, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierChange {
    /// The tenant as it is now.
    pub tenant: Tenant,
    /// The tier it had.
    pub from: TierName,
    /// The tier it has, or would have.
    pub to: TierName,
    /// What happens to its infrastructure.
    pub infrastructure: Move,
}

/// What happens to infrastructure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Both tiers want the same kind.
    Kept(Option<Infrastructure>),
    /// It would be moved.
    Planned {
        /// What is there.
        from: Option<Infrastructure>,
        /// What would be made.
        to: Isolation,
    },
    /// It was moved.
    Moved {
        /// What was there.
        from: Option<Infrastructure>,
        /// What is there now.
        to: Infrastructure,
    },
}

impl Onboarding {
    /// What a change of tier would do; changes nothing.
    pub async fn plan_tier_change(&self, scope: Scope, id: TenantId, to: TierName) -> Result<TierChange, Error> {
        let wanted = self.isolation_of(&to)?;
        let tenant = self.services.tenants.find(scope, id).await?;
        self.services.billing.must_owe_in_currency_of(scope, id, &to).await?;
        if tenant.tier != to {
            tenant.clone().begin_tier_change(to.clone())?;
        }
        let existing = self.infrastructure(scope, id).await?;
        let infrastructure = match existing {
            Some(made) if made.isolation == wanted => Move::Kept(Some(made)),
            from => Move::Planned { from, to: wanted },
        };
        Ok(TierChange { from: tenant.tier.clone(), tenant, to, infrastructure })
    }

    /// Moves a tenant to another tier. Calls go on during the move. A move that fails leaves the old tier in force.
    pub async fn change_tier(
        &self,
        scope: Scope,
        actor: Actor,
        id: TenantId,
        to: TierName,
    ) -> Result<TierChange, Error> {
        self.isolation_of(&to)?;
        let tenant = self.services.tenants.find(scope, id).await?;
        if tenant.tier == to && tenant.status == Status::Active {
            let infrastructure = Move::Kept(self.infrastructure(scope, id).await?);
            return Ok(TierChange { from: tenant.tier.clone(), tenant, to, infrastructure });
        }
        self.services.billing.must_owe_in_currency_of(scope, id, &to).await?;
        let target = to.clone();
        let deed = Deed { actor, action: "tenant.tier_asked", detail: Some(format!("{} to {to}", tenant.tier)) };
        self.services.tenants.change_by(scope, deed, id, |tenant| tenant.begin_tier_change(target)).await?;
        let this = self.clone();
        match self.run_detached(async move { this.finish_tier_change(scope, actor, id, to).await }).await {
            Some(done) => done,
            None => Err(tenants::Error::WrongState { id, status: "changing_tier", verb: "finish now" }.into()),
        }
    }

    async fn finish_tier_change(
        &self,
        scope: Scope,
        actor: Actor,
        id: TenantId,
        to: TierName,
    ) -> Result<TierChange, Error> {
        let wanted = self.isolation_of(&to)?;
        let from = self.services.tenants.find(scope, id).await?.tier;
        let before = self.infrastructure(scope, id).await?;
        let after = match self.services.provisioning.ensure(scope, id, wanted).await {
            Ok(made) => made,
            Err(error) => {
                let deed = Deed { actor, action: "tenant.tier_kept", detail: Some(format!("{from}, not {to}")) };
                self.services.tenants.change_by(scope, deed, id, Tenant::abandon_tier_change).await?;
                return Err(error.into());
            }
        };
        let deed = Deed { actor, action: "tenant.tier_changed", detail: Some(format!("{from} to {to}")) };
        let tenant = self.services.tenants.change_by(scope, deed, id, Tenant::finish_tier_change).await?;
        let infrastructure = match before {
            Some(before) if before.id == after.id => Move::Kept(Some(after)),
            before => Move::Moved { from: before, to: after },
        };
        Ok(TierChange { tenant, from, to, infrastructure })
    }

    pub(super) async fn resume_tier_changes(&self, scope: Scope) -> Result<usize, Error> {
        let interrupted = self.in_state(scope, "changing_tier").await?;
        for tenant in &interrupted {
            if let Status::ChangingTier { to } = &tenant.status
                && let Err(error) = self.finish_tier_change(scope, Actor::Job("resume"), tenant.id, to.clone()).await
            {
                tracing::warn!(tenant_id = %tenant.id, error = crate::kernel::fault::chain(&error), "a tier change was abandoned");
            }
        }
        Ok(interrupted.len())
    }

    async fn infrastructure(&self, scope: Scope, id: TenantId) -> Result<Option<Infrastructure>, Error> {
        match self.services.provisioning.find(scope, id).await {
            Ok(found) => Ok(Some(found)),
            Err(provisioning::Error::None(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn isolation_of(&self, tier: &TierName) -> Result<Isolation, Error> {
        let plan = self.services.billing.plan(tier).ok_or_else(|| Error::UnknownTier(tier.clone()))?;
        Ok(plan.isolation)
    }
}
