//! A tenant's infrastructure, as the administrator sees it.

use axum::extract::{FromRef, State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Finding, Infrastructure, Pool, Provisioning};
use crate::{
    kernel::{InfrastructureId, Isolation, TenantId, Timestamp},
    web::{AdminScope, Json, Path, Problem, Verifier},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Provisioning: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(read_infrastructure))
        .routes(routes!(read_credentials))
        .routes(routes!(rotate_credentials))
        .routes(routes!(verify_infrastructure))
        .routes(routes!(repair_infrastructure))
        .routes(routes!(list_pools))
}

/// A tenant's infrastructure.
#[derive(Debug, Serialize, ToSchema)]
pub struct InfrastructureView {
    infrastructure_id: InfrastructureId,
    tenant_id: TenantId,
    isolation: Isolation,
    /// The driver that made it.
    driver: String,
    /// Where it is, in the driver's terms.
    location: String,
    created_at: Timestamp,
}

impl From<Infrastructure> for InfrastructureView {
    fn from(infrastructure: Infrastructure) -> Self {
        Self {
            infrastructure_id: infrastructure.id,
            tenant_id: infrastructure.tenant_id,
            isolation: infrastructure.isolation,
            driver: infrastructure.driver,
            location: infrastructure.location,
            created_at: infrastructure.created_at,
        }
    }
}

/// A tenant's infrastructure, and what is known of its place.
#[derive(Debug, Serialize, ToSchema)]
pub struct InfrastructureDetails {
    #[serde(flatten)]
    infrastructure: InfrastructureView,
    /// Which of the driver's pools it is in; absent for a place of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    /// Where the tenant's requests go, if not where the pool's go.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    /// Whether all of it is made.
    made: bool,
    /// `none`, `unread` or `read`.
    credentials: &'static str,
}

/// Credentials, as they are shown once.
#[derive(Debug, Serialize, ToSchema)]
pub struct CredentialsView {
    tenant_id: TenantId,
    /// What the driver made up: for `postgres` `url`, `host`, `port`, `database`, `user` and `password`.
    #[schema(value_type = Object)]
    credentials: Value,
}

/// What a look at a tenant's infrastructure found.
#[derive(Debug, Serialize, ToSchema)]
pub struct FindingView {
    /// `present`, `absent`, `drifted` or `unwell`.
    state: &'static str,
    /// What is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> Self {
        match finding {
            Finding::Present => Self { state: "present", detail: None },
            Finding::Absent => Self { state: "absent", detail: None },
            Finding::Drifted(detail) => Self { state: "drifted", detail: Some(detail) },
            Finding::Unwell(detail) => Self { state: "unwell", detail: Some(detail) },
        }
    }
}

/// The pools that tenants are placed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolsView {
    items: Vec<PoolView>,
}

/// One of the pools.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolView {
    pool: String,
    driver: &'static str,
    /// The most tenants in it; null for as many as come.
    capacity: Option<i64>,
    /// Tenants that have a place in it.
    taken: i64,
}

/// Reads a tenant's infrastructure; 404 once it has none.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/infrastructure", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = InfrastructureDetails), (status = 404)))]
async fn read_infrastructure(
    scope: AdminScope,
    State(provisioning): State<Provisioning>,
    Path(id): Path<TenantId>,
) -> Result<Json<InfrastructureDetails>, Problem> {
    let infrastructure = provisioning.find((&scope).into(), id).await?;
    let kept = provisioning.place((&scope).into(), id).await?;
    let upstream = provisioning.upstream((&scope).into(), id).await?;
    Ok(Json(InfrastructureDetails {
        infrastructure: infrastructure.into(),
        upstream,
        made: kept.as_ref().is_none_or(|kept| kept.made),
        credentials: kept.as_ref().map_or("none", |kept| kept.credentials()),
        pool: kept.map(|kept| kept.place.pool).filter(|pool| !pool.is_empty()),
    }))
}

/// Shows the credentials of a tenant's infrastructure. They are shown once; 409 after that.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/infrastructure/credentials", tag = "tenants",
    params(("tenant_id" = TenantId, Path)),
    responses((status = 200, body = CredentialsView), (status = 404), (status = 409)))]
async fn read_credentials(
    scope: AdminScope,
    State(provisioning): State<Provisioning>,
    Path(id): Path<TenantId>,
) -> Result<Json<CredentialsView>, Problem> {
    let credentials = provisioning.read_credentials((&scope).into(), scope.actor(), id).await?;
    Ok(Json(CredentialsView { tenant_id: id, credentials }))
}

/// Makes up a new password for a tenant's infrastructure and shows it, once. The old one opens nothing any more.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/infrastructure/credentials/rotate", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = CredentialsView), (status = 404)))]
async fn rotate_credentials(
    scope: AdminScope,
    State(provisioning): State<Provisioning>,
    Path(id): Path<TenantId>,
) -> Result<Json<CredentialsView>, Problem> {
    let credentials = provisioning.rotate_credentials((&scope).into(), scope.actor(), id).await?;
    Ok(Json(CredentialsView { tenant_id: id, credentials }))
}

/// Has the driver look whether a tenant's infrastructure is there as it should be.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/infrastructure/verify", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = FindingView), (status = 404)))]
async fn verify_infrastructure(
    scope: AdminScope,
    State(provisioning): State<Provisioning>,
    Path(id): Path<TenantId>,
) -> Result<Json<FindingView>, Problem> {
    Ok(Json(provisioning.verify((&scope).into(), id).await?.into()))
}

/// Makes again what is missing of a tenant's infrastructure, and looks.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/infrastructure/repair", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = FindingView), (status = 404)))]
async fn repair_infrastructure(
    scope: AdminScope,
    State(provisioning): State<Provisioning>,
    Path(id): Path<TenantId>,
) -> Result<Json<FindingView>, Problem> {
    provisioning.repair((&scope).into(), id).await?;
    Ok(Json(provisioning.verify((&scope).into(), id).await?.into()))
}

/// Lists the pools that tenants are placed in, and how full they are.
#[utoipa::path(get, path = "/admin/v1/infrastructure/pools", tag = "tenants",
    responses((status = 200, body = PoolsView)))]
async fn list_pools(scope: AdminScope, State(provisioning): State<Provisioning>) -> Result<Json<PoolsView>, Problem> {
    let pools = provisioning.pools((&scope).into()).await?;
    let view = |(driver, pool, taken): (&'static str, Pool, i64)| PoolView {
        pool: pool.name,
        driver,
        capacity: pool.capacity,
        taken,
    };
    Ok(Json(PoolsView { items: pools.into_iter().map(view).collect() }))
}
