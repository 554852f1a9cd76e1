//! Waiting for what must come about, and not for a time.

use std::time::Instant;

use super::server::PATIENCE;

/// Starts measuring: real time, whatever a server's clock says.
#[expect(clippy::disallowed_methods, reason = "a stopwatch, not a clock")]
pub fn stopwatch() -> Instant {
    Instant::now()
}

/// Asks until it is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = stopwatch();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}
