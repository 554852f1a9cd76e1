//! Taking a customer out, in steps each of which is written before it is acted on: suspend → final invoice → export →
//! infrastructure → account → people → tombstone. Nothing of it is taken back; what fails waits and is tried again for ever,
//! and whoever goes on with it has taken it up for a while, as with registrations (`saga.rs`).

use std::{future::Future, time::Duration};

use futures_util::{StreamExt as _, stream};

use super::{
    error::Error,
    leaving::{KeptExport, LeavingStep, Offboarding, OffboardingStatus},
    points::{Part, Phase},
    service::{Onboarding, PATIENCE},
};
use crate::{
    identity::Withdrawal,
    kernel::{Act, Actor, TenantId, Timestamp, fault::chain, rng::random_bytes},
    store::{Scope, Tx},
    tenants::{Status, Tenant},
};

/// The job that does it.
pub(super) const JOB: &str = "offboarding";
/// Tenants that are looked for in one go.
const IN_ONE_GO: i64 = 50;
/// Of these, so many are gone on with at once.
const AT_ONCE: usize = 8;
/// How often a lease is renewed while it lasts.
const RENEWALS: u32 = 3;
/// Calls under way are waited for so long before the step is tried again later.
const CALLS_END: Duration = Duration::from_secs(5);
/// It is looked this often whether they have ended, or somebody else's work.
const LOOK: Duration = Duration::from_millis(50);
/// Calls that have not ended so many seconds after the tenant was suspended are not waited for any more.
const MOST_DRAINED_S: i64 = 60;
/// Who its people were is remembered for so many days at least, so that an erasure finds letters to them.
const PEOPLE_DAYS: i64 = 30;
const DAY_S: i64 = 86_400;

/// How far the taking out of a tenant came while somebody waited.
#[derive(Debug, Clone)]
pub enum Left {
    /// It is gone.
    Gone(Box<Tenant>),
    /// It goes on, or waits.
    OnTheWay(Box<Offboarding>),
}

impl Onboarding {
    /// Takes a tenant out. Doing it twice gives the same answer. The answer comes when it is gone, or after a few seconds, while
    /// that goes on in the background.
    pub async fn offboard(&self, scope: Scope, actor: Actor, id: TenantId) -> Result<Left, Error> {
        let tenant = self.services.tenants.find(scope, id).await?;
        if matches!(tenant.status, Status::Deleted { .. }) {
            return Ok(Left::Gone(Box::new(tenant)));
        }
        let begun = match self.begin_to_leave(scope, actor, id).await? {
            Some(begun) => Some(begun),
            None => self.take_up_leaving(scope, id).await?,
        };
        self.wait_for_leaving(scope, id, begun).await
    }

    /// Goes on with it now, whatever it waits for.
    pub async fn retry_offboarding(&self, scope: Scope, actor: Actor, id: TenantId) -> Result<Offboarding, Error> {
        let found = self.offboarding(scope, id).await?;
        if found.status == OffboardingStatus::Done {
            return Err(Error::NothingLeft(id));
        }
        let mut tx = self.store.begin(scope).await?;
        self.note_leaving(&mut tx, &found, actor, "offboarding.retried").await?;
        tx.commit().await?;
        let claimed = self.take_up_leaving(scope, id).await?;
        self.wait_for_leaving(scope, id, claimed).await?;
        self.offboarding(scope, id).await
    }

    /// How far the taking out of a tenant is.
    pub async fn offboarding(&self, scope: Scope, id: TenantId) -> Result<Offboarding, Error> {
        self.services.tenants.find(scope, id).await?;
        self.store.read(scope).await?.offboarding(id).await?.ok_or(Error::NotLeaving(id))
    }

    /// Whether a tenant's place is taken down already: what is made for it from then on is not to be left behind. Before that it
    /// goes when it is time, after the last calls and the export.
    pub(super) async fn place_is_gone(&self, scope: Scope, id: TenantId) -> Result<bool, Error> {
        let mut tx = self.store.read(scope).await?;
        let Some(tenant) = tx.tenant_by_id(id).await? else { return Ok(false) };
        match tenant.status {
            Status::Deleted { .. } => Ok(true),
            Status::Offboarding => {
                let leaving = tx.offboarding(id).await?;
                Ok(leaving.is_some_and(|leaving| leaving.has_done(LeavingStep::Infrastructure)))
            }
            _ => Ok(false),
        }
    }

