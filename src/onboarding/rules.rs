//! How a registration moves on.

use super::model::{Registration, RegistrationStatus, Step, StepName, StepStatus};
use crate::kernel::Timestamp;

/// The tier of whoever came by themselves and named none.
pub const DEFAULT_TIER: &str = "free";

impl Registration {
    /// The steps of a registration whose facts are committed: all done but provisioning.
    pub fn steps_after_facts() -> Vec<Step> {
        let done = |name| Step { name, status: StepStatus::Done, attempts: 1, error: None };
        let provisioning = Step { name: StepName::Provisioning, status: StepStatus::Pending, attempts: 0, error: None };
        vec![done(StepName::Tenant), done(StepName::User), done(StepName::BillingAccount), provisioning]
    }

    /// Provisioning is tried (again).
    #[must_use]
    pub fn provisioning_begins(mut self, now: Timestamp) -> Self {
        if let Some(step) = self.provisioning_step() {
            step.status = StepStatus::Running;
            step.attempts += 1;
            step.error = None;
        }
        self.moves_to(RegistrationStatus::Running, now)
    }

    /// Provisioning ended, well or not.
    #[must_use]
    pub fn provisioning_ends(mut self, result: Result<(), String>, now: Timestamp) -> Self {
        let (step_status, status, error) = match result {
            Ok(()) => (StepStatus::Done, RegistrationStatus::Active, None),
            Err(reason) => (StepStatus::Failed, RegistrationStatus::Failed, Some(reason)),
        };
        if let Some(step) = self.provisioning_step() {
            step.status = step_status;
            step.error = error;
        }
        self.moves_to(status, now)
    }

    /// Its tenant was taken out again: every step is undone and the person is forgotten.
    #[must_use]
    pub fn compensated(mut self, now: Timestamp) -> Self {
        for step in &mut self.steps {
            step.status = StepStatus::Undone;
        }
        self.email = None;
        self.moves_to(RegistrationStatus::Compensated, now)
    }

    /// Whether trying again makes sense.
    pub fn can_be_retried(&self) -> bool {
        matches!(self.status, RegistrationStatus::Failed | RegistrationStatus::Running)
    }

    fn provisioning_step(&mut self) -> Option<&mut Step> {
        self.steps.iter_mut().find(|step| step.name == StepName::Provisioning)
    }

    fn moves_to(self, status: RegistrationStatus, now: Timestamp) -> Self {
        Self { status, updated_at: now, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{RegistrationId, SeededRng, TenantId, UserId};

    fn registration() -> Registration {
        let (rng, now) = (SeededRng::new(1), Timestamp::from_secs(10).unwrap());
        Registration {
            id: RegistrationId::generate(now, &rng),
            tenant_id: TenantId::generate(now, &rng),
            user_id: UserId::generate(now, &rng),
            email: Some("ada@example.com".parse().unwrap()),
            customer_name: "Acme".parse().unwrap(),
            tier: "free".parse().unwrap(),
            status: RegistrationStatus::Running,
            steps: Registration::steps_after_facts(),
            notes: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }

    #[test]
    fn a_failed_step_keeps_its_reason_until_it_is_tried_again() {
        let now = Timestamp::from_secs(20).unwrap();
        let failed = registration().provisioning_begins(now).provisioning_ends(Err("disk full".into()), now);
        assert_eq!(failed.status, RegistrationStatus::Failed);
        assert_eq!(failed.steps[3].error.as_deref(), Some("disk full"));
        assert!(failed.can_be_retried());
        let again = failed.provisioning_begins(now).provisioning_ends(Ok(()), now);
        assert_eq!(again.status, RegistrationStatus::Active);
        assert_eq!((again.steps[3].attempts, again.steps[3].error.as_deref()), (2, None));
        assert!(!again.can_be_retried());
    }

    #[test]
    fn a_compensated_registration_forgets_the_person() {
        let gone = registration().compensated(Timestamp::from_secs(20).unwrap());
        assert_eq!(gone.email, None);
        assert!(gone.steps.iter().all(|step| step.status == StepStatus::Undone));
    }
}
