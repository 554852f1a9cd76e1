//! The endpoints of OAuth 2.0 and `OpenID` Connect; here the token endpoint (RFC 6749 section 3.2).

mod authorize;
mod metadata;
pub(crate) mod params;
mod tokens;

use axum::{
    Json,
    extract::{FromRef, Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::params::Params;
use super::{Identity, TokenSet, Verifier, rules::FIRST_PARTY};
use crate::{
    identity::{Client, Error, LoginRequest},
    kernel::Secret,
    web::oauth::OAuthError,
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Identity: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(token))
        .routes(routes!(tokens::introspect))
        .routes(routes!(tokens::revoke))
        .routes(routes!(tokens::userinfo, tokens::userinfo_by_post))
        .routes(routes!(authorize::authorize, authorize::decide))
        .routes(routes!(metadata::jwks))
        .routes(routes!(metadata::openid_configuration))
        .routes(routes!(metadata::authorization_server))
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
    /// Where `openid` was granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
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
            id_token: set.id_token.map(|token| token.expose().to_owned()),
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

/// Gives tokens: `authorization_code`, `refresh_token` and `client_credentials`.
#[utoipa::path(post, path = "/oauth2/token", tag = "oauth", responses((status = 200, body = TokenView), (status = 400), (status = 401)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
async fn token(State(identity): State<Identity>, request: Request) -> Result<Response, OAuthError> {
    let (parts, params) = Params::of_form(request).await?;
    let scope = params.text("scope");
    let set = match params.require("grant_type")? {
        "authorization_code" => {
            let client = identity.authenticate_client(&params.client(&parts.headers)?).await?;
            let code = Secret::new(params.require("code")?.to_owned());
            identity.redeem(&client, &code, params.text("redirect_uri"), params.text("code_verifier")).await?
        }
        "client_credentials" => {
            let client = identity.authenticate_client(&params.client(&parts.headers)?).await?;
            identity.client_credentials(&client, scope).await?
        }
        "refresh_token" => {
            let token = Secret::new(params.require("refresh_token")?.to_owned());
            let client = named_client(&identity, &parts.headers, &params).await?;
            identity.refresh(client.as_ref(), &token, scope).await?
        }
        "password" if identity.allows_password_grant() => {
            let client = named_client(&identity, &parts.headers, &params).await?;
            identity.password_grant(client.as_ref(), password_login(&params)?, scope).await?
        }
        _ => return Err(OAuthError::unsupported_grant_type()),
    };
    Ok(token_response(set))
}

/// The client that calls; `None` for our own sign-ins, which have none.
async fn named_client(identity: &Identity, headers: &HeaderMap, params: &Params) -> Result<Option<Client>, OAuthError> {
    let ours = params.text("client_id").is_none_or(|id| id == FIRST_PARTY);
    if ours && !headers.contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    Ok(Some(identity.authenticate_client(&params.client(headers)?).await?))
}

/// RFC 6749 section 4.3.2, and which tenant.
fn password_login(params: &Params) -> Result<LoginRequest, OAuthError> {
    let password = Secret::new(params.require("password")?.to_owned());
    let email = params.require("username")?.parse().map_err(|_| OAuthError::from(Error::WrongCredentials))?;
    let tenant = params.text("tenant").map(str::parse).transpose();
    let tenant = tenant.map_err(|_| OAuthError::invalid_request("tenant is not an id"))?;
    Ok(LoginRequest { email, password, tenant })
}
