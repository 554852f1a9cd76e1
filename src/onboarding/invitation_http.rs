//! Invitations by JSON: made, listed and taken back by a tenant's owners and admins or the platform's administrator, accepted
//! by who has the link. Also the link of a sign-up.

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Invitation, Onboarding,
    http::RegistrationView,
    invitations::{Acceptance, NewInvitation, Offer},
    people_http::UserView,
};
use crate::{
    identity::Origin,
    kernel::{Faults, InvitationId, Secret, TenantId, Timestamp},
    users::Role,
    web::{AdminScope, Json, List, PageQuery, Path, Problem, Query, TenantAccess, Verifier},
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Onboarding: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list_own_invitations, create_own_invitation))
        .routes(routes!(read_invitation, accept_invitation))
        .routes(routes!(revoke_own_invitation))
        .routes(routes!(list_tenant_invitations, create_tenant_invitation))
        .routes(routes!(revoke_tenant_invitation))
        .routes(routes!(verify_sign_up))
}

/// Somebody to invite.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvitationRequest {
    email: Option<String>,
    /// `owner`, `admin` or `member` (the default).
    role: Option<String>,
}

impl InvitationRequest {
    fn parse(&self, tenant: TenantId) -> Result<NewInvitation, Problem> {
        let mut faults = Faults::new();
        let email = faults.require("email", self.email.as_deref());
        let role = faults.parse("role", self.role.as_deref().unwrap_or(Role::Member.name()));
        let both = faults.finish(email.zip(role)).map_err(|faults| Problem::invalid(&faults))?;
        Ok(NewInvitation { tenant, email: both.0, role: both.1 })
    }
}

/// An invitation that is pending. Its link is in the letter, and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvitationView {
    #[schema(value_type = String)]
    invitation_id: InvitationId,
    tenant_id: TenantId,
    email: String,
    role: &'static str,
    /// A kind and an id, as in the audit.
    invited_by: String,
    created_at: Timestamp,
    expires_at: Timestamp,
}

impl From<Invitation> for InvitationView {
    fn from(invitation: Invitation) -> Self {
        let Invitation { id, tenant_id, email, role, invited_by, created_at, expires_at, .. } = invitation;
        let (email, role) = (email.to_string(), role.name());
        Self { invitation_id: id, tenant_id, email, role, invited_by, created_at, expires_at }
    }
}

/// Lists the invitations of the caller's tenant that are pending.
#[utoipa::path(get, path = "/v1/invitations", tag = "tenant", params(PageQuery),
    responses((status = 200, body = List<InvitationView>), (status = 403)))]
async fn list_own_invitations(
    call: TenantAccess,
    State(onboarding): State<Onboarding>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<InvitationView>>, Problem> {
    call.require_role(Role::Admin)?;
    let page = onboarding.invitations((&call).into(), call.tenant, page.try_into()?).await?;
    Ok(Json(List::of(page, InvitationView::from)))
}

/// Invites somebody to the caller's tenant by mail; only an owner invites owners.
#[utoipa::path(post, path = "/v1/invitations", tag = "tenant", request_body = InvitationRequest,
    responses((status = 201, body = InvitationView), (status = 403), (status = 409), (status = 422)))]
async fn create_own_invitation(
    call: TenantAccess,
    State(onboarding): State<Onboarding>,
    Json(request): Json<InvitationRequest>,
) -> Result<(StatusCode, Json<InvitationView>), Problem> {
    call.require_role(Role::Admin)?;
    let new = request.parse(call.tenant)?;
    call.require_role(new.role)?;
    Ok((StatusCode::CREATED, Json(onboarding.invite((&call).into(), call.actor(), new).await?.into())))
}

/// Takes an invitation of the caller's tenant back; `token` is its id.
#[utoipa::path(delete, path = "/v1/invitations/{token}", tag = "tenant",
    params(("token" = String, Path, description = "the id of the invitation")),
    responses((status = 204), (status = 403), (status = 404)))]
async fn revoke_own_invitation(
    call: TenantAccess,
    State(onboarding): State<Onboarding>,
    Path(id): Path<InvitationId>,
) -> Result<StatusCode, Problem> {
    call.require_role(Role::Admin)?;
    onboarding.revoke_invitation((&call).into(), call.actor(), call.tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists a tenant's invitations that are pending.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/invitations", tag = "users",
    params(("tenant_id" = TenantId, Path), PageQuery),
    responses((status = 200, body = List<InvitationView>), (status = 404)))]
