//! What is left of bills when what tenants cost us is taken off.

use std::fmt::Write as _;

use axum::{
    extract::{FromRef, State},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Billing,
    costs::CostBook,
    error::Error,
    everybody::{Answer, ByCurrency, MarginOrder, MarginTotals, Place},
    everybody_http::{As, Walk, csv, file},
    http::month,
    margin::{CostLine, Margin, percent},
    views::PeriodView,
};
use crate::{
    kernel::{Currency, PageRequest, Quantity, TenantId, Timestamp, cell::cell, page::Cursor},
    store::Scope,
    web::{AdminScope, Json, PageQuery, Problem, Query, Verifier},
};

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Billing: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(read_margins))
}

/// Whose margins, when, and in which order.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MarginQuery {
    /// Of the period in which this month begins, as `2026-11`; of the running one when absent.
    period: Option<String>,
    /// Of one tenant; of all when absent.
    tenant_id: Option<String>,
    /// `margin`: what leaves least first; `-margin`: what leaves most. By tenant when absent.
    sort: Option<String>,
    /// Whether it is shown what costs how much; of one tenant it is unless `false`.
    lines: Option<bool>,
    /// Tenants on the page, 1 to 500; 50 when absent.
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What a tenant brings for a period.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevenueView {
    /// The plan's base, by time.
    base: String,
    usage: String,
    /// What was missing to the plan's commitment.
    commitment: String,
    /// What coupons take off.
    discounts: String,
    /// What was taken back with the period's invoice.
    voided: String,
    /// Without taxes; credit notes are not taken off.
    total: String,
}

/// What something costs.
#[derive(Debug, Serialize, ToSchema)]
pub struct CostLineView {
    /// `null` for what a tenant costs whatever it uses.
    meter: Option<String>,
    tier: String,
    /// The version of the cost rates; `null` where none has a rate.
    version: Option<u32>,
    period: PeriodView,
    quantity: Quantity,
    /// `null` where nobody said: then the cost is not zero but unknown.
    unit: Option<Quantity>,
    /// Exact.
    cost: Option<Quantity>,
}

impl From<CostLine> for CostLineView {
    fn from(line: CostLine) -> Self {
        Self {
            meter: line.meter.as_ref().map(ToString::to_string),
            tier: line.tier.to_string(),
            version: line.version,
            period: line.period.into(),
            quantity: line.quantity,
            cost: line.unit.map(|_| line.cost),
            unit: line.unit,
        }
    }
}

/// A tenant's margin.
#[derive(Debug, Serialize, ToSchema)]
pub struct MarginView {
    tenant_id: TenantId,
    /// In which it owes.
    currency: Currency,
    period: PeriodView,
    revenue: RevenueView,
    /// Rounded once.
    cost: String,
    cost_exact: Quantity,
    /// What is left.
    margin: String,
    /// Of a hundred, to two digits; `null` where nothing comes in.
    margin_percent: Option<Quantity>,
    /// Whether everything that was used has a cost rate, and the tenant itself one in its currency.
    complete: bool,
    /// What was used and has none: its cost is unknown, and not in `cost`.
    meters_without_cost: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<CostLineView>>,
}

impl MarginView {
    fn new(margin: Margin, lines: bool) -> Self {
        let unknown: Vec<String> = margin.unknown().into_iter().map(ToString::to_string).collect();
        let revenue = margin.revenue;
        Self {
            tenant_id: margin.tenant,
            currency: margin.amount.currency(),
            period: margin.period.into(),
            revenue: RevenueView {
                base: revenue.base.amount(),
                usage: revenue.usage.amount(),
                commitment: revenue.commitment.amount(),
                discounts: revenue.discounts.amount(),
                voided: revenue.voided.amount(),
                total: revenue.total.amount(),
            },
            cost: margin.cost.amount(),
            cost_exact: margin.cost_exact,
            margin: margin.amount.amount(),
            margin_percent: margin.percent(),
            complete: margin.is_complete(),
            meters_without_cost: unknown,
            lines: lines.then(|| margin.lines.into_iter().map(Into::into).collect()),
        }
    }
}

/// A tenant's margin, or why it could not be worked out.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum MarginItem {
    /// It.
    Known(Box<MarginView>),
    /// Not.
    Failed {
        /// Whose.
        tenant_id: TenantId,
        /// Why.
        error: String,
    },
}

