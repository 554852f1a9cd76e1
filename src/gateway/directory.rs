//! What the request path knows of tenants: their state, tier and limits, in memory.
//!
//! A tenant is loaded at its first request. A change on this node marks it stale, and the next request loads it again
//! before it is admitted; its counters stay. Entries are a few hundred bytes; a tenant that was deleted keeps a
//! tombstone until the next start.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;

use super::admission::{Counter, Rate, RateTerms};
use crate::kernel::{
    CalendarUnit, Clock, Standing, TenantId, TenantObserver, TierName,
    observer::{StandingError, StandingFuture, TenantGate},
};

/// What the request path must know of a tenant.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its tier.
    pub tier: TierName,
    /// Whether it may call.
    pub standing: Standing,
    /// Its rate.
    pub rate: Option<RateTerms>,
    /// Its quotas.
    pub quotas: Vec<QuotaFact>,
}

/// A quota and what the ledger has of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaFact {
    /// The stock meter's number.
    pub meter: u16,
    /// The most, in thousandths.
    pub limit: i64,
    /// In which period.
    pub unit: CalendarUnit,
    /// Whether more is refused.
    pub hard: bool,
    /// Used in the current period, in thousandths.
    pub used: i64,
}

/// Facts as of this are loaded again for the next request.
const NEVER_FRESH: (u64, u64) = (u64::MAX, u64::MAX);

/// The source did not answer.
#[derive(Debug, thiserror::Error)]
#[error("a tenant's facts could not be loaded")]
pub struct SourceError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How new the usage in a tenant's facts must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageAsOf {
    /// As of this process's start: it has admitted nothing of the tenant yet.
    Start,
    /// As of now.
    Now,
}

/// Where facts come from.
pub trait TenantSource: Send + Sync {
    /// A tenant's facts; `None` when there is no such tenant.
    fn load(&self, tenant: TenantId, usage: UsageAsOf) -> BoxFuture<'_, Result<Option<Facts>, SourceError>>;
}

/// The tenants that this node has seen; cheap to clone.
#[derive(Clone)]
pub struct Directory {
    shared: Arc<Shared>,
}

struct Shared {
    source: OnceLock<Arc<dyn TenantSource>>,
    clock: Arc<dyn Clock>,
    entries: DashMap<TenantId, Arc<Entry>>,
    /// Grows when every tenant may have changed.
    plans: AtomicU64,
    /// Grows with every change of any tenant, also of one that has no entry to be marked.
    generation: AtomicU64,
}

/// One tenant: facts that are swapped whole, counters that stay.
pub struct Entry {
    facts: ArcSwapOption<Loaded>,
    /// Grows with every change; facts loaded under an older number are stale.
    changes: AtomicU64,
    loading: tokio::sync::Mutex<()>,
    counters: Mutex<Vec<(QuotaFact, Arc<Counter>)>>,
    rate: Rate,
}

/// Facts as they were loaded.
pub struct Loaded {
    /// The facts.
    pub facts: Facts,
    /// The quotas with their counters.
    pub(super) limits: Vec<(QuotaFact, Arc<Counter>)>,
    as_of: (u64, u64),
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

impl Entry {
    fn new() -> Self {
        Self {
            facts: ArcSwapOption::empty(),
            changes: AtomicU64::new(0),
            loading: tokio::sync::Mutex::new(()),
            counters: Mutex::default(),
            rate: Rate::default(),
        }
    }

    /// The tenant's rate.
    pub(super) const fn rate(&self) -> &Rate {
        &self.rate
    }
}

impl Directory {
    /// Knows nobody yet. The source is set once, by [`Self::connect`], because it needs services that need this.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            source: OnceLock::new(),
            clock,
            entries: DashMap::new(),
            plans: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Says where facts come from; a second call changes nothing.
    pub fn connect(&self, source: Arc<dyn TenantSource>) {
        drop(self.shared.source.set(source));
    }

    /// Forgets every tenant; each is loaded again by its next call, with counters that begin with what the ledger has.
    pub fn forget(&self) {
        self.shared.entries.clear();
    }

    /// Tells the time.
    pub fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    /// What is known of a tenant, if it is fresh.
    pub(super) fn fresh(&self, tenant: TenantId) -> Option<(Arc<Entry>, Arc<Loaded>)> {
        let entry = Arc::clone(self.shared.entries.get(&tenant)?.value());
        let loaded = entry.facts.load_full()?;
        (loaded.as_of == self.as_of(&entry)).then_some((entry, loaded))
    }

    fn as_of(&self, entry: &Entry) -> (u64, u64) {
        (entry.changes.load(Ordering::Acquire), self.shared.plans.load(Ordering::Acquire))
    }

