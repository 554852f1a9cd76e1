//! What earlier processes left: every segment is read through, the chain is checked, a torn tail is told from damage.
//!
//! A power loss may take any part of what was written since the last sync, out of order. So a broken frame is a torn
//! tail only if nothing after it says that the disk had it; otherwise records are gone, and that is an alarm.
//!
//! What can be read may all the same not be on disk, and a sync by another process need not put it there: after a
//! failed one the kernel takes the pages for clean. So records that no frame says the disk has are written again.
//!
//! What is counted is past: damage there loses nothing. Segments that are counted whole are not read, and in the one that
//! is counted in part the chain is taken up again where the ledger's cursor has it, by its hash.

use std::collections::{HashMap, VecDeque};

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
    /// Where reading begins: whatever is before is counted.
    pub(super) start: Start,
    /// Segments that are given up, with consent.
    pub(super) given_up: Vec<u64>,
}

/// How far each process is counted, by its boot nonce. A process's roller counts in order, so whoever has a cursor had
/// everything before its own records counted.
pub type Counted = HashMap<Uuid, Chain>;

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Start {
    /// The first segment that is not counted whole.
    pub(super) segment: u64,
    /// Damage in the counted part of it.
    pub(super) gap: Option<Gap>,
}

/// Bytes of a segment that cannot be read, and need not be: the records in them are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) from: u64,
    pub(super) to: u64,
    /// The chain where it goes on.
    pub(super) last: Chain,
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

