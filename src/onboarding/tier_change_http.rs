//! `POST /admin/v1/tenants/{id}/tier`: moving a tenant to another tier, or seeing what that would do; what became of it; and taking
//! down an old place that was kept.

use axum::{
    extract::{FromRef, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Move, Onboarding, TierAnswer, TierChange,
    tier_model::{ChangeStatus, ChangeStep},
};
use crate::{
    billing::TierSplit,
    kernel::{Currency, Faults, Isolation, TenantId, TierChangeId, Timestamp},
    provisioning::InfrastructureView,
    store::Scope,
    web::{AdminScope, Json, List, PageQuery, Path, Problem, Query, Verifier},
};

pub(super) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Onboarding: FromRef<S>,
    Verifier: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(change_tier))
        .routes(routes!(list_tier_changes))
        .routes(routes!(release_kept_place))
}

/// A change of tier.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TierChangeRequest {
    /// The tier to move to.
    tier: Option<String>,
    /// `true` says what would happen and changes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// What a change of tier did, or would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierAnswerView {
    tenant_id: TenantId,
    from_tier: String,
    tier: String,
    /// The tenant's state.
    status: &'static str,
    dry_run: bool,
    /// Which change it is; absent where there is nothing to change, and in a dry run.
    change_id: Option<TierChangeId>,
    /// How the change stands: `running`, `done`, `kept` or `undone`.
    change: Option<&'static str>,
    infrastructure: MoveView,
    /// How many of the tenant's rows go along, where the driver knows of any.
    rows: u64,
    steps: Vec<TierStepView>,
    /// What it comes to for the billing period that runs; absent where the tenant is not billed, or
    /// its bill has so many parts that working it out takes too long.
    money: Option<TierMoneyView>,
}

/// What happens to the infrastructure.
#[derive(Debug, Serialize, ToSchema)]
pub struct MoveView {
    /// `keep` or `move`.
    action: &'static str,
    isolation: Option<Isolation>,
    /// What was there before.
    from: Option<InfrastructureView>,
    /// What is there now; absent in a dry run, and until the tenant uses it.
    to: Option<InfrastructureView>,
}

/// A step of a change.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierStepView {
    /// `reserve`, `provision`, `copy`, `switch`, `drain` or `release`.
    name: &'static str,
    /// `planned` in a dry run; otherwise `pending`, `running`, `done`, `failed` or `undone`.
    status: &'static str,
    /// What it would do, in a dry run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    does: Vec<String>,
    /// How often it was tried.
    attempts: i64,
    /// Why it failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// When it is tried again, while it waits for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try_at: Option<Timestamp>,
    /// When it was last begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// When that came to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
}

/// How the bill of the period that runs is split, by what was used so far.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierMoneyView {
    currency: Currency,
    period_from: Timestamp,
    period_to: Timestamp,
    /// From when on the new tier is billed: the instant of the switch, to the minute, as usage is.
    switched_at: Timestamp,
    /// The period's total without the change.
    unchanged: String,
    /// The period's total with it.
    changed: String,
    /// Part by part.
    parts: Vec<TierPartView>,
}

/// A part of the period with one tier.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierPartView {
    tier: String,
    from: Timestamp,
    to: Timestamp,
    amount: String,
}

/// A change of a tenant's tier, as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierChangeView {
    change_id: TierChangeId,
    tenant_id: TenantId,
    from_tier: String,
    to_tier: String,
    /// `running`; `done`; `kept`: done, and the old place is kept, because somebody wrote there after the tenant had left;
    /// `undone`: the tenant kept its tier.
    status: &'static str,
    /// Whether it is being taken back.
    undoing: bool,
    /// Who asked for it.
    asked_by: String,
    steps: Vec<TierStepView>,
    /// How many rows went along.
    rows: Option<u64>,
    /// Where the tenant was.
    left: Option<String>,
    switched_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// What to do with an old place that was kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// `true` takes it down whatever is there; otherwise only if there is nothing that was not carried along.
    #[serde(default)]
    discard: bool,
}

impl From<Move> for MoveView {
    fn from(infrastructure: Move) -> Self {
        match infrastructure {
            Move::Kept(kept) => Self {
                action: "keep",
                isolation: kept.as_ref().map(|made| made.isolation),
                from: kept.clone().map(Into::into),
                to: kept.map(Into::into),
            },
            Move::Planned { from, to } => {
                Self { action: "move", isolation: Some(to), from: from.map(Into::into), to: None }
            }
            Move::Moved { from, to } => {
                Self { action: "move", isolation: Some(to.isolation), from: from.map(Into::into), to: Some(to.into()) }
            }
        }
    }
}

