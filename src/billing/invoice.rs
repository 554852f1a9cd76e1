//! Invoices and what belongs to them: lines, payments, credit notes, and the terms of a tenant: taxes, coupons, credits.

use serde::{Deserialize, Serialize};

use super::{
    cadence::CadenceRule,
    invoice_document::InvoiceSeller,
    model::{BillLine, LineKind, TierLine},
};
use crate::kernel::{
    CouponId, CreditId, CreditNoteId, Currency, Digest, InvoiceId, Money, PaymentId, Period, Quantity, TenantId,
    TierName, Timestamp,
};

/// An invoice of a tenant for a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// Its id.
    pub id: InvoiceId,
    /// Whose.
    pub tenant_id: TenantId,
    /// For which period.
    pub period: Period,
    /// What became of it.
    pub state: InvoiceState,
    /// Its number, once it is issued.
    pub issue: Option<Issue>,
    /// With taxes, before credits.
    pub total: Money,
    /// What was owed when it was issued, of which credits are taken off.
    pub due: Money,
    /// What was paid since.
    pub paid: Money,
    /// What credit notes took off what was owed.
    pub credited: Money,
    /// The document, as JSON. That of a draft is worked out again when it is issued; that of an issued one never changes.
    pub document: String,
    /// When its draft was made.
    pub drafted_at: Timestamp,
}

/// What becomes of an invoice: `draft → finalized → paid`, `finalized → overdue → paid`, issued and unpaid `→ void`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvoiceState {
    /// The period is over, and late usage may still come.
    Draft,
    /// It is issued, and something is owed.
    Finalized,
    /// It was due.
    Overdue {
        /// Since when that is known.
        since: Timestamp,
    },
    /// Nothing is owed.
    Paid {
        /// Since when.
        at: Timestamp,
    },
    /// It was taken back as a whole.
    Void {
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
}

impl InvoiceState {
    /// All names, for checking a filter.
    pub const NAMES: [&'static str; 5] = ["draft", "finalized", "overdue", "paid", "void"];

    /// The name in the API.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Finalized => "finalized",
            Self::Overdue { .. } => "overdue",
            Self::Paid { .. } => "paid",
            Self::Void { .. } => "void",
        }
    }
}

impl Invoice {
    /// What is still owed.
    pub fn outstanding(&self) -> Money {
        let minor = self.due.minor() - self.paid.minor() - self.credited.minor();
        Money::from_minor(minor, self.due.currency())
    }

    /// Its number, or its id while it has none.
    pub fn name(&self) -> String {
        self.issue.as_ref().map_or_else(|| self.id.to_string(), |issue| issue.number.clone())
    }
}

/// What makes an invoice one that the tax office knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// The legal entity that issues it.
    pub entity: String,
    /// Its place in the entity's series, without gaps.
    pub serial: i64,
    /// As it is written.
    pub number: String,
    /// When.
    pub at: Timestamp,
    /// By when it is to be paid.
    pub due_at: Timestamp,
    /// The hash that holds it in its series; `None` when it was issued before there were seals.
    pub seal: Option<Digest>,
}

/// What a line is about, the same whenever the period is worked out again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LineKey {
    /// The start of the part of the period.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// The tier.
    pub tier: String,
    /// The version of its plan.
    pub version: u32,
    /// Its place among the lines of its part.
    pub place: u32,
    /// The meter, or `base`, or `commitment`.
    pub meter: String,
    /// The price model.
    pub model: String,
}

/// The keys of a bill's lines, in order.
pub fn keys(lines: &[BillLine]) -> Vec<LineKey> {
    let (mut part, mut place) = (None, 0);
    let key = |line: &BillLine| {
        place = if part == Some(line.period) { place + 1 } else { 0 };
        part = Some(line.period);
        LineKey {
            from: line.period.from(),
            to: line.period.to(),
            tier: line.tier.to_string(),
            version: line.price_version,
            place,
            meter: line.line.meter.clone(),
            model: line.line.model.to_owned(),
        }
    };
    lines.iter().map(key).collect()
}

/// A line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceLine {
    /// What it is about.
    pub key: LineKey,
    /// The first instant of the period that it was used in.
    pub month: Timestamp,
    /// Of which kind.
    pub kind: LineKind,
    /// How much.
    pub quantity: Quantity,
    /// What earlier parts of the period had used of the same tier.
    pub already: Option<Quantity>,
    /// Exact.
    pub unrounded: Quantity,
    /// Rounded once.
    pub amount: Money,
    /// How the quantity fell into tiers.
    pub tiers: Vec<TierLine>,
    /// The invoice that it adjusts, when it is about an earlier one.
    pub adjusts: Option<Adjusted>,
}

/// The invoice that a line adjusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjusted {
    /// Which.
    pub invoice: InvoiceId,
    /// Its number.
    pub number: String,
    /// Its period.
    pub period: Period,
}

/// What was billed under one key, by all invoices that hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Billed {
    /// How much.
    pub quantity: Quantity,
    /// The exact amount.
    pub unrounded: Quantity,
    /// In minor units.
    pub amount: i64,
}

