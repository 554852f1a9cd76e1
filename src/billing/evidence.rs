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
    span_bill::{SpanUsage, bill_lines},
    span_evidence::SpanEvidence,
};
use crate::kernel::{CouponId, CreditId, Currency, Digest, Money, Period, Quantity, TenantId, TierName, Timestamp};

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
    /// The cadence.
    pub fn read(&self) -> Result<Cadence, Refusal> {
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
        let (period, spans) = (self.whole()?, self.spans(plans)?);
        let own = self.proration.as_deref().map(|name| {
            Proration::named(name).ok_or_else(|| Refusal::Unreadable(format!("proration {name:?} is none")))
        });
        let proration = own.transpose()?.unwrap_or(proration);
        let rated = bill_lines(&spans, period, (&self.cadence.read()?, proration), currency);
        let (lines, total) = rated.map_err(|error| Refusal::Unreadable(error.to_string()))?;
        Ok(Bill { tenant_id, period, status: BillStatus::Closed, lines, total })
    }

    /// The period, which is one by its cadence, or a part of one: a longer one would take as long to work out as somebody likes.
    fn whole(&self) -> Result<Period, Refusal> {
        let period = period(self.period.from, self.period.to)?;
        let cadence = self.cadence.read()?;
        if cadence.containing(period.from()).to() < period.to() {
            let (from, to) = (period.from(), period.to());
            return Err(Refusal::Wrong(format!("the period from {from} to {to} is longer than {cadence}")));
        }
        Ok(period)
    }

    /// Its parts, each after the one before it.
    pub fn spans(&self, plans: &Plans) -> Result<Vec<SpanUsage>, Refusal> {
        let period = self.whole()?;
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
        Ok(spans)
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

pub(super) fn period(from: Timestamp, to: Timestamp) -> Result<Period, Refusal> {
    Period::new(from, to).map_err(|error| Refusal::Unreadable(error.to_string()))
}

fn money(text: &str, currency: Currency) -> Result<Money, Refusal> {
    let exact = text.parse().ok().and_then(|exact| Money::from_exact(exact, currency).ok());
    exact
        .filter(|money| money.amount() == text)
        .ok_or_else(|| Refusal::Unreadable(format!("{text:?} is no amount in {currency}")))
}
