//! The pages on which people prove who they are and say what others may do; here what all of them share.
//!
//! A browser that is signed in has a cookie with a random secret. A form says for which browser it was made, and comes
//! from our own origin. No page needs a script, but for passkeys, which browsers give to scripts alone.

mod account;
mod consent;
mod device;
mod factor;
mod factors;
mod reset;
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
    kernel::{Email, Secret},
    web::{
        extract::{BROWSER_COOKIE as COOKIE, DEVICE_COOKIE, cookie},
        html::{self, Page},
        oauth::OAuthError,
    },
};

pub(super) use consent::{choose_tenant, consent};

/// The cookie of a browser that owes the second factor.
const PENDING_COOKIE: &str = "tollgate_pending";
/// A browser is known for this long after it signed in, in seconds: a year.
const DEVICE_S: i64 = 365 * 86_400;
/// Where a sign-in leads that nothing else sent for.
const HOME: &str = "/account";
/// The one script: what passkeys need.
const SCRIPT: &str = include_str!("passkeys.js");
const SCRIPT_PATH: &str = "/console/passkeys.js";
/// Where the files of the pages are.
pub const PATHS: [&str; 4] = [SCRIPT_PATH, html::STYLE_PATH, html::ICON_PATH, html::SEND_PATH];

async fn script() -> Response {
    let kind =
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=3600")];
    (kind, SCRIPT).into_response()
}

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Identity: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(sign_in::login_page, sign_in::login))
        .routes(routes!(device::device_page, device::device))
        .routes(routes!(factor::factor_page, factor::check_factor))
        .routes(routes!(factor::passkey_options))
        .routes(routes!(factor::passkey_sign_in))
        .routes(routes!(reset::reset_page, reset::reset))
        .routes(routes!(account::account_page, account::change_name))
        .routes(routes!(account::revoke_sign_in))
        .routes(routes!(account::sign_out))
        .routes(routes!(account::password_page, account::change_password))
        .routes(routes!(factors::factors_page, factors::change_factors))
        .routes(routes!(factors::new_passkey_options))
        .routes(routes!(factors::new_passkey))
        .route(PATHS[0], axum::routing::get(script))
        .route(PATHS[1], axum::routing::get(html::style))
        .route(PATHS[2], axum::routing::get(html::icon))
        .route(PATHS[3], axum::routing::get(html::send))
}

/// The browser that calls, if somebody is signed in with it.
pub(super) async fn browser(identity: &Identity, headers: &HeaderMap) -> Result<Option<(Secret, Browser)>, Response> {
    let Some(secret) = secret_of(headers, COOKIE) else { return Ok(None) };
    let browser = identity.browser(&secret).await.map_err(failed)?;
    Ok(browser.map(|browser| (secret, browser)))
}

/// A secret that a browser keeps for us.
fn secret_of(headers: &HeaderMap, name: &str) -> Option<Secret> {
    cookie(headers, name).map(|value| Secret::new(value.to_owned()))
}

/// Gives a browser a cookie.
fn set_cookie(identity: &Identity, response: &mut Response, name: &str, value: &str, rest: &str) {
    let secure = if identity.issuer().starts_with("https:") { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; HttpOnly; SameSite=Lax{rest}{secure}");
    // A base64url text is a header value.
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// Tells a browser that it is signed in, and by what it will be known as this person's.
fn signed_in(identity: &Identity, response: &mut Response, secret: &Secret, email: &Email) {
    set_cookie(identity, response, COOKIE, secret.expose(), "; Path=/");
    set_cookie(identity, response, PENDING_COOKIE, "", "; Path=/login; Max-Age=0");
    let device = identity.new_device(email);
    set_cookie(identity, response, DEVICE_COOKIE, device.expose(), &format!("; Path=/login; Max-Age={DEVICE_S}"));
}

/// Takes `form_token` out of a form; whether the form was made for this browser, and comes from a page of ours.
pub(super) fn is_ours(identity: &Identity, headers: &HeaderMap, secret: &Secret, params: &mut Params) -> bool {
    let sent = params.remove("form_token").unwrap_or_default();
    let same: bool = sent.as_bytes().ct_eq(identity.form_token(secret).as_bytes()).into();
    same && same_origin(identity, headers)
}

/// Whether a form comes from a page of ours, as far as the browser says.
pub fn same_origin(identity: &Identity, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let issuer = url::Url::parse(identity.issuer()).map(|issuer| issuer.origin().ascii_serialization());
    let (origin, site) = (text("origin"), text("sec-fetch-site"));
    if origin == Some("null") {
        // Browsers that tell nobody where they come from still say whether it is from here.
        return site == Some("same-origin");
    }
    let origin = origin.is_none_or(|origin| issuer.is_ok_and(|own| own == origin));
    origin && site.is_none_or(|site| ["same-origin", "none"].contains(&site))
}

/// Takes a browser's cookie away.
pub(super) fn clear_cookie(response: &mut Response) {
    let cookie = HeaderValue::from_static("tollgate_browser=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    response.headers_mut().append(header::SET_COOKIE, cookie);
}

/// The answer to a form that is not ours.
pub fn not_ours() -> Response {
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
    path.map_or_else(|| HOME.to_owned(), |uri| uri.to_string())
}

/// 303, which makes a `GET` of what was a `POST`.
pub fn see_other(target: &str) -> Response {
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
pub fn sorry(text: &str) -> Response {
    Page::new("This does not work", html! { p { (text) } }).status(StatusCode::BAD_REQUEST).into_response()
}

/// The service failed, or wants people to wait.
pub fn failed(error: Error) -> Response {
    match error {
        Error::TooManyTries { retry_after_s } => {
            let text = format!("There were too many wrong tries. Please wait {retry_after_s} seconds, then try again.");
            let page = Page::new("Please wait", html! { p role="alert" { (text) } });
            let mut response = page.status(StatusCode::TOO_MANY_REQUESTS).into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
            response
        }
        Error::InvalidLink => {
            let text = "The link was used before, or has expired. Please ask for another one.";
            Page::new("This link does not work", html! { p { (text) } }).status(StatusCode::GONE).into_response()
        }
        other => OAuthError::from(other).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_to_paths_of_ours_alone() {
        assert_eq!(local("/oauth2/authorize?a=b%20c"), "/oauth2/authorize?a=b%20c");
        for other in ["", "https://evil.example/", "//evil.example/", "/\\evil.example", "evil", "javascript:alert(1)"]
        {
            assert_eq!(local(other), HOME, "{other}");
        }
    }
}
