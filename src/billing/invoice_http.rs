//! Invoices, for the administrator and for the tenant whose they are. What changes them besides issuing is onboarding's,
//! because it may change a tenant's state, too.

use axum::{
    extract::{FromRef, State},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Billing,
    explaining::{Asked, read_cursor},
    form_http,
    forms::Form,
    invoice::{Invoice, InvoiceState},
    invoice_views::{ExplanationView, InvoiceDetailView, InvoiceView},
};
use crate::{
    kernel::{CalendarUnit, InvoiceId, PageRequest, TenantId},
    store::{InvoiceFilter, Scope},
    web::{AdminScope, Json, Kind, List, PageQuery, Path, Problem, Query, TenantAccess, Verifier},
};

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Billing: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list_invoices))
        .routes(routes!(read_invoice))
        .routes(routes!(finalize_invoice))
        .routes(routes!(explain_invoice_line))
        .routes(routes!(list_tenant_invoices))
        .routes(routes!(list_own_invoices))
        .routes(routes!(read_own_invoice))
}

/// Which invoices.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InvoiceQuery {
    /// Of this tenant; everybody's when absent.
    tenant_id: Option<String>,
    /// `draft`, `finalized`, `overdue`, `paid` or `void`.
    status: Option<String>,
    /// Items on the page, 1 to 500; 50 when absent.
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which invoices of one tenant.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatusQuery {
    /// `draft`, `finalized`, `overdue`, `paid` or `void`.
    status: Option<String>,
    /// Items on the page, 1 to 500; 50 when absent.
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl StatusQuery {
    fn parse(self, tenant: Option<TenantId>, issued: bool) -> Result<(InvoiceFilter, PageRequest), Problem> {
        let known = |status: String| {
            let found = InvoiceState::NAMES.into_iter().find(|name| *name == status);
            found.ok_or_else(|| {
                Problem::invalid_field("status", format!("must be one of {}", InvoiceState::NAMES.join(", ")))
            })
        };
        let status = self.status.map(known).transpose()?;
        let page = PageQuery { limit: self.limit, cursor: self.cursor }.try_into()?;
        Ok((InvoiceFilter { tenant, status, issued }, page))
    }
}

async fn list(
    billing: &Billing,
    scope: Scope,
    (filter, page): (InvoiceFilter, PageRequest),
) -> Result<Json<List<InvoiceView>>, Problem> {
    let page = billing.invoices(scope, filter, page).await?;
    let next_cursor = page.next_cursor.map(|cursor| cursor.to_string());
    let items = page.items.iter().map(InvoiceView::try_from).collect::<Result<_, _>>()?;
    Ok(Json(List { items, next_cursor }))
}

async fn detail(billing: &Billing, scope: Scope, invoice: &Invoice) -> Result<Json<InvoiceDetailView>, Problem> {
    Ok(Json(InvoiceDetailView::new(invoice, billing.settlement(scope, invoice.id).await?)?))
}

/// Lists invoices of everybody, or of one tenant, oldest first.
#[utoipa::path(get, path = "/admin/v1/invoices", tag = "money", params(InvoiceQuery),
    responses((status = 200, body = List<InvoiceView>), (status = 404), (status = 422)))]
async fn list_invoices(
    scope: AdminScope,
    State(billing): State<Billing>,
    Query(query): Query<InvoiceQuery>,
) -> Result<Json<List<InvoiceView>>, Problem> {
    let InvoiceQuery { tenant_id, status, limit, cursor } = query;
    let tenant = tenant_id.as_deref().map(str::parse).transpose();
    let tenant = tenant.map_err(|error| Problem::invalid_field("tenant_id", error))?;
    list(&billing, (&scope).into(), StatusQuery { status, limit, cursor }.parse(tenant, false)?).await
}

/// Lists a tenant's invoices, oldest first.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/invoices", tag = "money",
    params(("tenant_id" = TenantId, Path), StatusQuery),
    responses((status = 200, body = List<InvoiceView>), (status = 404), (status = 422)))]
async fn list_tenant_invoices(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
    Query(query): Query<StatusQuery>,
) -> Result<Json<List<InvoiceView>>, Problem> {
    list(&billing, (&scope).into(), query.parse(Some(tenant), false)?).await
}

/// Reads an invoice, with its payments and credit notes. As CSV, HTML or PDF when the id ends in `.csv`, `.html` or `.pdf`, or
/// `Accept` names one of them.
#[utoipa::path(get, path = "/admin/v1/invoices/{invoice_id}", tag = "money", params(("invoice_id" = InvoiceId, Path)),
    responses((status = 200, content((InvoiceDetailView = "application/json"), (String = "text/csv"), (String = "text/html"),
        (Vec<u8> = "application/pdf"))), (status = 404), (status = 409, description = "It cannot be printed.")))]
