//! Rate and quota arithmetic: in memory, exact, held before the request is forwarded.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use super::units::ONE;
use crate::kernel::{CalendarUnit, Period, Timestamp};

/// A rate limit: the generic cell rate algorithm (ITU-T I.371) in one atomic.
#[derive(Debug)]
pub struct Rate {
    /// The theoretical arrival time, in microseconds.
    arrival: AtomicI64,
}

/// `requests` every `per_s` seconds, with bursts of up to `burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateTerms {
    /// Requests in the time.
    pub requests: u32,
    /// The time, in seconds.
    pub per_s: u32,
    /// Requests at once.
    pub burst: u32,
}

impl RateTerms {
    /// The time that one request takes, in microseconds.
    fn every(self) -> i64 {
        (i64::from(self.per_s) * 1_000_000 / i64::from(self.requests.max(1))).max(1)
    }
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Units that may still be used now.
    pub remaining: u64,
    /// Seconds until more are there, or until the period ends.
    pub reset_s: u64,
    /// More is used than a soft limit says.
    pub beyond: bool,
}

impl Default for Rate {
    fn default() -> Self {
        Self { arrival: AtomicI64::new(i64::MIN) }
    }
}

impl Rate {
    /// Takes one request, or says in how many seconds one may come.
    pub fn take(&self, terms: RateTerms, now: Timestamp) -> Result<Left, Left> {
        let now = now.as_micros();
        let every = terms.every();
        let tolerance = every * i64::from(terms.burst.max(1));
        let mut arrival = self.arrival.load(Ordering::Relaxed);
        loop {
            // An arrival further ahead than a full bucket comes from a clock that went back.
            let next = arrival.clamp(now, now + tolerance) + every;
            let ahead = next - now;
            if ahead > tolerance {
                if arrival > now + tolerance {
                    // Nobody waits for the time that the clock went back by.
                    let full = now + tolerance;
                    let _ = self.arrival.compare_exchange(arrival, full, Ordering::Relaxed, Ordering::Relaxed);
                }
                let wait = ahead - tolerance;
                return Err(Left { remaining: 0, reset_s: secs_up(wait), beyond: false });
            }
            match self.arrival.compare_exchange_weak(arrival, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let remaining = u64::try_from((tolerance - ahead) / every).unwrap_or(0);
                    return Ok(Left { remaining, reset_s: secs_up(ahead), beyond: false });
                }
                Err(changed) => arrival = changed,
            }
        }
    }

    /// Forgets what was taken: its times are of a clock that was turned back.
    pub fn reset(&self) {
        self.arrival.store(i64::MIN, Ordering::Relaxed);
    }

    /// Gives one request back that was refused for another reason.
    pub fn give_back(&self, terms: RateTerms) {
        let back = |arrival: i64| Some(arrival.saturating_sub(terms.every()));
        // Always some.
        let _ = self.arrival.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
    }
}

fn secs_up(micros: i64) -> u64 {
    u64::try_from(micros.max(0)).unwrap_or(0).div_ceil(1_000_000)
}

/// What a tenant used of a meter in the current calendar period, in thousandths, and what requests under way hold of it.
///
/// It says what the ledger will say: it begins with what the ledger has up to a record of this process's journal, and takes
/// each later one. A request is counted in the period in which it is settled, as in the ledger; so what is held goes on being
/// held when a period ends.
#[derive(Debug)]
pub struct Counter {
    unit: CalendarUnit,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    period: Period,
    used: i64,
    held: i64,
    /// The last record that `used` had from the ledger.
    as_of: u64,
    /// Beyond a soft limit in this period, and somebody was told.
    told: bool,
    /// Periods after this one in which something was used before the clock went back.
    later: Vec<(Period, i64)>,
}

/// The most periods that are remembered when a clock goes back, again and again.
const LATER: usize = 8;

/// Why nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// The limit is reached.
    Full(Left),
    /// The clock went back to before the period, whose usage only the ledger knows.
    ClockWentBack,
}

/// What a settled request used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// In thousandths.
    pub used: i64,
    /// When it was settled.
    pub at: Timestamp,
    /// The number of its record.
    pub seq: u64,
}

