//! What a change of tier comes to for the period that runs: the parts that it is billed in, by what was used so far.

use super::{error::Error, model::Bill, service::Billing};
use crate::{
    kernel::{Money, Period, TenantId, TierName, Timestamp},
    store::Scope,
};

/// The bill of a period with a change of tier in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierSplit {
    /// The period.
    pub period: Period,
    /// From when on the new tier is billed: the minute of the change.
    pub switched_at: Timestamp,
    /// What is owed without the change.
    pub unchanged: Money,
    /// What is owed with it.
    pub changed: Money,
    /// That, part by part.
    pub parts: Vec<TierPart>,
}

/// A part of a period with one tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierPart {
    /// The tier.
    pub tier: TierName,
    /// The part.
    pub period: Period,
    /// What its lines come to.
    pub amount: Money,
}

impl TierSplit {
    fn new(bill: &Bill, switched_at: Timestamp, unchanged: Money) -> Result<Self, Error> {
        let mut parts: Vec<TierPart> = Vec::new();
        for line in &bill.lines {
            let amount = line.line.amount;
            match parts.iter_mut().find(|part| part.tier == line.tier && part.period == line.period) {
                Some(part) => part.amount = part.amount.add(amount)?,
                None => parts.push(TierPart { tier: line.tier.clone(), period: line.period, amount }),
            }
        }
        parts.sort_by_key(|part| part.period.from());
        Ok(Self { period: bill.period, switched_at, unchanged, changed: bill.total, parts })
    }
}

impl Billing {
    /// What a change of a tenant's tier would come to, were it made now.
    pub async fn tier_split(&self, scope: Scope, tenant: TenantId, to: &TierName) -> Result<TierSplit, Error> {
        let now = self.clock.now();
        let is = self.bill(scope, tenant, now).await?;
        // As `tenants` notes it.
        let since = now.floor_minute();
        let catalogue = self.catalogue().with_change(since, to.clone());
        let would = self.bill_by(scope, tenant, now, &catalogue).await?;
        TierSplit::new(&would, since, is.total)
    }

    /// What one that was looked at beforehand came to.
    pub async fn tier_split_made(
        &self,
        scope: Scope,
        tenant: TenantId,
        (before, at): (&TierSplit, Timestamp),
    ) -> Result<TierSplit, Error> {
        let bill = self.bill(scope, tenant, at).await?;
        TierSplit::new(&bill, at.floor_minute(), before.unchanged)
    }
}
