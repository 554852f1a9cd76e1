//! Dynamic client registration (RFC 7591 section 3), with an initial access token that an administrator makes.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    identity::{
        Identity, InitialToken, NewClient, NewInitialToken,
        client_http::{ClientRequest, ClientView, Registrar},
    },
    kernel::{Fault, Faults, InitialTokenId, Secret, TenantId, Timestamp},
    web::{
        AdminScope, Json, Path, Problem,
        extract::bearer,
        oauth::{OAuthError, not_stored},
    },
};

/// The largest registration, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Life of an initial access token when nothing is said, in seconds; and the longest.
const TTL_S: u32 = 3_600;
const MAX_TTL_S: u32 = 365 * 86_400;

/// RFC 7591 section 3.2.1.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegistrationView {
    #[serde(flatten)]
    client: ClientView,
    /// Seconds since 1970.
    client_id_issued_at: i64,
    /// Always 0, which means never; with a secret alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret_expires_at: Option<i64>,
}

/// Registers a client.
#[utoipa::path(post, path = "/oauth2/register", tag = "oauth", request_body = ClientRequest,
    responses((status = 201, body = RegistrationView), (status = 400), (status = 401)))]
pub(super) async fn register(State(identity): State<Identity>, request: Request) -> Result<Response, OAuthError> {
    let (parts, body) = request.into_parts();
    let token = initial_token(&parts.uri, &parts.headers)?;
    let lets_in = identity.initial_token(&token).await?;
    let body = axum::body::to_bytes(body, MAX_BODY).await;
    let new = metadata(&body.map_err(|_| invalid("the body is too large"))?, lets_in.tenant_id)?;
    let (client, secret) = identity.register(&token, new).await?;
    let view = RegistrationView {
        client_id_issued_at: client.created_at.as_secs(),
        client_secret_expires_at: secret.as_ref().map(|_| 0),
        client: ClientView::new(client, secret.as_ref()),
    };
    Ok(not_stored((StatusCode::CREATED, Json(view)).into_response()))
}

fn initial_token(uri: &Uri, headers: &HeaderMap) -> Result<Secret, OAuthError> {
    if !headers.contains_key(header::AUTHORIZATION) {
        return Err(OAuthError::no_token());
    }
    let token = bearer(uri, headers).map_err(|_| OAuthError::invalid_token("one bearer token is needed"))?;
    Ok(Secret::new(token.to_owned()))
}

/// The metadata that are known here; others are ignored (RFC 7591 section 2).
fn metadata(body: &[u8], tenant: Option<TenantId>) -> Result<NewClient, OAuthError> {
    let mut members: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_| invalid("the body must be a JSON object"))?;
    if members.contains_key("software_statement") {
        return Err(error("unapproved_software_statement", "no issuer of software statements is trusted"));
    }
    members.retain(|name, _| ClientRequest::OPEN_FIELDS.contains(&name.as_str()));
    let request: ClientRequest =
        serde_json::from_value(Value::Object(members)).map_err(|error| invalid(error.to_string()))?;
    request.read(Registrar::Stranger(tenant)).map_err(|faults| refused(&faults))
}

fn refused(faults: &[Fault]) -> OAuthError {
    let text = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.detail)).collect::<Vec<_>>().join("; ");
    let of_redirects = faults.iter().any(|fault| fault.field == "redirect_uris");
    if of_redirects { error("invalid_redirect_uri", text) } else { invalid(text) }
}

fn invalid(description: impl Into<String>) -> OAuthError {
    error("invalid_client_metadata", description)
}

fn error(code: &'static str, description: impl Into<String>) -> OAuthError {
    OAuthError::new(StatusCode::BAD_REQUEST, code, description)
}

/// What is to let somebody register clients.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InitialTokenRequest {
    /// Whose the clients will be; of the platform when absent, and then people of every tenant may use them.
    tenant_id: Option<String>,
    /// How many clients, 1 to 1000; 1 when absent.
    uses: Option<u32>,
    /// For how long, in seconds, up to a year; an hour when absent.
    expires_in_s: Option<u32>,
}

impl InitialTokenRequest {
    fn parse(self) -> Result<NewInitialToken, Problem> {
        let mut faults = Faults::new();
        let tenant = self.tenant_id.as_deref().and_then(|text| faults.parse("tenant_id", text));
        let (uses, ttl_s) = (self.uses.unwrap_or(1), self.expires_in_s.unwrap_or(TTL_S));
        if !(1..=1_000).contains(&uses) {
            faults.add("uses", "must be 1 to 1000");
        }
        if !(1..=MAX_TTL_S).contains(&ttl_s) {
            faults.add("expires_in_s", format!("must be 1 to {MAX_TTL_S}"));
        }
        let new = NewInitialToken { tenant, uses: i64::from(uses), ttl_s: i64::from(ttl_s) };
        faults.finish(Some(new)).map_err(|faults| Problem::invalid(&faults))
    }
}

/// What lets somebody register clients.
#[derive(Debug, Serialize, ToSchema)]
pub struct InitialTokenView {
    token_id: InitialTokenId,
    /// Shown this once.
    initial_access_token: String,
    /// Absent when the clients are of the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<TenantId>,
    uses: i64,
    expires_at: Timestamp,
}

/// Makes an initial access token for `/oauth2/register`.
#[utoipa::path(post, path = "/admin/v1/clients/initial-access-tokens", tag = "identity",
    request_body = InitialTokenRequest, responses((status = 201, body = InitialTokenView), (status = 404), (status = 422)))]
pub(super) async fn create_initial_token(
    scope: AdminScope,
    State(identity): State<Identity>,
    Json(request): Json<InitialTokenRequest>,
) -> Result<(StatusCode, Json<InitialTokenView>), Problem> {
    let (token, secret) = identity.create_initial_token((&scope).into(), scope.actor(), request.parse()?).await?;
    let InitialToken { id: token_id, tenant_id, uses_left: uses, expires_at, .. } = token;
    let initial_access_token = secret.expose().to_owned();
    Ok((StatusCode::CREATED, Json(InitialTokenView { token_id, initial_access_token, tenant_id, uses, expires_at })))
}

/// Deletes an initial access token; the clients it let in stay.
#[utoipa::path(delete, path = "/admin/v1/clients/initial-access-tokens/{token_id}", tag = "identity",
    params(("token_id" = InitialTokenId, Path)), responses((status = 204), (status = 404)))]
pub(super) async fn delete_initial_token(
    scope: AdminScope,
    State(identity): State<Identity>,
    Path(id): Path<InitialTokenId>,
) -> Result<StatusCode, Problem> {
    identity.delete_initial_token((&scope).into(), scope.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
