//! What a person sees of their own account: sign-ins, password.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use maud::{Markup, html};

use super::{COOKIE, browser, failed, is_ours, not_ours, see_other, set_cookie, to_sign_in};
use crate::{
    identity::{Browser, Error, Identity, Keep, Origin, SeenBrowser, Session, oauth::Params},
    kernel::{Email, PersonName, Secret, Timestamp},
    users::User,
    web::html::{Page, account, alert, field, hidden, notice},
};

/// Whoever is signed in, or the way to the sign-in.
pub(super) async fn person(
    identity: &Identity,
    headers: &HeaderMap,
    path: &str,
) -> Result<(Secret, Browser), Response> {
    browser(identity, headers).await?.ok_or_else(|| to_sign_in(path, None))
}

/// A form of ours, and whose it is.
pub(super) async fn form_of_person(
    identity: &Identity,
    request: Request,
    path: &str,
) -> Result<(Parts, Params, Secret, Browser), Response> {
    let (parts, mut params) = Params::of_form(request).await.map_err(axum::response::IntoResponse::into_response)?;
    let (secret, browser) = person(identity, &parts.headers, path).await?;
    if !is_ours(identity, &parts.headers, &secret, &mut params) {
        return Err(not_ours());
    }
    Ok((parts, params, secret, browser))
}

/// The account: its sign-ins, and the ways to what can be changed.
#[utoipa::path(get, path = "/account", tag = "pages", responses((status = 200), (status = 303)))]
pub(super) async fn account_page(State(identity): State<Identity>, headers: HeaderMap) -> Response {
    let shown = async {
        let (secret, browser) = person(&identity, &headers, "/account").await?;
        overview(&identity, &secret, &browser, None).await
    };
    shown.await.map_or_else(|response| response, axum::response::IntoResponse::into_response)
}

async fn overview(
    identity: &Identity,
    secret: &Secret,
    browser: &Browser,
    fault: Option<&str>,
) -> Result<Page, Response> {
    let sessions = identity.sessions_of_person(browser.user_id).await.map_err(failed)?;
    let mut browsers = identity.browsers_of_person(browser.user_id).await.map_err(failed)?;
    browsers.retain(|seen| seen.browser.id != browser.id);
    let User { email, name, .. } = identity.person(browser.user_id).await.map_err(failed)?;
    let name = name.as_ref().map_or("", PersonName::as_str);
    let token = identity.form_token(secret);
    let body = html! {
        (alert(fault))
        p { "Signed in as " strong { (email.as_str()) } "." }
        form method="post" action="/account" {
            (hidden("form_token", &token))
            label for="name" { "Name that applications may see" }
            input id="name" name="name" type="text" autocomplete="name" value=(name);
            button { "Save" }
        }
        h2 { "Sign-ins" }
        p { "This browser is signed in since " (browser.authenticated_at) "." }
        (sign_ins(&browsers, &sessions, &token))
        h2 { "Security" }
        ul {
            li { a href="/account/password" { "Change the password" } }
            li { a href="/account/factors" { "Second factors" } }
        }
        form method="post" action="/account/sign-out" {
            (hidden("form_token", &token))
            button { "Sign out" }
        }
    };
    Ok(Page::new("Your account", body))
}

/// What else somebody is signed in with, each with a button that ends it.
fn sign_ins(browsers: &[SeenBrowser], sessions: &[(Session, Option<String>)], token: &str) -> Markup {
    // What it is, since when, last used, and how it is told apart.
    let row = |what: &str, [since, used]: [Timestamp; 2], (name, id): (&str, &str)| {
        html! {
            tr {
                th scope="row" { (what) }
                td { (since) }
                td { (used) }
                td {
                    form method="post" action="/account/sessions" {
                        (hidden("form_token", token))
                        (hidden(name, id))
                        button.other { "End" }
                    }
                }
            }
        }
    };
    let of_browser = |SeenBrowser { browser, address, seen_at }: &SeenBrowser| {
        let from = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        row(&from, [browser.authenticated_at, *seen_at], ("browser_id", &browser.id.to_string()))
    };
    let of_session = |(session, client): &(Session, Option<String>)| {
        let times = [session.created_at, session.renewed_at.unwrap_or(session.created_at)];
        row(client.as_deref().unwrap_or("Tollgate"), times, ("session_id", &session.id.to_string()))
    };
    let head = |what: &str| {
        html! { thead { tr { th scope="col" { (what) } th scope="col" { "Since" } th scope="col" { "Last used" } td {} } } }
    };
    html! {
        @if sessions.is_empty() && browsers.is_empty() { p { "Nothing else is signed in." } }
        @if !browsers.is_empty() {
            table { caption { "Other browsers" } (head("From")) tbody { @for own in browsers { (of_browser(own)) } } }
        }
        @if !sessions.is_empty() {
            table { caption { "Applications" } (head("With")) tbody { @for own in sessions { (of_session(own)) } } }
        }
        form method="post" action="/account/sessions" {
            (hidden("form_token", token))
            (hidden("session_id", "others"))
            button.other { "End all but this browser" }
        }
    }
}

