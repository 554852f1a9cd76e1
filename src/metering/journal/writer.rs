//! Writing: one `pwrite(2)` a record, under a lock that is held for about a microsecond and never across an await.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{
    Chain, Disk, DiskFile, Identity, JournalError, Options, Record,
    begin::{names, opening},
    frame::{self, BLOCK, MARK_FRAME, MAX_PADDING, MAX_USAGE_FRAME, Place},
    health::Notes,
    reader,
    segment::{self, HEADER_BYTES, Header},
};

/// This node's journal; cheap to clone. A [`super::Flusher`] must tend it, or somebody must call [`Journal::tend`].
#[derive(Clone)]
pub struct Journal {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    pub(super) identity: Identity,
    pub(super) inner: Mutex<Inner>,
    /// Wakes the flusher: new records, a durable waiter, the end.
    pub(super) wake: Condvar,
    /// Wakes whoever waits for a sync under way.
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
pub(super) struct Inner {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) last: Chain,
    /// Where the part ends that the disk has.
    pub(super) synced: Synced,
    /// The frames after that part, to be written again should a sync fail.
    pub(super) unsynced: Vec<u8>,
    /// A sync runs without the lock; segments do not change meanwhile.
    pub(super) syncing: bool,
    /// Bytes promised to requests under way.
    pub(super) reserved: u64,
    /// The next segment, made ahead of need.
    pub(super) prepared: Option<Arc<dyn DiskFile>>,
    pub(super) state: State,
    pub(super) waiting_durable: bool,
    /// Making room or another segment failed last time: no hurry.
    pub(super) struggling: bool,
    pub(super) notes: Notes,
}

