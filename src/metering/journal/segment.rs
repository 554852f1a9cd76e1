//! A segment: one preallocated file of frames, and what its header says.
//!
//! ```text
//! offset  size  little-endian
//!      0     8  "TGJRNL01"
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

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{JournalError, frame::Hash};
use crate::kernel::NodeId;

/// Where the frames begin.
pub(super) const HEADER_BYTES: u64 = HEADER_LEN as u64;
/// The same, as a length in memory.
pub(super) const HEADER_LEN: usize = 128;
const MAGIC: &[u8; 8] = b"TGJRNL01";
const CHECKED: usize = 96;

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) node: NodeId,
    pub(super) epoch: u64,
    pub(super) boot: Uuid,
    pub(super) number: u64,
    pub(super) last_seq: u64,
    pub(super) last_hash: Hash,
    pub(super) previous: u64,
    pub(super) previous_holds: u64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(self.node.as_uuid().as_bytes());
        bytes[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[32..48].copy_from_slice(self.boot.as_bytes());
        bytes[48..56].copy_from_slice(&self.number.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.last_seq.to_le_bytes());
        bytes[64..80].copy_from_slice(&self.last_hash);
        bytes[80..88].copy_from_slice(&self.previous.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.previous_holds.to_le_bytes());
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
        Some(Self {
            node: NodeId::from_uuid(uuid(8)?),
            epoch: number(24)?,
            boot: uuid(32)?,
            number: number(48)?,
            last_seq: number(56)?,
            last_hash: bytes[64..80].try_into().ok()?,
            previous: number(80)?,
            previous_holds: number(88)?,
        })
    }
}

/// The file of a segment.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016x}.journal"))
}

/// The numbers of the segments in a folder, ascending.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>, JournalError> {
    let failed = |error| JournalError::io("list", folder)(error);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".journal"));
        numbers.extend(number.and_then(|hex| u64::from_str_radix(hex, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reserves the room of a segment under a name that is not a segment's yet.
pub(super) fn prepare(folder: &Path, bytes: u64) -> Result<PathBuf, JournalError> {
    let path = folder.join("next.prepared");
    let failed = |source| JournalError::Io { verb: "reserve room in", path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path).map_err(failed)?;
    if let Err(error) = allocate(&file, bytes) {
        drop(std::fs::remove_file(&path));
        return Err(failed(error));
    }
    Ok(path)
}

fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        // A file system without fallocate: zeros reserve the room as well.
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let zeros = vec![0; 64 * 1024];
            for at in (0..bytes).step_by(zeros.len()) {
                file.write_all_at(&zeros, at)?;
            }
        }
        done => done?,
    }
    file.sync_all()
}

/// Makes a prepared file the segment that a header describes, durably.
pub(super) fn create(folder: &Path, prepared: &Path, header: &Header) -> Result<File, JournalError> {
    let path = path(folder, header.number);
    let failed = |source| JournalError::Io { verb: "begin", path: path.clone(), source };
    let file = OpenOptions::new().read(true).write(true).open(prepared).map_err(failed)?;
    file.write_all_at(&header.encode(), 0).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    std::fs::rename(prepared, &path).map_err(failed)?;
    sync_folder(folder)?;
    Ok(file)
}

/// Makes names durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), JournalError> {
    let failed = |error| JournalError::io("sync", folder)(error);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}
