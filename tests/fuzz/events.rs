//! Fuzz target: an event that is taken has one canonical form, whatever the order of its members; the form reads back as
//! what was sent, every digit of it; and what a meter reads in it is the number that was sent.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use tollgate::{
    kernel::{Faults, MeterId, Timestamp},
    metering::{
        Aggregation, Meter, Source,
        event::{Sent, TimeLimits},
    },
};
use uuid::Uuid;

static METERS: LazyLock<Vec<Meter>> = LazyLock::new(|| {
    let aggregations = [Aggregation::Sum, Aggregation::Count, Aggregation::UniqueCount];
    let paths = ["$.n", "$.a.b", "$['n']", "$..n", "$.a[?@.n > 1]"];
    let path = |text: &str| text.parse().expect("a JSON path");
    let meter = |(aggregation, text): (Aggregation, &str)| Meter {
        id: MeterId::from_uuid(Uuid::nil()),
        key: "tokens".parse().expect("a key"),
        name: String::new(),
        description: String::new(),
        source: Source::Events {
            event_type: "t".into(),
            value: Some(path(text)),
            group_by: [("g".to_owned(), path("$.g")), ("all".to_owned(), path("$..g"))].into(),
        },
        aggregation,
        created_at: Timestamp::MIN,
    };
    aggregations.into_iter().flat_map(|one| paths.map(|text| (one, text))).map(meter).collect()
});

fn parse(value: Value) -> Option<Sent> {
    let now = Timestamp::from_secs(1_800_000_000).expect("a time");
    let limits = TimeLimits { now, back_s: 35 * 86_400, ahead_s: 300 };
    let mut faults = Faults::new();
    let sent = Sent::parse(value, "[0].", limits, &mut faults);
    faults.finish(sent).ok()
}

/// The same value with the members of its objects the other way round.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let turned = members.iter().rev().map(|(name, value)| (name.clone(), reversed(value)));
            Value::Object(turned.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
        other => other.clone(),
    }
}

/// A decimal number's sign, digits without zeros around them, and the power of ten of the last digit.
fn parts(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let negative = mantissa.starts_with('-');
    let (whole, fraction) = mantissa.trim_start_matches(['-', '+']).split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.trim_start_matches(['-', '+']));
    let shown = digits.trim_start_matches('0').trim_end_matches('0');
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let fraction = i64::try_from(fraction.len()).ok()?;
    match shown {
        "" => Some((false, String::new(), 0)),
        _ => Some((negative, shown.to_owned(), exponent - fraction + i64::try_from(zeros).ok()?)),
    }
}

fn look(value: &Value) {
    let Some(sent) = parse(value.clone()) else { return };
    let again: Value = serde_json::from_str(&sent.body).expect("the canonical form is JSON");
    assert_eq!(&again, value, "{}", sent.body);
    assert_eq!(parse(again).as_ref(), Some(&sent), "the form of the form is the form");
    let turned = parse(reversed(value)).expect("the order of members is nothing");
    assert_eq!(turned.body, sent.body);
    assert_eq!(blake3::hash(turned.body.as_bytes()), blake3::hash(sent.body.as_bytes()));
    for text in [&sent.id, &sent.source, &sent.kind, &sent.subject] {
        assert!((1..=512).contains(&text.len()) && !text.contains('\0'));
    }
    for meter in &*METERS {
        let Ok(reading) = meter.read(&sent.data) else { continue };
        serde_json::from_str::<Map<String, Value>>(&reading.group).expect("a group is an object");
        if meter.aggregation == Aggregation::Sum {
            assert_eq!(parts(&reading.value.to_string()), parts(&reading.text), "{}", reading.text);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    match serde_json::from_slice(bytes) {
        Ok(Value::Array(events)) => events.iter().for_each(look),
        Ok(value) => look(&value),
        Err(_) => {}
    }
});
