//! What an invoice was worked out from: usage, spans of plans, what was billed before, taxes, coupons and credits. It is kept
//! when the invoice is issued, and never changed; whoever has it works the invoice out again.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    cadence::Cadence,
    cadence_wire::IntervalBody,
    charges::BilledByKey,
    export::Refusal,
    invoice::{Billed, Coupon, Credit, LineKey, Off, Proration, TaxRate},
    invoice_document::{AdjustedInvoice, InvoicePeriod},
    model::{Bill, BillStatus, Plan},
    rules::Quantities,
    span_bill::{SpanUsage, bill_lines},
    spans::Span,
    transactions::Charged,
};
use crate::{
    kernel::{
        CalendarUnit, CouponId, CreditId, Currency, Digest, Money, Period, Quantity, TenantId, TierName, Timestamp,
    },
    metering::MeterKey,
};

/// What an invoice was worked out from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// When it was: from then on expired credits pay nothing.
    pub worked_out_at: Timestamp,
    /// The seal of the tenant's invoice before it, if that has one.
    #[schema(value_type = Option<String>)]
    pub before: Option<Digest>,
    /// Where the journals stood: all up to there is in the usage.
    pub journals: Option<MarkRef>,
    /// By what bases and commitments are split: `second` or `day`.
    pub proration: String,
    /// Of the invoice's own period.
    pub usage: PeriodEvidence,
    /// Of earlier periods that come to something else by now.
    pub adjusted: Vec<AdjustedEvidence>,
    /// The plans of all spans.
    pub plans: Vec<PlanEvidence>,
    /// The taxes that are added.
    pub tax_rates: Vec<TaxRateEvidence>,
    /// The coupons that hold, in the order in which they are taken off.
    pub coupons: Vec<CouponEvidence>,
    /// The credits that can be drawn.
    pub credits: Vec<CreditEvidence>,
}

/// A mark of where journals stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkRef {
    /// Its number.
    pub serial: i64,
    /// Its hash.
    #[schema(value_type = String)]
    pub hash: Digest,
}

/// What was used in a period, and what was billed of it before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeriodEvidence {
    /// Which.
    pub period: InvoicePeriod,
    /// By which periods the account was billed: bases and commitments are shared out by it.
    pub cadence: CadenceEvidence,
    /// Its parts, each with one plan.
    pub spans: Vec<SpanEvidence>,
    /// What earlier invoices billed of it.
    pub billed: Vec<BilledEvidence>,
    /// By what its bases and commitments are split, where that is not as in the invoice's own period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proration: Option<String>,
}

/// When billing periods begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CadenceEvidence {
    /// How long a period is: `month`, `year` or `{"days": N}`.
    pub interval: IntervalBody,
    /// A day on which one begins.
    pub anchor: String,
    /// The IANA time zone whose midnights they begin at.
    pub zone: String,
}

impl CadenceEvidence {
    fn read(&self) -> Result<Cadence, Refusal> {
        let fault = |error: &dyn std::fmt::Display| Refusal::Unreadable(format!("the cadence: {error}"));
        let interval = self.interval.parse().map_err(|error| fault(&error))?;
        let anchor = self.anchor.parse().map_err(|error: jiff::Error| fault(&error))?;
        let zone = self.zone.parse().map_err(|error: super::cadence::CadenceError| fault(&error))?;
        Ok(Cadence { interval, anchor, zone })
    }
}

impl From<&Cadence> for CadenceEvidence {
    fn from(cadence: &Cadence) -> Self {
        Self {
            interval: cadence.interval.into(),
            anchor: cadence.anchor.to_string(),
            zone: cadence.zone.name().to_owned(),
        }
    }
}

/// A part of a period with one plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SpanEvidence {
    /// The first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub to: Timestamp,
    /// The tier.
    pub tier: String,
    /// The version of its plan.
    pub version: u32,
    /// Whether it costs nothing.
    pub trial: bool,
    /// What was used, for each meter that the plan has a price for.
    pub usage: Vec<MeterEvidence>,
    /// What single transactions came to, for each percentage price that looks at them.
    pub charged: Vec<ChargedEvidence>,
}

