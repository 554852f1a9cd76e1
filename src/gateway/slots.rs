//! Requests under way: at most so many of a tenant, and of all tenants together at most so many on a node, shared fairly.
//!
//! **Fair share** is the rule of dynamic thresholds (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory
//! packet switches", 1998): a tenant may begin another request while it has fewer under way than [`ALPHA`] times as many as
//! are free. With `N` slots and `A` = 4:
//!
//! - below four fifths of `N` nobody is held back: whoever is alone has 0.8 `N` to itself;
//! - `k` tenants that take all they get have `A·N / (1 + k·A)` slots each, all the same, whatever each sends and whoever came
//!   first: 0.444 `N` for two, 0.190 `N` for five;
//! - `N / (1 + k·A)` slots stay free then, for whoever has none, so that a flood never makes others wait for its own calls
//!   to end;
//! - a tenant that is above its share gets no slot until it is below it again; nothing under way is ever broken off.
//!
//! It needs two counters and no list of who is there. Refused requests wait for nothing and take nothing.

use std::sync::atomic::{AtomicU32, Ordering};

/// A tenant may have so many times as many requests under way as there are slots free.
pub(super) const ALPHA: u32 = 4;

/// The slots of a node.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// How many there are; 0 for as many as come.
    limit: AtomicU32,
    in_flight: AtomicU32,
}

/// There is no slot for this tenant now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overloaded;

impl Slots {
    pub(super) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes a slot of the node for a tenant that has so many already; `false` when nobody counts them.
    pub(super) fn take(&self, has: u32) -> Result<bool, Overloaded> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return Ok(false);
        }
        let fair = |in_flight: u32| {
            let free = limit.saturating_sub(in_flight);
            (free > 0 && has < free.saturating_mul(ALPHA)).then(|| in_flight + 1)
        };
        match self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fair) {
            Ok(_) => Ok(true),
            Err(_) => Err(Overloaded),
        }
    }

    pub(super) fn give_back(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// Requests under way of one tenant, or of one tenant on one route.
#[derive(Debug, Default)]
pub(super) struct InFlight(AtomicU32);

impl InFlight {
    /// One more, if that is at most `most`: how many there were. `Err` with how many there are.
    pub(super) fn enter(&self, most: Option<u32>) -> Result<u32, u32> {
        let most = most.unwrap_or(u32::MAX);
        // In one order with whether somebody holds the tenant (`holding.rs`).
        self.0.fetch_update(Ordering::SeqCst, Ordering::Relaxed, |count| (count < most).then(|| count + 1))
    }

    pub(super) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tenants that take all they get, in turn, on a node with so many slots; how many each has in the end.
    fn flood(tenants: usize, limit: u32, slots: &Slots) -> Vec<u32> {
        slots.set_limit(limit);
        let mut has = vec![0; tenants];
        let mut before = Vec::new();
        while before != has {
            before.clone_from(&has);
            for has in &mut has {
                *has += u32::from(slots.take(*has).is_ok());
            }
        }
        has
    }

    #[test]
    fn floods_get_the_same_and_leave_room_for_others() {
        for (tenants, each) in [(1, 800), (2, 445), (5, 191), (20, 50)] {
            let slots = Slots::default();
            let has = flood(tenants, 1_000, &slots);
            assert!(has.iter().all(|own| own.abs_diff(each) <= 1), "{has:?}");
            assert!(slots.take(0).is_ok(), "whoever has none gets one");
        }
    }

    #[test]
    fn who_came_first_gives_way_as_its_calls_end() {
        let slots = Slots::default();
        let mut first = flood(1, 1_000, &slots)[0];
        let mut second = 0;
        // Each call of the first that ends leaves a slot that both ask for; the first asks first.
        for _ in 0..2_000 {
            if first > second {
                first -= 1;
                slots.give_back();
            } else {
                second -= 1;
                slots.give_back();
            }
            first += u32::from(slots.take(first).is_ok());
            second += u32::from(slots.take(second).is_ok());
        }
        assert!(first.abs_diff(second) <= 2 && first > 440, "{first} and {second}");
    }

    #[test]
    fn there_are_never_more_than_the_limit_whatever_the_threads_do() {
        let slots = Slots::default();
        slots.set_limit(100);
        let taken: u32 = std::thread::scope(|scope| {
            let taking = || (0..1_000).map(|_| u32::from(slots.take(0).is_ok())).sum::<u32>();
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(taking)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!((taken, slots.in_flight()), (100, 100));
        let tenant = InFlight::default();
        assert_eq!([tenant.enter(Some(2)), tenant.enter(Some(2)), tenant.enter(Some(2))], [Ok(0), Ok(1), Err(2)]);
        tenant.leave();
        assert_eq!(tenant.enter(Some(2)), Ok(1));
    }
}
