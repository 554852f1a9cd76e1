//! The pages on which people prove who they are and say what others may do; here what all of them share.
//!
//! A browser that is signed in has a cookie with a random secret. A form says for which browser it was made, and comes
//! from our own origin. No page needs a script.

mod consent;
mod device;
mod sign_in;

use axum::{
    extract::FromRef,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use maud::html;
use subtle::ConstantTimeEq as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Browser, Error, Identity, oauth::Params};
use crate::{
    kernel::Secret,
    web::{
        html::{self, Page},
        oauth::OAuthError,
    },
};

pub(super) use consent::{choose_tenant, consent};

/// The cookie of a browser that is signed in.
const COOKIE: &str = "tollgate_browser";

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Identity: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(sign_in::login_page, sign_in::login))
        .routes(routes!(device::device_page, device::device))
        .route(html::STYLE_PATH, axum::routing::get(html::style))
        .route(html::SEND_PATH, axum::routing::get(html::send))
}

/// The browser that calls, if somebody is signed in with it.
pub(super) async fn browser(identity: &Identity, headers: &HeaderMap) -> Result<Option<(Secret, Browser)>, Response> {
    let Some(secret) = cookie(headers) else { return Ok(None) };
    let browser = identity.browser(&secret).await.map_err(failed)?;
    Ok(browser.map(|browser| (secret, browser)))
}

fn cookie(headers: &HeaderMap) -> Option<Secret> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| Secret::new(value.to_owned()))
}

/// Gives a browser its cookie.
fn set_cookie(identity: &Identity, response: &mut Response, secret: &Secret) {
    let secure = if identity.issuer().starts_with("https:") { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax{secure}", secret.expose());
    // A base64url text is a header value.
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// Takes `form_token` out of a form; whether the form was made for this browser, and comes from a page of ours.
pub(super) fn is_ours(identity: &Identity, headers: &HeaderMap, secret: &Secret, params: &mut Params) -> bool {
    let sent = params.remove("form_token").unwrap_or_default();
    let same: bool = sent.as_bytes().ct_eq(identity.form_token(secret).as_bytes()).into();
    same && same_origin(identity, headers)
}

/// Whether a form comes from a page of ours, as far as the browser says.
fn same_origin(identity: &Identity, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let issuer = url::Url::parse(identity.issuer()).map(|issuer| issuer.origin().ascii_serialization());
    let origin = text("origin").is_none_or(|origin| issuer.is_ok_and(|own| own == origin));
    origin && text("sec-fetch-site").is_none_or(|site| ["same-origin", "none"].contains(&site))
}

/// Takes a browser's cookie away.
pub(super) fn clear_cookie(response: &mut Response) {
    let cookie = HeaderValue::from_static("tollgate_browser=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    response.headers_mut().append(header::SET_COOKIE, cookie);
}

/// The answer to a form that is not ours.
pub(super) fn not_ours() -> Response {
    let body = html! { p { "Please start again." } };
    Page::new("This page is not yours", body).status(StatusCode::FORBIDDEN).into_response()
}

/// To the sign-in page, and from there to a path of ours.
pub(super) fn to_sign_in(return_to: &str, login_hint: Option<&str>) -> Response {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("return_to", return_to);
    if let Some(hint) = login_hint {
        query.append_pair("login_hint", hint);
    }
    see_other(&format!("/login?{}", query.finish()))
}

/// A path of ours; anything else would lead people away (an open redirect).
fn local(return_to: &str) -> String {
    let path = return_to.parse::<Uri>().ok().filter(|uri| uri.authority().is_none() && uri.scheme().is_none());
    let path = path.filter(|_| return_to.starts_with('/') && !return_to.starts_with("//") && !return_to.contains('\\'));
    path.map_or_else(|| "/console/".to_owned(), |uri| uri.to_string())
}

/// 303, which makes a `GET` of what was a `POST`.
pub(super) fn see_other(target: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    // A serialized URI is a header value.
    if let Ok(target) = HeaderValue::try_from(target) {
        headers.insert(header::LOCATION, target);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A fault that only the person can be told.
pub(super) fn sorry(text: &str) -> Response {
    Page::new("This does not work", html! { p { (text) } }).status(StatusCode::BAD_REQUEST).into_response()
}

/// The service failed.
pub(super) fn failed(error: Error) -> Response {
    OAuthError::from(error).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_to_paths_of_ours_alone() {
        assert_eq!(local("/oauth2/authorize?a=b%20c"), "/oauth2/authorize?a=b%20c");
        for other in ["", "https://evil.example/", "//evil.example/", "/\\evil.example", "evil", "javascript:alert(1)"]
        {
            assert_eq!(local(other), "/console/", "{other}");
        }
    }
}
