//! The authorization endpoint (RFC 6749 section 3.1, `OpenID` Connect Core section 3.1.2) and the pages on the way to it.
//!
//! Whoever is wrong about the client or where to answer is told on a page; any other fault goes back to the client, with
//! `state` and `iss` (RFC 9207). A page's form says for which browser it was made, and comes from our own origin.

use axum::{
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use super::params::Params;
use crate::{
    identity::{Authorization, Browser, Client, Error, GrantType, Identity, ScopeSet, rules},
    kernel::{CustomerName, Secret, TenantId},
    web::{
        html::{escape, hidden, page},
        oauth::OAuthError,
    },
};

/// The cookie of a browser that is signed in.
const COOKIE: &str = "tollgate_browser";
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
        Err(_) => return Ok(choose(&known, &places)),
    };
    let consented = identity.has_consented(&browser, &known.client, &request.scope).await.map_err(failed)?;
    if consented && prompt != "consent" {
        return grant(identity, &known, &request, &browser, tenant).await;
    }
    if silent {
        return Ok(known.refuse(identity, &Fault("consent_required", "the user has not allowed this yet".into())));
    }
    Ok(consent(&known, &request, &identity.form_token(&secret)))
}

async fn take(
    identity: &Identity,
    mut params: Params,
    decision: &str,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    let token = params.remove("form_token").unwrap_or_default();
    let known = Known::of(identity, params).await?;
    let Some((secret, browser)) = browser(identity, headers).await? else { return Ok(to_login(&known.params)) };
    let ours: bool = subtle::ConstantTimeEq::ct_eq(token.as_bytes(), identity.form_token(&secret).as_bytes()).into();
    if !ours || !same_origin(identity, headers) {
        return Err(page(StatusCode::FORBIDDEN, "This page is not yours", "<p>Please start again.</p>", ""));
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

/// The browser that calls, if somebody is signed in with it.
async fn browser(identity: &Identity, headers: &HeaderMap) -> Result<Option<(Secret, Browser)>, Response> {
    let Some(secret) = cookie(headers) else { return Ok(None) };
    let browser = identity.browser(&secret).await.map_err(failed)?;
    Ok(browser.map(|browser| (secret, browser)))
}

fn cookie(headers: &HeaderMap) -> Option<Secret> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| Secret::new(value.to_owned()))
}

/// Whether a form comes from a page of ours, as far as the browser says.
fn same_origin(identity: &Identity, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let issuer = url::Url::parse(identity.issuer()).map(|issuer| issuer.origin().ascii_serialization());
    let origin = text("origin").is_none_or(|origin| issuer.is_ok_and(|own| own == origin));
    origin && text("sec-fetch-site").is_none_or(|site| ["same-origin", "none"].contains(&site))
}

fn to_login(params: &Params) -> Response {
    let mut params = params.clone();
    // Signing in is what was asked for; asking again would never end.
    if params.text("prompt") == Some("login") {
        params.remove("prompt");
    }
    params.remove("max_age");
    let target = format!("/oauth2/authorize?{}", params.to_query());
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("return_to", &target).finish();
    see_other(&format!("/login?{query}"))
}

/// The sign-in page.
#[utoipa::path(get, path = "/login", tag = "pages", responses((status = 200)))]
pub(super) async fn login_page(RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    login_form(StatusCode::OK, params.text("return_to").unwrap_or_default(), "", "")
}

