//! HTTP/1.1 as bytes: the head of a request to an upstream, and the head of its answer. Pure.
//!
//! What concerns one hop alone is left out of both heads on the way.

use std::{fmt, mem::MaybeUninit, ops::Range};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use bytes::{Buf as _, Bytes, BytesMut};

use super::framing::{Chunk, Framing};
use crate::gateway::headers::is_hop_by_hop;

/// The most headers of an answer.
pub(super) const MAX_HEADERS: usize = 128;
/// The longest head of an answer, in bytes, and the longest trailer.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// Why an answer cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub(super) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer has {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// How long a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// There is none.
    None,
    /// So many bytes.
    Exact(u64),
    /// Unknown: it goes in chunks.
    Chunked,
}

/// Writes the head of a request: its own headers without those of one hop, and the length that it has here.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    method: &Method,
    target: &str,
    host: &HeaderValue,
    headers: &HeaderMap,
    length: Length,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        let said_anew = name == header::CONTENT_LENGTH && (length != Length::None || value != "0");
        if name == header::HOST || is_hop_by_hop(name) || said_anew {
            // What the client's hop said is gone already: this is ours, and says that trailers are taken.
            if name == header::TE {
                out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
            }
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    match length {
        Length::Exact(bytes) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
            out.extend_from_slice(b"\r\n\r\n");
        }
        // An empty body that the client announced is announced.
        Length::None => out.extend_from_slice(b"\r\n"),
        Length::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n"),
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// The connection may be used again once the body is read.
    pub(super) keeps: bool,
}

/// Where names and values lie in the bytes of a head; kept from one answer to the next, so that nothing is allocated.
pub(super) type Places = Vec<(Range<usize>, Range<usize>)>;

/// There is no head of an answer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotYet {
    /// The upstream wants the body (100).
    pub(super) go_on: bool,
}

/// Takes the head of an answer off what was read. Answers that only inform (1xx) are taken off and passed over; one that
/// changes the protocol was not asked for. `interim` counts the bytes of those: there is no end to them otherwise.
pub(super) fn take_head(
    read: &mut BytesMut,
    places: &mut Places,
    interim: &mut usize,
    method: &Method,
) -> Result<Result<Head, NotYet>, Malformed> {
    let mut go_on = false;
    loop {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let length = match config.parse_response_with_uninit_headers(&mut parsed, read, &mut slots) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if read.len() >= MAX_HEAD => return Err(Malformed("too long a head")),
            Ok(httparse::Status::Partial) => return Ok(Err(NotYet { go_on })),
            Err(_) => return Err(Malformed("no head of HTTP/1.1")),
        };
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed("no status"))?;
        if length > MAX_HEAD {
            return Err(Malformed("too long a head"));
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Malformed("another protocol, which nobody asked for"));
        }
        if status.is_informational() {
            *interim += length;
            if *interim > MAX_HEAD {
                return Err(Malformed("news without end before its head"));
            }
            read.advance(length);
            go_on |= status == StatusCode::CONTINUE;
            continue;
        }
        let version_1_1 = parsed.version == Some(1);
        let start = read.as_ptr() as usize;
        let lies = |part: &[u8]| {
            let from = part.as_ptr() as usize - start;
            from..from + part.len()
        };
        places.clear();
        places.extend(parsed.headers.iter().map(|header| (lies(header.name.as_bytes()), lies(header.value))));
        let bytes = read.split_to(length).freeze();
        return head(status, &bytes, places, version_1_1, method).map(Ok);
    }
}

fn head(
    status: StatusCode,
    bytes: &Bytes,
    places: &Places,
    version_1_1: bool,
    method: &Method,
) -> Result<Head, Malformed> {
    let mut headers = HeaderMap::with_capacity(places.len() + 4);
    let (mut length, mut coding, mut keeps, mut of_this_hop) = (None, None, version_1_1, Vec::new());
    for (name, value) in places {
        let name = HeaderName::from_bytes(&bytes[name.clone()]).map_err(|_| Malformed("a header that is none"))?;
        let text = &bytes[value.clone()];
        if name == header::CONTENT_LENGTH {
            let stated = decimal(text).ok_or(Malformed("a length that is no number"))?;
            match length.replace(stated) {
                None => {}
                Some(other) if other == stated => continue,
                Some(_) => return Err(Malformed("two lengths")),
            }
            // RFC 9110 section 8.6.
            if status == StatusCode::NO_CONTENT {
                continue;
            }
        } else if name == header::TRANSFER_ENCODING {
            if coding.replace(text.eq_ignore_ascii_case(b"chunked")).is_some() {
                return Err(Malformed("two transfer codings"));
            }
        } else if name == header::CONNECTION {
            for option in text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if option.eq_ignore_ascii_case(b"close") {
                    keeps = false;
                } else if !option.eq_ignore_ascii_case(b"keep-alive") {
                    of_this_hop.extend(HeaderName::from_bytes(option).ok());
                }
            }
        }
        // What is said of trailers is passed on to those who take them.
        if is_hop_by_hop(&name) && name != header::TRAILER {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice(value.clone()));
        headers.append(name, value.map_err(|_| Malformed("a header value that is none"))?);
    }
    for name in of_this_hop {
        headers.remove(name);
    }
    let bodiless = *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match (bodiless, coding, length) {
        (true, _, _) => Framing::Length(0),
        (false, Some(true), stated) => {
            if stated.is_some() {
                // RFC 9112 section 6.3: the coding wins, and the connection is not used again.
                headers.remove(header::CONTENT_LENGTH);
                keeps = false;
            }
            Framing::Chunked(Chunk::Line)
        }
        (false, None, Some(length)) => Framing::Length(length),
        (false, Some(false), _) => return Err(Malformed("a transfer coding besides chunked")),
        (false, None, None) => {
            keeps = false;
            Framing::Close
        }
    };
    Ok(Head { status, headers, framing, keeps })
}

