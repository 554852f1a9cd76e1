//! What tenants would owe by another plan.

use std::sync::Arc;

use axum::{
    extract::{FromRef, State},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Billing,
    error::Error,
    everybody::{Answer, ByCurrency, WhatIfTotals},
    everybody_http::{As, Walk, file},
    http::month,
    model::Bill,
    plan::PlanBody,
    spans::{Instead, Replacement},
    views::{BillLineView, PeriodView},
    what_if::{Compared, Range, WhatIf},
};
use crate::{
    kernel::{Currency, Faults, PageRequest, TenantId, Timestamp, cell::cell, page::Cursor},
    store::Scope,
    web::{AdminScope, Json, PageQuery, Problem, Verifier, extract::from_json},
};

/// In place of every tier.
const ALL: &str = "all";
/// What a plan without a tier is called.
const NAMELESS: &str = "whatif";

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Billing: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(what_if))
}

/// What if another plan had been in place.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfRequest {
    /// A plan, as `PUT /admin/v1/plans/{tier}` takes it; or `tier`.
    #[serde(default)]
    #[schema(value_type = Option<PlanBody>)]
    plan: Option<serde_json::Map<String, serde_json::Value>>,
    /// The plan of a tier, as it was at each time; or `plan`.
    #[serde(default)]
    tier: Option<String>,
    /// In place of which tier's plan, or `all`. When absent: a `plan` is in place of that of its tier, of all when it names
    /// none; a `tier` is in place of all.
    #[serde(default)]
    replace: Option<String>,
    /// Of one tenant; of all when absent.
    #[serde(default)]
    tenant_id: Option<String>,
    /// Of the period in which this month begins, as `2026-11`; of the running one when neither it nor `from` is there.
    #[serde(default)]
    period: Option<String>,
    /// Of all periods that have an instant from here on.
    #[serde(default)]
    from: Option<String>,
    /// And before here; now when absent.
    #[serde(default)]
    to: Option<String>,
    /// Whether the lines of both are shown.
    #[serde(default)]
    lines: bool,
    /// Tenants on the page, 1 to 500; 50 when absent.
    #[serde(default)]
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// What is owed and would be.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhatIfSums {
    /// By the plans that held: the bill, with what came late.
    as_billed: String,
    /// By the other plan.
    would_be: String,
    /// What that is more.
    difference: String,
}

/// A period of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhatIfPeriod {
    period: PeriodView,
    /// `open` while the period runs.
    status: &'static str,
    #[serde(flatten)]
    sums: WhatIfSums,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<WhatIfLines>,
}

/// The lines of both bills.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhatIfLines {
    as_billed: Vec<BillLineView>,
    /// Those by a plan that is no tier's have the version 0.
    would_be: Vec<BillLineView>,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhatIfTenant {
    tenant_id: TenantId,
    /// In which it owes.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
    #[serde(flatten)]
    sums: Option<WhatIfSums>,
    periods: Vec<WhatIfPeriod>,
    /// Why it could not be worked out for this tenant, and then there is nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Of tenants that owe in one currency, on the page or in the file.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhatIfTotalsView {
    currency: Currency,
    /// With those for whom it could not be worked out.
    tenants: u64,
    /// So many.
    failed: u64,
    #[serde(flatten)]
    sums: WhatIfSums,
}

/// A page of tenants.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhatIfView {
    /// That of the settings.
    currency: Currency,
    items: Vec<WhatIfTenant>,
    /// Of those who owe in it on this page, and of those for whom it could not be worked out.
    totals: WhatIfTotalsView,
    /// Of those who owe in other currencies, each by itself; absent where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other_currencies: Vec<WhatIfTotalsView>,
    next_cursor: Option<String>,
}

fn sums(billed: crate::kernel::Money, would_be: crate::kernel::Money) -> Result<WhatIfSums, Error> {
    let difference = would_be.sub(billed)?.amount();
    Ok(WhatIfSums { as_billed: billed.amount(), would_be: would_be.amount(), difference })
}

