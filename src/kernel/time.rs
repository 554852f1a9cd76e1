//! Time: UTC instants to the microsecond, half-open periods, and a clock that is passed in.
//!
//! Microseconds, because that is what both stores keep exactly. Nothing in this crate reads a wall clock except
//! [`SystemClock`].

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicI64, Ordering},
};

use jiff::{ToSpan, civil, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant in UTC, in whole microseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is no instant, or a pair no period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not RFC 3339, or outside the years 1 to 9998.
    #[error("not a time such as 2026-01-31T12:00:00Z (RFC 3339)")]
    NotATime,
    /// The end is not after the start.
    #[error("`from` must be before `to`")]
    EmptyPeriod,
}

impl Timestamp {
    /// 0001-01-01T00:00:00Z.
    const MIN_MICROS: i64 = -62_135_596_800_000_000;
    /// 9998-12-31T23:59:59.999999Z: a year of room below what calendars here can say.
    const MAX_MICROS: i64 = 253_370_764_799_999_999;

    /// The earliest.
    pub const MIN: Self = Self(Self::MIN_MICROS);
    /// The last one.
    pub const MAX: Self = Self(Self::MAX_MICROS);

    /// `None` outside the years 1 to 9998.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (Self::MIN_MICROS..=Self::MAX_MICROS).contains(&micros).then_some(Self(micros))
    }

    /// `None` outside the years 1 to 9998.
    pub fn from_millis(millis: i64) -> Option<Self> {
        millis.checked_mul(1_000).and_then(Self::from_micros)
    }

    /// `None` outside the years 1 to 9998.
    pub fn from_secs(secs: i64) -> Option<Self> {
        secs.checked_mul(1_000_000).and_then(Self::from_micros)
    }

    /// Whole microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since 1970, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Whole seconds since 1970, rounded down: a JWT's `NumericDate`.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Later by whole seconds (earlier when negative), held at the ends of the range.
    #[must_use]
    pub fn plus_secs(self, secs: i64) -> Self {
        self.plus_micros(secs.saturating_mul(1_000_000))
    }

    /// Later by microseconds (earlier when negative), held at the ends of the range.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros).clamp(Self::MIN_MICROS, Self::MAX_MICROS))
    }

    /// Microseconds from `earlier` to here; negative when the clock went back.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// The start of the UTC minute this instant lies in.
    #[must_use]
    pub const fn floor_minute(self) -> Self {
        Self(self.0 - self.0.rem_euclid(60_000_000))
    }

    /// The start of the UTC minute that begins at this instant or next.
    #[must_use]
    pub fn ceil_minute(self) -> Self {
        Self(self.0 - 1).floor_minute().plus_secs(60)
    }

    /// The instant as jiff knows it, for calendars.
    ///
    /// # Panics
    ///
    /// Never: the range of `Self` lies inside jiff's, which `from_micros` and the clamps above keep.
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).expect("a Timestamp is within jiff's range")
    }

    /// From jiff, cut to the microsecond; `None` outside the years 1 to 9998.
    pub fn from_jiff(at: jiff::Timestamp) -> Option<Self> {
        Self::from_micros(at.as_microsecond())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_jiff(), f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let at: jiff::Timestamp = text.parse().map_err(|_| TimeError::NotATime)?;
        Self::from_jiff(at).ok_or(TimeError::NotATime)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A half-open stretch of time, `[from, to)`, never empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Period {
    from: Timestamp,
    to: Timestamp,
}

/// A calendar unit in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CalendarUnit {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From the first to the first.
    Month,
}

impl Period {
    /// An error unless `from` is before `to`.
    pub fn new(from: Timestamp, to: Timestamp) -> Result<Self, TimeError> {
        if from < to { Ok(Self { from, to }) } else { Err(TimeError::EmptyPeriod) }
    }

    /// The UTC minute, hour, day or month that `at` lies in.
    pub fn containing(at: Timestamp, unit: CalendarUnit) -> Self {
        let fixed = |length: i64| {
            let from = Timestamp(at.0 - at.0.rem_euclid(length));
            Self { from, to: from.plus_micros(length) }
        };
        match unit {
            CalendarUnit::Minute => fixed(60_000_000),
            CalendarUnit::Hour => fixed(3_600_000_000),
            CalendarUnit::Day => fixed(86_400_000_000),
            CalendarUnit::Month => Self::month(at),
        }
    }

    fn month(at: Timestamp) -> Self {
        let first: civil::Date = TimeZone::UTC.to_datetime(at.to_jiff()).date().first_of_month();
        let start = |date: civil::Date| {
            // Years 1 to 9998 plus one month lie inside jiff's calendar.
            let at = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).expect("midnight exists in UTC");
            Timestamp(at.as_microsecond())
        };
        Self { from: start(first), to: start(first.saturating_add(1.month())) }
    }

    /// The first instant inside.
    pub const fn from(self) -> Timestamp {
        self.from
    }

    /// The first instant after.
    pub const fn to(self) -> Timestamp {
        self.to
    }

    /// Whether `at` lies inside.
    pub fn contains(self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }

    /// Length in microseconds, above zero.
    pub const fn micros(self) -> i64 {
        self.to.0 - self.from.0
    }

    /// The part both share; `None` when there is none.
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.from.max(other.from), self.to.min(other.to)).ok()
    }
}

/// Tells the time. The real one is [`SystemClock`]; tests and the lab turn a [`ManualClock`].
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        // A machine clock outside the years 1 to 9998 is held at 1970 rather than taking the server down.
        Timestamp::from_jiff(jiff::Timestamp::now()).unwrap_or(Timestamp(0))
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Stands at `at`.
    pub const fn new(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.0))
    }

    /// Moves forward (or back) by seconds.
    pub fn advance_secs(&self, secs: i64) {
        self.set(self.now().plus_secs(secs));
    }

    /// Moves to `at`.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_month_runs_from_the_first_to_the_first() {
        let december = Period::containing(at("2026-12-31T23:59:59.999999Z"), CalendarUnit::Month);
        assert_eq!(december.from(), at("2026-12-01T00:00:00Z"));
        assert_eq!(december.to(), at("2027-01-01T00:00:00Z"));
        let leap = Period::containing(at("2028-02-29T12:00:00Z"), CalendarUnit::Month);
        assert_eq!(leap.micros(), 29 * 86_400_000_000);
    }

    #[test]
    fn a_period_holds_its_start_and_not_its_end() {
        let day = Period::containing(at("2026-03-29T10:00:00Z"), CalendarUnit::Day);
        assert!(day.contains(at("2026-03-29T00:00:00Z")));
        assert!(!day.contains(at("2026-03-30T00:00:00Z")));
        assert_eq!(Period::new(day.to(), day.from()), Err(TimeError::EmptyPeriod));
        assert_eq!(Period::new(day.from(), day.from()), Err(TimeError::EmptyPeriod));
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(at("2026-01-31T13:00:00+01:00").to_string(), "2026-01-31T12:00:00Z");
        for wrong in ["", "yesterday", "2026-01-31", "2026-13-01T00:00:00Z", "2026-01-31T12:00:00"] {
            assert_eq!(wrong.parse::<Timestamp>(), Err(TimeError::NotATime), "{wrong}");
        }
    }

    #[test]
    fn times_before_1970_floor_downward() {
        let early = at("1969-12-31T23:59:59.5Z");
        assert_eq!(early.as_secs(), -1);
        assert_eq!(early.floor_minute(), at("1969-12-31T23:59:00Z"));
    }
}
