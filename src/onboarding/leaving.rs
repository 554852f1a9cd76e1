//! Taking a tenant out, step by step: which steps there are, and how one follows the other. Pure.

use super::model::{StepStatus, UnknownName, names};
use crate::kernel::{TenantId, Timestamp};

/// How the taking out of a tenant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffboardingStatus {
    /// Steps are under way.
    Running,
    /// A step failed, and is tried again.
    Failed,
    /// The tenant is gone but for its tombstone.
    Done,
}

/// The steps, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeavingStep {
    /// No call gets through any more, and nobody signs in.
    Suspend,
    /// All that is owed is on invoices that are issued.
    FinalInvoice,
    /// What there is of the tenant is kept as a file.
    Export,
    /// Its infrastructure is taken down.
    Infrastructure,
    /// Its billing account is closed.
    Account,
    /// Its people are forgotten, unless they belong elsewhere, too.
    People,
    /// All that is left is that it was there.
    Tombstone,
}

names!(OffboardingStatus { Running = "running", Failed = "failed", Done = "done" });
names!(LeavingStep {
    Suspend = "suspend",
    FinalInvoice = "final_invoice",
    Export = "export",
    Infrastructure = "infrastructure",
    Account = "account",
    People = "people",
    Tombstone = "tombstone"
});

/// How one step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingState {
    /// Which.
    pub name: LeavingStep,
    /// How it stands; never undone, because nothing of this is taken back.
    pub status: StepStatus,
    /// How often it was tried.
    pub attempts: i64,
    /// Why it failed last.
    pub error: Option<String>,
    /// When it is tried again.
    pub next_try_at: Option<Timestamp>,
    /// When it was last begun.
    pub started_at: Option<Timestamp>,
    /// When that came to an end.
    pub ended_at: Option<Timestamp>,
}

/// The export that is kept of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptExport {
    /// Whose pieces it is made of.
    pub claim: i64,
    /// Until when.
    pub until: Timestamp,
}

/// The taking out of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offboarding {
    /// Which tenant.
    pub tenant_id: TenantId,
    /// Who asked for it.
    pub actor: String,
    /// How it stands.
    pub status: OffboardingStatus,
    /// Whether the tenant was ever in use.
    pub used: bool,
    /// How often somebody took it up. Who took it up before that has lost it.
    pub claims: i64,
    /// Its steps, in order.
    pub steps: Vec<LeavingState>,
    /// The export, while it is kept.
    pub export: Option<KeptExport>,
    /// Until when it was kept.
    pub export_until: Option<Timestamp>,
    /// Until when it is remembered who its people were.
    pub people_until: Option<Timestamp>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
}

impl Offboarding {
    /// One that begins now, in the hands of who begins it.
    pub fn begin(tenant_id: TenantId, actor: String, now: Timestamp) -> Self {
        let pending = |name: &LeavingStep| LeavingState {
            name: *name,
            status: StepStatus::Pending,
            attempts: 0,
            error: None,
            next_try_at: None,
            started_at: None,
            ended_at: None,
        };
        let steps = LeavingStep::ALL.iter().map(pending).collect();
        let begun = Self {
            tenant_id,
            actor,
            status: OffboardingStatus::Running,
            used: true,
            claims: 1,
            steps,
            export: None,
            export_until: None,
            people_until: None,
            created_at: now,
            updated_at: now,
        };
        begun.begins(now)
    }

    /// The step that is next; none once all are done.
    pub fn current(&self) -> Option<&LeavingState> {
        self.steps.iter().find(|step| step.status != StepStatus::Done)
    }

    /// One of its steps.
    pub fn step(&self, name: LeavingStep) -> Option<&LeavingState> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// Whether a step is done.
    pub fn has_done(&self, name: LeavingStep) -> bool {
        self.step(name).is_some_and(|step| step.status == StepStatus::Done)
    }

    /// When it is to be taken up by itself, unless somebody has it.
    pub fn due_at(&self) -> Option<Timestamp> {
        let step = self.current()?;
        match step.status {
            StepStatus::Failed => step.next_try_at,
            _ => Some(step.started_at.unwrap_or(self.updated_at)),
        }
    }

    /// The next step is tried (again): written before it is.
    #[must_use]
    pub fn begins(mut self, now: Timestamp) -> Self {
        match self.steps.iter_mut().find(|step| step.status != StepStatus::Done) {
            Some(step) => {
                (step.status, step.started_at, step.ended_at) = (StepStatus::Running, Some(now), None);
                (step.error, step.next_try_at) = (None, None);
                step.attempts += 1;
                self.status = OffboardingStatus::Running;
            }
            None => self.status = OffboardingStatus::Done,
        }
        Self { updated_at: now, ..self }
    }

    /// A step is done, and the next one begins.
    #[must_use]
    pub fn done(mut self, name: LeavingStep, now: Timestamp) -> Self {
        if let Some(step) = self.steps.iter_mut().find(|step| step.name == name) {
            (step.status, step.ended_at, step.error) = (StepStatus::Done, Some(now), None);
        }
        self.begins(now)
    }

    /// A step failed, and waits.
    #[must_use]
    pub fn falters(mut self, name: LeavingStep, why: String, next_try_at: Timestamp, now: Timestamp) -> Self {
        if let Some(step) = self.steps.iter_mut().find(|step| step.name == name) {
            (step.status, step.ended_at) = (StepStatus::Failed, Some(now));
            (step.error, step.next_try_at) = (Some(why), Some(next_try_at));
        }
        Self { status: OffboardingStatus::Failed, updated_at: now, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededRng;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs).unwrap()
    }

    fn begun() -> Offboarding {
        Offboarding::begin(TenantId::generate(at(1), &SeededRng::new(1)), "job:test".into(), at(10))
    }

    #[test]
    fn the_steps_are_done_in_order_each_written_before_it_is_acted_on() {
        let mut leaving = begun();
        for name in LeavingStep::ALL {
            let step = leaving.current().unwrap();
            assert_eq!((step.name, step.status, step.attempts), (*name, StepStatus::Running, 1));
            assert!(leaving.due_at().is_some() && !leaving.has_done(*name));
            leaving = leaving.done(*name, at(20));
            assert!(leaving.has_done(*name));
        }
        assert_eq!((leaving.status, leaving.due_at(), leaving.current()), (OffboardingStatus::Done, None, None));
    }

    #[test]
    fn a_failed_step_keeps_its_reason_until_it_is_tried_again() {
        let failed = begun().falters(LeavingStep::Suspend, "no".into(), at(30), at(20));
        assert_eq!((failed.status, failed.due_at()), (OffboardingStatus::Failed, Some(at(30))));
        assert_eq!(failed.current().unwrap().error.as_deref(), Some("no"));
        let again = failed.begins(at(30));
        let step = again.current().unwrap();
        assert_eq!((step.status, step.attempts, step.error.as_deref()), (StepStatus::Running, 2, None));
    }
}
