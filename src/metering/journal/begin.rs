//! How a process begins: what the disk may not have is written again, then comes a segment of its own.

use std::sync::{Arc, Condvar, Mutex};

use tokio::sync::watch;

use super::{
    Chain, Disk, DiskFile, Identity, Journal, JournalError, Options, Past, Record,
    frame::{self, MAX_USAGE_FRAME, Place},
    health::Notes,
    recovery::Name,
    segment::{self, Header},
    writer::{Durable, Inner, Shared, State, Synced},
};
use crate::kernel::Clock;

impl Journal {
    /// Begins a segment of its own after what [`super::recover`] found. What the disk may not have of that is written
    /// again first, in the name of the process that wrote it. The clock tells when something happened to the journal, and
    /// nothing more.
    pub fn begin(
        disk: Arc<dyn Disk>,
        options: Options,
        past: &Past,
        identity: Identity,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JournalError> {
        let mut header =
            Header { identity, number: past.highest + 1, before: Chain::default(), previous: 0, previous_holds: 0 };
        set_aside(&*disk, past)?;
        if let Some(ending) = &past.ending {
            header.before = ending.last;
            header.previous = ending.segment;
            header.previous_holds = ending.holds;
            if !ending.unsure.is_empty() {
                let again = Header { identity: ending.identity, ..header };
                let (content, last) = opening(&again, &ending.names, ending.unsure.iter());
                let name = segment::prepared_name(identity.boot);
                let file = disk.create(&name, content.len() as u64);
                let file = file.map_err(JournalError::io("reserve room in", &*disk, &name))?;
                segment::begin(&*disk, &*file, identity.boot, again.number, &content)?;
                header.previous = again.number;
                header.previous_holds = content.len() as u64;
                header.before = last;
                header.number += 1;
            }
        }
        let (content, last) = opening(&header, &names(&options.meters, &options.routes), std::iter::empty());
        let file = prepare(&*disk, &options, identity)?;
        segment::begin(&*disk, &*file, identity.boot, header.number, &content)?;
        let offset = content.len() as u64;
        let inner = Inner {
            file,
            number: header.number,
            offset,
            last,
            synced: Synced { offset, last },
            unsynced: Vec::new(),
            syncing: false,
            reserved: 0,
            routes: options.routes.clone(),
            meters: options.meters.clone(),
            prepared: None,
            making: false,
            state: State::Open,
            closed: false,
            tended: false,
            waiting_durable: false,
            notes: Notes::new(clock),
            failed: None,
        };
        let (durable, _) = watch::channel(Durable { seq: last.seq, broken: false });
        let shared = Shared {
            disk,
            options,
            identity,
            start: past.start,
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            synced: Condvar::new(),
            durable,
        };
        let journal = Self { shared: Arc::new(shared) };
        journal.tend();
        Ok(journal)
    }
}

/// Segments that were given up get another name; files that were to become segments go.
fn set_aside(disk: &dyn Disk, past: &Past) -> Result<(), JournalError> {
    for number in &past.given_up {
        let name = segment::name(*number);
        disk.rename(&name, &format!("{name}.lost")).map_err(JournalError::io("rename", disk, &name))?;
    }
    let names = disk.list().map_err(JournalError::io("list", disk, ""))?;
    for name in names.iter().filter(|name| name.ends_with(segment::PREPARED)) {
        disk.remove(name).map_err(JournalError::io("remove", disk, name))?;
    }
    Ok(())
}

/// Makes the file of the next segment.
pub(super) fn prepare(
    disk: &dyn Disk,
    options: &Options,
    identity: Identity,
) -> Result<Arc<dyn DiskFile>, JournalError> {
    let name = segment::prepared_name(identity.boot);
    disk.create(&name, options.segment_bytes).map_err(JournalError::io("reserve room in", disk, &name))
}

/// What a segment begins with: its header, what the numbers of meters and routes stand for, and the records that the
/// disk may have lost. All of it is on disk before the segment gets its name.
pub(super) fn opening<'a>(
    header: &Header,
    names: &[Name],
    records: impl Iterator<Item = &'a Record>,
) -> (Vec<u8>, Chain) {
    let mut content = header.encode().to_vec();
    let mut last = header.before;
    let durable = last.seq;
    for Name { is_meter, number, text } in names {
        let frame = frame::encode_name(Place { seq: last.seq, durable, before: last.hash }, *is_meter, *number, text);
        last.hash = frame::hash(&frame);
        content.extend_from_slice(&frame);
    }
    for record in records {
        let mut buffer = [0; MAX_USAGE_FRAME];
        let seq = last.seq + 1;
        let len = frame::encode_usage(&mut buffer, Place { seq, durable, before: last.hash }, record);
        last = Chain { seq, hash: frame::hash(&buffer[..len]) };
        content.extend_from_slice(&buffer[..len]);
    }
    let place = Place { seq: last.seq, durable, before: last.hash };
    let padding = frame::encode_padding(place, content.len() as u64);
    last.hash = frame::hash(&padding);
    content.extend_from_slice(&padding);
    (content, last)
}

/// What the numbers of this process stand for.
pub(super) fn names(meters: &[String], routes: &[String]) -> Vec<Name> {
    let meters = (0_u16..).zip(meters).map(|(number, name)| (true, number, name));
    let routes = (0_u16..).zip(routes).map(|(number, name)| (false, number, name));
    meters.chain(routes).map(|(is_meter, number, name)| Name { is_meter, number, text: name.clone() }).collect()
}
