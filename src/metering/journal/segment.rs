//! A segment: one preallocated file of frames, and what its header says.
//!
//! ```text
//! offset  size  little-endian
//!      0     8  "TGJRNL02"
//!      8    16  node
//!     24     8  epoch of the node: grows with every start
//!     32    16  boot nonce: random with every start
//!     48     8  number of the segment
//!     56     8  sequence number of the last record before it
//!     64    16  hash of the last frame before it
//!     80     8  number of the segment before it, 0 for none
//!     88     8  how many bytes of that one hold
//!     96     4  CRC32C of the above
//! ```

use uuid::Uuid;

use super::{
    Disk, DiskFile, JournalError,
    frame::{Chain, Hash},
};
use crate::kernel::NodeId;

/// Where the frames begin.
pub(super) const HEADER_BYTES: u64 = HEADER_LEN as u64;
/// The same, as a length in memory.
pub(super) const HEADER_LEN: usize = 128;
const MAGIC: &[u8; 8] = b"TGJRNL02";
const CHECKED: usize = 96;

/// Which process wrote a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The node: made once for a data folder.
    pub node: NodeId,
    /// Which start of the node; grows with every one.
    pub epoch: u64,
    /// Random with every start, so that two processes that think they are the same are told apart.
    pub boot: Uuid,
}

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) identity: Identity,
    pub(super) number: u64,
    /// Where the segment before it ends. All of that is on disk.
    pub(super) before: Chain,
    /// The number of the segment before it, 0 for none.
    pub(super) previous: u64,
    /// How many bytes of that one hold.
    pub(super) previous_holds: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let Self { identity, number, before, previous, previous_holds } = self;
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(identity.node.as_uuid().as_bytes());
        bytes[24..32].copy_from_slice(&identity.epoch.to_le_bytes());
        bytes[32..48].copy_from_slice(identity.boot.as_bytes());
        bytes[48..56].copy_from_slice(&number.to_le_bytes());
        bytes[56..64].copy_from_slice(&before.seq.to_le_bytes());
        bytes[64..80].copy_from_slice(&before.hash);
        bytes[80..88].copy_from_slice(&previous.to_le_bytes());
        bytes[88..96].copy_from_slice(&previous_holds.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..CHECKED]);
        bytes[CHECKED..CHECKED + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` when the bytes are no header.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let uuid = |at: usize| Uuid::from_slice(&bytes[at..at + 16]).ok();
        let crc = u32::from_le_bytes(bytes[CHECKED..CHECKED + 4].try_into().ok()?);
        if &bytes[..8] != MAGIC || crc != crc32c::crc32c(&bytes[..CHECKED]) {
            return None;
        }
        let hash: Hash = bytes[64..80].try_into().ok()?;
        Some(Self {
            identity: Identity { node: NodeId::from_uuid(uuid(8)?), epoch: number(24)?, boot: uuid(32)? },
            number: number(48)?,
            before: Chain { seq: number(56)?, hash },
            previous: number(80)?,
            previous_holds: number(88)?,
        })
    }

    /// The header of a segment that is there.
    pub(super) fn read(disk: &dyn Disk, number: u64) -> Result<Self, JournalError> {
        let name = name(number);
        let mut bytes = [0; HEADER_LEN];
        let read = disk.open(&name).and_then(|file| file.read_at(&mut bytes, 0));
        read.map_err(JournalError::io("read", disk, &name))?;
        // The header is on disk before a segment gets its name, so this is damage and no crash.
        let damaged = || JournalError::foreign(disk, number, "its header is damaged");
        Self::decode(&bytes).filter(|header| header.number == number).ok_or_else(damaged)
    }
}

/// The file of a segment.
pub(super) fn name(number: u64) -> String {
    format!("{number:016x}.journal")
}

/// The numbers of the segments that are there, ascending.
pub(super) fn list(disk: &dyn Disk) -> Result<Vec<u64>, JournalError> {
    let names = disk.list().map_err(JournalError::io("list", disk, ""))?;
    let number = |name: &String| u64::from_str_radix(name.strip_suffix(".journal")?, 16).ok();
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The file that will be the next segment of a process.
pub(super) fn prepared_name(boot: Uuid) -> String {
    format!("{}{PREPARED}", boot.simple())
}

/// How the names of files end that were meant to become segments.
pub(super) const PREPARED: &str = ".prepared";

/// Makes a prepared file a segment. All of `content`, header first, is on disk before the file gets its name.
pub(super) fn begin(
    disk: &dyn Disk,
    file: &dyn DiskFile,
    boot: Uuid,
    number: u64,
    content: &[u8],
) -> Result<(), JournalError> {
    let name = name(number);
    let begun = file
        .write_at(content, 0)
        .and_then(|()| file.sync())
        .and_then(|()| disk.rename(&prepared_name(boot), &name))
        .and_then(|()| disk.sync());
    begun.map_err(JournalError::io("begin", disk, &name))
}
