//! What others tell of payments, signed. Bodies are read as they come: that is what is signed.

use axum::{
    body::to_bytes,
    extract::{FromRef, Request, State},
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Received, Stripe, signature::StandardHeaders};
use crate::{
    billing::NewPayment,
    kernel::{Currency, Faults, InvoiceId, Money, names::plain_text},
    web::{
        Json, Problem,
        extract::{MAX_BODY_BYTES, body_problem, from_json},
    },
};

/// The longest reference and number, in characters.
const MAX_TEXT: usize = 200;

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Stripe: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(receive_stripe_event)).routes(routes!(receive_payment))
}

/// What came of something that was told.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceivedView {
    /// `ignored`, `known`, `recorded`, `underpaid`, `overpaid`, `not_owed`, `wrong_currency`, `unknown_invoice`, `payment_failed`,
    /// `refunded` or `noted`.
    outcome: &'static str,
}

/// Takes an event of Stripe's: `invoice.paid` records a payment. Each event counts once; types that say nothing here are
/// ignored. `Stripe-Signature` must be one of `billing.stripe.webhook_secret`, and not older than five minutes.
#[utoipa::path(post, path = "/webhooks/stripe", tag = "money", params(("stripe-signature" = String, Header)),
    request_body = serde_json::Value, responses((status = 200, body = ReceivedView), (status = 400), (status = 404), (status = 413)))]
async fn receive_stripe_event(State(stripe): State<Stripe>, request: Request) -> Result<Json<ReceivedView>, Problem> {
    let (headers, body) = read(request).await?;
    let received = stripe.take_stripe_event(header(&headers, "stripe-signature"), &body).await?;
    Ok(Json(ReceivedView { outcome: received.name() }))
}

/// A payment that somebody took.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToldPayment {
    /// Of which invoice: its id or its number.
    invoice: String,
    /// How much, at most what is owed.
    amount: String,
    /// ISO 4217.
    currency: String,
    /// What tells it from other payments of the same invoice.
    reference: String,
    /// When it came; now when absent.
    #[serde(default)]
    received_at: Option<String>,
}

impl ToldPayment {
    fn parse(self) -> Result<(String, NewPayment), Problem> {
        let mut faults = Faults::new();
        let invoice = faults.check("invoice", plain_text(&self.invoice, MAX_TEXT));
        let currency: Option<Currency> = faults.parse("currency", &self.currency);
        let exact = faults.parse("amount", &self.amount);
        let amount = exact
            .zip(currency)
            .and_then(|(exact, currency)| faults.check("amount", Money::from_exact(exact, currency)));
        let reference = faults.check("reference", plain_text(&self.reference, MAX_TEXT));
        let received_at = self.received_at.as_deref().map(|text| faults.parse("received_at", text));
        let all = invoice.zip(amount.zip(reference));
        let (invoice, (amount, reference)) = faults.finish(all).map_err(|faults| Problem::invalid(&faults))?;
        Ok((invoice, NewPayment { amount, reference, received_at: received_at.flatten() }))
    }
}

/// What a payment that was told did.
#[derive(Debug, Serialize, ToSchema)]
pub struct ToldPaymentAnswer {
    /// `recorded`, `underpaid`, or `known` when it was told before.
    outcome: &'static str,
    /// Which invoice it was for; `null` when it was told before.
    invoice_id: Option<InvoiceId>,
    /// What is still owed.
    amount_remaining: Option<String>,
}

/// Notes a payment that another payment provider took, as the Standard Webhooks specification signs calls: with
/// `webhook-id`, `webhook-timestamp` and `webhook-signature`. Each `webhook-id` counts once. A payment of more than is owed is
/// refused.
#[utoipa::path(post, path = "/webhooks/payments", tag = "money",
    params(("webhook-id" = String, Header), ("webhook-timestamp" = String, Header), ("webhook-signature" = String, Header)),
    request_body = ToldPayment, responses((status = 200, body = ToldPaymentAnswer), (status = 201, body = ToldPaymentAnswer),
        (status = 400), (status = 404), (status = 409), (status = 413), (status = 422)))]
async fn receive_payment(
    State(stripe): State<Stripe>,
    request: Request,
) -> Result<(StatusCode, Json<ToldPaymentAnswer>), Problem> {
    let (headers, body) = read(request).await?;
    let id = header(&headers, "webhook-id");
    let (at, signatures) = (header(&headers, "webhook-timestamp"), header(&headers, "webhook-signature"));
    stripe.check_payment(StandardHeaders { id, at, signatures }, &body)?;
    let (invoice, payment) = from_json::<ToldPayment>(&body)?.parse()?;
    let (received, paid) = stripe.take_told_payment(id, &invoice, payment).await?;
    let status = if received == Received::Known { StatusCode::OK } else { StatusCode::CREATED };
    let answer = ToldPaymentAnswer {
        outcome: received.name(),
        invoice_id: paid.as_ref().map(|invoice| invoice.id),
        amount_remaining: paid.map(|invoice| invoice.outstanding().amount()),
    };
    Ok((status, Json(answer)))
}

async fn read(request: Request) -> Result<(HeaderMap, axum::body::Bytes), Problem> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| body_problem(&error))?;
    Ok((parts.headers, body))
}

/// A header that is there once, as text; else nothing.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default(),
        _ => "",
    }
}
