//! A new password by a link.

use axum::{
    extract::{RawQuery, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use maud::html;

use super::{failed, not_ours, same_origin};
use crate::{
    identity::{Error, Identity, Origin, oauth::Params},
    kernel::{Email, Secret},
    web::html::{Page, account, alert, field, hidden},
};

/// Asks for an email, or by a link for the new password.
#[utoipa::path(get, path = "/reset", tag = "pages", responses((status = 200), (status = 410)))]
pub(super) async fn reset_page(State(identity): State<Identity>, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    let Some(token) = params.secret("token") else { return ask(None).into_response() };
    match identity.account_of_reset_link(&token).await {
        Ok(email) => choose(&token, &email, None).into_response(),
        Err(error) => failed(error),
    }
}

fn ask(fault: Option<&str>) -> Page {
    let body = html! {
        (alert(fault))
        p { "We send you a link by which you can choose a new password." }
        form method="post" action="/reset" {
            (field("Email", "email", "email", "username", ""))
            button { "Send a link" }
        }
        p { a href="/login" { "Back to sign in" } }
    };
    Page::new("Forgot your password?", body)
}

fn choose(token: &Secret, email: &Email, fault: Option<&str>) -> Page {
    let body = html! {
        (alert(fault))
        p { "At least 12 characters, or fewer that are hard to guess. You will be signed out everywhere." }
        form method="post" action="/reset" {
            (hidden("token", token.expose()))
            (account(email.as_str()))
            (field("New password", "password", "password", "new-password", ""))
            button { "Set the password" }
        }
    };
    Page::new("Choose a new password", body)
}

/// Sends a link, or by a link sets the new password.
#[utoipa::path(post, path = "/reset", tag = "pages",
    responses((status = 200), (status = 400), (status = 410), (status = 422), (status = 429)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn reset(State(identity): State<Identity>, origin: Origin, request: Request) -> Response {
    let (parts, params) = match Params::of_form(request).await {
        Ok(form) => form,
        Err(error) => return error.into_response(),
    };
    if !same_origin(&identity, &parts.headers) {
        return not_ours();
    }
    if let Some(token) = params.secret("token") {
        return set(&identity, &token, params.secret("password")).await;
    }
    let Ok(email) = params.text("email").unwrap_or_default().parse::<Email>() else {
        let page = ask(Some("Please give an email address, such as ada@example.com."));
        return page.status(StatusCode::UNPROCESSABLE_ENTITY).into_response();
    };
    match identity.ask_for_reset(&email, &origin).await {
        Ok(()) => {
            let text = "If there is an account with this address, a link is on its way. It works once, for an hour.";
            Page::new("Look at your mail", html! { p role="status" { (text) } }).into_response()
        }
        Err(error) => failed(error),
    }
}

async fn set(identity: &Identity, token: &Secret, password: Option<Secret>) -> Response {
    let password = password.unwrap_or_else(|| Secret::new(String::new()));
    match identity.reset_password(token, &password).await {
        Ok(()) => {
            let body = html! {
                p role="status" { "The new password is set, and you are signed out everywhere." }
                p { a href="/login" { "Sign in" } }
            };
            Page::new("Done", body).into_response()
        }
        Err(Error::WeakPassword(why)) => match identity.account_of_reset_link(token).await {
            Ok(email) => {
                let page = choose(token, &email, Some(&format!("The password {why}")));
                page.status(StatusCode::UNPROCESSABLE_ENTITY).into_response()
            }
            Err(error) => failed(error),
        },
        Err(error) => failed(error),
    }
}
