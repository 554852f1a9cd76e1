//! The flusher: one thread that syncs what was written, prepares the next segment, and mends the journal after a
//! failed disk.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use super::{
    segment,
    writer::{Inner, Shared},
};

/// A broken journal is tried again this often.
const RETRY: Duration = Duration::from_millis(500);
const THREAD: &str = "journal-flush";

/// The flusher's thread.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let its = Arc::clone(shared);
        let thread = std::thread::Builder::new().name(THREAD.into()).spawn(move || run(&its))?;
        Ok(Self { shared: Arc::clone(shared), thread: Some(thread) })
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
        // A thread that panicked has said so.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn run(shared: &Shared) {
    while wait(shared) {
        flush(shared);
        mend(shared);
        prepare(shared);
    }
}

/// Waits for something to do, then for the rest of the interval unless somebody waits for the disk.
fn wait(shared: &Shared) -> bool {
    let interval = Duration::from_millis(shared.options.flush_ms);
    let inner = shared.lock();
    let idle = |inner: &mut Inner| {
        let nothing = inner.unsynced.is_empty() && !inner.waiting_durable;
        nothing && inner.broken.is_none() && inner.prepared.is_some() && !inner.closed
    };
    let Ok(inner) = shared.wake.wait_while(inner, idle) else { return false };
    let patient = |inner: &mut Inner| !inner.waiting_durable && !inner.closed;
    let pause = if inner.broken.is_some() || inner.no_room { RETRY } else { interval };
    let Ok((inner, _)) = shared.wake.wait_timeout_while(inner, pause, patient) else { return false };
    !inner.closed
}

/// Syncs what was written until now.
pub(super) fn flush(shared: &Shared) {
    let (file, number, upto, bytes) = {
        let mut inner = shared.lock();
        inner.waiting_durable = false;
        let synced = super::writer::Synced { offset: inner.offset, seq: inner.last_seq, hash: inner.last_hash };
        (Arc::clone(&inner.file), inner.number, synced, inner.unsynced.len())
    };
    if bytes == 0 {
        shared.durable.send_replace(upto.seq);
        return;
    }
    // Without the lock: records go on being written meanwhile.
    let result = file.sync_data();
    let mut inner = shared.lock();
    match result {
        // The next segment was begun meanwhile, and what this sync was about was synced then.
        Ok(()) if inner.number != number => {}
        Ok(()) => {
            inner.unsynced.drain(..bytes);
            inner.synced = upto;
        }
        Err(error) => {
            tracing::error!(%error, "syncing the journal failed");
            write_again(shared, &mut inner);
            return;
        }
    }
    let reached = inner.synced.seq.max(if inner.unsynced.is_empty() { inner.last_seq } else { 0 });
    drop(inner);
    shared.durable.send_if_modified(|durable| {
        let more = reached > *durable;
        *durable = reached.max(*durable);
        more
    });
}

/// After a failed sync the kernel may have thrown the pages away, and the file is not trusted again: the next
/// segment says how much of it holds, and what came after that is written there once more, with the same numbers.
pub(super) fn write_again(shared: &Shared, inner: &mut Inner) {
    let frames = std::mem::take(&mut inner.unsynced);
    let (last_seq, last_hash) = (inner.last_seq, inner.last_hash);
    inner.last_seq = inner.synced.seq;
    inner.last_hash = inner.synced.hash;
    let holds = inner.synced.offset;
    if shared.next_segment(inner, Some(holds)).is_err() {
        // Nothing is lost: the frames stay in memory until there is a segment again.
        inner.unsynced = frames;
        inner.last_seq = last_seq;
        inner.last_hash = last_hash;
        return;
    }
    for record in super::reader::usage_in(&frames) {
        let mut buffer = [0; super::frame::MAX_USAGE_FRAME];
        let seq = inner.last_seq + 1;
        let len = super::frame::encode_usage(&mut buffer, seq, &inner.last_hash, &record);
        if let Err(error) = inner.rewrite(&buffer[..len], seq) {
            inner.broken = Some(format!("writing again after a failed sync failed: {error}"));
            return;
        }
    }
}

/// Tries to get a broken journal going again, with another segment.
fn mend(shared: &Shared) {
    let mut inner = shared.lock();
    if inner.broken.is_none() || inner.closed {
        return;
    }
    inner.broken = None;
    write_again(shared, &mut inner);
    if inner.broken.is_none() {
        tracing::info!("the journal takes records again");
    }
}

/// Makes room for the next segment ahead of need; whether there is room now. After a failure only the flusher's own
/// thread tries again, at its own pace.
pub(super) fn prepare(shared: &Shared) -> bool {
    let mut inner = shared.lock();
    if inner.prepared.is_some() {
        return true;
    }
    let own_thread = std::thread::current().name() == Some(THREAD);
    if inner.broken.is_some() || inner.closed || (inner.no_room && !own_thread) {
        return false;
    }
    // Under the lock, so that two threads do not make it at once. The flusher does it ahead of need, so that requests
    // rarely wait for this.
    match segment::prepare(&shared.options.folder, shared.options.segment_bytes) {
        Ok(prepared) => {
            inner.prepared = Some(prepared);
            inner.no_room = false;
            true
        }
        Err(error) => {
            if !inner.no_room {
                tracing::warn!(error = crate::kernel::fault::chain(&error), "no room for the next journal segment");
            }
            inner.no_room = true;
            false
        }
    }
}