impl TierStepView {
    fn planned((name, does): (&'static str, Vec<String>)) -> Self {
        let (error, next_try_at, started_at, ended_at) = (None, None, None, None);
        Self { name, status: "planned", does, attempts: 0, error, next_try_at, started_at, ended_at }
    }
}

impl From<&ChangeStep> for TierStepView {
    fn from(step: &ChangeStep) -> Self {
        Self {
            name: step.name.name(),
            status: step.status.name(),
            does: Vec::new(),
            attempts: step.attempts,
            error: step.error.clone(),
            next_try_at: step.next_try_at,
            started_at: step.started_at,
            ended_at: step.ended_at,
        }
    }
}

impl From<TierSplit> for TierMoneyView {
    fn from(split: TierSplit) -> Self {
        let parts = split.parts.iter().map(|part| TierPartView {
            tier: part.tier.to_string(),
            from: part.period.from(),
            to: part.period.to(),
            amount: part.amount.amount(),
        });
        Self {
            currency: split.changed.currency(),
            period_from: split.period.from(),
            period_to: split.period.to(),
            switched_at: split.switched_at,
            unchanged: split.unchanged.amount(),
            changed: split.changed.amount(),
            parts: parts.collect(),
        }
    }
}

impl TierAnswerView {
    fn new(answer: TierAnswer, dry_run: bool) -> Self {
        let done = answer.change.iter().flat_map(|change| &change.steps).map(TierStepView::from);
        Self {
            tenant_id: answer.tenant.id,
            from_tier: answer.from.to_string(),
            tier: answer.to.to_string(),
            status: answer.tenant.status.name(),
            dry_run,
            change_id: answer.change.as_ref().map(|change| change.id),
            change: answer.change.as_ref().map(|change| change.status.name()),
            steps: done.chain(answer.planned.into_iter().map(TierStepView::planned)).collect(),
            infrastructure: answer.infrastructure.into(),
            rows: answer.rows,
            money: answer.money.map(Into::into),
        }
    }
}

impl From<TierChange> for TierChangeView {
    fn from(change: TierChange) -> Self {
        Self {
            change_id: change.id,
            tenant_id: change.tenant_id,
            from_tier: change.from.to_string(),
            to_tier: change.to.to_string(),
            status: change.status.name(),
            undoing: change.undoing,
            asked_by: change.actor.to_string(),
            steps: change.steps.iter().map(Into::into).collect(),
            rows: change.carried.as_ref().map(|carried| carried.rows),
            left: change.left.map(|left| left.location),
            switched_at: change.switched_at,
            created_at: change.created_at,
            updated_at: change.updated_at,
        }
    }
}

/// Moves a tenant to another tier, with its infrastructure. Its calls go on, and none fails of it.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/tier", tag = "tenants", request_body = TierChangeRequest,
    params(("tenant_id" = TenantId, Path)),
    responses((status = 200, body = TierAnswerView), (status = 404), (status = 422),
        (status = 202, body = TierAnswerView, description = "It goes on: `tier-changes` says how far it is."),
        (status = 409, description = "Another change is under way, or the rows cannot go along.")))]
async fn change_tier(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<TenantId>,
    Json(request): Json<TierChangeRequest>,
) -> Result<Response, Problem> {
    let mut faults = Faults::new();
    let tier = faults.require("tier", request.tier.as_deref());
    let tier = faults.finish(tier).map_err(|faults| Problem::invalid(&faults))?;
    let (actor, scope) = (scope.actor(), Scope::from(&scope));
    if request.dry_run {
        let answer = onboarding.plan_tier_change(scope, id, tier).await?;
        return Ok(Json(TierAnswerView::new(answer, true)).into_response());
    }
    let answer = onboarding.change_tier(scope, actor, id, tier).await?;
    let runs = answer.change.as_ref().is_some_and(|change| change.status == ChangeStatus::Running);
    let status = if runs { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(TierAnswerView::new(answer, false))).into_response())
}

/// Lists a tenant's changes of tier, oldest first, with how far each came.
#[utoipa::path(get, path = "/admin/v1/tenants/{tenant_id}/tier-changes", tag = "tenants",
    params(("tenant_id" = TenantId, Path), PageQuery),
    responses((status = 200, body = List<TierChangeView>), (status = 404), (status = 422)))]
async fn list_tier_changes(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path(id): Path<TenantId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<TierChangeView>>, Problem> {
    let page = onboarding.tier_changes((&scope).into(), id, query.try_into()?).await?;
    Ok(Json(List::of(page, TierChangeView::from)))
}

/// Takes down the old place of a change that was kept because somebody wrote there after the tenant had left.
#[utoipa::path(post, path = "/admin/v1/tenants/{tenant_id}/tier-changes/{change_id}/release", tag = "tenants",
    request_body = ReleaseRequest, params(("tenant_id" = TenantId, Path), ("change_id" = TierChangeId, Path)),
    responses((status = 200, body = TierChangeView), (status = 404),
        (status = 409, description = "Nothing was kept, or rows are there that were not carried along.")))]
async fn release_kept_place(
    scope: AdminScope,
    State(onboarding): State<Onboarding>,
    Path((id, change)): Path<(TenantId, TierChangeId)>,
    Json(request): Json<ReleaseRequest>,
) -> Result<Json<TierChangeView>, Problem> {
    let actor = scope.actor();
    let released = onboarding.release_place((&scope).into(), actor, (id, change), request.discard).await?;
    Ok(Json(released.into()))
}
