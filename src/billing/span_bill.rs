//! From the spans of a period and what was used in each to the lines of its bill. Pure: the server makes a bill of it, and
//! whoever checks an exported invoice makes the same.

use std::collections::BTreeMap;

use super::{
    cadence::Cadence,
    invoice::Proration,
    model::{BillLine, Line, LineKind, Usage},
    rules::{self, Quantities, RatingError},
    shares::Shares,
    spans::Span,
    transactions::Charged,
};
use crate::{
    kernel::{Currency, Money, MoneyError, Period, Quantity, TierName, Timestamp},
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
    /// By the place of the price in the plan: what single transactions come to, of prices that look at them.
    pub charged: BTreeMap<usize, Charged>,
    /// Those single transactions, in their order, of meters that have few enough of them to be kept.
    pub transactions: BTreeMap<MeterKey, Vec<Quantity>>,
}

impl SpanUsage {
    /// Whether the transactions of a meter were looked at one by one.
    pub fn looks_at_each_of(&self, meter: &MeterKey) -> bool {
        let price = |place: &usize| self.span.plan.prices.get(*place);
        self.charged.keys().filter_map(price).any(|price| price.meter == *meter)
    }
}

/// The lines of a period and their sum. What a tier includes, it includes once a period: later spans of a tier are priced
/// on top of earlier ones. By which cadence the account is billed, and by what bases are split, says `how`.
pub fn bill_lines(
    spans: &[SpanUsage],
    whole: Period,
    how: (&Cadence, Proration),
    currency: Currency,
) -> Result<(Vec<BillLine>, Money), RatingError> {
    let mut earlier: BTreeMap<TierName, Quantities> = BTreeMap::new();
    let (mut lines, mut total) = (Vec::new(), Money::zero(currency));
    let mut committed: Option<Committed> = None;
    for SpanUsage { span, is_trial, used, charged, .. } in spans {
        let shares = Shares::new(whole, how.0, span.plan.interval, how.1);
        let of_span = if *is_trial {
            trial_lines(span, &shares, used)?
        } else {
            let of_span = span_lines(span, &shares, (used, charged), earlier.get(&span.plan.tier))?;
            // What was used for nothing is not used up of what the tier includes.
            rules::add_quantities(earlier.entry(span.plan.tier.clone()).or_default(), used)?;
            of_span
        };
        let came = of_span.iter().try_fold(Money::zero(currency), |sum, line| sum.add(line.line.amount));
        let came = came.map_err(of_total)?;
        total = total.add(came).map_err(of_total)?;
        lines.extend(of_span);
        if let Some(commitment) = span.plan.commitment.filter(|_| !is_trial) {
            let amount = shares.of(commitment, span.period).map_err(of_total)?;
            committed = Some(Committed::and(committed, span, (amount, came), lines.len())?);
        }
    }
    if let Some(committed) = committed {
        let (place, line) = committed.line()?;
        total = total.add(line.line.amount).map_err(of_total)?;
        lines.insert(place, line);
    }
    Ok((lines, total))
}

fn of_total(source: MoneyError) -> RatingError {
    RatingError::Amount { meter: "total".into(), source }
}

/// The lines of a span. `already` is what earlier spans of the same tier have billed.
fn span_lines(
    span: &Span,
    shares: &Shares,
    (used, charged): (&Quantities, &BTreeMap<usize, Charged>),
    already: Option<&Quantities>,
) -> Result<Vec<BillLine>, RatingError> {
    let Span { period, plan } = span;
    let usage = used.iter().map(|(meter, quantity)| (meter.clone(), Usage::Quantity(*quantity))).collect();
    let rated = rules::rate(&plan.prices, &usage, already, plan.currency())?;
    let base = shares.of(plan.base, *period).map_err(of_total)?;
    let mut lines = vec![about(span, LineKind::Base, rules::fixed_line("base", base), None)];
    for (place, (mut line, price)) in rated.lines.into_iter().zip(&plan.prices).enumerate() {
        if let Some(charged) = charged.get(&place) {
            line = rules::charged_line(price, line.quantity, *charged, already.is_some(), plan.currency())?;
        }
        let before = already.and_then(|already| already.get(&price.meter).copied());
        lines.push(about(span, LineKind::Usage, line, before));
    }
    Ok(lines)
}

/// What was committed to in a period, by all its spans whose plan has a commitment, and what these came to. It is compared once,
/// so that a new version with the same commitment changes nothing.
struct Committed {
    amount: Money,
    came: Money,
    /// From the first of these spans to the last, which is the line's tier and version.
    about: Span,
    /// After the lines of the last.
    place: usize,
}

impl Committed {
    fn and(before: Option<Self>, span: &Span, sums: (Money, Money), place: usize) -> Result<Self, RatingError> {
        let (mut amount, mut came) = sums;
        let mut about = span.clone();
        if let Some(before) = before {
            amount = amount.add(before.amount).map_err(of_total)?;
            came = came.add(before.came).map_err(of_total)?;
            about.period = Period::new(before.about.period.from(), span.period.to()).unwrap_or(span.period);
        }
        Ok(Self { amount, came, about, place })
    }

    /// What is missing, and where the line belongs.
    fn line(&self) -> Result<(usize, BillLine), RatingError> {
        let missing = self.amount.sub(self.came).map_err(of_total)?;
        let missing = if missing.minor() > 0 { missing } else { Money::zero(missing.currency()) };
        let line = rules::fixed_line("commitment", missing);
        Ok((self.place, about(&self.about, LineKind::Commitment, line, None)))
    }
}

/// The lines of a span that is free: what was used, and that it costs nothing.
fn trial_lines(span: &Span, shares: &Shares, used: &Quantities) -> Result<Vec<BillLine>, RatingError> {
    let plan = &span.plan;
    let zero = Money::zero(plan.currency());
    let usage = used.iter().map(|(meter, quantity)| (meter.clone(), Usage::Quantity(*quantity))).collect();
    let rated = rules::rate(&plan.prices, &usage, None, plan.currency())?;
    let free = |line: Line| Line { unrounded: Quantity::ZERO, amount: zero, tiers: Vec::new(), ..line };
    let base = rules::fixed_line("base", shares.of(plan.base, span.period).map_err(of_total)?);
    let mut lines = vec![about(span, LineKind::Base, free(base), None)];
    lines.extend(rated.lines.into_iter().map(|line| about(span, LineKind::Usage, free(line), None)));
    Ok(lines)
}

fn about(span: &Span, kind: LineKind, line: Line, already: Option<Quantity>) -> BillLine {
    let Span { period, plan } = span;
    BillLine { kind, line, already, tier: plan.tier.clone(), price_version: plan.version, period: *period }
}
