//! What can go wrong with Stripe, and with payments that are told of.

use crate::{billing, kernel::TenantId, metering, onboarding, store::StoreError};

/// An error of the service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings have no `[billing.stripe]`, or no secret for what was asked for.
    #[error("{0} is not set up here")]
    Off(&'static str),
    /// A signature does not hold.
    #[error("{0}")]
    Signature(super::signature::SignatureFault),
    /// What was signed is not what is expected.
    #[error("{0}")]
    Malformed(&'static str),
    /// A meter that is to be sent is none that can be.
    #[error("billing.stripe.meters: {0}")]
    Meter(String),
    /// Nothing of the tenant's waits for somebody.
    #[error("nothing of tenant {0} is parked")]
    NothingParked(TenantId),
    /// There is no such invoice.
    #[error("there is no invoice {0}")]
    UnknownInvoice(String),
    /// Billing.
    #[error(transparent)]
    Billing(#[from] billing::Error),
    /// Onboarding.
    #[error(transparent)]
    Onboarding(#[from] onboarding::Error),
    /// Metering.
    #[error(transparent)]
    Metering(#[from] metering::Error),
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}
