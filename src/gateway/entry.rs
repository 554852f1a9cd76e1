//! One tenant on this node: facts that are swapped whole, counters that stay, and how they stay right when facts come anew.
//!
//! A counter says what the ledger will say. Facts are read as of a record of this process's journal, and every call that is
//! settled while they are on their way is noted, so that a counter that begins with them misses none and has none twice.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use axum::http::Uri;

use super::{
    admission::{Counter, Rate, Settled},
    crossings::{Crossing, Crossings},
    holding::Holding,
    slots::InFlight,
    terms::Terms,
    upstream::OwnUpstream,
};
use crate::{
    kernel::{Standing, Timestamp},
    metering::{Amounts, Record},
};

/// One tenant.
pub(super) struct Entry {
    loaded: ArcSwapOption<Loaded>,
    /// Grows with every change; facts loaded under an older number are stale.
    changes: AtomicU64,
    loading: Arc<tokio::sync::Mutex<()>>,
    /// Facts are on their way, so what is settled is noted.
    notes: AtomicBool,
    noted: Mutex<Vec<Note>>,
    pub(super) rate: Rate,
    pub(super) in_flight: InFlight,
    pub(super) holding: Holding,
    /// By the route's key: only of routes that have limits of their own.
    routes: Mutex<Vec<(u64, Arc<OnRoute>)>>,
}

/// What a tenant does on one route that has limits of its own.
#[derive(Debug, Default)]
pub(super) struct OnRoute {
    pub(super) rate: Rate,
    pub(super) in_flight: InFlight,
}

/// A call that was settled while facts were on their way.
struct Note {
    at: Timestamp,
    seq: u64,
    amounts: Amounts,
}

/// Facts as they were loaded.
pub(super) struct Loaded {
    pub(super) standing: Standing,
    pub(super) terms: Arc<Terms>,
    /// A counter for each quota of the terms.
    pub(super) counters: Vec<Arc<Counter>>,
    /// Where its requests go instead of to their route's upstream.
    pub(super) upstream: Option<Arc<OwnUpstream>>,
    pub(super) as_of: (u64, u64),
}

impl Entry {
    pub(super) fn new() -> Self {
        Self {
            loaded: ArcSwapOption::empty(),
            changes: AtomicU64::new(0),
            loading: Arc::default(),
            notes: AtomicBool::new(false),
            noted: Mutex::default(),
            rate: Rate::default(),
            in_flight: InFlight::default(),
            holding: Holding::default(),
            routes: Mutex::default(),
        }
    }

    pub(super) fn loaded(&self) -> Option<Arc<Loaded>> {
        self.loaded.load_full()
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        // A tenant that is gone may never be loaded again; one that is not gets connections anew.
        if let Some(own) = self.loaded().and_then(|loaded| loaded.upstream.clone()) {
            own.let_go();
        }
    }

    /// One load at a time.
    pub(super) async fn loading(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.loading.lock().await
    }

    /// The same, for longer than the entry is looked at.
    pub(super) async fn loading_owned(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.loading).lock_owned().await
    }

    /// Begins to note what is settled, until facts are installed or the guard is dropped.
    pub(super) fn note_settled(&self) -> Noting<'_> {
        self.noted().clear();
        self.notes.store(true, Ordering::SeqCst);
        Noting { entry: self }
    }

    fn noted(&self) -> MutexGuard<'_, Vec<Note>> {
        // Held for a few additions, none of which panics.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reset_rates(&self) {
        self.rate.reset();
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.iter().for_each(|(_, on_route)| on_route.rate.reset());
    }

    /// What the tenant does on a route.
    pub(super) fn on_route(&self, route: u64) -> Arc<OnRoute> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = routes.iter().find(|(own, _)| *own == route) {
            return Arc::clone(known);
        }
        let new = Arc::<OnRoute>::default();
        routes.push((route, Arc::clone(&new)));
        new
    }

    /// Puts what a call used in the place of what it held: in the counters there are now, which may be others than when it was
    /// admitted.
    pub(super) fn settle(
        &self,
        admitted: &Loaded,
        held: impl Fn(usize) -> i64,
        record: &Record,
        seq: u64,
        to: &Crossings,
    ) {
        // Who finds nothing on its way was recorded before it set out, so it is in what is loaded.
        let mut noted = self.notes.load(Ordering::SeqCst).then(|| self.noted());
        let Some(now) = self.loaded() else { return };
        for (quota, counter) in now.terms.quotas.iter().zip(&now.counters) {
            let place = admitted.counters.iter().position(|own| Arc::ptr_eq(own, counter));
            let used = used_of(&record.amounts, quota.meter);
            let settled = Settled { used, at: record.at, seq };
            let told_above = if quota.hard { i64::MAX } else { quota.limit };
            if let Some((period, used)) = counter.settle(place.map_or(0, &held), settled, told_above) {
                to.add(Crossing { tenant: record.tenant, quota: quota.clone(), period, used });
            }
        }
        if let Some(noted) = noted.as_mut().filter(|_| self.notes.load(Ordering::SeqCst)) {
            noted.push(Note { at: record.at, seq, amounts: record.amounts });
        }
    }
}

fn used_of(amounts: &Amounts, meter: u16) -> i64 {
    amounts.as_slice().iter().find(|amount| amount.meter == meter).map_or(0, |amount| amount.thousandths)
}

