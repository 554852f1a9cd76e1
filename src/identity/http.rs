//! Signing in, machine clients, keys and sessions.

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Identity, LoginRequest, Origin, Session, StoredKey, Verifier,
    client_http::{ClientRequest, ClientView, Registrar},
    issuers_http, me_http,
    oauth::{self, TokenView, token_response},
    pages,
};
use crate::{
    kernel::{ClientId, Email, Faults, PageRequest, Secret, SessionId, TenantId, Timestamp, UserId},
    users::Role,
    web::{AdminScope, Json, List, PageQuery, Path, Problem, Query, TenantAccess},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Identity: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .merge(oauth::routes())
        .merge(pages::routes())
        .merge(me_http::routes())
        .merge(issuers_http::routes())
        .routes(routes!(login))
        .routes(routes!(list_clients, create_client))
        .routes(routes!(delete_client))
        .routes(routes!(list_own_clients, create_own_client))
        .routes(routes!(delete_own_client))
        .routes(routes!(list_keys))
        .routes(routes!(rotate_keys))
        .routes(routes!(list_sessions))
        .routes(routes!(delete_session))
}

/// A sign-in with a password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginBody {
    email: Option<String>,
    #[schema(value_type = Option<String>)]
    password: Option<Secret>,
    /// Which tenant, for who belongs to several.
    tenant_id: Option<String>,
    /// A code of the authenticator, or a recovery code, for who has a second factor.
    #[schema(value_type = Option<String>)]
    otp: Option<Secret>,
}

impl LoginBody {
    fn parse(self) -> Result<LoginRequest, Problem> {
        let mut faults = Faults::new();
        let email: Option<Email> = faults.require("email", self.email.as_deref());
        if self.password.is_none() {
            faults.add("password", "is required");
        }
        let tenant = self.tenant_id.as_deref().and_then(|text| faults.parse::<TenantId>("tenant_id", text));
        let otp = self.otp;
        let request = email.zip(self.password).map(|(email, password)| LoginRequest { email, password, tenant, otp });
        faults.finish(request).map_err(|faults| Problem::invalid(&faults))
    }
}

/// Signs in with a password.
#[utoipa::path(post, path = "/v1/login", tag = "sign-in", request_body = LoginBody,
    responses((status = 200, body = TokenView), (status = 401), (status = 403), (status = 409), (status = 422), (status = 429)))]
async fn login(
    State(identity): State<Identity>,
    origin: Origin,
    Json(body): Json<LoginBody>,
) -> Result<Response, Problem> {
    Ok(token_response(identity.login(body.parse()?, &origin).await?))
}

/// A list, of one tenant or of all.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfTenant {
    /// Of this tenant alone.
    tenant_id: Option<String>,
    /// Items on the page, 1 to 500; 50 when absent.
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl OfTenant {
    fn parse(self) -> Result<(Option<TenantId>, PageRequest), Problem> {
        let tenant = self.tenant_id.as_deref().map(str::parse).transpose();
        let tenant = tenant.map_err(|error| Problem::invalid_field("tenant_id", error))?;
        Ok((tenant, PageQuery { limit: self.limit, cursor: self.cursor }.try_into()?))
    }
}

/// Lists machine clients.
#[utoipa::path(get, path = "/admin/v1/clients", tag = "identity", params(OfTenant), responses((status = 200, body = List<ClientView>)))]
async fn list_clients(
    scope: AdminScope,
    State(identity): State<Identity>,
    Query(query): Query<OfTenant>,
) -> Result<Json<List<ClientView>>, Problem> {
    let (tenant, page) = query.parse()?;
    Ok(Json(List::of(identity.clients((&scope).into(), tenant, page).await?, |client| ClientView::new(client, None))))
}

/// Makes a machine client for a tenant. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/admin/v1/clients", tag = "identity", request_body = ClientRequest,
    responses((status = 201, body = ClientView), (status = 404), (status = 422)))]
async fn create_client(
    scope: AdminScope,
    State(identity): State<Identity>,
    Json(request): Json<ClientRequest>,
) -> Result<(StatusCode, Json<ClientView>), Problem> {
    let request = request.parse(Registrar::Administrator)?;
    let (client, secret) = identity.create_client((&scope).into(), scope.actor(), request).await?;
    Ok((StatusCode::CREATED, Json(ClientView::new(client, secret.as_ref()))))
}

/// Deletes a machine client; its tokens die at once.
#[utoipa::path(delete, path = "/admin/v1/clients/{client_id}", tag = "identity", params(("client_id" = ClientId, Path)),
    responses((status = 204), (status = 404)))]
async fn delete_client(
    scope: AdminScope,
    State(identity): State<Identity>,
    Path(id): Path<ClientId>,
) -> Result<StatusCode, Problem> {
    identity.delete_client((&scope).into(), scope.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the machine clients of the caller's tenant.
#[utoipa::path(get, path = "/v1/clients", tag = "tenant", params(PageQuery),
    responses((status = 200, body = List<ClientView>), (status = 403)))]
