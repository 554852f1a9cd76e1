//! What was made for a tenant.

use crate::kernel::{InfrastructureId, Isolation, TenantId, Timestamp};

/// A tenant's piece of infrastructure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Infrastructure {
    /// Which piece.
    pub id: InfrastructureId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Shared or its own.
    pub isolation: Isolation,
    /// Which driver made it.
    pub driver: String,
    /// Where it is, in the driver's terms.
    pub location: String,
    /// Since when.
    pub created_at: Timestamp,
}

/// A place that is no longer used and still has to be taken down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Whose it was.
    pub tenant_id: TenantId,
    /// Shared or its own.
    pub isolation: Isolation,
    /// Which driver made it.
    pub driver: String,
    /// Where it is, in the driver's terms.
    pub location: String,
}

impl From<&Infrastructure> for Leftover {
    fn from(infrastructure: &Infrastructure) -> Self {
        Self {
            tenant_id: infrastructure.tenant_id,
            isolation: infrastructure.isolation,
            driver: infrastructure.driver.clone(),
            location: infrastructure.location.clone(),
        }
    }
}
