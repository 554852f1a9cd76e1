//! The way from one segment to the next, without a request that waits for it.
//!
//! All that the old segment may have lost is on disk in the new one before it gets its name. Records go on being written
//! to the old one meanwhile, if it is sound; those are copied under the lock, just before the new one takes its place.
//! They are no more on disk than they were. Until the name is on disk, too, nothing in the new segment counts as durable,
//! and should it come to nothing, the next try begins where this one did.

use std::sync::{Arc, MutexGuard};

use super::{
    Journal, JournalError,
    begin::{names, opening},
    frame::{self, Chain, MAX_USAGE_FRAME, Place},
    reader,
    segment::{self, Header},
    writer::{Inner, Shared, State, Synced},
};

/// A segment that was made ahead may be taken by the flusher, which then begins it with the names; or another follows.
const TRIES: usize = 50;

impl Journal {
    /// Gives names to numbers of meters and routes, from 0: those that it had, and more behind them. The names are in a segment's beginning,
    /// so another is begun; nothing may be recorded with a new number before this returned.
    pub fn name(&self, meters: &[String], routes: &[String]) -> Result<(), JournalError> {
        let shared = &*self.shared;
        if meters.len().max(routes.len()) > usize::from(u16::MAX) {
            return Err(JournalError::Unavailable);
        }
        let mut without = None;
        for _ in 0..TRIES {
            shared.make_room();
            let mut inner = shared.wait_synced(shared.lock());
            // What the disk has need not be written again into the next one.
            if inner.state == State::Open && inner.last.seq != inner.synced.last.seq {
                inner = shared.sync(inner);
            }
            // Nobody begins a segment now, so whichever comes after this one has the names.
            let without = *without.get_or_insert_with(|| {
                inner.routes = routes.to_vec();
                inner.meters = meters.to_vec();
                inner.number
            });
            if inner.state == State::Open && inner.number == without && inner.prepared.is_some() && !inner.closed {
                inner = shared.next_segment(inner);
                // The flusher looks for work when it is woken, and this was not its doing: records that came meanwhile are to be
                // synced, and the next segment's file is to be made.
                shared.wake.notify_all();
            }
            if inner.closed {
                break;
            }
            if inner.state == State::Open && inner.number > without {
                return Ok(());
            }
        }
        Err(JournalError::Unavailable)
    }
}

impl Shared {
    /// Ends the current segment and begins another, whose header says how much of the old one holds: what was on disk
    /// for sure. The rest is written into the new one, with the same numbers. No sync may be under way.
    pub(super) fn next_segment<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        debug_assert!(!inner.syncing, "a segment does not end during its sync");
        let Some(file) = inner.prepared.take() else {
            // The flusher makes one, which may take.
            self.broken(&mut inner, "there is no room for another segment".to_owned());
            return inner;
        };
        inner.syncing = true;
        let header = Header {
            identity: self.identity,
            number: inner.number + 1,
            before: inner.synced.last,
            previous: inner.number,
            previous_holds: inner.synced.offset,
        };
        let (records, taken) = (reader::usage_in(&inner.unsynced), inner.unsynced.len());
        let names = names(&inner.meters, &inner.routes);
        drop(inner);
        let (content, last) = opening(&header, &names, records.iter());
        let opening = Synced { offset: content.len() as u64, last };
        let written = file.write_at(&content, 0).and_then(|()| file.sync());
        let mut inner = self.lock();
        if let (Err(error), State::Open) = (&written, &inner.state) {
            // The current segment is sound.
            tracing::warn!(%error, "the next journal segment could not be written");
            inner.note_failure();
        } else {
            let moved = written.and_then(|()| {
                let delta = Delta::of(&inner, taken, opening);
                if !delta.frames.is_empty() {
                    file.write_at(&delta.frames, opening.offset)?;
                }
                // From here on the old segment may be cut off, so nothing more goes into it, even when this fails.
                self.disk.rename(&segment::prepared_name(self.identity.boot), &segment::name(header.number))?;
                inner.file = Arc::clone(&file);
                inner.offset = opening.offset + delta.frames.len() as u64;
                inner.last = delta.last;
                inner.state = State::Open;
                Ok(())
            });
            drop(inner);
            let done = moved.and_then(|()| self.disk.sync());
            inner = self.lock();
            match done {
                Ok(()) => {
                    inner.unsynced.drain(..taken);
                    inner.number = header.number;
                    inner.synced = opening;
                    inner.notes.flushed();
                    inner.failed = None;
                    self.tell_durable(&inner);
                }
                Err(source) => {
                    let error = JournalError::io("begin", &*self.disk, &segment::name(header.number))(source);
                    self.not_begun(&mut inner, crate::kernel::fault::chain(&error));
                }
            }
        }
        inner.syncing = false;
        self.synced.notify_all();
        inner
    }

    /// Nothing is lost: what the disk may not have stays in memory until there is a segment again.
    fn not_begun(&self, inner: &mut Inner, why: String) {
        tracing::error!(error = why, "the journal cannot go on");
        inner.note_failure();
        self.broken(inner, why);
    }
}

/// What was written to the old segment while the new one was, as it goes into the new one.
struct Delta {
    frames: Vec<u8>,
    last: Chain,
}

impl Delta {
    fn of(inner: &Inner, taken: usize, opening: Synced) -> Self {
        let mut delta = Self { frames: Vec::new(), last: opening.last };
        for record in reader::usage_in(&inner.unsynced[taken..]) {
            let mut buffer = [0; MAX_USAGE_FRAME];
            let seq = delta.last.seq + 1;
            // The opening is on disk whenever these can be read.
            let place = Place { seq, durable: opening.last.seq, before: delta.last.hash };
            let len = frame::encode_usage(&mut buffer, place, &record);
            delta.last = Chain { seq, hash: frame::hash(&buffer[..len]) };
            delta.frames.extend_from_slice(&buffer[..len]);
        }
        delta
    }
}
