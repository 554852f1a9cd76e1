//! What earlier processes left: every segment is read through, the chain is checked, a torn tail is told from damage.
//!
//! A power loss may take any part of what was written since the last sync, out of order. So a broken frame is a torn
//! tail only if nothing after it says that the disk had it; otherwise records are gone, and that is an alarm.

use super::{
    Chain, Disk, Identity, JournalError,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) identity: Identity,
    pub(super) last: Chain,
    /// The last segment, and how many of its bytes hold.
    pub(super) segment: u64,
    pub(super) holds: u64,
}

impl Past {
    /// Who wrote last; `None` for a new journal.
    pub fn identity(&self) -> Option<Identity> {
        self.ending.map(|ending| ending.identity)
    }

    /// The number of the last record; 0 for a new journal.
    pub fn last_seq(&self) -> u64 {
        self.ending.map_or(0, |ending| ending.last.seq)
    }
}

/// Reads through all segments and changes nothing. Damage is an error, unless its loss is accepted.
pub fn recover(disk: &dyn Disk, accept_loss: bool) -> Result<Past, JournalError> {
    let numbers = segment::list(disk)?;
    let mut past = Past { ending: None, highest: numbers.last().copied().unwrap_or(0), given_up: Vec::new() };
    for (index, number) in numbers.iter().enumerate() {
        let next = numbers.get(index + 1).copied();
        match read_segment(disk, *number, past.ending.as_ref(), next) {
            Ok(ending) => past.ending = Some(ending),
            Err(broken) if accept_loss => {
                let Broken { error, ending } = *broken;
                let error = crate::kernel::fault::chain(&error);
                tracing::error!(error, "the journal goes on without the records from here");
                past.ending = ending.or(past.ending);
                let first_lost = if ending.is_some() { index + 1 } else { index };
                past.given_up = numbers[first_lost..].to_vec();
                break;
            }
            Err(broken) => return Err(broken.error),
        }
    }
    Ok(past)
}

/// The chain ends where it should not.
struct Broken {
    error: JournalError,
    /// How far the segment holds, if it does at all.
    ending: Option<Ending>,
}

impl From<JournalError> for Box<Broken> {
    fn from(error: JournalError) -> Self {
        Self::new(Broken { error, ending: None })
    }
}

fn read_segment(
    disk: &dyn Disk,
    number: u64,
    before: Option<&Ending>,
    next: Option<u64>,
) -> Result<Ending, Box<Broken>> {
    let header = Header::read(disk, number)?;
    if let Some(before) = before {
        let follows = (header.previous, header.before) == (before.segment, before.last);
        if !follows {
            let why = "it does not go on where the segment before it ends";
            return Err(JournalError::foreign(disk, number, why).into());
        }
    }
    let bound = match next.map(|next| Header::read(disk, next)).transpose()? {
        Some(next) if next.previous == number => Some(next.previous_holds),
        Some(next) => return Err(JournalError::foreign(disk, next.number, "the segment before it is missing").into()),
        None => None,
    };
    let name = segment::name(number);
    let file = disk.open(&name).map_err(JournalError::io("open", disk, &name))?;
    let length = file.bytes().map_err(JournalError::io("measure", disk, &name))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, 0).map_err(JournalError::io("read", disk, &name))?;
    let walked = walk(&bytes, header.before, bound);
    let ending = Ending { identity: header.identity, last: walked.last, segment: number, holds: walked.holds };
    match walked.damage {
        Some(why) if bound.is_some() || was_on_disk(&bytes, &walked) => {
            let (path, offset, seq) = (format!("{disk}/{name}"), walked.holds, walked.last.seq);
            Err(Box::new(Broken { error: JournalError::Damaged { path, offset, seq, why }, ending: Some(ending) }))
        }
        _ => Ok(ending),
    }
}

/// What reading through one segment gave.
struct Walked {
    last: Chain,
    /// Bytes from the start that hold.
    holds: u64,
    damage: Option<&'static str>,
}

/// Follows the chain of frames up to `bound`, or to the first bytes that are no frame of it.
fn walk(bytes: &[u8], before: Chain, bound: Option<u64>) -> Walked {
    let end = bound.map_or(bytes.len(), |bound| usize::try_from(bound).unwrap_or(usize::MAX));
    let mut walked = Walked { last: before, holds: HEADER_BYTES, damage: None };
    let mut at = HEADER_LEN;
    while at < end {
        match frame::decode(bytes.get(at..end.min(bytes.len())).unwrap_or_default()) {
            Ok(frame) => {
                if let Err(why) = continues(&frame, &walked.last) {
                    return Walked { damage: Some(why), ..walked };
                }
                walked.last = Chain { seq: frame.seq, hash: frame.hash };
                at += frame.len;
                walked.holds = at as u64;
            }
            // Also at the end of what was ever written: frames may follow zeros that a power loss left.
            Err(NoFrame::Empty) => return Walked { damage: Some("records are missing"), ..walked },
            Err(NoFrame::Damaged(why)) => return Walked { damage: Some(why), ..walked },
        }
    }
    walked
}

/// Whether a frame is the next of its chain.
fn continues(frame: &Frame, last: &Chain) -> Result<(), &'static str> {
    let expected = match frame.content {
        Content::Usage(_) => last.seq + 1,
        Content::Meter(..) | Content::Route(..) | Content::Mark => last.seq,
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
    let at = usize::try_from(walked.holds).unwrap_or(usize::MAX);
    let rest = bytes.get(at..).unwrap_or_default();
    // A frame begins with its length, whose third and fourth byte are zero and whose first two are not both.
    (0..rest.len().saturating_sub(4))
        .filter(|skip| rest[skip + 2] == 0 && rest[skip + 3] == 0 && (rest[*skip] | rest[skip + 1]) != 0)
        .any(|skip| frame::decode(&rest[skip..]).is_ok_and(|frame| frame.durable > walked.last.seq))
}