/// What single transactions came to by a percentage price, before discount, maximum and minimum of its line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChargedEvidence {
    /// The place of the price in the plan, from 0.
    pub price: usize,
    /// Those that were billed before in the period.
    pub earlier: Quantity,
    /// These with those.
    pub whole: Quantity,
}

/// What was used of a meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterEvidence {
    /// The meter.
    pub meter: String,
    /// In all.
    pub total: Quantity,
    /// The days in UTC that have usage, each with what is within the span: `["2026-11-30", "12"]`. They sum to the total. `null`
    /// for a total that is no sum: a largest value, an average, how many different ones.
    #[schema(value_type = Option<Vec<Vec<String>>>)]
    pub days: Option<Vec<(String, Quantity)>>,
}

/// What was billed of a line before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BilledEvidence {
    /// The start of the line's part of the period.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// The tier.
    pub tier: String,
    /// The version of its plan.
    pub version: u32,
    /// The line's place among those of its part, from 0.
    pub place: u32,
    /// The meter, or `base`, or `commitment`.
    pub meter: String,
    /// The price model.
    pub model: String,
    /// How much.
    pub quantity: Quantity,
    /// The exact amount.
    pub unrounded: Quantity,
    /// What was billed.
    pub amount: String,
}

/// An earlier period, as it comes out by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustedEvidence {
    /// Its invoice.
    pub invoice: AdjustedInvoice,
    /// Its usage, and what was billed of it.
    pub usage: PeriodEvidence,
}

/// Which plan, by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanEvidence {
    /// The tier.
    pub tier: String,
    /// The version.
    pub version: u32,
    /// Of its body.
    #[schema(value_type = String)]
    pub digest: Digest,
}

/// A tax.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaxRateEvidence {
    /// What it is called.
    pub name: String,
    /// How much in a hundred.
    pub percent: Quantity,
}

/// A coupon: a share, or an amount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CouponEvidence {
    /// Which.
    pub coupon_id: CouponId,
    /// What it is called.
    pub name: String,
    /// In a hundred, of what is left.
    pub percent_off: Option<Quantity>,
    /// At most what is left.
    pub amount_off: Option<String>,
}

/// A credit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreditEvidence {
    /// Which.
    pub credit_id: CreditId,
    /// What was left of it.
    pub left: String,
    /// Lower ones are drawn first.
    pub priority: i64,
    /// Until when it could be drawn.
    pub expires_at: Option<Timestamp>,
}

impl PeriodEvidence {
    /// Of a bill's spans, and what was billed before.
    pub fn new(
        (period, cadence): (Period, &Cadence),
        spans: &[SpanUsage],
        billed: &BilledByKey,
        currency: Currency,
    ) -> Self {
        let billed = billed.iter().map(|(key, sum)| BilledEvidence {
            from: key.from,
            to: key.to,
            tier: key.tier.clone(),
            version: key.version,
            place: key.place,
            meter: key.meter.clone(),
            model: key.model.clone(),
            quantity: sum.quantity,
            unrounded: sum.unrounded,
            amount: Money::from_minor(sum.amount, currency).amount(),
        });
        let cadence = cadence.into();
        Self {
            period: period.into(),
            cadence,
            spans: spans.iter().map(SpanEvidence::from).collect(),
            billed: billed.collect(),
            proration: None,
        }
    }

    /// The bill that comes of it, by plans in their versions.
    pub fn bill(&self, tenant_id: TenantId, plans: &Plans, (currency, proration): Terms) -> Result<Bill, Refusal> {
        let period = period(self.period.from, self.period.to)?;
        let (mut spans, mut end) = (Vec::new(), period.from());
        for span in &self.spans {
            let span = span.read(plans)?;
            let part = span.span.period;
            if part.from() < end || part.to() > period.to() {
                return Err(Refusal::Unreadable(format!("the span from {} is out of its place", part.from())));
            }
            end = part.to();
            spans.push(span);
        }
        let own = self.proration.as_deref().map(|name| {
            Proration::named(name).ok_or_else(|| Refusal::Unreadable(format!("proration {name:?} is none")))
        });
        let proration = own.transpose()?.unwrap_or(proration);
        let rated = bill_lines(&spans, period, (&self.cadence.read()?, proration), currency);
        let (lines, total) = rated.map_err(|error| Refusal::Unreadable(error.to_string()))?;
        Ok(Bill { tenant_id, period, status: BillStatus::Closed, lines, total })
    }

