//! What can go wrong with tenants.

use crate::{
    kernel::{CustomerName, ExternalId, TenantId, TierName},
    store::StoreError,
};

/// An error of the tenants service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such tenant, or one of somebody else.
    #[error("there is no tenant {0}")]
    Unknown(TenantId),
    /// The transition is not one the state allows.
    #[error("tenant {id} is {status} and cannot {verb}")]
    WrongState {
        /// The tenant.
        id: TenantId,
        /// Its state's name.
        status: &'static str,
        /// What was asked for.
        verb: &'static str,
    },
    /// Another tenant has this customer name.
    #[error("the customer name {0} is taken")]
    NameTaken(CustomerName),
    /// Another tenant has this external id.
    #[error("the external id {0} is taken")]
    ExternalIdTaken(ExternalId),
    /// No plan has this tier.
    #[error("there is no tier {0}")]
    UnknownTier(TierName),
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}
