//! The periods of a billing account over its life: which cadence held since when. Pure.
//!
//! A change holds from the end of a period on, so it never moves one that has begun. What lies between that end and the first
//! period of the new cadence is a short period of its own.

use jiff::{ToSpan as _, civil::Date};

use super::cadence::{Cadence, Zone};
use crate::kernel::{Period, Timestamp};

/// The cadences of an account, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Each from when on; the first from the beginning of time.
    cadences: Vec<(Timestamp, Cadence)>,
}

impl Schedule {
    /// From what is kept, oldest first. Before all that, or without any, periods are calendar months in UTC.
    pub fn new(kept: Vec<(Timestamp, Cadence)>) -> Self {
        let begun = kept.first().is_some_and(|(since, _)| *since == Timestamp::MIN);
        let before = (!begun).then(|| (Timestamp::MIN, Cadence::default()));
        Self { cadences: before.into_iter().chain(kept).collect() }
    }

    /// Since when the cadence holds that holds at an instant, which, and until when.
    fn stretch(&self, at: Timestamp) -> (Timestamp, &Cadence, Timestamp) {
        let place = self.cadences.iter().rposition(|(since, _)| *since <= at).unwrap_or(0);
        // There is one at least, which holds from the earliest instant on.
        let (since, cadence) = &self.cadences[place];
        let until = self.cadences.get(place + 1).map_or(Timestamp::MAX, |(since, _)| *since);
        (*since, cadence, until)
    }

    /// The cadence that holds at an instant.
    pub fn in_force(&self, at: Timestamp) -> &Cadence {
        self.stretch(at).1
    }

    /// The last one, and since when it holds; `None` when that is from the beginning.
    pub fn latest(&self) -> (&Cadence, Option<Timestamp>) {
        let (since, _, _) = self.stretch(Timestamp::MAX);
        (self.in_force(Timestamp::MAX), (since > Timestamp::MIN).then_some(since))
    }

    /// The zone whose days a period has.
    pub fn zone(&self, at: Timestamp) -> &Zone {
        &self.in_force(at).zone
    }

    /// The period that an instant lies in.
    pub fn containing(&self, at: Timestamp) -> Period {
        let (since, cadence, until) = self.stretch(at);
        let whole = cadence.containing(at);
        Period::new(whole.from().max(since), whole.to().min(until)).unwrap_or(whole)
    }

    /// The first period that begins in a calendar month of its own zone.
    pub fn beginning_in(&self, month: Date) -> Option<Period> {
        let first = month.first_of_month();
        // A day before it is the first anywhere.
        let mut at = Zone::UTC.midnight(first.saturating_sub(1.day()));
        let end = Zone::UTC.midnight(first.saturating_add(1.month()).saturating_add(1.day()));
        while at < end {
            let period = self.containing(at);
            let begins = self.zone(period.from()).day(period.from());
            if (begins.year(), begins.month()) == (month.year(), month.month()) {
                return Some(period);
            }
            at = period.to();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::cadence::Interval;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn cadence(interval: Interval, anchor: &str, zone: &str) -> Cadence {
        Cadence { interval, anchor: anchor.parse().unwrap(), zone: zone.parse().unwrap() }
    }

    fn text(period: Period) -> String {
        format!("{} {}", period.from(), period.to())
    }

    #[test]
    fn without_anything_kept_periods_are_calendar_months() {
        let period = Schedule::new(Vec::new()).containing(at("2026-11-30T23:59:59Z"));
        assert_eq!(text(period), "2026-11-01T00:00:00Z 2026-12-01T00:00:00Z");
    }

    #[test]
    fn a_change_leaves_what_was_and_makes_a_short_period() {
        let since = at("2026-12-01T00:00:00Z");
        let kept = vec![(since, cadence(Interval::Month, "2026-01-15", "Asia/Kathmandu"))];
        let schedule = Schedule::new(kept);
        let found = ["2026-11-30T23:59:59Z", "2026-12-01T00:00:00Z", "2026-12-14T18:15:00Z"];
        let found = found.map(|instant| text(schedule.containing(at(instant))));
        let expected = [
            "2026-11-01T00:00:00Z 2026-12-01T00:00:00Z",
            "2026-12-01T00:00:00Z 2026-12-14T18:15:00Z",
            "2026-12-14T18:15:00Z 2027-01-14T18:15:00Z",
        ];
        assert_eq!(found, expected);
        assert_eq!(schedule.latest().1, Some(since));
    }

    #[test]
    fn a_month_names_the_first_period_that_begins_in_it_where_the_account_is() {
        let tenth =
            Schedule::new(vec![(Timestamp::MIN, cadence(Interval::Days(10), "2026-01-01", "America/New_York"))]);
        let found = tenth.beginning_in("2026-01-01".parse().unwrap()).map(text);
        assert_eq!(found.as_deref(), Some("2026-01-01T05:00:00Z 2026-01-11T05:00:00Z"));
        let yearly = Schedule::new(vec![(Timestamp::MIN, cadence(Interval::Year, "2026-05-01", "Asia/Kathmandu"))]);
        let found = yearly.beginning_in("2027-05-01".parse().unwrap()).map(text);
        assert_eq!(found.as_deref(), Some("2027-04-30T18:15:00Z 2028-04-30T18:15:00Z"));
        assert_eq!(yearly.beginning_in("2027-04-01".parse().unwrap()), None);
        assert_eq!(yearly.beginning_in("2027-06-01".parse().unwrap()), None);
    }
}
