//! What a tenant owes for a period, worked out anew from usage, tiers and plans: the running bill, and what invoices are
//! made of.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::{
    error::Error,
    model::{Account, Bill, BillLine, BillStatus, Line, LineKind, Usage},
    rules::{self, Quantities},
    schedule::Schedule,
    service::Billing,
    shares::Shares,
    spans::Span,
};
use crate::{
    kernel::{Money, Period, Quantity, TenantId, TierName, Timestamp},
    store::Scope,
};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// Which bill.
enum Which {
    /// Of the period that an instant lies in.
    At(Timestamp),
    /// Of the first period that begins in a month.
    BeginningIn(Date),
    /// Of a period.
    Of(Period),
}

impl Which {
    fn period(self, schedule: &Schedule) -> Option<Period> {
        match self {
            Self::At(at) => Some(schedule.containing(at)),
            Self::BeginningIn(month) => schedule.beginning_in(month),
            Self::Of(period) => Some(period),
        }
    }
}

impl Billing {
    /// What a tenant owes for the period that `at` lies in. The same answer whenever it is asked for, once the period
    /// is over.
    pub async fn bill(&self, scope: Scope, tenant: TenantId, at: Timestamp) -> Result<Bill, Error> {
        self.bill_for(scope, tenant, Which::At(at)).await
    }

    /// The same for the first period that begins in a month, where the account is.
    pub async fn bill_beginning_in(&self, scope: Scope, tenant: TenantId, month: Date) -> Result<Bill, Error> {
        self.bill_for(scope, tenant, Which::BeginningIn(month)).await
    }

    /// The same for a period of the account's.
    pub(super) async fn bill_of(&self, scope: Scope, tenant: TenantId, period: Period) -> Result<Bill, Error> {
        self.bill_for(scope, tenant, Which::Of(period)).await
    }

    async fn bill_for(&self, scope: Scope, tenant: TenantId, which: Which) -> Result<Bill, Error> {
        let mut tx = self.store.read(scope).await?;
        let account = tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        let schedule = tx.billing_schedule(tenant).await?;
        let tiers = tx.billed_tiers(tenant).await?;
        drop(tx);
        let month =
            if let Which::BeginningIn(month) = which { month.strftime("%Y-%m").to_string() } else { String::new() };
        let period = which.period(&schedule).ok_or(Error::NoPeriod(month))?;
        let status = if self.clock.now() < period.to() { BillStatus::Open } else { BillStatus::Closed };
        let mut bill =
            Bill { tenant_id: tenant, period, status, lines: Vec::new(), total: Money::zero(account.currency) };
        let outside = account.opened_at >= period.to() || account.closed_at.is_some_and(|at| at < period.from());
        if outside {
            return Ok(bill);
        }
        // What was used of each tier in earlier spans: what a tier includes, it includes once a period.
        let mut earlier: BTreeMap<TierName, Quantities> = BTreeMap::new();
        let mut committed: Option<Committed> = None;
        for (span, is_trial) in with_trials(self.catalogue().spans(period, &tiers), &account) {
            let used = self.span_usage(scope, tenant, &span).await?;
            let cadence = schedule.in_force(period.from());
            let shares = Shares::new(period, cadence, span.plan.interval, self.config.proration);
            let lines = if is_trial {
                trial_lines(&span, &shares, &used)?
            } else {
                let already = earlier.get(&span.plan.tier);
                let lines = span_lines(&span, &shares, &used, already)?;
                // What was used for nothing is not used up of what the tier includes.
                rules::add_quantities(earlier.entry(span.plan.tier.clone()).or_default(), &used)?;
                lines
            };
            let came = lines.iter().try_fold(Money::zero(account.currency), |sum, line| sum.add(line.line.amount))?;
            bill.total = bill.total.add(came)?;
            bill.lines.extend(lines);
            if let Some(commitment) = span.plan.commitment.filter(|_| !is_trial) {
                let amount = shares.of(commitment, span.period)?;
                committed = Some(Committed::and(committed, &span, (amount, came), bill.lines.len())?);
            }
        }
        if let Some(committed) = committed {
            let (place, line) = committed.line()?;
            bill.total = bill.total.add(line.line.amount)?;
            bill.lines.insert(place, line);
        }
        Ok(bill)
    }