    /// Loads a tenant, once for all who wait for it.
    pub(super) async fn load(&self, tenant: TenantId) -> Result<Option<(Arc<Entry>, Arc<Loaded>)>, SourceError> {
        let known = self.shared.entries.get(&tenant).map(|entry| Arc::clone(entry.value()));
        let usage = if known.is_some() { UsageAsOf::Now } else { UsageAsOf::Start };
        // Only for tenants that exist: whoever makes ids up does not fill memory.
        let entry = known.unwrap_or_else(|| Arc::new(Entry::new()));
        let _one = entry.loading.lock().await;
        if let Some(fresh) = self.fresh(tenant) {
            return Ok(Some(fresh));
        }
        let Some(source) = self.shared.source.get() else { return Ok(None) };
        let generation = self.shared.generation.load(Ordering::Acquire);
        let mut as_of = self.as_of(&entry);
        let Some(facts) = source.load(tenant, usage).await? else { return Ok(None) };
        let entry = Arc::clone(self.shared.entries.entry(tenant).or_insert_with(|| Arc::clone(&entry)).value());
        // A change that found no entry was before this; one that comes after it finds the entry. What was loaded across
        // such a change may be from before it, and is good for this request alone.
        if usage == UsageAsOf::Start && self.shared.generation.load(Ordering::Acquire) != generation {
            as_of = NEVER_FRESH;
        }
        let limits = self.limits(&entry, &facts.quotas);
        let loaded = Arc::new(Loaded { facts, limits, as_of });
        entry.facts.store(Some(Arc::clone(&loaded)));
        Ok(Some((Arc::clone(&entry), loaded)))
    }

    /// Quotas with their counters: the ones in use, or new ones that begin with what the ledger has. The counter of a
    /// quota that is gone is forgotten: it would not know what was used until the quota comes back.
    fn limits(&self, entry: &Entry, quotas: &[QuotaFact]) -> Vec<(QuotaFact, Arc<Counter>)> {
        let mut counters = entry.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut in_use = std::mem::take(&mut *counters);
        let now = self.shared.clock.now();
        let limits = quotas.iter().map(|quota| {
            let known = in_use.iter().position(|(other, _)| (other.meter, other.unit) == (quota.meter, quota.unit));
            // Taken out: of two quotas of one meter and period each counts for itself.
            let counter = known.map(|index| in_use.swap_remove(index).1);
            (*quota, counter.unwrap_or_else(|| Arc::new(Counter::new(quota.unit, now, quota.used))))
        });
        *counters = limits.collect();
        counters.clone()
    }
}

impl TenantObserver for Directory {
    fn tenant_changed(&self, id: TenantId) {
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        if let Some(entry) = self.shared.entries.get(&id) {
            entry.changes.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn all_changed(&self) {
        self.shared.plans.fetch_add(1, Ordering::AcqRel);
    }
}

impl TenantGate for Directory {
    fn standing(&self, id: TenantId) -> StandingFuture<'_> {
        Box::pin(async move {
            if let Some((_, loaded)) = self.fresh(id) {
                return Ok(loaded.facts.standing);
            }
            let loaded = self.load(id).await.map_err(|error| StandingError(error.into()))?;
            Ok(loaded.map_or(Standing::Gone, |(_, loaded)| loaded.facts.standing))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::kernel::ManualClock;

    /// Suspends the tenant while its facts are on their way.
    struct Suspends {
        directory: Directory,
        suspended: AtomicBool,
    }

    impl TenantSource for Suspends {
        fn load(&self, tenant: TenantId, _: UsageAsOf) -> BoxFuture<'_, Result<Option<Facts>, SourceError>> {
            let standing = if self.suspended.swap(true, Ordering::SeqCst) {
                Standing::Refused("suspended")
            } else {
                self.directory.tenant_changed(tenant);
                Standing::Active
            };
            let tier = "free".parse().unwrap();
            Box::pin(async move { Ok(Some(Facts { tier, standing, rate: None, quotas: Vec::new() })) })
        }
    }

    #[tokio::test]
    async fn a_change_while_a_tenant_is_first_loaded_is_seen_by_the_next_request() {
        let directory = Directory::new(Arc::new(ManualClock::new(crate::kernel::Timestamp::MIN)));
        let suspended = AtomicBool::new(false);
        directory.connect(Arc::new(Suspends { directory: directory.clone(), suspended }));
        let tenant = TenantId::from_uuid(uuid::Uuid::nil());
        directory.load(tenant).await.unwrap().unwrap();
        assert!(directory.fresh(tenant).is_none(), "what was loaded across a change is not kept");
        let (_, loaded) = directory.load(tenant).await.unwrap().unwrap();
        assert_eq!(loaded.facts.standing, Standing::Refused("suspended"));
        assert!(directory.fresh(tenant).is_some());
    }
}
