//! The journal: this node's write-ahead log of settled requests.
//!
//! A record is handed to the kernel by one `pwrite(2)` before the response's last byte is released; a shared
//! `fdatasync` makes it durable every few milliseconds. So a killed process loses nothing, and a power loss at most
//! that interval (nothing, where the answer waited for [`Journal::durable`]).
//!
//! Invariants: sequence numbers grow by one, without gap or repeat, across restarts; a record that was refused never
//! surfaces later; what a failed write or sync left behind is cut off by the next segment's header; frames carry
//! length, CRC32C and the hash of the frame before, so that damage and edits are seen; room for a record is reserved
//! before the request is forwarded, so that writing it cannot fail for lack of space.
//!
//! Not here: what the numbers mean, and adding them up (`roller.rs`).

mod flush;
mod frame;
mod reader;
mod recovery;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

pub use frame::{Amount, Amounts, MAX_AMOUNTS};
pub use reader::{Entry, Reader};
pub use writer::{Journal, JournalHealth, Reservation};

use crate::kernel::{TenantId, Timestamp};

/// A settled request, as the journal keeps it. Meters and routes are small numbers; the journal itself keeps what
/// they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Whose request.
    pub tenant: TenantId,
    /// When it was settled.
    pub at: Timestamp,
    /// Which route it came by: an index of [`Options::routes`].
    pub route: u16,
    /// What it used.
    pub amounts: Amounts,
}

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder, which is made when it is not there.
    pub folder: PathBuf,
    /// The size of a segment, preallocated.
    pub segment_bytes: u64,
    /// How long a record may wait for the disk.
    pub flush_ms: u64,
    /// What a record's meter numbers stand for.
    pub meters: Vec<String>,
    /// What a record's route numbers stand for.
    pub routes: Vec<String>,
    /// Goes on when records are damaged in the middle, which loses them.
    pub accept_loss: bool,
}

impl Options {
    /// The size of a segment: 16 MiB holds about 150,000 records.
    pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
    /// How long a record may wait for the disk, in milliseconds.
    pub const FLUSH_MS: u64 = 10;
}

/// What can go wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("the journal cannot {verb} {path}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Records are damaged and valid ones follow: not a torn tail, but a loss.
    #[error(
        "{path} is damaged at byte {offset} ({why}), and valid records follow: {lost} bytes would be lost; \
             restore the file, or start with --accept-loss"
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What is wrong there.
        why: &'static str,
        /// Bytes from there to where reading could go on.
        lost: u64,
    },
    /// Not a segment of this journal.
    #[error("{path} is not a segment of this journal: {why}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// There is no room for another record, or the disk failed; it is tried again in the background.
    #[error("the journal takes no records now")]
    Unavailable,
}

impl JournalError {
    fn io(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { verb, path, source }
    }
}
