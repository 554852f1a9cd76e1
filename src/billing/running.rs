//! What a tenant owes for a period, worked out anew from usage, tiers and plans: the running bill, and what invoices are
//! made of.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::{
    books::Standing,
    cadence::Cadence,
    error::Error,
    invoice::Proration,
    model::{Account, Bill, BillStatus},
    rules::{Quantities, RatingError},
    schedule::Schedule,
    service::Billing,
    span_bill::{SpanUsage, bill_lines},
    spans::{Catalogue, Span},
    transactions::{Charged, Tally},
};
use crate::{
    kernel::{Money, Period, Quantity, QuantityError, TenantId, Timestamp},
    metering::MeterKey,
    store::Scope,
};

/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// Single transactions of a meter in a span that are kept with an invoice; of more than that only what they come to is.
const MOST_KEPT: usize = 1_000;

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

/// How closely usage is looked at. Days are more to read than a month: only what is kept for a reader has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// What there is in all.
    Totals,
    /// And what each day has of it.
    Days,
}

/// A bill, and what it was worked out from.
pub(super) struct Grounded {
    pub(super) bill: Bill,
    /// By which periods the account is billed.
    pub(super) cadence: Cadence,
    /// By what bases are split.
    pub(super) proration: Proration,
    pub(super) spans: Vec<SpanUsage>,
}

