//! Credit notes, for the administrator and for the tenant whose they are. Making one is onboarding's, because it may change a
//! tenant's state, too.

use axum::{
    extract::{FromRef, State},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Billing, CreditNoteView, form_http};
use crate::{
    kernel::CreditNoteId,
    store::Scope,
    web::{AdminScope, Json, Path, Problem, TenantAccess, Verifier},
};

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Billing: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(read_credit_note)).routes(routes!(read_own_credit_note))
}

async fn show(billing: &Billing, scope: Scope, asked: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let (id, form) = form_http::asked_for::<CreditNoteId>("credit note", asked, headers)?;
    let note = billing.credit_note(scope, id).await?;
    match form {
        None => Ok(Json(CreditNoteView::from(note)).into_response()),
        Some(form) => form_http::answer(billing.printed_note(scope, &note, form).await?),
    }
}

/// Reads a credit note. As CSV, HTML or PDF when the id ends in `.csv`, `.html` or `.pdf`, or `Accept` names one of them.
#[utoipa::path(get, path = "/admin/v1/credit-notes/{credit_note_id}", tag = "money",
    params(("credit_note_id" = CreditNoteId, Path)),
    responses((status = 200, content((CreditNoteView = "application/json"), (String = "text/csv"), (String = "text/html"),
        (Vec<u8> = "application/pdf"))), (status = 404), (status = 409, description = "It cannot be printed.")))]
async fn read_credit_note(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(asked): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    show(&billing, (&scope).into(), &asked, &headers).await
}

/// Reads one of the caller's credit notes. As CSV, HTML or PDF when the id ends in `.csv`, `.html` or `.pdf`, or `Accept` names one
/// of them.
#[utoipa::path(get, path = "/v1/credit-notes/{credit_note_id}", tag = "tenant",
    params(("credit_note_id" = CreditNoteId, Path)),
    responses((status = 200, content((CreditNoteView = "application/json"), (String = "text/csv"), (String = "text/html"),
        (Vec<u8> = "application/pdf"))), (status = 403), (status = 404),
        (status = 409, description = "It cannot be printed.")))]
async fn read_own_credit_note(
    call: TenantAccess,
    State(billing): State<Billing>,
    Path(asked): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    call.require_scope("usage:read")?;
    show(&billing, (&call).into(), &asked, &headers).await
}