    /// What was billed of it before.
    pub fn billed(&self, currency: Currency) -> Result<BilledByKey, Refusal> {
        let mut sums = BilledByKey::new();
        for line in &self.billed {
            let BilledEvidence { from, to, version, place, quantity, unrounded, .. } = *line;
            let (tier, meter, model) = (line.tier.clone(), line.meter.clone(), line.model.clone());
            let key = LineKey { from, to, tier, version, place, meter, model };
            let amount = money(&line.amount, currency)?.minor();
            if sums.insert(key, Billed { quantity, unrounded, amount }).is_some() {
                return Err(Refusal::Unreadable("what was billed before has a line twice".into()));
            }
        }
        Ok(sums)
    }
}

/// Plans by tier and version.
pub type Plans = BTreeMap<(String, u32), Arc<Plan>>;
/// By what a period is billed besides plans: its currency, and how bases are split.
pub type Terms = (Currency, Proration);

impl From<&SpanUsage> for SpanEvidence {
    fn from(usage: &SpanUsage) -> Self {
        let day = |(at, quantity): &(Timestamp, Quantity)| (day_name(*at), *quantity);
        let of_meter = |(meter, total): (&MeterKey, &Quantity)| MeterEvidence {
            meter: meter.to_string(),
            total: *total,
            days: usage.days.get(meter).map(|days| days.iter().map(day).collect()),
        };
        let Span { period, plan } = &usage.span;
        Self {
            from: period.from(),
            to: period.to(),
            tier: plan.tier.to_string(),
            version: plan.version,
            trial: usage.is_trial,
            usage: usage.used.iter().map(of_meter).collect(),
            charged: usage.charged.iter().map(ChargedEvidence::from).collect(),
        }
    }
}

impl From<(&usize, &Charged)> for ChargedEvidence {
    fn from((price, charged): (&usize, &Charged)) -> Self {
        Self { price: *price, earlier: charged.earlier, whole: charged.whole }
    }
}

impl SpanEvidence {
    fn read(&self, plans: &Plans) -> Result<SpanUsage, Refusal> {
        let part = period(self.from, self.to)?;
        let plan = plans.get(&(self.tier.clone(), self.version));
        let plan = plan.ok_or_else(|| {
            Refusal::Unreadable(format!("there is no version {} of the plan of {}", self.version, self.tier))
        })?;
        let mut used = Quantities::new();
        for of_meter in &self.usage {
            let meter: MeterKey =
                of_meter.meter.parse().map_err(|_| Refusal::Unreadable(format!("{:?} is no meter", of_meter.meter)))?;
            of_meter.check(part)?;
            if used.insert(meter, of_meter.total).is_some() {
                return Err(Refusal::Unreadable(format!("usage of {} is there twice", of_meter.meter)));
            }
        }
        let priced = |meter: &MeterKey| plan.prices.iter().any(|price| price.meter == *meter);
        if let Some(price) = plan.prices.iter().find(|price| !used.contains_key(&price.meter)) {
            return Err(Refusal::Unreadable(format!("there is no usage of {}, which has a price", price.meter)));
        }
        if let Some(meter) = used.keys().find(|meter| !priced(meter)) {
            return Err(Refusal::Unreadable(format!("there is usage of {meter}, which has no price")));
        }
        let mut charged = BTreeMap::new();
        for ChargedEvidence { price, earlier, whole } in &self.charged {
            let looks = plan.prices.get(*price).is_some_and(|price| price.per_transaction().is_some());
            if !looks || charged.insert(*price, Charged { earlier: *earlier, whole: *whole }).is_some() {
                return Err(Refusal::Unreadable(format!("price {price} is charged otherwise, or twice")));
            }
        }
        let span = Span { period: part, plan: Arc::clone(plan) };
        Ok(SpanUsage { span, is_trial: self.trial, used, days: BTreeMap::new(), charged })
    }
}

