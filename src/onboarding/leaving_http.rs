//! Tenants that leave: how far that is, their export, and the erasure of what is about people.

use axum::{
    body::Body,
    extract::{FromRef, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{LeavingState, Left, Offboarding, Onboarding};
use crate::{
    kernel::{TenantId, Timestamp},
    tenants::TenantView,
    web::{AdminScope, Json, Path, Problem, Verifier},
};

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Onboarding: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(read_offboarding))
        .routes(routes!(retry_offboarding))
        .routes(routes!(export_tenant))
        .routes(routes!(erase_tenant))
        .routes(routes!(read_erasure))
}

/// How far the taking out of a tenant is.
#[derive(Debug, Serialize, ToSchema)]
pub struct OffboardingView {
    tenant_id: TenantId,
    /// `running`, `failed` or `done`. One that is `failed` is tried again at its step's `next_try_at`, or when somebody says so.
    status: &'static str,
    /// Who asked for it.
    asked_by: String,
    steps: Vec<LeavingStepView>,
    /// Until when the export is kept, while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    export_kept_until: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// One step.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeavingStepView {
    /// `suspend`, `final_invoice`, `export`, `infrastructure`, `account`, `people` or `tombstone`.
    name: &'static str,
    /// `pending`, `running`, `done` or `failed`.
    status: &'static str,
    attempts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When it is tried again by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try_at: Option<Timestamp>,
    /// When it was last begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// When that came to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
}

impl From<Offboarding> for OffboardingView {
    fn from(leaving: Offboarding) -> Self {
        let step = |step: LeavingState| LeavingStepView {
            name: step.name.name(),
            status: step.status.name(),
            attempts: step.attempts,
            error: step.error,
            next_try_at: step.next_try_at,
            started_at: step.started_at,
            ended_at: step.ended_at,
        };
        Self {
            tenant_id: leaving.tenant_id,
            status: leaving.status.name(),
            asked_by: leaving.actor,
            steps: leaving.steps.into_iter().map(step).collect(),
            export_kept_until: leaving.export.map(|export| export.until),
            created_at: leaving.created_at,
            updated_at: leaving.updated_at,
        }
    }
}

/// 200 with the tombstone, or 202 while it goes on or waits; `Location` says where to look.
pub(super) fn left(id: TenantId, left: Left) -> Response {
    match left {
        Left::Gone(tenant) => Json(TenantView::from(*tenant)).into_response(),
        Left::OnTheWay(leaving) => {
            let location = [(header::LOCATION, format!("/admin/v1/tenants/{id}/offboarding"))];
            (StatusCode::ACCEPTED, location, Json(OffboardingView::from(*leaving))).into_response()
        }
    }
}

/// Says how far the taking out of a tenant is.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/offboarding", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = OffboardingView), (status = 404)))]
async fn read_offboarding(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<TenantId>,
) -> Result<Json<OffboardingView>, Problem> {
    Ok(Json(onboarding.offboarding((&scope).into(), id).await?.into()))
}

/// Goes on with the taking out of a tenant now, without waiting for its time.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/offboarding/retry", tag = "tenants",
    params(("tenant_id" = TenantId, Path)),
    responses((status = 200, body = OffboardingView), (status = 404), (status = 409)))]
async fn retry_offboarding(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<TenantId>,
) -> Result<Json<OffboardingView>, Problem> {
    Ok(Json(onboarding.retry_offboarding((&scope).into(), scope.actor(), id).await?.into()))
}

/// Exports all that there is of a tenant as a ZIP archive of JSON: made for whoever asks while the tenant is there, and the
/// one that was kept once it is deleted. Never with passwords, secrets, hashes or tokens.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/export", tag = "tenants",
    params(("tenant_id" = TenantId, Path)),
    responses((status = 200, content_type = "application/zip", body = Vec<u8>), (status = 404),
        (status = 410, description = "The tenant is gone, and its export is not kept any more.")))]
async fn export_tenant(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<TenantId>,
) -> Result<Response, Problem> {
    let archive = onboarding.export((&scope).into(), scope.actor(), id).await?;
    let name = format!("attachment; filename=\"tenant-{id}.zip\"");
    let head = [(header::CONTENT_TYPE, "application/zip".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((head, Body::from_stream(archive)).into_response())
}

/// Erases what is about people and left of a deleted tenant. The answer is a certificate, signed with the issuer's key, which
/// says what was erased, and what is kept and why. Asked twice, it is the same one.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/erase", tag = "tenants",
    params(("tenant_id" = TenantId, Path)),
    responses((status = 200, body = Object), (status = 404), (status = 409, description = "It is not deleted.")))]
async fn erase_tenant(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<TenantId>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(onboarding.erase_tenant((&scope).into(), scope.actor(), id).await?))
}

/// Gives the certificate of an erasure again.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/erasure", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = Object), (status = 404)))]
async fn read_erasure(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<TenantId>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(onboarding.erasure((&scope).into(), id).await?))
}
