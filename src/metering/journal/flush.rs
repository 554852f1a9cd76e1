//! The flusher: one thread that syncs what was written, prepares the next segment, and mends the journal after a
//! failed disk.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use super::{
    Journal,
    begin::prepare,
    frame,
    writer::{Inner, Shared, State, Synced},
};

/// A broken journal, or one without room, is tried again this often.
const RETRY: Duration = Duration::from_millis(500);

/// The flusher's thread; dropping it ends the thread and waits for that.
pub struct Flusher {
    journal: Journal,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// Tends a journal from now on.
    pub fn start(journal: &Journal) -> io::Result<Self> {
        let its = journal.clone();
        let thread = std::thread::Builder::new().name("journal-flush".into()).spawn(move || its.run())?;
        Ok(Self { journal: journal.clone(), thread: Some(thread) })
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.journal.shared.lock().state = State::Closed;
        self.journal.shared.wake.notify_all();
        // A thread that panicked has said so.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

impl Journal {
    fn run(&self) {
        while self.shared.wait_for_work() {
            self.tend();
        }
    }

    /// What the flusher does each round: mends, syncs, makes room.
    pub fn tend(&self) {
        self.shared.make_room();
        self.shared.mend();
        self.flush();
        self.shared.make_room();
    }

    /// Syncs what was written before the call.
    pub fn flush(&self) {
        let shared = &*self.shared;
        let mut inner = shared.wait_synced(shared.lock());
        inner.waiting_durable = false;
        if let State::Suspect(_) = inner.state {
            shared.next_segment(&mut inner);
            return;
        }
        // A mark alone waits for the next record.
        if inner.last.seq == inner.synced.last.seq || matches!(inner.state, State::Broken(_)) {
            return;
        }
        if let Err(error) = inner.pad() {
            inner.suspect("writing to the journal failed", &error);
            shared.next_segment(&mut inner);
            return;
        }
        let (file, bytes) = (Arc::clone(&inner.file), inner.unsynced.len());
        let upto = Synced { offset: inner.offset, last: inner.last };
        inner.syncing = true;
        drop(inner);
        // Without the lock: records go on being written meanwhile.
        let result = file.sync();
        let mut inner = shared.lock();
        inner.syncing = false;
        match result {
            Ok(()) => {
                inner.unsynced.drain(..bytes);
                inner.synced = upto;
                inner.notes.flushed();
                shared.tell_durable(&inner);
                inner.mark();
            }
            Err(error) => {
                inner.suspect("syncing the journal failed", &error);
                shared.next_segment(&mut inner);
            }
        }
        drop(inner);
        shared.synced.notify_all();
    }

    /// Takes no more records and syncs those that were written.
    pub fn close(&self) {
        self.shared.lock().state = State::Closed;
        self.flush();
        // A failed sync has begun another segment.
        self.shared.lock().state = State::Closed;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    /// Waits for something to do, then for the rest of the interval unless somebody waits for the disk.
    fn wait_for_work(&self) -> bool {
        let interval = Duration::from_millis(self.options.flush_ms);
        let open = |inner: &Inner| inner.state == State::Open;
        let idle = |inner: &mut Inner| {
            let nothing = inner.last.seq == inner.synced.last.seq && !inner.waiting_durable;
            nothing && inner.prepared.is_some() && open(inner)
        };
        let Ok(inner) = self.wake.wait_while(self.lock(), idle) else { return false };
        let pause = if inner.struggling { RETRY } else { interval };
        let patient = |inner: &mut Inner| !inner.waiting_durable && inner.state != State::Closed;
        let Ok((inner, _)) = self.wake.wait_timeout_while(inner, pause, patient) else { return false };
        inner.state != State::Closed
    }

    /// Tries to get a broken journal going again, with another segment.
    fn mend(&self) {
        let mut inner = self.wait_synced(self.lock());
        let State::Broken(why) = &inner.state else { return };
        if inner.prepared.is_none() {
            return;
        }
        inner.state = State::Suspect(why.clone());
        self.next_segment(&mut inner);
        inner.struggling = inner.state != State::Open;
        if !inner.struggling {
            tracing::info!("the journal takes records again");
        }
    }

    /// Makes the next segment's file ahead of need.
    fn make_room(&self) {
        {
            let inner = self.lock();
            if inner.prepared.is_some() || inner.state == State::Closed {
                return;
            }
        }
        // Without the lock, because it takes milliseconds.
        let made = prepare(&*self.disk, &self.options, self.identity);
        let mut inner = self.lock();
        match made {
            Ok(file) => {
                inner.struggling = matches!(inner.state, State::Broken(_)) && inner.struggling;
                inner.prepared = Some(file);
            }
            Err(error) => {
                let error = crate::kernel::fault::chain(&error);
                inner.notes.went_wrong(&format!("no room for the next journal segment: {error}"));
                if !inner.struggling {
                    tracing::warn!(error, "no room for the next journal segment");
                }
                inner.struggling = true;
            }
        }
    }
}

impl Inner {
    /// Ends the block, so that what is about to be on disk is never written again.
    fn pad(&mut self) -> io::Result<()> {
        let seq = self.last.seq;
        let padding = frame::encode_padding(self.place(seq), self.offset);
        self.write(&padding, seq)
    }

    /// Says on disk, some time, that the disk has everything, so that later damage is told from a torn tail.
    fn mark(&mut self) {
        if !self.unsynced.is_empty() || self.state != State::Open {
            return;
        }
        let seq = self.last.seq;
        let frame = frame::encode_mark(self.place(seq));
        if let Err(error) = self.write(&frame, seq) {
            self.suspect("writing to the journal failed", &error);
        }
    }
}
