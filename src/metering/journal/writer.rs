//! Writing: one `pwrite(2)` a record, under a lock that is held for about a microsecond and never across an await.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use uuid::Uuid;

use super::{
    JournalError, Options, Record, flush,
    frame::{self, Hash, MAX_USAGE_FRAME},
    recovery,
    segment::{self, HEADER_BYTES, HEADER_LEN, Header},
};
use crate::kernel::{Clock, NodeId, Rng, ids::uuid_v7, rng::random_bytes};

/// This node's journal; cheap to clone. With the last clone the flusher ends, so that whoever opens the folder next is
/// alone with it.
#[derive(Clone)]
pub struct Journal {
    pub(super) shared: Arc<Shared>,
    _flusher: Arc<flush::Flusher>,
}

pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) node: NodeId,
    pub(super) epoch: u64,
    pub(super) boot: Uuid,
    pub(super) inner: Mutex<Inner>,
    /// Wakes the flusher: new records, a durable waiter, the end.
    pub(super) wake: Condvar,
    /// The last sequence number that the disk has.
    pub(super) durable: watch::Sender<u64>,
}

/// What the lock guards.
pub(super) struct Inner {
    pub(super) file: Arc<File>,
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) last_seq: u64,
    pub(super) last_hash: Hash,
    /// Bytes promised to requests under way.
    pub(super) reserved: u64,
    /// Room for the next segment, made ahead of need.
    pub(super) prepared: Option<PathBuf>,
    /// Frames since the last sync, to be written again should it fail.
    pub(super) unsynced: Vec<u8>,
    /// Where the synced part ends.
    pub(super) synced: Synced,
    /// Why records are refused now.
    pub(super) broken: Option<String>,
    pub(super) waiting_durable: bool,
    /// Making room failed last time.
    pub(super) no_room: bool,
    pub(super) closed: bool,
}

/// The end of what the disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Synced {
    pub(super) offset: u64,
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

/// How the journal is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalHealth {
    /// The last record written.
    pub last_seq: u64,
    /// The last record that the disk has.
    pub durable_seq: u64,
    /// Why records are refused now, if they are.
    pub error: Option<String>,
}

impl Journal {
    /// Opens the journal in its folder: reads through what is there, then begins a segment of its own.
    pub fn open(options: Options, clock: &dyn Clock, rng: &dyn Rng) -> Result<Self, JournalError> {
        let folder = options.folder.clone();
        std::fs::create_dir_all(&folder).map_err(JournalError::io("make", &folder))?;
        let before = recovery::recover(&folder, options.accept_loss)?;
        let node = before.map_or_else(|| NodeId::from_uuid(uuid_v7(clock.now(), rng)), |before| before.node);
        let epoch = before.map_or(1, |before| before.epoch + 1);
        let boot = Uuid::from_bytes(random_bytes(rng));
        let header = Header {
            node,
            epoch,
            boot,
            number: before.map_or(1, |before| before.segment + 1),
            last_seq: before.map_or(0, |before| before.last_seq),
            last_hash: before.map_or(Hash::default(), |before| before.last_hash),
            previous: before.map_or(0, |before| before.segment),
            previous_holds: before.map_or(0, |before| before.holds),
        };
        let prepared = segment::prepare(&folder, options.segment_bytes)?;
        let file = segment::create(&folder, &prepared, &header)?;
        let synced = Synced { offset: HEADER_BYTES, seq: header.last_seq, hash: header.last_hash };
        let mut inner = Inner {
            file: Arc::new(file),
            number: header.number,
            offset: HEADER_BYTES,
            last_seq: header.last_seq,
            last_hash: header.last_hash,
            reserved: 0,
            prepared: None,
            unsynced: Vec::new(),
            synced,
            broken: None,
            waiting_durable: false,
            no_room: false,
            closed: false,
        };
        inner.write_names(&options).map_err(JournalError::io("write", &folder))?;
        let prepared = segment::prepare(&folder, options.segment_bytes)?;
        inner.prepared = Some(prepared);
        let (durable, _) = watch::channel(header.last_seq);
        let shared =
            Arc::new(Shared { options, node, epoch, boot, inner: Mutex::new(inner), wake: Condvar::new(), durable });
        let flusher = flush::Flusher::start(&shared).map_err(JournalError::io("start the flusher of", folder))?;
        Ok(Self { shared, _flusher: Arc::new(flusher) })
    }

