//! Administration of tenants: looking them up, suspending, renaming. Making, moving and removing them is onboarding's.

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Status, Tenant, TenantFilter, Tenants};
use crate::{
    kernel::{Faults, PageRequest, TenantId, Timestamp},
    web::{AdminScope, Json, List, PageQuery, Path, Problem, Query, Verifier},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Tenants: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list_tenants))
        .routes(routes!(read_tenant))
        .routes(routes!(suspend_tenant))
        .routes(routes!(activate_tenant))
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantView {
    tenant_id: TenantId,
    /// What a foreign issuer calls it.
    external_id: Option<String>,
    customer_name: String,
    tier: String,
    /// `provisioning`, `active`, `suspended`, `changing_tier`, `failed`, `offboarding` or `deleted`.
    status: &'static str,
    /// The tier it is moving to, while `changing_tier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    changing_to: Option<String>,
    /// Why, while `suspended`: `asked` by an administrator, or `unpaid`, which a payment ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended_because: Option<&'static str>,
    /// Why it failed, while `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureView>,
    /// That its infrastructure does not answer, whatever was decided about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    unavailable: Option<UnavailableView>,
    created_at: Timestamp,
    /// When it was deleted, once it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
}

/// Which step failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct FailureView {
    step: String,
    reason: String,
    retryable: bool,
}

/// A fault of a tenant's infrastructure.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnavailableView {
    since: Timestamp,
    reason: String,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        let status = tenant.status.name();
        let (mut changing_to, mut suspended_because, mut failure, mut deleted_at) = (None, None, None, None);
        match tenant.status {
            Status::ChangingTier { to } => changing_to = Some(to.to_string()),
            Status::Failed(f) => {
                failure = Some(FailureView { step: f.step, reason: f.reason, retryable: f.retryable });
            }
            Status::Deleted { at } => deleted_at = Some(at),
            Status::Suspended(why) => suspended_because = Some(why.name()),
            Status::Provisioning | Status::Active | Status::Offboarding => {}
        }
        Self {
            tenant_id: tenant.id,
            external_id: tenant.external_id.map(|id| id.to_string()),
            customer_name: tenant.customer_name.to_string(),
            tier: tenant.tier.to_string(),
            status,
            changing_to,
            suspended_because,
            failure,
            unavailable: tenant.unavailable.map(|fault| UnavailableView { since: fault.since, reason: fault.reason }),
            created_at: tenant.created_at,
            deleted_at,
        }
    }
}

/// What a list of tenants is narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TenantQuery {
    /// Exactly this customer name.
    customer_name: Option<String>,
    /// Exactly this state; deleted tenants are listed only with `deleted`.
    status: Option<String>,
    /// Exactly this tier.
    tier: Option<String>,
    /// Items on the page, 1 to 500; 50 when absent.
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl TenantQuery {
    fn parse(self) -> Result<(TenantFilter, PageRequest), Problem> {
        let mut faults = Faults::new();
        let mut filter = TenantFilter::default();
        if let Some(name) = &self.customer_name {
            filter.customer_name = faults.parse("customer_name", name);
        }
        if let Some(tier) = &self.tier {
            filter.tier = faults.parse("tier", tier);
        }
        if let Some(status) = self.status {
            if !Status::NAMES.contains(&status.as_str()) {
                faults.add("status", format!("must be one of {}", Status::NAMES.join(", ")));
            }
            filter.status = Some(status);
        }
        let filter = faults.finish(Some(filter)).map_err(|faults| Problem::invalid(&faults))?;
        Ok((filter, PageQuery { limit: self.limit, cursor: self.cursor }.try_into()?))
    }
}

/// Lists tenants, oldest first.
#[utoipa::path(get, path = "/admin/v1/tenants", tag = "tenants", params(TenantQuery), responses(
    (status = 200, body = List<TenantView>)))]
async fn list_tenants(
    scope: AdminScope,
    State(tenants): State<Tenants>,
    Query(query): Query<TenantQuery>,
) -> Result<Json<List<TenantView>>, Problem> {
    let (filter, page) = query.parse()?;
    Ok(Json(List::of(tenants.list((&scope).into(), &filter, page).await?, TenantView::from)))
}

/// Reads a tenant, a deleted one too.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}", tag = "tenants", params(("tenant_id" = TenantId, Path)),
    responses((status = 200, body = TenantView), (status = 404, description = "no such tenant")))]
async fn read_tenant(
    scope: AdminScope,
    State(tenants): State<Tenants>,
    Path(id): Path<TenantId>,
) -> Result<Json<TenantView>, Problem> {
    Ok(Json(tenants.find((&scope).into(), id).await?.into()))
}

/// Stops every call and sign-in of a tenant.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/suspend", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = TenantView), (status = 404), (status = 409)))]
async fn suspend_tenant(
    scope: AdminScope,
    State(tenants): State<Tenants>,
    Path(id): Path<TenantId>,
) -> Result<Json<TenantView>, Problem> {
    Ok(Json(tenants.suspend((&scope).into(), scope.actor(), id).await?.into()))
}

/// Lets calls and sign-ins through again.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/activate", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = TenantView), (status = 404), (status = 409)))]
async fn activate_tenant(
    scope: AdminScope,
    State(tenants): State<Tenants>,
    Path(id): Path<TenantId>,
) -> Result<Json<TenantView>, Problem> {
    Ok(Json(tenants.activate((&scope).into(), scope.actor(), id).await?.into()))
}
