//! What can go wrong with billing.

use crate::{
    kernel::{Fault, MoneyError, TenantId, TierName},
    metering,
    store::StoreError,
};

/// An error of the billing service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tenant is not known, or has no billing account: nothing can be billed to it.
    #[error("tenant {0} has no billing account")]
    NoAccount(TenantId),
    /// No plan has this tier.
    #[error("there is no plan for the tier {0}")]
    UnknownTier(TierName),
    /// A plan or a rating request is not one.
    #[error("{} fields were refused", .0.len())]
    Invalid(Vec<Fault>),
    /// An amount cannot be worked out exactly.
    #[error("the amount cannot be worked out")]
    Rating(#[from] super::rules::RatingError),
    /// An amount cannot be formed.
    #[error("the amount cannot be formed")]
    Money(#[from] MoneyError),
    /// The usage could not be read.
    #[error("the usage could not be read")]
    Usage(#[from] metering::Error),
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}
