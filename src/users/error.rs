//! What can go wrong with users.

use crate::{
    kernel::{TenantId, UserId},
    store::StoreError,
};

/// An error of the users service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such user in this tenant.
    #[error("there is no user {0}")]
    Unknown(UserId),
    /// The email address belongs to a user of another tenant.
    #[error("this email address belongs to a user of another tenant")]
    EmailElsewhere,
    /// The email address belongs to a platform administrator.
    #[error("this email address belongs to a platform administrator")]
    EmailOfAdministrator,
    /// The user is in this tenant already.
    #[error("user {0} is in this tenant already")]
    AlreadyMember(UserId),
    /// A tenant keeps at least one owner in force.
    #[error("user {0} is the last owner of this tenant")]
    LastOwner(UserId),
    /// The tenant is not known.
    #[error("there is no tenant {0}")]
    UnknownTenant(TenantId),
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}
