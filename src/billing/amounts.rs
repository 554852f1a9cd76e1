//! Price models: from a quantity to an exact amount. Nothing is rounded here.

use super::{
    model::{PackageRounding, Percentage, PriceModel, TierLine, Tiers, Usage},
    transactions::Tally,
};
use crate::kernel::{Quantity, QuantityError};

/// An exact amount and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) exact: Quantity,
    pub(super) tiers: Vec<TierLine>,
}

impl Amount {
    const fn plain(exact: Quantity) -> Self {
        Self { exact, tiers: Vec::new() }
    }

    fn of_tiers(tiers: Vec<TierLine>) -> Result<Self, QuantityError> {
        let exact = tiers.iter().try_fold(Quantity::ZERO, |sum, tier| sum.add(tier.amount))?;
        Ok(Self { exact, tiers })
    }
}

/// What a model asks for a usage from which the included units are already gone.
pub(super) fn amount(model: &PriceModel, usage: &Usage) -> Result<Amount, QuantityError> {
    let quantity = || usage.total();
    match model {
        PriceModel::Flat { amount } => Ok(Amount::plain(*amount)),
        PriceModel::PerUnit { unit } => Ok(Amount::plain(quantity()?.mul(*unit)?)),
        PriceModel::Graduated(tiers) => graduated(tiers, quantity()?, Quantity::ONE),
        PriceModel::Volume(tiers) => volume(tiers, quantity()?),
        PriceModel::Package { price, size, round } => {
            let packages = match round {
                PackageRounding::Up => quantity()?.div_ceil(*size)?,
                PackageRounding::Down => quantity()?.div_floor(*size)?,
            };
            Ok(Amount::plain(packages.mul(*price)?))
        }
        PriceModel::Percentage(terms) => percentage(terms, usage).map(Amount::plain),
        PriceModel::GraduatedPercentage(tiers) => graduated(tiers, quantity()?, Quantity::ONE.percent()?),
        PriceModel::Dynamic { multiplier } => Ok(Amount::plain(quantity()?.mul(*multiplier)?)),
    }
}

impl Usage {
    /// The sum, never below zero: what was taken back cannot be sold.
    pub fn total(&self) -> Result<Quantity, QuantityError> {
        let sum = match self {
            Self::Quantity(quantity) => *quantity,
            Self::Transactions(amounts) => amounts.iter().try_fold(Quantity::ZERO, |sum, amount| sum.add(*amount))?,
        };
        Ok(sum.max(Quantity::ZERO))
    }

    /// What is left when the first `included` units cost nothing.
    pub(super) fn beyond(&self, included: Quantity) -> Result<Self, QuantityError> {
        let rest = |used: Quantity, left: Quantity| used.sub(used.min(left).max(Quantity::ZERO));
        match self {
            Self::Quantity(quantity) => Ok(Self::Quantity(rest(*quantity, included)?)),
            Self::Transactions(amounts) => {
                let mut left = included;
                let mut beyond = Vec::with_capacity(amounts.len());
                for amount in amounts {
                    let paid = rest(*amount, left)?;
                    left = left.sub(amount.sub(paid)?)?;
                    if !paid.is_zero() {
                        beyond.push(paid);
                    }
                }
                Ok(Self::Transactions(beyond))
            }
        }
    }

    /// Both, one after the other.
    pub(super) fn after(&self, earlier: Quantity) -> Result<Self, QuantityError> {
        match self {
            Self::Quantity(quantity) => Ok(Self::Quantity(earlier.add(*quantity)?)),
            Self::Transactions(amounts) => {
                Ok(Self::Transactions(std::iter::once(earlier).chain(amounts.iter().copied()).collect()))
            }
        }
    }

    /// One by one; a plain quantity is one transaction, and none when it is zero.
    fn transactions(&self) -> &[Quantity] {
        match self {
            Self::Quantity(quantity) if quantity.is_zero() => &[],
            Self::Quantity(quantity) => std::slice::from_ref(quantity),
            Self::Transactions(amounts) => amounts,
        }
    }
}

/// Each unit at its tier's price; `scale` turns a percentage into a factor.
fn graduated(tiers: &Tiers, quantity: Quantity, scale: Quantity) -> Result<Amount, QuantityError> {
    let mut lines = Vec::new();
    for (index, (below, tier)) in tiers.with_lower_bounds().enumerate() {
        // A tier is entered by the first unit above the one below it; the first tier always is.
        if index > 0 && quantity <= below {
            break;
        }
        let top = tier.up_to.map_or(quantity, |up_to| up_to.min(quantity));
        let within = top.sub(below)?;
        let amount = within.mul(tier.unit)?.mul(scale)?.add(tier.flat)?;
        lines.push(TierLine { up_to: tier.up_to, quantity: within, unit: tier.unit, flat: tier.flat, amount });
    }
    Amount::of_tiers(lines)
}

/// Every unit at the price of the tier the whole falls into.
fn volume(tiers: &Tiers, quantity: Quantity) -> Result<Amount, QuantityError> {
    let reached = tiers.iter().find(|tier| tier.up_to.is_none_or(|up_to| quantity <= up_to));
    let Some(tier) = reached else { return Ok(Amount::plain(Quantity::ZERO)) };
    let amount = quantity.mul(tier.unit)?.add(tier.flat)?;
    Amount::of_tiers(vec![TierLine { up_to: tier.up_to, quantity, unit: tier.unit, flat: tier.flat, amount }])
}

/// A share of each transaction beyond the allowance.
fn percentage(terms: &Percentage, usage: &Usage) -> Result<Quantity, QuantityError> {
    // What is included is gone from it already.
    let mut tally = Tally::new(terms, None);
    usage.transactions().iter().try_for_each(|transaction| tally.add(*transaction))?;
    Ok(tally.sum())
}
