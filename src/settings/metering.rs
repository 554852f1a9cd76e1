//! `[metering]`: how often usage is synced and counted.

use std::time::Duration;

use super::read::Reader;

/// A record waits this long for the disk at most, in milliseconds.
const FLUSH_MS: i64 = 10;
/// The journal is rolled into totals this often, in milliseconds.
const ROLL_MS: i64 = 250;
/// Size of a journal segment, in bytes.
const SEGMENT_BYTES: i64 = 16 * 1024 * 1024;

/// Events this old are taken, in seconds.
const EVENTS_BACK_S: i64 = 35 * 86_400;
/// Events this far ahead are taken, in seconds.
const EVENTS_AHEAD_S: i64 = 300;
/// A month is closed this long after its end, in seconds.
const LATE_AFTER_S: i64 = 3_600;

/// `[metering]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeteringSettings {
    /// A record waits this long for the disk at most.
    pub flush_ms: u64,
    /// The journal is rolled into totals this often.
    pub roll: Duration,
    /// Size of a journal segment.
    pub segment_bytes: u64,
    /// Events this old are taken, in seconds.
    pub events_back_s: i64,
    /// Events this far ahead are taken, in seconds.
    pub events_ahead_s: i64,
    /// A month is closed this long after its end, in seconds; what comes later is an adjustment.
    pub late_after_s: i64,
}

impl MeteringSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let flush_ms = reader.number("metering.flush_ms", FLUSH_MS, 1, 1_000);
        let roll_ms = reader.number("metering.roll_ms", ROLL_MS, 10, 60_000);
        let segment_bytes = reader.number("metering.segment_bytes", SEGMENT_BYTES, 256 * 1024, 1024 * 1024 * 1024);
        let events_back_s = reader.number("metering.events_back_s", EVENTS_BACK_S, 0, 3_660 * 86_400);
        let events_ahead_s = reader.number("metering.events_ahead_s", EVENTS_AHEAD_S, 0, 86_400);
        let late_after_s = reader.number("metering.late_after_s", LATE_AFTER_S, 0, 3_660 * 86_400);
        Some(Self {
            flush_ms: flush_ms?.unsigned_abs(),
            roll: Duration::from_millis(roll_ms?.unsigned_abs()),
            segment_bytes: segment_bytes?.unsigned_abs(),
            events_back_s: events_back_s?,
            events_ahead_s: events_ahead_s?,
            late_after_s: late_after_s?,
        })
    }
}
