//! The endpoints of vendors' issuers. Signing in needs no page: `login_hint` says who it is, and the answer is a code.

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::html;
use serde_json::{Value, json};

use super::{
    Lab,
    faults::{Target, json_response},
    issuer_tokens::{Wanted, granted},
    issuers::{Allowed, Code},
    tokens::MintError,
    vendors::{Endpoint, Vendor},
};
use crate::{
    identity::{Client, Error, check_verifier, oauth::params::Params, rules},
    kernel::{Clock as _, rng::random_bytes},
    web::{Kind, Problem, html::Page, oauth::OAuthError},
};

/// Life of a code, in seconds.
const CODE_TTL_S: i64 = 60;

/// The routes.
pub fn routes() -> Router<Lab> {
    Router::new().route(super::PATHS[0], any(serve))
}

async fn serve(State(lab): State<Lab>, Path((name, path)): Path<(String, String)>, request: Request) -> Response {
    let Some(vendor) = Vendor::by_name(&name) else {
        let names = Vendor::ALL.map(Vendor::name).join(", ");
        return Problem::new(Kind::NOT_FOUND, format!("there is no such issuer; there are {names}")).into_response();
    };
    let Some((realm, endpoint)) = vendor.endpoint(&path) else {
        return Problem::new(Kind::NOT_FOUND, "the issuer has no such endpoint").into_response();
    };
    let method = request.method().clone();
    match (endpoint, &method) {
        (Endpoint::Discovery, &Method::GET) => {
            lab.faults().served((Target::Discovery, Some(vendor)), lab.discovery(vendor, realm)).await
        }
        (Endpoint::Jwks, &Method::GET) => match lab.vendor_key(vendor).await {
            Ok(key) => lab.faults().served((Target::Jwks, Some(vendor)), json!({"keys": [key.jwk]})).await,
            Err(error) => Problem::from(error).into_response(),
        },
        (Endpoint::Authorize, &Method::GET | &Method::POST) => {
            let params = match request.uri().query().filter(|_| method == Method::GET) {
                Some(query) => Params::parse(query.as_bytes()),
                None => Params::of_form(request).await.map(|(_, params)| params),
            };
            match params {
                Ok(params) => lab.authorize(vendor, realm, &params).await.unwrap_or_else(|refused| refused),
                Err(error) => error.into_response(),
            }
        }
        (Endpoint::Token, &Method::POST) => match lab.token(vendor, realm, request).await {
            Ok(answer) => json_response(StatusCode::OK, answer.to_string()),
            Err(error) => error.into_response(),
        },
        _ => Problem::new(Kind::METHOD_NOT_ALLOWED, "this endpoint does not have that method").into_response(),
    }
}

impl From<MintError> for OAuthError {
    fn from(error: MintError) -> Self {
        match error {
            MintError::Identity(error) => error.into(),
            MintError::NoSuchKey => Error::Key("is missing").into(),
        }
    }
}

impl Lab {
    fn discovery(&self, vendor: Vendor, realm: Option<&str>) -> Value {
        let (base, places) = (self.vendor_base(vendor), vendor.places(realm));
        let mut document = json!({
            "issuer": self.vendor_issuer(vendor, realm),
            "authorization_endpoint": format!("{base}{}", places.authorize),
            "token_endpoint": format!("{base}{}", places.token),
            "jwks_uri": format!("{base}{}", places.jwks),
            "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "subject_types_supported": [if vendor == Vendor::Entra { "pairwise" } else { "public" }],
            "id_token_signing_alg_values_supported": [self.issuers().settings(vendor).algorithm.name()],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "scopes_supported": vendor.scopes(),
        });
        if vendor.says_who_answers() {
            document["authorization_response_iss_parameter_supported"] = true.into();
        }
        document
    }