    /// Writes that it is to be done; `None` when that is written.
    async fn begin_to_leave(&self, scope: Scope, actor: Actor, id: TenantId) -> Result<Option<Offboarding>, Error> {
        self.points.pass(Part::Leave, Phase::Begun).await;
        let begun = Offboarding::begin(id, actor.to_string(), self.clock.now());
        let mut tx = self.store.begin(scope).await?;
        if !tx.offboarding_insert(&begun, self.leased_until()).await? {
            return Ok(None);
        }
        let act = Act { actor, action: "tenant.offboarded", tenant: Some(id), subject: id.to_string(), detail: None };
        self.services.identity.note(&mut tx, act).await?;
        self.points.pass(Part::Leave, Phase::Acted).await;
        tx.commit().await?;
        self.points.pass(Part::Leave, Phase::Written).await;
        Ok(Some(begun))
    }

    /// Takes it up, and begins the step that it stands at once more; `None` when it is done or somebody has it.
    async fn take_up_leaving(&self, scope: Scope, id: TenantId) -> Result<Option<Offboarding>, Error> {
        let mut tx = self.store.begin(scope).await?;
        let Some(claimed) = tx.offboarding_claim(id, self.clock.now(), self.leased_until()).await? else {
            return Ok(None);
        };
        let begun = claimed.clone().begins(self.clock.now());
        self.put_leaving(&mut tx, &claimed, &begun).await?;
        tx.commit().await?;
        Ok(Some(begun))
    }

    /// Goes on with what was taken up, or waits for whoever has it; for a few seconds.
    async fn wait_for_leaving(&self, scope: Scope, id: TenantId, claimed: Option<Offboarding>) -> Result<Left, Error> {
        let waits = async {
            match claimed {
                Some(claimed) => {
                    let this = self.clone();
                    let work = Box::pin(async move { this.leave(Scope::Job(JOB), claimed).await });
                    self.run_detached(work).await.transpose().map(drop)
                }
                None => loop {
                    let found = self.offboarding(scope, id).await?;
                    if found.status != OffboardingStatus::Running {
                        return Ok(());
                    }
                    tokio::time::sleep(LOOK).await;
                },
            }
        };
        if let Ok(went) = tokio::time::timeout(PATIENCE, waits).await {
            went?;
        }
        let tenant = self.services.tenants.find(scope, id).await?;
        if matches!(tenant.status, Status::Deleted { .. }) {
            return Ok(Left::Gone(Box::new(tenant)));
        }
        Ok(Left::OnTheWay(Box::new(self.offboarding(scope, id).await?)))
    }

    /// Takes up what is due; how many tenants that were.
    pub async fn resume_offboardings(&self) -> Result<usize, Error> {
        let due = self.store.read(Scope::Job(JOB)).await?.offboardings_due(self.clock.now(), IN_ONE_GO).await?;
        let taken = stream::iter(due).map(|id| self.resume_leaving(id)).buffer_unordered(AT_ONCE);
        Ok(taken.filter(|taken| std::future::ready(*taken)).count().await)
    }

