//! What lab mode lays over our own surface: a banner on every page, and faults of our own documents.

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Lab, faults::Target};

/// What stands on every page.
const BANNER: &str = "<p class=\"lab-banner\" role=\"note\"><strong>Lab mode.</strong> This server is for tests: its clock \
                      can be turned and anybody's token can be minted. Trust nothing that it says.</p>";

/// Puts the banner on every page of ours.
pub async fn banner(request: Request, next: Next) -> Response {
    rewritten(next.run(request).await, with_banner).await
}

/// A page of ours changed; anything else as it is.
pub(super) async fn rewritten(response: Response, change: impl FnOnce(&str) -> String) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("text/html") {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // A page of ours is a text in memory.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let page = change(&String::from_utf8_lossy(&bytes));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(page))
}

/// After the body's tag, or before the heading of a page that leaves the tag out.
fn with_banner(page: &str) -> String {
    let after_body = page.find("<body").and_then(|start| Some(start + page[start..].find('>')? + 1));
    let at = after_body.or_else(|| page.find("<h1")).unwrap_or(0);
    format!("{}{BANNER}{}", &page[..at], &page[at..])
}

/// Serves our own key set and discovery documents with the fault that is on.
pub async fn own_faults(State(lab): State<Lab>, request: Request, next: Next) -> Response {
    let target = match request.uri().path() {
        "/.well-known/jwks.json" => Target::Jwks,
        "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server" => Target::Discovery,
        _ => return next.run(request).await,
    };
    let (place, read) = ((target, None), request.method() == Method::GET);
    let response = next.run(request).await;
    if !read || !lab.faults().list().iter().any(|(own, _)| *own == place) {
        return response;
    }
    let Ok(bytes) = to_bytes(response.into_body(), usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    lab.faults().served(place, serde_json::from_slice(&bytes).unwrap_or_default()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_is_the_first_thing_on_a_page() {
        for (page, expected) in [
            ("<html><body><main>x", format!("<html><body>{BANNER}<main>x")),
            ("<html><body class=\"a\">x", format!("<html><body class=\"a\">{BANNER}x")),
            ("<title>t</title><h1>x</h1>", format!("<title>t</title>{BANNER}<h1>x</h1>")),
            ("x", format!("{BANNER}x")),
        ] {
            assert_eq!(with_banner(page), expected);
        }
    }
}