    /// Lets the person in whom `login_hint` names, without asking.
    async fn authorize(&self, vendor: Vendor, realm: Option<&str>, params: &Params) -> Result<Response, Response> {
        let failed = |error: Error| OAuthError::from(error).into_response();
        let client =
            self.identity().client_by_id(params.text("client_id").unwrap_or_default()).await.map_err(failed)?;
        let client = client.ok_or_else(|| sorry("No client has this client_id."))?;
        let registered = &client.metadata.redirect_uris;
        let redirect_uri = params.text("redirect_uri").filter(|given| rules::redirect_matches(registered, given));
        let redirect_uri = redirect_uri.ok_or_else(|| sorry("The client has not registered this redirect_uri."))?;
        let outcome = self.code(vendor, realm, client.clone(), redirect_uri, params).await;
        let issuer = vendor.says_who_answers().then(|| self.vendor_issuer(vendor, realm));
        let answer = |pairs: &[(&str, &str)]| answer(redirect_uri, pairs, params.text("state"), issuer.as_deref());
        Ok(match outcome {
            Ok(code) => answer(&[("code", &code)]),
            Err((error, description)) => answer(&[("error", error), ("error_description", &description)]),
        })
    }

    async fn code(
        &self,
        vendor: Vendor,
        realm: Option<&str>,
        client: Client,
        redirect_uri: &str,
        params: &Params,
    ) -> Result<String, (&'static str, String)> {
        let bad = |detail: &str| ("invalid_request", detail.to_owned());
        if params.text("response_type") != Some("code") {
            return Err(("unsupported_response_type", "response_type must be code".to_owned()));
        }
        let challenge = params.text("code_challenge").map(str::to_owned);
        match (&challenge, params.text("code_challenge_method")) {
            (Some(_), Some("S256")) => {}
            (None, None) if client.secret_hash.is_some() => {}
            (None, None) => return Err(bad("a public client must send a code_challenge")),
            _ => return Err(bad("code_challenge_method must be S256")),
        }
        let who = params.text("login_hint");
        let who = who.ok_or_else(|| ("login_required", "send login_hint: the email of a user".to_owned()))?;
        let tenant = params.text("organization").or(params.text("tenant"));
        let lost = |_| ("server_error", "the store did not answer".to_owned());
        // Entra's directory in the path is a tenant, where there is one by that name.
        let directory = realm.filter(|_| vendor == Vendor::Entra && tenant.is_none());
        let known = match directory {
            Some(directory) => self.tenant(directory).await.map_err(lost)?.map(|_| directory),
            None => None,
        };
        let tenant = tenant.or(known);
        let somebody = self.somebody(who, tenant).await.map_err(lost)?;
        let somebody = somebody.filter(|somebody| {
            let own = client.tenant_id;
            somebody.place.as_ref().is_some_and(|(tenant, _)| own.is_none_or(|own| own == tenant.id))
        });
        let nobody = || ("access_denied", "login_hint names nobody of a tenant that this client may serve".to_owned());
        let somebody = somebody.ok_or_else(nobody)?;
        let now = self.clock().now();
        let registered = client.scope.to_string();
        let scope = granted(vendor, params.text("scope").unwrap_or(&registered), &registered);
        let scope = scope.map_err(|why| ("invalid_scope", why.to_owned()))?;
        let allowed = Allowed {
            vendor,
            realm: realm.map(str::to_owned),
            client,
            somebody,
            scope,
            audience: params.text("audience").or(params.text("resource")).map(str::to_owned),
            nonce: params.text("nonce").map(str::to_owned),
            auth_time: now.as_secs(),
        };
        let redirect_uri = redirect_uri.to_owned();
        let code = Code { allowed, redirect_uri, challenge, expires_at: now.plus_secs(CODE_TTL_S) };
        let secret = self.secret();
        if self.issuers().keep_code(secret.clone(), code, now) {
            Ok(secret)
        } else {
            Err(("temporarily_unavailable", "too many codes are waiting".to_owned()))
        }
    }

    fn secret(&self) -> String {
        URL_SAFE_NO_PAD.encode(random_bytes::<32>(self.rng()))
    }

