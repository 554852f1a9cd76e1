//! Streams of events: server-sent ones (WHATWG HTML section 9.2), and JSON by lines. The last event that has a place counts.

use super::json::{Scanner, Seen};
use crate::gateway::units::Unread;

/// How events are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// `data:` lines up to an empty one.
    Sse,
    /// One a line.
    Lines,
}

/// Where in a line we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many letters of the field's name are those of `data`.
    Name(usize),
    /// The colon was there; one space after it is no content.
    Colon,
    Data,
    /// Another field, or a comment.
    Other,
}

const NAME: &[u8] = b"data";

/// Reads each event as a document of its own.
#[expect(clippy::struct_excessive_bools, reason = "each says something of its own, and they come in any combination")]
pub(super) struct Events {
    framing: Framing,
    scanner: Scanner,
    line: Line,
    /// The last byte was a carriage return: a line feed after it ends nothing more.
    after_return: bool,
    /// The event has data.
    any: bool,
    /// By place.
    last: Vec<Seen>,
    /// There was an event that was JSON.
    documents: bool,
    ended: bool,
}

impl Events {
    pub(super) fn new(scanner: Scanner, framing: Framing) -> Self {
        Self {
            framing,
            scanner,
            line: start(framing),
            after_return: false,
            any: false,
            last: Vec::new(),
            documents: false,
            ended: false,
        }
    }

    pub(super) fn value(&self, place: usize) -> Result<i64, Unread> {
        match self.last.get(place) {
            Some(Seen::Number(value)) => Ok(*value),
            Some(Seen::Fault(why)) => Err(*why),
            Some(Seen::Nothing) | None if !self.ended => Err(Unread::BrokenOff),
            Some(Seen::Nothing) | None if self.documents => Err(Unread::Missing),
            Some(Seen::Nothing) | None => Err(Unread::NotJson),
        }
    }

    /// Nothing more comes. An event without the empty line after it was said all the same.
    pub(super) fn finish(&mut self) {
        self.end_event();
        self.ended = true;
    }

    pub(super) fn data(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                rest = after;
                continue;
            }
            if matches!(first, b'\r' | b'\n') {
                self.after_return = *first == b'\r';
                self.end_line();
                rest = after;
                continue;
            }
            if self.line == Line::Data {
                let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
                self.any = true;
                self.scanner.data(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            self.line = match (self.line, *first) {
                (Line::Name(at), byte) if at < NAME.len() && byte == NAME[at] => Line::Name(at + 1),
                (Line::Name(at), b':') if at == NAME.len() => Line::Colon,
                (Line::Colon, b' ') => Line::Data,
                (Line::Colon, _) => {
                    self.line = Line::Data;
                    continue;
                }
                _ => Line::Other,
            };
            rest = after;
        }
    }

    fn end_line(&mut self) {
        let empty = matches!(self.line, Line::Name(0));
        if self.framing == Framing::Lines || empty {
            self.end_event();
        } else if self.line == Line::Data {
            // Between lines of one event is a line feed.
            self.scanner.data(b"\n");
        }
        self.line = start(self.framing);
    }

    fn end_event(&mut self) {
        if std::mem::take(&mut self.any) {
            self.scanner.finish();
            if self.scanner.complete() {
                self.documents = true;
                self.take();
            }
        }
        self.scanner.reset();
    }

    fn take(&mut self) {
        let places = self.scanner.places_wanted();
        self.last.resize(places, Seen::Nothing);
        for (place, last) in self.last.iter_mut().enumerate() {
            match self.scanner.seen(place) {
                Seen::Nothing => {}
                seen => *last = seen,
            }
        }
    }
}

const fn start(framing: Framing) -> Line {
    match framing {
        Framing::Sse => Line::Name(0),
        Framing::Lines => Line::Data,
    }
}