impl MeterEvidence {
    /// An error unless its days are days of the span, in order, and sum to the total.
    fn check(&self, span: Period) -> Result<(), Refusal> {
        let Some(days) = &self.days else { return Ok(()) };
        let (mut sum, mut end) = (Quantity::ZERO, Timestamp::MIN);
        for (name, quantity) in days {
            let at: Option<Timestamp> = format!("{name}T00:00:00Z").parse().ok();
            let day = at.filter(|at| day_name(*at) == *name).map(|at| Period::containing(at, CalendarUnit::Day));
            let day = day.filter(|day| day.from() >= end && day.intersect(span).is_some());
            let out_of_place = || Refusal::Unreadable(format!("{name:?} is no day of the span, or out of its place"));
            end = day.ok_or_else(out_of_place)?.to();
            sum = sum.add(*quantity).map_err(|error| Refusal::Unreadable(error.to_string()))?;
        }
        if sum == self.total {
            return Ok(());
        }
        Err(Refusal::Differs {
            of: format!("usage of {} from {} to {}", self.meter, span.from(), span.to()),
            said: self.total.to_string(),
            found: format!("{sum} by its days"),
        })
    }
}

impl CouponEvidence {
    /// Of a coupon.
    pub fn new(coupon: &Coupon) -> Self {
        let (percent_off, amount_off) = match coupon.off {
            Off::Percent(percent) => (Some(percent), None),
            Off::Amount(amount) => (None, Some(amount.amount())),
        };
        Self { coupon_id: coupon.id, name: coupon.name.clone(), percent_off, amount_off }
    }

    /// The coupon, one that holds.
    pub fn read(&self, currency: Currency, at: Timestamp) -> Result<Coupon, Refusal> {
        let off = match (self.percent_off, &self.amount_off) {
            (Some(percent), None) => Off::Percent(percent),
            (None, Some(amount)) => Off::Amount(money(amount, currency)?),
            _ => return Err(Refusal::Unreadable("a coupon takes a share off or an amount".into())),
        };
        let (id, name) = (self.coupon_id, self.name.clone());
        Ok(Coupon { id, name, off, periods: None, uses: 0, created_at: at, ended_at: None })
    }
}

impl CreditEvidence {
    /// Of a credit.
    pub fn new(credit: &Credit) -> Self {
        let left = Money::from_minor(credit.left(), credit.amount.currency()).amount();
        Self { credit_id: credit.id, left, priority: credit.priority, expires_at: credit.expires_at }
    }

    /// The credit, as far as it was left.
    pub fn read(&self, currency: Currency, at: Timestamp) -> Result<Credit, Refusal> {
        Ok(Credit {
            id: self.credit_id,
            amount: money(&self.left, currency)?,
            drawn: Money::zero(currency),
            priority: self.priority,
            expires_at: self.expires_at,
            reason: String::new(),
            granted_at: at,
        })
    }
}

impl From<&TaxRate> for TaxRateEvidence {
    fn from(rate: &TaxRate) -> Self {
        Self { name: rate.name.clone(), percent: rate.percent }
    }
}

impl Proration {
    /// Reads the name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Second, Self::Day].into_iter().find(|own| own.name() == name)
    }

    /// The name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Day => "day",
        }
    }
}

/// The tiers and versions of spans, each once.
pub fn plans_of<'a>(spans: impl Iterator<Item = &'a SpanUsage>) -> Vec<(TierName, u32)> {
    let mut found: Vec<_> = spans.map(|span| (span.span.plan.tier.clone(), span.span.plan.version)).collect();
    found.sort();
    found.dedup();
    found
}

/// A day's date, from its first instant.
fn day_name(at: Timestamp) -> String {
    let mut name = at.to_string();
    name.truncate("2026-01-31".len());
    name
}

fn period(from: Timestamp, to: Timestamp) -> Result<Period, Refusal> {
    Period::new(from, to).map_err(|error| Refusal::Unreadable(error.to_string()))
}

fn money(text: &str, currency: Currency) -> Result<Money, Refusal> {
    let exact = text.parse().ok().and_then(|exact| Money::from_exact(exact, currency).ok());
    exact
        .filter(|money| money.amount() == text)
        .ok_or_else(|| Refusal::Unreadable(format!("{text:?} is no amount in {currency}")))
}
