//! What the last process left: every segment is read through, the chain is checked, a torn tail is found.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    JournalError,
    frame::{self, Content, Frame, Hash, NoFrame},
    segment::{self, HEADER_BYTES, Header},
};
use crate::kernel::NodeId;

/// Where a journal ends, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) node: NodeId,
    pub(super) epoch: u64,
    pub(super) last_seq: u64,
    pub(super) last_hash: Hash,
    /// The last segment, and how many of its bytes hold.
    pub(super) segment: u64,
    pub(super) holds: u64,
}

/// Reads through all segments. `None` when there is none: a new journal.
pub(super) fn recover(folder: &Path, accept_loss: bool) -> Result<Option<Ending>, JournalError> {
    let numbers = segment::list(folder)?;
    let mut ending: Option<Ending> = None;
    for (index, number) in numbers.iter().enumerate() {
        let path = segment::path(folder, *number);
        let bytes = fs::read(&path).map_err(JournalError::io("read", &path))?;
        let Some(header) = Header::decode(&bytes) else {
            // The header is synced before a segment gets its name, so this is damage and not a crash.
            return Err(JournalError::Foreign { path, why: "its header is damaged" });
        };
        check_header(&header, *number, ending.as_ref(), accept_loss, &path)?;
        let bound = bound(folder, &numbers, index, &path)?;
        let walked = walk(&bytes, &header, bound);
        if let Some(damage) = &walked.damage {
            report(damage, &walked, &bytes, bound.is_some(), accept_loss, &path)?;
        }
        ending = Some(Ending {
            node: header.node,
            epoch: header.epoch,
            last_seq: walked.last_seq,
            last_hash: walked.last_hash,
            segment: *number,
            holds: walked.holds,
        });
    }
    Ok(ending)
}

/// How many bytes of a segment hold, when a later one says so.
fn bound(folder: &Path, numbers: &[u64], index: usize, path: &Path) -> Result<Option<u64>, JournalError> {
    let Some(next) = numbers.get(index + 1) else { return Ok(None) };
    let next_path = segment::path(folder, *next);
    let bytes = fs::read(&next_path).map_err(JournalError::io("read", &next_path))?;
    match Header::decode(&bytes) {
        Some(next) if next.previous == numbers[index] => Ok(Some(next.previous_holds)),
        Some(_) => Err(JournalError::Foreign { path: path.to_owned(), why: "the segment after it is missing" }),
        None => Err(JournalError::Foreign { path: next_path, why: "its header is damaged" }),
    }
}

fn check_header(
    header: &Header,
    number: u64,
    before: Option<&Ending>,
    accept_loss: bool,
    path: &Path,
) -> Result<(), JournalError> {
    let foreign = |why| Err(JournalError::Foreign { path: path.to_owned(), why });
    if header.number != number {
        return foreign("its name is not its number");
    }
    match before {
        Some(before) if before.node != header.node => foreign("it was written by another node"),
        Some(before) if !accept_loss && (before.last_seq, before.last_hash) != (header.last_seq, header.last_hash) => {
            foreign("it does not go on where the segment before it ends")
        }
        _ => Ok(()),
    }
}

/// What reading through one segment gave.
pub(super) struct Walked {
    pub(super) last_seq: u64,
    pub(super) last_hash: Hash,
    /// Bytes from the start that hold.
    pub(super) holds: u64,
    damage: Option<&'static str>,
}

/// Follows the chain of frames up to `bound`, or to the first bytes that are no frame of it.
fn walk(bytes: &[u8], header: &Header, bound: Option<u64>) -> Walked {
    let end = bound.map_or(bytes.len(), |bound| usize::try_from(bound).unwrap_or(usize::MAX).min(bytes.len()));
    let mut walked =
        Walked { last_seq: header.last_seq, last_hash: header.last_hash, holds: HEADER_BYTES, damage: None };
    loop {
        // What holds is at most the file's length.
        let at = usize::try_from(walked.holds).unwrap_or(usize::MAX);
        match frame::decode(bytes.get(at..end).unwrap_or_default()) {
            Ok(frame) => match continues(&frame, walked.last_seq, &walked.last_hash) {
                Ok(()) => {
                    walked.last_seq = frame.seq;
                    walked.last_hash = frame.hash;
                    walked.holds += frame.len as u64;
                }
                Err(why) => return Walked { damage: Some(why), ..walked },
            },
            Err(NoFrame::Empty) if bound.is_some_and(|bound| walked.holds < bound) => {
                return Walked { damage: Some("records are missing"), ..walked };
            }
            Err(NoFrame::Empty) => return walked,
            Err(NoFrame::Damaged(why)) => return Walked { damage: Some(why), ..walked },
        }
    }
}

/// Whether a frame is the next of its chain.
pub(super) fn continues(frame: &Frame, last_seq: u64, last_hash: &Hash) -> Result<(), &'static str> {
    let expected = match frame.content {
        Content::Usage(_) => last_seq + 1,
        Content::Meter(..) | Content::Route(..) => last_seq,
    };
    if frame.seq != expected {
        return Err("a wrong sequence number");
    }
    if frame.before != *last_hash {
        return Err("a broken chain of hashes");
    }
    Ok(())
}

/// A damaged end is a torn tail, unless valid frames follow or another segment says that more must hold.
fn report(
    why: &'static str,
    walked: &Walked,
    bytes: &[u8],
    bounded: bool,
    accept_loss: bool,
    path: &Path,
) -> Result<(), JournalError> {
    let at = usize::try_from(walked.holds).unwrap_or(usize::MAX);
    let rest = bytes.get(at..).unwrap_or_default();
    let follows =
        (1..rest.len()).find(|skip| frame::decode(&rest[*skip..]).is_ok_and(|frame| frame.seq > walked.last_seq));
    let lost = match (follows, bounded) {
        (None, false) => return Ok(()),
        (Some(skip), _) => skip as u64,
        (None, true) => rest.len() as u64,
    };
    if accept_loss {
        tracing::error!(path = %path.display(), offset = walked.holds, why, lost, "damaged journal records are given up");
        return Ok(());
    }
    let path: PathBuf = path.to_owned();
    Err(JournalError::Damaged { path, offset: walked.holds, why, lost })
}
