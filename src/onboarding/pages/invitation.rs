//! Accepting an invitation.

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use maud::html;

use super::{failed, sign_up::token};
use crate::{
    identity::{self, Identity, Origin, not_ours, same_origin},
    kernel::Secret,
    onboarding::{
        Error, Onboarding,
        invitations::{Acceptance, Offer},
    },
    web::{
        form::Form,
        html::{Page, account, alert, field, hidden},
    },
};

/// What a link offers. Following it changes nothing.
#[utoipa::path(get, path = "/invitation", tag = "pages", responses((status = 200), (status = 410)))]
pub(super) async fn invitation_page(State(onboarding): State<Onboarding>, RawQuery(query): RawQuery) -> Response {
    let token = token(query);
    match onboarding.offer(&token).await {
        Ok(offer) => page(&token, &offer, false, None).into_response(),
        Err(error) => failed(error),
    }
}

fn page(token: &Secret, offer: &Offer, with_code: bool, fault: Option<&str>) -> Page {
    let email = offer.invitation.email.as_str();
    let body = html! {
        (alert(fault))
        p { strong { (offer.customer_name) } " invites " (email) " as " (offer.invitation.role.name()) "." }
        form method="post" action="/invitation" {
            (hidden("token", token.expose()))
            (account(email))
            @if offer.has_account {
                (field("Your password", "password", "password", "current-password", ""))
            } @else {
                (field("Choose a password", "password", "password", "new-password", ""))
                p { "At least 12 characters, or fewer that are hard to guess." }
            }
            @if with_code {
                (field("Code of your authenticator, or a recovery code", "otp", "text", "one-time-code", ""))
            }
            button { "Accept" }
        }
    };
    Page::new("You are invited", body)
}

/// Accepts an invitation.
#[utoipa::path(post, path = "/invitation", tag = "pages",
    responses((status = 200), (status = 401), (status = 403), (status = 409), (status = 410), (status = 422), (status = 429)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn accept_by_form(
    State(onboarding): State<Onboarding>,
    State(identity): State<Identity>,
    origin: Origin,
    headers: HeaderMap,
    form: Form,
) -> Response {
    if !same_origin(&identity, &headers) {
        return not_ours();
    }
    let empty = || Secret::new(String::new());
    let token = form.secret("token").unwrap_or_else(empty);
    let acceptance = Acceptance { password: form.secret("password").unwrap_or_else(empty), otp: form.secret("otp") };
    let Err(error) = onboarding.accept_invitation(&token, &acceptance, &origin).await else {
        let body = html! {
            p role="status" { "You belong to it now." }
            p { a href="/login" { "Sign in" } }
        };
        return Page::new("Welcome", body).into_response();
    };
    let (status, with_code, why) = match &error {
        Error::Identity(identity::Error::WeakPassword(why)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, false, format!("The password {why}"))
        }
        Error::Identity(identity::Error::WrongCredentials) => {
            (StatusCode::UNAUTHORIZED, false, "The password is wrong.".to_owned())
        }
        Error::Identity(identity::Error::FactorNeeded { .. }) => {
            (StatusCode::UNAUTHORIZED, true, "Please give a code of your authenticator, too.".to_owned())
        }
        Error::Identity(identity::Error::WrongFactor) => {
            (StatusCode::UNAUTHORIZED, true, "The code is wrong, or was used before.".to_owned())
        }
        _ => return failed(error),
    };
    match onboarding.offer(&token).await {
        Ok(offer) => page(&token, &offer, with_code, Some(&why)).status(status).into_response(),
        Err(error) => failed(error),
    }
}
