//! Rate and quota arithmetic: in memory, exact, held before the request is forwarded.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use crate::kernel::{CalendarUnit, Period, Timestamp};

/// A rate limit: the generic cell rate algorithm (ITU-T I.371) in one atomic.
#[derive(Debug)]
pub struct Rate {
    /// The theoretical arrival time, in microseconds.
    arrival: AtomicI64,
}

/// `requests` every `per_s` seconds, with bursts of up to `burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateTerms {
    /// Requests in the time.
    pub requests: u32,
    /// The time, in seconds.
    pub per_s: u32,
    /// Requests at once.
    pub burst: u32,
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Units that may still be used now.
    pub remaining: u64,
    /// Seconds until more are there, or until the period ends.
    pub reset_s: u64,
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
        let every = (i64::from(terms.per_s) * 1_000_000 / i64::from(terms.requests.max(1))).max(1);
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
                return Err(Left { remaining: 0, reset_s: secs_up(wait) });
            }
            match self.arrival.compare_exchange_weak(arrival, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let remaining = u64::try_from((tolerance - ahead) / every).unwrap_or(0);
                    return Ok(Left { remaining, reset_s: secs_up(ahead) });
                }
                Err(changed) => arrival = changed,
            }
        }
    }
}

fn secs_up(micros: i64) -> u64 {
    u64::try_from(micros.max(0)).unwrap_or(0).div_ceil(1_000_000)
}

/// What a tenant used of a meter in the current calendar period, in thousandths.
#[derive(Debug)]
pub struct Counter {
    unit: CalendarUnit,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    period: Period,
    used: i64,
}

/// Something taken from a counter, to be given back or made exact when the request is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    period: Period,
    thousandths: i64,
}

impl Counter {
    /// Begins with what the ledger has of the period that `now` lies in.
    pub fn new(unit: CalendarUnit, now: Timestamp, used: i64) -> Self {
        Self { unit, state: Mutex::new(State { period: Period::containing(now, unit), used }) }
    }

    /// Takes from what `limit` leaves. A hard limit refuses what would go beyond; a soft one only counts.
    pub fn take(&self, now: Timestamp, thousandths: i64, limit: i64, hard: bool) -> Result<(Taken, Left), Left> {
        let mut state = self.current(now);
        let until_reset = secs_up(state.period.to().micros_since(now));
        let after = state.used.saturating_add(thousandths);
        // What cannot be known beforehand (`thousandths` 0) is let in while anything is left.
        let beyond = after > limit || (thousandths == 0 && after >= limit);
        if hard && beyond {
            return Err(Left { remaining: left(limit, state.used), reset_s: until_reset });
        }
        state.used = after;
        let taken = Taken { period: state.period, thousandths };
        Ok((taken, Left { remaining: left(limit, after), reset_s: until_reset }))
    }

    /// Replaces what was taken by what was used: zero when the request is not billed.
    pub fn settle(&self, taken: Taken, used: i64) {
        let mut state = self.lock();
        // A period that has ended meanwhile counts nothing any more.
        if state.period == taken.period {
            state.used = state.used.saturating_add(used - taken.thousandths);
        }
    }

    /// The current period, and what is taken of it.
    pub fn used(&self, now: Timestamp) -> (Period, i64) {
        let state = self.current(now);
        (state.period, state.used)
    }

    fn current(&self, now: Timestamp) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        // A clock that went back does not bring an old period back.
        if now >= state.period.to() {
            *state = State { period: Period::containing(now, self.unit), used: 0 };
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Held for a few additions, none of which panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn left(limit: i64, used: i64) -> u64 {
    u64::try_from(limit.saturating_sub(used).max(0) / 1_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let (rate, terms) = (Rate::default(), RateTerms { requests: 10, per_s: 1, burst: 5 });
        let now = at("2026-11-01T00:00:00Z");
        let remaining: Vec<_> = (0..5).map(|_| rate.take(terms, now).unwrap().remaining).collect();
        assert_eq!(remaining, [4, 3, 2, 1, 0]);
        assert_eq!(rate.take(terms, now).unwrap_err(), Left { remaining: 0, reset_s: 1 });
        assert!(rate.take(terms, now.plus_micros(100_000)).is_ok());
        assert!(rate.take(terms, now.plus_micros(100_000)).is_err());
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
        let counter = Counter::new(CalendarUnit::Day, now, 0);
        let passed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..1_000).filter(|_| counter.take(now, 1_000, 500_000, true).is_ok()).count()))
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(passed, 500);
    }

    #[test]
    fn what_is_given_back_can_be_used_again_and_a_new_day_begins_at_zero() {
        let now = at("2026-11-01T23:59:59Z");
        let counter = Counter::new(CalendarUnit::Day, now, 0);
        let (taken, left) = counter.take(now, 1_000, 1_000, true).unwrap();
        assert_eq!(left, Left { remaining: 0, reset_s: 1 });
        assert!(counter.take(now, 1_000, 1_000, true).is_err());
        counter.settle(taken, 0);
        let (taken, _) = counter.take(now, 1_000, 1_000, true).unwrap();
        let tomorrow = now.plus_secs(1);
        counter.take(tomorrow, 1_000, 1_000, true).unwrap();
        counter.settle(taken, 0);
        assert!(counter.take(tomorrow, 1_000, 1_000, true).is_err(), "yesterday's refund is not today's");
        assert!(counter.take(now, 1_000, 1_000, true).is_err(), "a clock that went back is still today");
    }

    #[test]
    fn a_soft_quota_counts_and_refuses_nothing() {
        let now = at("2026-11-01T10:00:00Z");
        let counter = Counter::new(CalendarUnit::Month, now, 5_000);
        assert_eq!(counter.take(now, 1_000, 2_000, false).unwrap().1.remaining, 0);
    }
}