    /// What was used in a span of what its plan has a price for.
    async fn span_usage(&self, scope: Scope, tenant: TenantId, span: &Span) -> Result<Quantities, Error> {
        let mut used = Quantities::new();
        for meter in span.plan.prices.iter().map(|price| &price.meter) {
            if !used.contains_key(meter) {
                used.insert(meter.clone(), self.usage().total(scope, tenant, meter, span.period).await?);
            }
        }
        Ok(used)
    }
}

/// The lines of a span. `already` is what earlier spans of the same tier have billed.
fn span_lines(
    span: &Span,
    shares: &Shares,
    used: &Quantities,
    already: Option<&Quantities>,
) -> Result<Vec<BillLine>, Error> {
    let Span { period, plan } = span;
    let usage = used.iter().map(|(meter, quantity)| (meter.clone(), Usage::Quantity(*quantity))).collect();
    let rated = rules::rate(&plan.prices, &usage, already, plan.currency())?;
    let base = shares.of(plan.base, *period)?;
    let mut lines = vec![about(span, LineKind::Base, rules::fixed_line("base", base), None)];
    for (line, price) in rated.lines.into_iter().zip(&plan.prices) {
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
    fn and(before: Option<Self>, span: &Span, sums: (Money, Money), place: usize) -> Result<Self, Error> {
        let (mut amount, mut came) = sums;
        let mut about = span.clone();
        if let Some(before) = before {
            (amount, came) = (amount.add(before.amount)?, came.add(before.came)?);
            about.period = Period::new(before.about.period.from(), span.period.to()).unwrap_or(span.period);
        }
        Ok(Self { amount, came, about, place })
    }

    /// What is missing, and where the line belongs.
    fn line(&self) -> Result<(usize, BillLine), Error> {
        let missing = self.amount.sub(self.came)?;
        let missing = if missing.minor() > 0 { missing } else { Money::zero(missing.currency()) };
        let line = rules::fixed_line("commitment", missing);
        Ok((self.place, about(&self.about, LineKind::Commitment, line, None)))
    }
}

fn about(span: &Span, kind: LineKind, line: Line, already: Option<Quantity>) -> BillLine {
    let Span { period, plan } = span;
    BillLine { kind, line, already, tier: plan.tier.clone(), price_version: plan.version, period: *period }
}

/// Spans cut where the trial of their plan ends, and whether each is free.
fn with_trials(spans: Vec<Span>, account: &Account) -> Vec<(Span, bool)> {
    let mut cut = Vec::new();
    for span in spans {
        let days = i64::from(span.plan.trial_days);
        // Usage is counted by the minute.
        let end = account.opened_at.floor_minute().plus_secs(days * DAY_S);
        let Span { period, plan } = span;
        let part = |from, to, is_trial| {
            let part = Period::new(from, to).ok()?;
            Some((Span { period: part, plan: plan.clone() }, is_trial))
        };
        if days == 0 {
            cut.extend(part(period.from(), period.to(), false));
            continue;
        }
        cut.extend(part(period.from(), period.to().min(end), true));
        cut.extend(part(period.from().max(end), period.to(), false));
    }
    cut
}

/// The lines of a span that is free: what was used, and that it costs nothing.
fn trial_lines(span: &Span, shares: &Shares, used: &Quantities) -> Result<Vec<BillLine>, Error> {
    let plan = &span.plan;
    let zero = Money::zero(plan.currency());
    let usage = used.iter().map(|(meter, quantity)| (meter.clone(), Usage::Quantity(*quantity))).collect();
    let rated = rules::rate(&plan.prices, &usage, None, plan.currency())?;
    let free = |line: Line| Line { unrounded: Quantity::ZERO, amount: zero, tiers: Vec::new(), ..line };
    let base = rules::fixed_line("base", shares.of(plan.base, span.period)?);
    let mut lines = vec![about(span, LineKind::Base, free(base), None)];
    lines.extend(rated.lines.into_iter().map(|line| about(span, LineKind::Usage, free(line), None)));
    Ok(lines)
}
