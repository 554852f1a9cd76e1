//! Answers over HTTP/1.1 as bytes: their heads, and how their bodies end. Pure, but for the time in `Date`.

use std::{io::Write as _, time::SystemTime};

use axum::{
    body::{Body, HttpBody as _},
    http::{StatusCode, header, response::Parts},
};

use crate::gateway::{
    headers::is_hop_by_hop,
    short::{put, write_status},
};

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// There is none.
    None,
    /// There is none, because it was not asked for; it would be so long, if that is not said already.
    Head(u64),
    /// After so many bytes.
    Exact(u64),
    /// With its last chunk.
    Chunked,
}

impl Length {
    /// Whether a body follows the head.
    pub(super) const fn is_some(self) -> bool {
        matches!(self, Self::Exact(_) | Self::Chunked)
    }

    /// Of an answer; `is_head` is whether only its head was asked for.
    pub(super) fn of(parts: &Parts, body: &Body, is_head: bool) -> Self {
        if matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Self::None;
        }
        if is_head {
            let said = parts.headers.contains_key(header::CONTENT_LENGTH);
            return body.size_hint().exact().filter(|bytes| *bytes > 0 && !said).map_or(Self::None, Self::Head);
        }
        if body.is_end_stream() {
            return Self::Exact(0);
        }
        body.size_hint().exact().map_or(Self::Chunked, Self::Exact)
    }

    /// Whether a body of so many bytes is what the head says.
    pub(super) const fn is_kept_by(self, given: u64) -> bool {
        match self {
            Self::Exact(bytes) => given == bytes,
            Self::None | Self::Head(_) | Self::Chunked => true,
        }
    }

    /// Writes a piece of the body.
    pub(super) fn put(self, out: &mut Vec<u8>, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if self == Self::Chunked {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{:x}\r\n", data.len());
        }
        out.extend_from_slice(data);
        if self == Self::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes what comes after the last piece.
    pub(super) fn end(self, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// Writes the head of an answer, without its last line.
pub(super) fn write_head(out: &mut Vec<u8>, parts: &Parts, length: Length) {
    write_status(out, parts.status);
    for (name, value) in &parts.headers {
        // An answer without a body may say how long it would be, but for this status (RFC 9110 section 8.6).
        let is_said = length == Length::None && parts.status != StatusCode::NO_CONTENT;
        let said_anew = name == header::CONTENT_LENGTH && !is_said;
        if !said_anew && !is_hop_by_hop(name) {
            put(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    match length {
        Length::None => {}
        Length::Exact(bytes) | Length::Head(bytes) => {
            put(out, b"content-length", itoa::Buffer::new().format(bytes).as_bytes());
        }
        Length::Chunked => put(out, b"transfer-encoding", b"chunked"),
    }
}

/// Adds what the connection has to say to a head: the date, if it is missing, and that this is the last answer.
pub(super) fn add_to_head(out: &mut Vec<u8>, date: Option<&mut Date>, is_last: bool) {
    if let Some(date) = date {
        put(out, b"date", date.now());
    }
    if is_last {
        put(out, b"connection", b"close");
    }
}

/// The time as HTTP has it (RFC 9110 section 6.6.1), written anew once a second.
#[derive(Default)]
pub(super) struct Date {
    secs: u64,
    text: String,
}

impl Date {
    #[expect(clippy::disallowed_methods, reason = "caches of others go by real time, whatever the clock says")]
    fn now(&mut self) -> &[u8] {
        let now = SystemTime::now();
        let secs = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if secs != self.secs || self.text.is_empty() {
            self.secs = secs;
            self.text = httpdate::fmt_http_date(now);
        }
        self.text.as_bytes()
    }
}
