//! Reading the journal for the roller: every record once, in order, and never beyond what the disk has.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use super::{
    Chain, Journal, JournalError, Record,
    frame::{self, Content, MAX_FRAME},
    segment::{self, HEADER_BYTES, Header},
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

/// A run of records of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The boot nonce of the process that wrote them.
    pub boot: Uuid,
    /// Where the chain is after them.
    pub last: Chain,
    /// The records; none where a segment has only names.
    pub entries: Vec<Entry>,
}

/// Where reading goes on. Begins at the oldest segment; names are learned on the way.
pub struct Reader {
    journal: Journal,
    at: Option<Position>,
    meters: HashMap<u16, Arc<str>>,
    routes: HashMap<u16, Arc<str>>,
}

#[derive(Clone, Copy)]
struct Position {
    header: Header,
    offset: u64,
    last: Chain,
}

impl Reader {
    /// Reads from the oldest record on.
    pub fn new(journal: &Journal) -> Self {
        Self { journal: journal.clone(), at: None, meters: HashMap::new(), routes: HashMap::new() }
    }

    /// The segment that is being read; all before it were read to their end.
    pub fn segment(&self) -> u64 {
        self.at.map_or(0, |at| at.header.number)
    }

    /// The last record that was read.
    pub fn seq(&self) -> u64 {
        self.at.map_or(0, |at| at.last.seq)
    }

    /// About `most` further records of one process; `None` when the disk has no more. Reads files: not for async code.
    pub fn next_batch(&mut self, most: usize) -> Result<Option<Batch>, JournalError> {
        let shared = Arc::clone(&self.journal.shared);
        let disk = &*shared.disk;
        loop {
            // Taken before the segments are listed: everything up to here is in a segment that the list has.
            let (current, synced) = {
                let inner = shared.lock();
                (inner.number, inner.synced.offset)
            };
            let numbers = segment::list(disk)?;
            let mut at = if let Some(at) = self.at {
                at
            } else {
                let first = numbers.iter().find(|number| **number >= shared.start.segment);
                Position::start_of(Header::read(disk, first.copied().unwrap_or(current))?)
            };
            let number = at.header.number;
            let next = numbers.into_iter().find(|other| *other > number);
            let next = next.filter(|_| number < current).map(|next| Header::read(disk, next)).transpose()?;
            let end = match next {
                Some(next) if next.previous == number => next.previous_holds,
                Some(next) => return Err(JournalError::foreign(disk, next.number, "the segment before it is missing")),
                None => synced,
            };
            let entries = self.read_segment(&mut at, end, most)?;
            self.at = Some(at);
            if !entries.is_empty() {
                return Ok(Some(Batch { boot: at.header.identity.boot, last: at.last, entries }));
            }
            match next {
                Some(next) => self.at = Some(Position::start_of(next)),
                None => return Ok(None),
            }
        }
    }

    fn read_segment(&mut self, at: &mut Position, end: u64, most: usize) -> Result<Vec<Entry>, JournalError> {
        let shared = Arc::clone(&self.journal.shared);
        let (disk, name) = (&*shared.disk, segment::name(at.header.number));
        let gap = shared.start.gap.filter(|_| at.header.number == shared.start.segment);
        let file = disk.open(&name).map_err(JournalError::io("open", disk, &name))?;
        let (mut entries, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        while at.offset < end && entries.len() < most {
            if let Some(gap) = gap.filter(|gap| gap.from == at.offset) {
                (at.offset, at.last) = (gap.to, gap.last);
                continue;
            }
            let end = gap.filter(|gap| at.offset < gap.from).map_or(end, |gap| gap.from);
            let wanted = usize::try_from(end - at.offset).unwrap_or(CHUNK).min(CHUNK);
            file.read_at(&mut chunk[..wanted], at.offset).map_err(JournalError::io("read", disk, &name))?;
            let mut used = 0;
            while used < wanted && entries.len() < most {
                match frame::decode(&chunk[used..wanted]) {
                    Ok(frame) => {
                        used += frame.len;
                        at.last = Chain { seq: frame.seq, hash: frame.hash };
                        entries.extend(self.take(frame.seq, frame.content));
                    }
                    // The chunk ends within a frame, and there is more of the file.
                    Err(_) if wanted - used < MAX_FRAME && at.offset + (wanted as u64) < end => break,
                    Err(_) => {
                        let (path, offset) = (format!("{disk}/{name}"), at.offset + used as u64);
                        let why = "a record that was written cannot be read";
                        return Err(JournalError::Damaged { path, offset, seq: at.last.seq, why });
                    }
                }
            }
            at.offset += used as u64;
        }
        Ok(entries)
    }

    fn take(&mut self, seq: u64, content: Content) -> Option<Entry> {
        match content {
            Content::Meter(number, name) => drop(self.meters.insert(number, name.into())),
            Content::Route(number, name) => drop(self.routes.insert(number, name.into())),
            Content::Mark | Content::Padding => {}
            Content::Usage(record) => {
                let name = |names: &HashMap<u16, Arc<str>>, number| names.get(&number).cloned().unwrap_or_default();
                let meters = record.amounts.as_slice().iter().map(|amount| name(&self.meters, amount.meter)).collect();
                return Some(Entry { seq, record, route: name(&self.routes, record.route), meters });
            }
        }
        None
    }
}

impl Position {
    const fn start_of(header: Header) -> Self {
        Self { header, offset: HEADER_BYTES, last: header.before }
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