async fn read_invoice(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(asked): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (id, form) = form_http::asked_for::<InvoiceId>("invoice", &asked, &headers)?;
    let invoice = billing.invoice((&scope).into(), id).await?;
    show(&billing, (&scope).into(), &invoice, form).await
}

async fn show(billing: &Billing, scope: Scope, invoice: &Invoice, form: Option<Form>) -> Result<Response, Problem> {
    match form {
        None => Ok(detail(billing, scope, invoice).await?.into_response()),
        Some(form) => form_http::answer(billing.printed(scope, invoice, form).await?),
    }
}

/// Issues a draft without waiting for late usage. An invoice that is issued stays as it is.
#[utoipa::path(post, path = "/admin/v1/invoices/{invoice_id}/finalize", tag = "money",
    params(("invoice_id" = InvoiceId, Path)),
    responses((status = 200, body = InvoiceDetailView), (status = 404), (status = 409)))]
async fn finalize_invoice(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(id): Path<InvoiceId>,
) -> Result<Json<InvoiceDetailView>, Problem> {
    let invoice = billing.finalize((&scope).into(), scope.actor(), id).await?;
    detail(&billing, (&scope).into(), &invoice).await
}

/// How a line is explained.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    /// `day` (when absent), `hour` or `minute`, in UTC.
    window: Option<String>,
    /// Events on the page, 1 to 500; 50 when absent.
    limit: Option<u16>,
    /// `events.next_cursor` of the page before.
    cursor: Option<String>,
}

impl ExplainQuery {
    fn parse(self, line: usize) -> Result<Asked, Problem> {
        let window = match self.window.as_deref() {
            None | Some("day") => CalendarUnit::Day,
            Some("hour") => CalendarUnit::Hour,
            Some("minute") => CalendarUnit::Minute,
            Some(_) => return Err(Problem::invalid_field("window", "must be day, hour or minute")),
        };
        let most = match self.limit {
            None => 50,
            Some(limit @ 1..=500) => usize::from(limit),
            Some(_) => return Err(Problem::invalid_field("limit", "must be from 1 to 500")),
        };
        let unread = || Problem::invalid_field("cursor", "must be events.next_cursor of the page before");
        let after = self.cursor.map(|text| read_cursor(&text).ok_or_else(unread)).transpose()?;
        Ok(Asked { line, window, after, most })
    }
}

/// Explains a line of an invoice: which windows have its usage, which events they are made of, and the arithmetic.
#[utoipa::path(get, path = "/admin/v1/invoices/{invoice_id}/lines/{line}/explain", tag = "money",
    params(("invoice_id" = InvoiceId, Path), ("line" = String, Path, description = "Counted from 1."), ExplainQuery),
    responses((status = 200, body = ExplanationView), (status = 404), (status = 422)))]
async fn explain_invoice_line(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path((id, line)): Path<(InvoiceId, String)>,
    Query(query): Query<ExplainQuery>,
) -> Result<Json<ExplanationView>, Problem> {
    // What is no number is the number of no line.
    let asked = query.parse(line.parse().unwrap_or(0))?;
    Ok(Json(billing.explain((&scope).into(), id, asked).await?.into()))
}

/// Lists the caller's invoices that are issued, oldest first.
#[utoipa::path(get, path = "/v1/invoices", tag = "tenant", params(StatusQuery),
    responses((status = 200, body = List<InvoiceView>), (status = 403), (status = 422)))]
async fn list_own_invoices(
    call: TenantAccess,
    State(billing): State<Billing>,
    Query(query): Query<StatusQuery>,
) -> Result<Json<List<InvoiceView>>, Problem> {
    call.require_scope("usage:read")?;
    list(&billing, (&call).into(), query.parse(Some(call.tenant), true)?).await
}

/// Reads one of the caller's invoices that is issued. As CSV, HTML or PDF when the id ends in `.csv`, `.html` or `.pdf`, or
/// `Accept` names one of them.
#[utoipa::path(get, path = "/v1/invoices/{invoice_id}", tag = "tenant", params(("invoice_id" = InvoiceId, Path)),
    responses((status = 200, content((InvoiceDetailView = "application/json"), (String = "text/csv"), (String = "text/html"),
        (Vec<u8> = "application/pdf"))), (status = 403), (status = 404),
        (status = 409, description = "It cannot be printed.")))]
async fn read_own_invoice(
    call: TenantAccess,
    State(billing): State<Billing>,
    Path(asked): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    call.require_scope("usage:read")?;
    let (id, form) = form_http::asked_for::<InvoiceId>("invoice", &asked, &headers)?;
    let invoice = billing.invoice((&call).into(), id).await?;
    // What it says may still change; the running bill shows it.
    if invoice.issue.is_none() {
        return Err(Problem::new(Kind::NOT_FOUND, format!("there is no invoice {id}")));
    }
    show(&billing, (&call).into(), &invoice, form).await
}
