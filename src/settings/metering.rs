//! `[metering]`: how often usage is synced and counted, and meters of events.

use std::time::Duration;

use super::read::Reader;
use crate::{
    kernel::Faults,
    metering::{FieldNames, MeterDefinition, MeterDraft, STOCK_METERS},
};

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Meters of events that are made when they are not there.
    pub meters: Vec<MeterDefinition>,
}

impl MeteringSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let flush_ms = reader.number("metering.flush_ms", FLUSH_MS, 1, 1_000);
        let roll_ms = reader.number("metering.roll_ms", ROLL_MS, 10, 60_000);
        let segment_bytes = reader.number("metering.segment_bytes", SEGMENT_BYTES, 256 * 1024, 1024 * 1024 * 1024);
        let events_back_s = reader.number("metering.events_back_s", EVENTS_BACK_S, 0, 3_660 * 86_400);
        let events_ahead_s = reader.number("metering.events_ahead_s", EVENTS_AHEAD_S, 0, 86_400);
        let late_after_s = reader.number("metering.late_after_s", LATE_AFTER_S, 0, 3_660 * 86_400);
        let meters = read_meters(reader);
        Some(Self {
            flush_ms: flush_ms?.unsigned_abs(),
            roll: Duration::from_millis(roll_ms?.unsigned_abs()),
            segment_bytes: segment_bytes?.unsigned_abs(),
            events_back_s: events_back_s?,
            events_ahead_s: events_ahead_s?,
            late_after_s: late_after_s?,
            meters: meters?,
        })
    }
}

/// `[[metering.meters]]`
fn read_meters(reader: &mut Reader) -> Option<Vec<MeterDefinition>> {
    let mut meters: Vec<MeterDefinition> = Vec::new();
    let mut fine = true;
    for (prefix, mut item) in reader.tables("metering.meters") {
        let draft = MeterDraft {
            key: item.optional_string(".key"),
            name: item.optional_string(".name"),
            description: item.optional_string(".description"),
            event_type: item.optional_string(".event_type"),
            aggregation: item.optional_string(".aggregation"),
            value_property: item.optional_string(".value_property"),
            group_by: item.texts(".group_by"),
        };
        // What has a wrong type is not missing as well.
        let of_wrong_type = item.faulty();
        let mut faults = Faults::new();
        let meter = draft.check(FieldNames::OURS, &mut faults);
        if let Some(meter) = &meter {
            if STOCK_METERS.iter().any(|stock| stock.key == meter.key.as_str()) {
                faults.add("key", format!("{} is a stock meter", meter.key));
            } else if meters.iter().any(|other| other.key == meter.key) {
                faults.add("key", format!("{} is the key of another meter", meter.key));
            }
        }
        match faults.finish(meter) {
            Ok(meter) => meters.push(meter),
            Err(faults) => {
                fine = false;
                for fault in faults {
                    let path = format!(".{}", fault.field);
                    if !of_wrong_type.contains(&path) {
                        item.fault(&path, &fault.detail);
                    }
                }
            }
        }
        reader.finish_item(&prefix, item);
    }
    fine.then_some(meters)
}
