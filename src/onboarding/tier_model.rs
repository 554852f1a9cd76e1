//! A change of tier, and how it moves on: forward through its steps, or, before the tier is another, back.

use std::str::FromStr;

use super::model::{StepStatus, UnknownName};
use crate::{
    kernel::{Actor, TenantId, TierChangeId, TierName, Timestamp},
    provisioning::{Infrastructure, Site, Tally},
};

/// A change of a tenant's tier, as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierChange {
    /// Which.
    pub id: TierChangeId,
    /// Whose.
    pub tenant_id: TenantId,
    /// The tier it had.
    pub from: TierName,
    /// The tier it is to have, or has.
    pub to: TierName,
    /// How it stands.
    pub status: ChangeStatus,
    /// Whether it is taken back.
    pub undoing: bool,
    /// Who asked for it.
    pub actor: Actor,
    /// What the tenant had when it began.
    pub left: Option<Infrastructure>,
    /// Where it goes; nothing where it stays where it is.
    pub site: Option<Site>,
    /// What was carried along, when it was last.
    pub carried: Option<Tally>,
    /// When the tier became another.
    pub switched_at: Option<Timestamp>,
    /// How often somebody took it up. Who took it up before that has lost it.
    pub claims: i64,
    /// Its steps, in order.
    pub steps: Vec<ChangeStep>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
}

/// How a change of tier stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeStatus {
    /// Steps are under way, or wait for another try.
    Running,
    /// Every step is done.
    Done,
    /// The tier is another, and the old place is kept: somebody wrote there after the tenant had moved away.
    Kept,
    /// The tenant kept its tier.
    Undone,
}

/// One step of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeStep {
    /// Which.
    pub name: ChangeStepName,
    /// How it stands.
    pub status: StepStatus,
    /// How often it was tried.
    pub attempts: i64,
    /// Why it failed last.
    pub error: Option<String>,
    /// When it is tried again, while it waits for that.
    pub next_try_at: Option<Timestamp>,
    /// When it was last begun.
    pub started_at: Option<Timestamp>,
    /// When that came to an end.
    pub ended_at: Option<Timestamp>,
}

/// The steps, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeStepName {
    /// There is room for the new place, and it is noted.
    Reserve,
    /// It is made.
    Provision,
    /// The tenant's rows are there, as of a moment; calls go on.
    Copy,
    /// Calls are held, the rest of the rows is carried along, and tier, bill and route are the new ones.
    Switch,
    /// Calls that last and went to the old place have ended, or had their time.
    Drain,
    /// The old place is taken down.
    Release,
}

impl ChangeStatus {
    /// The name in the API and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Kept => "kept",
            Self::Undone => "undone",
        }
    }
}

impl FromStr for ChangeStatus {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let all = [Self::Running, Self::Done, Self::Kept, Self::Undone];
        all.into_iter().find(|status| status.name() == text).ok_or(UnknownName)
    }
}

impl ChangeStepName {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [Self::Reserve, Self::Provision, Self::Copy, Self::Switch, Self::Drain, Self::Release];

    /// The name in the API and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Provision => "provision",
            Self::Copy => "copy",
            Self::Switch => "switch",
            Self::Drain => "drain",
            Self::Release => "release",
        }
    }

    /// The steps of a change on the way from one place to another, where there are any.
    pub fn of(leaves: bool, moves: bool) -> Vec<Self> {
        let is_part = |step: &Self| match step {
            Self::Switch => true,
            Self::Reserve | Self::Provision => moves,
            Self::Copy | Self::Drain | Self::Release => moves && leaves,
        };
        Self::ALL.into_iter().filter(is_part).collect()
    }
}

impl FromStr for ChangeStepName {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|step| step.name() == text).ok_or(UnknownName)
    }
}

impl ChangeStep {
    /// One that nobody has begun.
    pub const fn pending(name: ChangeStepName) -> Self {
        let status = StepStatus::Pending;
        Self { name, status, attempts: 0, error: None, next_try_at: None, started_at: None, ended_at: None }
    }

    fn begin(&mut self, now: Timestamp) {
        self.attempts += 1;
        (self.status, self.started_at, self.ended_at, self.next_try_at) = (StepStatus::Running, Some(now), None, None);
    }
}

impl TierChange {
    /// The steps of a change that begins.
    pub fn first_steps(leaves: bool, moves: bool, now: Timestamp) -> Vec<ChangeStep> {
        let mut steps: Vec<_> = ChangeStepName::of(leaves, moves).into_iter().map(ChangeStep::pending).collect();
        steps.iter_mut().take(1).for_each(|step| step.begin(now));
        steps
    }

    /// The step it stands at, while it runs.
    pub fn current(&self) -> Option<&ChangeStep> {
        let runs = self.status == ChangeStatus::Running;
        self.steps.iter().find(|step| step.status != StepStatus::Done).filter(|_| runs)
    }

    fn current_mut(&mut self) -> Option<&mut ChangeStep> {
        self.steps.iter_mut().find(|step| step.status != StepStatus::Done)
    }

