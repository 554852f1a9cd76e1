//! The second step of a sign-in: a code, a recovery code, or a passkey.

use axum::{
    Json,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use maud::html;
use serde_json::json;
use webauthn_rs::prelude::PublicKeyCredential;

use super::{
    PENDING_COOKIE, SCRIPT_PATH, failed, local, not_ours, same_origin, secret_of, see_other, signed_in, to_sign_in,
};
use crate::{
    identity::{Error, Factors, Identity, Origin, oauth::Params},
    kernel::Secret,
    users::User,
    web::{
        Json as Body, Problem,
        html::{Page, alert, field, hidden},
    },
};

/// Who owes a factor with this browser, and the secret that says so.
async fn pending(identity: &Identity, headers: &HeaderMap) -> Result<Option<(Secret, User)>, Error> {
    let Some(secret) = secret_of(headers, PENDING_COOKIE) else { return Ok(None) };
    Ok(identity.pending_user(&secret).await?.map(|user| (secret, user)))
}

/// Asks for the second factor.
#[utoipa::path(get, path = "/login/factor", tag = "pages", responses((status = 200), (status = 303)))]
pub(super) async fn factor_page(
    State(identity): State<Identity>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = Params::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    let return_to = params.text("return_to").unwrap_or_default();
    match pending(&identity, &headers).await {
        Ok(Some((_, user))) => match identity.factors(user.id).await {
            Ok(factors) => form(return_to, &factors, None).into_response(),
            Err(error) => failed(error),
        },
        Ok(None) => to_sign_in(return_to, None),
        Err(error) => failed(error),
    }
}

fn form(return_to: &str, factors: &Factors, fault: Option<&str>) -> Page {
    let with_passkey = !factors.passkeys.is_empty();
    let body = html! {
        (alert(fault))
        @if with_passkey {
            form #passkey data-options="/login/factor/passkey/options" data-finish="/login/factor/passkey" {
                (hidden("return_to", return_to))
                button { "Use a passkey" }
                p #passkey-fault role="alert" hidden {}
                noscript { p { "A passkey needs a browser with scripts; a code works without." } }
            }
        }
        @if factors.by_code() {
            form method="post" action="/login/factor" {
                (hidden("return_to", return_to))
                (field("Code of your authenticator, or a recovery code", "code", "text", "one-time-code", ""))
                button { "Go on" }
            }
        }
        p { a href="/login" { "Sign in as somebody else" } }
    };
    let page = Page::new("Second step", body).forms_lead_to("https: http:");
    if with_passkey { page.script(SCRIPT_PATH) } else { page }
}

/// Takes a code.
#[utoipa::path(post, path = "/login/factor", tag = "pages",
    responses((status = 303), (status = 400), (status = 401), (status = 429)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn check_factor(State(identity): State<Identity>, origin: Origin, request: Request) -> Response {
    let (parts, params) = match Params::of_form(request).await {
        Ok(form) => form,
        Err(error) => return error.into_response(),
    };
    if !same_origin(&identity, &parts.headers) {
        return not_ours();
    }
    let return_to = params.text("return_to").unwrap_or_default();
    let (secret, user) = match pending(&identity, &parts.headers).await {
        Ok(Some(pending)) => pending,
        Ok(None) => return to_sign_in(return_to, None),
        Err(error) => return failed(error),
    };
    let code = params.secret("code").unwrap_or_else(|| Secret::new(String::new()));
    match identity.finish_by_code(&secret, &code, &origin).await {
        Ok(browser) => {
            let mut response = see_other(&local(return_to));
            signed_in(&identity, &mut response, &browser, &user.email);
            response
        }
        Err(Error::WrongFactor) => match identity.factors(user.id).await {
            Ok(factors) => {
                let page = form(return_to, &factors, Some("The code is wrong, or was used before."));
                page.status(StatusCode::UNAUTHORIZED).into_response()
            }
            Err(error) => failed(error),
        },
        Err(error) => failed(error),
    }
}

/// What the browser has to sign with a passkey.
#[utoipa::path(post, path = "/login/factor/passkey/options", tag = "pages",
    responses((status = 200, body = Object), (status = 401), (status = 403), (status = 404)))]
pub(super) async fn passkey_options(State(identity): State<Identity>, headers: HeaderMap) -> Result<Response, Problem> {
    ours(&identity, &headers)?;
    let secret = secret_of(&headers, PENDING_COOKIE).ok_or(Error::InvalidLink)?;
    Ok(Json(identity.begin_passkey_sign_in(&secret).await?).into_response())
}

/// Takes what the browser signed; `return_to` is in the query.
#[utoipa::path(post, path = "/login/factor/passkey", tag = "pages", request_body = Object,
    responses((status = 200, body = Object), (status = 401), (status = 403), (status = 404), (status = 429)))]
pub(super) async fn passkey_sign_in(
    State(identity): State<Identity>,
    origin: Origin,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Body(answer): Body<PublicKeyCredential>,
) -> Result<Response, Problem> {
    ours(&identity, &headers)?;
    let (secret, user) = pending(&identity, &headers).await?.ok_or(Error::InvalidLink)?;
    let browser = identity.finish_by_passkey(&secret, &answer, &origin).await?;
    let params = Params::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    let mut response = Json(json!({"location": local(params.text("return_to").unwrap_or_default())})).into_response();
    signed_in(&identity, &mut response, &browser, &user.email);
    Ok(response)
}

/// A script of ours calls from a page of ours.
pub(super) fn ours(identity: &Identity, headers: &HeaderMap) -> Result<(), Problem> {
    let ours = same_origin(identity, headers);
    ours.then_some(()).ok_or_else(|| Problem::new(crate::web::Kind::FORBIDDEN, "this page is not ours"))
}
