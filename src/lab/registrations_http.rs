//! `/admin/v1/lab/registrations`: halting registrations at a place of their way, where a test kills the server, and letting a
//! step fail.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Lab;
use crate::{
    kernel::Faults,
    onboarding::{Point, Rig, Rigged},
    web::{AdminScope, Json, Problem},
};

pub(super) fn routes() -> OpenApiRouter<Lab> {
    OpenApiRouter::new().routes(routes!(read_registration_rig, rig_registrations))
}

/// What is to be wrong with registrations on this node from now on; what is absent is not.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RigBody {
    /// They halt at this place, one of `points`, until it is set to something else.
    halt_at: Option<String>,
    /// This step fails: `tenant`, `user`, `billing_account`, `provisioning` or `activation`.
    fail: Option<String>,
    /// Whether it fails for good, so that everything is taken back.
    #[serde(default)]
    lasting: bool,
    /// For so many tries; for all when absent.
    times: Option<u32>,
}

impl RigBody {
    fn parse(self) -> Result<Rig, Problem> {
        let mut faults = Faults::new();
        let halt_at = self.halt_at.map(|text| faults.parse("halt_at", &text));
        let step = self.fail.map(|text| faults.parse("fail", &text));
        if self.times == Some(0) {
            faults.add("times", "must be at least 1");
        }
        let fails = step.flatten().map(|step| Rigged { step, lasting: self.lasting, left: self.times });
        faults.finish(Some(Rig { halt_at: halt_at.flatten(), fails })).map_err(|faults| Problem::invalid(&faults))
    }
}

/// What is wrong with registrations, and where they can be halted.
#[derive(Debug, Serialize, ToSchema)]
pub struct RigView {
    halt_at: Option<String>,
    fail: Option<&'static str>,
    lasting: bool,
    times: Option<u32>,
    /// Every place of a registration's way, all the way forward and back.
    points: Vec<String>,
    /// Every place in the way of a tenant that is taken out.
    offboarding_points: Vec<String>,
}

impl RigView {
    fn of(lab: &Lab) -> Self {
        let Rig { halt_at, fails } = lab.points().rigged();
        Self {
            halt_at: halt_at.map(|point| point.to_string()),
            fail: fails.map(|fails| fails.step.name()),
            lasting: fails.is_some_and(|fails| fails.lasting),
            times: fails.and_then(|fails| fails.left),
            points: Point::all().iter().map(Point::to_string).collect(),
            offboarding_points: Point::leaving().iter().map(Point::to_string).collect(),
        }
    }
}

/// Says what is wrong with registrations, and where they can be halted.
#[utoipa::path(get, path = "/admin/v1/lab/registrations", tag = "lab", responses((status = 200, body = RigView)))]
async fn read_registration_rig(_: AdminScope, State(lab): State<Lab>) -> Json<RigView> {
    Json(RigView::of(&lab))
}

/// Sets what is wrong with registrations, in the place of what was; an empty object mends them.
#[utoipa::path(post, path = "/admin/v1/lab/registrations", tag = "lab", request_body = RigBody,
    responses((status = 200, body = RigView), (status = 422)))]
async fn rig_registrations(
    _: AdminScope,
    State(lab): State<Lab>,
    Json(body): Json<RigBody>,
) -> Result<Json<RigView>, Problem> {
    lab.points().rig(body.parse()?);
    Ok(Json(RigView::of(&lab)))
}