    /// Whether a step is done.
    pub fn has_done(&self, name: ChangeStepName) -> bool {
        self.steps.iter().any(|step| step.name == name && step.status == StepStatus::Done)
    }

    /// When it is to be taken up by itself, unless somebody has it.
    pub fn due_at(&self) -> Option<Timestamp> {
        let step = self.current()?;
        Some(step.next_try_at.or(step.started_at).unwrap_or(self.updated_at))
    }

    /// It is taken up again: what it stands at is tried once more. Before the tier is another, what was made may be gone since, and is
    /// made whole first.
    #[must_use]
    pub fn begins(mut self, now: Timestamp) -> Self {
        if self.switched_at.is_none() && !self.undoing {
            let again = |step: &&mut ChangeStep| {
                matches!(step.name, ChangeStepName::Provision | ChangeStepName::Copy) && step.status == StepStatus::Done
            };
            self.steps.iter_mut().filter(again).for_each(|step| step.status = StepStatus::Pending);
        }
        if let Some(step) = self.current_mut() {
            step.begin(now);
        }
        self.updated_at = now;
        self
    }

    /// The step it stands at is done, and the next one begins; after the last all is.
    #[must_use]
    pub fn done(mut self, now: Timestamp) -> Self {
        if let Some(step) = self.current_mut() {
            (step.status, step.ended_at, step.error) = (StepStatus::Done, Some(now), None);
        }
        match self.current_mut() {
            Some(next) => next.begin(now),
            None => self.status = ChangeStatus::Done,
        }
        self.updated_at = now;
        self
    }

    /// The step it stands at failed, and is tried again then.
    #[must_use]
    pub fn falters(mut self, why: String, next_try_at: Option<Timestamp>, now: Timestamp) -> Self {
        if let Some(step) = self.current_mut() {
            (step.status, step.ended_at, step.error) = (StepStatus::Failed, Some(now), Some(why));
            step.next_try_at = next_try_at;
        }
        self.updated_at = now;
        self
    }

    /// The step it stands at failed for good, before the tier was another: it is taken back.
    #[must_use]
    pub fn turns_back(self, why: String, now: Timestamp) -> Self {
        Self { undoing: true, ..self.falters(why, None, now) }
    }

    /// It is over, in this way.
    #[must_use]
    pub fn ends(self, status: ChangeStatus, now: Timestamp) -> Self {
        Self { status, updated_at: now, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Isolation, SeededRng};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds).unwrap()
    }

    fn change(leaves: bool, moves: bool) -> TierChange {
        let rng = SeededRng::new(1);
        TierChange {
            id: TierChangeId::generate(at(1), &rng),
            tenant_id: TenantId::generate(at(1), &rng),
            from: "standard".parse().unwrap(),
            to: "premium".parse().unwrap(),
            status: ChangeStatus::Running,
            undoing: false,
            actor: Actor::Job("onboarding"),
            left: None,
            site: Some(Site { isolation: Isolation::Silo, driver: "sqlite".into() }),
            carried: None,
            switched_at: None,
            claims: 1,
            steps: TierChange::first_steps(leaves, moves, at(1)),
            created_at: at(1),
            updated_at: at(1),
        }
    }

    #[test]
    fn a_change_has_the_steps_that_its_way_needs_and_ends_with_the_last() {
        for (leaves, moves, expected) in [(true, true, 6), (false, true, 3), (true, false, 1)] {
            let mut change = change(leaves, moves);
            assert_eq!(change.steps.len(), expected);
            while change.status == ChangeStatus::Running {
                assert_eq!(change.current().unwrap().attempts, 1);
                change = change.done(at(2));
            }
            assert!(change.status == ChangeStatus::Done && change.current().is_none());
        }
    }

    #[test]
    fn who_is_taken_up_again_makes_the_place_anew_before_the_switch_and_never_after_it() {
        let copied = change(true, true).done(at(2)).done(at(3)).done(at(4));
        assert_eq!(copied.current().unwrap().name, ChangeStepName::Switch);
        let again = copied.clone().falters("calls".into(), Some(at(9)), at(5));
        assert_eq!(again.due_at(), Some(at(9)));
        let again = again.begins(at(9));
        assert_eq!((again.current().unwrap().name, again.current().unwrap().attempts), (ChangeStepName::Provision, 2));
        assert!(again.has_done(ChangeStepName::Reserve));
        let switched = TierChange { switched_at: Some(at(5)), ..copied }.done(at(5)).begins(at(6));
        assert_eq!(switched.current().unwrap().name, ChangeStepName::Drain);
        assert!(switched.has_done(ChangeStepName::Copy));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for step in ChangeStepName::ALL {
            assert_eq!(step.name().parse(), Ok(step));
        }
        for status in [ChangeStatus::Running, ChangeStatus::Done, ChangeStatus::Kept, ChangeStatus::Undone] {
            assert_eq!(status.name().parse(), Ok(status));
        }
        assert_eq!("later".parse::<ChangeStepName>(), Err(UnknownName));
    }
}
