//! A line of an invoice in its forms: what it is, at which price, and how its amount comes about, row by row. Pure.

use super::{
    forms::{Price as Shown, TierRow},
    invoice_document::{InvoiceLineBody, InvoiceTier},
    model::{PackageRounding, Percentage, Price, PriceModel},
};
use crate::kernel::{Quantity, QuantityError};

/// What a line is.
pub(super) fn description(line: &InvoiceLineBody) -> String {
    let what = match line.kind.as_str() {
        "base" => format!("{} plan", line.tier),
        "commitment" => format!("{} plan, up to the commitment", line.tier),
        _ => line.meter.clone(),
    };
    match &line.adjusts {
        Some(adjusted) => format!("{what}, correction of {}", adjusted.number),
        None => what,
    }
}

/// Whether a line is about what was used.
pub(super) fn is_usage(line: &InvoiceLineBody) -> bool {
    !matches!(line.kind.as_str(), "base" | "commitment")
}

/// At which price: one of a unit where there is one, else the model in words.
pub(super) fn price(line: &InvoiceLineBody, price: Option<&Price>) -> Option<Shown> {
    if !is_usage(line) {
        return None;
    }
    let Some(price) = price else { return Some(Shown::Model(line.model.replace('_', " "))) };
    Some(match &price.model {
        PriceModel::PerUnit { unit } => Shown::Unit(*unit),
        PriceModel::Flat { amount } => Shown::Unit(*amount),
        PriceModel::Package { price, size, round } => {
            let begun = if *round == PackageRounding::Up { "begun " } else { "full " };
            Shown::Model(format!("{price} per {begun}{size}"))
        }
        PriceModel::Percentage(terms) => Shown::Model(percentage(terms)),
        PriceModel::Dynamic { multiplier } => Shown::Model(format!("\u{d7} {multiplier}")),
        PriceModel::Graduated(_) | PriceModel::Volume(_) | PriceModel::GraduatedPercentage(_) => {
            Shown::Model(line.model.replace('_', " "))
        }
    })
}

fn percentage(terms: &Percentage) -> String {
    let mut text = format!("{}%", terms.rate_percent);
    if !terms.fixed_per_event.is_zero() {
        text += &format!(" + {} each", terms.fixed_per_event);
    }
    if let Some(least) = terms.min_per_event {
        text += &format!(", at least {least}");
    }
    if let Some(most) = terms.max_per_event {
        text += &format!(", at most {most}");
    }
    text
}

/// How the amount of a line comes about. Where rows can be added up, they add up to the line's exact amount.
pub(super) fn rows(line: &InvoiceLineBody, price: Option<&Price>) -> Result<Vec<TierRow>, QuantityError> {
    let mut rows = Vec::new();
    let Some(price) = price.filter(|_| is_usage(line) && line.adjusts.is_none()) else {
        let mut above = Some(Quantity::ZERO);
        return Ok(line.tiers.iter().map(|tier| tier_row(tier, &mut above)).collect());
    };
    let before = line.already.unwrap_or_default();
    let included = price.included.unwrap_or_default();
    // The tiers of a line are those of all that was used of the period so far; other models say what is added.
    let (used, left) = match line.tiers.is_empty() {
        true => (line.quantity, included.sub(included.min(before))?),
        false => (line.quantity.add(before)?, included),
    };
    let free = used.min(left);
    if !free.is_zero() {
        rows.push(named("included", free, Quantity::ZERO, Quantity::ZERO));
    }
    let mut above = Some(Quantity::ZERO);
    rows.extend(line.tiers.iter().map(|tier| tier_row(tier, &mut above)));
    let sum = match &price.model {
        PriceModel::PerUnit { unit } => {
            let rest = used.sub(free)?;
            let amount = rest.mul(*unit)?;
            if !free.is_zero() && !rest.is_zero() {
                rows.push(named("beyond what is included", rest, *unit, amount));
            }
            Some(amount)
        }
        PriceModel::Flat { amount } => Some(*amount),
        _ if line.tiers.is_empty() => None,
        _ => Some(line.tiers.iter().try_fold(Quantity::ZERO, |sum, tier| sum.add(tier.amount))?),
    };
    // What else the price says, in one row.
    let Some(difference) = sum.map(|sum| line.unrounded.sub(sum)).transpose()? else { return Ok(rows) };
    if !difference.is_zero() {
        rows.push(named(&reasons(line, price), Quantity::ZERO, Quantity::ZERO, difference));
    }
    Ok(rows)
}

fn reasons(line: &InvoiceLineBody, price: &Price) -> String {
    let mut reasons = Vec::new();
    if line.already.is_some_and(|already| !already.is_zero()) && !line.tiers.is_empty() {
        reasons.push("billed before in this period".to_owned());
    }
    reasons.extend(price.discount_percent.map(|percent| format!("discount {percent}%")));
    reasons.extend(price.maximum.map(|most| format!("at most {most}")));
    reasons.extend(price.minimum.map(|least| format!("at least {least}")));
    if reasons.is_empty() {
        reasons.push("billed before in this period".to_owned());
    }
    reasons.join(", ")
}

fn tier_row(tier: &InvoiceTier, above: &mut Option<Quantity>) -> TierRow {
    let row = TierRow {
        label: None,
        above: *above,
        up_to: tier.up_to,
        quantity: tier.quantity,
        unit: tier.unit,
        flat: tier.flat,
        amount: tier.amount,
    };
    *above = tier.up_to;
    row
}

fn named(label: &str, quantity: Quantity, unit: Quantity, amount: Quantity) -> TierRow {
    TierRow { label: Some(label.to_owned()), above: None, up_to: None, quantity, unit, flat: Quantity::ZERO, amount }
}