async fn list_tenant_invitations(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(tenant): Path<TenantId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<InvitationView>>, Problem> {
    let page = onboarding.invitations((&scope).into(), tenant, page.try_into()?).await?;
    Ok(Json(List::of(page, InvitationView::from)))
}

/// Invites somebody to a tenant by mail.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/invitations", tag = "users", request_body = InvitationRequest,
    params(("tenant_id" = TenantId, Path)),
    responses((status = 201, body = InvitationView), (status = 404), (status = 409), (status = 422)))]
async fn create_tenant_invitation(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(tenant): Path<TenantId>,
    Json(request): Json<InvitationRequest>,
) -> Result<(StatusCode, Json<InvitationView>), Problem> {
    let new = request.parse(tenant)?;
    Ok((StatusCode::CREATED, Json(onboarding.invite((&scope).into(), scope.actor(), new).await?.into())))
}

/// Takes a tenant's invitation back.
#[utoipa::path(delete, path = "/admin/v1/tenants/{tenant_id}/invitations/{invitation_id}", tag = "users",
    params(("tenant_id" = TenantId, Path), ("invitation_id" = String, Path)), responses((status = 204), (status = 404)))]
async fn revoke_tenant_invitation(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path((tenant, id)): Path<(TenantId, InvitationId)>,
) -> Result<StatusCode, Problem> {
    onboarding.revoke_invitation((&scope).into(), scope.actor(), tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a link offers.
#[derive(Debug, Serialize, ToSchema)]
pub struct OfferView {
    tenant_id: TenantId,
    customer_name: String,
    email: String,
    role: &'static str,
    expires_at: Timestamp,
    /// Whether the password to accept with is the one of an account that exists.
    account_exists: bool,
}

impl From<Offer> for OfferView {
    fn from(offer: Offer) -> Self {
        let Offer { invitation, customer_name, has_account } = offer;
        Self {
            tenant_id: invitation.tenant_id,
            customer_name: customer_name.to_string(),
            email: invitation.email.to_string(),
            role: invitation.role.name(),
            expires_at: invitation.expires_at,
            account_exists: has_account,
        }
    }
}

/// Says what an invitation offers, to who has its link.
#[utoipa::path(get, path = "/v1/invitations/{token}", tag = "sign-up", params(("token" = String, Path)),
    responses((status = 200, body = OfferView), (status = 404)))]
async fn read_invitation(
    State(onboarding): State<Onboarding>,
    Path(token): Path<Secret>,
) -> Result<Json<OfferView>, Problem> {
    Ok(Json(onboarding.offer(&token).await?.into()))
}

/// What somebody shows to accept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptRequest {
    /// The password of the account that exists, or a new one.
    #[schema(value_type = Option<String>)]
    password: Option<Secret>,
    /// A code of the authenticator, or a recovery code, for who has a second factor.
    #[schema(value_type = Option<String>)]
    otp: Option<Secret>,
}

/// Accepts an invitation, once: somebody new gets an account, somebody who has one proves that it is theirs.
#[utoipa::path(post, path = "/v1/invitations/{token}", tag = "sign-up", params(("token" = String, Path)),
    request_body = AcceptRequest,
    responses((status = 201, body = UserView), (status = 401), (status = 404), (status = 409), (status = 422), (status = 429)))]
async fn accept_invitation(
    State(onboarding): State<Onboarding>,
    origin: Origin,
    Path(token): Path<Secret>,
    Json(request): Json<AcceptRequest>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    // What is not there is not there, whatever is missing beside.
    onboarding.offer(&token).await?;
    let password = request.password.ok_or_else(|| Problem::invalid_field("password", "is required"))?;
    let acceptance = Acceptance { password, otp: request.otp };
    let member = onboarding.accept_invitation(&token, &acceptance, &origin).await?;
    Ok((StatusCode::CREATED, Json(member.into())))
}

/// The link of a sign-up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    #[schema(value_type = Option<String>)]
    token: Option<Secret>,
}

/// Verifies the email of a sign-up, once, which makes the account.
#[utoipa::path(post, path = "/v1/signup/verify", tag = "sign-up", request_body = VerifyRequest,
    responses((status = 201, body = RegistrationView), (status = 404), (status = 409), (status = 422)))]
async fn verify_sign_up(
    State(onboarding): State<Onboarding>,
    Json(request): Json<VerifyRequest>,
) -> Result<(StatusCode, Json<RegistrationView>), Problem> {
    let token = request.token.ok_or_else(|| Problem::invalid_field("token", "is required"))?;
    Ok((StatusCode::CREATED, Json(onboarding.verify_sign_up(&token).await?.into())))
}
