//! Who must hear of a change on this node before the next request.

use std::sync::Arc;

use super::TenantId;

/// Somebody on this node who must hear of a change before the next request: whoever remembers tenants.
pub trait TenantObserver: Send + Sync {
    /// The tenant's state, tier, plan or limits may have changed. Must not block.
    fn tenant_changed(&self, id: TenantId);

    /// So may every tenant's: a plan changed.
    fn all_changed(&self);
}

/// Several who must hear.
pub struct Observers(pub Vec<Arc<dyn TenantObserver>>);

impl TenantObserver for Observers {
    fn tenant_changed(&self, id: TenantId) {
        self.0.iter().for_each(|observer| observer.tenant_changed(id));
    }

    fn all_changed(&self) {
        self.0.iter().for_each(|observer| observer.all_changed());
    }
}