    /// Whose journal it is.
    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    /// Which start of the node this is.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// Random with every start.
    pub fn boot(&self) -> Uuid {
        self.shared.boot
    }

    /// Room for one record: taken before a request is forwarded, so that writing its record cannot fail for lack of it.
    pub fn reserve(&self) -> Result<Reservation, JournalError> {
        match self.shared.promise() {
            Some(()) => Ok(Reservation { journal: Some(self.clone()) }),
            // A burst used the prepared room up before the flusher made more. On a full disk only the flusher tries.
            None if flush::prepare(&self.shared) => match self.shared.promise() {
                Some(()) => Ok(Reservation { journal: Some(self.clone()) }),
                None => Err(JournalError::Unavailable),
            },
            None => Err(JournalError::Unavailable),
        }
    }

    /// The last record written.
    pub fn last_seq(&self) -> u64 {
        self.shared.lock().last_seq
    }

    /// Waits until the disk has a record.
    pub async fn durable(&self, seq: u64) {
        {
            let mut inner = self.shared.lock();
            inner.waiting_durable = true;
            self.shared.wake.notify_one();
        }
        let mut durable = self.shared.durable.subscribe();
        // The sender lives in `shared`, which this call holds.
        drop(durable.wait_for(|reached| *reached >= seq).await);
    }

    /// How it is doing.
    pub fn health(&self) -> JournalHealth {
        let durable_seq = *self.shared.durable.borrow();
        let inner = self.shared.lock();
        JournalHealth { last_seq: inner.last_seq, durable_seq, error: inner.broken.clone() }
    }

