//! From the spans of a period and what was used in each to the lines of its bill. Pure: the server makes a bill of it, and
//! whoever checks an exported invoice makes the same.

use std::collections::BTreeMap;

use super::{
    invoice::Proration,
    model::{BillLine, Line, LineKind, Usage},
    rules::{self, Quantities, RatingError},
    spans::Span,
};
use crate::{
    kernel::{Currency, Money, Period, Quantity, TierName, Timestamp},
    metering::MeterKey,
};

/// A span, and what was used in it of what its plan has a price for.
#[derive(Debug, Clone)]
pub struct SpanUsage {
    /// The span.
    pub span: Span,
    /// Whether it costs nothing.
    pub is_trial: bool,
    /// What was used.
    pub used: Quantities,
    /// What the days have of it, for meters that add up; nothing where nobody asked for it.
    pub days: BTreeMap<MeterKey, Vec<(Timestamp, Quantity)>>,
}

/// The lines of a period and their sum. What a tier includes, it includes once a period: later spans of a tier are priced
/// on top of earlier ones.
pub fn bill_lines(
    spans: &[SpanUsage],
    whole: Period,
    proration: Proration,
    currency: Currency,
) -> Result<(Vec<BillLine>, Money), RatingError> {
    let mut earlier: BTreeMap<TierName, Quantities> = BTreeMap::new();
    let (mut lines, mut total) = (Vec::new(), Money::zero(currency));
    for SpanUsage { span, is_trial, used, .. } in spans {
        let of_span = if *is_trial {
            trial_lines(span, whole, used)?
        } else {
            let of_span = span_lines(span, (whole, proration), used, earlier.get(&span.plan.tier))?;
            // What was used for nothing is not used up of what the tier includes.
            rules::add_quantities(earlier.entry(span.plan.tier.clone()).or_default(), used)?;
            of_span
        };
        for line in of_span {
            total = total.add(line.line.amount).map_err(of_total)?;
            lines.push(line);
        }
    }
    Ok((lines, total))
}

fn of_total(source: crate::kernel::MoneyError) -> RatingError {
    RatingError::Amount { meter: "total".into(), source }
}

/// The lines of a span. `already` is what earlier spans of the same tier have billed.
fn span_lines(
    span: &Span,
    (whole, proration): (Period, Proration),
    used: &Quantities,
    already: Option<&Quantities>,
) -> Result<Vec<BillLine>, RatingError> {
    let Span { period, plan } = span;
    let usage = used.iter().map(|(meter, quantity)| (meter.clone(), Usage::Quantity(*quantity))).collect();
    let rated = rules::rate(&plan.prices, &usage, already, plan.currency())?;
    let base = rules::share_of(plan.base, *period, whole, proration);
    let mut lines = vec![about(span, LineKind::Base, rules::fixed_line("base", base), None)];
    for (line, price) in rated.lines.into_iter().zip(&plan.prices) {
        let before = already.and_then(|already| already.get(&price.meter).copied());
        lines.push(about(span, LineKind::Usage, line, before));
    }
    if let Some(commitment) = plan.commitment {
        let committed = rules::share_of(commitment, *period, whole, proration);
        let sum = lines.iter().try_fold(Money::zero(plan.currency()), |sum, line| sum.add(line.line.amount));
        let missing = sum.and_then(|sum| committed.sub(sum)).map_err(of_total)?;
        let missing = if missing.minor() > 0 { missing } else { Money::zero(plan.currency()) };
        lines.push(about(span, LineKind::Commitment, rules::fixed_line("commitment", missing), None));
    }
    Ok(lines)
}

/// The lines of a span that is free: what was used, and that it costs nothing.
fn trial_lines(span: &Span, whole: Period, used: &Quantities) -> Result<Vec<BillLine>, RatingError> {
    let plan = &span.plan;
    let zero = Money::zero(plan.currency());
    let usage = used.iter().map(|(meter, quantity)| (meter.clone(), Usage::Quantity(*quantity))).collect();
    let rated = rules::rate(&plan.prices, &usage, None, plan.currency())?;
    let free = |line: Line| Line { unrounded: Quantity::ZERO, amount: zero, tiers: Vec::new(), ..line };
    let base = rules::fixed_line("base", rules::share_of(plan.base, span.period, whole, Proration::Second));
    let mut lines = vec![about(span, LineKind::Base, free(base), None)];
    lines.extend(rated.lines.into_iter().map(|line| about(span, LineKind::Usage, free(line), None)));
    Ok(lines)
}

fn about(span: &Span, kind: LineKind, line: Line, already: Option<Quantity>) -> BillLine {
    let Span { period, plan } = span;
    BillLine { kind, line, already, tier: plan.tier.clone(), price_version: plan.version, period: *period }
}
