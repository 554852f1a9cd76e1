//! `[onboarding]`: how often a step of a registration is tried, and how long between.

use super::read::Reader;
use crate::onboarding::Retries;

/// So many tries of a step, then what was made is taken out again: with the waits below, about half an hour.
const MAX_ATTEMPTS: i64 = 12;
/// After the first failure so many seconds; twice as many after each further one.
const RETRY_FIRST_S: i64 = 2;
/// At most so many seconds.
const RETRY_MOST_S: i64 = 600;
/// Whoever goes on with a registration and is not heard of for so many seconds has lost it.
const LEASE_S: i64 = 30;

/// `[onboarding]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnboardingSettings {
    /// How often, and how long between.
    pub retries: Retries,
}

impl OnboardingSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let max_attempts = reader.number("onboarding.max_attempts", MAX_ATTEMPTS, 1, 1_000);
        let first_s = reader.number("onboarding.retry_first_s", RETRY_FIRST_S, 1, 86_400);
        let most_s = reader.number("onboarding.retry_most_s", RETRY_MOST_S, 1, 86_400);
        let lease_s = reader.number("onboarding.lease_s", LEASE_S, 1, 3_600);
        let retries = Retries { max_attempts: max_attempts?, first_s: first_s?, most_s: most_s?, lease_s: lease_s? };
        if retries.first_s > retries.most_s {
            reader.fault("onboarding.retry_first_s", "must not be more than onboarding.retry_most_s");
            return None;
        }
        Some(Self { retries })
    }
}