impl Counter {
    /// Begins with what the ledger has of the period that `now` lies in, as of a record.
    pub fn new(unit: CalendarUnit, now: Timestamp, used: i64, as_of: u64) -> Self {
        let period = Period::containing(now, unit);
        Self { unit, state: Mutex::new(State { period, used, held: 0, as_of, told: false, later: Vec::new() }) }
    }

    /// Begins again where the clock went back to before the current period; what is held stays held. `false` when it did not.
    pub fn begin_again(&self, now: Timestamp, used: i64, as_of: u64) -> bool {
        let mut state = self.lock();
        let back = now < state.period.from();
        if back {
            let later = (state.period, state.used);
            if state.later.len() < LATER {
                state.later.push(later);
            }
            state.period = Period::containing(now, self.unit);
            (state.used, state.as_of, state.told) = (used, as_of, false);
        }
        back
    }

    /// Holds an amount of what `limit` leaves. A hard limit refuses what would go beyond; a soft one only counts.
    pub fn hold(&self, now: Timestamp, thousandths: i64, limit: i64, hard: bool) -> Result<Left, NotTaken> {
        let mut state = self.at(now);
        if now < state.period.from() {
            return Err(NotTaken::ClockWentBack);
        }
        let reset_s = secs_up(state.period.to().micros_since(now));
        let before = state.used.saturating_add(state.held);
        let after = before.saturating_add(thousandths);
        // What cannot be known beforehand (`thousandths` 0) is let in while anything is left.
        let beyond = after > limit || (thousandths == 0 && after >= limit);
        if hard && beyond {
            return Err(NotTaken::Full(Left { remaining: left(limit, before), reset_s, beyond: false }));
        }
        state.held = state.held.saturating_add(thousandths);
        Ok(Left { remaining: left(limit, after), reset_s, beyond: after > limit })
    }

    /// Gives back what was held.
    pub fn release(&self, thousandths: i64) {
        let mut state = self.lock();
        state.held = state.held.saturating_sub(thousandths);
    }

    /// Replaces what was held by what was used. The usage of the period, when this brought it above `limit` for the first
    /// time.
    pub fn settle(&self, held: i64, settled: Settled, limit: i64) -> Option<(Period, i64)> {
        let mut state = self.at(settled.at);
        state.held = state.held.saturating_sub(held);
        // What the ledger had when this counter began is in it; what belongs to an earlier period is not of this one.
        if settled.seq > state.as_of && settled.at >= state.period.from() {
            state.used = state.used.saturating_add(settled.used);
        }
        let crossed = state.used > limit && !state.told;
        state.told |= crossed;
        crossed.then_some((state.period, state.used))
    }

    /// The current period, and what is used and held of it.
    pub fn used(&self, now: Timestamp) -> (Period, i64) {
        let state = self.at(now);
        (state.period, state.used.saturating_add(state.held))
    }

