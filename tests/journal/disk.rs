//! A simulated disk: page cache and platter, errors on demand, and three ways to crash.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard},
};

use tollgate::metering::journal::{Disk, DiskFile};

/// What the smallest unit is that a power loss keeps, drops or trashes.
const SECTOR: usize = 4_096;

/// What can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Create,
    Write,
    Sync,
    Rename,
    SyncFolder,
    Remove,
    Read,
}

/// What happens while a sync is under way.
type Meanwhile = Box<dyn FnOnce() + Send>;

/// An error to come: after so many calls of that kind, so many times.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub op: Op,
    pub after: u32,
    pub times: u32,
    pub full: bool,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: the kernel still has everything.
    Kill,
    /// Power loss: what was not synced is gone.
    Dropped,
    /// Power loss: of what was not synced, each sector is there, gone, or garbage.
    Trashed,
}

#[derive(Clone, Default)]
struct Content {
    /// What reads see.
    cached: Vec<u8>,
    /// What a power loss leaves.
    durable: Vec<u8>,
    /// Sectors that differ, possibly.
    dirty: Vec<bool>,
}

type FileRef = Arc<Mutex<Content>>;

#[derive(Default)]
struct State {
    names: BTreeMap<String, FileRef>,
    durable_names: BTreeMap<String, FileRef>,
    faults: Vec<Fault>,
    /// So many bytes the next write writes before it fails.
    short: Option<usize>,
    /// What happens during a sync, and how many syncs later.
    meanwhile: Option<(u32, Meanwhile)>,
    random: u64,
}

/// The disk; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

struct SimFile {
    disk: SimDisk,
    content: FileRef,
}

