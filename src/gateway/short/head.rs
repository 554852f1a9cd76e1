//! The head of a request as bytes: whether it can go the short way, and what of it an upstream is to see. Pure.
//!
//! Whatever is not as plain as can be is not looked at twice: it goes the long way, which knows how to refuse it.

use std::mem::MaybeUninit;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::{
    gateway::{
        arrival,
        headers::{is_form, is_identity, is_traceparent, may_have_ours},
    },
    web::credential::has_access_token,
};

/// The most headers of a request.
const MAX_HEADERS: usize = 128;
/// The longest head.
const MAX_HEAD: usize = 64 * 1024;
/// The longest body that is waited for as a whole.
const MAX_BODY: usize = 16 * 1024;

/// What was read so far.
#[expect(clippy::large_enum_variant, reason = "it is looked at where it is made")]
pub(super) enum Seen<'b, R> {
    /// Not all of a request that may go the short way; how long it is, once that is known.
    Part(Option<usize>),
    /// A request that goes the long way, or none.
    Other,
    /// All of a request that can go the short way, and what its route is.
    Whole(Asked<'b>, R),
}

/// A request.
#[derive(Default)]
pub(super) struct Asked<'b> {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: &'b str,
    pub(super) path: &'b str,
    pub(super) host: &'b str,
    pub(super) token: &'b str,
    token_line: Option<usize>,
    /// Where the body begins, and how long it is.
    pub(super) head: usize,
    pub(super) body: usize,
    /// The client says what trace it belongs to.
    pub(super) has_trace: bool,
    /// What proxies said of its way.
    pub(super) way: HeaderMap,
}

/// Looks at what was read, and adds the headers that the upstream is to see to `told`. `from_proxy` is whether what is said
/// of the request's way is believed; `choose` finds the route, begins to tell, and says whether the token is told.
pub(super) fn look<'b, R>(
    read: &'b [u8],
    from_proxy: bool,
    told: &mut Vec<u8>,
    choose: impl FnOnce(&Asked<'b>, &mut Vec<u8>) -> Option<(R, bool)>,
) -> Seen<'b, R> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let head = match parsed.parse_with_uninit_headers(read, &mut slots) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if read.len() < MAX_HEAD => return Seen::Part(None),
        Ok(httparse::Status::Partial) | Err(_) => return Seen::Other,
    };
    let (Some(method), Some(target), Some(1)) = (parsed.method, parsed.path, parsed.version) else {
        return Seen::Other;
    };
    let Some(method) = known(method).filter(|_| head <= MAX_HEAD && is_plain_target(target)) else {
        return Seen::Other;
    };
    let mut asked = Asked { method, target, path: target, head, ..Asked::default() };
    let Some(told_on) = asked.read_headers(parsed.headers, from_proxy) else { return Seen::Other };
    if read.len() < head + asked.body {
        return Seen::Part(Some(head + asked.body));
    }
    let Some((route, forward_token)) = choose(&asked, told) else { return Seen::Other };
    for (place, line) in parsed.headers.iter().enumerate() {
        let is_token = Some(place) == asked.token_line;
        if told_on & (1 << place) != 0 && (!is_token || forward_token) {
            put(told, line.name.as_bytes(), line.value);
        }
    }
    Seen::Whole(asked, route)
}

/// Writes a header's line.
pub fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

