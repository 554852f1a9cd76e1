//! The flusher: one thread that syncs what was written, begins and prepares segments, and mends the journal after a
//! failed disk.
//!
//! Syncing comes first in each round. Making room and mending are tried again now and then, syncing never waits for that.

use std::{
    io,
    sync::{Arc, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use super::{
    Journal,
    begin::prepare,
    frame::{self, MARK_FRAME},
    writer::{Failed, Inner, Shared, State, Synced, stopwatch},
};

/// A broken journal, or one without room, is tried again so soon; then after twice that, and so on.
const FIRST_RETRY: Duration = Duration::from_millis(10);
/// But at least so often.
const RETRY: Duration = Duration::from_millis(500);

/// The flusher's thread; dropping it ends the thread and waits for that.
pub struct Flusher {
    journal: Journal,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// Tends a journal from now on.
    pub fn start(journal: &Journal) -> io::Result<Self> {
        journal.shared.lock().tended = true;
        let its = journal.clone();
        let thread = std::thread::Builder::new().name("journal-flush".into()).spawn(move || its.run())?;
        Ok(Self { journal: journal.clone(), thread: Some(thread) })
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.journal.shared.lock().closed = true;
        self.journal.shared.wake.notify_all();
        // A thread that panicked has said so.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Journal {
    fn run(&self) {
        while self.shared.wait_for_work() {
            self.flush();
            if self.shared.lock().may_try() {
                self.shared.make_room();
                self.shared.mend();
            }
        }
    }

    /// What the flusher does each round: syncs, makes room, mends.
    pub fn tend(&self) {
        self.flush();
        self.shared.make_room();
        self.shared.mend();
    }

    /// Syncs what was written before the call, and begins the next segment when it is time.
    pub fn flush(&self) {
        let shared = &*self.shared;
        let mut inner = shared.wait_synced(shared.lock());
        inner.waiting_durable = false;
        // A mark alone waits for the next record.
        if inner.state == State::Open && inner.last.seq != inner.synced.last.seq {
            inner = shared.sync(inner);
        }
        let next = match inner.state {
            State::Open => shared.needs_next(&inner) && inner.prepared.is_some() && !inner.closed,
            State::Suspect(..) => true,
            State::Broken(_) => false,
        };
        // Nobody else has begun to, because the lock was held since the sync.
        if next {
            drop(shared.next_segment(inner));
        }
    }

    /// Takes no more records and syncs those that were written.
    pub fn close(&self) {
        let shared = &*self.shared;
        shared.lock().closed = true;
        shared.wake.notify_all();
        self.flush();
        let broken = matches!(shared.lock().state, State::Broken(_));
        if broken {
            // The file that failed says nothing any more, so it takes another. Once: somebody waits for the end.
            shared.make_room();
            shared.mend();
        }
        let inner = shared.lock();
        let left = inner.last.seq - inner.synced.last.seq;
        if left > 0 {
            tracing::error!(
                records = left,
                "the journal ends with records that the disk may not have; the next start counts them, unless the machine \
                 loses power before"
            );
        }
    }
}

impl Shared {
    /// Waits for something to do, then for the rest of the interval unless it is urgent; `false` at the end.
    fn wait_for_work(&self) -> bool {
        let nothing = |inner: &mut Inner| !(inner.closed || self.is_due(inner) || inner.is_behind());
        let mut inner = self.lock();
        inner = match inner.failed {
            None => self.wake.wait_while(inner, nothing).unwrap_or_else(PoisonError::into_inner),
            Some(failed) => {
                let left = failed.pause.saturating_sub(failed.at.elapsed());
                self.wake.wait_timeout_while(inner, left, nothing).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if inner.is_behind() {
            let interval = Duration::from_millis(self.options.flush_ms);
            let patient = |inner: &mut Inner| !(inner.closed || self.is_due(inner));
            inner = self.wake.wait_timeout_while(inner, interval, patient).unwrap_or_else(PoisonError::into_inner).0;
        }
        !inner.closed
    }

    /// Whether there is something to do at once.
    fn is_due(&self, inner: &Inner) -> bool {
        let wanted = match inner.state {
            State::Open => inner.prepared.is_none() || self.needs_next(inner),
            State::Suspect(..) => return true,
            State::Broken(_) => true,
        };
        inner.waiting_durable || (wanted && inner.may_try())
    }

    /// Syncs the current segment, without the lock: records go on being written meanwhile.
    pub(super) fn sync<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        if let Err(error) = self.pad(&mut inner) {
            inner.suspect("writing to the journal failed", &error);
            return inner;
        }
        let (file, bytes) = (Arc::clone(&inner.file), inner.unsynced.len());
        let upto = Synced { offset: inner.offset, last: inner.last };
        inner.syncing = true;
        drop(inner);
        let result = file.sync();
        let mut inner = self.lock();
        inner.syncing = false;
        match result {
            Ok(()) => {
                inner.unsynced.drain(..bytes);
                inner.synced = upto;
                inner.notes.flushed();
                self.tell_durable(&inner);
                self.mark(&mut inner);
            }
            Err(error) => inner.suspect("syncing the journal failed", &error),
        }
        self.synced.notify_all();
        inner
    }

    /// Tries to get a broken journal going again, with another segment.
    fn mend(&self) {
        let inner = self.wait_synced(self.lock());
        if !matches!(inner.state, State::Broken(_)) || inner.prepared.is_none() {
            return;
        }
        let inner = self.next_segment(inner);
        if inner.state == State::Open {
            tracing::info!("the journal takes records again");
        }
    }

    /// Makes the next segment's file ahead of need. One at a time, because they have one name.
    pub(super) fn make_room(&self) {
        let inner = self.synced.wait_while(self.lock(), |inner| inner.making);
        let mut inner = inner.unwrap_or_else(PoisonError::into_inner);
        if inner.prepared.is_some() {
            return;
        }
        inner.making = true;
        drop(inner);
        // Without the lock, because it takes milliseconds.
        let made = prepare(&*self.disk, &self.options, self.identity);
        let mut inner = self.lock();
        inner.making = false;
        match made {
            Ok(file) => {
                // Otherwise the segment it is for decides.
                if inner.state == State::Open && !self.needs_next(&inner) {
                    inner.failed = None;
                }
                inner.prepared = Some(file);
            }
            Err(error) => {
                let error = crate::kernel::fault::chain(&error);
                inner.notes.went_wrong(&format!("no room for the next journal segment: {error}"));
                if inner.failed.is_none() {
                    tracing::warn!(error, "no room for the next journal segment");
                }
                inner.note_failure();
            }
        }
        self.synced.notify_all();
    }

    /// Ends the block, so that what is about to be on disk is never written again; unless that took the room of requests
    /// under way, which are to be recorded first of all.
    fn pad(&self, inner: &mut Inner) -> io::Result<()> {
        let seq = inner.last.seq;
        let padding = frame::encode_padding(inner.place(seq), inner.offset);
        if self.has_room(inner, padding.len() + MARK_FRAME) { inner.write(&padding, seq) } else { Ok(()) }
    }

    /// Says on disk, some time, that the disk has everything, so that later damage is told from a torn tail.
    fn mark(&self, inner: &mut Inner) {
        if !inner.unsynced.is_empty() || inner.state != State::Open || !self.has_room(inner, MARK_FRAME) {
            return;
        }
        let seq = inner.last.seq;
        let frame = frame::encode_mark(inner.place(seq));
        if let Err(error) = inner.write(&frame, seq) {
            inner.suspect("writing to the journal failed", &error);
        }
    }
}

impl Inner {
    /// Records wait for a sync.
    fn is_behind(&self) -> bool {
        self.state == State::Open && self.last.seq != self.synced.last.seq
    }

    /// What failed last time is not tried again at once.
    fn may_try(&self) -> bool {
        self.failed.is_none_or(|failed| failed.at.elapsed() >= failed.pause)
    }

    pub(super) fn note_failure(&mut self) {
        let pause = self.failed.map_or(FIRST_RETRY, |before| (2 * before.pause).min(RETRY));
        self.failed = Some(Failed { at: stopwatch(), pause });
    }
}
