//! Plans, rating, bills and quotas.

use axum::extract::{FromRef, State};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Account, AddressBody, Bill, Billing, Effective, PlanVersion, costs_http, credit_note_http, invoice_http,
    margin_http,
    plan::{PlanBody, QuotaBody},
    terms_http,
    views::{BillView, RatedView},
    what_if_http,
    wire::RateRequest,
};
use crate::{
    kernel::{BillingAccountId, Currency, Faults, TenantId, TierName, Timestamp},
    store::Scope,
    web::{AdminScope, Json, Kind, Path, Problem, Query, TenantAccess, Verifier},
};

/// The routes.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Billing: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list_plans))
        .routes(routes!(read_plan, update_plan))
        .routes(routes!(rate_usage))
        .routes(routes!(read_bill))
        .routes(routes!(read_billing_account))
        .routes(routes!(update_quotas))
        .routes(routes!(read_own_bill))
        .merge(invoice_http::routes())
        .merge(costs_http::routes())
        .merge(credit_note_http::routes())
        .merge(margin_http::routes())
        .merge(what_if_http::routes())
        .merge(terms_http::routes())
}

/// A plan and from when it holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanView {
    #[serde(flatten)]
    plan: PlanBody,
    effective_from: Timestamp,
}

impl From<&PlanVersion> for PlanView {
    fn from(version: &PlanVersion) -> Self {
        Self { plan: PlanBody::from(&*version.plan), effective_from: version.effective_from }
    }
}

/// All plans in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanList {
    items: Vec<PlanView>,
    /// Always `null`: there are few plans.
    next_cursor: Option<String>,
}

/// A new version of a plan.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PlanUpdate {
    #[serde(flatten)]
    plan: serde_json::Map<String, serde_json::Value>,
}

/// Lists the plans in force.
#[utoipa::path(get, path = "/admin/v1/plans", tag = "catalogue", responses((status = 200, body = PlanList)))]
async fn list_plans(_: AdminScope, State(billing): State<Billing>) -> Json<PlanList> {
    let catalogue = billing.catalogue();
    let items = catalogue.tiers().filter_map(|tier| catalogue.at(tier, billing.now())).map(PlanView::from).collect();
    Json(PlanList { items, next_cursor: None })
}

fn no_plan(tier: &str) -> Problem {
    Problem::new(Kind::NOT_FOUND, format!("there is no plan for the tier {tier}"))
}

/// Reads the plan of a tier in force now.
#[utoipa::path(get, path = "/admin/v1/plans/{tier}", tag = "catalogue", params(("tier" = String, Path)),
    responses((status = 200, body = PlanView), (status = 404)))]
async fn read_plan(
    _: AdminScope,
    State(billing): State<Billing>,
    Path(tier): Path<String>,
) -> Result<Json<PlanView>, Problem> {
    let name: TierName = tier.parse().map_err(|_| no_plan(&tier))?;
    let catalogue = billing.catalogue();
    let version = catalogue.at(&name, billing.now()).ok_or_else(|| no_plan(&tier))?;
    Ok(Json(version.into()))
}

/// Makes a new version of a tier's plan, unless `effective` is `now` from the next month (UTC) on, and on bills from the next period of
/// each account on: periods that run are never cut. With `now` they are.
#[utoipa::path(put, path = "/admin/v1/plans/{tier}", tag = "catalogue", params(("tier" = String, Path)),
    request_body = PlanBody, responses((status = 200, body = PlanView), (status = 422)))]
async fn update_plan(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tier): Path<String>,
    Json(update): Json<PlanUpdate>,
) -> Result<Json<PlanView>, Problem> {
    let mut fields = update.plan;
    let effective = match fields.remove("effective").as_ref().map(|value| value.as_str()) {
        None | Some(Some("next_period")) => Effective::NextPeriod,
        Some(Some("now")) => Effective::Now,
        Some(_) => return Err(Problem::invalid_field("effective", "must be now or next_period")),
    };
    fields.remove("effective_from");
    let text = serde_json::Value::Object(fields).to_string();
    let mut body: PlanBody = crate::web::extract::from_json(text.as_bytes())?;
    if !body.tier.is_empty() && body.tier != tier {
        return Err(Problem::invalid_field("tier", "is not the tier of the path"));
    }
    body.tier = tier;
    let mut faults = Faults::new();
    let plan = body.parse("", 0, &mut faults);
    let plan = faults.finish(plan).map_err(|faults| Problem::invalid(&faults))?;
    let version = billing.put_plan((&scope).into(), scope.actor(), plan, effective).await?;
    Ok(Json((&version).into()))
}

/// Rates usage by prices; changes nothing.
#[utoipa::path(post, path = "/admin/v1/rate", tag = "catalogue", request_body = RateRequest,
    responses((status = 200, body = RatedView), (status = 422)))]
