//! When the periods of a billing account begin: every month, every year or every so many days from an anchor, at midnight of a
//! zone. Pure.
//!
//! Boundaries are counted from the anchor, never from each other: an anchor on the 31st is the last day of a shorter month
//! and the 31st again after it; one on 29 February is the 28th in years without. A midnight that a clock skips is the
//! instant after the gap, one that it shows twice is the first of them (jiff's "compatible" rule). Zones are those that
//! the program comes with, not those of the machine: all nodes cut a year alike.

use std::{fmt, str::FromStr};

use jiff::{
    Span,
    civil::{Date, DateTime},
    tz::{TimeZone, TimeZoneDatabase},
};

use crate::kernel::{Period, Timestamp};

/// How long a period is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// From a day of a month to the same day of the next.
    Month,
    /// From a day of a year to the same day of the next.
    Year,
    /// So many days, 1 to 366.
    Days(u16),
}

/// Why a text is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CadenceError {
    /// Not an interval.
    #[error("must be month, year, or days from 1 to {}", Interval::MOST_DAYS)]
    Interval,
    /// Not a zone that is known here.
    #[error("not a time zone of the IANA database such as Europe/Berlin")]
    Zone,
    /// Not a day on which periods can begin.
    #[error("must be sign_up, month, or a day from 1970-01-01 to 2999-12-31")]
    Anchor,
}

impl Interval {
    /// The most days of one.
    pub const MOST_DAYS: u16 = 366;

    /// So many days.
    pub fn days(days: i64) -> Result<Self, CadenceError> {
        let days = u16::try_from(days).ok().filter(|days| (1..=Self::MOST_DAYS).contains(days));
        days.map(Self::Days).ok_or(CadenceError::Interval)
    }

    /// `count` of them.
    fn times(self, count: i64) -> Option<Span> {
        let span = Span::new();
        match self {
            Self::Month => span.try_months(count).ok(),
            Self::Year => span.try_years(count).ok(),
            Self::Days(days) => span.try_days(count.checked_mul(days.into())?).ok(),
        }
    }

    /// How many there are from one day to another, or one more or less.
    fn between(self, from: Date, to: Date) -> i64 {
        let years = i64::from(to.year()) - i64::from(from.year());
        match self {
            Self::Month => years * 12 + i64::from(to.month()) - i64::from(from.month()),
            Self::Year => years,
            Self::Days(days) => (day_number(to) - day_number(from)).div_euclid(days.into()),
        }
    }
}

/// `month`, `year`, `30 days`
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Month => f.write_str("month"),
            Self::Year => f.write_str("year"),
            Self::Days(days) => write!(f, "{days} days"),
        }
    }
}

impl FromStr for Interval {
    type Err = CadenceError;

    fn from_str(text: &str) -> Result<Self, CadenceError> {
        match text {
            "month" => Ok(Self::Month),
            "year" => Ok(Self::Year),
            _ => {
                let days = text.strip_suffix(" days").and_then(|days| days.parse().ok());
                Self::days(days.ok_or(CadenceError::Interval)?)
            }
        }
    }
}

/// Days since 1970-01-01.
pub(super) fn day_number(date: Date) -> i64 {
    date.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24
}

/// A time zone by its IANA name.
#[derive(Clone)]
pub struct Zone(TimeZone);

impl Zone {
    /// UTC.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// Its IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Whether it is UTC.
    pub fn is_utc(&self) -> bool {
        self.name() == "UTC"
    }

    /// The day that an instant lies in there.
    pub fn day(&self, at: Timestamp) -> Date {
        self.0.to_datetime(at.to_jiff()).date()
    }

    /// When a day begins there. Usage is counted by minutes of UTC: a midnight within one, of which there was none since 1972,
    /// comes with the minute.
    pub fn midnight(&self, day: Date) -> Timestamp {
        let at = self.0.to_timestamp(day.at(0, 0, 0, 0)).ok().and_then(Timestamp::from_jiff);
        let end = if day.year() < 5_000 { Timestamp::MIN } else { Timestamp::MAX };
        at.map_or(end, Timestamp::floor_minute)
    }

    /// What clocks and calendars there show; the beginning of a day as its midnight, also where clocks skip that.
    pub fn shown(&self, at: Timestamp) -> DateTime {
        let shown = self.0.to_datetime(at.to_jiff());
        if self.midnight(shown.date()) == at { shown.date().at(0, 0, 0, 0) } else { shown }
    }

    /// The days of a stretch of time there, cut to it.
    pub fn days(&self, of: Period) -> Vec<Period> {
        let daily = Cadence { interval: Interval::Days(1), anchor: Date::constant(1970, 1, 1), zone: self.clone() };
        daily.windows(of).into_iter().filter_map(|day| day.intersect(of)).collect()
    }
}

