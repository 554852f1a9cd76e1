//! A scanner of JSON that finds the numbers at a few places, byte by byte, without keeping the document.
//!
//! It follows the structure to the letter, so that a place is never found where another reader would not find it. Of numbers
//! and words that nobody asked for it looks at the characters alone.

use super::pointer::{MAX_STEPS, Pointer};
use crate::gateway::units::{Unread, thousandths};

/// The deepest nesting that is followed; that of `serde_json`, too.
const MAX_LEVELS: usize = 128;
/// The longest number that is read, in bytes.
const MAX_NUMBER: usize = 64;
/// The most bytes that one byte of a key takes when it is escaped: `\u00e9` for half a character.
const ESCAPED: usize = 6;

/// What was found at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    Number(i64),
    Fault(Unread),
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After `{`.
    KeyOrEnd,
    Key,
    Colon,
    /// A comma or the end of what is open.
    More,
    InString,
    InEscape,
    InWord,
    /// No JSON: nothing more is looked at.
    Broken,
}

/// Finds what is at a few places of one document.
pub(super) struct Scanner {
    pointers: Vec<Pointer>,
    /// By pointer.
    seen: Vec<Seen>,
    /// By pointer: how many of its steps lead to what is open.
    matched: Vec<usize>,
    /// Which pointers lead to the value that comes next or is being read, a bit each.
    hits: u64,
    next: Next,
    /// Open arrays and objects.
    levels: usize,
    /// A bit each: whether it is an object.
    objects: u128,
    /// The place within an open array, where a pointer may reach.
    places: [usize; MAX_STEPS + 1],
    /// The string being read is a key.
    in_key: bool,
    /// A key, number or text that somebody may want.
    text: Vec<u8>,
    /// It is wanted, and not too long so far.
    keeps: bool,
    longest_key: usize,
}

impl Scanner {
    /// Looks for at most 64 places.
    pub(super) fn new(pointers: Vec<Pointer>) -> Self {
        let steps = pointers.iter().flat_map(Pointer::steps);
        let longest_key = steps.map(String::len).max().unwrap_or(0) * ESCAPED;
        let mut scanner = Self {
            seen: vec![Seen::Nothing; pointers.len()],
            matched: vec![0; pointers.len()],
            pointers,
            hits: 0,
            next: Next::Value,
            levels: 0,
            objects: 0,
            places: [0; MAX_STEPS + 1],
            in_key: false,
            text: Vec::new(),
            keeps: false,
            longest_key,
        };
        scanner.reset();
        scanner
    }

    /// Begins another document.
    pub(super) fn reset(&mut self) {
        self.seen.fill(Seen::Nothing);
        self.matched.fill(0);
        (self.hits, self.next, self.levels, self.objects) = (u64::MAX, Next::Value, 0, 0);
        self.text.clear();
        self.keeps = false;
    }

    /// What is at a place, as far as the document was read.
    pub(super) fn value(&self, place: usize) -> Result<i64, Unread> {
        match (self.seen.get(place), self.next) {
            (_, Next::Broken) => Err(Unread::NotJson),
            (Some(Seen::Number(value)), _) => Ok(*value),
            (Some(Seen::Fault(why)), _) => Err(*why),
            (_, _) if self.complete() => Err(Unread::Missing),
            (_, _) => Err(Unread::BrokenOff),
        }
    }

    /// What a whole document has at a place.
    pub(super) fn seen(&self, place: usize) -> Seen {
        self.seen.get(place).copied().unwrap_or(Seen::Nothing)
    }

    /// How many places are looked for.
    pub(super) fn places_wanted(&self) -> usize {
        self.pointers.len()
    }

    /// Whether a document came to its end.
    pub(super) fn complete(&self) -> bool {
        self.levels == 0 && self.next == Next::More
    }

    /// Nothing more comes: a number may end without a sign.
    pub(super) fn finish(&mut self) {
        if self.next == Next::InWord {
            self.end_word();
        }
    }

