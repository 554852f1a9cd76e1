//! What is not as it should be of tenants' infrastructure, as the administrator sees it.

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Reconciler,
    drift::{Drift, DriftFilter, DriftKind},
};
use crate::{
    kernel::{Faults, TenantId, Timestamp},
    web::{AdminScope, Json, List, PageQuery, Path, Problem, Query, Verifier},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Reconciler: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(list_drift)).routes(routes!(reconcile_tenant))
}

/// Something that is not as it should be, or was not.
#[derive(Debug, Serialize, ToSchema)]
pub struct DriftView {
    #[schema(value_type = String)]
    drift_id: Uuid,
    tenant_id: TenantId,
    /// `missing`, `absent`, `drifted`, `half_made`, `data_lost`, `no_answer`, `unanswered`, `unwell`, `foreign_driver`,
    /// `wrong_isolation`, `leftover`, `unused` or `outlived`.
    kind: &'static str,
    /// What exactly, as of the last look.
    detail: String,
    /// Since when that is known.
    found_at: Timestamp,
    /// When it was last looked at.
    seen_at: Timestamp,
    /// How many looks in a row found it.
    looks: i64,
    /// When it was mended, or had mended itself; null while it is open.
    repaired_at: Option<Timestamp>,
}

impl From<Drift> for DriftView {
    fn from(drift: Drift) -> Self {
        let Drift { id, tenant_id, kind, detail, found_at, seen_at, looks, next_look_at: _, repaired_at } = drift;
        Self { drift_id: id, tenant_id, kind: kind.name(), detail, found_at, seen_at, looks, repaired_at }
    }
}

/// What a look at a tenant came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct LookView {
    tenant_id: TenantId,
    /// What is not as it should be.
    open: Vec<DriftView>,
    /// The kinds of what was mended just now.
    repaired: Vec<&'static str>,
}

/// Which drift.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DriftQuery {
    /// Of this tenant.
    tenant_id: Option<String>,
    /// Of this kind.
    kind: Option<String>,
    /// `open` (when absent), `repaired` or `all`.
    state: Option<String>,
    /// Items on the page, 1 to 500; 50 when absent.
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists what is not as it should be of tenants' infrastructure, the oldest first. What was mended is kept for 30 days.
#[utoipa::path(get, path = "/admin/v1/drift", tag = "running", params(DriftQuery),
    responses((status = 200, body = List<DriftView>), (status = 422)))]
async fn list_drift(
    scope: AdminScope,
    State(reconciler): State<Reconciler>,
    Query(query): Query<DriftQuery>,
) -> Result<Json<List<DriftView>>, Problem> {
    let DriftQuery { tenant_id, kind, state, limit, cursor } = query;
    let mut faults = Faults::new();
    let tenant = tenant_id.as_deref().and_then(|text| faults.parse::<TenantId>("tenant_id", text));
    let kind = kind.as_deref().and_then(|text| faults.parse::<DriftKind>("kind", text));
    let open = match state.as_deref() {
        None | Some("open") => Some(true),
        Some("repaired") => Some(false),
        Some("all") => None,
        Some(_) => {
            faults.add("state", "must be open, repaired or all");
            None
        }
    };
    let filter = faults.finish(Some(DriftFilter { tenant, kind, open })).map_err(|faults| Problem::invalid(&faults))?;
    let page = reconciler.drift((&scope).into(), &filter, PageQuery { limit, cursor }.try_into()?).await?;
    Ok(Json(List::of(page, DriftView::from)))
}

/// Looks at a tenant's infrastructure now, and mends what can be mended without loss.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/reconcile", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = LookView), (status = 404)))]
async fn reconcile_tenant(
    scope: AdminScope,
    State(reconciler): State<Reconciler>,
    Path(id): Path<TenantId>,
) -> Result<Json<LookView>, Problem> {
    let look = reconciler.look_now((&scope).into(), scope.actor(), id).await?;
    Ok(Json(LookView {
        tenant_id: id,
        open: look.open.into_iter().map(DriftView::from).collect(),
        repaired: look.mended.into_iter().map(DriftKind::name).collect(),
    }))
}
