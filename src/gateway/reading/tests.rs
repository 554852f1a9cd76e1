//! Whatever the pieces in which a body comes, the scanner finds what a reader of whole documents finds.

use serde_json::Value;

use super::*;
use crate::kernel::{SeededRng, rng::random_bytes};

fn rules(pointers: &[&str]) -> Vec<MeterRule> {
    pointers.iter().map(|text| MeterRule::new(9, Unit::Json(text.parse().unwrap()))).collect()
}

fn read_in(kind: &str, pointers: &[&str], body: &[u8], piece: usize) -> Vec<Result<i64, Unread>> {
    let headers: HeaderMap = [(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())].into_iter().collect();
    let mut reading = Reading::begin(&rules(pointers), &headers).unwrap();
    for piece in body.chunks(piece) {
        reading.data(piece);
    }
    reading.finish();
    (0..pointers.len()).map(|rule| reading.value(rule)).collect()
}

/// The same in pieces of every length.
fn read(kind: &str, pointers: &[&str], body: &str) -> Vec<Result<i64, Unread>> {
    let whole = read_in(kind, pointers, body.as_bytes(), usize::MAX);
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(read_in(kind, pointers, body.as_bytes(), piece), whole, "{body} by {piece}");
    }
    whole
}

fn one(body: &str, pointer: &str) -> Result<i64, Unread> {
    read("application/json", &[pointer], body)[0]
}

#[test]
fn a_number_is_found_where_the_pointer_leads_and_nowhere_else() {
    let body = r#" {"total_tokens": 1, "usage": {"x": {"total_tokens": 2}, "total_tokens": 42.5, "all": [7, {"a/b": 8}, [9]]},
        "text": "\"usage\": {\"total_tokens\": 3}", "m~n": "4", "\u0075sed": 1e3, "é": 5} "#;
    for (pointer, found) in [
        ("/usage/total_tokens", Ok(42_500)),
        ("/total_tokens", Ok(1_000)),
        ("/usage/all/0", Ok(7_000)),
        ("/usage/all/1/a~1b", Ok(8_000)),
        ("/usage/all/2/0", Ok(9_000)),
        ("/m~0n", Ok(4_000)),
        ("/used", Ok(1_000_000)),
        ("/é", Ok(5_000)),
        ("/usage/all/3", Err(Unread::Missing)),
        ("/usage/all/00", Err(Unread::Missing)),
        ("/usage/all/-", Err(Unread::Missing)),
        ("/usage", Err(Unread::NotANumber)),
        ("/usage/all", Err(Unread::NotANumber)),
        ("/text", Err(Unread::NotANumber)),
        ("/text/usage", Err(Unread::Missing)),
        ("/usage/total", Err(Unread::Missing)),
        ("/Usage/total_tokens", Err(Unread::Missing)),
    ] {
        assert_eq!(one(body, pointer), found, "{pointer}");
    }
    let several = read("application/json", &["/usage/total_tokens", "/none", "/usage/all/0"], body);
    assert_eq!(several, [Ok(42_500), Err(Unread::Missing), Ok(7_000)]);
}

