//! A tenant's infrastructure, as the administrator sees it.

use axum::extract::{FromRef, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Infrastructure, Provisioning};
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
    OpenApiRouter::new().routes(routes!(read_infrastructure))
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

/// Reads a tenant's infrastructure; 404 once it has none.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/infrastructure", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = InfrastructureView), (status = 404)))]
async fn read_infrastructure(
    scope: AdminScope,
    State(provisioning): State<Provisioning>,
    Path(id): Path<TenantId>,
) -> Result<Json<InfrastructureView>, Problem> {
    Ok(Json(provisioning.find((&scope).into(), id).await?.into()))
}
