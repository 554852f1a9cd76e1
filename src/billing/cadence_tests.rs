//! Cadences: the well-known cases, and what holds of all.

use jiff::ToSpan as _;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cadence(interval: Interval, anchor: &str, zone: &str) -> Cadence {
    Cadence { interval, anchor: anchor.parse().unwrap(), zone: zone.parse().unwrap() }
}

/// The days, there, on which the periods from one that an instant lies in begin.
fn beginnings(cadence: &Cadence, first: &str, count: usize) -> Vec<String> {
    let mut period = cadence.containing(at(first));
    let mut days = Vec::new();
    for _ in 0..count {
        days.push(cadence.zone.shown(period.from()).date().to_string());
        period = cadence.containing(period.to());
    }
    days
}

fn text(period: Period) -> String {
    format!("{} {}", period.from(), period.to())
}

#[test]
fn the_thirty_first_is_the_last_day_of_shorter_months_and_itself_again() {
    let monthly = cadence(Interval::Month, "2026-01-31", "America/New_York");
    let expected = ["2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31"];
    assert_eq!(beginnings(&monthly, "2028-01-01T00:00:00Z", 6), expected);
    // Before the anchor as well, and with the hours of winter and of summer.
    assert_eq!(text(monthly.containing(at("2025-03-10T00:00:00Z"))), "2025-02-28T05:00:00Z 2025-03-31T04:00:00Z");
}

#[test]
fn a_leap_day_is_the_twenty_eighth_in_other_years() {
    let yearly = cadence(Interval::Year, "2024-02-29", "UTC");
    let expected = ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"];
    assert_eq!(beginnings(&yearly, "2024-06-01T00:00:00Z", 5), expected);
}

#[test]
fn ten_days_are_ten_days_of_the_zone_whatever_its_clocks_do() {
    let tenth = cadence(Interval::Days(10), "2026-10-20", "Europe/Berlin");
    let period = tenth.containing(at("2026-10-25T12:00:00Z"));
    assert_eq!(text(period), "2026-10-19T22:00:00Z 2026-10-29T23:00:00Z");
    assert_eq!(period.micros(), (10 * 24 + 1) * 3_600_000_000);
}

#[test]
fn midnights_are_those_of_the_zone_with_half_and_quarter_hours() {
    let monthly = cadence(Interval::Month, "2026-01-31", "Asia/Kathmandu");
    assert_eq!(text(monthly.containing(at("2026-02-10T00:00:00Z"))), "2026-01-30T18:15:00Z 2026-02-27T18:15:00Z");
    let monthly = cadence(Interval::Month, "2026-01-01", "Australia/Lord_Howe");
    assert_eq!(text(monthly.containing(at("2026-04-10T00:00:00Z"))), "2026-03-31T13:00:00Z 2026-04-30T13:30:00Z");
}

#[test]
fn a_midnight_that_clocks_skip_is_the_end_of_the_gap_and_one_shown_twice_the_first() {
    // Sao Paulo, 2018-11-04: from 00:00 at once to 01:00. Havana, 2024-11-03: from 01:00 back to 00:00.
    let daily = cadence(Interval::Days(1), "1970-01-01", "America/Sao_Paulo");
    let period = daily.containing(at("2018-11-04T12:00:00Z"));
    assert_eq!(text(period), "2018-11-04T03:00:00Z 2018-11-05T02:00:00Z");
    assert_eq!(daily.zone.shown(period.from()).to_string(), "2018-11-04T00:00:00");
    let daily = cadence(Interval::Days(1), "1970-01-01", "America/Havana");
    assert_eq!(text(daily.containing(at("2024-11-03T12:00:00Z"))), "2024-11-03T04:00:00Z 2024-11-04T05:00:00Z");
}

#[test]
fn a_day_that_a_zone_skipped_is_no_period_and_no_hole() {
    // Apia went from the end of 29 December 2011 to the beginning of the 31st.
    let daily = cadence(Interval::Days(1), "2011-12-01", "Pacific/Apia");
    assert_eq!(beginnings(&daily, "2011-12-29T12:00:00Z", 3), ["2011-12-29", "2011-12-31", "2012-01-01"]);
    let monthly = cadence(Interval::Month, "2011-01-30", "Pacific/Apia");
    assert_eq!(text(monthly.containing(at("2011-12-30T09:59:59Z"))), "2011-11-30T10:00:00Z 2011-12-30T10:00:00Z");
    assert_eq!(text(monthly.containing(at("2011-12-30T10:00:00Z"))), "2011-12-30T10:00:00Z 2012-01-29T10:00:00Z");
}

#[test]
fn calendar_months_in_utc_are_the_kernels() {
    for instant in
        ["2026-02-28T23:59:59.999999Z", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2400-02-29T00:00:00Z"]
    {
        let month = Period::containing(at(instant), crate::kernel::CalendarUnit::Month);
        assert_eq!(Cadence::default().containing(at(instant)), month, "{instant}");
    }
}

#[test]
fn the_ends_of_time_are_in_a_period_too() {
    for interval in [Interval::Month, Interval::Year, Interval::Days(366), Interval::Days(1)] {
        for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
            let cadence = cadence(interval, "2026-01-31", zone);
            for instant in [Timestamp::MIN, Timestamp::MAX, Timestamp::MAX.plus_micros(-1)] {
                let period = cadence.containing(instant);
                assert!(period.from() <= instant && instant <= period.to(), "{cadence} {instant}");
            }
        }
    }
}

