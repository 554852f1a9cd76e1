//! When a letter is tried again, and when no more.

use crate::kernel::Timestamp;

/// The first wait after a failure, in seconds; each is twice the one before.
const FIRST_WAIT_S: i64 = 15;
/// The longest wait, in seconds.
const LONGEST_WAIT_S: i64 = 3_600;
/// A letter that could not be sent for this long is given up, in seconds: its link has expired, or nearly.
const PATIENCE_S: i64 = 86_400;

/// When a letter is tried again after a number of tries, if it fails once more.
pub fn next_try(attempts: i64, now: Timestamp) -> Timestamp {
    let doublings = u32::try_from(attempts.clamp(0, 16)).unwrap_or(16);
    now.plus_secs((FIRST_WAIT_S << doublings).min(LONGEST_WAIT_S))
}

/// Whether it is time to give a letter up.
pub fn is_hopeless(created_at: Timestamp, now: Timestamp) -> bool {
    now >= created_at.plus_secs(PATIENCE_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour() {
        let now = Timestamp::from_secs(0).unwrap();
        let waits: Vec<i64> = [0, 1, 2, 7, 8, 1_000].map(|attempts| next_try(attempts, now).as_secs()).to_vec();
        assert_eq!(waits, [15, 30, 60, 1_920, 3_600, 3_600]);
        assert!(!is_hopeless(now, now.plus_secs(86_399)));
        assert!(is_hopeless(now, now.plus_secs(86_400)));
    }
}
