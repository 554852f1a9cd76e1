//! Invoices as files that `tollgate verify-invoice` checks: what billing exports, signed by identity.

use axum::{
    extract::{FromRef, State},
    http::header,
    response::{IntoResponse as _, Response},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::signed;
use crate::{
    billing::{Billing, Export},
    identity::Identity,
    kernel::InvoiceId,
    store::Scope,
    web::{AdminScope, Json, Kind, Path, Problem, TenantAccess, Verifier},
};

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Billing: FromRef<S>,
    Identity: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(export_invoice)).routes(routes!(export_own_invoice))
}

/// Exports an issued invoice with what it was worked out from, sealed and signed, for `tollgate verify-invoice`.
#[utoipa::path(get, path = "/admin/v1/invoices/{invoice_id}/export", tag = "money",
    params(("invoice_id" = InvoiceId, Path)),
    responses((status = 200, body = Export), (status = 404),
        (status = 409, description = "It is a draft: what it says may still change.")))]
async fn export_invoice(
    scope: AdminScope,
    State(billing): State<Billing>,
    State(identity): State<Identity>,
    Path(id): Path<InvoiceId>,
) -> Result<Response, Problem> {
    signed(&billing, &identity, (&scope).into(), id).await
}

/// Exports one of the caller's invoices that is issued, in the same way.
#[utoipa::path(get, path = "/v1/invoices/{invoice_id}/export", tag = "tenant", params(("invoice_id" = InvoiceId, Path)),
    responses((status = 200, body = Export), (status = 403), (status = 404)))]
async fn export_own_invoice(
    call: TenantAccess,
    State(billing): State<Billing>,
    State(identity): State<Identity>,
    Path(id): Path<InvoiceId>,
) -> Result<Response, Problem> {
    call.require_scope("usage:read")?;
    // A draft is not shown to its tenant.
    if billing.invoice((&call).into(), id).await?.issue.is_none() {
        return Err(Problem::new(Kind::NOT_FOUND, format!("there is no invoice {id}")));
    }
    signed(&billing, &identity, (&call).into(), id).await
}

async fn signed(billing: &Billing, identity: &Identity, scope: Scope, id: InvoiceId) -> Result<Response, Problem> {
    let export = signed::export(billing, identity, scope, id).await?;
    let name = format!("attachment; filename=\"invoice-{id}.json\"");
    Ok(([(header::CONTENT_DISPOSITION, name)], Json(export)).into_response())
}
