//! Which tenant a foreign issuer's word for it means: remembered until the tenant changes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use dashmap::DashMap;

use crate::{
    identity::access::Place,
    kernel::{ExternalId, TenantId, TenantObserver},
    store::{Scope, Store, StoreError},
};

/// A place that is good for one request alone.
const NEVER_SURE: u64 = u64::MAX;

/// The tenants that tokens have named; it must hear of every change of a tenant. Cheap to clone.
#[derive(Clone, Default)]
pub struct NamedTenants(pub(super) Arc<Places>);

impl TenantObserver for NamedTenants {
    fn tenant_changed(&self, id: TenantId) {
        self.0.changed(id);
    }

    fn all_changed(&self) {}
}

/// Only tenants that exist are kept: whoever makes names up does not fill memory.
#[derive(Default)]
pub(super) struct Places {
    by_name: DashMap<Box<str>, Arc<Place>>,
    changes: DashMap<TenantId, Arc<AtomicU64>>,
    /// Grows with every change of any tenant.
    generation: AtomicU64,
    /// One is made at a time.
    pub(super) making: tokio::sync::Mutex<()>,
}

impl Places {
    /// The tenant of a name, unless it must be looked up.
    pub(super) fn known(&self, name: &str) -> Option<Arc<Place>> {
        let place = self.by_name.get(name)?;
        place.is_sure().then(|| Arc::clone(place.value()))
    }

    /// A tenant may have another external id, or be gone.
    fn changed(&self, tenant: TenantId) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        if let Some(changes) = self.changes.get(&tenant) {
            changes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Looks a name up: the id of a tenant, or its external id.
    pub(super) async fn find(&self, store: &Store, name: &str) -> Result<Option<Arc<Place>>, StoreError> {
        let generation = self.generation.load(Ordering::Acquire);
        let mut tx = store.read(Scope::Job("foreign-issuers")).await?;
        let by_id = match name.parse::<TenantId>() {
            Ok(id) => tx.tenant_by_id(id).await?,
            Err(_) => None,
        };
        let tenant = match (by_id, name.parse::<ExternalId>()) {
            (Some(tenant), _) => Some(tenant),
            // Names are trimmed where they are set, and compared as they are here.
            (None, Ok(external_id)) if external_id.as_str() == name => tx.tenant_by_external_id(&external_id).await?,
            (None, _) => None,
        };
        let Some(tenant) = tenant else {
            self.by_name.remove(name);
            return Ok(None);
        };
        let changes = Arc::clone(self.changes.entry(tenant.id).or_default().value());
        let as_of = changes.load(Ordering::Acquire);
        // A change that was made meanwhile may have been to this tenant, before there was anything to note it on.
        let as_of = if self.generation.load(Ordering::Acquire) == generation { as_of } else { NEVER_SURE };
        let external_id = tenant.external_id.map(|id| id.as_str().to_owned());
        let place = Arc::new(Place { tenant: tenant.id, external_id, changes, as_of });
        self.by_name.insert(name.into(), Arc::clone(&place));
        Ok(Some(place))
    }
}
