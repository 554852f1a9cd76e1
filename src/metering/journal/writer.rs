//! Writing: one `pwrite(2)` a record, under a lock that is held for about a microsecond and never across an await or a
//! sync. Whoever writes never begins a segment: that waits for the disk, and other requests would wait with it.
//!
//! What is promised fits into the current segment. So a record never needs the next one, which may be late.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    Chain, Disk, DiskFile, Identity, JournalError, Options, Record,
    frame::{self, BLOCK, MARK_FRAME, MAX_PADDING, MAX_USAGE_FRAME, Place},
    health::Notes,
    recovery::Start,
    segment,
};

/// Records wait this long for the segment after one that failed: a few syncs of a disk that works. The time is counted
/// from the failure, not from the record, so that it passes once.
const GRACE: Duration = Duration::from_millis(25);
/// An answer waits this long for the disk to have its record.
const PATIENCE: Duration = Duration::from_secs(5);
/// What stays free of a segment besides what is promised: a mark, and the padding before a sync.
const SLACK: u64 = (MARK_FRAME + MAX_PADDING) as u64;
const RECORD: u64 = MAX_USAGE_FRAME as u64;

/// This node's journal; cheap to clone. A [`super::Flusher`] must tend it, or somebody must call [`Journal::tend`].
#[derive(Clone)]
pub struct Journal {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    pub(super) identity: Identity,
    /// Where readers begin.
    pub(super) start: Start,
    pub(super) inner: Mutex<Inner>,
    /// Wakes the flusher: new records, a durable waiter, the end.
    pub(super) wake: Condvar,
    /// Wakes whoever waits for a sync under way, for a file that is being made, or for another segment.
    pub(super) synced: Condvar,
    pub(super) durable: watch::Sender<Durable>,
}

/// How far the disk is, for those who wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Durable {
    pub(super) seq: u64,
    pub(super) broken: bool,
}

/// What the lock guards.
#[expect(clippy::struct_excessive_bools, reason = "each says something of its own, and they come in any combination")]
pub(super) struct Inner {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) last: Chain,
    /// Where the part ends that the disk has.
    pub(super) synced: Synced,
    /// The frames after that part, to be written again should a sync fail.
    pub(super) unsynced: Vec<u8>,
    /// Somebody syncs, or begins a segment, without the lock. Nobody else does meanwhile.
    pub(super) syncing: bool,
    /// Records promised to requests under way.
    pub(super) reserved: u64,
    /// What route numbers stand for from the next segment on.
    pub(super) routes: Vec<String>,
    /// What the numbers of meters stand for.
    pub(super) meters: Vec<String>,
    /// The next segment, made ahead of need.
    pub(super) prepared: Option<Arc<dyn DiskFile>>,
    /// Somebody makes its file.
    pub(super) making: bool,
    pub(super) state: State,
    /// No more records, whatever the state.
    pub(super) closed: bool,
    /// There is a flusher, so waiting for it makes sense.
    pub(super) tended: bool,
    pub(super) waiting_durable: bool,
    /// Making room or another segment failed last time.
    pub(super) failed: Option<Failed>,
    pub(super) notes: Notes,
}

/// Whether records are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// A write or sync failed: the segment is not trusted any more, and another follows before the next record.
    Suspect(String, Instant),
    /// There was no getting another segment either. Tried again in the background.
    Broken(String),
}

/// When something failed that is tried again, and how much later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) at: Instant,
    pub(super) pause: Duration,
}

/// The end of what the disk has, and where in the current segment that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Synced {
    pub(super) offset: u64,
    pub(super) last: Chain,
}

impl Journal {
    /// Which process writes it.
    pub fn identity(&self) -> Identity {
        self.shared.identity
    }

    /// What the numbers of meters stand for.
    pub fn meter_names(&self) -> Vec<String> {
        self.shared.lock().meters.clone()
    }

    /// A meter's number.
    pub fn meter_number(&self, name: &str) -> Option<u16> {
        let place = self.shared.lock().meters.iter().position(|own| own == name)?;
        u16::try_from(place).ok()
    }

    /// What the numbers of routes stand for.
    pub fn route_names(&self) -> Vec<String> {
        self.shared.lock().routes.clone()
    }

    /// Room for one record: taken before a request is forwarded, so that writing its record cannot fail for lack of it.
    pub fn reserve(&self) -> Result<Reservation, JournalError> {
        self.shared.promise()?;
        Ok(Reservation { journal: Some(self.clone()) })
    }

    /// The last record written.
    pub fn last_seq(&self) -> u64 {
        self.shared.lock().last.seq
    }

    /// Waits until the disk has a record; an error when the disk failed or takes too long, which says nothing of the
    /// record.
    pub async fn durable(&self, seq: u64) -> Result<(), JournalError> {
        self.durable_within(seq, PATIENCE).await
    }

    pub(super) async fn durable_within(&self, seq: u64, patience: Duration) -> Result<(), JournalError> {
        {
            let mut inner = self.shared.lock();
            inner.waiting_durable = true;
            self.shared.wake.notify_one();
        }
        let mut durable = self.shared.durable.subscribe();
        let reached = durable.wait_for(|durable| durable.seq >= seq || durable.broken);
        match tokio::time::timeout(patience, reached).await {
            // The sender lives in `shared`, which this call holds.
            Ok(reached) if reached.as_ref().is_ok_and(|reached| reached.seq >= seq) => Ok(()),
            Ok(_) => Err(JournalError::Unavailable),
            Err(_) => Err(JournalError::TooSlow),
        }
    }

