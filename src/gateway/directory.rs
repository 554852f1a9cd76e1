//! What the request path knows of tenants: their state, tier and limits, in memory.
//!
//! A tenant is loaded at its first request. A change on this node marks it stale, and the next request loads it again
//! before it is admitted; its counters stay. Entries are a few hundred bytes, and what tenants of a tier have in common is
//! there once; a tenant that was deleted keeps a tombstone until the next start.

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashMap;

use super::{
    admission::RateTerms,
    crossings::Crossings,
    entry::{Entry, Loaded},
    slots::Slots,
    terms::{QuotaTerms, Terms},
};
use crate::kernel::{
    Clock, Standing, TenantId, TenantObserver, TierName,
    observer::{StandingError, StandingFuture, TenantGate},
};

/// What the request path must know of a tenant.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its tier.
    pub tier: TierName,
    /// Whether it may call.
    pub standing: Standing,
    /// What its tier switches on.
    pub features: Vec<String>,
    /// Its rate.
    pub rate: Option<RateTerms>,
    /// How many requests it may have under way at once.
    pub max_concurrency: Option<u32>,
    /// Where its requests go, if not where those of the pool go.
    pub upstream: Option<axum::http::Uri>,
    /// Its quotas, and what the ledger has of each in the current period, in thousandths.
    pub quotas: Vec<(QuotaTerms, i64)>,
    /// Whose limits these are, where they are lower than its own because it does not pay.
    pub limited_to: Option<TierName>,
    /// The last record of this process's journal that the ledger had then.
    pub as_of: u64,
}

/// Facts as of this are loaded again for the next request.
const NEVER_FRESH: (u64, u64) = (u64::MAX, u64::MAX);
/// So many kinds of terms are kept before those that nobody has are looked for.
const MANY_TERMS: usize = 1_024;

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
    /// Each kind of terms once.
    terms: Mutex<HashSet<Arc<Terms>>>,
    slots: Slots,
    crossings: Crossings,
}

/// What is known of a tenant.
pub(super) type Known = (Arc<Entry>, Arc<Loaded>);

impl Directory {
    /// Knows nobody yet. The source is set once, by [`Self::connect`], because it needs services that need this.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            source: OnceLock::new(),
            clock,
            entries: DashMap::new(),
            plans: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            terms: Mutex::default(),
            slots: Slots::default(),
            crossings: Crossings::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Says where facts come from; a second call changes nothing.
    pub fn connect(&self, source: Arc<dyn TenantSource>) {
        drop(self.shared.source.set(source));
    }

    /// Lets at most so many requests of all tenants be under way at once, shared fairly; 0 for as many as come.
    pub fn set_max_in_flight(&self, most: u32) {
        self.shared.slots.set_limit(most);
    }

    /// The clock was put back by somebody who wants it so: rates begin anew, and each tenant is loaded again by its next call,
    /// with counters that begin again where that matters.
    pub fn clock_went_back(&self) {
        self.shared.entries.iter().for_each(|entry| entry.reset_rates());
        self.all_changed();
    }

    /// Calls of a tenant that are under way on this node, where they are counted.
    pub fn under_way(&self, tenant: TenantId) -> u32 {
        self.shared.entries.get(&tenant).map_or(0, |entry| entry.in_flight.count())
    }

    /// Tells the time.
    pub fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    pub(super) fn slots(&self) -> &Slots {
        &self.shared.slots
    }

    pub(super) fn crossings(&self) -> &Crossings {
        &self.shared.crossings
    }

    /// What is known of a tenant, if it is fresh.
    pub(super) fn fresh(&self, tenant: TenantId) -> Option<Known> {
        let entry = Arc::clone(self.shared.entries.get(&tenant)?.value());
        let loaded = entry.loaded()?;
        (loaded.as_of == self.as_of(&entry)).then_some((entry, loaded))
    }

    /// Whether something changed since this was loaded. What is good for one request alone is good for that.
    pub(super) fn is_outdated(&self, entry: &Entry, loaded: &Loaded) -> bool {
        loaded.as_of != NEVER_FRESH && loaded.as_of != self.as_of(entry)
    }

    /// The entry of a tenant that there is.
    pub(super) fn entry_of(&self, tenant: TenantId) -> Arc<Entry> {
        Arc::clone(self.shared.entries.entry(tenant).or_insert_with(|| Arc::new(Entry::new())).value())
    }

    fn as_of(&self, entry: &Entry) -> (u64, u64) {
        (entry.changes(), self.shared.plans.load(Ordering::Acquire))
    }

    /// Loads a tenant whose facts are not good any more.
    pub(super) async fn load_anew(&self, tenant: TenantId) -> Result<Option<Known>, SourceError> {
        self.tenant_changed(tenant);
        self.load(tenant).await
    }

