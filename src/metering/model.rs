//! Meters, the cells of the ledger, and usage as it is asked for.

use std::{fmt, str::FromStr, sync::Arc};

use uuid::Uuid;

use crate::kernel::{CalendarUnit, Period, Quantity, QuantityError, TenantId, Timestamp};

/// The key of a meter: `apis`, `compute`, …
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeterKey(Arc<str>);

/// The text is no meter key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 lower-case letters, digits or `_`, beginning with a letter")]
pub struct MeterKeyError;

impl MeterKey {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MeterKey {
    type Err = MeterKeyError;

    fn from_str(text: &str) -> Result<Self, MeterKeyError> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if begins && text.len() <= 64 && text.bytes().all(good) { Ok(Self(text.into())) } else { Err(MeterKeyError) }
    }
}

impl fmt::Display for MeterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The units that the ledger keeps, the finest first.
pub const UNITS: [CalendarUnit; 4] = [CalendarUnit::Minute, CalendarUnit::Hour, CalendarUnit::Day, CalendarUnit::Month];
/// One cell of the ledger: a meter's usage by one tenant in one group and one window of UTC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Whose usage.
    pub tenant: TenantId,
    /// Of what.
    pub meter: MeterKey,
    /// How long the window is.
    pub unit: CalendarUnit,
    /// The first instant of the window.
    pub start: Timestamp,
    /// In which group: a JSON object of group-by keys and values, in order of the keys.
    pub group: Arc<str>,
}

/// What a cell holds: enough for every aggregation that needs no single events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// How many records or events.
    pub count: i64,
    /// Their sum.
    pub sum: Quantity,
    /// The smallest.
    pub low: Quantity,
    /// The largest.
    pub high: Quantity,
    /// The latest.
    pub last: Last,
}

/// The latest value: by its own time, then by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// Its time, in nanoseconds since 1970.
    pub at_ns: i64,
    /// The order of arrival.
    pub arrival: i64,
    /// The value.
    pub value: Quantity,
}

impl Total {
    /// Of one record or event.
    pub const fn one(value: Quantity, at_ns: i64, arrival: i64) -> Self {
        Self { count: 1, sum: value, low: value, high: value, last: Last { at_ns, arrival, value } }
    }

    /// Both together; an error when the sum has too many digits.
    pub fn and(&self, other: &Self) -> Result<Self, QuantityError> {
        // With the value, so that the order in which totals are put together makes no difference.
        let order = |last: &Last| (last.at_ns, last.arrival, last.value);
        let later = order(&other.last) > order(&self.last);
        Ok(Self {
            count: self.count.saturating_add(other.count),
            sum: self.sum.add(other.sum)?,
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            last: if later { other.last } else { self.last },
        })
    }
}

/// How far the journal of one process has gone into the totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The sequence number of the last record counted.
    pub seq: i64,
    /// The hash of the journal's chain there.
    pub hash: Vec<u8>,
}

/// What a journal has put into the totals of a meter, all in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Of what.
    pub meter: MeterKey,
    /// How many records.
    pub count: i64,
    /// Their sum.
    pub sum: Quantity,
}

/// Consecutive cells of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// The unit.
    pub unit: CalendarUnit,
    /// From the first cell's start to the last one's end.
    pub period: Period,
}

/// A cell's total as a query finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose.
    pub tenant: TenantId,
    /// The first instant of its window.
    pub start: Timestamp,
    /// Its group.
    pub group: String,
    /// What one writer counted.
    pub total: Total,
}

/// How a usage query cuts time.
pub type Window = CalendarUnit;

/// One window of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowTotal {
    /// First instant of the window.
    pub from: Timestamp,
    /// First instant after it.
    pub to: Timestamp,
    /// Whose, when the query keeps tenants apart.
    pub tenant: Option<TenantId>,
    /// What was used.
    pub value: Quantity,
    /// The group's keys and values, when the query groups.
    pub group: Vec<(String, String)>,
}

/// Who an event is, for as long as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// `source`.
    pub source: &'a str,
    /// `id`.
    pub id: &'a str,
}

/// An event to be kept.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// Who it is.
    pub identity: Identity<'a>,
    /// `type`.
    pub kind: &'a str,
    /// Its time, in nanoseconds since 1970.
    pub at_ns: i64,
    /// The order of arrival: microseconds since 1970, made to ascend.
    pub arrival: i64,
    /// All of it, as JSON.
    pub body: &'a str,
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub tenant: TenantId,
    /// `source`.
    pub source: String,
    /// `id`.
    pub id: String,
    /// `type`.
    pub kind: String,
    /// Its time, in nanoseconds since 1970.
    pub at_ns: i64,
    /// The order of arrival: microseconds since 1970, made to ascend.
    pub arrival: i64,
    /// All of it, as JSON.
    pub body: String,
    /// When it was taken back, if it was.
    pub voided_at: Option<Timestamp>,
}

/// The event after which a list goes on, in order of time, arrival and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsAfter {
    /// Its time, in nanoseconds since 1970.
    pub at_ns: i64,
    /// Its order of arrival.
    pub arrival: i64,
    /// Its id.
    pub id: String,
}

impl Event {
    /// Who it is.
    pub fn identity(&self) -> Identity<'_> {
        Identity { tenant: self.tenant, source: &self.source, id: &self.id }
    }
}

/// What came to a month that was closed by then, or was taken out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// Whose month.
    pub tenant: TenantId,
    /// Of what.
    pub meter: MeterKey,
    /// The first instant of the month.
    pub month: Timestamp,
    /// In which group.
    pub group: Arc<str>,
    /// How many events.
    pub count: i64,
    /// Their sum.
    pub sum: Quantity,
}

/// An adjustment that was noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjusted {
    /// Which.
    pub id: Uuid,
    /// What came or went.
    pub adjustment: Adjustment,
    /// When.
    pub made_at: Timestamp,
}

/// What of an event may be amended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// All of it, as JSON.
    pub body: String,
    /// Its time, in nanoseconds since 1970.
    pub at_ns: i64,
}

/// That an event was taken back or amended, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Which.
    pub id: Uuid,
    /// The event.
    pub event: Uuid,
    /// What the event said before it was amended; nothing when it was taken back.
    pub before: Option<Content>,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// An event whose identity is taken by another content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Its place in the request.
    pub index: usize,
    /// Its id.
    pub id: String,
    /// The digest of what is kept.
    pub kept: Vec<u8>,
    /// The digest of what was sent.
    pub sent: Vec<u8>,
}
