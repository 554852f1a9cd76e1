//! The one credential of a request (RFC 6750), and what is answered to one that lets nobody in.

use axum::http::{HeaderMap, HeaderValue, Uri, header};

use super::{kinds::Kind, problem::Problem};
use crate::identity::TokenError;

/// The parameter in which RFC 6750 sections 2.2 and 2.3 have a token, and we do not.
pub const ACCESS_TOKEN: &str = "access_token";

/// The bearer token of a request, in its one `Authorization` header. Without one, the challenge names no error (section 3.1);
/// a request with more than one credential is refused with 400 (section 2).
pub fn bearer<'r>(uri: &Uri, headers: &'r HeaderMap) -> Result<&'r str, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let only = values.next();
    if values.next().is_some() {
        return Err(two_credentials());
    }
    let token = only.and_then(|value| value.to_str().ok()).and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
    });
    let token = token.ok_or_else(|| {
        Problem::new(Kind::UNAUTHENTICATED, "one Authorization header with a bearer token is needed")
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tollgate\""))
    })?;
    match uri.query() {
        Some(query) if has_access_token(query) => Err(two_credentials()),
        _ => Ok(token),
    }
}

/// Whether a token is among the parameters of a query; some servers part them by `;`, too.
pub fn has_access_token(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| is_access_token(pair.split('=').next().unwrap_or_default()))
}

/// Whether the name of a parameter, as it is written in a query or a form, is that of a token.
pub fn is_access_token(name: &str) -> bool {
    if !name.contains('%') {
        return name == ACCESS_TOKEN;
    }
    url::form_urlencoded::parse(name.as_bytes()).next().is_some_and(|(name, _)| name == ACCESS_TOKEN)
}

/// 400 with the challenge of RFC 6750 section 3.1.
pub fn two_credentials() -> Problem {
    let challenge =
        "Bearer realm=\"tollgate\", error=\"invalid_request\", error_description=\"the token was sent in two ways\"";
    Problem::new(Kind::MALFORMED, "more than one credential was sent: send one Authorization header and nothing else")
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

/// 401 with the challenge of RFC 6750 section 3; 503 for a token of which nothing can be told now.
pub fn unauthenticated(error: &TokenError) -> Problem {
    let text = error.to_string();
    if matches!(error, TokenError::Unavailable(_)) {
        return Problem::new(Kind::UNAVAILABLE, text).retry_after(1);
    }
    let challenge = format!("Bearer realm=\"tollgate\", error=\"invalid_token\", error_description=\"{text}\"");
    let challenge = HeaderValue::try_from(challenge).unwrap_or(HeaderValue::from_static("Bearer"));
    Problem::new(Kind::UNAUTHENTICATED, text).header(header::WWW_AUTHENTICATE, challenge)
}

/// 403 with the challenge of RFC 6750 section 3.
pub fn insufficient_scope(value: &str) -> Problem {
    let challenge = format!("Bearer realm=\"tollgate\", error=\"insufficient_scope\", scope=\"{value}\"");
    let challenge = HeaderValue::try_from(challenge).unwrap_or(HeaderValue::from_static("Bearer"));
    Problem::new(Kind::FORBIDDEN, format!("the token lacks the scope {value}"))
        .header(header::WWW_AUTHENTICATE, challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_beside_another_is_seen_in_any_spelling_and_nothing_else_is() {
        let headers: HeaderMap =
            [(header::AUTHORIZATION, HeaderValue::from_static("Bearer good"))].into_iter().collect();
        for (address, taken) in [
            ("/x", true),
            ("/x?a=access_token&access_tokens=1&xaccess_token=1&b", true),
            ("/x?q=access_token=1", true),
            ("/x?access_token=other", false),
            ("/x?a=1;access_token=other", false),
            ("/x?a=1&access_token", false),
            ("/x?a=1&access%5Ftoken=other", false),
            ("/x?%61ccess_token=", false),
        ] {
            assert_eq!(bearer(&address.parse().unwrap(), &headers).is_ok(), taken, "{address}");
        }
    }
}
