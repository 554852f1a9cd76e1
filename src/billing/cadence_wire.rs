//! Intervals and cadences on the wire and in settings.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::cadence::{Cadence, CadenceError, Interval};
use crate::kernel::Timestamp;

/// `month`, `year`, or `{"days": 30}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "must be month, year, or {\"days\": N}")]
pub enum IntervalBody {
    /// `month` or `year`.
    Named(String),
    /// So many days.
    Days(DaysBody),
}

/// So many days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DaysBody {
    /// From 1 to 366.
    pub days: i64,
}

impl IntervalBody {
    /// Checks it.
    pub fn parse(&self) -> Result<Interval, CadenceError> {
        match self {
            Self::Named(name) if name == "month" => Ok(Interval::Month),
            Self::Named(name) if name == "year" => Ok(Interval::Year),
            Self::Named(_) => Err(CadenceError::Interval),
            Self::Days(DaysBody { days }) => Interval::days(*days),
        }
    }
}

impl From<Interval> for IntervalBody {
    fn from(interval: Interval) -> Self {
        match interval {
            Interval::Month | Interval::Year => Self::Named(interval.to_string()),
            Interval::Days(days) => Self::Days(DaysBody { days: days.into() }),
        }
    }
}

impl Default for IntervalBody {
    fn default() -> Self {
        Interval::Month.into()
    }
}

/// When a tenant's billing periods begin.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CadenceView {
    /// How long a period is.
    interval: IntervalBody,
    /// A day on which one begins; all others are counted from it.
    anchor: String,
    /// The IANA time zone whose midnights they begin at.
    zone: String,
    /// Since when, or from when on, that is so; `null` when from the beginning.
    cadence_from: Option<Timestamp>,
}

impl From<(&Cadence, Option<Timestamp>)> for CadenceView {
    fn from((cadence, since): (&Cadence, Option<Timestamp>)) -> Self {
        Self {
            interval: cadence.interval.into(),
            anchor: cadence.anchor.to_string(),
            zone: cadence.zone.name().to_owned(),
            cadence_from: since,
        }
    }
}
