//! How a quantity becomes an amount by a price, step by step, in words: the way of `rules.rs`, told. Pure.

use super::{
    amounts::amount,
    model::{PackageRounding, Percentage, Price, PriceModel, TierLine, Usage},
    transactions::Charged,
};
use crate::kernel::{Quantity, QuantityError};

/// The steps from what was used of a meter, on top of what was used before in the period, to the exact amount, and that amount.
pub fn steps(
    price: &Price,
    used: Quantity,
    before: Option<Quantity>,
) -> Result<(Vec<String>, Quantity), QuantityError> {
    let Some(before) = before else { return whole(price, used) };
    let all = before.add(used)?;
    let mut told = vec![format!(
        "{before} was used before in this period, and {used} here: the line is what {all} comes to, less what {before} comes to"
    )];
    let (steps, with) = whole(price, all)?;
    told.extend(steps.into_iter().map(|step| format!("of {all}: {step}")));
    let (steps, without) = whole(price, before)?;
    told.extend(steps.into_iter().map(|step| format!("of {before}: {step}")));
    let difference = with.sub(without)?;
    told.push(format!("{with} less {without} is {difference}"));
    Ok((told, difference))
}

fn whole(price: &Price, used: Quantity) -> Result<(Vec<String>, Quantity), QuantityError> {
    let mut steps = Vec::new();
    let mut usage = Usage::Quantity(used);
    if let Some(included) = price.included {
        usage = usage.beyond(included)?;
        steps.push(format!("the first {included} of the period cost nothing: {} of {used} is left", usage.total()?));
    }
    let priced = amount(&price.model, &usage)?;
    model_steps(&price.model, usage.total()?, (&priced.tiers, priced.exact), &mut steps)?;
    let exact = terms(price, priced.exact, &mut steps)?;
    Ok((steps, exact))
}

/// The steps from what single transactions come to, to the exact amount. `on_top` of those before in the period, it is what they
/// add to these.
pub fn charged_steps(price: &Price, charged: Charged, on_top: bool) -> Result<(Vec<String>, Quantity), QuantityError> {
    let Charged { earlier, whole } = charged;
    let mut steps = Vec::new();
    if !on_top {
        steps.push(format!("all transactions come to {whole}"));
        let exact = terms(price, whole, &mut steps)?;
        return Ok((steps, exact));
    }
    steps.push(format!("with those before in this period, all transactions come to {whole}"));
    let with = terms(price, whole, &mut steps)?;
    steps.push(format!("those before in this period come to {earlier}"));
    let without = terms(price, earlier, &mut steps)?;
    let difference = with.sub(without)?;
    steps.push(format!("{with} less {without} is {difference}"));
    Ok((steps, difference))
}

/// Discount, maximum and minimum of a line.
fn terms(price: &Price, mut exact: Quantity, steps: &mut Vec<String>) -> Result<Quantity, QuantityError> {
    if let Some(percent) = price.discount_percent {
        let off = exact.mul(percent.percent()?)?;
        steps.push(format!("less a discount of {percent} per cent, {off}: {}", exact.sub(off)?));
        exact = exact.sub(off)?;
    }
    if let Some(maximum) = price.maximum.filter(|maximum| *maximum < exact) {
        steps.push(format!("at most {maximum}"));
        exact = maximum;
    }
    if let Some(minimum) = price.minimum.filter(|minimum| *minimum > exact) {
        steps.push(format!("at least {minimum}"));
        exact = minimum;
    }
    Ok(exact)
}

