//! The end session endpoint (`OpenID` Connect RP-Initiated Logout 1.0).
//!
//! With an ID token of the person who is signed in, the sign-out is done at once; without, the person is asked, so that no
//! link can sign anybody out. Nobody is led on to an address that the client has not registered.

use axum::{
    extract::{RawQuery, Request, State},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use maud::html;

use super::Params;
use crate::{
    identity::{
        Client, IdTokenHint, Identity,
        pages::{browser, clear_cookie, failed, is_ours, not_ours, see_other, sorry},
    },
    web::html::{Page, hidden},
};

/// Signs out.
#[utoipa::path(get, path = "/oauth2/logout", tag = "oauth", responses((status = 200), (status = 303), (status = 400)))]
pub(super) async fn logout(
    State(identity): State<Identity>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    match Params::parse(query.unwrap_or_default().as_bytes()) {
        Ok(mut params) => {
            // Only a form of ours says that the person was asked.
            params.remove("decision");
            sign_out(&identity, params, &headers).await.unwrap_or_else(|response| response)
        }
        Err(_) => sorry("A parameter was given twice."),
    }
}

/// The same by `POST`.
#[utoipa::path(post, path = "/oauth2/logout", tag = "oauth", responses((status = 200), (status = 303), (status = 400)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn logout_by_post(State(identity): State<Identity>, request: Request) -> Response {
    match Params::of_form(request).await {
        Ok((parts, params)) => sign_out(&identity, params, &parts.headers).await.unwrap_or_else(|response| response),
        Err(error) => error.into_response(),
    }
}

/// A request to sign out, checked.
struct Wish {
    hint: Option<IdTokenHint>,
    /// Where to go after it.
    target: Option<String>,
}

impl Wish {
    async fn of(identity: &Identity, params: &Params) -> Result<Self, Response> {
        let hint = params.text("id_token_hint").and_then(|token| identity.id_token_hint(token));
        if params.text("id_token_hint").is_some() && hint.is_none() && params.text("client_id").is_none() {
            return Err(sorry("The application sent an ID token that is none of ours."));
        }
        let hinted = hint.map(|hint| hint.client.to_string());
        let named = params.text("client_id");
        if let (Some(named), Some(hinted)) = (named, &hinted)
            && named != hinted
        {
            return Err(sorry("The application sent an ID token of another application."));
        }
        let client = match named.or(hinted.as_deref()) {
            Some(id) => identity.client_by_id(id).await.map_err(failed)?,
            None => None,
        };
        Ok(Self { hint, target: target(client.as_ref(), params).map_err(sorry)? })
    }
}

/// Where to go after the sign-out: an address that the client has registered, with `state` (section 3).
fn target(client: Option<&Client>, params: &Params) -> Result<Option<String>, &'static str> {
    const STRANGE: &str = "This application asked to go on to an address that it has not registered.";
    let Some(asked) = params.text("post_logout_redirect_uri") else { return Ok(None) };
    let registered = |client: &&Client| client.metadata.post_logout_redirect_uris.iter().any(|own| own == asked);
    client.filter(registered).ok_or(STRANGE)?;
    // A registered URI is one.
    let mut uri = url::Url::parse(asked).map_err(|_| STRANGE)?;
    if let Some(state) = params.text("state") {
        uri.query_pairs_mut().append_pair("state", state);
    }
    Ok(Some(uri.into()))
}

async fn sign_out(identity: &Identity, mut params: Params, headers: &HeaderMap) -> Result<Response, Response> {
    let wish = Wish::of(identity, &params).await?;
    let Some((secret, browser)) = browser(identity, headers).await? else {
        // Nobody is signed in here; the client's own sign-in may still run.
        if let Some(hint) = &wish.hint {
            identity.sign_out_hinted(hint).await.map_err(failed)?;
        }
        return Ok(done(wish.target.filter(|_| wish.hint.is_some())));
    };
    let own = wish.hint.is_some_and(|hint| hint.user == browser.user_id);
    match params.remove("decision").as_deref() {
        Some(decision) => {
            if !is_ours(identity, headers, &secret, &mut params) {
                return Err(not_ours());
            }
            if decision != "sign_out" {
                return Ok(Page::new("Still signed in", html! { p { "You were not signed out." } }).into_response());
            }
        }
        None if !own => return Ok(question(&params, &identity.form_token(&secret)).into_response()),
        None => {}
    }
    identity.sign_out_browser(&secret).await.map_err(failed)?;
    if let Some(hint) = wish.hint.filter(|_| own) {
        identity.sign_out_hinted(&hint).await.map_err(failed)?;
    }
    Ok(done(wish.target))
}

fn question(params: &Params, form_token: &str) -> Page {
    let body = html! {
        p { "You will be signed out of everything you entered from this browser." }
        form method="post" action="/oauth2/logout" {
            @for (name, value) in params.iter().filter(|(name, _)| *name != "form_token") { (hidden(name, value)) }
            (hidden("form_token", form_token))
            button name="decision" value="sign_out" { "Sign out" }
            button.other name="decision" value="stay" { "Cancel" }
        }
    };
    // Where a sign-out leads on is a client's address; any answer to this form is a redirection by us.
    Page::new("Sign out?", body).forms_lead_to("https: http:")
}

fn done(target: Option<String>) -> Response {
    let mut response = match target {
        Some(target) => see_other(&target),
        None => Page::new("Signed out", html! { p { "You can close this page." } }).into_response(),
    };
    clear_cookie(&mut response);
    response
}
