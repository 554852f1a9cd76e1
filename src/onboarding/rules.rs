//! How a registration moves on: forward through its steps, or back through them.

use super::model::{Registration, RegistrationStatus, Step, StepName, StepStatus};
use crate::kernel::Timestamp;

/// The tier of whoever came by themselves and named none.
pub const DEFAULT_TIER: &str = "free";

/// How often a step is tried, and how long between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// So many tries, then what was made is taken out again.
    pub max_attempts: i64,
    /// After the first failure so many seconds, and twice as many after each further one.
    pub first_s: i64,
    /// At most so many seconds.
    pub most_s: i64,
    /// Whoever has taken a registration up and is not heard of for so many seconds has lost it.
    pub lease_s: i64,
}

impl Retries {
    /// How long to wait after so many tries, in microseconds: half of it by chance, so that what failed together does not
    /// come again together.
    pub fn delay_micros(&self, attempts: i64, chance: u16) -> i64 {
        let doublings = u32::try_from(attempts.clamp(1, 32) - 1).unwrap_or(0);
        let whole = self.first_s.saturating_mul(1 << doublings).min(self.most_s) * 1_000_000;
        whole / 2 + whole / 2 * i64::from(chance) / i64::from(u16::MAX)
    }
}

/// What is to be done next for a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// This step.
    Forward(StepName),
    /// This step is to be taken back.
    Back(StepName),
    /// It has ended.
    Over,
}

impl Registration {
    /// The steps of a registration that begins.
    pub fn first_steps(now: Timestamp) -> Vec<Step> {
        let pending = |name: &StepName| Step {
            name: *name,
            status: StepStatus::Pending,
            attempts: 0,
            error: None,
            next_try_at: None,
            started_at: None,
            ended_at: None,
        };
        let mut steps: Vec<Step> = StepName::ALL.iter().map(pending).collect();
        if let Some(first) = steps.first_mut() {
            begin(first, now);
        }
        steps
    }

    /// What is to be done next.
    pub fn turn(&self) -> Turn {
        let ended = matches!(self.status, RegistrationStatus::Active | RegistrationStatus::Compensated);
        let next = match (ended, self.undoing) {
            (true, _) => None,
            (false, false) => {
                self.steps.iter().find(|step| step.status != StepStatus::Done).map(|step| Turn::Forward(step.name))
            }
            (false, true) => {
                self.steps.iter().rev().find(|step| is_to_be_undone(step)).map(|step| Turn::Back(step.name))
            }
        };
        next.unwrap_or(Turn::Over)
    }

    /// The step that is next, forward or back.
    pub fn current(&self) -> Option<&Step> {
        let (Turn::Forward(name) | Turn::Back(name)) = self.turn() else { return None };
        self.steps.iter().find(|step| step.name == name)
    }

    /// When it is to be taken up by itself, unless somebody has it.
    pub fn due_at(&self) -> Option<Timestamp> {
        let step = self.current()?;
        match step.status {
            StepStatus::Failed if self.status == RegistrationStatus::Failed => step.next_try_at,
            _ => Some(step.started_at.unwrap_or(self.updated_at)),
        }
    }

    /// The next step is tried (again): written before it is.
    #[must_use]
    pub fn begins(mut self, now: Timestamp) -> Self {
        let (Turn::Forward(name) | Turn::Back(name)) = self.turn() else { return self };
        let undoing = self.undoing;
        if let Some(step) = self.step_mut(name) {
            let why = step.error.take().filter(|_| undoing);
            begin(step, now);
            step.error = why;
        }
        self.moves_to(RegistrationStatus::Running, now)
    }

    /// A step is done, and the next one begins; after the last it is active.
    #[must_use]
    pub fn done(mut self, name: StepName, now: Timestamp) -> Self {
        if let Some(step) = self.step_mut(name) {
            (step.status, step.ended_at, step.error) = (StepStatus::Done, Some(now), None);
        }
        if matches!(self.turn(), Turn::Forward(_)) {
            return self.begins(now);
        }
        self.intent = None;
        self.moves_to(RegistrationStatus::Active, now)
    }