impl State {
    /// `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fail(&mut self, op: Op) -> io::Result<()> {
        let Some(index) = self.faults.iter().position(|fault| fault.op == op) else { return Ok(()) };
        let fault = &mut self.faults[index];
        if fault.after > 0 {
            fault.after -= 1;
            return Ok(());
        }
        let kind = if fault.full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
        fault.times = fault.times.saturating_sub(1);
        if fault.times == 0 {
            self.faults.remove(index);
        }
        Err(io::Error::new(kind, "simulated"))
    }
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State { random: seed, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Errors to come.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// The next write fails after so many bytes.
    pub fn cut_short(&self, bytes: usize) {
        self.inject(Fault { op: Op::Write, after: 0, times: 1, full: true });
        self.state().short = Some(bytes);
    }

    /// The disk works again.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Something happens while a file or the folder is synced, after so many syncs.
    pub fn meanwhile(&self, after: u32, what: Meanwhile) {
        self.state().meanwhile = Some((after, what));
    }

    /// Nothing happens any more.
    pub fn undisturbed(&self) {
        self.state().meanwhile = None;
    }

    fn sync_begins(&self) {
        let mut state = self.state();
        let due = match &mut state.meanwhile {
            Some((0, _)) => state.meanwhile.take(),
            Some((after, _)) => {
                *after -= 1;
                None
            }
            None => None,
        };
        drop(state);
        if let Some((_, what)) = due {
            what();
        }
    }

    /// Garbage in a segment, about one in `65_536` parts of the way through all of them; `false` when there is none.
    pub fn damage(&self, at: u16) -> bool {
        let state = self.state();
        let files: Vec<&FileRef> =
            state.names.iter().filter(|(name, _)| name.ends_with(".journal")).map(|(_, file)| file).collect();
        let place = usize::from(at) * files.len();
        let Some(file) = files.get(place >> 16) else { return false };
        let mut content = file.lock().unwrap();
        let at = ((place & 0xffff) * content.cached.len()) >> 16;
        let end = (at + 16).min(content.cached.len());
        content.cached[at..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
        let whole = content.cached.clone();
        content.durable = whole;
        true
    }

    /// What the next process finds. Whoever has files of this disk open keeps the old one.
    pub fn crash(&self, how: Crash) -> Self {
        let mut state = self.state();
        let keep_names = how == Crash::Kill || (how == Crash::Trashed && state.random().is_multiple_of(2));
        let names = if keep_names { state.names.clone() } else { state.durable_names.clone() };
        let mut after = State { random: state.random(), ..State::default() };
        for (name, file) in names {
            let mut content = file.lock().unwrap().clone();
            match how {
                Crash::Kill => {}
                Crash::Dropped => content.cached.clone_from(&content.durable),
                Crash::Trashed => trash(&mut content, &mut state),
            }
            if how != Crash::Kill {
                content.durable.clone_from(&content.cached);
                content.dirty.fill(false);
            }
            after.names.insert(name, Arc::new(Mutex::new(content)));
        }
        after.durable_names = after.names.clone();
        Self(Arc::new(Mutex::new(after)))
    }

    /// A copy of the folder, as `cp -r` makes it from a running process's.
    pub fn copied(&self) -> Self {
        let copy = self.crash(Crash::Kill);
        for file in copy.state().names.values() {
            let mut content = file.lock().unwrap();
            let cached = content.cached.clone();
            content.durable = cached;
            content.dirty.fill(false);
        }
        copy
    }
}

fn trash(content: &mut Content, state: &mut State) {
    for sector in 0..content.dirty.len() {
        if !content.dirty[sector] {
            continue;
        }
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(content.cached.len());
        match state.random() % 3 {
            0 => {}
            1 => {
                let durable = content.durable[range.clone()].to_vec();
                content.cached[range].copy_from_slice(&durable);
            }
            _ => content.cached[range].iter_mut().for_each(|byte| *byte = state.random().to_le_bytes()[0]),
        }
    }
}

impl fmt::Display for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

impl SimDisk {
    fn file(&self, content: FileRef) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), content })
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.fail(Op::Create)?;
        let zeros = vec![0; usize::try_from(bytes).unwrap()];
        let dirty = vec![false; zeros.len().div_ceil(SECTOR)];
        let content = Arc::new(Mutex::new(Content { cached: zeros.clone(), durable: zeros, dirty }));
        state.names.insert(name.to_owned(), Arc::clone(&content));
        drop(state);
        Ok(self.file(content))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let content = self.state().names.get(name).cloned();
        content.map(|content| self.file(content)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.fail(Op::Rename)?;
        let content = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.fail(Op::Remove)?;
        state.names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_begins();
        let mut state = self.state();
        state.fail(Op::SyncFolder)?;
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().cached.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.state().fail(Op::Read)?;
        let content = self.content.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        let bytes = content.cached.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let failed = state.fail(Op::Write);
        // A failed write leaves a part, never all.
        let part = match state.short.take() {
            Some(short) if failed.is_err() => short.min(bytes.len() - 1),
            _ => usize::try_from(state.random() % bytes.len() as u64).unwrap(),
        };
        let written = if failed.is_err() { &bytes[..part] } else { bytes };
        let mut content = self.content.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        assert!(at + bytes.len() <= content.cached.len(), "a write beyond the room that was reserved");
        content.cached[at..at + written.len()].copy_from_slice(written);
        for sector in at / SECTOR..(at + written.len()).div_ceil(SECTOR) {
            content.dirty[sector] = true;
        }
        failed
    }

    fn sync(&self) -> io::Result<()> {
        // What is written from now on is not part of it.
        let begun = self.content.lock().unwrap().clone();
        self.disk.sync_begins();
        let failed = self.disk.state().fail(Op::Sync);
        let mut content = self.content.lock().unwrap();
        if failed.is_err() {
            // The kernel takes the pages for clean now, and the next sync succeeds without them.
            content.dirty.fill(false);
            return failed;
        }
        for sector in 0..begun.dirty.len() {
            if begun.dirty[sector] {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(begun.cached.len());
                content.durable[range.clone()].copy_from_slice(&begun.cached[range.clone()]);
                content.dirty[sector] = content.cached[range.clone()] != begun.cached[range];
            }
        }
        Ok(())
    }
}