async fn list_own_clients(
    call: TenantAccess,
    State(identity): State<Identity>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<ClientView>>, Problem> {
    call.require_role(Role::Admin)?;
    let page = identity.clients((&call).into(), Some(call.tenant), page.try_into()?).await?;
    Ok(Json(List::of(page, |client| ClientView::new(client, None))))
}

/// Makes a machine client for the caller's tenant. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/clients", tag = "tenant", request_body = ClientRequest,
    responses((status = 201, body = ClientView), (status = 403), (status = 422)))]
async fn create_own_client(
    call: TenantAccess,
    State(identity): State<Identity>,
    Json(request): Json<ClientRequest>,
) -> Result<(StatusCode, Json<ClientView>), Problem> {
    call.require_role(Role::Admin)?;
    let (client, secret) =
        identity.create_client((&call).into(), call.actor(), request.parse(Registrar::Tenant(call.tenant))?).await?;
    Ok((StatusCode::CREATED, Json(ClientView::new(client, secret.as_ref()))))
}

/// Deletes a machine client of the caller's tenant; its tokens die at once.
#[utoipa::path(delete, path = "/v1/clients/{client_id}", tag = "tenant", params(("client_id" = ClientId, Path)),
    responses((status = 204), (status = 403), (status = 404)))]
async fn delete_own_client(
    call: TenantAccess,
    State(identity): State<Identity>,
    Path(id): Path<ClientId>,
) -> Result<StatusCode, Problem> {
    call.require_role(Role::Admin)?;
    identity.delete_client((&call).into(), call.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A signing key; its private half never leaves the store.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyView {
    kid: String,
    algorithm: &'static str,
    /// When it was made, and published.
    created_at: Timestamp,
    /// Since when it signs.
    signs_from: Timestamp,
    /// Since when it signs no more; it verifies until the last token it signed has expired.
    retired_at: Option<Timestamp>,
}

impl From<StoredKey> for KeyView {
    fn from(key: StoredKey) -> Self {
        let StoredKey { kid, algorithm, created_at, signs_from, retired_at, .. } = key;
        Self { kid, algorithm: algorithm.name(), created_at, signs_from, retired_at }
    }
}

/// All keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyList {
    items: Vec<KeyView>,
    /// Always `null`: there are few keys.
    next_cursor: Option<String>,
}

/// Lists the signing keys, oldest first.
#[utoipa::path(get, path = "/admin/v1/keys", tag = "identity", responses((status = 200, body = KeyList)))]
async fn list_keys(scope: AdminScope, State(identity): State<Identity>) -> Result<Json<KeyList>, Problem> {
    let keys = identity.keys((&scope).into()).await?;
    Ok(Json(KeyList { items: keys.into_iter().map(Into::into).collect(), next_cursor: None }))
}

/// How keys are to be rotated.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Rotation {
    /// Seconds for which the new keys are published before they sign, 0 to 86400; `identity.key_wait_s` when absent.
    wait_s: Option<u32>,
}

/// Makes new signing keys, one of each algorithm: published now, signing after a wait. The answer is the one of access tokens.
#[utoipa::path(post, path = "/admin/v1/keys/rotate", tag = "identity", params(Rotation),
    responses((status = 201, body = KeyView), (status = 422)))]
async fn rotate_keys(
    scope: AdminScope,
    State(identity): State<Identity>,
    Query(rotation): Query<Rotation>,
) -> Result<(StatusCode, Json<KeyView>), Problem> {
    if rotation.wait_s.is_some_and(|wait_s| wait_s > 86_400) {
        return Err(Problem::invalid_field("wait_s", "must be 0 to 86400"));
    }
    let keys = identity.rotate_keys((&scope).into(), scope.actor(), rotation.wait_s.map(i64::from)).await?;
    // There is always an algorithm of access tokens.
    let first = keys.into_iter().next().ok_or(super::Error::Stopped)?;
    Ok((StatusCode::CREATED, Json(first.into())))
}

/// A sign-in that is not over.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    session_id: SessionId,
    user_id: UserId,
    tenant_id: Option<TenantId>,
    scope: String,
    created_at: Timestamp,
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        Self {
            session_id: session.id,
            user_id: session.user_id,
            tenant_id: session.tenant_id,
            scope: session.scope.to_string(),
            created_at: session.created_at,
        }
    }
}

/// Lists sign-ins that are not over.
#[utoipa::path(get, path = "/admin/v1/sessions", tag = "identity", params(OfTenant), responses((status = 200, body = List<SessionView>)))]
async fn list_sessions(
    scope: AdminScope,
    State(identity): State<Identity>,
    Query(query): Query<OfTenant>,
) -> Result<Json<List<SessionView>>, Problem> {
    let (tenant, page) = query.parse()?;
    Ok(Json(List::of(identity.sessions((&scope).into(), tenant, page).await?, SessionView::from)))
}

/// Ends a sign-in; its tokens die at once.
#[utoipa::path(delete, path = "/admin/v1/sessions/{session_id}", tag = "identity", params(("session_id" = SessionId, Path)),
    responses((status = 204), (status = 404)))]
async fn delete_session(
    scope: AdminScope,
    State(identity): State<Identity>,
    Path(id): Path<SessionId>,
) -> Result<StatusCode, Problem> {
    identity.end_session((&scope).into(), scope.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
