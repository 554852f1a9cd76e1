//! Whose data a transaction may touch.

use crate::kernel::TenantId;

/// The reach of a transaction. Made in `web/extract.rs` for requests and by named workers for themselves; a query
/// binds it, so a tenant's transaction cannot read another tenant's rows whatever ids it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One tenant's own rows.
    Tenant(TenantId),
    /// Everything, in the name of the platform administrator.
    Platform,
    /// Everything, in the name of a worker of our own; the name is for logs.
    Job(&'static str),
}

impl Scope {
    /// The tenant this scope is held to; `None` when it reaches everything.
    pub const fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Tenant(id) => Some(id),
            Self::Platform | Self::Job(_) => None,
        }
    }

    /// Whether rows of `tenant` lie within reach.
    pub fn covers(self, tenant: TenantId) -> bool {
        self.tenant().is_none_or(|own| own == tenant)
    }
}
