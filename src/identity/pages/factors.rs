//! Second factors, as their owner sets them up and takes them away. Whoever does proved who they are a short while ago.

use axum::{
    Json,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{Markup, html};
use qrcode::{QrCode, render::svg};
use serde_json::json;
use webauthn_rs::prelude::RegisterPublicKeyCredential;

use super::{
    SCRIPT_PATH,
    account::{form_of_person, person},
    browser,
    factor::ours,
    failed, to_sign_in,
};
use crate::{
    identity::{Browser, Error, Identity, TotpOffer, oauth::Params},
    kernel::{Email, Secret, names::plain_text},
    web::{
        Json as Body, Problem,
        html::{Page, alert, field, hidden, notice},
    },
};

const PATH: &str = "/account/factors";
/// A proof is fresh for this long, in seconds.
const FRESH_S: i64 = 900;

/// Whether the person proved who they are a short while ago.
fn is_fresh(identity: &Identity, browser: &Browser) -> bool {
    identity.now().as_secs() - browser.authenticated_at.as_secs() <= FRESH_S
}

/// Lists a person's second factors.
#[utoipa::path(get, path = "/account/factors", tag = "pages", responses((status = 200), (status = 303)))]
pub(super) async fn factors_page(State(identity): State<Identity>, headers: HeaderMap) -> Response {
    let shown = async {
        let (secret, browser) = person(&identity, &headers, PATH).await?;
        if !is_fresh(&identity, &browser) {
            return Err(to_sign_in(PATH, None));
        }
        list(&identity, &secret, &browser, None, None).await
    };
    shown.await.map_or_else(|response| response, axum::response::IntoResponse::into_response)
}

async fn list(
    identity: &Identity,
    secret: &Secret,
    browser: &Browser,
    done: Option<&str>,
    fault: Option<&str>,
) -> Result<Page, Response> {
    let factors = identity.factors(browser.user_id).await.map_err(failed)?;
    let token = identity.form_token(secret);
    let act = |act: &str, id: &str, label: &str| {
        html! {
            form method="post" action=(PATH) {
                (hidden("form_token", &token))
                (hidden("act", act))
                (hidden("passkey_id", id))
                button.other { (label) }
            }
        }
    };
    let body = html! {
        (notice(done))
        (alert(fault))
        h2 { "Authenticator" }
        @if factors.totp {
            p { "An app on another device gives you codes." }
            (act("remove_totp", "", "Remove the authenticator"))
        } @else {
            p { "An app on another device can give you codes to sign in with." }
            (act("offer_totp", "", "Set up an authenticator"))
        }
        @if identity.has_passkeys() {
            h2 { "Passkeys" }
            ul {
                @for passkey in &factors.passkeys {
                    li { (passkey.name) ", since " (passkey.created_at) (act("remove_passkey", &passkey.id.to_string(), "Remove")) }
                }
            }
            form #passkey data-options="/account/factors/passkey/options" data-finish="/account/factors/passkey" {
                (hidden("form_token", &token))
                (field("Name of the new passkey", "name", "text", "off", "Passkey"))
                button { "Add a passkey" }
                p #passkey-fault role="alert" hidden {}
                noscript { p { "Adding a passkey needs a browser with scripts." } }
            }
        }
        @if factors.any() {
            h2 { "Recovery codes" }
            p { (factors.recovery_codes) " are left. Each works once in the place of a code." }
            (act("renew_recovery_codes", "", "Make new recovery codes"))
        }
        p { a href="/account" { "Back to your account" } }
    };
    let page = Page::new("Second factors", body);
    Ok(if identity.has_passkeys() { page.script(SCRIPT_PATH) } else { page })
}

