//! `/admin/v1/lab/tier-changes`: halting changes of tier at a place of their way, where a test kills the server.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Lab;
use crate::{
    onboarding::TierPoints,
    web::{AdminScope, Json, Problem},
};

pub(super) fn routes() -> OpenApiRouter<Lab> {
    OpenApiRouter::new().routes(routes!(read_tier_change_halt, halt_tier_changes))
}

/// Where changes of tier are to halt on this node from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HaltBody {
    /// One of `points`, until it is set to something else; nowhere when absent.
    halt_at: Option<String>,
}

/// Where changes of tier halt, and where they can be halted.
#[derive(Debug, Serialize, ToSchema)]
pub struct HaltView {
    halt_at: Option<String>,
    /// Every place of a change's way, all the way forward, and back.
    points: Vec<String>,
}

impl HaltView {
    fn of(lab: &Lab) -> Self {
        Self { halt_at: lab.points().changes.halted_at(), points: TierPoints::all() }
    }
}

/// Says where changes of tier halt, and where they can be halted.
#[utoipa::path(get, path = "/admin/v1/lab/tier-changes", tag = "lab", responses((status = 200, body = HaltView)))]
async fn read_tier_change_halt(_: AdminScope, State(lab): State<Lab>) -> Json<HaltView> {
    Json(HaltView::of(&lab))
}

/// Sets where changes of tier halt; an empty object lets them go on.
#[utoipa::path(post, path = "/admin/v1/lab/tier-changes", tag = "lab", request_body = HaltBody,
    responses((status = 200, body = HaltView), (status = 422)))]
async fn halt_tier_changes(
    _: AdminScope,
    State(lab): State<Lab>,
    Json(body): Json<HaltBody>,
) -> Result<Json<HaltView>, Problem> {
    if lab.points().changes.halt_at(body.halt_at) {
        Ok(Json(HaltView::of(&lab)))
    } else {
        Err(Problem::invalid_field("halt_at", "is no place in the way of a change".to_owned()))
    }
}
