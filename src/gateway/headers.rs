//! Headers: what the client may not say, what concerns one hop alone, and what the upstream is told.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Who calls, for the upstream.
pub const TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");
/// The tier of who calls, for the upstream.
pub const TENANT_TIER: HeaderName = HeaderName::from_static("x-tenant-tier");
/// The person who calls, for the upstream.
pub const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
/// One request, in everybody's logs.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What a call consumed, from the upstream (RFC 9651 dictionary).
pub const TOLLGATE_USAGE: HeaderName = HeaderName::from_static("tollgate-usage");

/// Names that only the gateway says, folded.
pub(super) const OURS: [&str; 4] = ["x-tenant-id", "x-tenant-tier", "x-user-id", "x-request-id"];

/// Hop-by-hop headers (RFC 9110 section 7.6.1, and what is hop-by-hop by custom).
pub(super) const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Whether a header concerns one hop alone.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str())
}

/// Whether a header is one by which a client could pass for somebody else. Servers that turn headers into variables fold
/// `-`, `_` and `.` into one; so do we, before comparing.
pub(super) fn is_identity(name: &[u8]) -> bool {
    // Folding changes no letter but its case.
    if !matches!(name.first(), Some(b'x' | b't' | b'X' | b'T')) {
        return false;
    }
    begins(name, b"tollgate-") || OURS.iter().any(|own| own.len() == name.len() && begins(name, own.as_bytes()))
}

/// Whether a name begins with another, however it is spelt.
pub(super) fn begins(name: &[u8], own: &[u8]) -> bool {
    let folded = |byte: &u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte.to_ascii_lowercase() };
    name.len() >= own.len() && name.iter().map(folded).zip(own).all(|(byte, own)| byte == *own)
}

/// Whether the type of a body is that of a form.
pub(super) fn is_form(content_type: &[u8]) -> bool {
    let form = b"application/x-www-form-urlencoded";
    content_type.get(..form.len()).is_some_and(|start| start.eq_ignore_ascii_case(form))
}

/// Takes away every header by which a client could pass for somebody else, however it is spelt.
pub fn strip_identity(headers: &mut HeaderMap) {
    strip(headers, |name| is_identity(name.as_str().as_bytes()));
}

fn strip(headers: &mut HeaderMap, unwanted: fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| unwanted(name)).cloned() {
        headers.remove(name);
    }
}

/// What the names of our own cookies begin with. One of them is worth more than a token: it signs in.
const OUR_COOKIES: &[u8] = b"tollgate_";

/// Whether one of our cookies may be among those in a value.
pub(super) fn may_have_ours(cookies: &[u8]) -> bool {
    cookies.windows(OUR_COOKIES.len()).any(|part| part == OUR_COOKIES)
}

/// Takes our cookies out of what a browser sends to an upstream.
pub fn strip_our_cookies(headers: &mut HeaderMap) {
    let ours = |pair: &[u8]| pair.trim_ascii_start().starts_with(OUR_COOKIES);
    let is_ours = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b';').any(ours);
    if !headers.get_all(header::COOKIE).iter().any(is_ours) {
        return;
    }
    let others = |value: &HeaderValue| {
        let rest: Vec<&[u8]> = value.as_bytes().split(|byte| *byte == b';').filter(|pair| !ours(pair)).collect();
        let rest = rest.join(&b';');
        HeaderValue::from_bytes(rest.trim_ascii()).ok().filter(|rest| !rest.is_empty())
    };
    let rest: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().filter_map(others).collect();
    headers.remove(header::COOKIE);
    for value in rest {
        headers.append(header::COOKIE, value);
    }
}

/// Takes away an upstream's cookies that would pass for ours. A cookie without a name comes back as its value alone.
pub fn strip_forged_cookies(headers: &mut HeaderMap) {
    let forged = |value: &HeaderValue| {
        let text = value.as_bytes().trim_ascii_start();
        text.strip_prefix(b"=").unwrap_or(text).trim_ascii_start().starts_with(OUR_COOKIES)
    };
    if !headers.get_all(header::SET_COOKIE).iter().any(forged) {
        return;
    }
    let honest: Vec<HeaderValue> =
        headers.get_all(header::SET_COOKIE).iter().filter(|value| !forged(value)).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for value in honest {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Takes away what concerns one hop alone: the known names, and those that `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    strip(headers, is_hop_by_hop);
}

/// Whether a value is a `traceparent` of version 00 (W3C Trace Context section 3.2).
pub fn is_traceparent(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [2, 32, 16, 2]
        && parts.iter().all(|part| hex(part))
        && parts[0] == "00"
        && parts[1].bytes().any(|b| b != b'0')
        && parts[2].bytes().any(|b| b != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(names: &[&str]) -> HeaderMap {
        let pairs = names.iter().map(|name| (name.parse().unwrap(), HeaderValue::from_static("forged")));
        pairs.collect::<Vec<(HeaderName, HeaderValue)>>().into_iter().collect()
    }

    #[test]
    fn our_cookies_stay_with_us_and_nobody_else_sets_them() {
        let of = |name: HeaderName, values: &[&'static str]| {
            values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect::<HeaderMap>()
        };
        let left = |headers: &HeaderMap, name: HeaderName| {
            let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned());
            values.collect::<Vec<_>>()
        };
        let sent =
            ["a=1; tollgate_browser=s; b=2", "tollgate_pending=x", "  tollgate_browser=s;c=3", "d=tollgate_browser"];
        let mut request = of(header::COOKIE, &sent);
        strip_our_cookies(&mut request);
        assert_eq!(left(&request, header::COOKIE), ["a=1; b=2", "c=3", "d=tollgate_browser"]);
        let answers =
            ["tollgate_browser=theirs; Path=/", "=tollgate_browser=theirs", " = tollgate_browser=x", "session=1"];
        let mut answer = of(header::SET_COOKIE, &answers);
        strip_forged_cookies(&mut answer);
        assert_eq!(left(&answer, header::SET_COOKIE), ["session=1"]);
    }

    #[test]
    fn no_spelling_of_an_identity_header_gets_through() {
        let mut map = headers(&[
            "X-Tenant-Id",
            "x_tenant_id",
            "X.Tenant.Id",
            "x-tenant_id",
            "X-User-ID",
            "X_TENANT-TIER",
            "x-request-id",
            "Tollgate-Usage",
            "tollgate_usage",
            "tollgate.anything",
            "x-tenant",
            "accept",
        ]);
        strip_identity(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-tenant"]);
    }

    #[test]
    fn what_connection_names_goes_with_it() {
        let mut map = headers(&["keep-alive", "te", "x-secret-hop", "x-kept"]);
        map.insert(header::CONNECTION, HeaderValue::from_static("close, X-Secret-Hop"));
        strip_hop_by_hop(&mut map);
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn only_a_whole_traceparent_is_one() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(&HeaderValue::from_static(good)));
        for bad in ["", "00-0-0-0", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
            assert!(!is_traceparent(&HeaderValue::from_str(bad).unwrap()), "{bad}");
        }
    }
}