fn login_form(status: StatusCode, return_to: &str, email: &str, fault: &str) -> Response {
    let fault = if fault.is_empty() { String::new() } else { format!("<p role=\"alert\">{}</p>\n", escape(fault)) };
    let body = format!(
        "{fault}<form method=\"post\" action=\"/login\">\n{}\
         <label for=\"email\">Email</label>\n<input id=\"email\" name=\"email\" type=\"email\" autocomplete=\"username\" \
         required autofocus value=\"{}\">\n\
         <label for=\"password\">Password</label>\n<input id=\"password\" name=\"password\" type=\"password\" \
         autocomplete=\"current-password\" required>\n<button>Sign in</button>\n</form>\n",
        hidden("return_to", return_to),
        escape(email)
    );
    // Where a sign-in leads on is not known here; any answer to this form is a redirection by us.
    page(status, "Sign in", &body, "https: http:")
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
        return page(StatusCode::FORBIDDEN, "This page is not yours", "<p>Please start again.</p>", "");
    }
    let return_to = params.text("return_to").unwrap_or_default();
    let (email, password) = (params.text("email").unwrap_or_default(), params.secret("password"));
    let wrong = |status| login_form(status, return_to, email, "Email and password do not belong together.");
    let (Ok(address), Some(password)) = (email.parse(), password) else { return wrong(StatusCode::UNAUTHORIZED) };
    let secret = match identity.sign_in_browser(&address, &password).await {
        Ok(secret) => secret,
        Err(Error::WrongCredentials) => return wrong(StatusCode::UNAUTHORIZED),
        Err(error) => return failed(error),
    };
    let secure = if identity.issuer().starts_with("https:") { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax{secure}", secret.expose());
    let mut response = see_other(&local(return_to));
    // A base64url text is a header value.
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// A path of ours; anything else would lead people away (an open redirect).
fn local(return_to: &str) -> String {
    let path = return_to.parse::<Uri>().ok().filter(|uri| uri.authority().is_none() && uri.scheme().is_none());
    let path = path.filter(|_| return_to.starts_with('/') && !return_to.starts_with("//") && !return_to.contains('\\'));
    path.map_or_else(|| "/console/".to_owned(), |uri| uri.to_string())
}

/// Which tenant to go to.
fn choose(known: &Known, places: &[(TenantId, CustomerName)]) -> Response {
    let mut body = String::from("<p>You belong to several. Which one do you want to go on with?</p>\n<ul>\n");
    for (tenant, name) in places {
        let mut params = known.params.clone();
        params.set("tenant", &tenant.to_string());
        let link = format!("/oauth2/authorize?{}", params.to_query());
        body += &item(&format!("<a href=\"{}\">{}</a>", escape(&link), escape(name.as_str())));
    }
    body.push_str("</ul>\n");
    page(StatusCode::OK, "Choose an organization", &body, "")
}

/// Whether the client may have what it asks for.
fn consent(known: &Known, request: &Authorization, form_token: &str) -> Response {
    let fields: String = known.params.iter().map(|(name, value)| hidden(name, value)).collect();
    let wishes: String = request.scope.iter().map(|value| item(&escape(wish(value)))).collect();
    let body = format!(
        "<p><strong>{}</strong> wants to:</p>\n<ul>\n{wishes}</ul>\n\
         <form method=\"post\" action=\"/oauth2/authorize\">\n{fields}{}\
         <button name=\"decision\" value=\"allow\">Allow</button>\n\
         <button class=\"other\" name=\"decision\" value=\"deny\">Cancel</button>\n</form>\n",
        escape(&known.client.name),
        hidden("form_token", form_token),
    );
    page(StatusCode::OK, "Allow access?", &body, &known.target())
}

fn item(html: &str) -> String {
    format!("<li>{html}</li>\n")
}

/// What a scope value means to people.
fn wish(value: &str) -> &str {
    match value {
        "openid" => "know who you are",
        "profile" => "see your profile",
        "email" => "see your email address",
        "offline_access" => "stay signed in for you",
        "usage:read" => "see your organization's usage",
        "usage:write" => "report usage for your organization",
        other => other,
    }
}

fn see_other(target: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    // A serialized URI is a header value.
    if let Ok(target) = HeaderValue::try_from(target) {
        headers.insert(header::LOCATION, target);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn sorry(text: &str) -> Response {
    page(StatusCode::BAD_REQUEST, "This does not work", &format!("<p>{}</p>\n", escape(text)), "")
}

fn failed(error: Error) -> Response {
    OAuthError::from(error).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_to_paths_of_ours_alone() {
        assert_eq!(local("/oauth2/authorize?a=b%20c"), "/oauth2/authorize?a=b%20c");
        for other in ["", "https://evil.example/", "//evil.example/", "/\\evil.example", "evil", "javascript:alert(1)"]
        {
            assert_eq!(local(other), "/console/", "{other}");
        }
    }
}