    /// Syncs what was written and takes no more records.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        flush::flush(&self.shared);
        self.shared.wake.notify_one();
    }

    /// Removes segments all of whose records are at or before `seq`: the totals have them.
    pub fn retain_after(&self, seq: u64) -> Result<(), JournalError> {
        let folder = &self.shared.options.folder;
        let current = self.shared.lock().number;
        let numbers = segment::list(folder)?;
        for pair in numbers.windows(2) {
            let next_path = segment::path(folder, pair[1]);
            let mut bytes = [0; HEADER_LEN];
            let read = File::open(&next_path).and_then(|file| file.read_exact_at(&mut bytes, 0));
            read.map_err(JournalError::io("read", &next_path))?;
            let passed = Header::decode(&bytes).is_some_and(|next| next.last_seq <= seq);
            if !passed || pair[0] >= current {
                break;
            }
            let path = segment::path(folder, pair[0]);
            std::fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
        }
        Ok(())
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held would be a bug in pure arithmetic; the state is whole between statements.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Promises the bytes of one record; `None` when there is no room for them.
    fn promise(&self) -> Option<()> {
        let mut inner = self.lock();
        if inner.closed || inner.broken.is_some() {
            return None;
        }
        let needed = inner.reserved + MAX_USAGE_FRAME as u64;
        // Frames do not cross segments: the end of one may stay empty.
        let here = self.options.segment_bytes.saturating_sub(inner.offset + MAX_USAGE_FRAME as u64);
        let next = if inner.prepared.is_some() { self.segment_room() } else { 0 };
        if here + next < needed {
            return None;
        }
        inner.reserved = needed;
        Some(())
    }

    fn segment_room(&self) -> u64 {
        self.options.segment_bytes.saturating_sub(HEADER_BYTES + MAX_USAGE_FRAME as u64 + names_bytes(&self.options))
    }

    /// Writes a record. Refused records leave nothing that could surface later.
    fn append(&self, record: &Record) -> Result<u64, JournalError> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.broken.is_some() {
            return Err(JournalError::Unavailable);
        }
        if inner.offset + MAX_USAGE_FRAME as u64 > self.options.segment_bytes {
            self.next_segment(inner, None)?;
        }
        let mut buffer = [0; MAX_USAGE_FRAME];
        let seq = inner.last_seq + 1;
        let len = frame::encode_usage(&mut buffer, seq, &inner.last_hash, record);
        let frame = &buffer[..len];
        if let Err(error) = inner.file.write_all_at(frame, inner.offset) {
            tracing::error!(%error, "writing to the journal failed");
            // Part of the frame may be there. The next segment's header cuts it off, and everything that the disk
            // does not have yet is written there again.
            flush::write_again(self, inner);
            return self.append_to_fresh(inner, record);
        }
        self.appended(inner, frame, seq);
        Ok(seq)
    }

    fn append_to_fresh(&self, inner: &mut Inner, record: &Record) -> Result<u64, JournalError> {
        if inner.broken.is_some() {
            return Err(JournalError::Unavailable);
        }
        let mut buffer = [0; MAX_USAGE_FRAME];
        let seq = inner.last_seq + 1;
        let len = frame::encode_usage(&mut buffer, seq, &inner.last_hash, record);
        match inner.file.write_all_at(&buffer[..len], inner.offset) {
            Ok(()) => {
                self.appended(inner, &buffer[..len], seq);
                Ok(seq)
            }
            Err(error) => {
                inner.broken = Some(format!("writing failed twice: {error}"));
                Err(JournalError::Unavailable)
            }
        }
    }

    fn appended(&self, inner: &mut Inner, frame: &[u8], seq: u64) {
        let first = inner.unsynced.is_empty();
        inner.written(frame, seq);
        if first {
            self.wake.notify_one();
        }
    }

    /// Begins the prepared segment; `holds` is how much of the old one counts, when not all that was written does.
    pub(super) fn next_segment(&self, inner: &mut Inner, holds: Option<u64>) -> Result<(), JournalError> {
        let result = (|| {
            let prepared = match inner.prepared.take() {
                Some(prepared) => prepared,
                None => segment::prepare(&self.options.folder, self.options.segment_bytes)?,
            };
            // Whatever the old file has must be on disk before a header says that it holds.
            if holds.is_none() {
                inner.file.sync_data().map_err(JournalError::io("sync", &self.options.folder))?;
                inner.note_synced();
            }
            let header = Header {
                node: self.node,
                epoch: self.epoch,
                boot: self.boot,
                number: inner.number + 1,
                last_seq: inner.last_seq,
                last_hash: inner.last_hash,
                previous: inner.number,
                previous_holds: holds.unwrap_or(inner.offset),
            };
            let file = segment::create(&self.options.folder, &prepared, &header)?;
            inner.file = Arc::new(file);
            inner.number = header.number;
            inner.offset = HEADER_BYTES;
            inner.synced.offset = HEADER_BYTES;
            inner.write_names(&self.options).map_err(JournalError::io("write", &self.options.folder))
        })();
        if let Err(error) = &result {
            inner.broken = Some(crate::kernel::fault::chain(error));
        }
        self.wake.notify_one();
        result
    }
}

impl Inner {
    /// Writes what the numbers of meters and routes stand for at the start of a segment.
    pub(super) fn write_names(&mut self, options: &Options) -> std::io::Result<()> {
        let meters = options.meters.iter().map(|name| (true, name));
        let meters = (0_u16..).zip(meters);
        let routes = options.routes.iter().map(|name| (false, name));
        let routes = (0_u16..).zip(routes);
        for (number, (is_meter, name)) in meters.chain(routes) {
            let frame = frame::encode_name(self.last_seq, &self.last_hash, is_meter, number, name);
            self.file.write_all_at(&frame, self.offset)?;
            let seq = self.last_seq;
            self.written(&frame, seq);
        }
        Ok(())
    }

    fn written(&mut self, frame: &[u8], seq: u64) {
        self.offset += frame.len() as u64;
        self.last_seq = seq;
        self.last_hash = frame::hash(frame);
        self.unsynced.extend_from_slice(frame);
    }

    pub(super) fn note_synced(&mut self) {
        self.unsynced.clear();
        self.synced = Synced { offset: self.offset, seq: self.last_seq, hash: self.last_hash };
    }
}

fn names_bytes(options: &Options) -> u64 {
    let names = options.meters.iter().chain(&options.routes);
    names.map(|name| 35 + name.len() as u64).sum()
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

impl Inner {
    /// Writes a frame that another segment lost.
    pub(super) fn rewrite(&mut self, frame: &[u8], seq: u64) -> std::io::Result<()> {
        self.file.write_all_at(frame, self.offset)?;
        self.written(frame, seq);
        Ok(())
    }
}
