//! What tenants would owe by another plan. The usage, the instants and the rating are those of their bills; nothing is written.

use std::sync::Arc;

use super::{
    error::Error,
    model::Bill,
    service::Billing,
    spans::{Catalogue, Instead, Replacement},
};
use crate::{
    kernel::{CalendarUnit, Currency, Fault, Money, Period, TenantId, TierName, Timestamp},
    store::Scope,
};

/// The longest time that is looked at, in days.
const MOST_DAYS: i64 = 732;
const DAY_S: i64 = 86_400;
/// Accounts that were closed so many days before may have a period that reaches into the time asked for.
const PERIOD_DAYS: i64 = 366;

/// For which periods of each tenant something is worked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The one that an instant lies in.
    At(Timestamp),
    /// All that have an instant of a time.
    Within(Period),
}

impl Range {
    /// All periods that have an instant from one time to another.
    pub fn within(from: Timestamp, to: Timestamp) -> Result<Self, Error> {
        let period = Period::new(from, to).map_err(|_| invalid("to", "must be after from".to_owned()))?;
        if period.micros() > MOST_DAYS * DAY_S * 1_000_000 {
            return Err(invalid("to", format!("must be at most {MOST_DAYS} days after from")));
        }
        Ok(Self::Within(period))
    }

    const fn first(self) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Within(period) => period.from(),
        }
    }

    /// Whether a period that begins then is one of them.
    fn goes_on_at(self, at: Timestamp) -> bool {
        match self {
            Self::At(_) => false,
            Self::Within(period) => at < period.to(),
        }
    }

    /// A time outside of which no account has anything to do with it.
    pub(super) fn reach(self) -> (Timestamp, Timestamp) {
        let until = match self {
            Self::At(at) => Period::containing(at, CalendarUnit::Month).to(),
            Self::Within(period) => Period::containing(period.to(), CalendarUnit::Month).to(),
        };
        (until, self.first().plus_secs(-PERIOD_DAYS * DAY_S))
    }
}

fn invalid(field: &str, detail: String) -> Error {
    Error::Invalid(vec![Fault { field: field.into(), detail }])
}

/// A question.
#[derive(Debug, Clone)]
pub struct WhatIf {
    catalogue: Arc<Catalogue>,
    range: Range,
}

/// What a tenant owes and would owe.
#[derive(Debug, Clone)]
pub struct Compared {
    /// Who.
    pub tenant: TenantId,
    /// In what it owes.
    pub currency: Currency,
    /// Period by period: as it is, and as it would be.
    pub periods: Vec<(Bill, Bill)>,
}

impl Compared {
    /// What it owes and would owe, in all.
    pub fn sums(&self) -> Result<(Money, Money), Error> {
        let zero = Money::zero(self.currency);
        let add = |(is, would): (Money, Money), (one, other): &(Bill, Bill)| {
            Ok::<_, Error>((is.add(one.total)?, would.add(other.total)?))
        };
        self.periods.iter().try_fold((zero, zero), add)
    }
}

impl Billing {
    /// A question: what if something else had been in place of a plan. Only of plans in the currency of some plan, and of tiers
    /// that there are.
    pub fn what_if(&self, replacement: Replacement, range: Range) -> Result<WhatIf, Error> {
        let catalogue = self.catalogue();
        let known = |tier: &TierName| match catalogue.newest(tier) {
            Some(_) => Ok(()),
            None => Err(invalid("replace", format!("there is no plan for the tier {tier}"))),
        };
        replacement.of.as_ref().map_or(Ok(()), known)?;
        match &replacement.by {
            Instead::Tier(tier) if catalogue.newest(tier).is_none() => {
                return Err(Error::UnknownTier(tier.clone()));
            }
            Instead::Plan(plan) if !catalogue.has_currency(plan.currency()) => {
                let detail = format!("is {}, which no tier's plan has", plan.currency());
                return Err(invalid("plan", detail));
            }
            _ => {}
        }
        if range.first() > self.clock.now() {
            return Err(invalid("from", "must not be in the future".to_owned()));
        }
        Ok(WhatIf { catalogue: Arc::new(catalogue.replaced(replacement)), range })
    }

    /// The answer for one tenant.
    pub async fn compare(&self, scope: Scope, tenant: TenantId, question: &WhatIf) -> Result<Compared, Error> {
        let mut periods = Vec::new();
        let mut at = question.range.first();
        loop {
            let is = self.bill(scope, tenant, at).await?;
            let would = self.bill_by(scope, tenant, at, &question.catalogue).await?;
            let currency = is.total.currency();
            at = is.period.to();
            // Before its account was opened and after it was closed a tenant owes nothing by any plan.
            if !is.lines.is_empty() || !would.lines.is_empty() {
                periods.push((is, would));
            }
            if !question.range.goes_on_at(at) {
                return Ok(Compared { tenant, currency, periods });
            }
        }
    }
}

impl WhatIf {
    /// Of which time.
    pub const fn range(&self) -> Range {
        self.range
    }
}
