//! Holding a tenant's calls for a moment, while what they go to is exchanged for something else.
//!
//! Whoever holds has the lock that facts are loaded under, and says so in the entry. A call counts itself first and looks then
//! whether its tenant is held, and whoever holds says so first and counts then: none is overlooked. A call that finds itself held
//! waits for the lock; it fails by nothing of that.
//!
//! Calls that last by their nature are not waited for: connections of another protocol (`101`), and event streams. They go on with
//! what they began with.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::Response,
};
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{directory::Directory, entry::Entry, slots::InFlight};
use crate::kernel::{
    TenantId,
    observer::{CallHolder, HoldFuture},
};

/// What an entry knows of its being held.
#[derive(Default)]
pub(super) struct Holding {
    held: AtomicBool,
    /// So many of the calls under way last.
    lasting: AtomicU32,
    /// A call ended, or lasts, while somebody held.
    fewer: Notify,
    streams: Mutex<Streams>,
}

/// Calls that last, by whether they began before somebody held.
#[derive(Default)]
struct Streams {
    now: Option<TaskTracker>,
    before: Vec<TaskTracker>,
}

/// A call that lasts, until this is dropped.
pub(super) struct Lasting {
    entry: Arc<Entry>,
    _token: TaskTrackerToken,
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.entry.holding.lasting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Holding {
    /// Whether calls wait now.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// A call is not under way any more, or is one that lasts.
    pub(super) fn fewer(&self) {
        if self.is_held() {
            self.fewer.notify_one();
        }
    }

    /// Waits until nothing is under way but what lasts.
    async fn quiet(&self, in_flight: &InFlight) {
        // In this order: who ends takes itself from those that last first, and so is never missing from the others alone.
        while in_flight.count() > self.lasting.load(Ordering::SeqCst) {
            self.fewer.notified().await;
        }
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Streams> {
        // Held for a few additions, none of which panics.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What lasts now began before.
    fn turn_over(&self) {
        let mut streams = self.streams();
        if let Some(now) = streams.now.take() {
            now.close();
            streams.before.push(now);
        }
    }

    async fn ended(&self) {
        let before = std::mem::take(&mut self.streams().before);
        for (at, tracker) in before.iter().enumerate() {
            let unseen = Unseen(self, &before[at..]);
            tracker.wait().await;
            std::mem::forget(unseen);
        }
    }
}

/// Puts back what was waited for in vain.
struct Unseen<'a>(&'a Holding, &'a [TaskTracker]);

impl Drop for Unseen<'_> {
    fn drop(&mut self) {
        self.0.streams().before.extend_from_slice(self.1);
    }
}

/// Notes that a call of an entry lasts.
pub(super) fn lasts(entry: &Arc<Entry>) -> Lasting {
    let token = entry.holding.streams().now.get_or_insert_with(TaskTracker::new).token();
    entry.holding.lasting.fetch_add(1, Ordering::SeqCst);
    entry.holding.fewer();
    Lasting { entry: Arc::clone(entry), _token: token }
}

/// Whether an answer lasts by its nature.
pub(super) fn is_lasting(response: &Response<Body>) -> bool {
    let is_stream = || {
        let kind = response.headers().get(header::CONTENT_TYPE)?.as_bytes();
        kind.get(..17).map(|begins| begins.eq_ignore_ascii_case(b"text/event-stream"))
    };
    response.status() == StatusCode::SWITCHING_PROTOCOLS || is_stream().unwrap_or(false)
}

/// Somebody holds, until this is dropped.
struct Hold {
    entry: Arc<Entry>,
    _lock: OwnedMutexGuard<()>,
}

impl Hold {
    fn begin(entry: Arc<Entry>, lock: OwnedMutexGuard<()>) -> Self {
        entry.holding.held.store(true, Ordering::SeqCst);
        Self { entry, _lock: lock }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Before the lock is given up: whoever gets it is not held.
        self.entry.holding.held.store(false, Ordering::SeqCst);
    }
}

impl CallHolder for Directory {
    fn hold(&self, tenant: TenantId) -> HoldFuture<'_> {
        let entry = self.entry_of(tenant);
        Box::pin(async move {
            let lock = entry.loading_owned().await;
            let hold = Hold::begin(entry, lock);
            hold.entry.holding.quiet(&hold.entry.in_flight).await;
            hold.entry.holding.turn_over();
            Box::new(hold) as Box<dyn Send>
        })
    }

    fn ended(&self, tenant: TenantId) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let entry = self.entry_of(tenant);
        Box::pin(async move { entry.holding.ended().await })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kernel::{ManualClock, Timestamp};

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn whoever_holds_waits_for_calls_under_way_and_not_for_those_that_last() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1).unwrap()));
        let directory = Directory::new(clock);
        let tenant = TenantId::from_uuid(uuid::Uuid::nil());
        let entry = directory.entry_of(tenant);
        let leave = || {
            entry.in_flight.leave();
            entry.holding.fewer();
        };
        entry.in_flight.enter(None).unwrap();
        entry.in_flight.enter(None).unwrap();
        assert!(tokio::time::timeout(SOON, directory.hold(tenant)).await.is_err(), "two are under way");
        assert!(!entry.holding.is_held(), "who gives up holds nobody");
        let stream = lasts(&entry);
        let (held, ()) = tokio::join!(directory.hold(tenant), async {
            tokio::task::yield_now().await;
            assert!(entry.holding.is_held());
            leave();
        });
        assert!(entry.holding.is_held());
        drop(held);
        assert!(!entry.holding.is_held());
        assert!(tokio::time::timeout(SOON, directory.ended(tenant)).await.is_err(), "the stream began before");
        let after = lasts(&entry);
        drop(stream);
        leave();
        directory.ended(tenant).await;
        drop(after);
    }
}
