//! How time is cut for an answer: windows in any time zone, and the fewest cells of the ledger that make them up. Pure.
//!
//! Windows are calendar windows of their zone, so a day may have 23 or 25 hours. The ledger's cells are in UTC; a
//! window's edges are made of finer cells than its middle.

use jiff::{ToSpan as _, Unit, ZonedDateTime, ZonedDateTimeRound, tz::TimeZone};

use super::model::{Stretch, UNITS, Window};
use crate::kernel::{CalendarUnit, Period, Timestamp};

/// The most windows of one answer.
pub const MOST_WINDOWS: usize = 100_000;
/// More stretches than this are replaced by one of the finest cells.
const MOST_STRETCHES: usize = 64;

/// The windows of a zone, cut to a period, ascending; `None` when there are too many.
pub fn windows(period: Period, window: Window, zone: &TimeZone) -> Option<Vec<Period>> {
    let mut at = floor(period.from(), window, zone)?;
    let mut windows = Vec::new();
    while windows.len() < MOST_WINDOWS {
        let start = Timestamp::from_jiff(at.timestamp())?;
        if start >= period.to() {
            return Some(windows);
        }
        let next = match window {
            CalendarUnit::Minute => at.checked_add(1.minute()),
            CalendarUnit::Hour => at.checked_add(1.hour()),
            CalendarUnit::Day => at.checked_add(1.day()).and_then(|next| next.start_of_day()),
            CalendarUnit::Month => at.checked_add(1.month()).and_then(|next| next.start_of_day()),
        };
        let next = next.ok()?;
        windows.push(Period::new(start, Timestamp::from_jiff(next.timestamp())?).ok()?.intersect(period)?);
        at = next;
    }
    None
}

fn floor(at: Timestamp, window: Window, zone: &TimeZone) -> Option<ZonedDateTime> {
    let local = at.to_jiff().to_zoned_datetime(zone.clone());
    let cut = |unit| local.round(ZonedDateTimeRound::new().smallest(unit).mode(jiff::RoundMode::Trunc));
    match window {
        CalendarUnit::Minute => cut(Unit::Minute).ok(),
        CalendarUnit::Hour => cut(Unit::Hour).ok(),
        CalendarUnit::Day => local.start_of_day().ok(),
        CalendarUnit::Month => local.first_of_month().ok()?.start_of_day().ok(),
    }
}

/// The fewest stretches of cells that together are these windows, each cell within one window. Windows begin and end
/// on whole minutes.
pub fn stretches(windows: &[Period]) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for window in windows {
        for stretch in pieces(*window) {
            match all.last_mut() {
                Some(last) if last.unit == stretch.unit && last.period.to() == stretch.period.from() => {
                    last.period = joined(last.period, stretch.period);
                }
                _ => all.push(stretch),
            }
        }
    }
    if all.len() <= MOST_STRETCHES {
        return all;
    }
    // Too many for one statement: the finest unit that is needed will do for all of it.
    let unit = UNITS.into_iter().find(|unit| all.iter().any(|stretch| stretch.unit == *unit));
    let ends = windows.first().zip(windows.last());
    let whole = unit.zip(ends).map(|(unit, (first, last))| Stretch { unit, period: joined(*first, *last) });
    whole.into_iter().collect()
}

/// All cells of a unit.
pub fn always(unit: CalendarUnit) -> Stretch {
    let period = Period::new(Timestamp::MIN, Timestamp::MAX);
    // The first instant is before the last.
    Stretch { unit, period: period.unwrap_or_else(|_| Period::containing(Timestamp::MIN, unit)) }
}

/// The fewest stretches of cells that together are all time before an instant, a whole minute.
pub fn before(at: Timestamp) -> Vec<Stretch> {
    let month = Period::containing(at, CalendarUnit::Month).from();
    let earlier = Period::new(Timestamp::MIN, month).ok();
    let mut all: Vec<_> = earlier.map(|period| Stretch { unit: CalendarUnit::Month, period }).into_iter().collect();
    all.extend(Period::new(month, at).ok().map(pieces).into_iter().flatten());
    all
}

fn joined(first: Period, last: Period) -> Period {
    Period::new(first.from(), last.to()).unwrap_or(first)
}

