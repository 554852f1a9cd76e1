//! Which drivers do not answer at all: one that is down is asked now and then, and not once for each of its tenants.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::kernel::Timestamp;

/// A driver that is down is asked again after so many seconds, doubled each time up to the most.
const FIRST_WAIT_S: i64 = 5;
const MOST_WAIT_S: i64 = 60;

/// How drivers fare, as this node sees it.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<HashMap<&'static str, Down>>);

#[derive(Debug)]
struct Down {
    why: String,
    times: u32,
    ask_at: Timestamp,
}

impl Health {
    /// Why a driver is not asked now; `None` when it is: for one that is down, by whoever comes first after a while.
    pub(super) fn is_down(&self, driver: &str, now: Timestamp) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let down = all.get_mut(driver)?;
        // A clock that was set back must not keep it from being asked.
        if now >= down.ask_at || now.plus_secs(MOST_WAIT_S) < down.ask_at {
            down.ask_at = now.plus_secs(down.wait_s());
            return None;
        }
        Some(down.why.clone())
    }

    /// It does not answer.
    pub(super) fn went_down(&self, driver: &'static str, why: &str, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let down = all.entry(driver).or_insert_with(|| Down { why: String::new(), times: 0, ask_at: now });
        down.times = down.times.saturating_add(1);
        why.clone_into(&mut down.why);
        down.ask_at = now.plus_secs(down.wait_s());
    }

    /// All are asked, however they fared.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// It answers.
    pub(super) fn is_up(&self, driver: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(driver);
    }
}

impl Down {
    fn wait_s(&self) -> i64 {
        (FIRST_WAIT_S << self.times.saturating_sub(1).min(16)).min(MOST_WAIT_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_down_is_asked_by_one_after_ever_longer_waits_and_by_all_when_it_answers() {
        let health = Health::default();
        let at = |secs: i64| Timestamp::from_secs(1_800_000_000 + secs).unwrap();
        assert_eq!(health.is_down("postgres", at(0)), None);
        health.went_down("postgres", "refused", at(0));
        assert_eq!(health.is_down("postgres", at(4)).as_deref(), Some("refused"));
        assert_eq!(health.is_down("sqlite", at(4)), None, "another one is not");
        assert_eq!(health.is_down("postgres", at(5)), None, "the first after the wait");
        assert!(health.is_down("postgres", at(5)).is_some(), "and only the first");
        for _ in 0..10 {
            health.went_down("postgres", "refused", at(5));
        }
        assert!(health.is_down("postgres", at(64)).is_some());
        assert_eq!(health.is_down("postgres", at(65)), None);
        health.is_up("postgres");
        assert!((0..3).all(|_| health.is_down("postgres", at(65)).is_none()));
    }
}