/// Reads through all segments that are not counted and changes nothing. Damage is an error, unless its loss is accepted:
/// then everything before it is kept.
pub fn recover(disk: &dyn Disk, counted: &Counted, accept_loss: bool) -> Result<Past, JournalError> {
    let all = segment::list(disk)?;
    let numbers = &all[counted_whole(disk, &all, counted, accept_loss)?..];
    let start = Start { segment: numbers.first().copied().unwrap_or(0), gap: None };
    let mut past = Past { ending: None, highest: all.last().copied().unwrap_or(0), start, given_up: Vec::new() };
    let mut before: Option<(u64, Chain)> = None;
    for (index, number) in numbers.iter().enumerate() {
        let read = read_segment(disk, *number, before, numbers.get(index + 1).copied(), counted, &[]);
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
            // Only the first segment can be counted in part.
            past.start.gap = past.start.gap.or(walked.gap);
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

/// How many of the first segments are counted whole: nothing is lost with them, whatever is wrong with them. A header that
/// cannot be read just now is an error, unless loss is accepted: the next start may read it.
fn counted_whole(
    disk: &dyn Disk,
    numbers: &[u64],
    counted: &Counted,
    accept_loss: bool,
) -> Result<usize, JournalError> {
    let header = |number: &u64| match Header::read(disk, *number) {
        Ok(header) => Ok(Some(header)),
        Err(error @ JournalError::Io { .. }) if !accept_loss => Err(error),
        Err(_) => Ok(None),
    };
    let headers = numbers.iter().map(header).collect::<Result<Vec<_>, _>>()?;
    let ends_counted = |pair: &[Option<Header>]| {
        let Some(next) = pair[1] else { return false };
        // The cursor of whoever wrote the segment, or of whoever wrote the next one.
        let mut writers = pair.iter().flatten().filter_map(|header| counted.get(&header.identity.boot));
        writers.any(|cursor| cursor.seq >= next.before.seq)
    };
    Ok(headers.windows(2).rposition(ends_counted).map_or(0, |index| index + 1))
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
    // Of what is counted, too, the damage is told.
    let (mut before, nothing): (Option<(u64, Chain)>, Counted) = (None, Counted::new());
    for (index, number) in numbers.iter().enumerate() {
        let read = match read_segment(disk, *number, before, numbers.get(index + 1).copied(), &nothing, points) {
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
    counted: &Counted,
    points: &[(Uuid, Chain)],
) -> Result<Read, JournalError> {
    let header = Header::read(disk, number)?;
    if before.is_some_and(|before| before != (header.previous, header.before)) {
        return Err(JournalError::foreign(disk, number, "it does not go on where the segment before it ends"));
    }
    let (bound, broken_off) = match next.map(|next| holds_by(disk, number, next)).transpose() {
        Ok(bound) => (bound, None),
        // This segment is as good as if it were the last.
        Err(error) => (None, Some(error)),
    };
    let name = segment::name(number);
    let file = disk.open(&name).map_err(JournalError::io("open", disk, &name))?;
    let length = file.bytes().map_err(JournalError::io("measure", disk, &name))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, 0).map_err(JournalError::io("read", disk, &name))?;
    let counted = counted.get(&header.identity.boot).copied();
    let point = points.iter().find(|(boot, _)| *boot == header.identity.boot).map(|(_, point)| *point);
    let walked = walk(&bytes, &header, bound, counted, point);
    // A later frame says that the disk had more than the chain has, or the ledger.
    let known = walked.last.seq.max(counted.map_or(0, |counted| counted.seq));
    let was_on_disk = || frames_after(&bytes, walked.at).any(|(_, frame)| frame.durable > known);
    let lost = walked.damage.filter(|_| bound.is_some() || was_on_disk());
    let error = lost.map(|why| JournalError::Damaged {
        path: format!("{disk}/{name}"),
        offset: walked.at,
        seq: walked.last.seq,
        why,
    });
    Ok(Read { walked, begins: header.before.seq, error: error.or(broken_off) })
}

/// How many bytes of a segment hold, as the next one says.
fn holds_by(disk: &dyn Disk, number: u64, next: u64) -> Result<u64, JournalError> {
    let next = Header::read(disk, next)?;
    if next.previous != number {
        return Err(JournalError::foreign(disk, next.number, "the segment before it is missing"));
    }
    Ok(next.previous_holds)
}

/// What reading through one segment gave.
struct Walked {
    /// Where the chain of frames ends.
    last: Chain,
    at: u64,
    damage: Option<&'static str>,
    /// Damage that was passed over.
    gap: Option<Gap>,
    ending: Ending,
    /// The chain comes past the point that was looked out for.
    met: bool,
}

/// Follows the chain of frames up to `bound`, or to the first bytes that are no frame of it. Where these are counted, it
/// goes on behind them.
fn walk(bytes: &[u8], header: &Header, bound: Option<u64>, counted: Option<Chain>, point: Option<Chain>) -> Walked {
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
    let mut walked = Walked { last: header.before, at: HEADER_BYTES, damage: None, gap: None, ending, met };
    // Where each unsure record ends.
    let mut ends: VecDeque<(u64, Chain)> = VecDeque::new();
    let (mut at, mut opened) = (HEADER_LEN, false);
    while at < end {
        // Also at the end of what was ever written: frames may follow zeros that a power loss left.
        let found = next_frame(bytes.get(at..end.min(bytes.len())).unwrap_or_default(), &walked.last);
        let frame = match found {
            Ok(frame) => frame,
            Err(why) => {
                // The names of meters and routes are in the opening, and needed.
                let gap = counted.filter(|_| opened).and_then(|counted| walked.gap_to(bytes, counted));
                let Some(gap) = gap else { return Walked { damage: Some(why), ..walked } };
                at = usize::try_from(gap.to).unwrap_or(usize::MAX);
                ends.clear();
                walked.pass_over(gap);
                continue;
            }
        };
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
            Content::Mark => {}
            Content::Padding => opened = true,
        }
    }
    walked
}

impl Walked {
    /// The damage at the end of the chain, if what is in it is counted and the frame behind the cursor is there.
    fn gap_to(&self, bytes: &[u8], counted: Chain) -> Option<Gap> {
        let next = |(_, frame): &(u64, Frame)| continues(frame, &counted).is_ok();
        let (to, _) = frames_after(bytes, self.at).find(next).filter(|_| counted.seq >= self.last.seq)?;
        Some(Gap { from: self.at, to, last: counted })
    }

    fn pass_over(&mut self, gap: Gap) {
        (self.at, self.last, self.gap) = (gap.to, gap.last, Some(gap));
        // What is counted was on disk.
        (self.ending.holds, self.ending.last) = (gap.to, gap.last);
        self.ending.unsure.clear();
    }
}

/// The frame at the start of `bytes`, if it is the next of the chain.
fn next_frame(bytes: &[u8], last: &Chain) -> Result<Frame, &'static str> {
    let frame = frame::decode(bytes).map_err(|error| match error {
        NoFrame::Empty => "records are missing",
        NoFrame::Damaged(why) => why,
    })?;
    continues(&frame, last)?;
    Ok(frame)
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

/// Whatever can be read as a frame from an offset on, and where it is.
fn frames_after(bytes: &[u8], at: u64) -> impl Iterator<Item = (u64, Frame)> {
    let rest = bytes.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
    // A frame begins with its length, whose third and fourth byte are zero and whose first two are not both.
    (0..rest.len().saturating_sub(4))
        .filter(|skip| rest[skip + 2] == 0 && rest[skip + 3] == 0 && (rest[*skip] | rest[skip + 1]) != 0)
        .filter_map(move |skip| Some((at + skip as u64, frame::decode(&rest[skip..]).ok()?)))
}