    async fn token(&self, vendor: Vendor, realm: Option<&str>, request: Request) -> Result<Value, OAuthError> {
        let (parts, params) = Params::of_form(request).await?;
        let client = self.identity().authenticate_client(&params.client(&parts.headers)?).await?;
        match params.require("grant_type")? {
            "client_credentials" => self.for_client(vendor, realm, &client, &params).await,
            "authorization_code" => {
                let allowed = self.redeem(vendor, realm, &client, &params)?;
                self.for_person(allowed).await
            }
            "refresh_token" => {
                const UNKNOWN: Error = Error::InvalidGrant("the refresh token is not valid");
                let known = self.issuers().take_refresh(params.require("refresh_token")?);
                let of_this = |own: &Allowed| own.client.id == client.id && own.vendor == vendor;
                // A nonce belongs to the first ID token alone.
                let allowed = Allowed { nonce: None, ..known.filter(of_this).ok_or(UNKNOWN)? };
                self.for_person(allowed).await
            }
            _ => Err(OAuthError::unsupported_grant_type()),
        }
    }

    async fn for_client(
        &self,
        vendor: Vendor,
        realm: Option<&str>,
        client: &Client,
        params: &Params,
    ) -> Result<Value, OAuthError> {
        if client.secret_hash.is_none() {
            return Err(OAuthError::invalid_client());
        }
        let asked = params.text("organization").or(params.text("tenant"));
        let tenant = self.tenant_of(client, asked).await.map_err(Error::from)?;
        if asked.is_some() && tenant.is_none() {
            return Err(OAuthError::invalid_request("the organization is not one that this client may serve"));
        }
        let registered = client.scope.to_string();
        let scope = granted(vendor, params.text("scope").unwrap_or(&registered), &registered);
        let scope = scope.map_err(|why| OAuthError::new(StatusCode::BAD_REQUEST, "invalid_scope", why))?;
        let audience = params.text("audience").or(params.text("resource")).map(str::to_owned);
        let wanted = Wanted { audience, ..Wanted::for_client(vendor, realm, client, tenant.as_ref(), scope) };
        Ok(self.vendor_token_answer(&wanted).await?)
    }

    fn redeem(
        &self,
        vendor: Vendor,
        realm: Option<&str>,
        client: &Client,
        params: &Params,
    ) -> Result<Allowed, OAuthError> {
        const UNKNOWN: Error = Error::InvalidGrant("the code is not valid");
        let Code { allowed, redirect_uri, challenge, expires_at } =
            self.issuers().take_code(params.require("code")?).ok_or(UNKNOWN)?;
        let same = allowed.vendor == vendor && allowed.realm.as_deref() == realm && allowed.client.id == client.id;
        if !same || self.clock().now() >= expires_at || params.text("redirect_uri") != Some(&redirect_uri) {
            return Err(UNKNOWN.into());
        }
        check_verifier(challenge.as_deref(), params.text("code_verifier"))?;
        Ok(allowed)
    }

    async fn for_person(&self, allowed: Allowed) -> Result<Value, OAuthError> {
        let mut answer = self.vendor_token_answer(&Wanted::allowed(&allowed)).await?;
        let asked = allowed.scope.split(' ').any(|value| value == "offline_access");
        if asked || !allowed.vendor.refreshes_when_asked() {
            let secret = self.secret();
            if self.issuers().keep_refresh(secret.clone(), allowed) {
                answer["refresh_token"] = secret.into();
            }
        }
        Ok(answer)
    }
}

/// Back to the client, with `state` and, where the vendor says so, who answers (RFC 9207).
fn answer(redirect_uri: &str, pairs: &[(&str, &str)], state: Option<&str>, issuer: Option<&str>) -> Response {
    let Ok(mut uri) = url::Url::parse(redirect_uri) else { return sorry("The redirect_uri cannot be used.") };
    {
        let mut query = uri.query_pairs_mut();
        query.extend_pairs(pairs);
        for (name, value) in [("state", state), ("iss", issuer)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
    }
    let mut response = StatusCode::SEE_OTHER.into_response();
    // A serialized URI is a header value.
    if let Ok(target) = HeaderValue::try_from(uri.as_str()) {
        response.headers_mut().insert(header::LOCATION, target);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn sorry(text: &str) -> Response {
    let body = html! { p { (text) } };
    Page::new("This does not work", body).status(StatusCode::BAD_REQUEST).into_response()
}