fn totals(totals: &WhatIfTotals) -> Result<WhatIfTotalsView, Error> {
    let WhatIfTotals { tenants, failed, billed, would_be } = *totals;
    Ok(WhatIfTotalsView { currency: billed.currency(), tenants, failed, sums: sums(billed, would_be)? })
}

fn tenant(answer: Answer<Compared>, lines: bool) -> Result<WhatIfTenant, Error> {
    let tenant_id = answer.tenant;
    let compared = match answer.found {
        Ok(compared) => compared,
        Err(error) => {
            let (periods, error) = (Vec::new(), Some(error.to_string()));
            return Ok(WhatIfTenant { tenant_id, currency: None, sums: None, periods, error });
        }
    };
    let ((billed, would_be), currency) = (compared.sums()?, Some(compared.currency));
    let views = |bill: Bill| bill.lines.into_iter().map(Into::into).collect();
    let period = |(is, would): (Bill, Bill)| {
        Ok::<_, Error>(WhatIfPeriod {
            period: is.period.into(),
            status: is.status.name(),
            sums: sums(is.total, would.total)?,
            lines: lines.then(|| WhatIfLines { as_billed: views(is), would_be: views(would) }),
        })
    };
    let periods = compared.periods.into_iter().map(period).collect::<Result<_, _>>()?;
    Ok(WhatIfTenant { tenant_id, currency, sums: Some(sums(billed, would_be)?), periods, error: None })
}

impl WhatIfRequest {
    fn replacement(&self) -> Result<Replacement, Problem> {
        let of = |text: &str| match text {
            ALL => Ok(None),
            tier => tier.parse().map(Some).map_err(|error| Problem::invalid_field("replace", error)),
        };
        match (&self.plan, &self.tier) {
            (None, Some(tier)) => {
                let tier = tier.parse().map_err(|error| Problem::invalid_field("tier", error))?;
                Ok(Replacement { of: of(self.replace.as_deref().unwrap_or(ALL))?, by: Instead::Tier(tier) })
            }
            (Some(fields), None) => {
                let mut fields = fields.clone();
                // As in a PUT, where they mean something.
                for name in ["effective", "effective_from"] {
                    fields.remove(name);
                }
                let text = serde_json::Value::Object(fields).to_string();
                let mut body: PlanBody = from_json(text.as_bytes())?;
                let replace = self
                    .replace
                    .clone()
                    .unwrap_or_else(|| if body.tier.is_empty() { ALL.to_owned() } else { body.tier.clone() });
                if body.tier.is_empty() {
                    let name = if replace == ALL { NAMELESS } else { replace.as_str() };
                    name.clone_into(&mut body.tier);
                }
                let mut faults = Faults::new();
                let plan = body.parse("plan.", 0, &mut faults);
                let plan = faults.finish(plan).map_err(|faults| Problem::invalid(&faults))?;
                Ok(Replacement { of: of(&replace)?, by: Instead::Plan(Arc::new(plan)) })
            }
            _ => Err(Problem::invalid_field("plan", "either it or tier must be there")),
        }
    }

    fn range(&self, now: Timestamp) -> Result<Range, Problem> {
        let time = |field: &str, text: &str| text.parse().map_err(|error| Problem::invalid_field(field, error));
        match (&self.period, &self.from, &self.to) {
            (None, None, None) => Ok(Range::At(now)),
            (Some(period), None, None) => Ok(Range::At(month(period)?)),
            (None, Some(from), to) => {
                let to = to.as_deref().map_or(Ok(now), |to| time("to", to))?;
                Ok(Range::within(time("from", from)?, to)?)
            }
            (Some(_), ..) => Err(Problem::invalid_field("period", "cannot be combined with from and to")),
            (None, None, Some(_)) => Err(Problem::invalid_field("from", "is required with to")),
        }
    }
}

