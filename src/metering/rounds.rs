//! Rounds of one piece of work that many want done: whoever asks while a round is under way needs the next one, and all who
//! ask meanwhile need that same one.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which rounds were begun, and which came to a good end. One round at a time: whoever holds the work begins it.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    begun: AtomicU64,
    done: AtomicU64,
}

impl Rounds {
    /// A moment, in rounds begun.
    pub(super) fn now(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether a round that began after a moment came to a good end.
    pub(super) fn done_since(&self, moment: u64) -> bool {
        self.done.load(Ordering::Acquire) > moment
    }

    /// Begins a round; its number.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// A round came to a good end.
    pub(super) fn done(&self, round: u64) {
        self.done.fetch_max(round, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Mutex;

    use super::*;

    #[test]
    fn a_round_serves_whoever_asked_before_it_began_and_nobody_else() {
        let rounds = Rounds::default();
        let early = rounds.now();
        let first = rounds.begin();
        let late = rounds.now();
        assert!(!rounds.done_since(early));
        rounds.done(first);
        assert!(rounds.done_since(early) && !rounds.done_since(late));
        // Broken off: it serves nobody.
        rounds.begin();
        assert!(!rounds.done_since(late));
        rounds.done(rounds.begin());
        assert!(rounds.done_since(late));
    }

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_round() {
        let (rounds, work) = (Arc::new(Rounds::default()), Arc::new(Mutex::new(0)));
        let under_way = work.lock().await;
        let ask = async || {
            let asked = rounds.now();
            let mut count = work.lock().await;
            if !rounds.done_since(asked) {
                let round = rounds.begin();
                *count += 1;
                rounds.done(round);
            }
        };
        let all = futures_util::future::join_all((0..50).map(|_| ask()));
        let (_, ()) = tokio::join!(all, async { drop(under_way) });
        assert_eq!(*work.lock().await, 1);
    }
}
