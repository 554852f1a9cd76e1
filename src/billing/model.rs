//! Prices, plans and what comes of rating them. A value of these types is valid: tiers ascend and end open, sizes are
//! above zero.

use super::{address::BillingAddress, cadence::Interval};
use crate::{
    kernel::{
        BillingAccountId, CalendarUnit, Currency, Isolation, Money, Period, Quantity, TenantId, TierName, Timestamp,
    },
    metering::MeterKey,
};

/// The price of one meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// What is priced.
    pub meter: MeterKey,
    /// How.
    pub model: PriceModel,
    /// Units that cost nothing, taken off before anything else.
    pub included: Option<Quantity>,
    /// A discount in per cent, 0 to 100.
    pub discount_percent: Option<Quantity>,
    /// The line is never below this.
    pub minimum: Option<Quantity>,
    /// The line is never above this.
    pub maximum: Option<Quantity>,
}

/// How a quantity becomes an amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceModel {
    /// The amount, whatever was used.
    Flat {
        /// Due once.
        amount: Quantity,
    },
    /// The same for every unit.
    PerUnit {
        /// Of one unit.
        unit: Quantity,
    },
    /// Each unit at the price of the tier it falls into.
    Graduated(Tiers),
    /// Every unit at the price of the tier that the whole quantity falls into.
    Volume(Tiers),
    /// Whole packages.
    Package {
        /// Of one package.
        price: Quantity,
        /// Units in a package, above zero.
        size: Quantity,
        /// What happens to a broken package.
        round: PackageRounding,
    },
    /// A share of each transaction's amount.
    Percentage(Percentage),
    /// A share of the sum, by tier.
    GraduatedPercentage(Tiers),
    /// The quantity is an amount already.
    Dynamic {
        /// Applied to it.
        multiplier: Quantity,
    },
}

impl PriceModel {
    /// The name in the API.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Flat { .. } => "flat",
            Self::PerUnit { .. } => "per_unit",
            Self::Graduated(_) => "graduated",
            Self::Volume(_) => "volume",
            Self::Package { .. } => "package",
            Self::Percentage(_) => "percentage",
            Self::GraduatedPercentage(_) => "graduated_percentage",
            Self::Dynamic { .. } => "dynamic",
        }
    }
}

/// What happens to a broken package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageRounding {
    /// It is paid in full.
    Up,
    /// It is free.
    Down,
}

impl PackageRounding {
    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A share of each transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Percentage {
    /// The share in per cent.
    pub rate_percent: Quantity,
    /// Added to every transaction that is paid for.
    pub fixed_per_event: Quantity,
    /// Transactions that are free, from the first.
    pub free_events: Option<u64>,
    /// The amount that is free, from the first. With `free_events`, the first that is used up ends both.
    pub free_amount: Option<Quantity>,
    /// A transaction that is paid for costs at least this.
    pub min_per_event: Option<Quantity>,
    /// And at most this.
    pub max_per_event: Option<Quantity>,
}

/// One tier: up to and including `up_to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// The last unit of the tier; `None` for the open last tier.
    pub up_to: Option<Quantity>,
    /// Price of a unit (a percentage in `graduated_percentage`).
    pub unit: Quantity,
    /// Due once the tier is entered.
    pub flat: Quantity,
}

/// Tiers that ascend, the last of them open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiers(Vec<Tier>);

/// Why a list of tiers is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TiersError {
    /// No tier at all.
    #[error("must have at least one tier")]
    Empty,
    /// The last tier is closed.
    #[error("the last tier must be open: `up_to` null")]
    Closed,
    /// A tier before the last is open, or not above the one before it.
    #[error("`up_to` must be above zero and ascend from tier to tier")]
    NotAscending,
}

impl Tiers {
    /// Checks the order.
    pub fn new(tiers: Vec<Tier>) -> Result<Self, TiersError> {
        let (last, rest) = tiers.split_last().ok_or(TiersError::Empty)?;
        if last.up_to.is_some() {
            return Err(TiersError::Closed);
        }
        let mut below = Quantity::ZERO;
        for tier in rest {
            match tier.up_to {
                Some(up_to) if up_to > below => below = up_to,
                _ => return Err(TiersError::NotAscending),
            }
        }
        Ok(Self(tiers))
    }

    /// The tiers with the bound below each.
    pub fn with_lower_bounds(&self) -> impl Iterator<Item = (Quantity, &Tier)> {
        let below = std::iter::once(Quantity::ZERO).chain(self.0.iter().filter_map(|tier| tier.up_to));
        below.zip(&self.0)
    }

    /// The tiers.
    pub fn iter(&self) -> impl Iterator<Item = &Tier> {
        self.0.iter()
    }
}

