//! A line of an invoice in its forms: what it is, at which price, and how its amount comes about, row by row. Pure.

use super::{
    forms::{Price as Shown, TierRow},
    invoice_document::{InvoiceLineBody, InvoiceTier},
    model::{PackageRounding, Price, PriceModel},
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
        PriceModel::Percentage(terms) => Shown::Model(terms.in_words()),
        PriceModel::Dynamic { multiplier } => Shown::Model(format!("\u{d7} {multiplier}")),
        PriceModel::Graduated(_) | PriceModel::Volume(_) | PriceModel::GraduatedPercentage(_) => {
            Shown::Model(line.model.replace('_', " "))
        }
    })
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
    let (used, left) = if line.tiers.is_empty() {
        (line.quantity, included.sub(included.min(before))?)
    } else {
        (line.quantity.add(before)?, included)
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
            // Alone it says no more than the line.
            if !rest.is_zero() && (!free.is_zero() || amount != line.unrounded) {
                let label = if included.is_zero() { "used" } else { "beyond what is included" };
                rows.push(named(label, rest, *unit, amount));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        billing::{
            invoice_document::InvoicePeriod,
            model::Usage,
            rules,
            wire::{PriceBody, parse_prices},
        },
        kernel::{Faults, Timestamp},
    };

    fn q(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    /// A line as rating gives it.
    fn rated(price: &Price, used: &str, already: Option<&str>) -> InvoiceLineBody {
        let usage = BTreeMap::from([(price.meter.clone(), Usage::Quantity(q(used)))]);
        let before = already.map(|already| BTreeMap::from([(price.meter.clone(), q(already))]));
        let prices = std::slice::from_ref(price);
        let rated = rules::rate(prices, &usage, before.as_ref(), "USD".parse().unwrap()).unwrap();
        let line = &rated.lines[0];
        InvoiceLineBody {
            kind: "usage".into(),
            meter: line.meter.clone(),
            model: line.model.into(),
            tier: "pro".into(),
            price_version: 1,
            period: InvoicePeriod { from: Timestamp::MIN, to: Timestamp::MAX },
            quantity: line.quantity,
            already: already.map(q),
            unrounded: line.unrounded,
            amount: line.amount.amount(),
            tiers: line.tiers.iter().map(Into::into).collect(),
            adjusts: None,
        }
    }

    #[test]
    fn the_rows_of_a_line_add_up_to_its_exact_amount() {
        let models = [
            r#""model":"per_unit","unit":"0.3""#,
            r#""model":"graduated","tiers":[{"up_to":"10","unit":"2"},{"unit":"0.5","flat":"1"}]"#,
            r#""model":"volume","tiers":[{"up_to":"10","unit":"2"},{"unit":"0.5"}]"#,
            r#""model":"graduated_percentage","tiers":[{"up_to":"10","unit":"3"},{"unit":"1"}]"#,
        ];
        let terms =
            ["", r#","included":"4""#, r#","included":"4","discount_percent":"10""#, r#","minimum":"7","maximum":"9""#];
        let mut checked = 0;
        for (model, more) in models.iter().flat_map(|model| terms.iter().map(move |more| (model, more))) {
            let body: PriceBody = serde_json::from_str(&format!(r#"{{"meter":"calls",{model}{more}}}"#)).unwrap();
            let price = parse_prices(&[body], "", &mut Faults::new()).remove(0);
            for (used, already) in
                [("0", None), ("3", None), ("25", None), ("3", Some("2")), ("25", Some("8")), ("0", Some("30"))]
            {
                let line = rated(&price, used, already);
                let rows = rows(&line, Some(&price)).unwrap();
                let sum = rows.iter().try_fold(Quantity::ZERO, |sum, row| sum.add(row.amount)).unwrap();
                // A line of a unit's price alone needs no rows.
                if !rows.is_empty() && rows.iter().any(|row| !row.amount.is_zero()) {
                    assert_eq!(sum, line.unrounded, "{model}{more} {used} {already:?}: {rows:?}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 50, "{checked}");
    }

    #[test]
    fn prices_are_said_in_numbers_where_one_says_it_and_in_words_otherwise() {
        for (model, said) in [
            (r#""model":"package","price":"5","size":"1000","round":"down""#, "5 per full 1000"),
            (r#""model":"percentage","rate_percent":"2.9","fixed_per_event":"0.30"#, "2.9% + 0.3 each"),
            (r#""model":"dynamic","multiplier":"1.25"#, "\u{d7} 1.25"),
        ] {
            let closing = if model.ends_with('"') { "" } else { "\"" };
            let text = format!(r#"{{"meter":"calls",{model}{closing}}}"#);
            let body: PriceBody = serde_json::from_str(&text).unwrap();
            let own = parse_prices(&[body], "", &mut Faults::new()).remove(0);
            let line = rated(&own, "1", None);
            assert_eq!(price(&line, Some(&own)), Some(Shown::Model(said.to_owned())));
        }
    }
}
