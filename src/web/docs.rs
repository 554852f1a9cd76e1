//! `/openapi.json`, `/docs` and `/docs/problems`: the API's description and its reference pages, from this binary alone.

use std::sync::Arc;

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    Router,
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use utoipa::openapi::{
    InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, RefOr, ResponseBuilder,
    path::Operation,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

use super::kinds::Kind;

const PAGE: &str = include_str!("docs.html");

/// What these pages are at.
pub const PATHS: [&str; 3] = ["/openapi.json", "/docs", "/docs/problems"];

/// The description before any route is in it.
pub fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Tollgate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Tenants, tokens, a metering gateway and bills. Errors are RFC 9457 problem documents; their kinds are at \
             /docs/problems. Creating POSTs honour Idempotency-Key, for a day.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let mut description = OpenApiBuilder::new().info(info).build();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("at+jwt").build();
    let components = description.components.get_or_insert_with(Default::default);
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    description.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("bearer", [])]);
    description
}

/// The description, written out once.
#[derive(Clone)]
pub struct Description(Arc<str>);

impl Description {
    /// Writes a description out, with what all guarded operations have in common.
    pub fn new(mut description: OpenApi) -> Self {
        for (path, item) in &mut description.paths.paths {
            let open = OPEN.contains(&path.as_str());
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                guard(path, open, operation);
            }
            for operation in [&mut item.put, &mut item.delete, &mut item.patch].into_iter().flatten() {
                guard(path, false, operation);
            }
        }
        // A description is made of texts, numbers and maps with text keys.
        Self(serde_json::to_string(&description).unwrap_or_default().into())
    }
}

/// What may be read and posted to without an access token although it is below `/v1`: who calls it is about to get one, or has
/// the link of a letter, or signs what is said.
const OPEN: [&str; 5] =
    ["/v1/invitations/{token}", "/v1/login", "/v1/provisioning/callback", "/v1/signup", "/v1/signup/verify"];
/// Clients authenticate otherwise at the other endpoints of OAuth, people by a cookie at their pages.
const USERINFO: &str = "/oauth2/userinfo";

/// Says whether an operation needs a token, and how it answers those who have none or may not.
fn guard(path: &str, open: bool, operation: &mut Operation) {
    if path != USERINFO && (open || !super::is_api(path)) {
        operation.security = Some(Vec::new());
        return;
    }
    for (status, why) in [
        ("401", "no valid token (RFC 6750 section 3)"),
        ("403", "the token may not do this, or its tenant is suspended"),
    ] {
        let answer = || ResponseBuilder::new().description(why).build().into();
        let own = operation.responses.responses.entry(status.to_owned()).or_insert_with(answer);
        if let RefOr::T(own) = own
            && own.description.is_empty()
        {
            why.clone_into(&mut own.description);
        }
    }
}

/// The pages.
pub fn routes(description: Description) -> Router {
    let (reference, kinds) = (Page::new(PAGE.to_owned()), Page::new(problems()));
    Router::new()
        .route(PATHS[0], get(openapi))
        .route(PATHS[1], get(move || async move { reference }))
        .route(PATHS[2], get(move || async move { kinds }))
        .with_state(description)
}

async fn openapi(State(Description(text)): State<Description>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response()
}

/// A page that loads nothing, is framed by nobody, and has no style and no script but its own, which its policy names by
/// their hashes.
#[derive(Clone)]
struct Page {
    html: String,
    policy: HeaderValue,
}

impl Page {
    fn new(html: String) -> Self {
        let (styles, scripts) = (hashes_of("style", &html), hashes_of("script", &html));
        let policy = format!(
            "default-src 'none'; style-src {styles}; script-src {scripts}; connect-src 'self'; form-action 'none'; \
             frame-ancestors 'none'; base-uri 'none'"
        );
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { html, policy }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers: [(HeaderName, HeaderValue); 3] = [
            (header::CONTENT_SECURITY_POLICY, self.policy),
            (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        (headers, Html(self.html)).into_response()
    }
}

/// What a policy calls the elements of a kind that stand in a page.
fn hashes_of(kind: &str, html: &str) -> String {
    let (start, end) = (format!("<{kind}>"), format!("</{kind}>"));
    let inner = html.split(&start).skip(1).filter_map(|rest| rest.split(&end).next());
    let hashes = inner.map(|text| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes()))));
    let hashes: Vec<_> = hashes.collect();
    if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") }
}

/// The kinds of problem, as a page. All of its text is ours.
fn problems() -> String {
    let mut rows = String::new();
    for kind in Kind::ALL {
        let anchor = kind.uri.rsplit('#').next().unwrap_or_default();
        let (status, title, uri, advice) = (kind.status.as_u16(), kind.title, kind.uri, kind.advice);
        // Writing to a String cannot fail.
        let _ = write!(
            rows,
            "<section id=\"{anchor}\"><h2>{title} <small>{status}</small></h2><p><code>{uri}</code></p><p>{advice}</p></section>"
        );
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Tollgate: problems</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:48rem;margin:2rem auto;padding:0 1rem}}small{{color:#666}}</style>\
         <h1>Problems</h1><p>Errors are <code>application/problem+json</code> (RFC 9457). Their <code>type</code> is one of these.</p>{rows}</html>"
    )
}
