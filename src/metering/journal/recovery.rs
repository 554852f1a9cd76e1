//! What earlier processes left: every segment is read through, the chain is checked, a torn tail is told from damage.
//!
//! A power loss may take any part of what was written since the last sync, out of order. So a broken frame is a torn
//! tail only if nothing after it says that the disk had it; otherwise records are gone, and that is an alarm.
//!
//! What can be read may all the same not be on disk, and a sync by another process need not put it there: after a
//! failed one the kernel takes the pages for clean. So records that no frame says the disk has are written again.

use std::collections::VecDeque;

use uuid::Uuid;

use super::{
    Chain, Disk, Identity, JournalError, Record,
    frame::{self, Content, Frame, NoFrame},
    segment::{self, HEADER_BYTES, HEADER_LEN, Header},
};

/// How a journal was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Where it ends; `None` for a new journal.
    pub(super) ending: Option<Ending>,
    /// The highest number of any segment, in the chain or not.
    pub(super) highest: u64,
    /// Segments that are given up, with consent.
    pub(super) given_up: Vec<u64>,
}

/// Where a journal ends, and who wrote the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) identity: Identity,
    /// The last segment, how many of its bytes are on disk for sure, and where the chain is there.
    pub(super) segment: u64,
    pub(super) holds: u64,
    pub(super) last: Chain,
    /// What comes after that, to be written again.
    pub(super) unsure: VecDeque<Record>,
    /// What the numbers in it stand for.
    pub(super) names: Vec<Name>,
}

/// What a number stands for: a meter's name, or a route's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) is_meter: bool,
    pub(super) number: u16,
    pub(super) text: String,
}

impl Past {
    /// Who wrote last; `None` for a new journal.
    pub fn identity(&self) -> Option<Identity> {
        self.ending.as_ref().map(|ending| ending.identity)
    }

    /// The number of the last record; 0 for a new journal.
    pub fn last_seq(&self) -> u64 {
        self.ending.as_ref().map_or(0, |ending| ending.last.seq + ending.unsure.len() as u64)
    }
}

/// Reads through all segments and changes nothing. Damage is an error, unless its loss is accepted.
pub fn recover(disk: &dyn Disk, accept_loss: bool) -> Result<Past, JournalError> {
    let numbers = segment::list(disk)?;
    let mut past = Past { ending: None, highest: numbers.last().copied().unwrap_or(0), given_up: Vec::new() };
    let mut before: Option<(u64, Chain)> = None;
    for (index, number) in numbers.iter().enumerate() {
        let read = read_segment(disk, *number, before, numbers.get(index + 1).copied(), &[]);
        let (error, walked) = match read {
            Ok(Read { error, walked, .. }) => (error, Some(walked)),
            Err(error) => (Some(error), None),
        };
        let error = match error {
            Some(error) if !accept_loss => return Err(error),
            error => error,
        };
        let holds = walked.is_some();
        if let Some(walked) = walked {
            before = Some((*number, walked.last));
            past.ending = Some(walked.ending);
        }
        if let Some(error) = error {
            let error = crate::kernel::fault::chain(&error);
            tracing::error!(error, "the journal goes on without the records from here");
            past.given_up = numbers[index + usize::from(holds)..].to_vec();
            break;
        }
    }
    Ok(past)
}

/// What a journal has of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surveyed {
    /// Which process.
    pub boot: Uuid,
    /// The last record before the first that is still there.
    pub before: u64,
    /// The last one.
    pub last: u64,
    /// Whether the chain comes past the point that was asked about.
    pub met: bool,
}

/// Reads all segments through, for whoever reconciles, also beside a writer: how far each process's records go, in order,
/// and the damage that ends them, if any. `points` are places in the chains of some processes to look out for.
pub fn survey(
    disk: &dyn Disk,
    points: &[(Uuid, Chain)],
) -> Result<(Vec<Surveyed>, Option<JournalError>), JournalError> {
    let numbers = segment::list(disk)?;
    let mut found: Vec<Surveyed> = Vec::new();
    let mut before: Option<(u64, Chain)> = None;
    for (index, number) in numbers.iter().enumerate() {
        let read = match read_segment(disk, *number, before, numbers.get(index + 1).copied(), points) {
            Ok(read) => read,
            Err(error @ JournalError::Io { .. }) => return Err(error),
            Err(error) => return Ok((found, Some(error))),
        };
        let Read { walked, begins, error } = read;
        before = Some((*number, walked.last));
        let boot = walked.ending.identity.boot;
        match found.last_mut() {
            Some(own) if own.boot == boot => {
                own.last = walked.last.seq;
                own.met |= walked.met;
            }
            _ => found.push(Surveyed { boot, before: begins, last: walked.last.seq, met: walked.met }),
        }
        if error.is_some() {
            return Ok((found, error));
        }
    }
    Ok((found, None))
}

/// A segment that was read, and what is wrong behind the part of it that holds.
struct Read {
    walked: Walked,
    /// The last record before it.
    begins: u64,
    error: Option<JournalError>,
}

