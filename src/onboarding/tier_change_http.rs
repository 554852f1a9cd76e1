//! `POST /admin/v1/tenants/{id}/tier`: moving a tenant to another tier, or seeing what that would do.

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Move, Onboarding, TierChange};
use crate::{
    kernel::{Faults, Isolation, TenantId},
    provisioning::InfrastructureView,
    store::Scope,
    web::{AdminScope, Json, Path, Problem, Verifier},
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Onboarding: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(change_tier))
}

/// A change of tier.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TierChangeRequest {
    /// The tier to move to.
    tier: Option<String>,
    /// `true` says what would happen and changes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// What a change of tier did, or would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierChangeView {
    tenant_id: TenantId,
    from_tier: String,
    tier: String,
    /// The tenant's state.
    status: &'static str,
    dry_run: bool,
    infrastructure: MoveView,
}

/// What happens to the infrastructure.
#[derive(Debug, Serialize, ToSchema)]
pub struct MoveView {
    /// `keep` or `move`.
    action: &'static str,
    isolation: Option<Isolation>,
    /// What was there before.
    from: Option<InfrastructureView>,
    /// What is there now; absent in a dry run.
    to: Option<InfrastructureView>,
}

impl From<Move> for MoveView {
    fn from(infrastructure: Move) -> Self {
        match infrastructure {
            Move::Kept(kept) => Self {
                action: "keep",
                isolation: kept.as_ref().map(|made| made.isolation),
                from: kept.clone().map(Into::into),
                to: kept.map(Into::into),
            },
            Move::Planned { from, to } => {
                Self { action: "move", isolation: Some(to), from: from.map(Into::into), to: None }
            }
            Move::Moved { from, to } => {
                Self { action: "move", isolation: Some(to.isolation), from: from.map(Into::into), to: Some(to.into()) }
            }
        }
    }
}

impl TierChangeView {
    fn new(change: TierChange, dry_run: bool) -> Self {
        Self {
            tenant_id: change.tenant.id,
            from_tier: change.from.to_string(),
            tier: change.to.to_string(),
            status: change.tenant.status.name(),
            dry_run,
            infrastructure: change.infrastructure.into(),
        }
    }
}

/// Moves a tenant to another tier, with its infrastructure.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/tier", tag = "tenants", request_body = TierChangeRequest,
    params(("tenant_id" = TenantId, Path)),
    responses((status = 200, body = TierChangeView), (status = 404), (status = 409), (status = 422)))]
async fn change_tier(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<TenantId>,
    Json(request): Json<TierChangeRequest>,
) -> Result<Json<TierChangeView>, Problem> {
    let mut faults = Faults::new();
    let tier = faults.require("tier", request.tier.as_deref());
    let tier = faults.finish(tier).map_err(|faults| Problem::invalid(&faults))?;
    let (actor, scope) = (scope.actor(), Scope::from(&scope));
    let change = if request.dry_run {
        onboarding.plan_tier_change(scope, id, tier).await?
    } else {
        onboarding.change_tier(scope, actor, id, tier).await?
    };
    Ok(Json(TierChangeView::new(change, request.dry_run)))
}
