//! What changes an issued invoice: payments, credit notes, taking it back. Each may end a suspension of its tenant, or a limit.

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Onboarding;
use crate::{
    billing::{CreditNoteView, CreditedLine, InvoiceView, NewCreditNote, NewPayment, PaymentView},
    kernel::{Currency, Faults, InvoiceId, Money, TenantId, names::plain_text},
    web::{AdminScope, Json, Path, Problem, Verifier},
};

/// The longest reference and reason, in characters.
const MAX_TEXT: usize = 200;

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Onboarding: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(create_payment))
        .routes(routes!(create_credit_note))
        .routes(routes!(void_invoice))
        .routes(routes!(lift_limit))
}

/// A payment that somebody saw.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentRequest {
    /// How much, at most what is owed.
    amount: String,
    /// ISO 4217.
    currency: String,
    /// What tells it from others of the same invoice, such as the bank's number of it. Sent again, it is the same payment.
    reference: String,
    /// When it came; now when absent.
    #[serde(default)]
    received_at: Option<String>,
}

impl PaymentRequest {
    fn parse(self) -> Result<NewPayment, Problem> {
        let mut faults = Faults::new();
        let currency: Option<Currency> = faults.parse("currency", &self.currency);
        let exact = faults.parse("amount", &self.amount);
        let amount = exact
            .zip(currency)
            .and_then(|(exact, currency)| faults.check("amount", Money::from_exact(exact, currency)));
        let reference = faults.check("reference", plain_text(&self.reference, MAX_TEXT));
        let received_at = self.received_at.as_deref().map(|text| faults.parse("received_at", text));
        let new = amount.zip(reference);
        let (amount, reference) = faults.finish(new).map_err(|faults| Problem::invalid(&faults))?;
        Ok(NewPayment { amount, reference, received_at: received_at.flatten() })
    }
}

/// A payment and what it did.
#[derive(Debug, Serialize, ToSchema)]
pub struct PaymentAnswer {
    #[serde(flatten)]
    payment: PaymentView,
    invoice: InvoiceView,
}

/// Notes a payment of an invoice. When nothing is owed any more it is paid, and a suspension for it ends.
#[utoipa::path(post, path = "/admin/v1/invoices/{invoice_id}/payments", tag = "money",
    params(("invoice_id" = InvoiceId, Path)), request_body = PaymentRequest,
    responses((status = 201, body = PaymentAnswer), (status = 404), (status = 409), (status = 422)))]
async fn create_payment(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<InvoiceId>,
    Json(request): Json<PaymentRequest>,
) -> Result<(StatusCode, Json<PaymentAnswer>), Problem> {
    let (invoice, payment) = onboarding.pay_invoice((&scope).into(), scope.actor(), id, request.parse()?).await?;
    let answer = PaymentAnswer { payment: payment.into(), invoice: InvoiceView::try_from(&invoice)? };
    Ok((StatusCode::CREATED, Json(answer)))
}

fn reason(text: &str) -> Result<String, Problem> {
    plain_text(text, MAX_TEXT).map_err(|error| Problem::invalid_field("reason", error))
}

/// A credit note to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreditNoteRequest {
    /// Off which lines how much; what is left of all of them when absent.
    #[serde(default)]
    lines: Vec<CreditedLine>,
    /// Why.
    reason: String,
}

/// A credit note and what it did.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreditNoteAnswer {
    #[serde(flatten)]
    credit_note: CreditNoteView,
    invoice: InvoiceView,
}

/// Takes some of an invoice back, or what is left of it: off what is owed; what was paid becomes a prepaid credit.
#[utoipa::path(post, path = "/admin/v1/invoices/{invoice_id}/credit-notes", tag = "money",
    params(("invoice_id" = InvoiceId, Path)), request_body = CreditNoteRequest,
    responses((status = 201, body = CreditNoteAnswer), (status = 404), (status = 409), (status = 422)))]
async fn create_credit_note(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<InvoiceId>,
    Json(request): Json<CreditNoteRequest>,
) -> Result<(StatusCode, Json<CreditNoteAnswer>), Problem> {
    let new = NewCreditNote { reason: reason(&request.reason)?, lines: request.lines };
    let (invoice, note) = onboarding.credit_invoice((&scope).into(), scope.actor(), id, new).await?;
    let answer = CreditNoteAnswer { credit_note: note.into(), invoice: InvoiceView::try_from(&invoice)? };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Why an invoice is taken back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvoiceVoidRequest {
    /// In words.
    reason: String,
    /// Whether another invoice takes its place. Without, its period is not billed.
    #[serde(default)]
    reissue: bool,
}

/// Takes an issued invoice back that nothing was paid of. Its number stays taken.
#[utoipa::path(post, path = "/admin/v1/invoices/{invoice_id}/void", tag = "money",
    params(("invoice_id" = InvoiceId, Path)), request_body = InvoiceVoidRequest,
    responses((status = 200, body = InvoiceView), (status = 404), (status = 409), (status = 422)))]
async fn void_invoice(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<InvoiceId>,
    Json(request): Json<InvoiceVoidRequest>,
) -> Result<Json<InvoiceView>, Problem> {
    let grounds = (reason(&request.reason)?, request.reissue);
    let invoice = onboarding.void_invoice((&scope).into(), scope.actor(), id, grounds).await?;
    Ok(Json(InvoiceView::try_from(&invoice)?))
}

/// Gives a tenant its own limits again that is held to lower ones because of an overdue invoice. It is not limited again for the
/// same one.
#[utoipa::path(delete, path = "/admin/v1/tenants/{tenant_id}/limit", tag = "money",
    params(("tenant_id" = TenantId, Path)), responses((status = 204), (status = 404)))]
async fn lift_limit(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(tenant): Path<TenantId>,
) -> Result<StatusCode, Problem> {
    onboarding.lift_limit((&scope).into(), scope.actor(), tenant).await?;
    Ok(StatusCode::NO_CONTENT)
}
