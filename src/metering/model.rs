//! Meters, the cells of the ledger, and usage as it is asked for.

use std::{fmt, str::FromStr, sync::Arc};

use crate::kernel::{CalendarUnit, Quantity, TenantId, Timestamp};

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

/// One cell of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Whose usage.
    pub tenant: TenantId,
    /// Of what.
    pub meter: MeterKey,
    /// In which UTC minute.
    pub minute: Timestamp,
    /// In which group: the route, or empty.
    pub group: Arc<str>,
}

/// How far the journal of one process has gone into the totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The sequence number of the last record counted.
    pub seq: i64,
    /// The hash of the journal's chain there.
    pub hash: Vec<u8>,
}

/// One minute of one meter and group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinuteTotal {
    /// The UTC minute.
    pub minute: Timestamp,
    /// The group.
    pub group: String,
    /// What was used.
    pub value: Quantity,
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
    /// What was used.
    pub value: Quantity,
    /// The group's keys and values, when the query groups.
    pub group: Vec<(String, String)>,
}

/// A meter as it is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// Its key.
    pub key: MeterKey,
    /// What it counts.
    pub description: &'static str,
    /// The unit of its quantities.
    pub unit: &'static str,
}
