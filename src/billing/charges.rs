//! What an invoice comes to: what was not billed before, less coupons, plus taxes, less credits. Pure, and in whole minor
//! units: everything that has to be rounded is rounded half away from zero, once, where it is shown.

use std::collections::BTreeMap;

use super::{
    invoice::{Adjusted, Billed, Coupon, Credit, InvoiceLine, LineKey, Off, TaxRate, keys},
    model::{Bill, LineKind},
    rules::RatingError,
};
use crate::kernel::{CouponId, CreditId, Currency, Money, MoneyError, Quantity, QuantityError, Timestamp};

/// What was billed of a period, by key.
pub type BilledByKey = BTreeMap<LineKey, Billed>;

/// The lines of a period's own invoice. What is billed of the period already (by adjustments of an invoice that was made
/// anew) is taken off.
pub fn own_lines(bill: &Bill, billed: &BilledByKey) -> Result<Vec<InvoiceLine>, RatingError> {
    let mut lines: Vec<InvoiceLine> = keys(&bill.lines)
        .into_iter()
        .zip(&bill.lines)
        .map(|(key, line)| InvoiceLine {
            key,
            month: bill.period.from(),
            kind: line.kind,
            quantity: line.line.quantity,
            already: line.already,
            unrounded: line.line.unrounded,
            amount: line.line.amount,
            tiers: line.line.tiers.clone(),
            adjusts: None,
        })
        .collect();
    for (key, before) in billed {
        let nothing = Billed { quantity: Quantity::ZERO, unrounded: Quantity::ZERO, amount: 0 };
        lines.extend(difference(key, nothing, *before, bill)?.map(|line| InvoiceLine { adjusts: None, ..line }));
    }
    Ok(lines)
}

/// What an earlier period comes to now, less what was billed of it, line by line; nothing where nothing changed.
pub fn adjustments(bill: &Bill, billed: &BilledByKey, adjusted: &Adjusted) -> Result<Vec<InvoiceLine>, RatingError> {
    let nothing = Billed { quantity: Quantity::ZERO, unrounded: Quantity::ZERO, amount: 0 };
    let mut now: BilledByKey = billed.keys().map(|key| (key.clone(), nothing)).collect();
    for (key, line) in keys(&bill.lines).into_iter().zip(&bill.lines) {
        let line = &line.line;
        now.insert(key, Billed { quantity: line.quantity, unrounded: line.unrounded, amount: line.amount.minor() });
    }
    let mut lines = Vec::new();
    for (key, now) in &now {
        let before = billed.get(key).copied().unwrap_or(nothing);
        let line = difference(key, *now, before, bill)?;
        lines.extend(line.map(|line| InvoiceLine { adjusts: Some(adjusted.clone()), ..line }));
    }
    Ok(lines)
}

fn difference(key: &LineKey, now: Billed, before: Billed, bill: &Bill) -> Result<Option<InvoiceLine>, RatingError> {
    if now == before {
        return Ok(None);
    }
    let inexact = |source: QuantityError| RatingError::Inexact { meter: key.meter.clone(), source };
    let amount = now.amount.checked_sub(before.amount);
    let too_large = || RatingError::Amount { meter: key.meter.clone(), source: MoneyError::Overflow };
    Ok(Some(InvoiceLine {
        key: key.clone(),
        month: bill.period.from(),
        kind: LineKind::Adjustment,
        quantity: now.quantity.sub(before.quantity).map_err(inexact)?,
        already: Some(before.quantity),
        unrounded: now.unrounded.sub(before.unrounded).map_err(inexact)?,
        amount: Money::from_minor(amount.ok_or_else(too_large)?, bill.total.currency()),
        tiers: Vec::new(),
        adjusts: None,
    }))
}

/// What an invoice comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charges {
    /// The sum of the lines.
    pub subtotal: Money,
    /// What coupons take off.
    pub discounts: Vec<(CouponId, String, Money)>,
    /// What is taxed.
    pub taxable: Money,
    /// What each tax adds.
    pub taxes: Vec<(TaxRate, Money)>,
    /// What all of them add.
    pub tax: Money,
    /// With taxes.
    pub total: Money,
    /// What credits pay.
    pub draws: Vec<(CreditId, Money)>,
    /// What is owed.
    pub due: Money,
    /// What we owe, when the total is below zero: it becomes a credit.
    pub granted: Money,
}