/// One window as cells: minutes, hours, days, months and back.
fn pieces(window: Period) -> Vec<Stretch> {
    let mut pieces: Vec<Stretch> = Vec::new();
    let mut at = window.from();
    while at < window.to() {
        // The longest cell that begins here and ends in time; minutes always do.
        let fits = |unit: &CalendarUnit| {
            let cell = Period::containing(at, *unit);
            cell.from() == at && cell.to() <= window.to()
        };
        let unit = UNITS.into_iter().rev().find(fits).unwrap_or(CalendarUnit::Minute);
        let cell = Period::containing(at, unit);
        match pieces.last_mut() {
            Some(last) if last.unit == unit => last.period = joined(last.period, cell),
            _ => pieces.push(Stretch { unit, period: cell }),
        }
        at = cell.to();
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(from: &str, to: &str) -> Period {
        Period::new(from.parse().unwrap(), to.parse().unwrap()).unwrap()
    }

    fn shown(stretches: &[Stretch]) -> Vec<String> {
        stretches.iter().map(|s| format!("{:?} {} {}", s.unit, s.period.from(), s.period.to())).collect()
    }

    #[test]
    fn a_day_of_the_clock_change_has_23_or_25_hours() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let hours = |from, to| {
            let days = windows(period(from, to), CalendarUnit::Day, &berlin).unwrap();
            days.iter().map(|day| day.micros() / 3_600_000_000).collect::<Vec<_>>()
        };
        assert_eq!(hours("2026-03-28T23:00:00Z", "2026-03-30T22:00:00Z"), [23, 24]);
        assert_eq!(hours("2026-10-24T22:00:00Z", "2026-10-26T23:00:00Z"), [25, 24]);
    }

    #[test]
    fn days_in_utc_are_cells_and_days_elsewhere_are_hours_or_minutes() {
        let november = period("2026-10-31T00:00:00Z", "2026-12-02T00:00:00Z");
        let cut = |zone: &str| {
            let days = windows(november, CalendarUnit::Day, &TimeZone::get(zone).unwrap()).unwrap();
            shown(&stretches(&days))
        };
        assert_eq!(cut("UTC"), ["Day 2026-10-31T00:00:00Z 2026-12-02T00:00:00Z"]);
        assert_eq!(cut("America/New_York"), ["Hour 2026-10-31T00:00:00Z 2026-12-02T00:00:00Z"]);
        assert_eq!(cut("Asia/Kolkata"), ["Minute 2026-10-31T00:00:00Z 2026-12-02T00:00:00Z"]);
    }

    #[test]
    fn one_window_is_made_of_the_longest_cells() {
        let whole = period("2026-10-31T22:58:00Z", "2027-01-02T01:00:00Z");
        assert_eq!(
            shown(&stretches(&[whole])),
            [
                "Minute 2026-10-31T22:58:00Z 2026-10-31T23:00:00Z",
                "Hour 2026-10-31T23:00:00Z 2026-11-01T00:00:00Z",
                "Month 2026-11-01T00:00:00Z 2027-01-01T00:00:00Z",
                "Day 2027-01-01T00:00:00Z 2027-01-02T00:00:00Z",
                "Hour 2027-01-02T00:00:00Z 2027-01-02T01:00:00Z",
            ]
        );
    }

    #[test]
    fn all_time_before_an_instant_is_months_days_hours_and_minutes() {
        let all = |at: &str| shown(&before(at.parse().unwrap()));
        let months = |to: &str| format!("Month {} {to}", Timestamp::MIN);
        assert_eq!(all("2026-11-01T00:00:00Z"), [months("2026-11-01T00:00:00Z")]);
        assert_eq!(
            all("2026-11-02T00:01:00Z"),
            [
                months("2026-11-01T00:00:00Z"),
                "Day 2026-11-01T00:00:00Z 2026-11-02T00:00:00Z".to_owned(),
                "Minute 2026-11-02T00:00:00Z 2026-11-02T00:01:00Z".to_owned(),
            ]
        );
    }

    #[test]
    fn too_many_windows_are_refused() {
        let century = period("1926-01-01T00:00:00Z", "2026-01-01T00:00:00Z");
        assert_eq!(windows(century, CalendarUnit::Minute, &TimeZone::UTC), None);
    }
}