    /// Loads a tenant, once for all who wait for it.
    pub(super) async fn load(&self, tenant: TenantId) -> Result<Option<Known>, SourceError> {
        let known = self.shared.entries.get(&tenant).map(|entry| Arc::clone(entry.value()));
        let usage = if known.is_some() { UsageAsOf::Now } else { UsageAsOf::Start };
        // Only for tenants that exist: whoever makes ids up does not fill memory.
        let entry = known.unwrap_or_else(|| Arc::new(Entry::new()));
        let _one = entry.loading().await;
        if let Some(fresh) = self.fresh(tenant) {
            return Ok(Some(fresh));
        }
        let Some(source) = self.shared.source.get() else { return Ok(None) };
        let generation = self.shared.generation.load(Ordering::Acquire);
        let mut as_of = self.as_of(&entry);
        // What is settled from here on may not be in what is loaded.
        let settled = entry.note_settled();
        let Some(facts) = source.load(tenant, usage).await? else { return Ok(None) };
        let known = Arc::clone(self.shared.entries.entry(tenant).or_insert_with(|| Arc::clone(&entry)).value());
        // A change that found no entry was before this; one that comes after it finds the entry. What was loaded across
        // such a change may be from before it, and is good for this request alone.
        if usage == UsageAsOf::Start && self.shared.generation.load(Ordering::Acquire) != generation {
            as_of = NEVER_FRESH;
        }
        let (terms, used) = self.terms(&facts);
        let now = self.shared.clock.now();
        if Arc::ptr_eq(&known, &entry) {
            let loaded = settled.install((facts.standing, facts.upstream), &terms, &used, (as_of, facts.as_of), now);
            return Ok(Some((known, loaded)));
        }
        // Somebody else had its first request at the same time, and loaded it as well; its counters count.
        drop(settled);
        let loaded = known.loaded().unwrap_or_else(|| {
            let noting = known.note_settled();
            noting.install((facts.standing, facts.upstream), &terms, &used, (NEVER_FRESH, facts.as_of), now)
        });
        Ok(Some((known, loaded)))
    }

    /// The terms in these facts, which other tenants may share, and what was used of each quota.
    fn terms(&self, facts: &Facts) -> (Arc<Terms>, Vec<i64>) {
        let quotas: Vec<QuotaTerms> = facts.quotas.iter().map(|(quota, _)| quota.clone()).collect();
        let used = facts.quotas.iter().map(|(_, used)| *used).collect();
        let mut terms =
            Terms::new(facts.tier.clone(), facts.features.clone(), facts.rate, facts.max_concurrency, quotas);
        terms.limited_to.clone_from(&facts.limited_to);
        let mut known = self.shared.terms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&terms) {
            return (Arc::clone(known), used);
        }
        if known.len() >= MANY_TERMS {
            known.retain(|terms| Arc::strong_count(terms) > 1);
        }
        let terms = Arc::new(terms);
        if known.len() < MANY_TERMS {
            known.insert(Arc::clone(&terms));
        }
        (terms, used)
    }
}

impl TenantObserver for Directory {
    fn tenant_changed(&self, id: TenantId) {
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        if let Some(entry) = self.shared.entries.get(&id) {
            entry.changed();
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
                return Ok(loaded.standing);
            }
            let loaded = self.load(id).await.map_err(|error| StandingError(error.into()))?;
            Ok(loaded.map_or(Standing::Gone, |(_, loaded)| loaded.standing))
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
            let facts = Facts {
                tier: "free".parse().unwrap(),
                standing,
                features: Vec::new(),
                rate: None,
                max_concurrency: None,
                upstream: None,
                quotas: Vec::new(),
                limited_to: None,
                as_of: 0,
            };
            Box::pin(async move { Ok(Some(facts)) })
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
        assert_eq!(loaded.standing, Standing::Refused("suspended"));
        assert!(directory.fresh(tenant).is_some());
    }

    #[tokio::test]
    async fn what_tenants_have_in_common_is_there_once() {
        let directory = Directory::new(Arc::new(ManualClock::new(crate::kernel::Timestamp::MIN)));
        directory.connect(Arc::new(Suspends { directory: directory.clone(), suspended: AtomicBool::new(true) }));
        let mut terms = Vec::new();
        for n in 0..3 {
            let tenant = TenantId::from_uuid(uuid::Uuid::from_u128(n));
            terms.push(Arc::clone(&directory.load(tenant).await.unwrap().unwrap().1.terms));
        }
        assert!(terms.iter().all(|own| Arc::ptr_eq(own, &terms[0])));
    }
}
