//! What this issuer can do (RFC 8414, `OpenID` Connect Discovery) and its keys (RFC 7517). What is named here works.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::identity::{AuthMethod, GrantType, Identity, SigningAlg, rules::CLIENT_SCOPES};

/// The public keys that verify our tokens (RFC 7517).
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "oauth", responses((status = 200, body = Object)))]
pub(super) async fn jwks(State(identity): State<Identity>) -> Response {
    let mut response = Json(identity.jwks()).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

fn metadata(identity: &Identity) -> Value {
    let issuer = identity.issuer();
    let endpoint = |path: &str| format!("{issuer}{path}");
    let authentication = AuthMethod::ALL.map(AuthMethod::name);
    let password = identity.allows_password_grant().then_some("password");
    let grants: Vec<&str> = GrantType::ALL.map(GrantType::name).into_iter().chain(password).collect();
    json!({
        "issuer": issuer,
        "authorization_endpoint": endpoint("/oauth2/authorize"),
        "token_endpoint": endpoint("/oauth2/token"),
        "userinfo_endpoint": endpoint("/oauth2/userinfo"),
        "introspection_endpoint": endpoint("/oauth2/introspect"),
        "revocation_endpoint": endpoint("/oauth2/revoke"),
        "device_authorization_endpoint": endpoint("/oauth2/device_authorization"),
        "pushed_authorization_request_endpoint": endpoint("/oauth2/par"),
        "registration_endpoint": endpoint("/oauth2/register"),
        "end_session_endpoint": endpoint("/oauth2/logout"),
        "jwks_uri": endpoint("/.well-known/jwks.json"),
        "grant_types_supported": grants,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "token_endpoint_auth_methods_supported": authentication,
        "introspection_endpoint_auth_methods_supported": authentication[..2],
        "revocation_endpoint_auth_methods_supported": authentication,
        "scopes_supported": CLIENT_SCOPES,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": identity.algorithms().map(SigningAlg::name).collect::<Vec<_>>(),
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "require_pushed_authorization_requests": false,
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "claim_types_supported": ["normal"],
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "auth_time", "amr", "nonce", "at_hash", "sid", "tenant_id", "email",
            "email_verified", "name", "updated_at",
        ],
        "service_documentation": endpoint("/docs"),
    })
}

/// `OpenID` Connect Discovery.
#[utoipa::path(get, path = "/.well-known/openid-configuration", tag = "oauth", responses((status = 200, body = Object)))]
pub(super) async fn openid_configuration(State(identity): State<Identity>) -> Json<Value> {
    Json(metadata(&identity))
}

/// RFC 8414.
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", tag = "oauth", responses((status = 200, body = Object)))]
pub(super) async fn authorization_server(State(identity): State<Identity>) -> Json<Value> {
    Json(metadata(&identity))
}