async fn rate_usage(_: AdminScope, Json(request): Json<RateRequest>) -> Result<Json<RatedView>, Problem> {
    let (currency, prices, usage, already) = request.parse().map_err(|faults| Problem::invalid(&faults))?;
    Ok(Json(Billing::rate(&prices, &usage, already.as_ref(), currency)?.into()))
}

/// The first instant of a month, such as `2026-11`.
pub(super) fn month(text: &str) -> Result<Timestamp, Problem> {
    let first = format!("{text}-01T00:00:00Z").parse();
    first.map_err(|_| Problem::invalid_field("period", "must be a month such as 2026-11"))
}

/// Which bill.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BillQuery {
    /// A time in the period that is asked for; now when absent.
    at: Option<String>,
    /// A month, as `2026-11`, instead of `at`: the period that begins in it in the account's zone, the first one if several do;
    /// 404 if none does.
    period: Option<String>,
}

impl BillQuery {
    async fn bill(&self, billing: &Billing, scope: Scope, tenant: TenantId) -> Result<Bill, Problem> {
        let at = match (&self.at, &self.period) {
            (None, None) => billing.now(),
            (Some(at), None) => at.parse().map_err(|error| Problem::invalid_field("at", error))?,
            (None, Some(month)) => {
                let first = format!("{month}-01").parse::<Date>().ok().filter(|first| first.year() > 0);
                let first = first.filter(|first| first.strftime("%Y-%m").to_string() == *month);
                let first = first.ok_or_else(|| Problem::invalid_field("period", "must be a month such as 2026-11"))?;
                return Ok(billing.bill_beginning_in(scope, tenant, first).await?);
            }
            (Some(_), Some(_)) => return Err(Problem::invalid_field("period", "cannot be combined with at")),
        };
        Ok(billing.bill(scope, tenant, at).await?)
    }
}

async fn bill(billing: &Billing, scope: Scope, tenant: TenantId, query: &BillQuery) -> Result<Json<BillView>, Problem> {
    Ok(Json(query.bill(billing, scope, tenant).await?.into()))
}

/// A tenant's running bill, or that of another period.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/bill", tag = "tenants",
    params(("tenant_id" = TenantId, Path), BillQuery), responses((status = 200, body = BillView), (status = 404), (status = 422)))]
async fn read_bill(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
    Query(query): Query<BillQuery>,
) -> Result<Json<BillView>, Problem> {
    bill(&billing, (&scope).into(), tenant, &query).await
}

/// The caller's running bill, or that of another period.
#[utoipa::path(get, path = "/v1/bill", tag = "tenant", params(BillQuery),
    responses((status = 200, body = BillView), (status = 404), (status = 422)))]
async fn read_own_bill(
    call: TenantAccess,
    State(billing): State<Billing>,
    Query(query): Query<BillQuery>,
) -> Result<Json<BillView>, Problem> {
    call.require_scope("usage:read")?;
    bill(&billing, (&call).into(), call.tenant, &query).await
}

/// A billing account.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountView {
    account_id: BillingAccountId,
    tenant_id: TenantId,
    billing_address: AddressBody,
    currency: Currency,
    /// `open` or `closed`.
    status: &'static str,
    opened_at: Timestamp,
    closed_at: Option<Timestamp>,
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        Self {
            account_id: account.id,
            tenant_id: account.tenant_id,
            billing_address: account.billing_address.body().clone(),
            currency: account.currency,
            status: if account.closed_at.is_some() { "closed" } else { "open" },
            opened_at: account.opened_at,
            closed_at: account.closed_at,
        }
    }
}

/// Reads a tenant's billing account.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/billing-account", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), responses((status = 200, body = AccountView), (status = 404)))]
async fn read_billing_account(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
) -> Result<Json<AccountView>, Problem> {
    Ok(Json(billing.account((&scope).into(), tenant).await?.into()))
}

/// Overrides the quotas of a tenant's plan; an empty list ends that.
#[utoipa::path(put, path = "/admin/v1/tenants/{tenant_id}/quotas", tag = "tenants",
    params(("tenant_id" = TenantId, Path)), request_body = Vec<QuotaBody>,
    responses((status = 200, body = Vec<QuotaBody>), (status = 404), (status = 422)))]
async fn update_quotas(
    scope: AdminScope,
    State(billing): State<Billing>,
    Path(tenant): Path<TenantId>,
    Json(bodies): Json<Vec<QuotaBody>>,
) -> Result<Json<Vec<QuotaBody>>, Problem> {
    let mut faults = Faults::new();
    let quotas: Vec<_> =
        bodies.iter().enumerate().map(|(index, body)| body.parse(&format!("[{index}]."), &mut faults)).collect();
    let quotas: Option<Vec<_>> = quotas.into_iter().collect();
    let quotas = faults.finish(quotas).map_err(|faults| Problem::invalid(&faults))?;
    billing.set_quotas((&scope).into(), scope.actor(), tenant, &quotas).await?;
    Ok(Json(bodies))
}
