//! An answer of which all is there, as bytes: whether it can be given on as it is, and which of its headers. Pure.
//!
//! Whatever is not as plain as can be, or not there yet, is read as any other answer is (`wire`).

use std::mem::MaybeUninit;

use axum::http::{StatusCode, header};

use super::wire::{MAX_HEADERS, Places, decimal};
use crate::gateway::{
    headers::{TOLLGATE_USAGE, may_have_ours},
    limit_headers::{QUOTA_EXCEEDED, RATE_LIMIT, RATE_LIMIT_POLICY},
};

/// What was read so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Not all of a head.
    Part,
    /// An answer that is read as any other.
    Other,
    /// All of an answer.
    Whole(Whole),
}

/// An answer; where its headers lie is in the places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) status: StatusCode,
    /// Where the body begins, and how long it is.
    pub(super) head: usize,
    pub(super) body: usize,
    pub(super) has_date: bool,
    /// The connection may be used again.
    pub(super) keeps: bool,
}

/// Looks at what was read of an answer; `bodiless` is whether it has none by its request's method.
pub(super) fn look(read: &[u8], bodiless: bool, places: &mut Places) -> Seen {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let head = match config.parse_response_with_uninit_headers(&mut parsed, read, &mut slots) {
        Ok(httparse::Status::Complete(head)) => head,
        // How long it may become is not decided here.
        Ok(httparse::Status::Partial) if read.len() < super::wire::MAX_HEAD => return Seen::Part,
        Ok(httparse::Status::Partial) | Err(_) => return Seen::Other,
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let has_body = |status: &StatusCode| {
        !status.is_informational() && !matches!(*status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    };
    let (Some(status), Some(1)) = (status.filter(has_body), parsed.version) else { return Seen::Other };
    let start = read.as_ptr() as usize;
    let lies = |part: &[u8]| {
        let from = part.as_ptr() as usize - start;
        from..from + part.len()
    };
    let (mut length, mut keeps, mut has_date) = (None, true, false);
    places.clear();
    for line in &*parsed.headers {
        match kind(line.name.as_bytes(), line.value) {
            Kind::Plain => {}
            Kind::Stays => continue,
            Kind::Last => {
                keeps = false;
                continue;
            }
            Kind::Date => has_date = true,
            Kind::Length if length.is_none() => length = Some(line.value),
            Kind::Length | Kind::Other => return Seen::Other,
        }
        places.push((lies(line.name.as_bytes()), lies(line.value)));
    }
    let Some(stated) = length.and_then(decimal) else { return Seen::Other };
    let body = if bodiless { Some(0) } else { usize::try_from(stated).ok() };
    match body.filter(|body| *body <= read.len() - head) {
        Some(body) => Seen::Whole(Whole { status, head, body, has_date, keeps }),
        None => Seen::Other,
    }
}

/// What a header is to us.
enum Kind {
    /// The client is to see it as it is.
    Plain,
    /// It is about this hop.
    Stays,
    /// It is about this hop, and the connection ends.
    Last,
    Length,
    Date,
    /// An answer with it is read as any other.
    Other,
}

fn kind(name: &[u8], value: &[u8]) -> Kind {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    match name.first().map(u8::to_ascii_lowercase) {
        Some(b'c') if is(header::CONTENT_LENGTH.as_str()) => Kind::Length,
        Some(b'c') if is(header::CONNECTION.as_str()) => {
            if value.eq_ignore_ascii_case(b"keep-alive") {
                Kind::Stays
            } else if value.eq_ignore_ascii_case(b"close") {
                Kind::Last
            } else {
                Kind::Other
            }
        }
        Some(b'd') if is(header::DATE.as_str()) => Kind::Date,
        Some(b'h') if is("http2-settings") => Kind::Other,
        Some(b'k') if is("keep-alive") => Kind::Stays,
        Some(b'p') if name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"proxy-")) => Kind::Other,
        // Only we say these.
        Some(b'r') if is(RATE_LIMIT.as_str()) || is(RATE_LIMIT_POLICY.as_str()) => Kind::Other,
        Some(b's') if is(header::SET_COOKIE.as_str()) && may_have_ours(value) => Kind::Other,
        Some(b't') if is(TOLLGATE_USAGE.as_str()) || is(QUOTA_EXCEEDED.as_str()) => Kind::Other,
        Some(b't') if is("te") || is("trailer") || is("transfer-encoding") => Kind::Other,
        Some(b'u') if is(header::UPGRADE.as_str()) => Kind::Other,
        _ => Kind::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::headers::HOP_BY_HOP;

    fn seen(answer: &str, bodiless: bool) -> (Seen, Vec<String>) {
        let mut places = Places::new();
        let seen = look(answer.as_bytes(), bodiless, &mut places);
        let name = |(name, _): &(std::ops::Range<usize>, _)| answer[name.clone()].to_owned();
        (seen, places.iter().map(name).collect())
    }

    #[test]
    fn a_plain_answer_is_given_on_without_what_concerns_one_hop() {
        let answer = "HTTP/1.1 404 Nowhere\r\nContent-Length: 5\r\nKeep-Alive: timeout=5\r\nConnection: Keep-Alive\r\n\
                      Date: now\r\nX-Own: a\r\nSet-Cookie: a=b\r\n\r\nhello";
        let whole =
            Whole { status: StatusCode::NOT_FOUND, head: answer.len() - 5, body: 5, has_date: true, keeps: true };
        let names = ["Content-Length", "Date", "X-Own", "Set-Cookie"].map(str::to_owned);
        assert_eq!(seen(answer, false), (Seen::Whole(whole), names.to_vec()));
        let (head, rest) = (whole.head, "what the upstream says unasked");
        for short in 0..head {
            assert_eq!(seen(&answer[..short], false).0, Seen::Part, "{short}");
        }
        assert_eq!(seen(&answer[..head + 4], false).0, Seen::Other);
        assert_eq!(seen(&format!("{answer}{rest}"), false).0, Seen::Whole(whole));
        assert_eq!(seen(&answer[..head], true).0, Seen::Whole(Whole { body: 0, ..whole }));
        let last = seen("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", false).0;
        assert!(matches!(last, Seen::Whole(Whole { keeps: false, has_date: false, .. })), "{last:?}");
    }

    #[test]
    fn anything_else_is_read_as_any_other_answer() {
        for head in [
            "HTTP/1.0 200 OK\r\ncontent-length: 0",
            "HTTP/1.1 100 Continue",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\ncontent-length: 0",
            "HTTP/1.1 204 No Content\r\ncontent-length: 0",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 0",
            "HTTP/1.1 200 OK",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 0",
            "HTTP/1.1 200 OK\r\ncontent-length: x",
            "HTTP/1.1 200 OK\r\ncontent-length: 1",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\ntransfer-encoding: chunked",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nTrailer: x",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: x-hop",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nTollgate-Usage: compute=1",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nRateLimit: x",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nSet-Cookie: tollgate_browser=x",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nProxy-Authenticate: x",
            "SSH-2.0-OpenSSH",
        ] {
            assert_eq!(seen(&format!("{head}\r\n\r\n"), false).0, Seen::Other, "{head}");
        }
    }

    /// Whatever is added to the list stays behind here, too.
    #[test]
    fn what_concerns_one_hop_is_never_given_on() {
        for name in HOP_BY_HOP {
            let (_, names) = seen(&format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{name}: close\r\n\r\n"), false);
            assert!(!names.iter().any(|given| given == name), "{name}");
        }
    }
}
