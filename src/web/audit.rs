//! The audit, as administrators read it.

use std::net::IpAddr;

use axum::{
    body::{Body, Bytes},
    extract::{FromRef, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::{TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{AdminScope, Json, List, PageQuery, Problem, Query, Verifier};
use crate::{
    kernel::{
        Faults, PageRequest, TenantId, Timestamp,
        audit::{AuditEntry, AuditFilter, Hash, Seal},
    },
    store::{Store, StoreError},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Store: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(list_audit)).routes(routes!(export_audit))
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
    /// The address that it was asked for from; `null` for what nobody asked for.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// What was there before; `null` where nothing was, or where an act changes nothing.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// What is there after it.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
    /// Its place in the chain of all entries, from 1; `null` in its first seconds.
    serial: Option<i64>,
    /// BLAKE3 in hexadecimal digits, of what can be taken out when somebody's data is erased.
    digest: Option<String>,
    /// BLAKE3 in hexadecimal digits, of the hash before it and of this entry.
    hash: Option<String>,
}

impl From<AuditEntry> for AuditView {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { id, at, actor, action, tenant, subject, detail, address, change, seal } = entry;
        let (before, after) = change.map_or((None, None), |change| (change.before, change.after));
        let hex = |of: fn(&Seal) -> Hash| seal.as_ref().map(|seal| blake3::Hash::from(of(seal)).to_hex().to_string());
        Self {
            audit_id: id,
            at,
            actor,
            action,
            tenant_id: tenant,
            subject,
            detail,
            address,
            before,
            after,
            serial: seal.map(|seal| seal.serial),
            digest: hex(|seal| seal.digest),
            hash: hex(|seal| seal.hash),
        }
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

/// Entries that are read at once.
const EXPORTED: i64 = 500;

/// All entries that are sealed, in the order of the chain: one JSON object a line. How the hashes are made is in
/// `docs/audit.md`.
#[utoipa::path(get, path = "/admin/v1/audit/export", tag = "running",
    responses((status = 200, body = AuditView, content_type = "application/x-ndjson")))]
async fn export_audit(scope: AdminScope, State(store): State<Store>) -> Result<Response, Problem> {
    let scope = (&scope).into();
    let mut tx = store.begin(scope).await?;
    while tx.audit_seal().await? > 0 {}
    let after = tx.audit_ends().await?.forgotten.0;
    tx.commit().await?;
    let pages = stream::try_unfold((store, after), move |(store, after)| async move {
        let entries = store.read(scope).await?.audit_sealed(after, EXPORTED).await?;
        let Some(last) = entries.last().and_then(|entry| entry.seal) else { return Ok::<_, StoreError>(None) };
        let mut lines = String::new();
        for entry in entries {
            lines.push_str(&serde_json::to_string(&AuditView::from(entry)).unwrap_or_default());
            lines.push('\n');
        }
        Ok(Some((Bytes::from(lines), (store, last.serial))))
    });
    let content = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content, Body::from_stream(pages.into_stream())).into_response())
}