/// A number of bytes.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    let fine = !digits.is_empty() && digits.len() <= 19 && digits.iter().all(u8::is_ascii_digit);
    fine.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: &str) -> Result<Option<(Head, BytesMut)>, Malformed> {
        let mut read = BytesMut::from(bytes);
        let head = take_head(&mut read, &mut Places::new(), &mut 0, &Method::GET)?;
        Ok(head.ok().map(|head| (head, read)))
    }

    #[test]
    fn a_head_is_taken_whole_and_without_what_concerns_one_hop() {
        let text = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Hop: 1\r\n\
                    Connection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\nA: b\r\nA: c\r\n\r\nhello";
        let (head, rest) = answer(text).unwrap().unwrap();
        assert_eq!((head.status.as_u16(), head.framing, head.keeps), (200, Framing::Length(5), true));
        let names: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(names, [("content-length", &b"5"[..]), ("a", b"b"), ("a", b"c")]);
        assert_eq!(rest, "hello");
        for short in (0..text.len() - 5).step_by(7) {
            assert!(answer(&text[..short]).unwrap().is_none(), "{short}");
        }
    }

    #[test]
    fn the_end_of_a_body_is_known_by_rfc_9112() {
        let of = |head: &str| answer(&format!("{head}\r\n\r\n")).unwrap().map(|(head, _)| (head.framing, head.keeps));
        let chunked = Framing::Chunked(Chunk::Line);
        assert_eq!(of("HTTP/1.1 200 OK"), Some((Framing::Close, false)));
        assert_eq!(of("HTTP/1.1 204 No\r\ncontent-length: 7"), Some((Framing::Length(0), true)));
        assert_eq!(of("HTTP/1.1 200 OK\r\ncontent-length: 7\r\ncontent-length: 7"), Some((Framing::Length(7), true)));
        assert_eq!(of("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked"), Some((chunked, true)));
        assert_eq!(of("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 7"), Some((chunked, false)));
        assert_eq!(of("HTTP/1.0 200 OK\r\ncontent-length: 1"), Some((Framing::Length(1), false)));
        assert_eq!(of("HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: Close"), Some((Framing::Length(1), false)));
    }

    #[test]
    fn an_answer_that_can_be_read_in_two_ways_is_refused() {
        for head in [
            "SSH-2.0-OpenSSH",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2",
            "HTTP/1.1 200 OK\r\ncontent-length: 1, 1",
            "HTTP/1.1 200 OK\r\ncontent-length: +1",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "HTTP/1.1 200 OK\r\na : b",
            "HTTP/1.1 200 OK\r\na: b\r\n c",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x",
        ] {
            assert!(answer(&format!("{head}\r\n\r\n")).is_err(), "{head}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(MAX_HEAD));
        assert!(answer(&endless).is_err());
    }

    #[test]
    fn a_request_says_how_long_its_body_is_and_nothing_of_one_hop() {
        let headers: HeaderMap = [("upgrade", "x"), ("content-length", "0"), ("host", "theirs"), ("accept", "*/*")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let head = |method, length| {
            let mut out = Vec::new();
            write_head(&mut out, &method, "/a?b", &HeaderValue::from_static("up:1"), &headers, length);
            String::from_utf8(out).unwrap()
        };
        let begun = |method: &str| format!("{method} /a?b HTTP/1.1\r\nhost: up:1\r\naccept: */*\r\n");
        let empty = "GET /a?b HTTP/1.1\r\nhost: up:1\r\ncontent-length: 0\r\naccept: */*\r\n\r\n";
        assert_eq!(head(Method::GET, Length::None), empty);
        assert_eq!(head(Method::PUT, Length::Exact(7)), format!("{}content-length: 7\r\n\r\n", begun("PUT")));
        let chunked = format!("{}transfer-encoding: chunked\r\n\r\n", begun("PUT"));
        assert_eq!(head(Method::PUT, Length::Chunked), chunked);
    }
}