    /// Removes segments before this one: the totals have all of their records.
    pub fn remove_before(&self, segment: u64) -> Result<(), JournalError> {
        let disk = &*self.shared.disk;
        let current = self.shared.lock().number;
        for number in segment::list(disk)?.into_iter().take_while(|number| *number < segment.min(current)) {
            let name = segment::name(number);
            disk.remove(&name).map_err(JournalError::io("remove", disk, &name))?;
        }
        Ok(())
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held would be a bug in pure arithmetic; the state is whole between statements.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the sync under way.
    pub(super) fn wait_synced<'a>(&'a self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        self.synced.wait_while(inner, |inner| inner.syncing).unwrap_or_else(PoisonError::into_inner)
    }

    /// Promises room for one record in the current segment.
    fn promise(&self) -> Result<(), JournalError> {
        let mut inner = self.lock();
        // Where no other segment is to be had, each record may be synced by itself, which fills a block.
        let each = if inner.failed.is_some() && inner.prepared.is_none() { BLOCK as u64 } else { RECORD };
        let needed = (inner.reserved + 1) * each + SLACK;
        if !inner.takes_records() || inner.offset + needed > self.options.segment_bytes {
            return Err(JournalError::Unavailable);
        }
        let enough = !self.needs_next(&inner);
        inner.reserved += 1;
        if enough && self.needs_next(&inner) {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Whether the next segment is better begun now, while there is still time: the last eighth is being used or promised.
    /// Not in the first half, however much is promised, because the next one would be no better.
    pub(super) fn needs_next(&self, inner: &Inner) -> bool {
        let bytes = self.options.segment_bytes;
        inner.offset + inner.reserved * RECORD + bytes / 8 > bytes && inner.offset >= bytes / 2
    }

    /// Whether so many bytes more leave what is promised.
    pub(super) fn has_room(&self, inner: &Inner, more: usize) -> bool {
        inner.offset + more as u64 + inner.reserved * RECORD <= self.options.segment_bytes
    }

    /// Writes a record and takes its promise back. Of a record that is refused nothing can surface later.
    fn append(&self, record: &Record) -> Result<u64, JournalError> {
        let mut inner = self.lock();
        let mut written = Err(JournalError::Unavailable);
        for _ in 0..2 {
            inner = self.wait_mended(inner);
            if !inner.takes_records() {
                break;
            }
            let idle = inner.last.seq == inner.synced.last.seq;
            match inner.write_usage(record) {
                Ok(seq) => {
                    inner.notes.wrote(seq, record.at);
                    written = Ok(seq);
                    if idle {
                        self.wake.notify_one();
                    }
                    break;
                }
                // Part of the frame may be there; the next segment's header cuts it off.
                Err(error) => {
                    inner.suspect("writing to the journal failed", &error);
                    self.wake.notify_one();
                }
            }
        }
        inner.reserved = inner.reserved.saturating_sub(1);
        written
    }

    /// Waits for the segment that follows one that failed, but not for long: the thread serves others.
    fn wait_mended<'a>(&'a self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let State::Suspect(_, since) = inner.state else { return inner };
        if !inner.tended {
            return inner;
        }
        let left = GRACE.saturating_sub(since.elapsed());
        let suspect = |inner: &mut Inner| matches!(inner.state, State::Suspect(..));
        self.synced.wait_timeout_while(inner, left, suspect).unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn broken(&self, inner: &mut Inner, why: String) {
        inner.notes.went_wrong(&why);
        inner.state = State::Broken(why);
        self.durable.send_modify(|durable| durable.broken = true);
    }

    /// Tells those who wait how far the disk is.
    pub(super) fn tell_durable(&self, inner: &Inner) {
        let now = Durable { seq: inner.synced.last.seq, broken: false };
        self.durable.send_if_modified(|durable| std::mem::replace(durable, now) != now);
    }
}

impl Inner {
    fn takes_records(&self) -> bool {
        self.state == State::Open && !self.closed
    }

    /// Where the next frame goes.
    pub(super) const fn place(&self, seq: u64) -> Place {
        Place { seq, durable: self.synced.last.seq, before: self.last.hash }
    }

    fn write_usage(&mut self, record: &Record) -> std::io::Result<u64> {
        let seq = self.last.seq + 1;
        let mut buffer = [0; MAX_USAGE_FRAME];
        let len = frame::encode_usage(&mut buffer, self.place(seq), record);
        self.write(&buffer[..len], seq)?;
        Ok(seq)
    }

    /// Writes a frame.
    pub(super) fn write(&mut self, frame: &[u8], seq: u64) -> std::io::Result<()> {
        self.file.write_at(frame, self.offset)?;
        self.offset += frame.len() as u64;
        self.last = Chain { seq, hash: frame::hash(frame) };
        self.unsynced.extend_from_slice(frame);
        Ok(())
    }

    /// Notes that what was written since the last sync may be lost.
    pub(super) fn suspect(&mut self, what: &'static str, error: &std::io::Error) {
        tracing::error!(%error, "{what}");
        let what = format!("{what}: {error}");
        self.notes.went_wrong(&what);
        self.state = State::Suspect(what, stopwatch());
    }
}

/// Starts measuring real time, whatever the clock says.
#[expect(clippy::disallowed_methods, reason = "a stopwatch, not a clock")]
pub(super) fn stopwatch() -> Instant {
    Instant::now()
}

/// Room for one record. Dropped without a record, it is given back.
pub struct Reservation {
    journal: Option<Journal>,
}

impl Reservation {
    /// Writes the record; its sequence number. Fails only when the disk itself does.
    pub fn append(mut self, record: &Record) -> Result<u64, JournalError> {
        // Present until here or drop takes it.
        let Some(journal) = self.journal.take() else { return Err(JournalError::Unavailable) };
        journal.shared.append(record)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(journal) = self.journal.take() {
            let mut inner = journal.shared.lock();
            inner.reserved = inner.reserved.saturating_sub(1);
        }
    }
}