/// Works out what tenants would owe by another plan, from the usage that they had, and changes nothing. JSON is a page of
/// tenants; with `Accept: application/x-ndjson` or `text/csv` all are in one answer, sent as they are worked out, with the totals at
/// its end.
#[utoipa::path(post, path = "/admin/v1/what-if", tag = "money", request_body = WhatIfRequest,
    responses((status = 200, content((WhatIfView = "application/json"), (String = "application/x-ndjson"),
        (String = "text/csv"))), (status = 404), (status = 422)))]
async fn what_if(
    scope: AdminScope,
    State(billing): State<Billing>,
    headers: HeaderMap,
    Json(request): Json<WhatIfRequest>,
) -> Result<Response, Problem> {
    let question = billing.what_if(request.replacement()?, request.range(billing.now())?)?;
    let only = request.tenant_id.as_deref().map(str::parse).transpose();
    let only: Option<TenantId> = only.map_err(|error| Problem::invalid_field("tenant_id", error))?;
    let (scope, lines, currency) = (Scope::from(&scope), request.lines, billing.config().currency);
    let all: ByCurrency<WhatIfTotals> = ByCurrency::new(currency);
    let form = As::accepted(&headers);
    if form != As::Json {
        return file(form, Question { billing, scope, asked: question, only, lines, form, totals: all }).await;
    }
    let page = PageQuery { limit: request.limit, cursor: request.cursor }.try_into()?;
    let page = billing.compare_page(scope, &question, only, page).await?;
    let (mut items, mut of_page) = (Vec::new(), all);
    for answer in page.items {
        of_page.add(&answer);
        items.push(tenant(answer, lines)?);
    }
    let next_cursor = page.next_cursor.map(|cursor| cursor.to_string());
    let (own, other_currencies) = (totals(&of_page.own)?, of_page.others().map(totals).collect::<Result<_, _>>()?);
    Ok(Json(WhatIfView { currency, items, totals: own, other_currencies, next_cursor }).into_response())
}

/// All tenants, one page of them at a time.
struct Question {
    billing: Billing,
    scope: Scope,
    asked: WhatIf,
    only: Option<TenantId>,
    lines: bool,
    form: As,
    totals: ByCurrency<WhatIfTotals>,
}

impl Question {
    fn record(&self, tenant: &WhatIfTenant) -> String {
        if self.form == As::Lines {
            return serde_json::to_string(tenant).unwrap_or_default() + "\n";
        }
        let sums = tenant.sums.as_ref();
        let sums = sums.map_or([""; 3], |sums| [&sums.as_billed, &sums.would_be, &sums.difference].map(String::as_str));
        let error = cell(tenant.error.as_deref().unwrap_or_default());
        let currency = tenant.currency.map(Currency::code).unwrap_or_default();
        format!("{},{currency},{},{error}\r\n", tenant.tenant_id, sums.join(","))
    }
}

impl Walk for Question {
    fn head(&self) -> String {
        match self.form {
            As::Csv => "tenant_id,currency,as_billed,would_be,difference,error\r\n".to_owned(),
            _ => String::new(),
        }
    }

    async fn page(&mut self, page: PageRequest) -> Result<(String, Option<Cursor>), Error> {
        let page = self.billing.compare_page(self.scope, &self.asked, self.only, page).await?;
        let mut records = String::new();
        for answer in page.items {
            self.totals.add(&answer);
            let tenant = tenant(answer, self.lines)?;
            records += &self.record(&tenant);
        }
        Ok((records, page.next_cursor))
    }

    fn totals(&self) -> String {
        // What could be added up can be taken apart.
        let all: Result<Vec<_>, _> = self.totals.all().map(totals).collect();
        let Ok(mut all) = all else { return String::new() };
        if self.form == As::Lines {
            let others = all.split_off(1);
            let mut line = serde_json::json!({"totals": all[0]});
            if !others.is_empty() {
                line["other_currencies"] = serde_json::json!(others);
            }
            return line.to_string() + "\n";
        }
        let record = |WhatIfTotalsView { currency, sums, .. }| {
            let WhatIfSums { as_billed, would_be, difference } = sums;
            format!("total,{currency},{as_billed},{would_be},{difference},\r\n")
        };
        all.into_iter().map(record).collect()
    }
}