    /// A step, or taking it back, failed, and waits.
    #[must_use]
    pub fn falters(mut self, name: StepName, why: String, next_try_at: Option<Timestamp>, now: Timestamp) -> Self {
        if let Some(step) = self.step_mut(name) {
            (step.status, step.ended_at, step.error) = (StepStatus::Failed, Some(now), Some(why));
            step.next_try_at = next_try_at;
        }
        self.moves_to(RegistrationStatus::Failed, now)
    }

    /// A step failed for good: from here on everything is taken back, beginning with it.
    #[must_use]
    pub fn turns_back(mut self, name: StepName, why: String, now: Timestamp) -> Self {
        self.undoing = true;
        if let Some(step) = self.step_mut(name) {
            (step.status, step.started_at, step.ended_at) = (StepStatus::Running, Some(now), None);
            (step.error, step.next_try_at) = (Some(why), None);
        }
        self.moves_to(RegistrationStatus::Running, now)
    }

    /// A step is taken back, and so is the one before it next; after the first it is compensated and the person forgotten.
    #[must_use]
    pub fn undone(mut self, name: StepName, now: Timestamp) -> Self {
        if let Some(step) = self.step_mut(name) {
            (step.status, step.ended_at) = (StepStatus::Undone, Some(now));
        }
        if let Turn::Back(next) = self.turn() {
            if let Some(step) = self.step_mut(next) {
                (step.status, step.started_at, step.ended_at) = (StepStatus::Running, Some(now), None);
            }
            return self.moves_to(RegistrationStatus::Running, now);
        }
        self.forgotten(now)
    }

    /// Its tenant was taken out: every step is undone and the person is forgotten.
    #[must_use]
    pub fn compensated(mut self, now: Timestamp) -> Self {
        for step in &mut self.steps {
            (step.status, step.next_try_at) = (StepStatus::Undone, None);
        }
        self.forgotten(now)
    }

    fn forgotten(mut self, now: Timestamp) -> Self {
        (self.email, self.intent, self.undoing) = (None, None, false);
        self.moves_to(RegistrationStatus::Compensated, now)
    }

    /// Whether trying again makes sense.
    pub fn can_be_retried(&self) -> bool {
        matches!(self.status, RegistrationStatus::Failed | RegistrationStatus::Running)
    }

    fn step_mut(&mut self, name: StepName) -> Option<&mut Step> {
        self.steps.iter_mut().find(|step| step.name == name)
    }

    fn moves_to(self, status: RegistrationStatus, now: Timestamp) -> Self {
        Self { status, updated_at: now, ..self }
    }
}

fn begin(step: &mut Step, now: Timestamp) {
    (step.status, step.started_at, step.ended_at) = (StepStatus::Running, Some(now), None);
    (step.error, step.next_try_at) = (None, None);
    step.attempts += 1;
}