impl MarginItem {
    fn new(answer: Answer<Margin>, lines: bool) -> Self {
        match answer.found {
            Ok(margin) => Self::Known(Box::new(MarginView::new(margin, lines))),
            Err(error) => Self::Failed { tenant_id: answer.tenant, error: error.to_string() },
        }
    }
}

/// What margins come to.
#[derive(Debug, Serialize, ToSchema)]
pub struct MarginTotalsView {
    currency: Currency,
    tenants: u64,
    /// Of so many the cost is not known, or not all of it.
    incomplete: u64,
    revenue: String,
    cost: String,
    margin: String,
    margin_percent: Option<Quantity>,
}

impl From<MarginTotals> for MarginTotalsView {
    fn from(totals: MarginTotals) -> Self {
        let MarginTotals { tenants, incomplete, revenue, cost, amount } = totals;
        Self {
            currency: revenue.currency(),
            tenants,
            incomplete,
            revenue: revenue.amount(),
            cost: cost.amount(),
            margin: amount.amount(),
            margin_percent: percent(amount, revenue),
        }
    }
}

/// A page of margins.
#[derive(Debug, Serialize, ToSchema)]
pub struct MarginList {
    /// That of the settings.
    currency: Currency,
    items: Vec<MarginItem>,
    /// Of those who owe in it on this page; with `sort`, of all such tenants.
    totals: MarginTotalsView,
    /// Of those who owe in other currencies, each by itself; absent where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other_currencies: Vec<MarginTotalsView>,
    next_cursor: Option<String>,
}

impl MarginList {
    fn new(items: Vec<MarginItem>, totals: &ByCurrency<MarginTotals>, next_cursor: Option<String>) -> Self {
        let other_currencies = totals.others().copied().map(Into::into).collect();
        let currency = totals.own.revenue.currency();
        Self { currency, items, totals: totals.own.into(), other_currencies, next_cursor }
    }
}

/// The columns of the CSV.
const COLUMNS: &str = "tenant_id,from,to,currency,base,usage,commitment,discounts,voided,revenue,cost,cost_exact,margin,\
                       margin_percent,complete,meters_without_cost,error\r\n";

fn record(item: &MarginItem) -> String {
    match item {
        MarginItem::Failed { tenant_id, error } => {
            format!("{tenant_id},,,,,,,,,,,,,,false,,{}\r\n", cell(error))
        }
        MarginItem::Known(own) => {
            let RevenueView { base, usage, commitment, discounts, voided, total } = &own.revenue;
            let percent = own.margin_percent.map(|percent| percent.to_string()).unwrap_or_default();
            let unknown = cell(&own.meters_without_cost.join(" "));
            let (PeriodView { from, to }, currency) = (&own.period, own.currency);
            let mut text = format!("{},{from},{to},{currency},{base},{usage},{commitment},", own.tenant_id);
            // Writing to a String cannot fail.
            let _ = write!(text, "{discounts},{voided},{total},{},{},{},", own.cost, own.cost_exact, own.margin);
            text + &format!("{percent},{},{unknown},\r\n", own.complete)
        }
    }
}

fn total_record(totals: MarginTotals) -> String {
    let complete = totals.incomplete == 0;
    let view = MarginTotalsView::from(totals);
    let percent = view.margin_percent.map(|percent| percent.to_string()).unwrap_or_default();
    let MarginTotalsView { currency, revenue, cost, margin, .. } = view;
    format!("total,,,{currency},,,,,,{revenue},{cost},,{margin},{percent},{complete},,\r\n")
}

/// Lists what is left of each tenant's bill of a period when what it costs us is taken off. With `Accept: text/csv` and without
/// `limit` and `sort` all are in one file, sent as they are worked out, with the totals as its last record.
#[utoipa::path(get, path = "/admin/v1/margin", tag = "money", params(MarginQuery),
    responses((status = 200, content((MarginList = "application/json"), (String = "text/csv"),
        (String = "application/x-ndjson"))), (status = 404), (status = 422)))]
