//! The token endpoint and what describes this issuer (RFC 6749, RFC 8414, `OpenID` Connect Discovery, RFC 7517).

use axum::{
    Json,
    extract::{FromRef, Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Identity, TokenSet};
use crate::{kernel::Secret, web::oauth::OAuthError};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Identity: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(token))
        .routes(routes!(jwks))
        .routes(routes!(openid_configuration))
        .routes(routes!(authorization_server))
}

/// RFC 6749 section 5.1.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    scope: String,
    /// The tenant the token names; absent for the platform administrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    tenant_id: Option<crate::kernel::TenantId>,
}

impl From<TokenSet> for TokenView {
    fn from(set: TokenSet) -> Self {
        Self {
            access_token: set.access_token.expose().to_owned(),
            token_type: "Bearer",
            expires_in: set.expires_in_s,
            refresh_token: set.refresh_token.map(|token| token.expose().to_owned()),
            scope: set.scope.to_string(),
            tenant_id: set.tenant_id,
        }
    }
}

/// Answers with tokens, which no cache may keep (RFC 6749 section 5.1).
pub(super) fn token_response(set: TokenSet) -> Response {
    let mut response = Json(TokenView::from(set)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The form of a token request.
#[derive(Default)]
struct Form {
    grant_type: Option<String>,
    scope: Option<String>,
    refresh_token: Option<Secret>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
}

impl Form {
    /// Reads the form (RFC 6749 section 3.2): a parameter given twice is refused, an unknown one ignored, one without a
    /// value as good as absent.
    fn parse(body: &[u8]) -> Result<Self, OAuthError> {
        let mut form = Self::default();
        for (name, value) in url::form_urlencoded::parse(body).filter(|(_, value)| !value.is_empty()) {
            let value = value.into_owned();
            let twice = match &*name {
                "grant_type" => form.grant_type.replace(value).is_some(),
                "scope" => form.scope.replace(value).is_some(),
                "refresh_token" => form.refresh_token.replace(Secret::new(value)).is_some(),
                "client_id" => form.client_id.replace(value).is_some(),
                "client_secret" => form.client_secret.replace(Secret::new(value)).is_some(),
                _ => false,
            };
            if twice {
                return Err(OAuthError::invalid_request(format!("the parameter {name} was given twice")));
            }
        }
        Ok(form)
    }
}

/// Gives tokens: `client_credentials` for machine clients, `refresh_token` for sign-ins.
#[utoipa::path(post, path = "/oauth2/token", tag = "oauth", responses((status = 200, body = TokenView), (status = 400), (status = 401)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
async fn token(State(identity): State<Identity>, request: Request) -> Result<Response, OAuthError> {
    let (parts, body) = request.into_parts();
    let content_type =
        parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
        return Err(OAuthError::invalid_request("the body must be application/x-www-form-urlencoded"));
    }
    let body =
        axum::body::to_bytes(body, MAX_FORM).await.map_err(|_| OAuthError::invalid_request("the body is too large"))?;
    let form = Form::parse(&body)?;
    let scope = form.scope.as_deref();
    let set = match form.grant_type.as_deref() {
        Some("client_credentials") => {
            let (id, secret) = credentials(&parts.headers, &form)?;
            identity.client_credentials(&id, &secret, scope).await?
        }
        Some("refresh_token") => {
            let token = form.refresh_token.ok_or_else(|| OAuthError::invalid_request("refresh_token is missing"))?;
            identity.refresh(&token, scope).await?
        }
        Some(_) => return Err(OAuthError::unsupported_grant_type()),
        None => return Err(OAuthError::invalid_request("grant_type is missing")),
    };
    Ok(token_response(set))
}

/// The longest form, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// How a client says who it is: HTTP Basic or the form, and not both (RFC 6749 section 2.3).
fn credentials(headers: &HeaderMap, form: &Form) -> Result<(String, Secret), OAuthError> {
    let Some(authorization) = headers.get(header::AUTHORIZATION) else {
        return match (&form.client_id, &form.client_secret) {
            (Some(id), Some(secret)) => Ok((id.clone(), secret.clone())),
            _ => Err(OAuthError::invalid_client()),
        };
    };
    if form.client_secret.is_some() {
        return Err(OAuthError::invalid_request("the client authenticated in two ways"));
    }
    let pair = authorization.to_str().ok().and_then(basic).ok_or_else(OAuthError::invalid_client)?;
    if form.client_id.as_ref().is_some_and(|id| *id != pair.0) {
        return Err(OAuthError::invalid_request("client_id is not the client that authenticated"));
    }
    Ok(pair)
}

/// Both halves are form-encoded before they are put together (RFC 6749 section 2.3.1).
fn basic(value: &str) -> Option<(String, Secret)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let decode = |text: &str| {
        url::form_urlencoded::parse(format!("x={text}").as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((decode(id)?, Secret::new(decode(secret)?)))
}

/// The public keys that verify our tokens (RFC 7517).
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "oauth", responses((status = 200, body = Object)))]
async fn jwks(State(identity): State<Identity>) -> Response {
    let mut response = Json(identity.jwks()).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

/// What this issuer can do today; the same document for both well-known paths.
fn metadata(identity: &Identity) -> Value {
    let issuer = identity.issuer();
    json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/oauth2/token"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "grant_types_supported": ["client_credentials", "refresh_token"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": ["usage:read", "usage:write", "offline_access", "tollgate:admin"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [],
        "claims_supported": ["iss", "sub", "aud", "client_id", "iat", "exp", "jti", "scope", "tenant_id", "roles", "sid"],
        "service_documentation": format!("{issuer}/docs"),
    })
}

/// `OpenID` Connect Discovery.
#[utoipa::path(get, path = "/.well-known/openid-configuration", tag = "oauth", responses((status = 200, body = Object)))]
async fn openid_configuration(State(identity): State<Identity>) -> Json<Value> {
    Json(metadata(&identity))
}

/// RFC 8414.
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", tag = "oauth", responses((status = 200, body = Object)))]
async fn authorization_server(State(identity): State<Identity>) -> Json<Value> {
    Json(metadata(&identity))
}
