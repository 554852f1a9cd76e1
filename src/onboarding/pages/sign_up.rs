//! Signing up, and the link by which an email is verified.

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use maud::html;

use super::failed;
use crate::{
    billing::AddressBody,
    identity::{self, Identity, Origin, not_ours, same_origin},
    kernel::{Faults, Secret},
    onboarding::{Entrance, Error, Onboarding, Request, SignedUp, rules::DEFAULT_TIER},
    web::{
        form::Form,
        html::{Page, alert, field, hidden},
    },
};

/// The sign-up page.
#[utoipa::path(get, path = "/signup", tag = "pages", responses((status = 200)))]
pub(super) async fn sign_up_page() -> Response {
    page(&Form::default(), None).into_response()
}

fn page(form: &Form, fault: Option<&str>) -> Page {
    let body = html! {
        (alert(fault))
        form method="post" action="/signup" {
            (field("Organization", "customer_name", "text", "organization", form.text("customer_name")))
            (field("Billing address", "billing_address", "text", "street-address", form.text("billing_address")))
            (field("Email", "email", "email", "username", form.text("email")))
            (field("Password", "password", "password", "new-password", ""))
            p { "At least 12 characters, or fewer that are hard to guess." }
            button { "Sign up" }
        }
        p { a href="/login" { "Sign in to an account you have" } }
    };
    Page::new("Sign up", body)
}

/// Takes a sign-up.
#[utoipa::path(post, path = "/signup", tag = "pages",
    responses((status = 200), (status = 403), (status = 409), (status = 422), (status = 429)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn sign_up_by_form(
    State(onboarding): State<Onboarding>,
    State(identity): State<Identity>,
    origin: Origin,
    headers: HeaderMap,
    form: Form,
) -> Response {
    if !same_origin(&identity, &headers) {
        return not_ours();
    }
    let refuse = |status, why: &str| page(&form, Some(why)).status(status).into_response();
    let request = match parse(&form) {
        Ok(request) => request,
        Err(why) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, &why),
    };
    match onboarding.sign_up(request, &origin).await {
        Ok(SignedUp::Done(_)) => welcome().into_response(),
        Ok(SignedUp::Unverified) => {
            let text = "A letter is on its way. Your account is there once you followed the link in it, within a day.";
            Page::new("Look at your mail", html! { p role="status" { (text) } }).into_response()
        }
        Err(Error::Identity(identity::Error::WeakPassword(why))) => {
            refuse(StatusCode::UNPROCESSABLE_ENTITY, &format!("The password {why}"))
        }
        Err(error @ (Error::EmailTaken | Error::NameTaken(_))) => refuse(StatusCode::CONFLICT, &error.to_string()),
        Err(error @ (Error::SignUpClosed | Error::TierClosed(_))) => refuse(StatusCode::FORBIDDEN, &error.to_string()),
        Err(error) => failed(error),
    }
}

fn welcome() -> Page {
    let body = html! {
        p role="status" { "Your account is there." }
        p { a href="/login" { "Sign in" } }
    };
    Page::new("Welcome", body)
}

fn parse(form: &Form) -> Result<Request, String> {
    let mut faults = Faults::new();
    let email = faults.require("email", Some(form.text("email")));
    let customer_name = faults.require("organization", Some(form.text("customer_name")));
    let address = AddressBody::Text(form.text("billing_address").to_owned());
    let billing_address = address.parse("billing address", &mut faults);
    let tier = faults.parse("tier", DEFAULT_TIER);
    let password = form.secret("password");
    if password.is_none() {
        faults.add("password", "is required");
    }
    let request = (|| {
        Some(Request {
            email: email?,
            customer_name: customer_name?,
            billing_address: billing_address?,
            tier: tier?,
            password,
            external_id: None,
            entrance: Entrance::SignUp,
            key: None,
        })
    })();
    faults.finish(request).map_err(|faults| {
        faults.iter().map(|fault| format!("The {} {}.", fault.field, fault.detail)).collect::<Vec<_>>().join(" ")
    })
}

/// What a link of a letter leads to. Following it changes nothing: programs follow links before people do.
#[utoipa::path(get, path = "/signup/verify", tag = "pages", responses((status = 200), (status = 410)))]
pub(super) async fn verify_page(State(onboarding): State<Onboarding>, RawQuery(query): RawQuery) -> Response {
    let token = token(query);
    match onboarding.pending_sign_up(&token).await {
        Ok(request) => {
            let body = html! {
                p { "You signed up for " strong { (request.customer_name) } " with " (request.email) "." }
                form method="post" action="/signup/verify" {
                    (hidden("token", token.expose()))
                    button { "Yes, it was me" }
                }
            };
            Page::new("Finish signing up", body).into_response()
        }
        Err(error) => failed(error),
    }
}

/// Verifies an email, which makes the account.
#[utoipa::path(post, path = "/signup/verify", tag = "pages",
    responses((status = 200), (status = 403), (status = 409), (status = 410)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn verify_by_form(
    State(onboarding): State<Onboarding>,
    State(identity): State<Identity>,
    headers: HeaderMap,
    form: Form,
) -> Response {
    if !same_origin(&identity, &headers) {
        return not_ours();
    }
    let token = form.secret("token").unwrap_or_else(|| Secret::new(String::new()));
    match onboarding.verify_sign_up(&token).await {
        Ok(_) => welcome().into_response(),
        Err(error @ (Error::EmailTaken | Error::NameTaken(_))) => {
            let body = html! { p role="alert" { (error) } p { a href="/signup" { "Sign up again" } } };
            Page::new("This does not work", body).status(StatusCode::CONFLICT).into_response()
        }
        Err(error) => failed(error),
    }
}

/// The token of a link.
pub(super) fn token(query: Option<String>) -> Secret {
    Form::parse(query.unwrap_or_default().as_bytes()).secret("token").unwrap_or_else(|| Secret::new(String::new()))
}