fn read_segment(
    disk: &dyn Disk,
    number: u64,
    before: Option<(u64, Chain)>,
    next: Option<u64>,
    points: &[(Uuid, Chain)],
) -> Result<Read, JournalError> {
    let header = Header::read(disk, number)?;
    if before.is_some_and(|before| before != (header.previous, header.before)) {
        return Err(JournalError::foreign(disk, number, "it does not go on where the segment before it ends"));
    }
    let bound = match next.map(|next| Header::read(disk, next)).transpose()? {
        Some(next) if next.previous == number => Some(next.previous_holds),
        Some(next) => return Err(JournalError::foreign(disk, next.number, "the segment before it is missing")),
        None => None,
    };
    let name = segment::name(number);
    let file = disk.open(&name).map_err(JournalError::io("open", disk, &name))?;
    let length = file.bytes().map_err(JournalError::io("measure", disk, &name))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, 0).map_err(JournalError::io("read", disk, &name))?;
    let point = points.iter().find(|(boot, _)| *boot == header.identity.boot).map(|(_, point)| *point);
    let walked = walk(&bytes, &header, bound, point);
    let lost = walked.damage.filter(|_| bound.is_some() || was_on_disk(&bytes, &walked));
    let error = lost.map(|why| JournalError::Damaged {
        path: format!("{disk}/{name}"),
        offset: walked.at,
        seq: walked.last.seq,
        why,
    });
    Ok(Read { walked, begins: header.before.seq, error })
}

/// What reading through one segment gave.
struct Walked {
    /// Where the chain of frames ends.
    last: Chain,
    at: u64,
    damage: Option<&'static str>,
    ending: Ending,
    /// The chain comes past the point that was looked out for.
    met: bool,
}

/// Follows the chain of frames up to `bound`, or to the first bytes that are no frame of it.
fn walk(bytes: &[u8], header: &Header, bound: Option<u64>, point: Option<Chain>) -> Walked {
    let end = bound.map_or(bytes.len(), |bound| usize::try_from(bound).unwrap_or(usize::MAX));
    let ending = Ending {
        identity: header.identity,
        segment: header.number,
        holds: HEADER_BYTES,
        last: header.before,
        unsure: VecDeque::new(),
        names: Vec::new(),
    };
    let met = point == Some(header.before);
    let mut walked = Walked { last: header.before, at: HEADER_BYTES, damage: None, ending, met };
    // Where each unsure record ends.
    let mut ends: VecDeque<(u64, Chain)> = VecDeque::new();
    let mut at = HEADER_LEN;
    while at < end {
        // Also at the end of what was ever written: frames may follow zeros that a power loss left.
        let frame = match frame::decode(bytes.get(at..end.min(bytes.len())).unwrap_or_default()) {
            Ok(frame) => frame,
            Err(NoFrame::Empty) => return Walked { damage: Some("records are missing"), ..walked },
            Err(NoFrame::Damaged(why)) => return Walked { damage: Some(why), ..walked },
        };
        if let Err(why) = continues(&frame, &walked.last) {
            return Walked { damage: Some(why), ..walked };
        }
        at += frame.len;
        walked.at = at as u64;
        walked.last = Chain { seq: frame.seq, hash: frame.hash };
        walked.met |= point == Some(walked.last);
        let ending = &mut walked.ending;
        while ends.front().is_some_and(|(_, chain)| chain.seq <= frame.durable) {
            if let Some((holds, last)) = ends.pop_front() {
                (ending.holds, ending.last) = (holds, last);
                ending.unsure.pop_front();
            }
        }
        match frame.content {
            Content::Usage(record) => {
                ending.unsure.push_back(record);
                ends.push_back((walked.at, walked.last));
            }
            Content::Meter(number, name) => ending.names.push(Name { is_meter: true, number, text: name }),
            Content::Route(number, name) => ending.names.push(Name { is_meter: false, number, text: name }),
            Content::Mark | Content::Padding => {}
        }
    }
    walked
}

/// Whether a frame is the next of its chain.
fn continues(frame: &Frame, last: &Chain) -> Result<(), &'static str> {
    let expected = match frame.content {
        Content::Usage(_) => last.seq + 1,
        Content::Meter(..) | Content::Route(..) | Content::Mark | Content::Padding => last.seq,
    };
    if frame.seq != expected {
        return Err("a wrong sequence number");
    }
    if frame.before != last.hash {
        return Err("a broken chain of hashes");
    }
    Ok(())
}

/// Whether a later frame says that the disk had more than the chain has.
fn was_on_disk(bytes: &[u8], walked: &Walked) -> bool {
    let at = usize::try_from(walked.at).unwrap_or(usize::MAX);
    let rest = bytes.get(at..).unwrap_or_default();
    // A frame begins with its length, whose third and fourth byte are zero and whose first two are not both.
    (0..rest.len().saturating_sub(4))
        .filter(|skip| rest[skip + 2] == 0 && rest[skip + 3] == 0 && (rest[*skip] | rest[skip + 1]) != 0)
        .any(|skip| frame::decode(&rest[skip..]).is_ok_and(|frame| frame.durable > walked.last.seq))
}
