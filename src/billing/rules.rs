//! Rating: prices and usage become lines and a total. Pure, exact, and the same for a bill and for
//! `POST /admin/v1/rate`.
//!
//! The order within a line: included units, the model with its tiers, the percentage discount, the maximum, the
//! minimum; then one rounding, half away from zero. Totals add rounded lines. When an amount would need more than 28
//! digits, rating fails and names the meter rather than rounding in between.

use std::collections::BTreeMap;

use super::{
    amounts::{Amount, amount},
    model::{Line, Price, PriceModel, Rated, Usage},
    transactions::Charged,
};
use crate::{
    kernel::{Currency, Money, MoneyError, Quantity, QuantityError},
    metering::MeterKey,
};

/// Why an amount cannot be worked out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RatingError {
    /// The exact amount of a line needs more digits than can be held.
    #[error("the amount of {meter} cannot be held exactly: {source}")]
    Inexact {
        /// The line's meter.
        meter: String,
        /// Why.
        source: QuantityError,
    },
    /// The amount of a line, or the total, is too large.
    #[error("the amount of {meter} cannot be formed: {source}")]
    Amount {
        /// The line's meter, or `total`.
        meter: String,
        /// Why.
        source: MoneyError,
    },
}

/// Usage by meter.
pub type UsageByMeter = BTreeMap<MeterKey, Usage>;

/// Quantities by meter.
pub type Quantities = BTreeMap<MeterKey, Quantity>;

/// Rates usage by prices. A priced meter without usage is rated at zero; usage without a price costs nothing. With
/// `already`, each line is what the usage adds to what was billed before.
pub fn rate(
    prices: &[Price],
    usage: &UsageByMeter,
    already: Option<&Quantities>,
    currency: Currency,
) -> Result<Rated, RatingError> {
    let nothing = Usage::Quantity(Quantity::ZERO);
    let lines = prices.iter().map(|price| {
        let used = usage.get(&price.meter).unwrap_or(&nothing);
        let before = already.map(|already| already.get(&price.meter).copied().unwrap_or(Quantity::ZERO));
        rate_line(price, used, before, currency)
    });
    let lines: Vec<Line> = lines.collect::<Result<_, _>>()?;
    let total = lines.iter().try_fold(Money::zero(currency), |sum, line| sum.add(line.amount));
    let total = total.map_err(|source| RatingError::Amount { meter: "total".into(), source })?;
    Ok(Rated { lines, total })
}

/// Adds quantities up by meter.
pub fn add_quantities(sums: &mut Quantities, more: &Quantities) -> Result<(), RatingError> {
    for (meter, quantity) in more {
        let sum = sums.entry(meter.clone()).or_insert(Quantity::ZERO);
        let inexact = |source| RatingError::Inexact { meter: meter.to_string(), source };
        *sum = sum.add(*quantity).map_err(inexact)?;
    }
    Ok(())
}

fn rate_line(price: &Price, used: &Usage, before: Option<Quantity>, currency: Currency) -> Result<Line, RatingError> {
    let meter = || price.meter.to_string();
    let inexact = |source| RatingError::Inexact { meter: meter(), source };
    let quantity = match price.model {
        PriceModel::Flat { .. } => Quantity::ONE,
        _ => used.total().map_err(inexact)?,
    };
    let rated = match before {
        None => price_of(price, used),
        Some(before) => increment(price, used, before),
    };
    let rated = rated.map_err(inexact)?;
    let amount = Money::round_half_up(rated.exact, currency);
    let amount = amount.map_err(|source| RatingError::Amount { meter: meter(), source })?;
    Ok(Line { meter: meter(), model: price.model.name(), quantity, unrounded: rated.exact, amount, tiers: rated.tiers })
}

/// `rate(already + usage) − rate(already)`: what was due at zero usage counts as billed.
fn increment(price: &Price, used: &Usage, before: Quantity) -> Result<Amount, QuantityError> {
    let earlier = price_of(price, &Usage::Quantity(before))?;
    let whole = price_of(price, &used.after(before)?)?;
    Ok(Amount { exact: whole.exact.sub(earlier.exact)?, tiers: whole.tiers })
}

/// One line's exact amount.
fn price_of(price: &Price, used: &Usage) -> Result<Amount, QuantityError> {
    let mut rated = match price.included {
        Some(included) => amount(&price.model, &used.beyond(included)?)?,
        None => amount(&price.model, used)?,
    };
    rated.exact = with_terms(price, rated.exact)?;
    Ok(rated)
}

/// Less the discount, within maximum and minimum.
fn with_terms(price: &Price, mut exact: Quantity) -> Result<Quantity, QuantityError> {
    if let Some(percent) = price.discount_percent {
        exact = exact.sub(exact.mul(percent.percent()?)?)?;
    }
    if let Some(maximum) = price.maximum {
        exact = exact.min(maximum);
    }
    if let Some(minimum) = price.minimum {
        exact = exact.max(minimum);
    }
    Ok(exact)
}

/// The line of a price whose transactions were looked at one by one while they were read. `on_top` of what was billed before, it
/// is what they add to that.
pub fn charged_line(
    price: &Price,
    used: Quantity,
    charged: Charged,
    on_top: bool,
    currency: Currency,
) -> Result<Line, RatingError> {
    let meter = price.meter.to_string();
    let exact = || {
        let whole = with_terms(price, charged.whole)?;
        if on_top { whole.sub(with_terms(price, charged.earlier)?) } else { Ok(whole) }
    };
    let unrounded = exact().map_err(|source| RatingError::Inexact { meter: meter.clone(), source })?;
    let amount = Money::round_half_up(unrounded, currency);
    let amount = amount.map_err(|source| RatingError::Amount { meter: meter.clone(), source })?;
    let quantity = used.max(Quantity::ZERO);
    Ok(Line { meter, model: price.model.name(), quantity, unrounded, amount, tiers: Vec::new() })
}

/// What is due once, as a line.
pub fn fixed_line(name: &str, amount: Money) -> Line {
    let (quantity, unrounded) = (Quantity::ONE, amount.quantity());
    Line { meter: name.to_owned(), model: "flat", quantity, unrounded, amount, tiers: Vec::new() }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "rules_laws.rs"]
mod laws;