#[test]
fn texts_that_say_no_interval_zone_or_anchor_are_refused() {
    for wrong in ["", "week", "0 days", "367 days", "-1 days", "1day", "Month"] {
        assert_eq!(wrong.parse::<Interval>(), Err(CadenceError::Interval), "{wrong:?}");
    }
    for wrong in ["", "Mars/Phobos", "../UTC", "+02:00", "EST5EDT4,M3", "local"] {
        assert_eq!(wrong.parse::<Zone>(), Err(CadenceError::Zone), "{wrong:?}");
    }
    for wrong in ["", "calendar", "2026-02-30", "2026-01-31T10:00", "1969-12-31", "3000-01-01", "20260131"] {
        assert_eq!(wrong.parse::<Anchor>(), Err(CadenceError::Anchor), "{wrong:?}");
    }
    for right in [Interval::Month, Interval::Year, Interval::Days(30)] {
        assert_eq!(right.to_string().parse(), Ok(right));
    }
}

/// With clocks that change by an hour, by half an hour, at midnight, days that were skipped, and offsets of all kinds.
const ZONES: [&str; 14] = [
    "UTC",
    "America/New_York",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Pacific/Kiritimati",
    "America/Sao_Paulo",
    "America/Havana",
    "Africa/Casablanca",
    "Europe/Dublin",
    "Antarctica/Troll",
    "Asia/Gaza",
];

fn cadences() -> impl Strategy<Value = Cadence> {
    let interval = prop_oneof![
        Just(Interval::Month),
        Just(Interval::Year),
        (1_u16..=Interval::MOST_DAYS).prop_map(Interval::Days),
        (1_u16..=3).prop_map(Interval::Days),
    ];
    let month_ends =
        (1970_i16..2100, 1_i8..=12).prop_map(|(year, month)| Date::constant(year, month, 1).last_of_month());
    let anyday = (0_i64..40_000).prop_map(|days| Date::constant(1970, 1, 1).saturating_add(days.days()));
    let zone = (0..ZONES.len()).prop_map(|place| ZONES[place].parse().unwrap());
    (interval, prop_oneof![month_ends, anyday], zone).prop_map(|(interval, anchor, zone)| Cadence {
        interval,
        anchor,
        zone,
    })
}

/// From 1972, since when midnights are on whole minutes everywhere, to 2100.
fn instants() -> impl Strategy<Value = Timestamp> {
    (63_072_000_000_000_i64..4_102_444_800_000_000).prop_map(|micros| Timestamp::from_micros(micros).unwrap())
}

/// Whether a day may begin a period: the anchor's day of the month, or the last one of a shorter month; so many days from it.
fn is_anchored(cadence: &Cadence, day: Date) -> bool {
    let fits = |of: Date| of.day().min(day.days_in_month()) == day.day();
    match cadence.interval {
        Interval::Month => fits(cadence.anchor),
        Interval::Year => day.month() == cadence.anchor.month() && fits(cadence.anchor),
        Interval::Days(days) => (day_number(day) - day_number(cadence.anchor)).rem_euclid(days.into()) == 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn periods_tile_time_and_begin_at_midnights_of_anchored_days(cadence in cadences(), instant in instants()) {
        let period = cadence.containing(instant);
        prop_assert!(period.contains(instant));
        // Its neighbours end and begin where it does, and all that lies in it is in it.
        prop_assert_eq!(cadence.containing(period.from().plus_micros(-1)).to(), period.from());
        prop_assert_eq!(cadence.containing(period.to()).from(), period.to());
        for within in [period.from(), period.to().plus_micros(-1)] {
            prop_assert_eq!(cadence.containing(within), period);
        }
        for edge in [period.from(), period.to()] {
            let shown = cadence.zone.0.to_datetime(edge.to_jiff());
            let day = shown.date();
            // The first instant of its day, which is midnight unless clocks skip that.
            prop_assert_ne!(cadence.zone.day(edge.plus_micros(-1)), day, "{} {}", &cadence, shown);
            let skipped = || day.yesterday().is_ok_and(|before| cadence.zone.midnight(before) == edge);
            prop_assert!(is_anchored(&cadence, day) || skipped() && is_anchored(&cadence, day.yesterday().unwrap()));
        }
    }

    #[test]
    fn a_period_is_as_long_as_its_interval_says(cadence in cadences(), instant in instants()) {
        let period = cadence.containing(instant);
        let days = day_number(cadence.zone.day(period.to())) - day_number(cadence.zone.day(period.from()));
        let allowed = match cadence.interval {
            Interval::Month => 28..=31,
            Interval::Year => 365..=366,
            Interval::Days(days) => days.into()..=days.into(),
        };
        // A day that a zone skipped may be the end of one or the beginning of the next.
        prop_assert!((allowed.start() - 1..=allowed.end() + 1).contains(&days), "{} {}", cadence, days);
    }

    #[test]
    fn the_days_of_a_stretch_make_it_up(zone in 0..ZONES.len(), instant in instants(), hours in 1_i64..3_000) {
        let zone: Zone = ZONES[zone].parse().unwrap();
        let stretch = Period::new(instant, instant.plus_secs(hours * 3_600)).unwrap();
        let days = zone.days(stretch);
        prop_assert_eq!((days[0].from(), days.last().unwrap().to()), (stretch.from(), stretch.to()));
        prop_assert!(days.windows(2).all(|pair| pair[0].to() == pair[1].from()));
    }
}
