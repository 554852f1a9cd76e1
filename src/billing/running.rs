//! What a tenant owes for a period, worked out anew from usage, tiers and plans: the running bill, and what invoices are
//! made of.

use std::collections::BTreeMap;

use super::{
    error::Error,
    model::{Account, Bill, BillLine, BillStatus, Line, LineKind, Usage},
    rules::{self, Quantities},
    service::Billing,
    spans::{Catalogue, Span},
    transactions::{Charged, Tally},
};
use crate::{
    kernel::{CalendarUnit, Money, Period, Quantity, TenantId, TierName, Timestamp},
    store::Scope,
};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// What earlier parts of a period had of a tier.
#[derive(Default)]
struct Earlier {
    used: Quantities,
    parts: Vec<Period>,
}

/// What a part of a period has.
struct Used {
    quantities: Quantities,
    /// By the place of the price in the plan: what single transactions come to, of prices that look at them.
    charged: BTreeMap<usize, Charged>,
}

impl Billing {
    /// What a tenant owes for the month that `at` lies in. The same answer whenever it is asked for, once the month
    /// is over.
    pub async fn bill(&self, scope: Scope, tenant: TenantId, at: Timestamp) -> Result<Bill, Error> {
        self.bill_by(scope, tenant, at, &self.catalogue()).await
    }

    /// The same by other plans.
    pub(super) async fn bill_by(
        &self,
        scope: Scope,
        tenant: TenantId,
        at: Timestamp,
        catalogue: &Catalogue,
    ) -> Result<Bill, Error> {
        let period = Period::containing(at, CalendarUnit::Month);
        let mut tx = self.store.read(scope).await?;
        let account = tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        let tiers = tx.billed_tiers(tenant).await?;
        drop(tx);
        let status = if period.contains(self.clock.now()) || self.clock.now() < period.from() {
            BillStatus::Open
        } else {
            BillStatus::Closed
        };
        let mut bill =
            Bill { tenant_id: tenant, period, status, lines: Vec::new(), total: Money::zero(account.currency) };
        let outside = account.opened_at >= period.to() || account.closed_at.is_some_and(|at| at < period.from());
        if outside {
            return Ok(bill);
        }
        // What was used of each tier in earlier spans: what a tier includes, it includes once a period.
        let mut earlier: BTreeMap<TierName, Earlier> = BTreeMap::new();
        for (span, is_trial) in with_trials(catalogue.spans(period, &tiers), &account) {
            let already = earlier.get(&span.plan.tier);
            let used = self.span_usage(scope, tenant, &span, already).await?;
            let lines = if is_trial {
                trial_lines(&span, period, &used.quantities)?
            } else {
                let lines = self.span_lines(&span, period, &used, already.map(|already| &already.used))?;
                // What was used for nothing is not used up of what the tier includes.
                let earlier = earlier.entry(span.plan.tier.clone()).or_default();
                rules::add_quantities(&mut earlier.used, &used.quantities)?;
                earlier.parts.push(span.period);
                lines
            };
            for line in lines {
                bill.total = bill.total.add(line.line.amount)?;
                bill.lines.push(line);
            }
        }
        Ok(bill)
    }

    /// What was used in a span of what its plan has a price for.
    async fn span_usage(
        &self,
        scope: Scope,
        tenant: TenantId,
        span: &Span,
        earlier: Option<&Earlier>,
    ) -> Result<Used, Error> {
        let mut quantities = Quantities::new();
        let mut charged = BTreeMap::new();
        for (place, price) in span.plan.prices.iter().enumerate() {
            let meter = &price.meter;
            if !quantities.contains_key(meter) {
                quantities.insert(meter.clone(), self.usage().total(scope, tenant, meter, span.period).await?);
            }
            let Some(terms) = price.per_transaction() else { continue };
            let mut tally = Tally::new(terms, price.included);
            for part in earlier.map_or(&[] as &[Period], |earlier| &earlier.parts) {
                self.usage().each_amount(scope, (tenant, meter), *part, |amount| tally.add(amount)).await?;
            }
            let before = tally.sum();
            let each = self.usage().each_amount(scope, (tenant, meter), span.period, |amount| tally.add(amount));
            // Of a meter without events, and of one whose values do not add up, all is one transaction.
            if each.await? {
                charged.insert(place, Charged { earlier: before, whole: tally.sum() });
            }
        }
        Ok(Used { quantities, charged })
    }

    /// The lines of a span. `already` is what earlier spans of the same tier have billed.
    fn span_lines(
        &self,
        span: &Span,
        whole: Period,
        used: &Used,
        already: Option<&Quantities>,
    ) -> Result<Vec<BillLine>, Error> {
        let Span { period, plan } = span;
        let proration = self.config.proration;
        let usage =
            used.quantities.iter().map(|(meter, quantity)| (meter.clone(), Usage::Quantity(*quantity))).collect();
        let rated = rules::rate(&plan.prices, &usage, already, plan.currency())?;
        let base = rules::share_of(plan.base, *period, whole, proration);
        let mut lines = vec![about(span, LineKind::Base, rules::fixed_line("base", base), None)];
        for (place, (mut line, price)) in rated.lines.into_iter().zip(&plan.prices).enumerate() {
            if let Some(charged) = used.charged.get(&place) {
                line = rules::charged_line(price, line.quantity, *charged, already.is_some(), plan.currency())?;
            }
            let before = already.and_then(|already| already.get(&price.meter).copied());
            lines.push(about(span, LineKind::Usage, line, before));
        }
        if let Some(commitment) = plan.commitment {
            let committed = rules::share_of(commitment, *period, whole, proration);
            let sum = lines.iter().try_fold(Money::zero(plan.currency()), |sum, line| sum.add(line.line.amount))?;
            let missing = committed.sub(sum)?;
            let missing = if missing.minor() > 0 { missing } else { Money::zero(plan.currency()) };
            lines.push(about(span, LineKind::Commitment, rules::fixed_line("commitment", missing), None));
        }
        Ok(lines)
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
fn trial_lines(span: &Span, whole: Period, used: &Quantities) -> Result<Vec<BillLine>, Error> {
    let plan = &span.plan;
    let zero = Money::zero(plan.currency());
    let usage = used.iter().map(|(meter, quantity)| (meter.clone(), Usage::Quantity(*quantity))).collect();
    let rated = rules::rate(&plan.prices, &usage, None, plan.currency())?;
    let free = |line: Line| Line { unrounded: Quantity::ZERO, amount: zero, tiers: Vec::new(), ..line };
    let base = rules::fixed_line("base", rules::share_of(plan.base, span.period, whole, super::Proration::Second));
    let mut lines = vec![about(span, LineKind::Base, free(base), None)];
    lines.extend(rated.lines.into_iter().map(|line| about(span, LineKind::Usage, free(line), None)));
    Ok(lines)
}
