//! How a journal is doing: what waits for the disk, what waits to be counted and since when, and what last went wrong.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Journal,
    frame::BLOCK,
    writer::{Inner, State},
};
use crate::kernel::{Clock, Timestamp};

/// The time of a record that waits is known to this, in microseconds.
const GRAIN: i64 = 1_000_000;
/// Times that are kept at most, of 16 bytes each. More are thinned out: then it is known less exactly since when the later
/// ones wait.
const MOST: usize = 4_096;

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mishap {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// How the journal is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalHealth {
    /// The last record written.
    pub last_seq: u64,
    /// The last record that the disk has.
    pub durable_seq: u64,
    /// The last record that the ledger has.
    pub counted_seq: u64,
    /// When the oldest record was settled that the ledger does not have, to the second; `None` when it has all.
    pub uncounted_since: Option<Timestamp>,
    /// When the disk last had everything; `None` when nothing was written since the start.
    pub flushed_at: Option<Timestamp>,
    /// Why records are refused now, if they are.
    pub error: Option<String>,
    /// Room is so short that records are written into a block which the disk has in part: a power loss in the middle of
    /// that may ruin the block.
    pub cramped: bool,
    /// What last went wrong, mended or not.
    pub last_error: Option<Mishap>,
}

/// What the journal notes about itself.
pub(super) struct Notes {
    clock: Arc<dyn Clock>,
    flushed_at: Option<Timestamp>,
    last_error: Option<Mishap>,
    counted: u64,
    waiting: Waiting,
}

impl Notes {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, flushed_at: None, last_error: None, counted: 0, waiting: Waiting::default() }
    }

    pub(super) fn wrote(&mut self, seq: u64, at: Timestamp) {
        self.waiting.wrote(seq, at);
    }

    pub(super) fn flushed(&mut self) {
        self.flushed_at = Some(self.clock.now());
    }

    pub(super) fn went_wrong(&mut self, what: &str) {
        self.last_error = Some(Mishap { at: self.clock.now(), what: what.to_owned() });
    }
}

impl Journal {
    /// How it is doing.
    pub fn health(&self) -> JournalHealth {
        let inner = self.shared.lock();
        let error = match &inner.state {
            State::Suspect(why, _) | State::Broken(why) => Some(why.clone()),
            State::Open if inner.failed.is_some() => Some("there is no room for another segment".to_owned()),
            State::Open if inner.closed => Some("the journal is closed".to_owned()),
            State::Open => None,
        };
        let Inner { last, synced, notes, .. } = &*inner;
        JournalHealth {
            last_seq: last.seq,
            durable_seq: synced.last.seq,
            counted_seq: notes.counted,
            uncounted_since: notes.waiting.since(notes.counted).filter(|_| notes.counted < last.seq),
            flushed_at: notes.flushed_at,
            error,
            cramped: !synced.offset.is_multiple_of(BLOCK as u64),
            last_error: notes.last_error.clone(),
        }
    }

    /// Takes note that the ledger has all records up to this one.
    pub fn counted(&self, seq: u64) {
        let notes = &mut self.shared.lock().notes;
        notes.counted = notes.counted.max(seq);
        notes.waiting.counted(notes.counted);
    }
}

/// Since when records wait: the time of the first, and of later ones about once a second.
#[derive(Default)]
struct Waiting(VecDeque<(u64, Timestamp)>);

impl Waiting {
    fn wrote(&mut self, seq: u64, at: Timestamp) {
        if self.0.back().is_some_and(|(_, last)| at.micros_since(*last).abs() < GRAIN) {
            return;
        }
        if self.0.len() >= MOST {
            let mut place = 0;
            self.0.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
        self.0.push_back((seq, at));
    }

    fn counted(&mut self, counted: u64) {
        // The first one stays for as long as it speaks for a record that waits.
        while self.0.get(1).is_some_and(|(next, _)| *next <= counted + 1) {
            self.0.pop_front();
        }
    }

    fn since(&self, counted: u64) -> Option<Timestamp> {
        self.0.iter().take_while(|(seq, _)| *seq <= counted + 1).last().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs).unwrap()
    }

    #[test]
    fn the_oldest_that_waits_is_known_to_the_second() {
        let mut waiting = Waiting::default();
        for (seq, secs) in [(1, 10), (2, 10), (3, 12), (4, 30)] {
            waiting.wrote(seq, at(secs));
        }
        for (counted, since) in [(0, 10), (1, 10), (2, 12), (3, 30)] {
            waiting.counted(counted);
            assert_eq!(waiting.since(counted), Some(at(since)), "{counted}");
        }
    }

    #[test]
    fn what_is_kept_of_a_long_wait_is_bounded_and_its_beginning_stays() {
        let mut waiting = Waiting::default();
        for seq in 1..100_000 {
            waiting.wrote(seq, at(i64::try_from(seq).unwrap() * 2));
        }
        assert!(waiting.0.len() <= MOST);
        assert_eq!(waiting.since(0), Some(at(2)));
        waiting.counted(99_000);
        let since = waiting.since(99_000).unwrap().as_secs() / 2;
        assert!((90_000..=99_001).contains(&since), "{since}");
    }
}