/// What was begun may have made something, whether it says so or not.
fn is_to_be_undone(step: &Step) -> bool {
    !matches!(step.status, StepStatus::Pending | StepStatus::Undone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{RegistrationId, SeededRng, TenantId, UserId};

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs).unwrap()
    }

    fn registration() -> Registration {
        let (rng, now) = (SeededRng::new(1), at(10));
        Registration {
            id: RegistrationId::generate(now, &rng),
            tenant_id: TenantId::generate(now, &rng),
            user_id: UserId::generate(now, &rng),
            email: Some("ada@example.com".parse().unwrap()),
            customer_name: "Acme".parse().unwrap(),
            tier: "free".parse().unwrap(),
            status: RegistrationStatus::Running,
            undoing: false,
            founds: true,
            joined: false,
            intent: None,
            claims: 1,
            steps: Registration::first_steps(now),
            notes: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// Every step up to `last` is done.
    fn up_to(last: StepName) -> Registration {
        StepName::ALL
            .iter()
            .take_while(|name| **name != last)
            .fold(registration(), |so_far, name| so_far.done(*name, at(11)))
    }

    #[test]
    fn the_steps_are_done_in_order_and_the_last_makes_it_active() {
        let mut registration = registration();
        for (place, name) in StepName::ALL.iter().enumerate() {
            assert_eq!(registration.turn(), Turn::Forward(*name));
            assert_eq!(registration.steps[place].status, StepStatus::Running, "written before it is acted on");
            assert_eq!(registration.due_at(), Some(if place == 0 { at(10) } else { at(20) }));
            registration = registration.done(*name, at(20));
        }
        assert_eq!((registration.status, registration.turn()), (RegistrationStatus::Active, Turn::Over));
        assert_eq!(registration.due_at(), None);
        assert!(registration.steps.iter().all(|step| (step.status, step.attempts) == (StepStatus::Done, 1)));
    }

    #[test]
    fn a_failed_step_keeps_its_reason_until_it_is_tried_again() {
        let step = StepName::Provisioning;
        let failed = up_to(step).falters(step, "disk full".into(), Some(at(30)), at(20));
        assert_eq!(failed.status, RegistrationStatus::Failed);
        assert_eq!(failed.steps[3].error.as_deref(), Some("disk full"));
        assert_eq!(failed.due_at(), Some(at(30)));
        assert!(failed.can_be_retried());
        let given_up = failed.clone().falters(step, "disk full".into(), None, at(20));
        assert_eq!(given_up.due_at(), None, "somebody has to say so");
        let again = failed.begins(at(30));
        assert_eq!((again.status, again.turn()), (RegistrationStatus::Running, Turn::Forward(step)));
        assert_eq!((again.steps[3].attempts, again.steps[3].error.as_deref()), (2, None));
        let active = again.done(step, at(31)).done(StepName::Activation, at(31));
        assert_eq!(active.status, RegistrationStatus::Active);
        assert!(!active.can_be_retried());
    }

    #[test]
    fn what_fails_for_good_is_taken_back_in_reverse_and_the_person_forgotten() {
        let last = StepName::Provisioning;
        let mut back = up_to(last).turns_back(last, "no room".into(), at(20));
        for name in StepName::ALL.iter().rev().skip_while(|name| **name != last) {
            assert_eq!((back.turn(), back.status), (Turn::Back(*name), RegistrationStatus::Running));
            assert_eq!(back.current().unwrap().status, StepStatus::Running, "written before it is acted on");
            let waits = back.clone().falters(*name, "not now".into(), Some(at(40)), at(21));
            assert_eq!((waits.turn(), waits.due_at()), (Turn::Back(*name), Some(at(40))));
            back = back.undone(*name, at(22));
        }
        assert_eq!((back.status, back.turn(), back.due_at()), (RegistrationStatus::Compensated, Turn::Over, None));
        assert_eq!((back.email.as_ref(), back.steps[3].error.as_deref()), (None, Some("no room")));
        let statuses: Vec<_> = back.steps.iter().map(|step| step.status.name()).collect();
        assert_eq!(statuses, ["undone", "undone", "undone", "undone", "pending"]);
    }

    #[test]
    fn a_compensated_registration_forgets_the_person() {
        let gone = registration().compensated(at(20));
        assert_eq!(gone.email, None);
        assert!(gone.steps.iter().all(|step| step.status == StepStatus::Undone));
    }

    #[test]
    fn waits_double_up_to_the_most_and_half_of_each_is_chance() {
        let retries = Retries { max_attempts: 10, first_s: 2, most_s: 60, lease_s: 30 };
        let range = |attempts| [0, u16::MAX].map(|chance| retries.delay_micros(attempts, chance) / 1_000_000);
        assert_eq!([1, 2, 3, 6, 100].map(range), [[1, 2], [2, 4], [4, 8], [30, 60], [30, 60]]);
        assert!(retries.delay_micros(1, 1_000) < retries.delay_micros(1, 2_000));
    }
}
