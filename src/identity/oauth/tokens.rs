//! What clients ask about tokens: introspection (RFC 7662), revocation (RFC 7009), and who their user is (`OpenID` Connect
//! Core section 5.3).

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::params::Params;
use crate::{
    identity::{Identity, Verifier},
    web::{
        Problem,
        extract::{bearer, insufficient_scope, unauthenticated},
        oauth::OAuthError,
    },
};

/// Says whether a token is alive and what it says, to a confidential client that may know.
#[utoipa::path(post, path = "/oauth2/introspect", tag = "oauth", responses((status = 200, body = Object), (status = 400), (status = 401)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn introspect(State(identity): State<Identity>, request: Request) -> Result<Response, OAuthError> {
    let (parts, params) = Params::of_form(request).await?;
    let client = identity.authenticate_client(&params.client(&parts.headers)?).await?;
    // RFC 7662 section 2.1: nobody may fish for tokens, and a public client is anybody.
    if client.secret_hash.is_none() {
        return Err(OAuthError::invalid_client());
    }
    let token = params.secret("token").ok_or_else(|| OAuthError::invalid_request("token is missing"))?;
    let answer = match identity.introspect(&client, &token).await? {
        Some(known) => json!({
            "active": true,
            "scope": known.scope.to_string(),
            "client_id": known.client_id,
            "token_type": known.token_type,
            "exp": known.expires_at.as_secs(),
            "iat": known.issued_at.as_secs(),
            "sub": known.subject,
            "aud": identity.issuer(),
            "iss": identity.issuer(),
            "tenant_id": known.tenant_id,
        }),
        None => json!({"active": false}),
    };
    let mut response = Json(answer).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Withdraws a token of the client that calls. An unknown one is as good as withdrawn.
#[utoipa::path(post, path = "/oauth2/revoke", tag = "oauth", responses((status = 200), (status = 400), (status = 401)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn revoke(State(identity): State<Identity>, request: Request) -> Result<StatusCode, OAuthError> {
    let (parts, params) = Params::of_form(request).await?;
    let client = identity.authenticate_client(&params.client(&parts.headers)?).await?;
    let token = params.secret("token").ok_or_else(|| OAuthError::invalid_request("token is missing"))?;
    identity.revoke_token(&client, &token).await?;
    Ok(StatusCode::OK)
}

/// Who the token's user is; `GET` or `POST`.
#[utoipa::path(get, path = "/oauth2/userinfo", tag = "oauth", responses((status = 200, body = Object), (status = 401), (status = 403)))]
pub(super) async fn userinfo(
    State(identity): State<Identity>,
    State(verifier): State<Verifier>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let access = verifier.verify(bearer(&headers)?).map_err(|error| unauthenticated(&error))?;
    if !access.scope.contains("openid") {
        return Err(insufficient_scope("openid"));
    }
    let Some(user) = identity.user_of(&access).await? else { return Err(insufficient_scope("openid")) };
    let mut claims = json!({"sub": user.id, "tenant_id": access.tenant});
    if access.scope.contains("email") {
        claims["email"] = Value::from(user.email.to_string());
    }
    let mut response = Json(claims).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The same by `POST`.
#[utoipa::path(post, path = "/oauth2/userinfo", tag = "oauth", responses((status = 200, body = Object), (status = 401), (status = 403)))]
pub(super) async fn userinfo_by_post(
    identity: State<Identity>,
    verifier: State<Verifier>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    userinfo(identity, verifier, headers).await
}