/// While it lives, what is settled is noted.
pub(super) struct Noting<'a> {
    entry: &'a Entry,
}

impl Noting<'_> {
    /// Puts facts in place. Counters that are in use stay; new ones begin with what the ledger has, and those whose clock went
    /// back begin again with it. The counter of a quota that is gone is forgotten: it would not know what was used until the
    /// quota comes back.
    pub(super) fn install(
        self,
        (standing, upstream): (Standing, Option<Uri>),
        terms: &Arc<Terms>,
        used: &[i64],
        (as_of, seq): ((u64, u64), u64),
        now: Timestamp,
    ) -> Arc<Loaded> {
        let entry = self.entry;
        let noted = entry.noted();
        let before = entry.loaded();
        let mut in_use: Vec<_> = before
            .iter()
            .flat_map(|loaded| loaded.terms.quotas.iter().zip(&loaded.counters))
            .map(|(quota, counter)| (quota.meter, quota.unit, Arc::clone(counter)))
            .collect();
        let counters = terms.quotas.iter().zip(used).map(|(quota, used)| {
            let known = in_use.iter().position(|(meter, unit, _)| (*meter, *unit) == (quota.meter, quota.unit));
            // Taken out: of two quotas of one meter and period each counts for itself.
            let known = known.map(|index| in_use.swap_remove(index).2);
            let begins = known.as_ref().is_none_or(|counter| counter.begin_again(now, *used, seq));
            let counter = known.unwrap_or_else(|| Arc::new(Counter::new(quota.unit, now, *used, seq)));
            if begins {
                for Note { at, seq, amounts } in noted.iter() {
                    let settled = Settled { used: used_of(amounts, quota.meter), at: *at, seq: *seq };
                    counter.settle(0, settled, i64::MAX);
                }
            }
            counter
        });
        let known = before.as_ref().and_then(|loaded| loaded.upstream.clone());
        let upstream = upstream.map(|address| {
            let same = known.filter(|known| *known.address() == address);
            same.unwrap_or_else(|| Arc::new(OwnUpstream::new(address)))
        });
        let terms = Arc::clone(terms);
        let loaded = Arc::new(Loaded { standing, terms, counters: counters.collect(), upstream, as_of });
        entry.loaded.store(Some(Arc::clone(&loaded)));
        // Before the lock is given up: who waits for it finds the new counters.
        entry.notes.store(false, Ordering::SeqCst);
        drop(noted);
        loaded
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        self.entry.notes.store(false, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gateway::terms::QuotaTerms,
        kernel::{CalendarUnit, TenantId},
    };

    fn terms(limits: &[(u16, i64)]) -> Arc<Terms> {
        let quota = |(meter, limit): &(u16, i64)| QuotaTerms {
            meter: *meter,
            key: "apis".parse().unwrap(),
            limit: *limit,
            unit: CalendarUnit::Day,
            hard: true,
        };
        Arc::new(Terms::new("free".parse().unwrap(), Vec::new(), None, None, limits.iter().map(quota).collect()))
    }

    fn record(at: Timestamp, thousandths: i64) -> Record {
        let mut amounts = Amounts::default();
        amounts.push(0, thousandths);
        Record { tenant: TenantId::from_uuid(uuid::Uuid::nil()), at, route: 0, amounts }
    }

    #[test]
    fn a_quota_that_comes_while_calls_are_under_way_misses_none_and_has_none_twice() {
        let now: Timestamp = "2026-11-10T12:00:00Z".parse().unwrap();
        let (entry, to) = (Entry::new(), Crossings::default());
        let install = |noting: Noting<'_>, limits: &[(u16, i64)], used: &[i64], seq| {
            noting.install((Standing::Active, None), &terms(limits), used, ((0, 0), seq), now)
        };
        let admitted = install(entry.note_settled(), &[], &[], 0);
        let settle = |seq| entry.settle(&admitted, |_| 0, &record(now, 1_000), seq, &to);
        settle(1);
        let noting = entry.note_settled();
        // The ledger is read as of record 2; 3 comes after that.
        settle(2);
        settle(3);
        let loaded = install(noting, &[(0, 10_000)], &[2_000], 2);
        settle(4);
        assert_eq!(loaded.counters[0].used(now).1, 4_000);
        // Loaded again, the counter that is there stays.
        let noting = entry.note_settled();
        settle(5);
        let loaded = install(noting, &[(0, 20_000)], &[0], 0);
        assert_eq!(loaded.counters[0].used(now).1, 5_000);
    }

    #[test]
    fn a_clock_that_goes_back_while_calls_are_under_way_loses_none() {
        let (today, later): (Timestamp, Timestamp) =
            ("2026-11-10T12:00:00Z".parse().unwrap(), "2027-01-01T00:00:00Z".parse().unwrap());
        let (entry, to, limits) = (Entry::new(), Crossings::default(), terms(&[(0, 10_000)]));
        let loaded = entry.note_settled().install((Standing::Active, None), &limits, &[0], ((0, 0), 0), later);
        loaded.counters[0].hold(later, 1_000, 10_000, true).unwrap();
        let noting = entry.note_settled();
        entry.settle(&loaded, |_| 1_000, &record(today, 1_000), 8, &to);
        let loaded = noting.install((Standing::Active, None), &limits, &[3_000], ((0, 0), 7), today);
        assert_eq!(loaded.counters[0].used(today).1, 4_000);
    }
}
