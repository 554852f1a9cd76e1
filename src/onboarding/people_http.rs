//! A tenant's people, for the platform's administrator and for the tenant's own.

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Onboarding, people::NewMember};
use crate::{
    kernel::{Faults, Secret, TenantId, Timestamp, UserId},
    users::{KnownEmail, Member, Role, Users},
    web::{AdminScope, Json, List, PageQuery, Path, Problem, Query, TenantAccess, Verifier},
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Onboarding: FromRef<S>,
    Users: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list_tenant_users, create_tenant_user))
        .routes(routes!(delete_tenant_user))
        .routes(routes!(disable_tenant_user))
        .routes(routes!(enable_tenant_user))
        .routes(routes!(list_own_users, create_own_user))
        .routes(routes!(delete_own_user))
        .routes(routes!(reset_tenant_user_factors))
        .routes(routes!(reset_own_user_factors))
}

/// A user of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserView {
    user_id: UserId,
    tenant_id: TenantId,
    email: String,
    /// Whether they followed a link that was sent there.
    email_verified: bool,
    /// What they are called; `null` where they have not said so.
    name: Option<String>,
    /// `owner`, `admin` or `member`.
    role: &'static str,
    /// `active` or `disabled`.
    status: &'static str,
    created_at: Timestamp,
}

impl From<Member> for UserView {
    fn from(member: Member) -> Self {
        Self {
            user_id: member.user.id,
            tenant_id: member.membership.tenant_id,
            email: member.user.email.to_string(),
            email_verified: member.user.email_verified_at.is_some(),
            name: member.user.name.map(|name| name.to_string()),
            role: member.membership.role.name(),
            status: member.membership.status.name(),
            created_at: member.membership.created_at,
        }
    }
}

/// A person to add to a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// How they sign in.
    email: Option<String>,
    /// `owner`, `admin` or `member` (the default).
    role: Option<String>,
    /// Their password, if they are new here.
    #[schema(value_type = Option<String>)]
    password: Option<Secret>,
    /// Whether somebody who belongs to another tenant may be added; administrators of the platform only.
    #[serde(default)]
    allow_membership: bool,
}

impl UserRequest {
    fn parse(self) -> Result<NewMember, Problem> {
        let mut faults = Faults::new();
        let email = faults.require("email", self.email.as_deref());
        let role = faults.parse("role", self.role.as_deref().unwrap_or(Role::Member.name()));
        let (email, role) = faults.finish(email.zip(role)).map_err(|faults| Problem::invalid(&faults))?;
        let known_email = if self.allow_membership { KnownEmail::AnyTenant } else { KnownEmail::OnlyOwnTenant };
        Ok(NewMember { email, role, password: self.password, known_email })
    }
}

/// Lists a tenant's users.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/users", tag = "users",
    params(("tenant_id" = TenantId, Path), PageQuery), responses((status = 200, body = List<UserView>), (status = 404)))]
async fn list_tenant_users(
    scope: AdminScope,
    State(users): State<Users>,
    Path(tenant): Path<TenantId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<UserView>>, Problem> {
    Ok(Json(List::of(users.list((&scope).into(), tenant, page.try_into()?).await?, UserView::from)))
}

/// Adds a user to a tenant.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/users", tag = "users", request_body = UserRequest,
    params(("tenant_id" = TenantId, Path)),
    responses((status = 201, body = UserView), (status = 404), (status = 409), (status = 422)))]
async fn create_tenant_user(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(tenant): Path<TenantId>,
    Json(request): Json<UserRequest>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    let member = onboarding.add_member((&scope).into(), scope.actor(), tenant, request.parse()?).await?;
    Ok((StatusCode::CREATED, Json(member.into())))
}

/// Takes a user out of a tenant; their tokens for it die at once.
#[utoipa::path(delete, path = "/admin/v1/tenants/{tenant_id}/users/{user_id}", tag = "users",
    params(("tenant_id" = TenantId, Path), ("user_id" = UserId, Path)),
    responses((status = 204), (status = 404), (status = 409)))]
async fn delete_tenant_user(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path((tenant, user)): Path<(TenantId, UserId)>,
) -> Result<StatusCode, Problem> {
    onboarding.remove_member((&scope).into(), scope.actor(), tenant, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts a user out of force in a tenant; their tokens for it die at once.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/users/{user_id}/disable", tag = "users",
    params(("tenant_id" = TenantId, Path), ("user_id" = UserId, Path)),
    responses((status = 200, body = UserView), (status = 404), (status = 409)))]