async fn read_margins(
    scope: AdminScope,
    State(billing): State<Billing>,
    Query(query): Query<MarginQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let at = query.period.as_deref().map_or_else(|| Ok(billing.now()), month)?;
    let only = query.tenant_id.as_deref().map(str::parse).transpose();
    let only: Option<TenantId> = only.map_err(|error| Problem::invalid_field("tenant_id", error))?;
    let order = match query.sort.as_deref() {
        None => None,
        Some("margin") => Some(MarginOrder::Lowest),
        Some("-margin") => Some(MarginOrder::Highest),
        Some(_) => return Err(Problem::invalid_field("sort", "must be margin or -margin")),
    };
    let (scope, currency) = (Scope::from(&scope), billing.config().currency);
    let lines = query.lines.unwrap_or(only.is_some());
    let book = billing.costs(scope).await?;
    let form = As::accepted(&headers);
    if form != As::Json && order.is_none() && query.limit.is_none() && query.cursor.is_none() {
        let totals = ByCurrency::new(currency);
        return file(form, Everybody { billing, scope, at, book, only, lines, form, totals }).await;
    }
    let list = if let (Some(order), None) = (order, only) {
        let page: PageRequest = PageQuery { limit: query.limit, cursor: None }.try_into()?;
        let limit = usize::try_from(page.fetch_limit() - 1).unwrap_or_default();
        let after = query.cursor.as_deref().map(place).transpose()?;
        let page = billing.margins_ranked(scope, (at, &book), (order, after), limit).await?;
        let known = |margin| MarginItem::Known(Box::new(MarginView::new(margin, lines)));
        let next_cursor = page.next.map(|Place { currency, rank, tenant }| {
            let other = currency.map(|code| format!("{code}.")).unwrap_or_default();
            format!("{other}{rank}.{tenant}")
        });
        let items = page.items.into_iter().map(known).collect();
        MarginList::new(items, &page.totals, next_cursor)
    } else {
        let page = PageQuery { limit: query.limit, cursor: query.cursor }.try_into()?;
        let page = billing.margin_page(scope, (at, &book), only, page).await?;
        let mut totals = ByCurrency::new(currency);
        page.items.iter().for_each(|answer| totals.add(answer));
        let next_cursor = page.next_cursor.map(|cursor| cursor.to_string());
        let items = page.items.into_iter().map(|answer| MarginItem::new(answer, lines)).collect();
        MarginList::new(items, &totals, next_cursor)
    };
    if form == As::Csv {
        let records: String = list.items.iter().map(record).collect();
        return Ok(csv(COLUMNS.to_owned() + records.as_str()));
    }
    Ok(Json(list).into_response())
}

fn place(text: &str) -> Result<Place, Problem> {
    let read = |text: &str| {
        let (before, tenant) = text.rsplit_once('.')?;
        let (currency, rank) = match before.split_once('.') {
            Some((code, rank)) => (Some(code.parse::<Currency>().ok()?.code()), rank),
            None => (None, before),
        };
        Some(Place { currency, rank: rank.parse().ok()?, tenant: tenant.parse().ok()? })
    };
    read(text).ok_or_else(|| Problem::invalid_field("cursor", "is not a cursor this list gave"))
}

/// All tenants, one page of them at a time.
struct Everybody {
    billing: Billing,
    scope: Scope,
    at: Timestamp,
    book: CostBook,
    only: Option<TenantId>,
    lines: bool,
    form: As,
    totals: ByCurrency<MarginTotals>,
}

impl Walk for Everybody {
    fn head(&self) -> String {
        if self.form == As::Csv { COLUMNS.to_owned() } else { String::new() }
    }

    async fn page(&mut self, page: PageRequest) -> Result<(String, Option<Cursor>), Error> {
        let page = self.billing.margin_page(self.scope, (self.at, &self.book), self.only, page).await?;
        let mut records = String::new();
        for answer in page.items {
            self.totals.add(&answer);
            let item = MarginItem::new(answer, self.lines);
            records += &match self.form {
                As::Csv => record(&item),
                _ => serde_json::to_string(&item).unwrap_or_default() + "\n",
            };
        }
        Ok((records, page.next_cursor))
    }

    fn totals(&self) -> String {
        if self.form == As::Csv {
            return self.totals.all().copied().map(total_record).collect();
        }
        let mut line = serde_json::json!({"totals": MarginTotalsView::from(self.totals.own)});
        let others: Vec<MarginTotalsView> = self.totals.others().copied().map(Into::into).collect();
        if !others.is_empty() {
            line["other_currencies"] = serde_json::json!(others);
        }
        line.to_string() + "\n"
    }
}
