//! The authorization endpoint (RFC 6749 section 3.1, `OpenID` Connect Core section 3.1.2) and the pages on the way to it.
//!
//! Whoever is wrong about the client or where to answer is told on a page; any other fault goes back to the client, with
//! `state` and `iss` (RFC 9207). A page's form says for which browser it was made, and comes from our own origin.

use axum::{
    extract::{RawQuery, Request, State},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};

use super::params::Params;
use crate::{
    identity::{
        Authorization, Browser, Client, GrantType, Identity, ScopeSet,
        pages::{browser, choose_tenant, consent, failed, is_ours, not_ours, see_other, sorry, to_sign_in},
        rules,
    },
    kernel::{CustomerName, TenantId},
    web::oauth::OAuthError,
};

/// What a base64url text of 32 bytes is made of (RFC 7636 section 4.2).
const CHALLENGE_CHARS: usize = 43;

/// A request whose client and redirect URI are known to belong together.
struct Known {
    client: Client,
    redirect_uri: String,
    params: Params,
}

/// Why a client is sent an error.
struct Fault(&'static str, String);

impl Known {
    /// Finds client and redirect URI, or says on a page why there is nobody to answer to.
    async fn of(identity: &Identity, params: Params) -> Result<Self, Response> {
        let client = match params.text("client_id") {
            Some(id) => identity.client_by_id(id).await.map_err(|error| OAuthError::from(error).into_response())?,
            None => None,
        };
        let client = client.ok_or_else(|| sorry("This application is not known here."))?;
        let registered = &client.metadata.redirect_uris;
        let redirect_uri = match (params.text("redirect_uri"), &registered[..]) {
            (Some(given), registered) if rules::redirect_matches(registered, given) => given.to_owned(),
            (None, [only]) => only.clone(),
            _ => return Err(sorry("This application asked for an answer to an address that it has not registered.")),
        };
        Ok(Self { client, redirect_uri, params })
    }

    /// The rest of the request, checked.
    fn authorization(&self) -> Result<Authorization, Fault> {
        let params = &self.params;
        let bad = |detail: &str| Fault("invalid_request", detail.to_owned());
        if params.text("request").is_some() {
            return Err(Fault("request_not_supported", "request objects are not taken".into()));
        }
        if params.text("request_uri").is_some() {
            return Err(Fault("request_uri_not_supported", "request_uri is not taken".into()));
        }
        match params.text("response_type") {
            Some("code") => {}
            None => return Err(bad("response_type is missing")),
            Some(_) => return Err(Fault("unsupported_response_type", "response_type must be code".into())),
        }
        if params.text("response_mode").is_some_and(|mode| mode != "query") {
            return Err(bad("response_mode must be query"));
        }
        if self.client.may_use(GrantType::AuthorizationCode).is_err() {
            return Err(Fault("unauthorized_client", "the client has not registered authorization_code".into()));
        }
        let scope = params.text("scope").map_or_else(|| self.client.scope.clone(), ScopeSet::parse);
        if let Some(value) = scope.iter().find(|value| !self.client.scope.contains(value)) {
            return Err(Fault("invalid_scope", format!("the client has not registered {value}")));
        }
        let code_challenge = params.text("code_challenge").map(str::to_owned);
        match (&code_challenge, params.text("code_challenge_method")) {
            (None, None) if self.client.secret_hash.is_some() => {}
            (None, None) => return Err(bad("code_challenge is missing; a public client must send one")),
            (None, Some(_)) => return Err(bad("code_challenge is missing")),
            (Some(challenge), Some("S256")) if is_challenge(challenge) => {}
            (Some(_), Some("S256")) => return Err(bad("code_challenge must be 43 characters of base64url")),
            // RFC 7636 section 4.3: without a method it would be plain.
            (Some(_), _) => return Err(bad("code_challenge_method must be S256")),
        }
        Ok(Authorization {
            client: self.client.clone(),
            redirect_uri: self.redirect_uri.clone(),
            scope,
            code_challenge,
            nonce: params.text("nonce").map(str::to_owned),
        })
    }

    /// Back to the client, with `state` and who answers.
    fn answer(&self, identity: &Identity, pairs: &[(&str, &str)]) -> Response {
        // A registered URI is one; it was parsed when it was registered.
        let Ok(mut uri) = url::Url::parse(&self.redirect_uri) else { return sorry("The address cannot be used.") };
        {
            let mut query = uri.query_pairs_mut();
            query.extend_pairs(pairs);
            if let Some(state) = self.params.text("state") {
                query.append_pair("state", state);
            }
            query.append_pair("iss", identity.issuer());
        }
        see_other(uri.as_str())
    }

    fn refuse(&self, identity: &Identity, Fault(error, description): &Fault) -> Response {
        self.answer(identity, &[("error", error), ("error_description", description)])
    }

    /// The origin that answers go to, for the policy of pages with forms.
    fn target(&self) -> String {
        url::Url::parse(&self.redirect_uri).map_or_else(
            |_| String::new(),
            |uri| match uri.origin() {
                origin @ url::Origin::Tuple(..) => origin.ascii_serialization(),
                url::Origin::Opaque(_) => format!("{}:", uri.scheme()),
            },
        )
    }
}

fn is_challenge(text: &str) -> bool {
    text.len() == CHALLENGE_CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

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
    let request = match known.authorization() {
        Ok(request) => request,
        Err(fault) => return Ok(known.refuse(identity, &fault)),
    };
    let prompt = known.params.text("prompt").unwrap_or_default();
    let silent = prompt == "none";
    let max_age = known.params.text("max_age").and_then(|text| text.parse::<i64>().ok());
    let fresh = |browser: &Browser| {
        let age_s = identity.now().as_secs() - browser.authenticated_at.as_secs();
        prompt != "login" && max_age.is_none_or(|max_age| age_s <= max_age)
    };
    let signed_in = browser(identity, headers).await?;
    let Some((secret, browser)) = signed_in.filter(|(_, browser)| fresh(browser)) else {
        if silent {
            return Ok(known.refuse(identity, &Fault("login_required", "nobody is signed in".into())));
        }
        return Ok(to_login(&known.params));
    };
    let places = identity.tenants_to_enter(&browser, &known.client).await.map_err(failed)?;
    let tenant = match tenant(&known.params, &places) {
        Ok(tenant) => tenant,
        Err(fault) if silent || places.is_empty() => return Ok(known.refuse(identity, &fault)),
        Err(_) => return Ok(choose_tenant(&known.params, &places).into_response()),
    };
    let consented = identity.has_consented(&browser, &known.client, &request.scope).await.map_err(failed)?;
    if consented && prompt != "consent" {
        return grant(identity, &known, &request, &browser, tenant).await;
    }
    if silent {
        return Ok(known.refuse(identity, &Fault("consent_required", "the user has not allowed this yet".into())));
    }
    let form_token = identity.form_token(&secret);
    Ok(consent(&known.params, &request, &form_token, &known.target()).into_response())
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
    let Some((_, browser)) = signed_in else { return Ok(to_login(&known.params)) };
    if !ours {
        return Err(not_ours());
    }
    let request = match known.authorization() {
        Ok(request) => request,
        Err(fault) => return Ok(known.refuse(identity, &fault)),
    };
    if decision != "allow" {
        return Ok(known.refuse(identity, &Fault("access_denied", "the user said no".into())));
    }
    let places = identity.tenants_to_enter(&browser, &known.client).await.map_err(failed)?;
    match tenant(&known.params, &places) {
        Ok(tenant) => grant(identity, &known, &request, &browser, tenant).await,
        Err(fault) => Ok(known.refuse(identity, &fault)),
    }
}

async fn grant(
    identity: &Identity,
    known: &Known,
    request: &Authorization,
    browser: &Browser,
    tenant: TenantId,
) -> Result<Response, Response> {
    let code = identity.authorize(request, browser, tenant).await.map_err(failed)?;
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

fn to_login(params: &Params) -> Response {
    let mut params = params.clone();
    // Signing in is what was asked for; asking again would never end.
    if params.text("prompt") == Some("login") {
        params.remove("prompt");
    }
    params.remove("max_age");
    to_sign_in(&format!("/oauth2/authorize?{}", params.to_query()))
}