fn model_steps(
    model: &PriceModel,
    quantity: Quantity,
    (tiers, exact): (&[TierLine], Quantity),
    steps: &mut Vec<String>,
) -> Result<(), QuantityError> {
    let per_cent = if matches!(model, PriceModel::GraduatedPercentage(_)) { " per cent" } else { "" };
    for tier in tiers {
        let up_to = tier.up_to.map_or("the last tier".to_owned(), |up_to| format!("the tier up to {up_to}"));
        let flat = if tier.flat.is_zero() { String::new() } else { format!(" and {} for entering it", tier.flat) };
        steps.push(format!("{up_to}: {} at {}{per_cent}{flat} is {}", tier.quantity, tier.unit, tier.amount));
    }
    if tiers.len() > 1 {
        steps.push(format!("all tiers together: {exact}"));
    }
    match model {
        PriceModel::Flat { amount } => steps.push(format!("{amount}, whatever was used")),
        PriceModel::PerUnit { unit } => steps.push(format!("{quantity} at {unit} is {exact}")),
        PriceModel::Package { price, size, round } => {
            let packages = match round {
                PackageRounding::Up => quantity.div_ceil(*size)?,
                PackageRounding::Down => quantity.div_floor(*size)?,
            };
            steps.push(format!(
                "{quantity} in packages of {size} are {packages}, a broken one rounded {}",
                round.name()
            ));
            steps.push(format!("{packages} packages at {price} are {exact}"));
        }
        PriceModel::Percentage(terms) => steps.push(share(terms, quantity, exact)),
        PriceModel::Dynamic { multiplier } => {
            steps.push(format!("the quantity is an amount: {quantity} times {multiplier} is {exact}"));
        }
        PriceModel::Graduated(_) | PriceModel::Volume(_) | PriceModel::GraduatedPercentage(_) => {}
    }
    Ok(())
}

/// A share, with the terms that are there.
fn share(terms: &Percentage, quantity: Quantity, exact: Quantity) -> String {
    let fixed = Some(terms.fixed_per_event).filter(|fixed| !fixed.is_zero());
    let fixed = fixed.map_or_else(String::new, |fixed| format!(" and {fixed} for the transaction"));
    let mut told = vec![format!("{} per cent of {quantity}{fixed}", terms.rate_percent)];
    let bounds =
        [("free at first", terms.free_amount), ("at least", terms.min_per_event), ("at most", terms.max_per_event)];
    told.extend(bounds.into_iter().filter_map(|(word, bound)| Some(format!("{word} {}", bound?))));
    told.extend(terms.free_events.map(|free| format!("{free} transactions free at first")));
    told.push(format!("is {exact}"));
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        billing::{rules, wire::parse_prices},
        kernel::Faults,
    };

    /// The steps of every model, with and without what came before, end at what the rules say.
    #[test]
    fn the_steps_of_every_model_end_at_the_amount() {
        let tiers = json!([{"up_to": "50", "unit": "0.31"}, {"up_to": null, "unit": "0.17", "flat": "1.5"}]);
        let models = json!([
            {"meter": "m", "model": "flat", "amount": "7"},
            {"meter": "m", "model": "per_unit", "unit": "0.333", "included": "10", "maximum": "40"},
            {"meter": "m", "model": "graduated", "tiers": tiers, "discount_percent": "12.5"},
            {"meter": "m", "model": "volume", "tiers": tiers, "included": "60"},
            {"meter": "m", "model": "package", "price": "0.37", "size": "30", "round": "up", "minimum": "2"},
            {"meter": "m", "model": "package", "price": "0.37", "size": "30", "round": "down"},
            {"meter": "m", "model": "percentage", "rate_percent": "2.9", "fixed_per_event": "0.3", "free_amount": "20",
             "free_events": "2", "min_per_event": "1", "max_per_event": "5"},
            {"meter": "m", "model": "graduated_percentage", "tiers": tiers},
            {"meter": "m", "model": "dynamic", "multiplier": "1.17"},
        ]);
        let mut faults = Faults::new();
        let prices = parse_prices(&serde_json::from_value::<Vec<_>>(models).unwrap(), "prices", &mut faults);
        assert_eq!(prices.len(), 9);
        let meter: crate::metering::MeterKey = "m".parse().unwrap();
        for price in &prices {
            for (used, before) in [("0", None), ("49.5", None), ("130", None), ("20", Some("0")), ("77", Some("41"))] {
                let q = |text: &str| text.parse::<Quantity>().unwrap();
                let usage = [(meter.clone(), Usage::Quantity(q(used)))].into();
                let already = before.map(|before| [(meter.clone(), q(before))].into());
                let usd = "USD".parse().unwrap();
                let rated = rules::rate(std::slice::from_ref(price), &usage, already.as_ref(), usd).unwrap();
                let (told, exact) = steps(price, q(used), before.map(q)).unwrap();
                assert_eq!(exact, rated.lines[0].unrounded, "{price:?} {used} {before:?}: {told:?}");
                assert!(told.last().unwrap().contains(&exact.to_string()), "{told:?}");
            }
        }
    }
}
