//! What can go wrong with infrastructure.

use crate::{identity, kernel::TenantId, store::StoreError, tenants};

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
    /// No pool has room for one more tenant.
    #[error("no pool of the {driver} driver has room for another tenant")]
    Full {
        /// The driver's name.
        driver: &'static str,
    },
    /// Two drivers cannot carry a tenant's rows from one to the other.
    #[error("tenant {tenant} has {rows} rows with the {from} driver, which cannot be carried over to the {to} driver")]
    CannotMove {
        /// The tenant.
        tenant: TenantId,
        /// How many rows it has.
        rows: u64,
        /// The driver that keeps them.
        from: String,
        /// The driver that is to.
        to: &'static str,
    },
    /// Somebody wrote there after the tenant moved away, and nobody has looked at it yet.
    #[error(
        "the place {1} of tenant {0} is kept, with rows that were written there after it moved away; release it first"
    )]
    PlaceKept(TenantId, String),
    /// What is in use is not taken down.
    #[error("the place of tenant {0} is in use")]
    InUse(TenantId),
    /// Nothing was made up for the tenant that somebody could read.
    #[error("the infrastructure of tenant {0} has no credentials")]
    NoCredentials(TenantId),
    /// They are shown once.
    #[error("the credentials of tenant {0} were read already; rotate them to have new ones")]
    CredentialsRead(TenantId),
    /// What is kept may not be what is in force.
    #[error("the infrastructure of tenant {0} is not all made; try again when it is")]
    NotMade(TenantId),
    /// A callback about nothing that was asked for, or with a signature that is not ours.
    #[error("the callback is about nothing that was asked for, or its signature is wrong or too old")]
    Callback,
    /// A callback that says nothing.
    #[error("{0}")]
    CallbackBody(String),
    /// Secrets could not be sealed or opened, or an act not be noted.
    #[error("the identity service failed")]
    Identity(#[from] identity::Error),
    /// Who the tenant is.
    #[error(transparent)]
    Tenants(#[from] tenants::Error),
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}

impl Error {
    /// Of a driver.
    pub(super) fn of(
        driver: &'static str,
        verb: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Driver { driver, verb, source: source.into() }
    }
}
