//! Going on with a registration: each step is written before it is acted on, and what came of it after. Whoever goes on with
//! one has taken it up for a while (a lease with a number that grows with each claim), so of several nodes one does, and what
//! a process that died had taken up is taken up by another.
//!
//! A step that fails is tried again after a wait; one that fails for good, or too often, is taken back with all before it.
//! Taking back is tried for ever.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt as _, stream};

use super::{
    error::Error,
    model::{Registration, RegistrationStatus, StepName},
    points::{Part, Phase},
    rules::Turn,
    service::Onboarding,
};
use crate::{
    kernel::{Act, Actor, RegistrationId, Timestamp, fault::chain, rng::random_bytes},
    provisioning,
    store::{Scope, StoreError, Tx},
    tenants::{self, Failure, Status},
};

/// Registrations that are looked for in one go.
const IN_ONE_GO: i64 = 50;
/// Of these, so many are gone on with at once: one that takes long is in nobody's way.
const AT_ONCE: usize = 8;
/// How often a lease is renewed while it lasts.
const RENEWALS: u32 = 3;

/// How far a registration came.
pub(super) struct Went {
    /// As it stands now.
    pub(super) registration: Registration,
    /// Why it was refused, when it was just now.
    pub(super) refusal: Option<Error>,
}

impl Onboarding {
    /// Until when a registration that is taken up now is ours.
    pub(super) fn leased_until(&self) -> Timestamp {
        self.clock.now().plus_secs(self.retries.lease_s)
    }

    /// Takes up what is due; how many that were.
    pub async fn resume_due(&self) -> Result<usize, Error> {
        let scope = Scope::Job("registrations");
        let due = self.store.read(scope).await?.registrations_due(self.clock.now(), IN_ONE_GO).await?;
        let taken = stream::iter(due).map(|id| self.resume_one(scope, id)).buffer_unordered(AT_ONCE);
        Ok(taken.filter(|taken| std::future::ready(*taken)).count().await)
    }

    async fn resume_one(&self, scope: Scope, id: RegistrationId) -> bool {
        let gone_on = match self.claim(scope, id).await {
            Ok(None) => return false,
            Ok(Some(registration)) => self.go_on(scope, registration).await,
            Err(error) => Err(error),
        };
        // The next ones are not to wait for one that cannot be gone on with.
        if let Err(error) = &gone_on {
            tracing::warn!(registration_id = %id, error = chain(error), "a registration could not be gone on with");
        }
        gone_on.is_ok()
    }

