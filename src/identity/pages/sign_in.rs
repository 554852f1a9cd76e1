//! Signing a browser in.

use axum::{
    extract::{RawQuery, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use maud::html;

use super::{PENDING_COOKIE, failed, local, not_ours, same_origin, see_other, set_cookie, signed_in};
use crate::{
    identity::{BrowserSignIn, Error, Identity, Origin, oauth::Params},
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
        p { a href="/reset" { "Forgot your password?" } }
        p { a href="/signup" { "Sign up" } }
    };
    // Where a sign-in leads on is not known here; any answer to this form is a redirection by us.
    Page::new("Sign in", body).forms_lead_to("https: http:")
}

/// Signs a browser in.
#[utoipa::path(post, path = "/login", tag = "pages", responses((status = 303), (status = 400), (status = 401), (status = 429)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn login(State(identity): State<Identity>, origin: Origin, request: Request) -> Response {
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
    match identity.sign_in_browser(&address, &password, &origin).await {
        Ok(BrowserSignIn::Done(secret)) => {
            let mut response = see_other(&local(return_to));
            signed_in(&identity, &mut response, &secret, &address);
            response
        }
        Ok(BrowserSignIn::Pending(secret)) => {
            let query =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("return_to", return_to).finish();
            let mut response = see_other(&format!("/login/factor?{query}"));
            set_cookie(&identity, &mut response, PENDING_COOKIE, secret.expose(), "; Path=/login; Max-Age=600");
            response
        }
        Err(Error::WrongCredentials) => wrong(),
        Err(error) => failed(error),
    }
}
