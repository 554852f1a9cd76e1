//! The audit, as administrators read it.

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{AdminScope, Json, List, PageQuery, Problem, Query, Verifier};
use crate::{
    kernel::{
        Faults, PageRequest, TenantId, Timestamp,
        audit::{AuditEntry, AuditFilter},
    },
    store::Store,
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Store: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(list_audit))
}

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Of this tenant.
    tenant_id: Option<String>,
    /// Of who acted, such as `user:…`, `client:…`, `admin:…`, `job:…` or `anonymous`.
    actor: Option<String>,
    /// Of this action.
    action: Option<String>,
    /// Done to this.
    subject: Option<String>,
    /// Entries on the page, 1 to 500; 50 when absent.
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// An act.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditView {
    #[schema(value_type = String)]
    audit_id: Uuid,
    at: Timestamp,
    /// Who: a kind and an id.
    actor: String,
    /// What, as `noun.verb`.
    action: String,
    /// Whose affair; `null` for the platform's.
    tenant_id: Option<TenantId>,
    /// To what it was done.
    subject: String,
    /// More, in words.
    detail: Option<String>,
}

impl From<AuditEntry> for AuditView {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { id, at, actor, action, tenant, subject, detail } = entry;
        Self { audit_id: id, at, actor, action, tenant_id: tenant, subject, detail }
    }
}

/// Lists who did what, the oldest first.
#[utoipa::path(get, path = "/admin/v1/audit", tag = "running", params(AuditQuery),
    responses((status = 200, body = List<AuditView>), (status = 422)))]
async fn list_audit(
    scope: AdminScope,
    State(store): State<Store>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<List<AuditView>>, Problem> {
    let AuditQuery { tenant_id, actor, action, subject, limit, cursor } = query;
    let mut faults = Faults::new();
    let tenant = tenant_id.as_deref().map(|text| faults.parse::<TenantId>("tenant_id", text));
    let tenant = faults.finish(Some(tenant.flatten())).map_err(|faults| Problem::invalid(&faults))?;
    let page = PageRequest::try_from(PageQuery { limit, cursor })?;
    let filter = AuditFilter { tenant, actor, action, subject };
    let rows = store.read((&scope).into()).await?.audit(&filter, page).await?;
    Ok(Json(List::of(page.page(rows, |entry| entry.id), AuditView::from)))
}