#[test]
fn what_cannot_be_read_says_why_and_is_never_guessed() {
    for (body, why) in [
        (r#"{"n": null}"#, Unread::Missing),
        (r#"{"n": true}"#, Unread::NotANumber),
        (r#"{"n": ""}"#, Unread::NotANumber),
        (r#"{"n": 0.0001}"#, Unread::TooExact),
        (r#"{"n": -1}"#, Unread::OutOfRange),
        (r#"{"n": 1e300}"#, Unread::TooExact),
        (r#"{"n": 1, "n": 1}"#, Unread::Twice),
        (r#"{"n": {}, "n": 1}"#, Unread::Twice),
        (r#"{"n": 1"#, Unread::NotJson),
        (r#"{"n": 1} {"n": 2}"#, Unread::NotJson),
        (r#"{"n": 1]"#, Unread::NotJson),
        ("{n: 1}", Unread::NotJson),
        ("<html>", Unread::NotJson),
    ] {
        let found = one(body, "/n");
        // What was said before the end was said.
        let expected = if body == r#"{"n": 1"# { Err(Unread::BrokenOff).or(Ok(1_000)) } else { Err(why) };
        assert_eq!(found, expected, "{body}");
    }
    assert_eq!(one("", "/n"), Err(Unread::BrokenOff));
    assert_eq!(one(r#"{"m": 1, "#, "/n"), Err(Unread::BrokenOff));
    let deep = format!("{}1{}", "[".repeat(129), "]".repeat(129));
    assert_eq!(one(&deep, "/n"), Err(Unread::NotJson));
    let deep = format!("{{\"a\": {}1{}, \"n\": 3}}", "[".repeat(127), "]".repeat(127));
    assert_eq!(one(&deep, "/n"), Ok(3_000));
}

#[test]
fn the_last_event_that_has_the_place_counts() {
    let openai =
        "data: {\"choices\": [], \"usage\": null}\n\ndata: {\"usage\": {\"total_tokens\": 30}}\n\ndata: [DONE]\n\n";
    let anthropic = "event: message_start\ndata: {\"usage\": {\"total_tokens\": 1}}\n\n: ping\n\nevent: message_delta\n\
                     data: {\"usage\":\ndata: {\"total_tokens\": 17}}\n\nevent: message_stop\ndata: {}\n\n";
    for (stream, found) in [
        (openai.to_owned(), Ok(30_000)),
        (openai.replace('\n', "\r\n"), Ok(30_000)),
        (openai.replace('\n', "\r"), Ok(30_000)),
        (openai.replace("data: ", "data:"), Ok(30_000)),
        (anthropic.to_owned(), Ok(17_000)),
        ("data: {\"usage\": {\"total_tokens\": 5}}".to_owned(), Ok(5_000)),
        (
            "data: {\"usage\": {\"total_tokens\": 5}}\n\ndata: {\"usage\": {\"total_tokens\": \"?\"}}\n\n".into(),
            Err(Unread::NotANumber),
        ),
        ("datas: {\"usage\": {\"total_tokens\": 5}}\n\n".into(), Err(Unread::NotJson)),
        ("data: {}\n\n".into(), Err(Unread::Missing)),
        ("data: {\"usage\": {\"total_tokens\": 5}\n\n".into(), Err(Unread::NotJson)),
    ] {
        let kind = "text/event-stream; charset=utf-8";
        assert_eq!(read(kind, &["/usage/total_tokens"], &stream)[0], found, "{stream}");
    }
    let lines = "{\"done\": false}\n\n{\"done\": true, \"n\": 9}\r\n";
    assert_eq!(read("application/x-ndjson", &["/n"], lines)[0], Ok(9_000));
}

#[test]
fn headers_are_read_and_encoded_bodies_are_not() {
    let rules = [
        MeterRule::new(7, Unit::Header(header::HeaderName::from_static("x-cost"))),
        MeterRule::new(8, Unit::Json("/n".parse().unwrap())),
    ];
    let value = |pairs: &[(&'static str, &'static str)], rule: usize| {
        let pairs =
            pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        let mut reading = Reading::begin(&rules, &headers).unwrap();
        reading.data(b"{\"n\": 3}");
        reading.value(rule)
    };
    assert_eq!(value(&[("x-cost", " 1.25 ")], 0), Ok(1_250));
    assert_eq!(value(&[], 0), Err(Unread::Missing));
    assert_eq!(value(&[("x-cost", "1"), ("x-cost", "1")], 0), Err(Unread::Twice));
    assert_eq!(value(&[("x-cost", "1, 1")], 0), Err(Unread::NotANumber));
    assert_eq!(value(&[], 1), Ok(3_000));
    assert_eq!(value(&[("content-encoding", "identity")], 1), Ok(3_000));
    assert_eq!(value(&[("content-encoding", "gzip")], 1), Err(Unread::Encoded));
    assert!(Reading::begin(&MeterRule::everything(), &HeaderMap::new()).is_none(), "nothing to read costs nothing");
}

/// A document of a few kinds of value, and everything that hides in it.
fn grow(rng: &SeededRng, depth: usize) -> Value {
    let [kind, many, n] = random_bytes::<3>(rng);
    match kind % if depth == 0 { 4 } else { 6 } {
        0 => Value::from(u32::from(n)),
        1 => Value::Null,
        2 => Value::from(["\"a\": {", "\\", "[1]", "é\n"][usize::from(n % 4)]),
        3 => Value::from(f64::from(n) / 4.0),
        4 => (0..many % 4).map(|_| grow(rng, depth - 1)).collect(),
        _ => {
            let key = |n: u8| ["a", "b", "0", "a\"b", "é"][usize::from(n % 5)].to_owned();
            (0..many % 4)
                .map(|n| (key(n.wrapping_add(many)), grow(rng, depth - 1)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
    }
}

#[test]
fn ten_thousand_documents_read_as_serde_json_reads_them() {
    let rng = SeededRng::new(7);
    let pointers = ["/a", "/b/0", "/a/b", "/0", "/0/a", "/a\"b/é", "/a/0/b", "/b/a/0"];
    for _ in 0..10_000 {
        let document = grow(&rng, 4);
        let text = document.to_string();
        let piece = usize::from(random_bytes::<1>(&rng)[0] % 9) + 1;
        let found = read_in("application/json", &pointers, text.as_bytes(), piece);
        for (pointer, found) in pointers.iter().zip(found) {
            let expected = match document.pointer(pointer) {
                None | Some(Value::Null) => Err(Unread::Missing),
                Some(Value::Number(number)) => thousandths(&number.to_string()),
                Some(_) => Err(Unread::NotANumber),
            };
            assert_eq!(found, expected, "{pointer} in {text}");
        }
    }
}