impl<'b> Asked<'b> {
    /// Which of the headers the upstream is to see; `None` when the request goes the long way.
    fn read_headers(&mut self, headers: &[httparse::Header<'b>], from_proxy: bool) -> Option<u128> {
        if let Some((path, query)) = self.target.split_once('?') {
            self.path = path;
            if has_access_token(query) {
                return None;
            }
        }
        let (mut told_on, mut is_form, mut has_host, mut has_length) = (0, false, false, false);
        for (place, line) in headers.iter().enumerate() {
            let bit = 1_u128 << place;
            match kind(line.name.as_bytes(), line.value) {
                Kind::Plain => told_on |= bit,
                Kind::Host if !has_host => {
                    self.host = std::str::from_utf8(line.value).ok()?;
                    has_host = true;
                }
                Kind::Token if self.token_line.is_none() => {
                    self.token = bearer(line.value)?;
                    self.token_line = Some(place);
                    told_on |= bit;
                }
                Kind::Length if !has_length => {
                    self.body = length(line.value)?;
                    has_length = true;
                    told_on |= bit;
                }
                Kind::Form => {
                    is_form = true;
                    told_on |= bit;
                }
                Kind::Trace if !self.has_trace => {
                    self.has_trace = HeaderValue::from_bytes(line.value).is_ok_and(|value| is_traceparent(&value));
                    told_on |= bit;
                    if !self.has_trace {
                        return None;
                    }
                }
                Kind::Way if from_proxy => {
                    let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
                    self.way.append(name, HeaderValue::from_bytes(line.value).ok()?);
                }
                Kind::Ours | Kind::Way => {}
                Kind::Other | Kind::Host | Kind::Token | Kind::Length | Kind::Trace => return None,
            }
        }
        let is_whole = has_host && self.token_line.is_some();
        let is_short = self.body == 0 || (!is_form && self.body <= MAX_BODY);
        (is_whole && is_short).then_some(told_on)
    }
}

fn known(method: &str) -> Option<Method> {
    Some(match method {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        "DELETE" => Method::DELETE,
        _ => return None,
    })
}

/// Path and query in characters that nobody reads in another way.
fn is_plain_target(target: &str) -> bool {
    target.starts_with('/')
        && target.bytes().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'/' | b'-'
                        | b'.'
                        | b'_'
                        | b'~'
                        | b'?'
                        | b'&'
                        | b'='
                        | b'%'
                        | b':'
                        | b'@'
                        | b'!'
                        | b'$'
                        | b'\''
                        | b'('
                        | b')'
                        | b'*'
                        | b'+'
                        | b','
                )
        })
}

/// What a header is to us.
enum Kind {
    /// The upstream is to see it as it is.
    Plain,
    /// It is about this hop, or only we may say it: it stays behind.
    Ours,
    /// A request with it goes the long way.
    Other,
    Host,
    Token,
    Length,
    /// The body is a form, in which there could be a token.
    Form,
    Trace,
    /// How the request came.
    Way,
}

fn kind(name: &[u8], value: &[u8]) -> Kind {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    // Most are told by their first letter.
    match name.first().map(u8::to_ascii_lowercase) {
        Some(b'a') if is(header::AUTHORIZATION.as_str()) => Kind::Token,
        Some(b'c') if is(header::CONTENT_LENGTH.as_str()) => Kind::Length,
        Some(b'c') if is(header::CONTENT_TYPE.as_str()) => {
            let grpc = b"application/grpc";
            if value.get(..grpc.len()).is_some_and(|start| start.eq_ignore_ascii_case(grpc)) {
                // Its answers have trailers.
                Kind::Other
            } else if is_form(value) {
                Kind::Form
            } else {
                Kind::Plain
            }
        }
        Some(b'c') if is(header::CONNECTION.as_str()) => {
            if value.eq_ignore_ascii_case(b"keep-alive") {
                Kind::Ours
            } else {
                Kind::Other
            }
        }
        // One of ours may be in it.
        Some(b'c') if is(header::COOKIE.as_str()) && may_have_ours(value) => Kind::Other,
        Some(b'e') if is(header::EXPECT.as_str()) => Kind::Other,
        Some(b'f') if is(header::FORWARDED.as_str()) => Kind::Way,
        Some(b'h') if is(header::HOST.as_str()) => Kind::Host,
        Some(b'h') if is("http2-settings") => Kind::Other,
        Some(b'k') if is("keep-alive") => Kind::Ours,
        Some(b'p') if name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"proxy-")) => Kind::Other,
        Some(b't') if is("traceparent") => Kind::Trace,
        Some(b't') if is("te") || is("trailer") || is("transfer-encoding") => Kind::Other,
        Some(b'u') if is(header::UPGRADE.as_str()) => Kind::Other,
        Some(b't' | b'x') if is_identity(name) => Kind::Ours,
        Some(b'x') if arrival::says_it(name) => Kind::Way,
        _ => Kind::Plain,
    }
}