    async fn resume_leaving(&self, id: TenantId) -> bool {
        let scope = Scope::Job(JOB);
        let gone_on = match self.take_up_leaving(scope, id).await {
            Ok(None) => return false,
            Ok(Some(claimed)) => self.leave(scope, claimed).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = &gone_on {
            tracing::warn!(tenant_id = %id, error = chain(error), "a tenant's taking out could not be gone on with");
        }
        gone_on.is_ok()
    }

    /// At the start: what an earlier process had taken up is taken up by this one. A driver that does not answer keeps nobody
    /// waiting for longer than a few seconds; it goes on behind.
    pub(super) async fn resume_offboardings_at_start(&self) -> Result<usize, Error> {
        let mut tx = self.store.begin(Scope::Job(JOB)).await?;
        tx.offboardings_release().await?;
        tx.commit().await?;
        let this = self.clone();
        let work = Box::pin(async move { this.resume_offboardings().await });
        match tokio::time::timeout(PATIENCE, self.run_detached(work)).await {
            Ok(Some(resumed)) => resumed,
            Ok(None) | Err(_) => Ok(0),
        }
    }

    /// Goes on with what is the caller's, until it is done or waits.
    async fn leave(&self, scope: Scope, mut leaving: Offboarding) -> Result<Offboarding, Error> {
        while let Some(step) = leaving.current().map(|step| step.name) {
            match Box::pin(self.leave_by(scope, &leaving, step)).await {
                Ok(further) => leaving = further,
                Err(Error::LeftToAnother(id)) => return self.offboarding(scope, id).await,
                Err(error) => return Box::pin(self.leaving_falters(scope, leaving, (step, error))).await,
            }
        }
        Ok(leaving)
    }

    async fn leave_by(&self, scope: Scope, leaving: &Offboarding, step: LeavingStep) -> Result<Offboarding, Error> {
        self.points.pass(Part::Leaving(step), Phase::Begun).await;
        Box::pin(self.while_held(scope, leaving, self.leave_outside(scope, leaving, step))).await?;
        let mut tx = self.store.begin(scope).await?;
        self.hold_leaving(&mut tx, leaving).await?;
        let mut further = leaving.clone();
        let withdrawn = self.leave_in(&mut tx, &mut further, step).await?;
        let further = further.done(step, self.clock.now());
        self.put_leaving(&mut tx, leaving, &further).await?;
        self.points.pass(Part::Leaving(step), Phase::Acted).await;
        tx.commit().await?;
        if let Some(withdrawn) = withdrawn {
            self.services.identity.revoke_now(withdrawn);
        }
        self.services.tenants.announce(leaving.tenant_id);
        self.points.pass(Part::Leaving(step), Phase::Written).await;
        Ok(further)
    }

    /// What a step does outside of the transaction that notes it. All of it may be done twice.
    async fn leave_outside(&self, scope: Scope, leaving: &Offboarding, step: LeavingStep) -> Result<(), Error> {
        let tenant = leaving.tenant_id;
        match step {
            LeavingStep::FinalInvoice => {
                self.calls_end(leaving).await?;
                Ok(self.services.billing.final_invoice(scope, tenant, leaving.used).await?)
            }
            LeavingStep::Export if self.leaving.export_days > 0 => self.keep_export(scope, leaving).await,
            LeavingStep::Infrastructure => Ok(self.services.provisioning.remove(scope, tenant).await?),
            LeavingStep::Suspend
            | LeavingStep::Export
            | LeavingStep::Account
            | LeavingStep::People
            | LeavingStep::Tombstone => Ok(()),
        }
    }

    /// Calls that were let through before are counted when they end.
    async fn calls_end(&self, leaving: &Offboarding) -> Result<(), Error> {
        let under_way = || (self.leaving.under_way)(leaving.tenant_id);
        let wait = async {
            while under_way() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(CALLS_END, wait).await.is_ok() {
            return Ok(());
        }
        let suspended_at = leaving.step(LeavingStep::Suspend).and_then(|step| step.ended_at);
        if suspended_at.is_none_or(|at| at.plus_secs(MOST_DRAINED_S) <= self.clock.now()) {
            tracing::warn!(tenant_id = %leaving.tenant_id, "calls of a tenant that leaves did not end in time");
            return Ok(());
        }
        Err(Error::UnderWay(under_way()))
    }

    /// What a step does within the transaction that notes that it is done.
    async fn leave_in(
        &self,
        tx: &mut Tx,
        leaving: &mut Offboarding,
        step: LeavingStep,
    ) -> Result<Option<Withdrawal>, Error> {
        let (tenant, services, now) = (leaving.tenant_id, &self.services, self.clock.now());
        let kept_until = |days: i64| now.plus_secs(days * DAY_S);
        match step {
            LeavingStep::Suspend => {
                // Whoever makes something for it just now finds that it is not theirs any more. Registrations and changes are held
                // before the tenant, as those who go on with them do; who changes it is waited for, not run into.
                tx.registrations_stop(tenant).await?;
                tx.tenant_lock(tenant).await?;
                let before = tx.tenant_by_id(tenant).await?.map(|tenant| tenant.status);
                leaving.used = match before {
                    Some(Status::Provisioning | Status::Failed(_)) => false,
                    // One that is being taken back never was.
                    Some(Status::Offboarding) => {
                        let registrations = tx.registrations_of_tenant(tenant).await?;
                        !registrations.iter().any(|registration| registration.founds && registration.undoing)
                    }
                    _ => true,
                };
                services.tenants.change_in(tx, tenant, Tenant::begin_offboarding).await?;
                return Ok(Some(services.identity.forget_tenant_in(tx, tenant).await?));
            }
            LeavingStep::Export => {
                let until = kept_until(self.leaving.export_days);
                let kept = (self.leaving.export_days > 0).then_some(leaving.claims);
                leaving.export = kept.map(|claim| KeptExport { claim, until });
                leaving.export_until = Some(until);
                // Of tries before.
                tx.kept_export_drop_others(tenant, kept).await?;
            }
            LeavingStep::Account => services.billing.close_account_in(tx, tenant).await?,
            LeavingStep::People => {
                tx.offboarding_people_note(tenant).await?;
                leaving.people_until = Some(kept_until(self.leaving.export_days.max(PEOPLE_DAYS)));
                let withdrawn = services.identity.forget_tenant_in(tx, tenant).await?;
                services.users.remove_all_in(tx, tenant).await?;
                for registration in tx.registrations_of_tenant(tenant).await? {
                    tx.registration_end(&registration.compensated(now)).await?;
                }
                return Ok(Some(withdrawn));
            }
            LeavingStep::Tombstone => drop(self.bury_in(tx, tenant).await?),
            LeavingStep::FinalInvoice | LeavingStep::Infrastructure => {}
        }
        Ok(None)
    }

    /// Notes that a step failed, and when it is tried again.
    async fn leaving_falters(
        &self,
        scope: Scope,
        leaving: Offboarding,
        (step, error): (LeavingStep, Error),
    ) -> Result<Offboarding, Error> {
        let id = leaving.tenant_id;
        tracing::warn!(tenant_id = %id, step = step.name(), error = chain(&error), "a tenant could not be taken out yet");
        let now = self.clock.now();
        let attempts = leaving.step(step).map_or(1, |step| step.attempts);
        let chance = u16::from_be_bytes(random_bytes(&*self.rng));
        let next_try_at = now.plus_micros(self.retries.delay_micros(attempts, chance));
        let failed = leaving.clone().falters(step, error.to_string(), next_try_at, now);
        let mut tx = self.store.begin(scope).await?;
        self.note_leaving(&mut tx, &failed, Actor::Job(JOB), "offboarding.failed").await?;
        if !tx.offboarding_update(&leaving, &failed, None).await? {
            return self.offboarding(scope, id).await;
        }
        tx.commit().await?;
        Ok(failed)
    }

    /// Does work that may take long, and keeps hold of the tenant meanwhile.
    async fn while_held(
        &self,
        scope: Scope,
        leaving: &Offboarding,
        work: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let pause = Duration::from_secs(self.retries.lease_s.unsigned_abs()) / RENEWALS;
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(pause) => {}
            }
            let renewed = async {
                let mut tx = self.store.begin(scope).await?;
                self.hold_leaving(&mut tx, leaving).await?;
                Ok::<_, Error>(tx.commit().await?)
            };
            // Whether it is still ours is seen when the work is to be noted.
            if let Err(error) = renewed.await {
                tracing::warn!(tenant_id = %leaving.tenant_id, error = chain(&error), "an offboarding could not be kept");
            }
        }
    }

    pub(super) async fn hold_leaving(&self, tx: &mut Tx, leaving: &Offboarding) -> Result<(), Error> {
        let held = tx.offboarding_hold(leaving, self.leased_until()).await?;
        if held { Ok(()) } else { Err(Error::LeftToAnother(leaving.tenant_id)) }
    }

    async fn put_leaving(&self, tx: &mut Tx, before: &Offboarding, after: &Offboarding) -> Result<(), Error> {
        let leased_until: Option<Timestamp> = after.current().map(|_| self.leased_until());
        let held = tx.offboarding_update(before, after, leased_until).await?;
        if held { Ok(()) } else { Err(Error::LeftToAnother(before.tenant_id)) }
    }

    async fn note_leaving(
        &self,
        tx: &mut Tx,
        leaving: &Offboarding,
        actor: Actor,
        action: &'static str,
    ) -> Result<(), Error> {
        let detail = leaving.current().map(|step| format!("at {}, try {}", step.name.name(), step.attempts));
        let (tenant, subject) = (Some(leaving.tenant_id), leaving.tenant_id.to_string());
        Ok(self.services.identity.note(tx, Act { actor, action, tenant, subject, detail }).await?)
    }
}
