//! Cost rates.

use axum::extract::{FromRef, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Billing,
    costs::{Costs, CostsBody, FixedCostBody, MeterCostBody},
};
use crate::{
    kernel::Timestamp,
    web::{AdminScope, Json, Problem, Verifier},
};

/// The routes.
pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Billing: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(read_costs, update_costs))
}

/// A new version of the cost rates: all of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CostsUpdate {
    /// ISO 4217: the rates are for tenants that owe in it.
    currency: String,
    /// Of usage.
    #[serde(default)]
    meters: Vec<MeterCostBody>,
    /// Of a tenant and period, whatever it uses.
    #[serde(default)]
    fixed: Vec<FixedCostBody>,
    /// From when they hold, in the past as well; from this minute on when absent.
    #[serde(default)]
    effective_from: Option<String>,
}

/// A version of the cost rates.
#[derive(Debug, Serialize, ToSchema)]
pub struct CostsView {
    version: u32,
    /// It holds from then on, whatever earlier versions in its currency say of later times. The first one holds before, too.
    effective_from: Timestamp,
    #[serde(flatten)]
    costs: CostsBody,
}

impl From<&Costs> for CostsView {
    fn from(costs: &Costs) -> Self {
        Self { version: costs.version, effective_from: costs.effective_from, costs: costs.into() }
    }
}

/// All versions of the cost rates.
#[derive(Debug, Serialize, ToSchema)]
pub struct CostsList {
    /// The one in the currency of the settings that holds now; `null` where nobody said what anything costs.
    in_force: Option<CostsView>,
    /// All of them, oldest first.
    items: Vec<CostsView>,
    /// Always `null`: there are few.
    next_cursor: Option<String>,
}

/// Reads what usage and tenants cost us, in all versions.
#[utoipa::path(get, path = "/admin/v1/costs", tag = "money", responses((status = 200, body = CostsList)))]
async fn read_costs(scope: AdminScope, State(billing): State<Billing>) -> Result<Json<CostsList>, Problem> {
    let book = billing.costs((&scope).into()).await?;
    let in_force = book.within(billing.config().currency).at(billing.now()).map(Into::into);
    Ok(Json(CostsList { in_force, items: book.0.iter().map(Into::into).collect(), next_cursor: None }))
}

/// Makes a new version of what usage and tenants cost us. Margins of times from which it holds are worked out by it.
#[utoipa::path(put, path = "/admin/v1/costs", tag = "money", request_body = CostsUpdate,
    responses((status = 200, body = CostsView), (status = 409), (status = 422)))]
async fn update_costs(
    scope: AdminScope,
    State(billing): State<Billing>,
    Json(update): Json<CostsUpdate>,
) -> Result<Json<CostsView>, Problem> {
    let CostsUpdate { currency, meters, fixed, effective_from } = update;
    let effective_from = effective_from.as_deref().map(str::parse).transpose();
    let effective_from = effective_from.map_err(|error| Problem::invalid_field("effective_from", error))?;
    let body = CostsBody { currency, meters, fixed };
    let costs = billing.put_costs((&scope).into(), scope.actor(), &body, effective_from).await?;
    Ok(Json((&costs).into()))
}