fn bearer(value: &[u8]) -> Option<&str> {
    let is_plain = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let (scheme, token) = std::str::from_utf8(value).ok().filter(|_| is_plain)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

fn length(digits: &[u8]) -> Option<usize> {
    let fine = !digits.is_empty() && digits.len() <= 9 && digits.iter().all(u8::is_ascii_digit);
    fine.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::headers::{HOP_BY_HOP, OURS};

    fn seen(request: &str) -> Result<(Asked<'_>, String), bool> {
        let mut told = Vec::new();
        match look(request.as_bytes(), false, &mut told, |_, _| Some(((), false))) {
            Seen::Whole(asked, ()) => Ok((asked, String::from_utf8(told).unwrap())),
            Seen::Part(_) => Err(true),
            Seen::Other => Err(false),
        }
    }

    fn with(lines: &str) -> String {
        format!("GET /a?b=c HTTP/1.1\r\nHost: x\r\nAuthorization: bearer  t\r\n{lines}\r\n")
    }

    #[test]
    fn a_plain_request_is_told_as_it_is_without_what_stays_behind() {
        let request =
            with("X-Own: 1\r\nConnection: Keep-Alive\r\nX_Tenant.Id: 7\r\nX-Real-IP: 1\r\nContent-Length: 2\r\n")
                + "ok";
        let (asked, told) = seen(&request).unwrap_or_else(|part| panic!("{part}"));
        assert_eq!((asked.path, asked.target, asked.host, asked.token), ("/a", "/a?b=c", "x", "t"));
        assert_eq!((asked.head + asked.body, told.as_str()), (request.len(), "X-Own: 1\r\nContent-Length: 2\r\n"));
        for cut in 0..request.len() {
            assert_eq!(seen(&request[..cut]).err(), Some(true), "{cut}");
        }
    }

    #[test]
    fn what_is_not_plain_goes_the_long_way() {
        let token = "Authorization: Bearer t\r\n";
        for lines in [
            token,
            "Host: y\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 99999999\r\n",
            "Content-Type: text/plain\r\nContent-Type: Application/x-www-form-urlencoded\r\nContent-Length: 1\r\n",
            "Content-Type: application/grpc+proto\r\n",
            "Cookie: a=b; tollgate_browser=x\r\n",
            "Expect: 100-continue\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive, x\r\n",
            "traceparent: 1\r\n",
            "a : b\r\n",
            "a: b\r\n c\r\n",
        ] {
            assert_eq!(seen(&with(lines)).err(), Some(false), "{lines}");
        }
        for line in [
            "GET /a HTTP/1.0",
            "GET http://x/a HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /a;b HTTP/1.1",
            "GET /a?access%5Ftoken=t HTTP/1.1",
            "GET /a?b;access_token=t HTTP/1.1",
            "CONNECT /a HTTP/1.1",
            "OPTIONS /a HTTP/1.1",
        ] {
            assert_eq!(seen(&format!("{line}\r\nHost: x\r\n{token}\r\n")).err(), Some(false), "{line}");
        }
        for lines in [token, "Host: x\r\n", "Host: x\r\nAuthorization: Bearer \u{a0}t\r\n"] {
            assert_eq!(seen(&format!("GET /a HTTP/1.1\r\n{lines}\r\n")).err(), Some(false), "{lines}");
        }
    }

    /// Whatever is added to these lists stays behind on the short way, too.
    #[test]
    fn what_concerns_one_hop_and_what_only_we_say_is_never_told() {
        for name in HOP_BY_HOP.into_iter().chain(OURS) {
            if let Ok((_, told)) = seen(&with(&format!("{name}: keep-alive\r\n"))) {
                assert_eq!(told, "", "{name}");
            }
        }
    }
}
