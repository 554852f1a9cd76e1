//! What clients ask about tokens: introspection (RFC 7662), revocation (RFC 7009), and who their user is (`OpenID` Connect
//! Core section 5.3).

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::params::Params;
use crate::{
    identity::{Identity, Verifier, rules::FIRST_PARTY},
    web::oauth::{OAuthError, not_stored},
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
        Some(known) => without_nulls(json!({
            "active": true,
            "scope": known.scope.to_string(),
            "client_id": known.client_id,
            "token_type": known.token_type,
            "exp": known.expires_at.as_secs(),
            "iat": known.issued_at.as_secs(),
            "sub": known.subject,
            "aud": identity.issuer(),
            "iss": identity.issuer(),
            "jti": known.token_id,
            "sid": known.session,
            "tenant_id": known.tenant_id,
        })),
        None => json!({"active": false}),
    };
    Ok(not_stored(Json(answer).into_response()))
}

fn without_nulls(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    object
}

/// Withdraws a token of the client that calls. An unknown one is as good as withdrawn.
#[utoipa::path(post, path = "/oauth2/revoke", tag = "oauth", responses((status = 200), (status = 400), (status = 401)),
    request_body(content_type = "application/x-www-form-urlencoded", content = String))]
pub(super) async fn revoke(State(identity): State<Identity>, request: Request) -> Result<Response, OAuthError> {
    let (parts, params) = Params::of_form(request).await?;
    let client = match params.text("client_id") {
        Some(FIRST_PARTY) => params.caller(&identity, &parts.headers).await?,
        _ => Some(identity.authenticate_client(&params.client(&parts.headers)?).await?),
    };
    let token = params.secret("token").ok_or_else(|| OAuthError::invalid_request("token is missing"))?;
    identity.revoke_token(client.as_ref(), &token).await?;
    Ok(not_stored(StatusCode::OK.into_response()))
}

/// Who the token's user is; `GET` or `POST`.
#[utoipa::path(get, path = "/oauth2/userinfo", tag = "oauth", responses((status = 200, body = Object), (status = 401), (status = 403)))]
pub(super) async fn userinfo(
    State(identity): State<Identity>,
    State(verifier): State<Verifier>,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    let token = bearer(&headers).map_err(OAuthError::of_resource)?.ok_or_else(OAuthError::no_token)?;
    claims_of(&identity, &verifier, token).await
}

/// The same by `POST`, where the token may be in the form (RFC 6750 section 2.2).
#[utoipa::path(post, path = "/oauth2/userinfo", tag = "oauth", responses((status = 200, body = Object), (status = 401), (status = 403)))]
pub(super) async fn userinfo_by_post(
    State(identity): State<Identity>,
    State(verifier): State<Verifier>,
    request: Request,
) -> Result<Response, OAuthError> {
    let has_form = request.headers().contains_key(header::CONTENT_TYPE);
    let (headers, params) = if has_form {
        let (parts, params) = Params::of_form(request).await.map_err(OAuthError::of_resource)?;
        (parts.headers, params)
    } else {
        (request.into_parts().0.headers, Params::default())
    };
    match (bearer(&headers).map_err(OAuthError::of_resource)?, params.text("access_token")) {
        (Some(_), Some(_)) => Err(OAuthError::invalid_request("the token was sent in two ways").of_resource()),
        (Some(token), None) | (None, Some(token)) => claims_of(&identity, &verifier, token).await,
        (None, None) => Err(OAuthError::no_token()),
    }
}

/// The token of the one `Authorization` header, if there is one of that scheme.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, OAuthError> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(OAuthError::invalid_request("the token was sent twice"));
    }
    let parts = line.to_str().ok().and_then(|text| text.split_once(' '));
    Ok(parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim_start()))
}

async fn claims_of(identity: &Identity, verifier: &Verifier, token: &str) -> Result<Response, OAuthError> {
    let access = verifier.verify(token).map_err(|error| OAuthError::invalid_token(error.to_string()))?;
    if !access.scope.contains("openid") {
        return Err(OAuthError::insufficient_scope("openid"));
    }
    let user = identity.user_of(&access).await?;
    let user = user.ok_or_else(|| OAuthError::invalid_token("the token's user may not sign in any more"))?;
    let mut claims = json!({"sub": user.id, "tenant_id": access.tenant});
    // OpenID Connect Core section 5.4: what each scope stands for, of what is known.
    if access.scope.contains("email") {
        claims["email"] = Value::from(user.email.to_string());
        claims["email_verified"] = Value::from(user.email_verified_at.is_some());
    }
    if access.scope.contains("profile") {
        claims["name"] = user.name.map_or(Value::Null, |name| Value::from(name.to_string()));
        claims["updated_at"] = Value::from(user.updated_at.as_secs());
    }
    Ok(not_stored(Json(without_nulls(claims)).into_response()))
}
