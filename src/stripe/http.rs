//! How Stripe stands, as administrators see it.

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Job, Overview, PaymentEvent, Standing, Stripe, webhook_http};
use crate::{
    kernel::{InvoiceId, TenantId, Timestamp},
    web::{AdminScope, Json, List, PageQuery, Problem, Query, Verifier},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Stripe: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(read_stripe)).routes(routes!(retry_stripe)).merge(webhook_http::routes())
}

/// How Stripe stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct StripeView {
    /// `meter_events` or `invoice_items`; `null` where Stripe is not set up.
    mode: Option<&'static str>,
    /// Why nothing is sent, when Stripe refused the secret key.
    halted: Option<Halted>,
    /// What was told of payments and came to something else than a payment, the newest first, 100 at most.
    payment_events: Vec<PaymentEventView>,
    /// Tenants, in the order of their ids.
    #[serde(flatten)]
    tenants: List<StandingView>,
}

/// Why nothing is sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct Halted {
    since: Timestamp,
    error: String,
}

/// Something that was told of a payment.
#[derive(Debug, Serialize, ToSchema)]
pub struct PaymentEventView {
    /// `stripe` or `payments`.
    source: String,
    event_id: String,
    #[serde(rename = "type")]
    kind: String,
    /// As the webhook was answered.
    outcome: String,
    detail: Option<String>,
    tenant_id: Option<TenantId>,
    invoice_id: Option<InvoiceId>,
    received_at: Timestamp,
}

impl From<PaymentEvent> for PaymentEventView {
    fn from(event: PaymentEvent) -> Self {
        let PaymentEvent { source, id, kind, outcome, detail, tenant, invoice, received_at } = event;
        Self { source, event_id: id, kind, outcome, detail, tenant_id: tenant, invoice_id: invoice, received_at }
    }
}

/// How a tenant stands at Stripe.
#[derive(Debug, Serialize, ToSchema)]
pub struct StandingView {
    tenant_id: TenantId,
    /// What Stripe calls it; `null` until it is known there.
    customer_id: Option<String>,
    /// Customers, invoices and meter events that Stripe has of it.
    sent: i64,
    /// And such as wait.
    waiting: i64,
    /// When a call for it last succeeded.
    last_success_at: Option<Timestamp>,
    /// What it is that others wait for.
    next: Option<NextJob>,
}

/// The job that is next.
#[derive(Debug, Serialize, ToSchema)]
pub struct NextJob {
    /// `customer`, `invoice`, `void`, `paid`, `usage` or `cancel`.
    kind: &'static str,
    /// Which one: an invoice's id, or a meter's hour.
    subject: String,
    /// The step that is next, from 0.
    step: i64,
    /// What Stripe calls it, once it is made.
    stripe_id: Option<String>,
    /// Tries of the step.
    attempts: i64,
    /// Why the last one came to nothing.
    error: Option<String>,
    /// Since when it waits for somebody; `null` while it is tried.
    parked_at: Option<Timestamp>,
    next_try_at: Timestamp,
}

impl From<Job> for NextJob {
    fn from(job: Job) -> Self {
        let Job { kind, subject, step, remote, attempts, error, parked_at, next_try_at, .. } = job;
        Self { kind: kind.name(), subject, step, stripe_id: remote, attempts, error, parked_at, next_try_at }
    }
}

impl From<Standing> for StandingView {
    fn from(standing: Standing) -> Self {
        let Standing { tenant, customer, done, waiting, next, sent_at } = standing;
        Self {
            tenant_id: tenant,
            customer_id: customer,
            sent: done,
            waiting,
            last_success_at: sent_at,
            next: next.map(NextJob::from),
        }
    }
}

/// How Stripe stands: what was sent and waits for each tenant, what is parked and why, and what was told of payments that needs
/// to be looked at.
#[utoipa::path(get, path = "/admin/v1/stripe", tag = "money", params(PageQuery),
    responses((status = 200, body = StripeView), (status = 422)))]
async fn read_stripe(
    scope: AdminScope,
    State(stripe): State<Stripe>,
    Query(page): Query<PageQuery>,
) -> Result<Json<StripeView>, Problem> {
    let Overview { mode, halted, events, tenants } = stripe.overview((&scope).into(), page.try_into()?).await?;
    Ok(Json(StripeView {
        mode,
        halted: halted.map(|(since, error)| Halted { since, error }),
        payment_events: events.into_iter().map(PaymentEventView::from).collect(),
        tenants: List::of(tenants, StandingView::from),
    }))
}

/// What is to be tried again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StripeRetry {
    /// Whose; everybody's when absent.
    #[serde(default)]
    tenant_id: Option<String>,
    /// Leaves what is parked undone instead, so that what waits behind it goes on. Needs `tenant_id`.
    #[serde(default)]
    skip: bool,
}

/// How many jobs it was.
#[derive(Debug, Serialize, ToSchema)]
pub struct StripeRetried {
    jobs: usize,
}

/// Has what is parked tried again, or skipped; and sends again, when Stripe had refused the secret key.
#[utoipa::path(post, path = "/admin/v1/stripe/retry", tag = "money", request_body = StripeRetry,
    responses((status = 202, body = StripeRetried), (status = 409), (status = 422)))]
async fn retry_stripe(
    scope: AdminScope,
    State(stripe): State<Stripe>,
    Json(request): Json<StripeRetry>,
) -> Result<(axum::http::StatusCode, Json<StripeRetried>), Problem> {
    let tenant = request.tenant_id.as_deref().map(str::parse::<TenantId>).transpose();
    let tenant = tenant.map_err(|error| Problem::invalid_field("tenant_id", error))?;
    let jobs = match (tenant, request.skip) {
        (None, true) => return Err(Problem::invalid_field("tenant_id", "is needed to skip what is parked")),
        (Some(tenant), true) => stripe.skip((&scope).into(), scope.actor(), tenant).await?,
        (tenant, false) => stripe.retry((&scope).into(), scope.actor(), tenant).await?,
    };
    Ok((axum::http::StatusCode::ACCEPTED, Json(StripeRetried { jobs })))
}
