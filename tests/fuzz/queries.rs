//! Fuzz target: a query string that is taken asks for a period that is not empty, cut into windows that are it, answered from
//! a bounded number of stretches.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::{
    kernel::{CalendarUnit, MeterId, Period, Timestamp},
    metering::{Aggregation, Meter, Source, query_of, windows},
};
use uuid::Uuid;

/// `tests/fuzz` has the bounds of its own: what the answer of one request may cost.
const MOST_WINDOWS: usize = 100_000;
const MOST_STRETCHES: usize = 64;
/// So many are cut most of the time.
const SOME_WINDOWS: i64 = 500;

fn seconds(window: CalendarUnit) -> i64 {
    match window {
        CalendarUnit::Minute => 60,
        CalendarUnit::Hour => 3_600,
        CalendarUnit::Day => 86_400,
        CalendarUnit::Month => 31 * 86_400,
    }
}

fn meter() -> Meter {
    let path = |text: &str| text.parse().expect("a JSON path");
    Meter {
        id: MeterId::from_uuid(Uuid::nil()),
        key: "tokens".parse().expect("a key"),
        name: String::new(),
        description: String::new(),
        source: Source::Events {
            event_type: "prompt".into(),
            value: Some(path("$.tokens")),
            group_by: [("model".to_owned(), path("$.model"))].into(),
        },
        aggregation: Aggregation::Sum,
        created_at: Timestamp::from_secs(1_790_000_000).expect("a time"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let now = Timestamp::from_secs(1_800_000_000).expect("a time");
    let Some(query) = query_of(text, &meter(), now) else { return };
    let (from, to) = (query.period.from(), query.period.to());
    assert!(from < to, "{from} {to}");
    assert_eq!(from, from.floor_minute(), "whole minutes");
    assert!(to == to.floor_minute() || to == Timestamp::MAX, "whole minutes, or the end of time");
    // Cutting a century into minutes takes long, and is refused: once in a while is enough.
    let whole = bytes.len().is_multiple_of(64);
    let end = query.window.map(|window| from.plus_secs(SOME_WINDOWS * seconds(window)));
    let to = end.filter(|_| !whole).map_or(to, |end| to.min(end));
    let period = Period::new(from, to).expect("not empty");
    let cut = match query.window {
        None => vec![period],
        Some(window) => match windows::windows(period, window, &query.zone) {
            None => return,
            Some(cut) => cut,
        },
    };
    assert!((1..=MOST_WINDOWS).contains(&cut.len()), "{} windows", cut.len());
    assert_eq!((cut[0].from(), cut[cut.len() - 1].to()), (from, to));
    assert!(cut.windows(2).all(|two| two[0].to() == two[1].from()), "a gap between windows");
    let stretches = windows::stretches(&cut);
    assert!((1..=MOST_STRETCHES).contains(&stretches.len()), "{} stretches", stretches.len());
    // A zone that once was some seconds off has windows that no cells make up: the cells at their edges are in both.
    assert!(stretches[0].period.from() <= from && stretches[stretches.len() - 1].period.to() >= to, "{stretches:?}");
    assert!(stretches.windows(2).all(|two| two[0].period.to() >= two[1].period.from()), "a gap: {stretches:?}");
});
