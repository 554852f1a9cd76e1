//! Percentage prices, transaction by transaction: what each costs depends on it alone and on what is free still, so a million of
//! them need no more room than one.

use super::model::{Percentage, Price, PriceModel};
use crate::kernel::{Quantity, QuantityError};

impl Percentage {
    /// Whether its amount depends on the single transactions, not on their sum alone.
    pub fn looks_at_each(&self) -> bool {
        let each = [self.min_per_event, self.max_per_event];
        !self.fixed_per_event.is_zero() || self.free_events.is_some() || each.iter().any(Option::is_some)
    }

    /// `2.9% + 0.3 each, at least 0.5, the first 2 free`
    pub fn in_words(&self) -> String {
        let bound = |words: &str, bound: Option<Quantity>| bound.map(|bound| format!(", {words} {bound}"));
        let fixed = Some(self.fixed_per_event).filter(|fixed| !fixed.is_zero()).map(|fixed| format!(" + {fixed} each"));
        let free = match (self.free_events, self.free_amount) {
            (None, None) => None,
            (Some(count), None) => Some(format!(", the first {count} free")),
            (None, Some(amount)) => Some(format!(", the first amount of {amount} free")),
            (Some(count), Some(amount)) => Some(format!(", the first {count} free, up to an amount of {amount}")),
        };
        let terms = [fixed, bound("at least", self.min_per_event), bound("at most", self.max_per_event), free];
        format!("{}%{}", self.rate_percent, terms.into_iter().flatten().collect::<String>())
    }
}

impl Price {
    /// Its terms, when they are about single transactions.
    pub fn per_transaction(&self) -> Option<&Percentage> {
        match &self.model {
            PriceModel::Percentage(terms) if terms.looks_at_each() => Some(terms),
            _ => None,
        }
    }
}

/// What transactions come to exactly, before discount, maximum and minimum of their line: those that were billed before in the
/// period, and these with those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charged {
    /// Of what was billed before.
    pub earlier: Quantity,
    /// Of all.
    pub whole: Quantity,
}

/// Adds up what transactions cost, as they come.
#[derive(Debug, Clone)]
pub struct Tally<'p> {
    terms: &'p Percentage,
    /// What is left of the units that cost nothing.
    included: Option<Quantity>,
    allowance: Allowance,
    sum: Quantity,
}

impl<'p> Tally<'p> {
    /// Of nothing yet.
    pub fn new(terms: &'p Percentage, included: Option<Quantity>) -> Self {
        Self { terms, included, allowance: Allowance::new(terms), sum: Quantity::ZERO }
    }

    /// Adds the next one.
    pub fn add(&mut self, transaction: Quantity) -> Result<(), QuantityError> {
        let mut paid = transaction;
        if let Some(left) = &mut self.included {
            paid = transaction.sub(transaction.min(*left).max(Quantity::ZERO))?;
            *left = left.sub(transaction.sub(paid)?)?;
            if paid.is_zero() {
                return Ok(());
            }
        }
        let Some(paid) = self.allowance.take(paid)? else { return Ok(()) };
        let mut price = paid.mul(self.terms.rate_percent.percent()?)?.add(self.terms.fixed_per_event)?;
        if let Some(most) = self.terms.max_per_event {
            price = price.min(most);
        }
        if let Some(least) = self.terms.min_per_event {
            price = price.max(least);
        }
        self.sum = self.sum.add(price)?;
        Ok(())
    }

    /// What they come to so far.
    pub const fn sum(&self) -> Quantity {
        self.sum
    }
}

/// What is still free. Both allowances end with the first of them that is used up.
#[derive(Debug, Clone)]
struct Allowance {
    events: Option<u64>,
    amount: Option<Quantity>,
}

impl Allowance {
    const fn new(terms: &Percentage) -> Self {
        Self { events: terms.free_events, amount: terms.free_amount }
    }

    /// The part of a transaction that is paid for; `None` when all of it is free.
    fn take(&mut self, transaction: Quantity) -> Result<Option<Quantity>, QuantityError> {
        let granted = self.events.is_some() || self.amount.is_some();
        let used_up = self.events == Some(0) || self.amount.is_some_and(|left| left <= Quantity::ZERO);
        if !granted || used_up {
            return Ok(Some(transaction));
        }
        if let Some(events) = &mut self.events {
            *events -= 1;
        }
        let free = self.amount.map_or(transaction, |left| left.min(transaction));
        if let Some(left) = &mut self.amount {
            *left = left.sub(free)?;
        }
        Ok(if free == transaction { None } else { Some(transaction.sub(free)?) })
    }
}
