//! Calls by scripts of other origins (Fetch, "CORS protocol"): public documents for every page, endpoints that take a token or a
//! code for the origins that public clients registered redirect URIs at.
//!
//! It is for clients that live in a browser alone. Nothing here reads a cookie, so credentials are not allowed along, and pages
//! for people (`/oauth2/authorize`, `/login`) are not called by scripts at all. An origin that is not known gets the answer
//! without the headers, which its browser keeps from it.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::identity::Identity;

/// What everybody may read.
const PUBLIC: [&str; 3] =
    ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/.well-known/jwks.json"];
/// What public clients call.
const OF_CLIENTS: [&str; 3] = ["/oauth2/token", "/oauth2/revoke", "/oauth2/userinfo"];
/// A browser asks again after this long, in seconds.
const PREFLIGHT_S: u32 = 3_600;

/// The layer.
pub async fn cors(State(identity): State<Identity>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let public = PUBLIC.contains(&path);
    if !public && !OF_CLIENTS.contains(&path) {
        return next.run(request).await;
    }
    let allowed = match request.headers().get(header::ORIGIN) {
        Some(_) if public => Some(HeaderValue::from_static("*")),
        Some(origin) if is_known(&identity, origin).await => Some(origin.clone()),
        _ => None,
    };
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight && allowed.is_some() { preflight() } else { next.run(request).await };
    let headers = response.headers_mut();
    if !public {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(allowed) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers
            .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("www-authenticate, retry-after"));
    }
    response
}

/// A store that does not answer knows nobody; the request itself then says so.
async fn is_known(identity: &Identity, origin: &HeaderValue) -> bool {
    match origin.to_str() {
        Ok(origin) => identity.is_origin_of_client(origin).await.unwrap_or(false),
        Err(_) => false,
    }
}

fn preflight() -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(PREFLIGHT_S));
    (StatusCode::NO_CONTENT, headers).into_response()
}
