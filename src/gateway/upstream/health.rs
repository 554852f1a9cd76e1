//! What is known of a target's health. Answers and failures of requests tell it (passive), and so do probes, where the
//! upstream has some (active). Requests read two words; they are written only when something changes.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use axum::http::StatusCode;
use tokio::time::Instant;

/// A target that failed is left alone for this long at most.
const LONGEST: Duration = Duration::from_mins(5);

/// When failures put a target out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// After so many failures one after the other; never when 0.
    pub after: u32,
    /// For this long; twice as long each time, until it answers.
    pub period: Duration,
}

/// How a target fares.
#[derive(Debug)]
pub(super) struct Health {
    ejection: Ejection,
    /// What the times below count from.
    born: Instant,
    /// Failures since the last success.
    failures: AtomicU32,
    /// Until when it is left alone, in milliseconds; 0 when it is not.
    out_until_ms: AtomicU64,
    /// How often it was put out since the last success.
    times_out: AtomicU32,
    /// What its probes say.
    probed_down: AtomicBool,
}

/// Whether a target may be given a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    In,
    /// It was left alone long enough: one request may try.
    Trial,
    /// It may not.
    Out,
}

impl Health {
    pub(super) fn new(ejection: Ejection, now: Instant) -> Self {
        Self {
            ejection,
            born: now,
            failures: AtomicU32::new(0),
            out_until_ms: AtomicU64::new(0),
            times_out: AtomicU32::new(0),
            probed_down: AtomicBool::new(false),
        }
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        if self.probed_down.load(Ordering::Relaxed) {
            return Standing::Out;
        }
        match self.out_until_ms.load(Ordering::Relaxed) {
            0 => Standing::In,
            until if until <= self.millis(now) => Standing::Trial,
            _ => Standing::Out,
        }
    }

    /// Takes the trial, of which there is one at a time: for as long as it lasts, but no longer than a period, the
    /// target stays out for others.
    pub(super) fn take_trial(&self, now: Instant) -> bool {
        let (until, now) = (self.out_until_ms.load(Ordering::Relaxed), self.millis(now));
        let next = now.saturating_add(millis(self.ejection.period)).max(1);
        (1..=now).contains(&until)
            && self.out_until_ms.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A request was answered as a working target does.
    pub(super) fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.forget();
        }
    }

    /// A request failed. A trial that fails puts the target out for longer; what was under way when it was put
    /// out says nothing new.
    pub(super) fn failed(&self, trial: bool, now: Instant) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let is_in = self.out_until_ms.load(Ordering::Relaxed) == 0;
        if trial || (is_in && self.ejection.after != 0 && failures >= self.ejection.after) {
            let times = self.times_out.fetch_add(1, Ordering::Relaxed).min(16);
            let period = self.ejection.period.saturating_mul(1 << times).min(LONGEST);
            self.out_until_ms.store(self.millis(now).saturating_add(millis(period)).max(1), Ordering::Relaxed);
        }
    }

    /// What its probes say from now on; whether they said something else before.
    pub(super) fn probed(&self, up: bool) -> bool {
        let changed = self.probed_down.swap(!up, Ordering::Relaxed) == up;
        // A target that is well again starts afresh; one that fails requests while its probes succeed stays out.
        if changed && up {
            self.forget();
        }
        changed
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether its probes say that it is down.
    pub(super) fn is_probed_down(&self) -> bool {
        self.probed_down.load(Ordering::Relaxed)
    }

    fn forget(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.times_out.store(0, Ordering::Relaxed);
        self.out_until_ms.store(0, Ordering::Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.born))
    }
}

/// What gateways and balancers behind us say for a service that is not there; 500 is the service's own.
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EJECTION: Ejection = Ejection { after: 3, period: Duration::from_secs(10) };

    /// A target's health, and seconds that pass.
    struct Case {
        health: Health,
        now: Instant,
    }

    impl Case {
        fn new() -> Self {
            let now = Instant::now();
            Self { health: Health::new(EJECTION, now), now }
        }

        fn pass(&mut self, secs: u64) {
            self.now += Duration::from_secs(secs);
        }

        fn fail(&self, times: u32) {
            (0..times).for_each(|_| self.health.failed(false, self.now));
        }

        fn standing(&self) -> Standing {
            self.health.standing(self.now)
        }
    }

    #[test]
    fn failures_in_a_row_put_a_target_out_and_a_success_between_them_does_not() {
        let case = Case::new();
        for _ in 0..5 {
            case.fail(2);
            case.health.answered();
            assert_eq!(case.standing(), Standing::In);
        }
        case.fail(3);
        assert_eq!(case.standing(), Standing::Out);
    }

    #[test]
    fn one_request_tries_again_and_each_failed_trial_doubles_the_wait() {
        let mut case = Case::new();
        case.fail(9);
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            case.pass(wait - 1);
            assert_eq!(case.standing(), Standing::Out, "{wait}");
            case.pass(1);
            assert_eq!(case.standing(), Standing::Trial, "{wait}");
            assert!(case.health.take_trial(case.now) && !case.health.take_trial(case.now));
            assert_eq!(case.standing(), Standing::Out);
            case.health.failed(true, case.now);
        }
        case.pass(300);
        assert!(case.health.take_trial(case.now));
        case.health.answered();
        assert_eq!(case.standing(), Standing::In);
        case.fail(3);
        case.pass(10);
        assert_eq!(case.standing(), Standing::Trial, "the wait begins anew");
    }

    #[test]
    fn a_trial_that_nobody_finishes_is_followed_by_another() {
        let mut case = Case::new();
        case.fail(3);
        case.pass(10);
        assert!(case.health.take_trial(case.now));
        case.pass(10);
        assert_eq!(case.standing(), Standing::Trial);
    }

    #[test]
    fn probes_say_more_than_requests() {
        let case = Case::new();
        assert!(case.health.probed(false) && !case.health.probed(false));
        case.health.answered();
        assert_eq!(case.standing(), Standing::Out);
        case.fail(3);
        assert!(case.health.probed(true) && !case.health.probed(true));
        assert_eq!(case.standing(), Standing::In);
    }

    #[test]
    fn what_a_gateway_says_for_a_service_is_a_failure_and_what_the_service_says_is_not() {
        let failures =
            (100..600).filter_map(|status| StatusCode::from_u16(status).ok()).filter(|status| is_failure(*status));
        assert_eq!(failures.map(|status| status.as_u16()).collect::<Vec<_>>(), [502, 503, 504]);
    }
}