    /// Takes a registration up, unless it has ended or somebody has it.
    pub(super) async fn claim(&self, scope: Scope, id: RegistrationId) -> Result<Option<Registration>, Error> {
        let mut tx = self.store.begin(scope).await?;
        let claimed = tx.registration_claim(id, self.clock.now(), self.leased_until()).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    /// Begins the step that a registration that was just taken up stands at, once more.
    async fn go_on(&self, scope: Scope, registration: Registration) -> Result<Went, Error> {
        let spent = registration.current().is_some_and(|step| step.attempts >= self.retries.max_attempts);
        match registration.turn() {
            Turn::Forward(step) if spent && may_be_taken_back(&registration, step) => {
                let why = "it was tried too often".to_owned();
                let back = Box::pin(self.turn_back(scope, registration, (step, why))).await?;
                self.run(scope, back).await
            }
            Turn::Forward(_) | Turn::Back(_) => {
                let begun = registration.clone().begins(self.clock.now());
                let begun = self.write(scope, &registration, begun).await?;
                self.run(scope, begun).await
            }
            Turn::Over => Ok(Went { registration, refusal: None }),
        }
    }

    /// Tries a registration again that was just taken up, whatever it waits for.
    pub(super) async fn try_again(&self, scope: Scope, registration: Registration) -> Result<Went, Error> {
        let begun = registration.clone().begins(self.clock.now());
        let begun = self.write(scope, &registration, begun).await?;
        self.run(scope, begun).await
    }

    /// Goes on with a registration that is the caller's, until it ends or waits.
    pub(super) async fn run(&self, scope: Scope, mut registration: Registration) -> Result<Went, Error> {
        let mut refusal = None;
        loop {
            let (step, went) = match registration.turn() {
                Turn::Over => break,
                Turn::Forward(step) => (step, Box::pin(self.forward(scope, &registration, step)).await),
                Turn::Back(step) => (step, Box::pin(self.back(scope, &registration, step)).await),
            };
            let went = match went {
                Ok(further) => Ok((further, None)),
                Err(Error::Lost(id)) => Err(Error::Lost(id)),
                Err(error) => Box::pin(self.falter(scope, registration.clone(), (step, error))).await,
            };
            match went {
                Ok((further, refused)) => (registration, refusal) = (further, refused.or(refusal)),
                Err(Error::Lost(id)) => {
                    registration = self.lost(scope, id).await?;
                    break;
                }
                Err(error) => return Err(error),
            }
            if registration.status == RegistrationStatus::Failed {
                break;
            }
        }
        Ok(Went { registration, refusal })
    }

    async fn forward(&self, scope: Scope, registration: &Registration, step: StepName) -> Result<Registration, Error> {
        self.points.pass(Part::Step(step), Phase::Begun).await;
        if let Some(lasting) = self.points.fails(step) {
            return Err(Error::Rigged { step: step.name(), lasting });
        }
        Box::pin(self.meanwhile(scope, registration, self.act_outside(scope, registration, step))).await?;
        let mut tx = self.store.begin(scope).await?;
        self.hold(&mut tx, registration).await?;
        let mut further = registration.clone();
        self.act_in(&mut tx, &mut further, step).await?;
        let further = further.done(step, self.clock.now());
        self.put(&mut tx, registration, &further).await?;
        self.points.pass(Part::Step(step), Phase::Acted).await;
        tx.commit().await?;
        self.services.tenants.announce(further.tenant_id);
        self.points.pass(Part::Step(step), Phase::Written).await;
        Ok(further)
    }

    async fn back(&self, scope: Scope, registration: &Registration, step: StepName) -> Result<Registration, Error> {
        self.points.pass(Part::Undo(step), Phase::Begun).await;
        self.meanwhile(scope, registration, self.undo_outside(scope, registration, step)).await?;
        let mut tx = self.store.begin(scope).await?;
        self.hold(&mut tx, registration).await?;
        self.undo_in(&mut tx, registration, step).await?;
        let mut withdrawn = None;
        if step == StepName::User && registration.joined {
            let (tenant, user) = (registration.tenant_id, registration.user_id);
            withdrawn = Some(self.services.identity.end_sessions_of_user_in(&mut tx, tenant, user).await?);
        }
        if step == StepName::Tenant && registration.founds {
            withdrawn = Some(self.services.identity.forget_tenant_in(&mut tx, registration.tenant_id).await?);
        }
        let further = registration.clone().undone(step, self.clock.now());
        if further.status == RegistrationStatus::Compensated {
            self.note_registration(&mut tx, &further, Actor::Job("registrations"), "registration.compensated").await?;
        }
        self.put(&mut tx, registration, &further).await?;
        self.points.pass(Part::Undo(step), Phase::Acted).await;
        tx.commit().await?;
        if let Some(withdrawn) = withdrawn {
            self.services.identity.revoke_now(withdrawn);
        }
        self.services.tenants.announce(further.tenant_id);
        self.points.pass(Part::Undo(step), Phase::Written).await;
        Ok(further)
    }

    /// Does work that may take long, and keeps the registration meanwhile.
    async fn meanwhile(
        &self,
        scope: Scope,
        registration: &Registration,
        work: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let pause = Duration::from_secs(self.retries.lease_s.unsigned_abs()) / RENEWALS;
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(pause) => {}
            }
            // Whether it is still ours is seen when the work is to be noted; it is not left half done.
            if let Err(error) = self.renew(scope, registration).await {
                tracing::warn!(registration_id = %registration.id, error = chain(&error), "a registration could not be kept");
            }
        }
    }

    async fn renew(&self, scope: Scope, registration: &Registration) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        self.hold(&mut tx, registration).await?;
        Ok(tx.commit().await?)
    }

    /// Notes that a step failed, and decides: try again later, take everything back, or leave it to somebody.
    async fn falter(
        &self,
        scope: Scope,
        registration: Registration,
        (step, error): (StepName, Error),
    ) -> Result<(Registration, Option<Error>), Error> {
        let (id, why) = (registration.id, chain(&error));
        tracing::warn!(registration_id = %id, step = step.name(), error = chain(&error), "a step of a registration failed");
        if !registration.undoing {
            if is_refusal(&error) {
                return Ok((Box::pin(self.turn_back(scope, registration, (step, why))).await?, Some(error)));
            }
            let attempts = registration.current().map_or(0, |step| step.attempts);
            // Who came into a tenant in use is not thrown out because its infrastructure does not answer.
            if attempts >= self.retries.max_attempts && may_be_taken_back(&registration, step) {
                return Ok((Box::pin(self.turn_back(scope, registration, (step, why))).await?, None));
            }
        }
        let now = self.clock.now();
        let attempts = registration.current().map_or(1, |step| step.attempts);
        let given_up = !registration.undoing && attempts >= self.retries.max_attempts;
        let chance = u16::from_be_bytes(random_bytes(&*self.rng));
        let next_try_at = (!given_up).then(|| now.plus_micros(self.retries.delay_micros(attempts, chance)));
        self.points.pass(Part::Failure, Phase::Begun).await;
        let mut tx = self.store.begin(scope).await?;
        self.hold(&mut tx, &registration).await?;
        let failed = registration.clone().falters(step, why.clone(), next_try_at, now);
        self.fail_tenant(&mut tx, &failed, (step, why)).await?;
        self.note_registration(&mut tx, &failed, Actor::Job("registrations"), "registration.failed").await?;
        let held = tx.registration_update(&registration, &failed, None).await?;
        if !held {
            return Err(Error::Lost(id));
        }
        self.points.pass(Part::Failure, Phase::Acted).await;
        tx.commit().await?;
        self.services.tenants.announce(failed.tenant_id);
        self.points.pass(Part::Failure, Phase::Written).await;
        Ok((failed, None))
    }

    /// Says of a tenant that is being made that its making failed, and is tried again.
    async fn fail_tenant(
        &self,
        tx: &mut Tx,
        registration: &Registration,
        (step, reason): (StepName, String),
    ) -> Result<(), Error> {
        tx.tenant_lock(registration.tenant_id).await?;
        if registration.undoing || tx.tenant_by_id(registration.tenant_id).await?.is_none() {
            return Ok(());
        }
        let failure = Failure { step: step.name().to_owned(), reason, retryable: true };
        let fail = |tenant: tenants::Tenant| match tenant.status {
            Status::Provisioning | Status::Failed(_) => tenant.fail(failure),
            _ => Ok(tenant),
        };
        self.services.tenants.change_in(tx, registration.tenant_id, fail).await?;
        Ok(())
    }

    /// From here on everything is taken back.
    async fn turn_back(
        &self,
        scope: Scope,
        registration: Registration,
        (step, why): (StepName, String),
    ) -> Result<Registration, Error> {
        self.points.pass(Part::Failure, Phase::Begun).await;
        let mut tx = self.store.begin(scope).await?;
        self.hold(&mut tx, &registration).await?;
        let mut back = registration.clone().turns_back(step, why, self.clock.now());
        self.part_in(&mut tx, &mut back).await?;
        self.note_registration(&mut tx, &back, Actor::Job("registrations"), "registration.failed").await?;
        self.put(&mut tx, &registration, &back).await?;
        self.points.pass(Part::Failure, Phase::Acted).await;
        tx.commit().await?;
        self.services.tenants.announce(back.tenant_id);
        self.points.pass(Part::Failure, Phase::Written).await;
        Ok(back)
    }

    /// Another has it, or took its tenant out: what was made here since is not to be left behind.
    async fn lost(&self, scope: Scope, id: RegistrationId) -> Result<Registration, Error> {
        let registration = self.find(scope, id).await?;
        if !registration.undoing && self.place_is_gone(scope, registration.tenant_id).await? {
            self.services.provisioning.remove(scope, registration.tenant_id).await?;
        }
        Ok(registration)
    }

    async fn hold(&self, tx: &mut Tx, registration: &Registration) -> Result<(), Error> {
        let held = tx.registration_hold(registration, self.leased_until()).await?;
        if held { Ok(()) } else { Err(Error::Lost(registration.id)) }
    }

    async fn put(&self, tx: &mut Tx, before: &Registration, after: &Registration) -> Result<(), Error> {
        let leased_until = (after.turn() != Turn::Over).then(|| self.leased_until());
        let held = tx.registration_update(before, after, leased_until).await?;
        if held { Ok(()) } else { Err(Error::Lost(before.id)) }
    }

    async fn write(&self, scope: Scope, before: &Registration, after: Registration) -> Result<Registration, Error> {
        let mut tx = self.store.begin(scope).await?;
        self.put(&mut tx, before, &after).await?;
        tx.commit().await?;
        Ok(after)
    }

    pub(super) async fn note_registration(
        &self,
        tx: &mut Tx,
        registration: &Registration,
        actor: Actor,
        action: &'static str,
    ) -> Result<(), Error> {
        let detail = registration.current().map(|step| format!("at {}, try {}", step.name.name(), step.attempts));
        let (tenant, subject) = (Some(registration.tenant_id), registration.id.to_string());
        Ok(self.services.identity.note(tx, Act { actor, action, tenant, subject, detail }).await?)
    }
}

/// Whether everything may be taken back at a step: nobody relies on it yet.
const fn may_be_taken_back(registration: &Registration, step: StepName) -> bool {
    registration.founds || !matches!(step, StepName::Provisioning | StepName::Activation)
}

/// Whether it makes no sense to try again.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::NameTaken(_)
        | Error::EmailTaken
        | Error::NoIntent(_)
        | Error::Users(crate::users::Error::EmailElsewhere | crate::users::Error::EmailOfAdministrator)
        | Error::Tenants(
            tenants::Error::WrongState { .. }
            | tenants::Error::ExternalIdTaken(_)
            | tenants::Error::NameTaken(_)
            | tenants::Error::Unknown(_),
        )
        | Error::Store(StoreError::Duplicate)
        | Error::Provisioning(provisioning::Error::ForeignDriver { .. }) => true,
        Error::Rigged { lasting, .. } => *lasting,
        _ => false,
    }
}