impl Billed {
    /// Adds what another line has of the same; `None` when there are more digits than can be held.
    pub fn add(&mut self, more: &Self) -> Option<()> {
        self.quantity = self.quantity.add(more.quantity).ok()?;
        self.unrounded = self.unrounded.add(more.unrounded).ok()?;
        self.amount = self.amount.checked_add(more.amount)?;
        Some(())
    }
}

/// What a tenant is billed by, besides its plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Added to each invoice, each on the same amount.
    pub tax_rates: Vec<TaxRate>,
    /// The tenant's number with the tax office.
    pub tax_id: Option<String>,
}

/// A tax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaxRate {
    /// What it is called.
    pub name: String,
    /// How much.
    pub percent: Quantity,
}

/// A rebate, taken off before taxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coupon {
    /// Which.
    pub id: CouponId,
    /// What it is called.
    pub name: String,
    /// How much it takes off.
    pub off: Off,
    /// For how many invoices; `None` for all.
    pub periods: Option<i64>,
    /// By how many invoices it was used.
    pub uses: i64,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when, once it was ended.
    pub ended_at: Option<Timestamp>,
}

impl Coupon {
    /// Whether it takes something off the next invoice.
    pub fn holds(&self) -> bool {
        self.ended_at.is_none() && self.periods.is_none_or(|periods| self.uses < periods)
    }
}

/// How much a coupon takes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// A share of what is left of the subtotal.
    Percent(Quantity),
    /// An amount, at most what is left of it.
    Amount(Money),
}

/// Money that a tenant has with us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// Which.
    pub id: CreditId,
    /// How much it was.
    pub amount: Money,
    /// How much was taken of it.
    pub drawn: Money,
    /// Lower ones are drawn first.
    pub priority: i64,
    /// From when on nothing is drawn of it.
    pub expires_at: Option<Timestamp>,
    /// What it was given for.
    pub reason: String,
    /// When.
    pub granted_at: Timestamp,
}

impl Credit {
    /// What is left, whether or not it can still be drawn, in minor units.
    pub const fn left(&self) -> i64 {
        self.amount.minor() - self.drawn.minor()
    }

    /// Whether it can be drawn no more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// What an invoice took of a credit, or gave back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// Of which credit.
    pub credit: CreditId,
    /// By which invoice.
    pub invoice: InvoiceId,
    /// How much; below zero when it was given back.
    pub amount: Money,
    /// When.
    pub at: Timestamp,
}

/// Money that came in for an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Its id.
    pub id: PaymentId,
    /// What tells it from others of the same invoice.
    pub reference: String,
    /// How much.
    pub amount: Money,
    /// When it came.
    pub received_at: Timestamp,
    /// When it was noted.
    pub recorded_at: Timestamp,
}

/// What takes some of an invoice back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditNote {
    /// Its id.
    pub id: CreditNoteId,
    /// Of which invoice.
    pub invoice: InvoiceId,
    /// The legal entity, its place in the entity's series, and that as it is written.
    pub entity: String,
    /// Its place in the entity's series of credit notes.
    pub serial: i64,
    /// As it is written.
    pub number: String,
    /// Off which lines how much.
    pub lines: Vec<CreditedLine>,
    /// Why.
    pub reason: String,
    /// Who issued it, as they were called then.
    pub seller: Option<InvoiceSeller>,
    /// Off the lines.
    pub net: Money,
    /// With the lines' share of coupons and taxes.
    pub gross: Money,
    /// What of it was taken off what was owed; the rest is a credit.
    pub applied: Money,
    /// When.
    pub issued_at: Timestamp,
}

/// What a credit note takes off a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreditedLine {
    /// Which, from 1.
    pub line: usize,
    /// How much.
    pub amount: String,
}

/// How invoices are made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillingConfig {
    /// The currency of accounts of which no plan says it.
    pub currency: Currency,
    /// The legal entity that issues invoices.
    pub entity: String,
    /// What its documents say of it.
    pub seller: InvoiceSeller,
    /// Before the numbers of its invoices.
    pub invoice_prefix: String,
    /// Before the numbers of its credit notes.
    pub credit_note_prefix: String,
    /// So long after its end, in seconds, a period's invoice waits for late usage.
    pub grace_s: i64,
    /// So long after a month's end, in seconds, metering begins to note what comes late.
    pub late_after_s: i64,
    /// By so many days an invoice is to be paid.
    pub payment_terms_days: i64,
    /// What becomes of a tenant with an overdue invoice.
    pub overdue: OverduePolicy,
    /// How periods follow each other in new accounts.
    pub cadence: CadenceRule,
    /// Whose limits hold for a tenant that is limited; those of the plan in its currency with the lowest base when absent.
    pub overdue_tier: Option<TierName>,
    /// By what a base is split.
    pub proration: Proration,
    /// Whether invoices that are issued wait to be made at Stripe, too.
    pub stripe_invoices: bool,
    /// Folders with fonts for invoices, searched before the system's own.
    pub fonts: Vec<std::path::PathBuf>,
}

/// What becomes of a tenant with an overdue invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverduePolicy {
    /// Others are told.
    Warn,
    /// It is held to the limits of a lower tier until it has paid, too.
    Limit,
    /// It is suspended until it has paid, too.
    Suspend,
}

/// By what a base is split when tier or plan change in mid-period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proration {
    /// By the second (and its parts).
    Second,
    /// By whole days: the day of a change belongs to what it was changed to.
    Day,
}