/// Sets up and takes away: `act` is `offer_totp`, `confirm_totp`, `remove_totp`, `remove_passkey` or `renew_recovery_codes`.
#[utoipa::path(post, path = "/account/factors", tag = "pages",
    responses((status = 200), (status = 303), (status = 401), (status = 403), (status = 429)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn change_factors(State(identity): State<Identity>, request: Request) -> Response {
    change(&identity, request).await.unwrap_or_else(|response| response)
}

async fn change(identity: &Identity, request: Request) -> Result<Response, Response> {
    let (_, params, secret, browser) = form_of_person(identity, request, PATH).await?;
    if !is_fresh(identity, &browser) {
        return Err(to_sign_in(PATH, None));
    }
    let (user, token) = (browser.user_id, identity.form_token(&secret));
    let done = match params.text("act").unwrap_or_default() {
        "offer_totp" => {
            let email = identity.email_of(user).await.map_err(failed)?;
            let offer = identity.offer_totp(user, &email).await.map_err(failed)?;
            return Ok(offered(&token, &offer, None).into_response());
        }
        "confirm_totp" => {
            let code = params.secret("code").unwrap_or_else(|| Secret::new(String::new()));
            match identity.confirm_totp(user, &code).await {
                Ok(codes) => return Ok(recovery_codes(&codes).into_response()),
                Err(Error::WrongFactor) => {
                    let page = wrong_code(&token);
                    return Ok(page.status(StatusCode::UNAUTHORIZED).into_response());
                }
                Err(error) => return Err(failed(error)),
            }
        }
        "remove_totp" => {
            identity.remove_totp(user).await.map_err(failed)?;
            "The authenticator is removed."
        }
        "remove_passkey" => {
            let id = params.text("passkey_id").unwrap_or_default();
            identity.remove_passkey(user, id).await.map_err(failed)?;
            "The passkey is removed."
        }
        "renew_recovery_codes" => {
            let codes = identity.renew_recovery_codes(user).await.map_err(failed)?;
            return Ok(recovery_codes(&codes).into_response());
        }
        _ => "Nothing was changed.",
    };
    list(identity, &secret, &browser, Some(done), None).await.map(axum::response::IntoResponse::into_response)
}

fn confirm_form(token: &str) -> Markup {
    html! {
        form method="post" action=(PATH) {
            (hidden("form_token", token))
            (hidden("act", "confirm_totp"))
            (field("Code that the app shows", "code", "text", "one-time-code", ""))
            button { "Confirm" }
        }
    }
}

fn offered(token: &str, offer: &TotpOffer, fault: Option<&str>) -> Page {
    // A picture that cannot be drawn is none; the text says the same.
    let picture = QrCode::new(offer.uri.expose()).ok().map(|code| code.render::<svg::Color<'_>>().build());
    let picture = picture.map(|svg| format!("data:image/svg+xml;base64,{}", STANDARD.encode(svg)));
    let body = html! {
        (alert(fault))
        p { "Scan this with your authenticator app, or type the key into it." }
        @if let Some(picture) = picture { img.qr alt="The key as a QR code" src=(picture); }
        p { "Key: " code #totp_secret { (offer.secret.expose()) } }
        p { a #totp_uri href=(offer.uri.expose()) { "Open in an app on this device" } }
        (confirm_form(token))
    };
    Page::new("Set up an authenticator", body)
}

fn wrong_code(token: &str) -> Page {
    let body = html! {
        (alert(Some("The code is wrong. Is the clock of the other device right?")))
        (confirm_form(token))
        p { a href=(PATH) { "Start again" } }
    };
    Page::new("Set up an authenticator", body)
}

fn recovery_codes(codes: &[Secret]) -> Page {
    let body = html! {
        @if codes.is_empty() {
            p role="status" { "It is set up. Your recovery codes stay as they are." }
        } @else {
            p role="status" { "It is done. Keep these recovery codes where you find them without this device:" }
            ul.codes { @for code in codes { li { code { (code.expose()) } } } }
            p { "Each works once, and they are not shown again." }
        }
        p { a href=(PATH) { "Go on" } }
    };
    Page::new("Recovery codes", body)
}

/// Who calls from a page of ours, with a form token in the query.
async fn caller(
    identity: &Identity,
    query: Option<String>,
    headers: &HeaderMap,
) -> Result<(Secret, Browser, Params), Problem> {
    ours(identity, headers)?;
    let mut params = Params::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    let signed_in = browser(identity, headers).await.ok().flatten();
    let (secret, browser) = signed_in.ok_or(Error::InvalidLink)?;
    if !super::is_ours(identity, headers, &secret, &mut params) || !is_fresh(identity, &browser) {
        return Err(Error::InvalidLink.into());
    }
    Ok((secret, browser, params))
}

/// What the browser makes a new passkey of; `form_token` is in the query.
#[utoipa::path(post, path = "/account/factors/passkey/options", tag = "pages",
    responses((status = 200, body = Object), (status = 403), (status = 404)))]
pub(super) async fn new_passkey_options(
    State(identity): State<Identity>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (secret, browser, _) = caller(&identity, query, &headers).await?;
    let email: Email = identity.email_of(browser.user_id).await?;
    Ok(Json(identity.begin_passkey(&secret, browser.user_id, &email).await?).into_response())
}

/// Takes a new passkey; `form_token` and `name` are in the query. The recovery codes that come with the first factor are in
/// the answer.
#[utoipa::path(post, path = "/account/factors/passkey", tag = "pages", request_body = Object,
    responses((status = 200, body = Object), (status = 401), (status = 403), (status = 404)))]
pub(super) async fn new_passkey(
    State(identity): State<Identity>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Body(answer): Body<RegisterPublicKeyCredential>,
) -> Result<Response, Problem> {
    let (secret, browser, params) = caller(&identity, query, &headers).await?;
    let name = plain_text(params.text("name").unwrap_or("Passkey"), 100);
    let name = name.map_err(|error| Problem::invalid_field("name", error))?;
    let codes = identity.finish_passkey(&secret, browser.user_id, &name, &answer).await?;
    let codes: Vec<&str> = codes.iter().map(Secret::expose).collect();
    Ok(Json(json!({"location": PATH, "recovery_codes": codes})).into_response())
}
