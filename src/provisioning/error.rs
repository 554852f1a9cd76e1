//! What can go wrong with infrastructure.

use crate::{kernel::TenantId, store::StoreError};

/// An error of the provisioning service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tenant has no infrastructure.
    #[error("tenant {0} has no infrastructure")]
    None(TenantId),
    /// The driver could not do it; trying again may help.
    #[error("the {driver} driver failed to {verb}")]
    Driver {
        /// The driver's name.
        driver: &'static str,
        /// What it was doing.
        verb: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Infrastructure made by a driver that is not configured any more.
    #[error("infrastructure of tenant {tenant} was made by the driver {driver}, which is not configured")]
    ForeignDriver {
        /// The tenant.
        tenant: TenantId,
        /// The driver's name.
        driver: String,
    },
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}