/// Whether records are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// A write or sync failed: the segment is not trusted any more, and another follows before the next record.
    Suspect(String),
    /// There was no getting another segment either. Tried again in the background.
    Broken(String),
    Closed,
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

    /// Room for one record: taken before a request is forwarded, so that writing its record cannot fail for lack of it.
    pub fn reserve(&self) -> Result<Reservation, JournalError> {
        self.shared.promise()?;
        Ok(Reservation { journal: Some(self.clone()) })
    }

    /// The last record written.
    pub fn last_seq(&self) -> u64 {
        self.shared.lock().last.seq
    }

    /// Waits until the disk has a record; an error when the disk failed, which says nothing of the record.
    pub async fn durable(&self, seq: u64) -> Result<(), JournalError> {
        {
            let mut inner = self.shared.lock();
            inner.waiting_durable = true;
            self.shared.wake.notify_one();
        }
        let mut durable = self.shared.durable.subscribe();
        // The sender lives in `shared`, which this call holds.
        let reached = durable.wait_for(|durable| durable.seq >= seq || durable.broken).await;
        if reached.is_ok_and(|reached| reached.seq >= seq) { Ok(()) } else { Err(JournalError::Unavailable) }
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
    pub(super) fn wait_synced<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        self.synced.wait_while(inner, |inner| inner.syncing).unwrap_or_else(PoisonError::into_inner)
    }

    /// Promises the bytes of one record.
    fn promise(&self) -> Result<(), JournalError> {
        let mut inner = self.lock();
        if matches!(inner.state, State::Broken(_) | State::Closed) {
            return Err(JournalError::Unavailable);
        }
        let needed = inner.reserved + MAX_USAGE_FRAME as u64;
        // Frames do not cross segments: the end of one may stay empty.
        let here = self.options.segment_bytes.saturating_sub(inner.offset + FULL);
        let next = if inner.prepared.is_some() { self.segment_room() } else { 0 };
        if here + next < needed {
            return Err(JournalError::Unavailable);
        }
        inner.reserved = needed;
        Ok(())
    }

    fn segment_room(&self) -> u64 {
        let names = self.options.meters.iter().chain(&self.options.routes);
        let names: u64 = names.map(|name| 64 + name.len() as u64).sum();
        self.options.segment_bytes.saturating_sub(HEADER_BYTES + names + BLOCK as u64 + FULL)
    }

    /// Writes a record. Of a record that is refused nothing can surface later.
    fn append(&self, record: &Record) -> Result<u64, JournalError> {
        let mut inner = self.lock();
        for _ in 0..2 {
            inner = self.ready(inner)?;
            let seq = inner.last.seq + 1;
            let mut buffer = [0; MAX_USAGE_FRAME];
            let len = frame::encode_usage(&mut buffer, inner.place(seq), record);
            let idle = inner.last.seq == inner.synced.last.seq;
            match inner.write(&buffer[..len], seq) {
                Ok(()) => {
                    inner.notes.wrote(seq, record.at);
                    if idle {
                        self.wake.notify_one();
                    }
                    return Ok(seq);
                }
                // Part of the frame may be there; the next segment's header cuts it off.
                Err(error) => inner.suspect("writing to the journal failed", &error),
            }
        }
        self.broken(&mut inner, "writing to a new segment failed".to_owned());
        Err(JournalError::Unavailable)
    }

    /// A segment that can take a record.
    fn ready<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> Result<MutexGuard<'a, Inner>, JournalError> {
        loop {
            let full = inner.offset + FULL > self.options.segment_bytes;
            match inner.state {
                State::Open if !full => return Ok(inner),
                State::Broken(_) | State::Closed => return Err(JournalError::Unavailable),
                State::Open | State::Suspect(_) if inner.syncing => inner = self.wait_synced(inner),
                State::Open | State::Suspect(_) => self.next_segment(&mut inner),
            }
        }
    }

    fn broken(&self, inner: &mut Inner, why: String) {
        inner.notes.went_wrong(&why);
        inner.state = State::Broken(why);
        self.durable.send_modify(|durable| durable.broken = true);
        self.wake.notify_one();
    }

    /// Ends the current segment and begins another. Its header says how much of the old one holds: all of it after a
    /// sync, or what was on disk before one failed; the rest is written into the new one, with the same numbers. No
    /// sync may be under way.
    pub(super) fn next_segment(&self, inner: &mut Inner) {
        debug_assert!(!inner.syncing, "a segment does not end during its sync");
        if inner.state == State::Open {
            match inner.file.sync() {
                Ok(()) => inner.all_synced(),
                // Nothing is known of the pages now, and asking again would be told a lie.
                Err(error) => inner.suspect("syncing the journal failed", &error),
            }
        }
        match self.begin_segment(inner) {
            Ok(()) => {
                inner.state = State::Open;
                self.tell_durable(inner);
            }
            Err(error) => {
                // Nothing is lost: what the disk may not have stays in memory until there is a segment again.
                let why = crate::kernel::fault::chain(&error);
                tracing::error!(error = why, "the journal cannot go on");
                self.broken(inner, why);
            }
        }
        self.wake.notify_one();
    }

    fn begin_segment(&self, inner: &mut Inner) -> Result<(), JournalError> {
        // Only the flusher makes files, so that no two threads make the same one.
        let file = inner.prepared.take().ok_or(JournalError::Unavailable)?;
        let header = Header {
            identity: self.identity,
            number: inner.number + 1,
            before: inner.synced.last,
            previous: inner.number,
            previous_holds: inner.synced.offset,
        };
        let (content, last) = opening(&header, &names(&self.options), reader::usage_in(&inner.unsynced).iter());
        segment::begin(&*self.disk, &*file, self.identity.boot, header.number, &content)?;
        inner.file = file;
        inner.number = header.number;
        inner.offset = content.len() as u64;
        inner.last = last;
        inner.all_synced();
        Ok(())
    }

    /// Tells those who wait how far the disk is.
    pub(super) fn tell_durable(&self, inner: &Inner) {
        let now = Durable { seq: inner.synced.last.seq, broken: false };
        self.durable.send_if_modified(|durable| std::mem::replace(durable, now) != now);
    }
}

/// What must be left of a segment for another record: a mark, the record, and the padding after it.
const FULL: u64 = (MARK_FRAME + MAX_USAGE_FRAME + MAX_PADDING) as u64;

impl Inner {
    /// Where the next frame goes.
    pub(super) const fn place(&self, seq: u64) -> Place {
        Place { seq, durable: self.synced.last.seq, before: self.last.hash }
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
        self.state = State::Suspect(what);
    }

    fn all_synced(&mut self) {
        self.unsynced.clear();
        self.notes.flushed();
        self.synced = Synced { offset: self.offset, last: self.last };
    }
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
        let result = journal.shared.append(record);
        journal.give_back();
        result
    }
}

impl Journal {
    fn give_back(&self) {
        let mut inner = self.shared.lock();
        inner.reserved = inner.reserved.saturating_sub(MAX_USAGE_FRAME as u64);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(journal) = self.journal.take() {
            journal.give_back();
        }
    }
}
