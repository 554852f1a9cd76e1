//! Signing a browser in.

use axum::{
    extract::{RawQuery, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use maud::html;

use super::{failed, local, not_ours, same_origin, see_other, set_cookie};
use crate::{
    identity::{Error, Identity, oauth::Params},
    web::html::{Page, alert, field, hidden},
};

/// The sign-in page.
#[utoipa::path(get, path = "/login", tag = "pages", responses((status = 200)))]
pub(super) async fn login_page(RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    form(params.text("return_to").unwrap_or_default(), params.text("login_hint").unwrap_or_default(), None)
        .into_response()
}

fn form(return_to: &str, email: &str, fault: Option<&str>) -> Page {
    let body = html! {
        (alert(fault))
        form method="post" action="/login" {
            (hidden("return_to", return_to))
            (field("Email", "email", "email", "username", email))
            (field("Password", "password", "password", "current-password", ""))
            button { "Sign in" }
        }
    };
    // Where a sign-in leads on is not known here; any answer to this form is a redirection by us.
    Page::new("Sign in", body).forms_lead_to("https: http:")
}

/// Signs a browser in.
#[utoipa::path(post, path = "/login", tag = "pages", responses((status = 303), (status = 400), (status = 401)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn login(State(identity): State<Identity>, request: Request) -> Response {
    let (parts, params) = match Params::of_form(request).await {
        Ok(form) => form,
        Err(error) => return error.into_response(),
    };
    if !same_origin(&identity, &parts.headers) {
        return not_ours();
    }
    let return_to = params.text("return_to").unwrap_or_default();
    let (email, password) = (params.text("email").unwrap_or_default(), params.secret("password"));
    let wrong = || {
        let page = form(return_to, email, Some("Email and password do not belong together."));
        page.status(StatusCode::UNAUTHORIZED).into_response()
    };
    let (Ok(address), Some(password)) = (email.parse(), password) else { return wrong() };
    match identity.sign_in_browser(&address, &password).await {
        Ok(secret) => {
            let mut response = see_other(&local(return_to));
            set_cookie(&identity, &mut response, &secret);
            response
        }
        Err(Error::WrongCredentials) => wrong(),
        Err(error) => failed(error),
    }
}
