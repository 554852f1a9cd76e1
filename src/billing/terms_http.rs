//! What a tenant is billed by, besides its plan: taxes, coupons and prepaid credits.

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Billing,
    cadence_wire::CadenceView,
    invoice::Terms,
    invoice_views::{CouponView, CreditView},
    terms::{CouponRequest, CreditRequest, TermsBody, TermsPatch},
    views::PeriodView,
};
use crate::{
    kernel::{CouponId, TenantId},
    store::Scope,
    web::{AdminScope, Json, Path, Problem, Verifier},
};

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Billing: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(read_billing_terms, update_billing_terms))
        .routes(routes!(list_coupons, create_coupon))
        .routes(routes!(end_coupon))
        .routes(routes!(list_credits, create_credit))
}

/// A tenant's coupons.
#[derive(Debug, Serialize, ToSchema)]
pub struct CouponList {
    items: Vec<CouponView>,
    /// Always `null`: there are few.
    next_cursor: Option<String>,
}

/// A tenant's credits.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreditList {
    items: Vec<CreditView>,
    /// Always `null`: there are few.
    next_cursor: Option<String>,
}

/// What a tenant is billed by, besides its plan, and when.
#[derive(Debug, Serialize, ToSchema)]
pub struct BillingView {
    #[serde(flatten)]
    terms: TermsBody,
    #[serde(flatten)]
    cadence: CadenceView,
    /// The billing period that runs.
    period: PeriodView,
}

impl BillingView {
    async fn of(billing: &Billing, scope: Scope, tenant: TenantId, terms: &Terms) -> Result<Self, Problem> {
        let schedule = billing.schedule(scope, tenant).await?;
        let period = billing.running_period(&schedule).into();
        Ok(Self { terms: terms.into(), cadence: schedule.latest().into(), period })
    }
}

/// Reads which taxes a tenant's invoices have, and when its billing periods begin.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/billing", tag = "money",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = BillingView), (status = 404)))]
async fn read_billing_terms(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<BillingView>, Problem> {
    let terms = billing.terms((&scope).into(), tenant).await?;
    Ok(Json(BillingView::of(&billing, (&scope).into(), tenant, &terms).await?))
}

/// Sets which taxes a tenant's invoices have, from the next one on, and how its billing periods follow each other, from the end
/// of the running one on: what lies between that and the first of the new ones is a period of its own. What is absent stays.
#[utoipa::path(patch, path = "/admin/v1/tenants/{tenant_id}/billing", tag = "money",
    params(("tenant_id" = TenantId, Path)), request_body = TermsPatch,
    responses((status = 200, body = BillingView), (status = 404), (status = 422)))]
async fn update_billing_terms(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
    Json(patch): Json<TermsPatch>,
) -> Result<Json<BillingView>, Problem> {
    let terms = billing.change_terms((&scope).into(), scope.actor(), tenant, patch).await?;
    Ok(Json(BillingView::of(&billing, (&scope).into(), tenant, &terms).await?))
}

/// Lists a tenant's coupons, oldest first.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/coupons", tag = "money",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = CouponList), (status = 404)))]
async fn list_coupons(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<CouponList>, Problem> {
    let items = billing.coupons((&scope).into(), tenant).await?.into_iter().map(Into::into).collect();
    Ok(Json(CouponList { items, next_cursor: None }))
}

/// Gives a tenant a coupon: taken off its next invoices before taxes.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/coupons", tag = "money",
    params(("tenant_id" = TenantId, Path)), request_body = CouponRequest,
    responses((status = 201, body = CouponView), (status = 404), (status = 409), (status = 422)))]
async fn create_coupon(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
    Json(request): Json<CouponRequest>,
) -> Result<(StatusCode, Json<CouponView>), Problem> {
    let coupon = billing.add_coupon((&scope).into(), scope.actor(), tenant, request).await?;
    Ok((StatusCode::CREATED, Json(coupon.into())))
}

/// Ends a coupon. Invoices that used it stay as they are.
#[utoipa::path(delete, path = "/admin/v1/tenants/{tenant_id}/coupons/{coupon_id}", tag = "money",
    params(("tenant_id" = TenantId, Path), ("coupon_id" = CouponId, Path)), responses((status = 204), (status = 404)))]
async fn end_coupon(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path((tenant, coupon)): Path<(TenantId, CouponId)>,
) -> Result<StatusCode, Problem> {
    billing.end_coupon((&scope).into(), scope.actor(), tenant, coupon).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists a tenant's prepaid credits, oldest first, with what was drawn of each.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/credits", tag = "money",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = CreditList), (status = 404)))]
async fn list_credits(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<CreditList>, Problem> {
    let (credits, draws) = billing.credits((&scope).into(), tenant).await?;
    let now = billing.now();
    let items = credits.into_iter().map(|credit| CreditView::new(credit, &draws, now)).collect();
    Ok(Json(CreditList { items, next_cursor: None }))
}

/// Grants a tenant a prepaid credit: drawn by its next invoices after taxes.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/credits", tag = "money",
    params(("tenant_id" = TenantId, Path)), request_body = CreditRequest,
    responses((status = 201, body = CreditView), (status = 404), (status = 409), (status = 422)))]
async fn create_credit(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
    Json(request): Json<CreditRequest>,
) -> Result<(StatusCode, Json<CreditView>), Problem> {
    let credit = billing.grant_credit((&scope).into(), scope.actor(), tenant, request).await?;
    Ok((StatusCode::CREATED, Json(CreditView::new(credit, &[], billing.now()))))
}
