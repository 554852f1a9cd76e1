//! Quantities out of an answer, while it passes: from its headers, and from places in its JSON. The body is not held back,
//! and a few hundred bytes of it are in memory at most, however long it is.
//!
//! A plain body is one document. In a stream of events (`text/event-stream`, or JSON by lines) each event is one, and the last
//! event that has the place counts; what is no JSON, such as `[DONE]`, is passed over. `null` is nothing. A place that is
//! there twice in one document is ambiguous, and not read. A body that is encoded is not looked into: the meter layer asks for
//! it as it is.

mod events;
mod json;
mod pointer;

use axum::http::{HeaderMap, HeaderValue, header};

pub use pointer::{Pointer, PointerError};

use super::units::{MeterRule, Unit, Unread, thousandths};
use events::{Events, Framing};
use json::Scanner;

/// What is being read out of one answer.
pub(super) struct Reading {
    /// By place among the rules.
    headers: Vec<(usize, Result<i64, Unread>)>,
    /// Which rules want the body, in the order of the scanner's pointers.
    wanted: Vec<usize>,
    body: Body,
}

enum Body {
    /// Nobody wants it, or it cannot be read.
    Closed(Unread),
    Document(Scanner),
    Events(Events),
}

impl Reading {
    /// Reads the headers, and gets ready for the body; `None` when no rule reads anything.
    pub fn begin(rules: &[MeterRule], headers: &HeaderMap) -> Option<Box<Self>> {
        let mut reading = Self { headers: Vec::new(), wanted: Vec::new(), body: Body::Closed(Unread::Missing) };
        let mut pointers = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            match &rule.unit {
                Unit::Header(name) => {
                    let mut lines = headers.get_all(name).iter();
                    let value = match (lines.next(), lines.next()) {
                        (None, _) => Err(Unread::Missing),
                        (Some(one), None) => number(one),
                        (Some(_), Some(_)) => Err(Unread::Twice),
                    };
                    reading.headers.push((index, value));
                }
                Unit::Json(pointer) => {
                    reading.wanted.push(index);
                    pointers.push(pointer.clone());
                }
                _ => {}
            }
        }
        if !pointers.is_empty() {
            reading.body = body(pointers, headers);
        } else if reading.headers.is_empty() {
            return None;
        }
        Some(Box::new(reading))
    }

    /// The next bytes of the body.
    pub fn data(&mut self, bytes: &[u8]) {
        match &mut self.body {
            Body::Closed(_) => {}
            Body::Document(scanner) => scanner.data(bytes),
            Body::Events(events) => events.data(bytes),
        }
    }

    /// The body came to its end.
    pub fn finish(&mut self) {
        match &mut self.body {
            Body::Closed(_) => {}
            Body::Document(scanner) => scanner.finish(),
            Body::Events(events) => events.finish(),
        }
    }

    /// What was read for a rule; whatever the body has not said by now is not there.
    pub fn value(&self, rule: usize) -> Result<i64, Unread> {
        if let Some((_, value)) = self.headers.iter().find(|(index, _)| *index == rule) {
            return *value;
        }
        let Some(place) = self.wanted.iter().position(|index| *index == rule) else { return Err(Unread::Missing) };
        match &self.body {
            Body::Closed(why) => Err(*why),
            Body::Document(scanner) => scanner.value(place),
            Body::Events(events) => events.value(place),
        }
    }
}

fn number(value: &HeaderValue) -> Result<i64, Unread> {
    thousandths(value.to_str().map_err(|_| Unread::NotANumber)?.trim())
}

fn body(pointers: Vec<Pointer>, headers: &HeaderMap) -> Body {
    let encoded = |value: &HeaderValue| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().any(encoded) {
        return Body::Closed(Unread::Encoded);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let scanner = Scanner::new(pointers);
    let is = |names: &[&str]| names.iter().any(|name| kind.eq_ignore_ascii_case(name));
    if is(&["text/event-stream"]) {
        Body::Events(Events::new(scanner, Framing::Sse))
    } else if is(&["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"]) {
        Body::Events(Events::new(scanner, Framing::Lines))
    } else {
        Body::Document(scanner)
    }
}

#[cfg(test)]
mod tests;
