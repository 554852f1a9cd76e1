//! Shares: a period owes for each window what lies in it, however it is cut.

use proptest::prelude::*;

use super::*;
use crate::kernel::{CalendarUnit, Currency};

fn usd(minor: i64) -> Money {
    Money::from_minor(minor, "USD".parse::<Currency>().unwrap())
}

fn cadence(interval: Interval, anchor: &str, zone: &str) -> Cadence {
    Cadence { interval, anchor: anchor.parse().unwrap(), zone: zone.parse().unwrap() }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn of_whole(cadence: &Cadence, instant: &str, every: Interval, minor: i64) -> i64 {
    let whole = cadence.containing(at(instant));
    let amounts = [Proration::Second, Proration::Day]
        .map(|by| Shares::new(whole, cadence, every, by).of(usd(minor), whole).unwrap().minor());
    assert_eq!(amounts[0], amounts[1], "by the second and by the day");
    amounts[0]
}

#[test]
fn the_parts_of_a_period_pay_the_base_once() {
    let november = Period::containing(at("2026-11-10T00:00:00Z"), CalendarUnit::Month);
    let shares = Shares::new(november, &Cadence::default(), Interval::Month, Proration::Second);
    let cut = at("2026-11-07T13:37:00Z");
    let [before, after] = [(november.from(), cut), (cut, november.to())]
        .map(|(from, to)| shares.of(usd(2_999), Period::new(from, to).unwrap()).unwrap().minor());
    assert_eq!((before, before + after), (657, 2_999));
}

#[test]
fn a_period_of_the_plans_own_interval_owes_the_amount() {
    for instant in ["2026-02-10T00:00:00Z", "2026-03-10T00:00:00Z", "2026-11-10T00:00:00Z"] {
        let monthly = cadence(Interval::Month, "2026-01-31", "America/New_York");
        assert_eq!(of_whole(&monthly, instant, Interval::Month, 2_999), 2_999);
    }
}

#[test]
fn a_year_on_a_monthly_plan_owes_twelve_and_years_of_months_on_a_yearly_plan_owe_it_once_each() {
    let yearly = cadence(Interval::Year, "2024-02-29", "Asia/Kathmandu");
    for year in ["2026", "2027", "2028"] {
        assert_eq!(of_whole(&yearly, &format!("{year}-06-01T00:00:00Z"), Interval::Month, 2_999), 12 * 2_999);
    }
    // Two hundred and forty months of a yearly plan: each by its days, and twenty times the amount, but for its rounding.
    let monthly = cadence(Interval::Month, "2026-01-31", "Asia/Kathmandu");
    let (mut period, mut sum) = (monthly.containing(at("2026-02-10T00:00:00Z")), 0);
    for _ in 0..240 {
        sum += of_whole(&monthly, &period.from().to_string(), Interval::Year, 100_000_000);
        period = monthly.containing(period.to());
    }
    assert!((sum - 20 * 100_000_000).abs() <= 120, "{sum}");
}

#[test]
fn ten_days_of_a_month_owe_a_part_of_each_of_two_months() {
    // From 25 November: six thirtieths, and four thirty-firsts.
    let tenth = cadence(Interval::Days(10), "2026-11-25", "UTC");
    let whole = tenth.containing(at("2026-11-25T00:00:00Z"));
    let monthly = cadence(Interval::Month, "2026-01-01", "UTC");
    let shares = Shares::new(whole, &monthly, Interval::Month, Proration::Second);
    // 3000 × 6 / 30 + 3000 × 4 / 31 = 600 + 387.09…
    assert_eq!(shares.of(usd(3_000), whole).unwrap().minor(), 987);
}

#[test]
fn by_the_day_the_day_of_a_change_belongs_to_what_comes_after() {
    let november = Period::containing(at("2026-11-10T00:00:00Z"), CalendarUnit::Month);
    let shares = Shares::new(november, &Cadence::default(), Interval::Month, Proration::Day);
    let cut = at("2026-11-10T16:00:00Z");
    let part = |from, to| shares.of(usd(3_000), Period::new(from, to).unwrap()).unwrap().minor();
    assert_eq!((part(november.from(), cut), part(cut, november.to())), (900, 2_100));
    // In New York it is the tenth until five in the morning of the eleventh.
    let cadence = cadence(Interval::Month, "2026-01-01", "America/New_York");
    let whole = cadence.containing(cut);
    let shares = Shares::new(whole, &cadence, Interval::Month, Proration::Day);
    let part = Period::new(whole.from(), at("2026-11-11T04:59:00Z")).unwrap();
    assert_eq!(shares.of(usd(3_000), part).unwrap().minor(), 900);
}

#[test]
fn a_share_that_is_too_large_is_an_error() {
    let yearly = cadence(Interval::Year, "2026-01-01", "UTC");
    let whole = yearly.containing(at("2026-06-01T00:00:00Z"));
    let shares = Shares::new(whole, &yearly, Interval::Days(1), Proration::Second);
    assert_eq!(shares.of(usd(i64::MAX), whole), Err(MoneyError::Overflow));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn parts_add_up_to_the_whole_however_it_is_cut(
        minor in 0_i64..1_000_000_000_000,
        intervals in prop::array::uniform2(prop_oneof![
            Just(Interval::Month),
            Just(Interval::Year),
            (1_u16..=366).prop_map(Interval::Days),
        ]),
        zone in prop_oneof![Just("UTC"), Just("America/New_York"), Just("Asia/Kathmandu"), Just("Pacific/Apia")],
        day in 1_i8..=31,
        instant in 1_300_000_000_i64..4_000_000_000,
        mut cuts in prop::collection::vec(0_i64..1_000_000, 0..6),
        by_day in any::<bool>(),
    ) {
        let anchor = format!("2011-12-{day:02}");
        let cadence = cadence(intervals[0], &anchor, zone);
        let whole = cadence.containing(Timestamp::from_secs(instant).unwrap());
        let by = if by_day { Proration::Day } else { Proration::Second };
        let shares = Shares::new(whole, &cadence, intervals[1], by);
        cuts.sort_unstable();
        cuts.dedup();
        let inside = cuts.into_iter().map(|part| whole.from().plus_micros(whole.micros() / 1_000_000 * part));
        let mut edges: Vec<_> = std::iter::once(whole.from()).chain(inside).chain([whole.to()]).collect();
        edges.dedup();
        let mut sum = 0;
        for pair in edges.windows(2) {
            let part = shares.of(usd(minor), Period::new(pair[0], pair[1]).unwrap()).unwrap().minor();
            prop_assert!(part >= 0);
            sum += part;
        }
        prop_assert_eq!(sum, shares.of(usd(minor), whole).unwrap().minor());
    }
}
