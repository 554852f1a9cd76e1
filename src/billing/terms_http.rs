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
    invoice_views::{CouponView, CreditView},
    terms::{CouponRequest, CreditRequest, TermsBody, TermsPatch},
};
use crate::{
    kernel::{CouponId, TenantId},
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

/// Reads which taxes a tenant's invoices have.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/billing", tag = "money",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = TermsBody), (status = 404)))]
async fn read_billing_terms(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<TermsBody>, Problem> {
    Ok(Json((&billing.terms((&scope).into(), tenant).await?).into()))
}

/// Sets which taxes a tenant's invoices have, from the next one on. What is absent stays.
#[utoipa::path(patch, path = "/admin/v1/tenants/{tenant_id}/billing", tag = "money",
    params(("tenant_id" = TenantId, Path)), request_body = TermsPatch,
    responses((status = 200, body = TermsBody), (status = 404), (status = 422)))]
async fn update_billing_terms(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
    Json(patch): Json<TermsPatch>,
) -> Result<Json<TermsBody>, Problem> {
    Ok(Json((&billing.change_terms((&scope).into(), scope.actor(), tenant, patch).await?).into()))
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
