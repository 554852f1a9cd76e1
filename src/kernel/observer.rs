//! Who must hear of a change on this node before the next request.

use super::TenantId;

/// Somebody on this node who must hear of a change before the next request: the gateway's directory.
pub trait TenantObserver: Send + Sync {
    /// The tenant's state, tier, plan or limits may have changed. Must not block.
    fn tenant_changed(&self, id: TenantId);

    /// So may every tenant's: a plan changed.
    fn all_changed(&self);
}
