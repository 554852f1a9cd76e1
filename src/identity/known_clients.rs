//! Clients and the tenants they belong to, remembered, so that a token for a machine needs no query.
//!
//! Bounded in number. A change on this node is seen by the next request: it makes everything remembered stale, and what
//! was read before it is not remembered after it. A change by another node is seen within [`FRESH_MS`].

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use quick_cache::sync::Cache;

use super::{error::Error, model::Client};
use crate::{
    kernel::{ClientId, TenantId, TenantObserver, Timestamp},
    store::{Scope, Store},
    tenants::Tenant,
};

/// The most that are remembered: about 1 kB each.
const REMEMBERED: usize = 8_192;
/// How long what another node may have changed is taken for true, in milliseconds.
const FRESH_MS: i64 = 500;

/// A client, and its tenant if it has one.
pub(super) struct KnownClient {
    pub(super) client: Client,
    pub(super) tenant: Option<Tenant>,
    generation: u64,
    read_at: Timestamp,
}

/// What is remembered of clients; cheap to clone.
#[derive(Clone)]
pub struct KnownClients(Arc<Shared>);

struct Shared {
    cache: Cache<ClientId, Arc<KnownClient>>,
    generation: AtomicU64,
}

impl Default for KnownClients {
    fn default() -> Self {
        Self(Arc::new(Shared { cache: Cache::new(REMEMBERED), generation: AtomicU64::new(0) }))
    }
}

impl KnownClients {
    /// A client as it is now.
    pub(super) async fn find(
        &self,
        store: &Store,
        id: ClientId,
        now: Timestamp,
    ) -> Result<Option<Arc<KnownClient>>, Error> {
        let generation = self.0.generation.load(Ordering::Acquire);
        let fresh = |known: &Arc<KnownClient>| {
            let age_ms = now.as_millis() - known.read_at.as_millis();
            known.generation == generation && (0..FRESH_MS).contains(&age_ms)
        };
        if let Some(known) = self.0.cache.get(&id).filter(fresh) {
            return Ok(Some(known));
        }
        let mut tx = store.read(Scope::Job("client")).await?;
        let Some(client) = tx.client(id).await? else { return Ok(None) };
        let tenant = match client.tenant_id {
            Some(tenant) => tx.tenant_by_id(tenant).await?,
            None => None,
        };
        let known = Arc::new(KnownClient { client, tenant, generation, read_at: now });
        self.0.cache.insert(id, Arc::clone(&known));
        Ok(Some(known))
    }

    /// A client changed.
    pub(super) fn changed(&self) {
        self.0.generation.fetch_add(1, Ordering::AcqRel);
    }
}

impl TenantObserver for KnownClients {
    fn tenant_changed(&self, _: TenantId) {
        self.changed();
    }

    fn all_changed(&self) {
        self.changed();
    }
}
