//! The places in the way of a change of tier at which a test may stop it: the lab halts it there, and the test kills the process.
//! They are made from the steps, so that a new step has its places without anybody thinking of them.

use std::sync::Arc;

use tokio::sync::watch;

use super::{points::Phase, tier_model::ChangeStepName};

/// Between which parts of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TierPart {
    /// Taking the change in.
    Accept,
    /// A step.
    Step(ChangeStepName),
    /// Noting that a step failed, and what now.
    Failure,
    /// Taking it back.
    Undo,
}

impl TierPart {
    const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Step(step) => step.name(),
            Self::Failure => "failure",
            Self::Undo => "undo",
        }
    }
}

/// The places, as a service passes them; where changes halt, in a laboratory.
#[derive(Debug, Clone, Default)]
pub struct TierPoints(Arc<watch::Sender<Option<String>>>);

impl TierPoints {
    /// Every place there is, in the order in which a change comes by that goes all the way, and then of one that goes back.
    pub fn all() -> Vec<String> {
        let steps = ChangeStepName::ALL.into_iter().map(TierPart::Step);
        let parts = [TierPart::Accept].into_iter().chain(steps).chain([TierPart::Failure, TierPart::Undo]);
        parts.flat_map(|part| Phase::ALL.map(|phase| name(part, phase))).collect()
    }

    /// Lets changes halt there until it is set to something else; `false` where there is no such place.
    pub fn halt_at(&self, point: Option<String>) -> bool {
        let known = point.as_ref().is_none_or(|point| Self::all().contains(point));
        if known {
            self.0.send_replace(point);
        }
        known
    }

    /// Where they halt.
    pub fn halted_at(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Comes by a place.
    pub(super) async fn pass(&self, part: TierPart, phase: Phase) {
        if self.0.borrow().is_none() {
            return;
        }
        let point = Some(name(part, phase));
        if *self.0.borrow() == point {
            tracing::warn!(point, "the lab halts a change of tier");
            // An error says that there is nobody left to change it, while this is.
            drop(self.0.subscribe().wait_for(|halts| *halts != point).await);
        }
    }
}

fn name(part: TierPart, phase: Phase) -> String {
    format!("{}:{}", part.name(), phase.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_places_and_nothing_else_is_one() {
        let all = TierPoints::all();
        assert_eq!(all.len(), 3 * (3 + ChangeStepName::ALL.len()));
        let points = TierPoints::default();
        assert!(points.halt_at(Some("switch:acted".into())) && points.halted_at().is_some());
        assert!(!points.halt_at(Some("switch:later".into())) && points.halted_at().is_some());
        assert!(points.halt_at(None) && points.halted_at().is_none());
    }
}