impl Billing {
    /// What a tenant owes for the period that `at` lies in. The same answer whenever it is asked for, once the period
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
        Ok(self.bill_for(scope, tenant, Which::At(at), (Detail::Totals, catalogue)).await?.bill)
    }

    /// The same for the first period that begins in a month, where the account is.
    pub async fn bill_beginning_in(&self, scope: Scope, tenant: TenantId, month: Date) -> Result<Bill, Error> {
        Ok(self.bill_for(scope, tenant, Which::BeginningIn(month), (Detail::Totals, &self.catalogue())).await?.bill)
    }

    /// The same for a period of the account's.
    pub(super) async fn bill_of(&self, scope: Scope, tenant: TenantId, period: Period) -> Result<Bill, Error> {
        Ok(self.bill_from(scope, tenant, period, Detail::Totals).await?.bill)
    }

    /// The same, and what it was worked out from.
    pub(super) async fn bill_from(
        &self,
        scope: Scope,
        tenant: TenantId,
        period: Period,
        detail: Detail,
    ) -> Result<Grounded, Error> {
        self.bill_for(scope, tenant, Which::Of(period), (detail, &self.catalogue())).await
    }

    async fn bill_for(
        &self,
        scope: Scope,
        tenant: TenantId,
        which: Which,
        (detail, catalogue): (Detail, &Catalogue),
    ) -> Result<Grounded, Error> {
        let mut tx = self.store.read(scope).await?;
        let account = tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        let schedule = tx.billing_schedule(tenant).await?;
        let tiers = tx.billed_tiers(tenant).await?;
        let month =
            if let Which::BeginningIn(month) = which { month.strftime("%Y-%m").to_string() } else { String::new() };
        let period = which.period(&schedule).ok_or(Error::NoPeriod(month))?;
        let kept = if self.clock.now() < period.to() { None } else { tx.evidence_of(tenant, period.from()).await? };
        let proration = kept.as_deref().and_then(proration_of);
        drop(tx);
        self.bill_on(scope, &Standing { account, schedule, tiers }, (period, proration), (detail, catalogue)).await
    }

    /// The bill of a period of an account, by how its bases were split where that is known: what was issued stays as it was,
    /// whatever the settings say by now.
    pub(super) async fn bill_on(
        &self,
        scope: Scope,
        standing: &Standing,
        (period, kept): (Period, Option<Proration>),
        (detail, catalogue): (Detail, &Catalogue),
    ) -> Result<Grounded, Error> {
        let Standing { account, schedule, tiers } = standing;
        let tenant = account.tenant_id;
        let cadence = schedule.in_force(period.from()).clone();
        let status = if self.clock.now() < period.to() { BillStatus::Open } else { BillStatus::Closed };
        let proration = kept.filter(|_| status == BillStatus::Closed).unwrap_or(self.config.proration);
        let mut bill =
            Bill { tenant_id: tenant, period, status, lines: Vec::new(), total: Money::zero(account.currency) };
        let mut spans = Vec::new();
        let outside = account.opened_at >= period.to() || account.closed_at.is_some_and(|at| at < period.from());
        if !outside {
            let cut = with_trials(catalogue.spans(period, tiers), account);
            if let Some((Span { plan, .. }, _)) = cut.iter().find(|(span, _)| span.plan.currency() != account.currency)
            {
                let (tier, plan, account) = (plan.tier.clone(), plan.currency(), account.currency);
                return Err(Error::OtherCurrency { tier, plan, account });
            }
            for (span, is_trial) in cut {
                let mut usage = self.span_usage((scope, tenant), span, is_trial, detail).await?;
                self.look_at_each((scope, tenant), &mut usage, &spans).await?;
                spans.push(usage);
            }
            let how = (&cadence, proration);
            (bill.lines, bill.total) = bill_lines(&spans, period, how, account.currency)?;
        }
        Ok(Grounded { bill, cadence, proration, spans })
    }

    /// What was used in a span of what its plan has a price for.
    async fn span_usage(
        &self,
        (scope, tenant): (Scope, TenantId),
        span: Span,
        is_trial: bool,
        detail: Detail,
    ) -> Result<SpanUsage, Error> {
        let (mut used, mut days) = (Quantities::new(), BTreeMap::new());
        for meter in span.plan.prices.iter().map(|price| &price.meter) {
            if used.contains_key(meter) {
                continue;
            }
            let total = match detail {
                Detail::Totals => self.usage().total(scope, tenant, meter, span.period).await?,
                Detail::Days => {
                    let found = self.usage().by_day(scope, tenant, meter, span.period).await?;
                    days.extend(found.days.map(|days| (meter.clone(), days)));
                    found.total
                }
            };
            used.insert(meter.clone(), total);
        }
        Ok(SpanUsage { span, is_trial, used, days, charged: BTreeMap::new(), transactions: BTreeMap::new() })
    }

    /// Adds what single transactions of a span come to, of prices that look at them, after those of earlier spans of its tier.
    async fn look_at_each(
        &self,
        of: (Scope, TenantId),
        usage: &mut SpanUsage,
        earlier: &[SpanUsage],
    ) -> Result<(), Error> {
        if usage.is_trial {
            return Ok(());
        }
        let plan = usage.span.plan.clone();
        for (place, price) in plan.prices.iter().enumerate() {
            let Some(terms) = price.per_transaction() else { continue };
            let mut tally = Tally::new(terms, price.included);
            for part in earlier.iter().filter(|part| !part.is_trial && part.span.plan.tier == plan.tier) {
                self.each_of(of, (&price.meter, part), |amount| tally.add(amount)).await?;
            }
            let earlier = tally.sum();
            let (mut kept, mut sum) = (Some(Vec::new()), Quantity::ZERO);
            let take = |amount| {
                sum = sum.add(amount)?;
                kept = kept.take().filter(|kept| kept.len() < MOST_KEPT);
                if let Some(kept) = &mut kept {
                    kept.push(amount);
                }
                tally.add(amount)
            };
            // Of a meter without events, and of one whose values do not add up, all is one transaction.
            if self.each_of(of, (&price.meter, usage), take).await? {
                usage.charged.insert(place, Charged { earlier, whole: tally.sum() });
                // What came between two looks is in one of them: the next bill has it in both.
                let all = usage.used.get(&price.meter) == Some(&sum);
                usage.transactions.extend(kept.filter(|_| all).map(|kept| (price.meter.clone(), kept)));
            }
        }
        Ok(())
    }

    /// Gives the amount of each transaction of a span to `take`; `false` when its meter has none.
    async fn each_of(
        &self,
        (scope, tenant): (Scope, TenantId),
        (meter, part): (&MeterKey, &SpanUsage),
        mut take: impl FnMut(Quantity) -> Result<(), QuantityError> + Send,
    ) -> Result<bool, Error> {
        let Some(kept) = part.transactions.get(meter) else {
            return Ok(self.usage().each_amount(scope, (tenant, meter), part.span.period, take).await?);
        };
        let inexact = |source| RatingError::Inexact { meter: meter.to_string(), source };
        kept.iter().try_for_each(|amount| take(*amount)).map_err(inexact)?;
        Ok(true)
    }
}

/// By what an issued invoice's bases were split, of its evidence.
pub(super) fn proration_of(evidence: &str) -> Option<Proration> {
    #[derive(serde::Deserialize)]
    struct Kept {
        proration: String,
    }
    let kept: Kept = serde_json::from_str(evidence).ok()?;
    Proration::named(&kept.proration)
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
