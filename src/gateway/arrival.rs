//! How a request came to us, for the upstream: `Forwarded` (RFC 7239) and the `X-Forwarded-*` headers that came before it.
//! What a client says of that is taken away, unless it is a proxy that the settings trust: then it is gone on from.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, header};

use super::headers::begins;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The longest list that is gone on from, in bytes: beyond it, what a proxy says is taken away, too.
const MOST: usize = 2_048;

/// Of a connection; its requests differ in their hosts.
#[derive(Debug, Clone)]
pub struct Arrival {
    address: HeaderValue,
    /// `for=` with the address, `proto=` with the protocol.
    element: String,
    protocol: &'static str,
    from_proxy: bool,
}

impl Arrival {
    /// Over a connection from an address, with TLS or without; `from_proxy` where that is a proxy of ours.
    pub fn new(peer: IpAddr, secure: bool, from_proxy: bool) -> Self {
        let peer = peer.to_canonical();
        let protocol = if secure { "https" } else { "http" };
        // RFC 7239 section 6: an address of version 6 is in brackets and quoted.
        let node = if peer.is_ipv6() { format!("\"[{peer}]\"") } else { peer.to_string() };
        // An address is a value of a header.
        let address = HeaderValue::try_from(peer.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self { address, element: format!("for={node};proto={protocol}"), protocol, from_proxy }
    }

    /// Whether it came by way of a proxy of ours.
    pub(super) const fn is_from_proxy(&self) -> bool {
        self.from_proxy
    }

    /// Says it to an upstream, in place of what the client says.
    pub(super) fn tell<B>(&self, request: &mut Request<B>) {
        let host = match request.uri().authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => request.headers().get(header::HOST).cloned(),
        };
        self.tell_of(host, request.headers_mut());
    }

    /// The same, of a request for this host.
    pub(super) fn tell_of(&self, host: Option<HeaderValue>, headers: &mut HeaderMap) {
        let before = if self.from_proxy { Before::taken_from(headers) } else { Before::default() };
        strip(headers);
        let forwarded = self.forwarded(host.as_ref());
        headers.insert(FORWARDED_FOR, joined(before.addresses, &self.address));
        if let Some(forwarded) = forwarded {
            headers.insert(header::FORWARDED, joined(before.forwarded, &forwarded));
        }
        headers.insert(FORWARDED_PROTO, before.protocol.unwrap_or(HeaderValue::from_static(self.protocol)));
        if let Some(host) = before.host.or(host) {
            headers.insert(FORWARDED_HOST, host);
        }
    }

    fn forwarded(&self, host: Option<&HeaderValue>) -> Option<HeaderValue> {
        let mut text = String::with_capacity(self.element.len() + 48);
        text.push_str(&self.element);
        // A host was checked to be one: there is no quote in it.
        if let Some(host) = host.and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty()) {
            text.push_str(";host=\"");
            text.push_str(host);
            text.push('"');
        }
        HeaderValue::try_from(text).ok()
    }
}

/// What a proxy said.
#[derive(Default)]
struct Before {
    addresses: Option<String>,
    forwarded: Option<String>,
    protocol: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

impl Before {
    fn taken_from(headers: &HeaderMap) -> Self {
        let list = |name: HeaderName| {
            let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
            let whole = lines.join(", ");
            (!whole.is_empty() && whole.len() <= MOST).then_some(whole)
        };
        let known = |value: &&HeaderValue| matches!(value.as_bytes(), b"http" | b"https");
        Self {
            addresses: list(FORWARDED_FOR),
            forwarded: list(header::FORWARDED),
            protocol: headers.get(FORWARDED_PROTO).filter(known).cloned(),
            host: headers.get(FORWARDED_HOST).cloned(),
        }
    }
}

fn joined(before: Option<String>, own: &HeaderValue) -> HeaderValue {
    let Some(before) = before else { return own.clone() };
    let text = format!("{before}, {}", own.to_str().unwrap_or_default());
    HeaderValue::try_from(text).unwrap_or_else(|_| own.clone())
}

/// Takes away every header that says how a request came, however it is spelt.
pub(super) fn strip(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| says_it(name.as_str().as_bytes())).cloned() {
        headers.remove(name);
    }
}

/// Whether a header says how a request came.
pub(super) fn says_it(name: &[u8]) -> bool {
    match name.first() {
        Some(b'f' | b'F') => name.eq_ignore_ascii_case(b"forwarded"),
        Some(b'x' | b'X') => begins(name, b"x-forwarded-") || (name.len() == 9 && begins(name, b"x-real-ip")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(arrival: &Arrival, sent: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut request = Request::get("/").header("host", "api.example.com:8080");
        for (name, value) in sent {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        arrival.tell(&mut request);
        let mut headers: Vec<_> = request
            .headers()
            .iter()
            .filter(|(name, _)| *name != header::HOST)
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        headers.sort();
        headers
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const CLAIMS: [(&str, &str); 7] = [
        ("x-forwarded-for", "198.51.100.7"),
        ("X_Forwarded_For", "198.51.100.8"),
        ("x-forwarded-host", "theirs"),
        ("x-forwarded-proto", "https"),
        ("x.forwarded.port", "1"),
        ("x-real-ip", "198.51.100.9"),
        ("forwarded", "for=198.51.100.7;proto=https"),
    ];

    #[test]
    fn what_a_client_says_of_its_way_is_replaced() {
        let arrival = Arrival::new("203.0.113.9".parse().unwrap(), false, false);
        let expected = pairs(&[
            ("forwarded", "for=203.0.113.9;proto=http;host=\"api.example.com:8080\""),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-host", "api.example.com:8080"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(told(&arrival, &CLAIMS), expected);
        assert_eq!(told(&arrival, &[]), expected);
    }

    #[test]
    fn what_a_proxy_of_ours_says_is_gone_on_from() {
        let arrival = Arrival::new("::ffff:10.0.0.1".parse().unwrap(), false, true);
        let expected = pairs(&[
            ("forwarded", "for=198.51.100.7;proto=https, for=10.0.0.1;proto=http;host=\"api.example.com:8080\""),
            ("x-forwarded-for", "198.51.100.7, 10.0.0.1"),
            ("x-forwarded-host", "theirs"),
            ("x-forwarded-proto", "https"),
        ]);
        assert_eq!(told(&arrival, &CLAIMS), expected);
        let version_6 = Arrival::new("2001:db8::1".parse().unwrap(), true, false);
        assert_eq!(told(&version_6, &[])[0].1, "for=\"[2001:db8::1]\";proto=https;host=\"api.example.com:8080\"");
    }
}
