//! The places in a registration's way at which a test may stop it: the lab halts it there, and the test kills the process.
//! They are made from the steps, so that a new step has its places without anybody thinking of them.

use std::{fmt, str::FromStr, sync::Arc};

use tokio::sync::watch;

use super::{leaving::LeavingStep, model::StepName, tier_points::TierPoints};

/// Between which parts of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Taking the registration in.
    Accept,
    /// A step.
    Step(StepName),
    /// Noting that a step failed, and what now.
    Failure,
    /// Taking a step back.
    Undo(StepName),
    /// Beginning to take a tenant out.
    Leave,
    /// A step of that.
    Leaving(LeavingStep),
}

/// Where in such a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of it is done yet.
    Begun,
    /// It is done, and not yet written for good.
    Acted,
    /// It is written.
    Written,
}

impl Phase {
    pub(super) const ALL: [Self; 3] = [Self::Begun, Self::Acted, Self::Written];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Acted => "acted",
            Self::Written => "written",
        }
    }
}

/// A place in a registration's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Between which.
    pub part: Part,
    /// Where in it.
    pub phase: Phase,
}

impl Point {
    /// Every place there is, in the order in which a registration comes by, which goes all the way and back.
    pub fn all() -> Vec<Self> {
        let steps = || StepName::ALL.iter().copied();
        let parts = [Part::Accept].into_iter().chain(steps().map(Part::Step));
        let parts = parts.chain([Part::Failure]).chain(steps().rev().map(Part::Undo));
        parts.flat_map(|part| Phase::ALL.map(|phase| Self { part, phase })).collect()
    }

    /// Every place in the way of a tenant that is taken out, in order.
    pub fn leaving() -> Vec<Self> {
        let parts = [Part::Leave].into_iter().chain(LeavingStep::ALL.iter().copied().map(Part::Leaving));
        parts.flat_map(|part| Phase::ALL.map(|phase| Self { part, phase })).collect()
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Accept => f.write_str("accept")?,
            Part::Step(name) => f.write_str(name.name())?,
            Part::Failure => f.write_str("failure")?,
            Part::Undo(name) => write!(f, "undo_{}", name.name())?,
            Part::Leave => f.write_str("leave")?,
            Part::Leaving(name) => write!(f, "leave_{}", name.name())?,
        }
        write!(f, ":{}", self.phase.name())
    }
}

/// Not the name of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no place in a registration's way")]
pub struct UnknownPoint;

impl FromStr for Point {
    type Err = UnknownPoint;

    fn from_str(text: &str) -> Result<Self, UnknownPoint> {
        Self::all().into_iter().chain(Self::leaving()).find(|point| point.to_string() == text).ok_or(UnknownPoint)
    }
}

/// A step that is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rigged {
    /// Which.
    pub step: StepName,
    /// Whether it fails for good.
    pub lasting: bool,
    /// For how many more tries; `None` for all.
    pub left: Option<u32>,
}

/// What is wrong with registrations in a laboratory: nothing, anywhere else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rig {
    /// They halt here, until this is something else.
    pub halt_at: Option<Point>,
    /// This fails.
    pub fails: Option<Rigged>,
}

/// The places, as a service passes them.
#[derive(Debug, Clone, Default)]
pub struct Points {
    registrations: Arc<watch::Sender<Rig>>,
    /// Those of changes of tier.
    pub changes: TierPoints,
}

impl Points {
    /// Sets what is wrong.
    pub fn rig(&self, rig: Rig) {
        self.registrations.send_replace(rig);
    }

    /// What is wrong.
    pub fn rigged(&self) -> Rig {
        *self.registrations.borrow()
    }

    /// Comes by a place.
    pub(super) async fn pass(&self, part: Part, phase: Phase) {
        let point = Point { part, phase };
        if self.rigged().halt_at == Some(point) {
            tracing::warn!(%point, "the lab halts a registration");
            // An error says that there is nobody left to change it, while this is.
            drop(self.registrations.subscribe().wait_for(|rig| rig.halt_at != Some(point)).await);
        }
    }

    /// Whether a step is to fail now, and whether for good.
    pub(super) fn fails(&self, step: StepName) -> Option<bool> {
        let mut lasting = None;
        self.registrations.send_if_modified(|rig| {
            let Some(fails) = rig.fails.as_mut().filter(|fails| fails.step == step) else { return false };
            lasting = Some(fails.lasting);
            match &mut fails.left {
                None => {}
                Some(0 | 1) => rig.fails = None,
                Some(left) => *left -= 1,
            }
            true
        });
        lasting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_places_both_ways_and_a_name_is_read_as_it_is_written() {
        let all = Point::all();
        assert_eq!(all.len(), 3 * (2 + 2 * StepName::ALL.len()));
        for point in all.into_iter().chain(Point::leaving()) {
            assert_eq!(point.to_string().parse(), Ok(point));
        }
        assert_eq!("tenant:later".parse::<Point>(), Err(UnknownPoint));
    }

    #[test]
    fn a_step_fails_as_often_as_was_asked() {
        let points = Points::default();
        let step = StepName::User;
        points.rig(Rig { fails: Some(Rigged { step, lasting: false, left: Some(2) }), halt_at: None });
        assert_eq!(points.fails(StepName::Tenant), None);
        assert_eq!([0; 3].map(|_| points.fails(step)), [Some(false), Some(false), None]);
    }
}