    /// The next bytes.
    pub(super) fn data(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.byte(*byte);
            if self.next == Next::Broken {
                return;
            }
        }
    }

    fn byte(&mut self, byte: u8) {
        match self.next {
            Next::InString => match byte {
                b'"' => return self.end_string(),
                b'\\' => self.next = Next::InEscape,
                0..0x20 => return self.next = Next::Broken,
                _ => {}
            },
            Next::InEscape => self.next = Next::InString,
            Next::InWord => match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.' => {}
                _ => {
                    self.end_word();
                    return self.structure(byte);
                }
            },
            _ => return self.structure(byte),
        }
        self.keep(byte);
    }

    fn structure(&mut self, byte: u8) {
        match (self.next, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => {}
            (Next::Value | Next::ValueOrEnd, b'{') => self.open(true),
            (Next::Value | Next::ValueOrEnd, b'[') => self.open(false),
            (Next::Value | Next::ValueOrEnd, b'"') => {
                self.begin(self.targets() != 0, false);
                self.next = Next::InString;
            }
            (Next::Value | Next::ValueOrEnd, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                self.begin(self.targets() != 0, false);
                self.keep(byte);
                self.next = Next::InWord;
            }
            (Next::Key | Next::KeyOrEnd, b'"') => {
                self.begin(self.live() != 0, true);
                self.next = Next::InString;
            }
            (Next::Colon, b':') => self.next = Next::Value,
            (Next::ValueOrEnd, b']') | (Next::KeyOrEnd, b'}') | (Next::More, b']' | b'}') => self.close(byte == b'}'),
            (Next::More, b',') if self.levels > 0 => self.another(),
            _ => self.next = Next::Broken,
        }
    }

    fn begin(&mut self, wanted: bool, is_key: bool) {
        (self.keeps, self.in_key) = (wanted, is_key);
        self.text.clear();
    }

    fn keep(&mut self, byte: u8) {
        let most = if self.in_key { self.longest_key } else { MAX_NUMBER };
        if self.keeps && self.text.len() < most {
            self.text.push(byte);
        } else {
            // Too long to be what somebody wants.
            self.keeps = false;
        }
    }

    /// The pointers whose first steps lead to what is open.
    fn live(&self) -> u64 {
        let level = self.levels.saturating_sub(1);
        self.select(|index, pointer| self.matched[index] == level && pointer.steps().len() > level)
    }

    /// The pointers that end at the value that comes next.
    fn targets(&self) -> u64 {
        self.hits & self.select(|_, pointer| pointer.steps().len() == self.levels)
    }

    fn select(&self, chosen: impl Fn(usize, &Pointer) -> bool) -> u64 {
        let pointers = self.pointers.iter().enumerate();
        pointers.filter(|(index, pointer)| chosen(*index, pointer)).fold(0, |bits, (index, _)| bits | 1 << index)
    }

    fn open(&mut self, is_object: bool) {
        let targets = self.targets();
        self.note(targets, Seen::Fault(Unread::NotANumber));
        if self.levels == MAX_LEVELS {
            return self.next = Next::Broken;
        }
        for index in 0..self.matched.len() {
            if self.hits >> index & 1 == 1 && self.levels > 0 {
                self.matched[index] = self.levels;
            }
        }
        self.objects = self.objects << 1 | u128::from(is_object);
        self.levels += 1;
        if is_object {
            (self.hits, self.next) = (0, Next::KeyOrEnd);
        } else {
            self.place(0);
            self.next = Next::ValueOrEnd;
        }
    }

    /// The value that comes next is so many after an array's first.
    fn place(&mut self, place: usize) {
        self.hits = 0;
        let live = self.live();
        if live == 0 {
            return;
        }
        // A pointer reaches no deeper than its steps.
        self.places[self.levels.min(MAX_STEPS)] = place;
        let step = place.to_string();
        let level = self.levels - 1;
        self.hits = live & self.select(|_, pointer| pointer.steps().get(level) == Some(&step));
    }

    fn another(&mut self) {
        if self.objects & 1 == 1 {
            (self.hits, self.next) = (0, Next::Key);
        } else {
            let place = self.places[self.levels.min(MAX_STEPS)] + 1;
            self.place(place);
            self.next = Next::Value;
        }
    }

    fn close(&mut self, is_object: bool) {
        if self.levels == 0 || (self.objects & 1 == 1) != is_object {
            return self.next = Next::Broken;
        }
        self.objects >>= 1;
        self.levels -= 1;
        let level = self.levels.saturating_sub(1);
        for matched in &mut self.matched {
            *matched = (*matched).min(level);
        }
        self.next = Next::More;
    }

    fn end_string(&mut self) {
        if self.in_key {
            let live = if self.keeps { self.live() } else { 0 };
            let key = if live == 0 { None } else { unescaped(&self.text) };
            let level = self.levels.saturating_sub(1);
            self.hits = key.map_or(0, |key| {
                live & self.select(|_, pointer| pointer.steps().get(level).is_some_and(|step| *step == key))
            });
            self.next = Next::Colon;
        } else {
            self.end_value();
        }
    }

    fn end_word(&mut self) {
        if self.keeps && self.text == b"null" {
            self.next = Next::More;
        } else {
            self.end_value();
        }
    }

    fn end_value(&mut self) {
        let targets = self.targets();
        if targets != 0 {
            let text = std::str::from_utf8(&self.text).ok().filter(|_| self.keeps);
            let value = text.map_or(Err(Unread::NotANumber), thousandths);
            self.note(targets, value.map_or_else(Seen::Fault, Seen::Number));
        }
        self.next = Next::More;
    }

    fn note(&mut self, targets: u64, found: Seen) {
        for (index, seen) in self.seen.iter_mut().enumerate() {
            if targets >> index & 1 == 1 {
                *seen = if *seen == Seen::Nothing { found } else { Seen::Fault(Unread::Twice) };
            }
        }
    }
}

/// A key as it is meant; `None` when it is no text.
fn unescaped(raw: &[u8]) -> Option<String> {
    if raw.contains(&b'\\') {
        let quoted = [b"\"", raw, b"\""].concat();
        return serde_json::from_slice(&quoted).ok();
    }
    String::from_utf8(raw.to_vec()).ok()
}