    /// The state, in the period of this time if that is a later one.
    fn at(&self, now: Timestamp) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if now >= state.period.to() {
            let period = Period::containing(now, self.unit);
            let known = state.later.iter().position(|(later, _)| *later == period);
            state.used = known.map_or(0, |index| state.later.swap_remove(index).1);
            (state.period, state.told) = (period, false);
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Held for a few additions, none of which panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn left(limit: i64, used: i64) -> u64 {
    u64::try_from(limit.saturating_sub(used).max(0) / ONE).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn settled(used: i64, at: Timestamp, seq: u64) -> Settled {
        Settled { used, at, seq }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let (rate, terms) = (Rate::default(), RateTerms { requests: 10, per_s: 1, burst: 5 });
        let now = at("2026-11-01T00:00:00Z");
        let remaining: Vec<_> = (0..5).map(|_| rate.take(terms, now).unwrap().remaining).collect();
        assert_eq!(remaining, [4, 3, 2, 1, 0]);
        assert_eq!(rate.take(terms, now).unwrap_err(), Left { remaining: 0, reset_s: 1, beyond: false });
        assert!(rate.take(terms, now.plus_micros(100_000)).is_ok());
        assert!(rate.take(terms, now.plus_micros(100_000)).is_err());
        rate.give_back(terms);
        assert!(rate.take(terms, now.plus_micros(100_000)).is_ok(), "what was given back is there again");
    }

    #[test]
    fn a_clock_that_goes_back_does_not_lock_anybody_out() {
        let (rate, terms) = (Rate::default(), RateTerms { requests: 1, per_s: 1, burst: 1 });
        rate.take(terms, at("2030-01-01T00:00:00Z")).unwrap();
        let earlier = at("2026-01-01T00:00:00Z");
        assert_eq!(rate.take(terms, earlier).unwrap_err().reset_s, 1);
        assert!(rate.take(terms, earlier.plus_secs(1)).is_ok());
    }

    #[test]
    fn concurrent_calls_never_overrun_a_hard_quota() {
        let now = at("2026-11-01T10:00:00Z");
        let counter = Counter::new(CalendarUnit::Day, now, 0, 0);
        let passed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..1_000).filter(|_| counter.hold(now, 1_000, 500_000, true).is_ok()).count()))
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(passed, 500);
    }

    #[test]
    fn a_call_counts_in_the_period_in_which_it_ends_and_is_held_until_then() {
        let now = at("2026-11-01T23:59:59Z");
        let counter = Counter::new(CalendarUnit::Day, now, 0, 0);
        assert_eq!(counter.hold(now, 1_000, 1_000, true), Ok(Left { remaining: 0, reset_s: 1, beyond: false }));
        assert!(counter.hold(now, 1_000, 1_000, true).is_err());
        counter.release(1_000);
        counter.hold(now, 1_000, 1_000, true).unwrap();
        let tomorrow = now.plus_secs(1);
        assert!(counter.hold(tomorrow, 1_000, 1_000, true).is_err(), "the call under way may end today");
        counter.settle(1_000, settled(0, tomorrow, 1), 1_000);
        counter.hold(tomorrow, 1_000, 1_000, true).unwrap();
        counter.settle(1_000, settled(1_000, tomorrow, 2), 1_000);
        assert_eq!(counter.used(tomorrow).1, 1_000);
        assert_eq!(counter.used(tomorrow.plus_secs(86_400)).1, 0, "a new day begins at nothing");
    }

    #[test]
    fn what_the_ledger_had_is_not_counted_twice() {
        let now = at("2026-11-01T10:00:00Z");
        let counter = Counter::new(CalendarUnit::Day, now, 5_000, 7);
        counter.settle(0, settled(1_000, now, 7), i64::MAX);
        assert_eq!(counter.used(now).1, 5_000);
        counter.settle(0, settled(1_000, now, 8), i64::MAX);
        assert_eq!(counter.used(now).1, 6_000);
    }

    #[test]
    fn a_clock_that_goes_back_and_forth_finds_each_period_as_it_was() {
        let (today, later) = (at("2026-11-01T10:00:00Z"), at("2030-01-01T00:00:00Z"));
        let counter = Counter::new(CalendarUnit::Day, today, 3_000, 0);
        counter.settle(0, settled(9_000, later, 1), i64::MAX);
        assert_eq!(counter.hold(today, 1_000, 10_000, true), Err(NotTaken::ClockWentBack));
        assert!(counter.begin_again(today, 3_000, 1));
        counter.hold(today, 1_000, 10_000, true).unwrap();
        counter.settle(1_000, settled(1_000, today, 2), i64::MAX);
        assert_eq!(counter.used(today).1, 4_000);
        assert!(!counter.begin_again(today, 0, 2), "only once");
        assert_eq!(counter.used(today).1, 4_000);
        assert_eq!(counter.used(later).1, 9_000, "when it comes, it is known");
    }

    #[test]
    fn a_soft_quota_refuses_nothing_and_tells_once_a_period() {
        let now = at("2026-11-01T10:00:00Z");
        let counter = Counter::new(CalendarUnit::Month, now, 1_000, 0);
        let call = |now, seq| {
            counter.hold(now, 1_000, 2_000, false).unwrap();
            counter.settle(1_000, settled(1_000, now, seq), 2_000).map(|(_, used)| used)
        };
        assert_eq!([call(now, 1), call(now, 2), call(now, 3)], [None, Some(3_000), None]);
        let next = at("2026-12-01T00:00:00Z");
        assert_eq!([call(next, 4), call(next, 5), call(next, 6), call(next, 7)], [None, None, Some(3_000), None]);
    }
}