/// What was used of a meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    /// So much in all.
    Quantity(Quantity),
    /// Transaction by transaction.
    Transactions(Vec<Quantity>),
}

/// One line of a bill: what, how much, at which price, and how it was rounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The meter, or `base`.
    pub meter: String,
    /// The price model's name.
    pub model: &'static str,
    /// What was used.
    pub quantity: Quantity,
    /// The exact amount.
    pub unrounded: Quantity,
    /// The amount, rounded half up once.
    pub amount: Money,
    /// How the quantity fell into tiers, for models that have them.
    pub tiers: Vec<TierLine>,
}

/// What fell into one tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierLine {
    /// The tier's upper bound.
    pub up_to: Option<Quantity>,
    /// Units in it.
    pub quantity: Quantity,
    /// The tier's price of a unit.
    pub unit: Quantity,
    /// What was due for entering it.
    pub flat: Quantity,
    /// Exact.
    pub amount: Quantity,
}

/// Lines and their sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rated {
    /// In the order of the prices.
    pub lines: Vec<Line>,
    /// The sum of the lines' rounded amounts.
    pub total: Money,
}

/// What a tier costs and allows: one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The tier.
    pub tier: TierName,
    /// Counts up with every change.
    pub version: u32,
    /// Shared infrastructure or the tenant's own.
    pub isolation: Isolation,
    /// For so long are base and commitment.
    pub interval: Interval,
    /// Due every interval.
    pub base: Money,
    /// What base and usage of an interval come to at least.
    pub commitment: Option<Money>,
    /// So many days from the opening of a tenant's account it is free.
    pub trial_days: u32,
    /// Prices of meters.
    pub prices: Vec<Price>,
    /// Limits by period.
    pub quotas: Vec<Quota>,
    /// Limit by second.
    pub rate_limit: Option<RateLimit>,
    /// How many requests may be under way at once.
    pub max_concurrency: Option<u32>,
    /// What the product switches on.
    pub features: Vec<String>,
}

impl Plan {
    /// The currency of everything in it.
    pub const fn currency(&self) -> Currency {
        self.base.currency()
    }
}

/// How much of a meter a tenant may use in a calendar period (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Of what.
    pub meter: MeterKey,
    /// How much.
    pub limit: Quantity,
    /// In which period.
    pub period: CalendarUnit,
    /// Whether more is refused.
    pub mode: QuotaMode,
}

/// Whether more than the quota is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaMode {
    /// Refused.
    Hard,
    /// Only shown.
    Soft,
}

impl QuotaMode {
    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
        }
    }
}

/// `requests` every `per_s` seconds, with bursts of up to `burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests in the time.
    pub requests: u32,
    /// The time, in seconds.
    pub per_s: u32,
    /// Requests at once.
    pub burst: u32,
}

/// A bill of a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// Whose.
    pub tenant_id: TenantId,
    /// For which period.
    pub period: Period,
    /// Whether usage may still be added.
    pub status: BillStatus,
    /// Its lines.
    pub lines: Vec<BillLine>,
    /// The sum of the lines.
    pub total: Money,
}

impl Bill {
    /// That of a period that is billed no more.
    pub const fn nothing(tenant_id: TenantId, period: Period, currency: Currency) -> Self {
        Self { tenant_id, period, status: BillStatus::Closed, lines: Vec::new(), total: Money::zero(currency) }
    }
}

/// A line of a bill, with the version of the plan it was priced by and the part of the period it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillLine {
    /// Of which kind.
    pub kind: LineKind,
    /// The line.
    pub line: Line,
    /// What earlier parts of the period had used of the same tier, which this part is priced on top of.
    pub already: Option<Quantity>,
    /// The tier whose plan priced it.
    pub tier: TierName,
    /// The version of that plan.
    pub price_version: u32,
    /// The part of the period.
    pub period: Period,
}

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// The plan's base.
    Base,
    /// A meter.
    Usage,
    /// What is missing to the plan's commitment.
    Commitment,
    /// What an earlier invoice would be otherwise by now.
    Adjustment,
}

impl LineKind {
    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Usage => "usage",
            Self::Commitment => "commitment",
            Self::Adjustment => "adjustment",
        }
    }
}

/// Whether a bill may still grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillStatus {
    /// The period runs.
    Open,
    /// The period is over.
    Closed,
}

impl BillStatus {
    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// A tenant's billing account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Which.
    pub id: BillingAccountId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Where bills go.
    pub billing_address: BillingAddress,
    /// In which currency.
    pub currency: Currency,
    /// Since when.
    pub opened_at: Timestamp,
    /// Until when, once the tenant is gone.
    pub closed_at: Option<Timestamp>,
}
