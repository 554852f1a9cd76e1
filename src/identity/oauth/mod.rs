//! The endpoints of OAuth 2.0 and `OpenID` Connect; here what the token endpoint answers (RFC 6749 section 3.2).

mod answer;
mod authorize;
mod cors;
mod device;
mod logout;
mod metadata;
mod par;
pub(crate) mod params;
mod register;
mod request;
mod token;
mod tokens;

use axum::{
    Json,
    extract::FromRef,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::cors::cors;
pub(super) use self::params::Params;
use super::{Identity, TokenSet, Verifier};
use crate::web::oauth::not_stored;

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Identity: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(token::token))
        .routes(routes!(tokens::introspect))
        .routes(routes!(tokens::revoke))
        .routes(routes!(tokens::userinfo, tokens::userinfo_by_post))
        .routes(routes!(authorize::authorize, authorize::decide))
        .routes(routes!(par::push))
        .routes(routes!(device::device_authorization))
        .routes(routes!(logout::logout, logout::logout_by_post))
        .routes(routes!(register::register))
        .routes(routes!(register::create_initial_token))
        .routes(routes!(register::delete_initial_token))
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
    /// `urn:ietf:params:oauth:token-type:access_token`, from a token exchange (RFC 8693 section 2.2.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
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
            issued_token_type: None,
            tenant_id: set.tenant_id,
        }
    }
}

/// Answers with tokens, which no cache may keep (RFC 6749 section 5.1).
pub(super) fn token_response(set: TokenSet) -> Response {
    not_stored(Json(TokenView::from(set)).into_response())
}

/// Answers a token exchange.
fn exchange_response(set: TokenSet) -> Response {
    let view = TokenView { issued_token_type: Some(token::ACCESS_TOKEN_TYPE), ..TokenView::from(set) };
    not_stored(Json(view).into_response())
}
