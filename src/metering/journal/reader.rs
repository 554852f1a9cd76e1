//! Reading the journal for the roller: every record once, in order, never beyond what was written.

use std::{collections::HashMap, fs::File, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use super::{
    Journal, JournalError, Record,
    frame::{self, Content, MAX_FRAME},
    segment::{self, HEADER_BYTES, HEADER_LEN, Header},
};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// A record with its number and what its own numbers stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The sequence number.
    pub seq: u64,
    /// The record.
    pub record: Record,
    /// The route's name.
    pub route: Arc<str>,
    /// The names of the record's meters, in the order of its amounts.
    pub meters: Vec<Arc<str>>,
}

/// Where reading goes on. Begins at the oldest segment; names are learned on the way.
pub struct Reader {
    journal: Journal,
    segment: Option<u64>,
    offset: u64,
    last_seq: u64,
    meters: HashMap<u16, Arc<str>>,
    routes: HashMap<u16, Arc<str>>,
}

impl Reader {
    /// Reads what comes after sequence number `after`.
    pub fn new(journal: &Journal, after: u64) -> Self {
        let (meters, routes) = (HashMap::new(), HashMap::new());
        Self { journal: journal.clone(), segment: None, offset: HEADER_BYTES, last_seq: after, meters, routes }
    }

    /// The last record read.
    pub const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Up to about `most` further records; none when there are none yet. Reads files: not for async code.
    pub fn next_batch(&mut self, most: usize) -> Result<Vec<Entry>, JournalError> {
        let folder = self.journal.shared.options.folder.clone();
        // Taken before the segments are listed: everything up to here is in a segment that the list has.
        let (current, written) = {
            let inner = self.journal.shared.lock();
            (inner.number, inner.offset)
        };
        let numbers = segment::list(&folder)?;
        let mut entries = Vec::new();
        let mut at = match self.segment {
            Some(number) => number,
            None => *numbers.first().unwrap_or(&current),
        };
        while entries.len() < most && at <= current {
            let next = numbers.iter().copied().find(|number| *number > at);
            let end = if at == current { written } else { end_of(&folder, at, next)? };
            if self.segment != Some(at) {
                self.segment = Some(at);
                self.offset = HEADER_BYTES;
            }
            self.read_segment(&segment::path(&folder, at), end, most, &mut entries)?;
            if self.offset < end {
                break;
            }
            match next {
                Some(next) if at < current => at = next,
                _ => break,
            }
        }
        Ok(entries)
    }

    fn read_segment(
        &mut self,
        path: &PathBuf,
        end: u64,
        most: usize,
        entries: &mut Vec<Entry>,
    ) -> Result<(), JournalError> {
        let file = File::open(path).map_err(JournalError::io("open", path))?;
        let mut chunk = vec![0; CHUNK];
        while self.offset < end && entries.len() < most {
            let wanted = usize::try_from(end - self.offset).unwrap_or(CHUNK).min(CHUNK);
            file.read_exact_at(&mut chunk[..wanted], self.offset).map_err(JournalError::io("read", path))?;
            let mut used = 0;
            while used < wanted && entries.len() < most {
                match frame::decode(&chunk[used..wanted]) {
                    Ok(frame) => {
                        used += frame.len;
                        self.take(frame.seq, frame.content, entries);
                    }
                    // The chunk ends within a frame, and there is more of the file.
                    Err(_) if wanted - used < MAX_FRAME && self.offset + (wanted as u64) < end => break,
                    Err(_) => {
                        let offset = self.offset + used as u64;
                        let why = "a record that was written cannot be read";
                        return Err(JournalError::Damaged { path: path.clone(), offset, why, lost: end - offset });
                    }
                }
            }
            self.offset += used as u64;
        }
        Ok(())
    }

    fn take(&mut self, seq: u64, content: Content, entries: &mut Vec<Entry>) {
        match content {
            Content::Meter(number, name) => drop(self.meters.insert(number, name.into())),
            Content::Route(number, name) => drop(self.routes.insert(number, name.into())),
            // Written again after a failed sync, or counted before the last restart.
            Content::Usage(_) if seq <= self.last_seq => {}
            Content::Usage(record) => {
                let name =
                    |names: &HashMap<u16, Arc<str>>, number| names.get(&number).cloned().unwrap_or_else(|| "".into());
                let meters = record.amounts.as_slice().iter().map(|amount| name(&self.meters, amount.meter)).collect();
                entries.push(Entry { seq, record, route: name(&self.routes, record.route), meters });
                self.last_seq = seq;
            }
        }
    }
}

/// How much of a segment that is no longer written to holds: the next one says so.
fn end_of(folder: &std::path::Path, number: u64, next: Option<u64>) -> Result<u64, JournalError> {
    let path = segment::path(folder, next.unwrap_or(number));
    let mut bytes = [0; HEADER_LEN];
    File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, 0)).map_err(JournalError::io("read", &path))?;
    match Header::decode(&bytes) {
        Some(header) if header.previous == number => Ok(header.previous_holds),
        _ => Err(JournalError::Foreign { path, why: "it does not follow the segment before it" }),
    }
}

/// The usage records in a run of frames of our own making.
pub(super) fn usage_in(mut frames: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Ok(frame) = frame::decode(frames) {
        if let Content::Usage(record) = frame.content {
            records.push(record);
        }
        frames = &frames[frame.len..];
    }
    records
}