/// Changes what a person is called; an empty name takes it back.
#[utoipa::path(post, path = "/account", tag = "pages", responses((status = 303), (status = 403), (status = 422)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn change_name(State(identity): State<Identity>, request: Request) -> Response {
    let renamed = async {
        let (_, params, secret, browser) = form_of_person(&identity, request, "/account").await?;
        let name = params.text("name").filter(|name| !name.trim().is_empty());
        match name.map(str::parse::<PersonName>).transpose() {
            Ok(name) => {
                identity.rename(browser.user_id, name.as_ref()).await.map_err(failed)?;
                Ok(see_other("/account"))
            }
            Err(error) => {
                let page = overview(&identity, &secret, &browser, Some(&format!("The name {error}."))).await?;
                Ok(page.status(StatusCode::UNPROCESSABLE_ENTITY).into_response())
            }
        }
    };
    renamed.await.unwrap_or_else(|response: Response| response)
}

/// Ends one of a person's sign-ins, one of their browsers, or all but this browser.
#[utoipa::path(post, path = "/account/sessions", tag = "pages", responses((status = 303), (status = 403)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn revoke_sign_in(State(identity): State<Identity>, request: Request) -> Response {
    let (_, params, secret, browser) = match form_of_person(&identity, request, "/account").await {
        Ok(form) => form,
        Err(response) => return response,
    };
    let ended = match (params.text("browser_id"), params.text("session_id").unwrap_or_default()) {
        (Some(id), _) => match id.parse() {
            Ok(id) => identity.end_browser_of_person(browser.user_id, id).await,
            Err(_) => Ok(()),
        },
        (None, "others") => {
            identity.end_other_sessions_of_person(browser.user_id, Keep::Browser(&secret)).await.map(drop)
        }
        (None, id) => match id.parse() {
            Ok(id) => identity.end_session_of_person(browser.user_id, id).await,
            Err(_) => Ok(()),
        },
    };
    match ended {
        // What was not there is over as well.
        Ok(()) | Err(Error::UnknownSession(_) | Error::UnknownBrowser(_)) => see_other("/account"),
        Err(error) => failed(error),
    }
}

/// Signs this browser out.
#[utoipa::path(post, path = "/account/sign-out", tag = "pages", responses((status = 303), (status = 403)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn sign_out(State(identity): State<Identity>, request: Request) -> Response {
    let secret = match form_of_person(&identity, request, "/account").await {
        Ok((_, _, secret, _)) => secret,
        Err(response) => return response,
    };
    match identity.sign_out_browser(&secret).await {
        Ok(()) => {
            let mut response = see_other("/login");
            set_cookie(&identity, &mut response, COOKIE, "", "; Path=/; Max-Age=0");
            response
        }
        Err(error) => failed(error),
    }
}

/// Asks for the old password and a new one.
#[utoipa::path(get, path = "/account/password", tag = "pages", responses((status = 200), (status = 303)))]
pub(super) async fn password_page(State(identity): State<Identity>, headers: HeaderMap) -> Response {
    match person(&identity, &headers, "/account/password").await {
        Ok((secret, browser)) => match identity.email_of(browser.user_id).await {
            Ok(email) => password_form(&identity.form_token(&secret), &email, None, None).into_response(),
            Err(error) => failed(error),
        },
        Err(response) => response,
    }
}

fn password_form(form_token: &str, email: &Email, done: Option<&str>, fault: Option<&str>) -> Page {
    let body = html! {
        (notice(done))
        (alert(fault))
        p { "At least 12 characters, or fewer that are hard to guess. All other sign-ins will end." }
        form method="post" action="/account/password" {
            (hidden("form_token", form_token))
            (account(email.as_str()))
            (field("Current password", "current_password", "password", "current-password", ""))
            (field("New password", "new_password", "password", "new-password", ""))
            button { "Change the password" }
        }
        p { a href="/account" { "Back to your account" } }
    };
    Page::new("Change the password", body)
}

/// Changes a password with the old one.
#[utoipa::path(post, path = "/account/password", tag = "pages",
    responses((status = 200), (status = 303), (status = 401), (status = 403), (status = 422), (status = 429)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn change_password(State(identity): State<Identity>, origin: Origin, request: Request) -> Response {
    let (_, params, secret, browser) = match form_of_person(&identity, request, "/account/password").await {
        Ok(form) => form,
        Err(response) => return response,
    };
    let empty = || Secret::new(String::new());
    let old = params.secret("current_password").unwrap_or_else(empty);
    let new = params.secret("new_password").unwrap_or_else(empty);
    let token = identity.form_token(&secret);
    let email = match identity.email_of(browser.user_id).await {
        Ok(email) => email,
        Err(error) => return failed(error),
    };
    let changed = identity.change_password(browser.user_id, &old, &new, &origin, Keep::Browser(&secret)).await;
    match changed {
        Ok(()) => password_form(&token, &email, Some("The new password is set."), None).into_response(),
        Err(Error::WeakPassword(why)) => {
            let page = password_form(&token, &email, None, Some(&format!("The new password {why}")));
            page.status(StatusCode::UNPROCESSABLE_ENTITY).into_response()
        }
        Err(Error::WrongCredentials) => {
            let page = password_form(&token, &email, None, Some("The current password is wrong."));
            page.status(StatusCode::UNAUTHORIZED).into_response()
        }
        Err(error) => failed(error),
    }
}
