//! How metering is doing, so that "no usage" and "metering is broken" look different.

use std::{sync::PoisonError, time::Duration};

use super::{
    error::Error,
    journal::{JournalHealth, Mishap},
    routed::UnreadUsage,
    service::Metering,
};
use crate::kernel::{Timestamp, fault::chain};

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// A record that waits longer than this to be counted, in seconds, is not waiting for the next round.
const LONGEST_WAIT_S: i64 = 60;

/// What became of the rounds in which records are counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rolls {
    /// When one last came to its end.
    pub rolled_at: Option<Timestamp>,
    /// Why the last one did not, if so.
    pub error: Option<String>,
    /// What last went wrong, mended or not.
    pub last_error: Option<Mishap>,
}

/// How metering is doing on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeteringHealth {
    /// Now.
    pub now: Timestamp,
    /// The journal.
    pub journal: JournalHealth,
    /// Counting.
    pub rolls: Rolls,
    /// Requests whose usage could not be read, by route and meter, since the start.
    pub unread: Vec<UnreadUsage>,
    /// Why the store does not answer, if it was asked and does not.
    pub store_error: Option<String>,
}

impl MeteringHealth {
    /// Why usage cannot be recorded or counted now, if so.
    pub fn error(&self) -> Option<String> {
        let named = |part: &str, error: &Option<String>| error.as_ref().map(|error| format!("{part}: {error}"));
        let waits = || {
            let age_s = self.uncounted_age_s().filter(|age_s| *age_s > LONGEST_WAIT_S)?;
            Some(format!("metering: records have waited for {age_s} s to be counted"))
        };
        let failed = named("metering", &self.journal.error).or_else(|| named("metering", &self.rolls.error));
        failed.or_else(|| named("store", &self.store_error)).or_else(waits)
    }

    /// How old the oldest record is that is not counted yet, in seconds.
    pub fn uncounted_age_s(&self) -> Option<i64> {
        // A clock that was put back makes nothing younger than new.
        self.journal.uncounted_since.map(|since| (self.now.micros_since(since) / 1_000_000).max(0))
    }

    /// What last went wrong, mended or not.
    pub fn last_error(&self) -> Option<&Mishap> {
        self.journal.last_error.iter().chain(&self.rolls.last_error).max_by_key(|mishap| mishap.at)
    }
}

impl Metering {
    /// How it is doing, without asking the store.
    pub fn health_here(&self) -> MeteringHealth {
        let rolls = self.rolls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (journal, unread) = (self.journal.health(), self.unread());
        MeteringHealth { now: self.clock.now(), journal, rolls, unread, store_error: None }
    }

    /// How it is doing, and whether the store answers.
    pub async fn health(&self) -> MeteringHealth {
        let store_error = match tokio::time::timeout(PATIENCE, self.store.ping()).await {
            Ok(answer) => answer.err().map(|error| chain(&error)),
            Err(_) => Some("no answer within a second".to_owned()),
        };
        MeteringHealth { store_error, ..self.health_here() }
    }

    pub(super) fn note_roll(&self, result: &Result<(), Error>) {
        let now = self.clock.now();
        let mut rolls = self.rolls.lock().unwrap_or_else(PoisonError::into_inner);
        rolls.error = result.as_ref().err().map(|error| chain(error));
        match rolls.error.clone() {
            Some(what) => rolls.last_error = Some(Mishap { at: now, what }),
            None => rolls.rolled_at = Some(now),
        }
    }
}