/// Works out what lines come to. `credits` are drawn in the order of priority, then of expiry, then of age.
pub fn charge(
    lines: &[InvoiceLine],
    (coupons, rates, credits): (&[Coupon], &[TaxRate], &[Credit]),
    currency: Currency,
    now: Timestamp,
) -> Result<Charges, RatingError> {
    let too_large = |source| RatingError::Amount { meter: "total".into(), source };
    let zero = Money::zero(currency);
    let subtotal = lines.iter().try_fold(zero, |sum, line| sum.add(line.amount)).map_err(too_large)?;
    let mut discounts = Vec::new();
    let mut taxable = subtotal;
    for coupon in coupons.iter().filter(|coupon| coupon.holds()) {
        let off = off(coupon.off, taxable)?;
        if !off.is_zero() {
            taxable = taxable.sub(off).map_err(too_large)?;
            discounts.push((coupon.id, coupon.name.clone(), off));
        }
    }
    let taxes = rates.iter().map(|rate| Ok((rate.clone(), share(taxable, rate.percent)?)));
    let taxes: Vec<(TaxRate, Money)> = taxes.collect::<Result<_, RatingError>>()?;
    let tax = taxes.iter().try_fold(zero, |sum, (_, tax)| sum.add(*tax)).map_err(too_large)?;
    let total = taxable.add(tax).map_err(too_large)?;
    let draws = draws(total, credits, now);
    let paid = draws.iter().try_fold(zero, |sum, (_, amount)| sum.add(*amount)).map_err(too_large)?;
    let rest = total.sub(paid).map_err(too_large)?;
    let due = if rest.minor() > 0 { rest } else { zero };
    let granted = due.sub(rest).map_err(too_large)?;
    Ok(Charges { subtotal, discounts, taxable, taxes, tax, total, draws, due, granted })
}

/// What a coupon takes off what is left; nothing where nothing is.
fn off(off: Off, left: Money) -> Result<Money, RatingError> {
    if left.minor() <= 0 {
        return Ok(Money::zero(left.currency()));
    }
    match off {
        Off::Percent(percent) => share(left, percent),
        Off::Amount(amount) => Ok(Money::from_minor(amount.minor().min(left.minor()), left.currency())),
    }
}

fn share(of: Money, percent: Quantity) -> Result<Money, RatingError> {
    let exact = percent.percent().and_then(|factor| of.quantity().mul(factor));
    let exact = exact.map_err(|source| RatingError::Inexact { meter: "total".into(), source })?;
    Money::round_half_up(exact, of.currency()).map_err(|source| RatingError::Amount { meter: "total".into(), source })
}

fn draws(total: Money, credits: &[Credit], now: Timestamp) -> Vec<(CreditId, Money)> {
    let mut usable: Vec<&Credit> =
        credits.iter().filter(|credit| !credit.is_expired(now) && credit.left() > 0).collect();
    usable.sort_by_key(|credit| (credit.priority, credit.expires_at.unwrap_or(Timestamp::MAX), credit.id));
    let mut owed = total.minor();
    let mut draws = Vec::new();
    for credit in usable {
        let taken = credit.left().min(owed);
        if taken > 0 {
            owed -= taken;
            draws.push((credit.id, Money::from_minor(taken, total.currency())));
        }
    }
    draws
}

/// What a credit note gives back with taxes and coupons, when `net` more is taken off lines that come to `subtotal`, of which
/// `before` was taken off already. The shares of notes that take everything off make up `total`.
pub fn gross_of(net: i64, before: i64, subtotal: i64, total: i64) -> i64 {
    if subtotal <= 0 {
        return 0;
    }
    let by = |net: i64| {
        // Half up, in whole numbers: |net| ≤ subtotal, so the quotient is no larger than the total. Neither overflows 127 bits.
        let doubled = 2 * i128::from(total) * i128::from(net) + i128::from(subtotal);
        doubled.div_euclid(2 * i128::from(subtotal))
    };
    i64::try_from(by(before.saturating_add(net)) - by(before)).unwrap_or(total)
}

#[cfg(test)]
#[path = "charges_tests.rs"]
mod tests;
