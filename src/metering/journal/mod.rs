//! The journal: this node's write-ahead log of settled requests.
//!
//! A record is handed to the kernel by one `pwrite(2)` before the response's last byte is released; a shared
//! `fdatasync` makes it durable every few milliseconds. So a killed process loses nothing, and a power loss at most
//! that interval and the syncs under way (nothing, where the answer waited for [`Journal::durable`]).
//!
//! Invariants: sequence numbers grow by one, without gap or repeat, across restarts; a record that was refused never
//! surfaces later; what a failed write or sync left behind is cut off by the next segment's header, and what the disk
//! may have lost is in that segment before it gets its name; frames carry length, CRC32C, the hash of the frame before
//! and how far the disk was known to be, so that edits are seen and damage is told from a torn tail; room for a record
//! is reserved before the request is forwarded, so that writing it cannot fail for lack of space.
//!
//! Readers see only what the disk has, so the ledger never counts a record that a power loss takes back.
//!
//! Not here: what the numbers mean, and adding them up (`roller.rs`).

mod begin;
mod disk;
mod flush;
mod frame;
mod health;
mod reader;
mod recovery;
mod segment;
mod switch;
mod writer;

#[cfg(test)]
mod tests;

use std::io;

pub use disk::{Disk, DiskFile, Folder};
pub use flush::Flusher;
pub use frame::{Amount, Amounts, Chain, Hash, MAX_AMOUNTS};
pub use health::{JournalHealth, Mishap};
pub use reader::{Batch, Entry, Reader};
pub use recovery::{Counted, Past, Surveyed, recover, survey};
pub use segment::Identity;
pub use writer::{Journal, Reservation};

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
    /// The size of a segment, preallocated.
    pub segment_bytes: u64,
    /// So long after a record everything that was written is synced, in milliseconds.
    pub flush_ms: u64,
    /// What a record's meter numbers stand for.
    pub meters: Vec<String>,
    /// What a record's route numbers stand for, to begin with; [`Journal::name`] adds to them.
    pub routes: Vec<String>,
}

impl Options {
    /// The size of a segment: 16 MiB holds about 150,000 records.
    pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
    /// The usual interval between syncs, in milliseconds.
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
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Records are damaged that the disk had: not a torn tail, but a loss.
    #[error(
        "{path} is damaged at byte {offset} ({why}), after record {seq}; later records are there, so going on would \
         lose usage: restore the file, or start with --accept-loss"
    )]
    Damaged {
        /// The segment.
        path: String,
        /// Where the damage begins.
        offset: u64,
        /// The last record before it.
        seq: u64,
        /// What is wrong there.
        why: &'static str,
    },
    /// Not a segment of this journal.
    #[error("{path} is not a segment of this journal: {why}")]
    Foreign {
        /// The file.
        path: String,
        /// Why not.
        why: &'static str,
    },
    /// There is no room for another record, or the disk failed; it is tried again in the background.
    #[error("the journal takes no records now")]
    Unavailable,
    /// The disk takes too long.
    #[error("the disk takes too long")]
    TooSlow,
}

impl JournalError {
    fn io(verb: &'static str, disk: &dyn Disk, name: &str) -> impl FnOnce(io::Error) -> Self {
        let path = format!("{disk}/{name}");
        move |source| Self::Io { verb, path, source }
    }

    fn foreign(disk: &dyn Disk, number: u64, why: &'static str) -> Self {
        Self::Foreign { path: format!("{disk}/{}", segment::name(number)), why }
    }
}
