//! The authorization endpoint (RFC 6749 section 3.1, `OpenID` Connect Core section 3.1.2) and the pages on the way to it.
//!
//! Whoever is wrong about the client or where to answer is told on a page; any other fault goes back to the client, with
//! `state` and `iss` (RFC 9207). A page's form says for which browser it was made, and comes from our own origin.

use axum::{
    extract::{RawQuery, Request, State},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};

use super::{
    Params,
    request::{Fault, GONE, Known},
};
use crate::{
    identity::{
        Authorization, Browser, Consent, Identity,
        pages::{browser, choose_tenant, consent, failed, is_ours, not_ours, sorry, to_sign_in},
    },
    kernel::{CustomerName, TenantId},
};

/// Asks a person to let a client in.
#[utoipa::path(get, path = "/oauth2/authorize", tag = "oauth", responses((status = 200), (status = 303), (status = 400)))]
pub(super) async fn authorize(
    State(identity): State<Identity>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    match Params::parse(query.unwrap_or_default().as_bytes()) {
        Ok(params) => ask(&identity, params, &headers).await.unwrap_or_else(|response| response),
        Err(_) => sorry("A parameter was given twice."),
    }
}

/// Takes a person's decision; or the request by `POST` (`OpenID` Connect Core section 3.1.2.1).
#[utoipa::path(post, path = "/oauth2/authorize", tag = "oauth", responses((status = 200), (status = 303), (status = 400)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn decide(State(identity): State<Identity>, request: Request) -> Response {
    let (parts, mut params) = match Params::of_form(request).await {
        Ok(form) => form,
        Err(error) => return error.into_response(),
    };
    let Some(decision) = params.remove("decision") else {
        return ask(&identity, params, &parts.headers).await.unwrap_or_else(|response| response);
    };
    take(&identity, params, &decision, &parts.headers).await.unwrap_or_else(|response| response)
}

/// The next page on the way, or the answer.
async fn ask(identity: &Identity, params: Params, headers: &HeaderMap) -> Result<Response, Response> {
    let known = Known::of(identity, params).await?;
    let checked = known.check_pushed(identity).and_then(|()| Ok((known.authorization()?, known.wishes(identity)?)));
    let (request, wishes) = match checked {
        Ok(checked) => checked,
        Err(fault) => return Ok(known.refuse(identity, &fault)),
    };
    let sent_at = known.sent_to_sign_in_at(identity);
    let signed_in = browser(identity, headers).await?;
    let Some((secret, browser)) = signed_in.filter(|(_, browser)| wishes.suits(browser, sent_at, identity.now()))
    else {
        if wishes.silent() {
            return Ok(known.refuse(identity, &Fault("login_required", "the user must sign in".into())));
        }
        return Ok(to_login(identity, &known));
    };
    let places = identity.tenants_to_enter(&browser, &known.client).await.map_err(failed)?;
    let tenant = match tenant(&known.params, &places) {
        Ok(tenant) => tenant,
        Err(fault) if wishes.silent() || places.is_empty() => return Ok(known.refuse(identity, &fault)),
        Err(_) => return Ok(choose_tenant(&known.params, &places).into_response()),
    };
    let consented = identity.has_consented(&browser, &request, tenant).await.map_err(failed)?;
    if consented && !wishes.asks_anew() {
        return grant(identity, &known, &request, (&browser, Consent::Standing), tenant).await;
    }
    if wishes.silent() {
        return Ok(known.refuse(identity, &Fault("consent_required", "the user has not allowed this yet".into())));
    }
    let form_token = identity.form_token(&secret);
    let place = places.iter().find(|(id, _)| *id == tenant).map(|(id, name)| (*id, name.as_str()));
    let place = place.unwrap_or((tenant, ""));
    Ok(consent(&known.params, &request, place, &form_token, &known.target()).into_response())
}

async fn take(
    identity: &Identity,
    mut params: Params,
    decision: &str,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    let signed_in = browser(identity, headers).await?;
    let ours = signed_in.as_ref().is_some_and(|(secret, _)| is_ours(identity, headers, secret, &mut params));
    let known = Known::of(identity, params).await?;
    let Some((_, browser)) = signed_in else { return Ok(to_login(identity, &known)) };
    if !ours {
        return Err(not_ours());
    }
    let checked = known.check_pushed(identity).and_then(|()| Ok((known.authorization()?, known.wishes(identity)?)));
    let (request, wishes) = match checked {
        Ok(checked) => checked,
        Err(fault) => return Ok(known.refuse(identity, &fault)),
    };
    if decision != "allow" {
        identity.deny(&request, &browser).await.map_err(failed)?;
        return Ok(known.refuse(identity, &Fault("access_denied", "the user said no".into())));
    }
    // Who decides without having been asked is no more than who is asked.
    if wishes.silent() {
        return Ok(known.refuse(identity, &Fault("interaction_required", "a decision is one".into())));
    }
    if !wishes.suits(&browser, known.sent_to_sign_in_at(identity), identity.now()) {
        return Ok(to_login(identity, &known));
    }
    let places = identity.tenants_to_enter(&browser, &known.client).await.map_err(failed)?;
    match tenant(&known.params, &places) {
        Ok(tenant) => grant(identity, &known, &request, (&browser, Consent::Given), tenant).await,
        Err(fault) => Ok(known.refuse(identity, &fault)),
    }
}

async fn grant(
    identity: &Identity,
    known: &Known,
    request: &Authorization,
    (browser, consent): (&Browser, Consent),
    tenant: TenantId,
) -> Result<Response, Response> {
    let pushed = known.pushed_stamp(identity);
    let code = identity.authorize(request, browser, tenant, consent, pushed).await.map_err(failed)?;
    let code = code.ok_or_else(|| sorry(GONE))?;
    Ok(known.answer(identity, &[("code", code.expose())]))
}

/// Which tenant the tokens will name.
fn tenant(params: &Params, places: &[(TenantId, CustomerName)]) -> Result<TenantId, Fault> {
    let denied = |text: &str| Fault("access_denied", text.to_owned());
    match (params.text("tenant"), places) {
        (_, []) => Err(denied("the user belongs to no tenant that this client may serve")),
        (Some(asked), places) => {
            let found = places.iter().find(|(id, _)| id.to_string() == asked);
            found.map(|(id, _)| *id).ok_or_else(|| denied("the user does not belong to this tenant"))
        }
        (None, [(only, _)]) => Ok(*only),
        (None, _) => Err(Fault("interaction_required", "the user belongs to several tenants".into())),
    }
}

fn to_login(identity: &Identity, known: &Known) -> Response {
    to_sign_in(&known.after_sign_in(identity), known.params.text("login_hint"))
}