impl FromStr for Zone {
    type Err = CadenceError;

    fn from_str(name: &str) -> Result<Self, CadenceError> {
        if name == "UTC" {
            return Ok(Self::UTC);
        }
        let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| CadenceError::Zone)?;
        if zone.iana_name().is_some() { Ok(Self(zone)) } else { Err(CadenceError::Zone) }
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// From which day on periods are counted, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The first of the month in which the account was opened.
    Month,
    /// The day on which it was opened.
    SignUp,
    /// A day.
    Day(Date),
}

impl Anchor {
    /// The day that it is for an account.
    pub fn day(self, zone: &Zone, opened_at: Timestamp) -> Date {
        match self {
            Self::Month => zone.day(opened_at).first_of_month(),
            Self::SignUp => zone.day(opened_at),
            Self::Day(day) => day,
        }
    }
}

impl FromStr for Anchor {
    type Err = CadenceError;

    fn from_str(text: &str) -> Result<Self, CadenceError> {
        match text {
            "month" => Ok(Self::Month),
            "sign_up" => Ok(Self::SignUp),
            _ => {
                let day: Date = text.parse().map_err(|_| CadenceError::Anchor)?;
                // Texts that jiff takes for a day although they say more are none here.
                let is_plain = day.to_string() == text && (1970..3000).contains(&day.year());
                if is_plain { Ok(Self::Day(day)) } else { Err(CadenceError::Anchor) }
            }
        }
    }
}

/// What new accounts have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CadenceRule {
    /// How long a period is.
    pub interval: Interval,
    /// From which day on.
    pub anchor: Anchor,
    /// Where its midnights are.
    pub zone: Zone,
}

impl CadenceRule {
    /// What an account that is opened then has.
    pub fn cadence(&self, opened_at: Timestamp) -> Cadence {
        let Self { interval, anchor, zone } = self.clone();
        let anchor = anchor.day(&zone, opened_at);
        Cadence { interval, anchor, zone }
    }
}

/// When periods begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cadence {
    /// How long each is.
    pub interval: Interval,
    /// A day on which one begins; all others are counted from it.
    pub anchor: Date,
    /// Where its midnights are.
    pub zone: Zone,
}

impl Default for Cadence {
    /// Calendar months in UTC.
    fn default() -> Self {
        Self { interval: Interval::Month, anchor: Date::constant(1970, 1, 1), zone: Zone::UTC }
    }
}

impl Cadence {
    /// Whether its periods are calendar months in UTC.
    pub fn is_calendar_month(&self) -> bool {
        self.interval == Interval::Month && self.anchor.day() == 1 && self.zone.is_utc()
    }

    /// The same anchor and zone with another interval.
    #[must_use]
    pub fn every(&self, interval: Interval) -> Self {
        Self { interval, ..self.clone() }
    }

    /// When the `count`th period begins, that of the anchor being number 0.
    fn boundary(&self, count: i64) -> Timestamp {
        let day = self.interval.times(count).and_then(|span| self.anchor.checked_add(span).ok());
        let end = if count < 0 { Timestamp::MIN } else { Timestamp::MAX };
        day.map_or(end, |day| self.zone.midnight(day))
    }

    /// The period that an instant lies in.
    pub fn containing(&self, at: Timestamp) -> Period {
        let at = at.min(Timestamp::MAX.plus_micros(-1));
        let mut count = self.interval.between(self.anchor, self.zone.day(at));
        // Off by one or two at most, but for days that a zone has skipped.
        while self.boundary(count) > at {
            count -= 1;
        }
        let (mut from, mut to) = (self.boundary(count), self.boundary(count + 1));
        while to <= at {
            count += 1;
            (from, to) = (to, self.boundary(count + 1));
        }
        // from ≤ at < to, by both loops.
        Period::new(from, to).unwrap_or(Period::containing(at, crate::kernel::CalendarUnit::Month))
    }

    /// All its periods that share something with a stretch of time, whole, in order.
    pub fn windows(&self, of: Period) -> Vec<Period> {
        let mut windows = vec![self.containing(of.from())];
        while let Some(last) = windows.last().filter(|last| last.to() < of.to()) {
            windows.push(self.containing(last.to()));
        }
        windows
    }
}

/// `every month from 2026-01-31 in America/New_York`
impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every {} from {} in {}", self.interval, self.anchor, self.zone.name())
    }
}

#[cfg(test)]
#[path = "cadence_tests.rs"]
mod tests;