async fn disable_tenant_user(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path((tenant, user)): Path<(TenantId, UserId)>,
) -> Result<Json<UserView>, Problem> {
    Ok(Json(onboarding.disable_member((&scope).into(), scope.actor(), tenant, user).await?.into()))
}

/// Puts a user back in force in a tenant.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/users/{user_id}/enable", tag = "users",
    params(("tenant_id" = TenantId, Path), ("user_id" = UserId, Path)),
    responses((status = 200, body = UserView), (status = 404)))]
async fn enable_tenant_user(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path((tenant, user)): Path<(TenantId, UserId)>,
) -> Result<Json<UserView>, Problem> {
    Ok(Json(onboarding.enable_member((&scope).into(), scope.actor(), tenant, user).await?.into()))
}

/// Lists the users of the caller's tenant.
#[utoipa::path(get, path = "/v1/users", tag = "tenant", params(PageQuery),
    responses((status = 200, body = List<UserView>), (status = 403)))]
async fn list_own_users(
    call: TenantAccess,
    State(users): State<Users>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<UserView>>, Problem> {
    call.require_role(Role::Admin)?;
    Ok(Json(List::of(users.list((&call).into(), call.tenant, page.try_into()?).await?, UserView::from)))
}

/// Adds a user to the caller's tenant; only an owner makes owners.
#[utoipa::path(post, path = "/v1/users", tag = "tenant", request_body = UserRequest,
    responses((status = 201, body = UserView), (status = 403), (status = 409), (status = 422)))]
async fn create_own_user(
    call: TenantAccess,
    State(onboarding): State<Onboarding>,
    Json(request): Json<UserRequest>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    call.require_role(Role::Admin)?;
    let mut new = request.parse()?;
    call.require_role(new.role)?;
    new.known_email = KnownEmail::OnlyOwnTenant;
    let member = onboarding.add_member((&call).into(), call.actor(), call.tenant, new).await?;
    Ok((StatusCode::CREATED, Json(member.into())))
}

/// Takes a user out of the caller's tenant; their tokens for it die at once.
#[utoipa::path(delete, path = "/v1/users/{user_id}", tag = "tenant", params(("user_id" = UserId, Path)),
    responses((status = 204), (status = 403), (status = 404), (status = 409)))]
async fn delete_own_user(
    call: TenantAccess,
    State(onboarding): State<Onboarding>,
    State(users): State<Users>,
    Path(user): Path<UserId>,
) -> Result<StatusCode, Problem> {
    call.require_role(Role::Admin)?;
    let target = users.find((&call).into(), call.tenant, user).await?;
    call.require_role(target.membership.role)?;
    onboarding.remove_member((&call).into(), call.actor(), call.tenant, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a user's second factors away, for who lost them.
#[utoipa::path(delete, path = "/admin/v1/tenants/{tenant_id}/users/{user_id}/factors", tag = "users",
    params(("tenant_id" = TenantId, Path), ("user_id" = UserId, Path)), responses((status = 204), (status = 404)))]
async fn reset_tenant_user_factors(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path((tenant, user)): Path<(TenantId, UserId)>,
) -> Result<StatusCode, Problem> {
    onboarding.reset_factors((&scope).into(), scope.actor(), tenant, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes the second factors of a user of the caller's tenant away, for who lost them. A user who belongs to other tenants as
/// well is left to the platform's administrator.
#[utoipa::path(delete, path = "/v1/users/{user_id}/factors", tag = "tenant", params(("user_id" = UserId, Path)),
    responses((status = 204), (status = 403), (status = 404), (status = 409)))]
async fn reset_own_user_factors(
    call: TenantAccess,
    State(onboarding): State<Onboarding>,
    State(users): State<Users>,
    Path(user): Path<UserId>,
) -> Result<StatusCode, Problem> {
    call.require_role(Role::Admin)?;
    let target = users.find((&call).into(), call.tenant, user).await?;
    call.require_role(target.membership.role)?;
    onboarding.reset_factors((&call).into(), call.actor(), call.tenant, user).await?;
    Ok(StatusCode::NO_CONTENT)
}
