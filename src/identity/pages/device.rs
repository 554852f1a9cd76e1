//! Where a person says what a device may do (RFC 8628 section 3.3): they sign in, enter what it shows, see who asks for what,
//! and decide.

use axum::{
    extract::{RawQuery, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use maud::html;

use super::{browser, consent::wishes, failed, is_ours, not_ours, sorry, to_sign_in};
use crate::{
    identity::{Client, DeviceGrant, Error, Identity, oauth::Params},
    kernel::{CustomerName, TenantId},
    web::html::{Page, alert, field, hidden},
};

const WRONG: &str = "This code is not known, or has expired. Look again at what the device shows.";

/// The page on which a person enters what a device shows.
#[utoipa::path(get, path = "/device", tag = "pages", responses((status = 200), (status = 303)))]
pub(super) async fn device_page(
    State(identity): State<Identity>,
    RawQuery(query): RawQuery,
    headers: axum::http::HeaderMap,
) -> Response {
    let params = Params::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    let code = params.text("user_code").unwrap_or_default();
    match browser(&identity, &headers).await {
        // What came with the address is shown and not taken: the person compares it with the device (section 3.3.1).
        Ok(Some((secret, _))) => entry(code, &identity.form_token(&secret), None).into_response(),
        Ok(None) => to_sign_in(&back_here(code), None),
        Err(response) => response,
    }
}

/// This page, as a sign-in is to lead back to it.
fn back_here(code: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("user_code", code).finish();
    format!("/device?{query}")
}

fn entry(code: &str, form_token: &str, fault: Option<&str>) -> Page {
    let body = html! {
        (alert(fault))
        p { "Enter the code that your device shows. Go on only if the device is in front of you." }
        form method="post" action="/device" {
            (field("Code", "user_code", "text", "off", code))
            (hidden("form_token", form_token))
            button { "Continue" }
        }
    };
    Page::new("Connect a device", body)
}

/// Takes a code, and then a decision.
#[utoipa::path(post, path = "/device", tag = "pages", responses((status = 200), (status = 303), (status = 400), (status = 403), (status = 429)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn device(State(identity): State<Identity>, request: Request) -> Response {
    match Params::of_form(request).await {
        Ok((parts, params)) => take(&identity, params, &parts.headers).await.unwrap_or_else(|response| response),
        Err(error) => error.into_response(),
    }
}

async fn take(identity: &Identity, mut params: Params, headers: &axum::http::HeaderMap) -> Result<Response, Response> {
    let code = params.text("user_code").unwrap_or_default().to_owned();
    let Some((secret, browser)) = browser(identity, headers).await? else {
        return Ok(to_sign_in(&back_here(&code), None));
    };
    if !is_ours(identity, headers, &secret, &mut params) {
        return Err(not_ours());
    }
    let form_token = identity.form_token(&secret);
    let (grant, client) = match identity.device_of(&browser, &code).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let page = entry(&code, &form_token, Some(WRONG)).status(StatusCode::BAD_REQUEST);
            return Ok(page.into_response());
        }
        Err(Error::TooManyGuesses) => return Err(too_many()),
        Err(error) => return Err(failed(error)),
    };
    let places = identity.tenants_to_enter(&browser, &client).await.map_err(failed)?;
    if places.is_empty() {
        return Err(sorry("You belong to no organization that this application may serve."));
    }
    let tenant = match params.text("decision") {
        None => return Ok(decision(&code, &grant, &client, &places, &form_token).into_response()),
        Some("allow") => {
            let asked = params.text("tenant").unwrap_or_default();
            let found = places.iter().find(|(id, _)| id.to_string() == asked);
            Some(found.map(|(id, _)| *id).ok_or_else(|| sorry("You do not belong to this organization."))?)
        }
        Some(_) => None,
    };
    if !identity.decide_device(&browser, &grant, tenant).await.map_err(failed)? {
        return Err(sorry("The device waits no more. Please start again on it."));
    }
    let (title, text) = match tenant {
        Some(_) => ("Device connected", "You can go back to your device now."),
        None => ("Device refused", "The device was told no."),
    };
    Ok(Page::new(title, html! { p { (text) } }).into_response())
}

/// Whether the client on the device may have what it asks for, and for which tenant.
fn decision(
    code: &str,
    grant: &DeviceGrant,
    client: &Client,
    places: &[(TenantId, CustomerName)],
    form_token: &str,
) -> Page {
    let body = html! {
        p { strong { (client.name) } " on the device that shows " strong { (code) } " wants to:" }
        (wishes(&grant.scope))
        form method="post" action="/device" {
            (hidden("user_code", code))
            (hidden("form_token", form_token))
            label for="tenant" { "For" }
            select id="tenant" name="tenant" {
                @for (tenant, name) in places { option value=(tenant) { (name.as_str()) } }
            }
            button name="decision" value="allow" { "Allow" }
            button.other name="decision" value="deny" { "Cancel" }
        }
    };
    Page::new("Allow access?", body)
}

fn too_many() -> Response {
    let body = html! { p { "Too many wrong codes were entered. Wait a few minutes." } };
    let mut response = Page::new("Please wait", body).status(StatusCode::TOO_MANY_REQUESTS).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, axum::http::HeaderValue::from_static("600"));
    response
}
