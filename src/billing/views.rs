//! Bills and rated lines on the wire.

use serde::Serialize;
use utoipa::ToSchema;

use super::model::{Bill, BillLine, Line, Rated, TierLine};
use crate::kernel::{Currency, Quantity, TenantId, Timestamp};

/// What rating gave.
#[derive(Debug, Serialize, ToSchema)]
pub struct RatedView {
    currency: Currency,
    lines: Vec<LineView>,
    /// The sum of the lines.
    subtotal: String,
    /// The same: rating knows no taxes.
    total: String,
}

/// One line: what, how much, at which price, and how it was rounded.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineView {
    /// The meter, or `base`.
    meter: String,
    /// The price model.
    model: &'static str,
    quantity: Quantity,
    /// The exact amount.
    unrounded: Quantity,
    /// The amount, rounded half up to the currency's digits.
    amount: String,
    /// How the quantity fell into tiers.
    tiers: Vec<TierLineView>,
}

/// What fell into one tier.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierLineView {
    up_to: Option<Quantity>,
    quantity: Quantity,
    unit: Quantity,
    flat: Quantity,
    /// Exact.
    amount: Quantity,
}

impl From<TierLine> for TierLineView {
    fn from(tier: TierLine) -> Self {
        let TierLine { up_to, quantity, unit, flat, amount } = tier;
        Self { up_to, quantity, unit, flat, amount }
    }
}

impl From<Line> for LineView {
    fn from(line: Line) -> Self {
        Self {
            meter: line.meter,
            model: line.model,
            quantity: line.quantity,
            unrounded: line.unrounded,
            amount: line.amount.amount(),
            tiers: line.tiers.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Rated> for RatedView {
    fn from(rated: Rated) -> Self {
        Self {
            currency: rated.total.currency(),
            subtotal: rated.total.amount(),
            total: rated.total.amount(),
            lines: rated.lines.into_iter().map(Into::into).collect(),
        }
    }
}

/// A half-open period.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeriodView {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl From<crate::kernel::Period> for PeriodView {
    fn from(period: crate::kernel::Period) -> Self {
        Self { from: period.from(), to: period.to() }
    }
}

/// What a tenant owes for a period.
#[derive(Debug, Serialize, ToSchema)]
pub struct BillView {
    tenant_id: TenantId,
    period: PeriodView,
    /// `open` while the period runs, `closed` after it.
    status: &'static str,
    lines: Vec<BillLineView>,
    subtotal: String,
    /// No tax is worked out here.
    tax: String,
    total: String,
    currency: Currency,
}

/// A line of a bill.
#[derive(Debug, Serialize, ToSchema)]
pub struct BillLineView {
    #[serde(flatten)]
    line: LineView,
    /// `base`, `usage` or `commitment`.
    kind: &'static str,
    /// What earlier parts of the period used of the same tier.
    already: Option<Quantity>,
    /// The tier whose plan priced it.
    tier: String,
    /// The version of that plan.
    price_version: u32,
    /// The part of the period it is about: all of it, unless tier or plan changed.
    period: PeriodView,
}

impl From<BillLine> for BillLineView {
    fn from(line: BillLine) -> Self {
        Self {
            kind: line.kind.name(),
            line: line.line.into(),
            already: line.already,
            tier: line.tier.to_string(),
            price_version: line.price_version,
            period: line.period.into(),
        }
    }
}

impl From<Bill> for BillView {
    fn from(bill: Bill) -> Self {
        let currency = bill.total.currency();
        Self {
            tenant_id: bill.tenant_id,
            period: bill.period.into(),
            status: bill.status.name(),
            lines: bill.lines.into_iter().map(Into::into).collect(),
            subtotal: bill.total.amount(),
            tax: crate::kernel::Money::zero(currency).amount(),
            total: bill.total.amount(),
            currency,
        }
    }
}
