//! A tenant and the states it goes through.

use crate::kernel::{CustomerName, ExternalId, TenantId, TierName, Timestamp};

/// A customer's organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Fixed before anything else is made for it.
    pub id: TenantId,
    /// What people call it.
    pub customer_name: CustomerName,
    /// What a foreign issuer calls it.
    pub external_id: Option<ExternalId>,
    /// Its tier.
    pub tier: TierName,
    /// Its state: what was decided about it.
    pub status: Status,
    /// That its infrastructure does not answer, which nobody decided. Both can hold: who is suspended and unavailable is
    /// unavailable when it is let in again.
    pub unavailable: Option<Unavailable>,
    /// Grows by one with every change: tells caches which of two copies is newer.
    pub revision: i64,
    /// When it was first registered.
    pub created_at: Timestamp,
}

/// The states of a tenant:
/// `provisioning → active ⇄ suspended`, `active → changing_tier → active`, any `→ offboarding → deleted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Being made; not usable yet.
    Provisioning,
    /// In use.
    Active,
    /// Kept, but no call gets through.
    Suspended(Suspension),
    /// In use while its infrastructure moves.
    ChangingTier {
        /// The tier it moves to.
        to: TierName,
    },
    /// A step of making it failed.
    Failed(Failure),
    /// Being taken apart.
    Offboarding,
    /// Gone; a tombstone.
    Deleted {
        /// Since when.
        at: Timestamp,
    },
}

/// A fault of a tenant's infrastructure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// Since when.
    pub since: Timestamp,
    /// What does not answer.
    pub reason: String,
}

/// Why no call gets through, which says who may let them through again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspension {
    /// An administrator said so, and must say that it ends.
    Asked,
    /// An invoice is overdue; a payment ends it.
    Unpaid,
}

impl Suspension {
    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Unpaid => "unpaid",
        }
    }
}

/// Which step failed, and what now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The step's name.
    pub step: String,
    /// Why.
    pub reason: String,
    /// Whether trying again may help.
    pub retryable: bool,
}

impl Status {
    /// The name in the API.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Suspended(_) => "suspended",
            Self::ChangingTier { .. } => "changing_tier",
            Self::Failed(_) => "failed",
            Self::Offboarding => "offboarding",
            Self::Deleted { .. } => "deleted",
        }
    }

    /// All names, for checking a filter.
    pub const NAMES: [&'static str; 7] =
        ["provisioning", "active", "suspended", "changing_tier", "failed", "offboarding", "deleted"];

    /// Whether users may sign in and calls may pass.
    pub const fn is_usable(&self) -> bool {
        matches!(self, Self::Active | Self::ChangingTier { .. })
    }
}

/// What a list of tenants is narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantFilter {
    /// Exactly this customer name.
    pub customer_name: Option<CustomerName>,
    /// Exactly this state's name.
    pub status: Option<String>,
    /// Exactly this tier.
    pub tier: Option<TierName>,
}

/// From when a tenant had a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierSpan {
    /// The first instant.
    pub since: Timestamp,
    /// The tier.
    pub tier: TierName,
}
