//! `[metering]`: how often usage is synced and counted.

use std::time::Duration;

use super::read::Reader;

/// A record waits this long for the disk at most, in milliseconds.
const FLUSH_MS: i64 = 10;
/// The journal is rolled into totals this often, in milliseconds.
const ROLL_MS: i64 = 250;
/// Size of a journal segment, in bytes.
const SEGMENT_BYTES: i64 = 16 * 1024 * 1024;

/// `[metering]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeteringSettings {
    /// A record waits this long for the disk at most.
    pub flush_ms: u64,
    /// The journal is rolled into totals this often.
    pub roll: Duration,
    /// Size of a journal segment.
    pub segment_bytes: u64,
}

impl MeteringSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let flush_ms = reader.number("metering.flush_ms", FLUSH_MS, 1, 1_000);
        let roll_ms = reader.number("metering.roll_ms", ROLL_MS, 10, 60_000);
        let segment_bytes = reader.number("metering.segment_bytes", SEGMENT_BYTES, 1024 * 1024, 1024 * 1024 * 1024);
        Some(Self {
            flush_ms: flush_ms?.unsigned_abs(),
            roll: Duration::from_millis(roll_ms?.unsigned_abs()),
            segment_bytes: segment_bytes?.unsigned_abs(),
        })
    }
}
