//! Going on with a change of tier: each step is written before it is acted on, and what came of it after; whoever goes on with one has
//! taken it up for a while, as with registrations (`saga.rs`).
//!
//! Until the tier is another, a step that fails is taken back with all before it, and the tenant has what it had. From then on it
//! goes only forward, and is tried until it is done.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt as _, stream};

use super::{
    error::Error,
    model::StepStatus,
    points::Phase,
    service::{Onboarding, PATIENCE},
    tier_model::{ChangeStatus, ChangeStepName, TierChange},
    tier_points::TierPart,
};
use crate::{
    kernel::{Act, Actor, TierChangeId, fault::chain, rng::random_bytes},
    provisioning::{Site, Tally, Way},
    store::{Scope, StoreError, Tx},
    tenants::{self, Status, Tenant},
};

/// Changes that are looked for in one go, and so many of them are gone on with at once.
const IN_ONE_GO: i64 = 50;
const AT_ONCE: usize = 8;
/// How often a lease is renewed while it lasts.
const RENEWALS: u32 = 3;

impl Onboarding {
    /// Takes up changes that are due; how many that were.
    pub async fn resume_changes(&self) -> Result<usize, Error> {
        let scope = Scope::Job("tier-changes");
        let due = self.store.read(scope).await?.tier_changes_due(self.clock.now(), IN_ONE_GO).await?;
        let taken = stream::iter(due).map(|id| self.resume_change(scope, id)).buffer_unordered(AT_ONCE);
        Ok(taken.filter(|taken| std::future::ready(*taken)).count().await)
    }

    /// What an earlier process left: its claims, and changes that were begun before changes were kept.
    pub(super) async fn resume_all_changes(&self, scope: Scope) -> Result<usize, Error> {
        let mut tx = self.store.begin(scope).await?;
        tx.tier_changes_release().await?;
        tx.commit().await?;
        for tenant in self.in_state(scope, "changing_tier").await? {
            if let Err(error) = self.adopt_change(scope, &tenant).await {
                tracing::warn!(tenant_id = %tenant.id, error = chain(&error), "a change of tier could not be taken up");
            }
        }
        let this = self.clone();
        let work = Box::pin(async move { this.resume_changes().await });
        // A driver that does not answer keeps nobody waiting for longer than a few seconds; it goes on behind.
        match tokio::time::timeout(PATIENCE, self.run_detached(work)).await {
            Ok(Some(resumed)) => resumed,
            Ok(None) | Err(_) => Ok(0),
        }
    }

    async fn adopt_change(&self, scope: Scope, tenant: &Tenant) -> Result<(), Error> {
        let Status::ChangingTier { to } = tenant.status.clone() else { return Ok(()) };
        let mut tx = self.store.begin(scope).await?;
        tx.tenant_lock(tenant.id).await?;
        if tx.tier_change_running(tenant.id).await?.is_some() {
            return Ok(());
        }
        let wanted = self.isolation_of(&to)?;
        let change = self.begin_change_in(&mut tx, Actor::Job("resume"), tenant, (to, wanted)).await?;
        // Nobody is at it.
        tx.tier_change_update(&change, None).await?;
        Ok(tx.commit().await?)
    }

    async fn resume_change(&self, scope: Scope, id: TierChangeId) -> bool {
        let gone_on = async {
            let mut tx = self.store.begin(scope).await?;
            let claimed = tx.tier_change_claim(id, self.clock.now(), self.leased_until()).await?;
            let Some(change) = claimed else { return Ok(false) };
            let change = change.begins(self.clock.now());
            self.put_change(&mut tx, &change).await?;
            tx.commit().await?;
            // Why it was taken back is noted with it.
            self.go_on_with_change(scope, change).await.map(|_| true)
        };
        match Box::pin(gone_on).await {
            Ok(taken) => taken,
            Err(error) => {
                // The next ones are not to wait for one that cannot be gone on with.
                tracing::warn!(change_id = %id, error = chain(&error), "a change of tier could not be gone on with");
                false
            }
        }
    }

    /// Goes on with a change that is the caller's, until it has ended or waits: an error where it was taken back.
    pub(super) async fn run_change(&self, scope: Scope, change: TierChange) -> Result<TierChange, Error> {
        match self.go_on_with_change(scope, change).await? {
            (_, Some(why)) => Err(why),
            (change, None) => Ok(change),
        }
    }

    async fn go_on_with_change(
        &self,
        scope: Scope,
        mut change: TierChange,
    ) -> Result<(TierChange, Option<Error>), Error> {
        let mut refusal = None;
        while let Some(step) = change.current().map(|step| step.name) {
            let went = if change.undoing {
                Box::pin(self.take_back(scope, &change)).await.map(Some)
            } else {
                Box::pin(self.take_step(scope, &change, step)).await.map(Some)
            };
            let went = match went {
                Err(error @ Error::LostChange(_)) => Err(error),
                Err(error) => Box::pin(self.change_falters(scope, change.clone(), (step, error), &mut refusal)).await,
                went => went,
            };
            match went {
                Ok(Some(further)) => change = further,
                // It waits for another try.
                Ok(None) => return Ok((self.find_change(scope, change.tenant_id, change.id).await?, None)),
                Err(Error::LostChange(id)) => return self.lost_change(scope, change.tenant_id, id).await,
                Err(error) => return Err(error),
            }
        }
        Ok((change, refusal))
    }

    async fn take_step(&self, scope: Scope, change: &TierChange, step: ChangeStepName) -> Result<TierChange, Error> {
        self.points.changes.pass(TierPart::Step(step), Phase::Begun).await;
        let (tenant, now) = (change.tenant_id, || self.clock.now());
        let provisioning = &self.services.provisioning;
        let further = match (step, change.site.as_ref()) {
            (ChangeStepName::Switch, _) => return self.switch(scope, change).await,
            (ChangeStepName::Reserve, Some(site)) => return self.reserve(scope, change, site).await,
            (ChangeStepName::Provision, Some(site)) => {
                self.meanwhile_of(scope, change, async { Ok(provisioning.make_site(scope, tenant, site).await?) })
                    .await?;
                change.clone().done(now())
            }
            (ChangeStepName::Copy, Some(_)) => {
                let carried = self.meanwhile_of(scope, change, self.carry(scope, change)).await?;
                TierChange { carried: Some(carried), ..change.clone() }.done(now())
            }
            (ChangeStepName::Drain, _) => {
                let ended = tokio::time::timeout(self.moves.drain, self.moves.holder.ended(tenant));
                let waited = self.meanwhile_of(scope, change, async { Ok(ended.await) }).await?;
                if waited.is_err() {
                    tracing::warn!(tenant_id = %tenant, "calls that last go on while the place they began with is taken down");
                }
                change.clone().done(now())
            }
            (ChangeStepName::Release, _) => self.release(scope, change).await?,
            // Has no such steps.
            (ChangeStepName::Reserve | ChangeStepName::Provision | ChangeStepName::Copy, None) => {
                change.clone().done(now())
            }
        };
        let mut tx = self.store.begin(scope).await?;
        self.put_change(&mut tx, &further).await?;
        self.points.changes.pass(TierPart::Step(step), Phase::Acted).await;
        tx.commit().await?;
        self.points.changes.pass(TierPart::Step(step), Phase::Written).await;
        Ok(further)
    }

    async fn reserve(&self, scope: Scope, change: &TierChange, site: &Site) -> Result<TierChange, Error> {
        let provisioning = &self.services.provisioning;
        self.meanwhile_of(scope, change, async { Ok(provisioning.clear(scope, change.tenant_id, site).await?) })
            .await?;
        loop {
            let mut tx = self.store.begin(scope).await?;
            let further = change.clone().done(self.clock.now());
            self.put_change(&mut tx, &further).await?;
            if !provisioning.reserve_in(&mut tx, change.tenant_id, site).await? {
                continue;
            }
            let part = TierPart::Step(ChangeStepName::Reserve);
            self.points.changes.pass(part, Phase::Acted).await;
            tx.commit().await?;
            self.points.changes.pass(part, Phase::Written).await;
            return Ok(further);
        }
    }

    async fn carry(&self, scope: Scope, change: &TierChange) -> Result<Tally, Error> {
        let way = Way { from: change.left.clone(), to: change.site.clone() };
        Ok(self.services.provisioning.carry(scope, change.tenant_id, &way).await?)
    }

    /// Tier, bill and route become the new ones, at once and in one transaction. Where the tenant moves, its calls wait meanwhile:
    /// none is under way, so nothing is written to the old place after the last copy of it.
    async fn switch(&self, scope: Scope, change: &TierChange) -> Result<TierChange, Error> {
        let tenant = change.tenant_id;
        let mut further = change.clone();
        let held = if change.site.is_some() {
            let quiet = async {
                let held = self.moves.holder.hold(tenant).await;
                let carried = if change.left.is_some() { Some(self.carry(scope, change).await?) } else { None };
                Ok::<_, Error>((held, carried))
            };
            let (held, carried) = tokio::time::timeout(self.moves.hold, quiet)
                .await
                .map_err(|_| Error::NotQuiet { tenant, hold_ms: self.moves.hold.as_millis() })??;
            further.carried = carried;
            Some(held)
        } else {
            None
        };
        let now = self.clock.now();
        further.switched_at = Some(now);
        let further = further.done(now);
        let mut tx = self.store.begin(scope).await?;
        self.put_change(&mut tx, &further).await?;
        if let Some(site) = &change.site {
            self.services.provisioning.use_in(&mut tx, tenant, site).await?;
        }
        self.services.tenants.change_in(&mut tx, tenant, Tenant::finish_tier_change).await?;
        self.note_change(&mut tx, &further, "tenant.tier_changed", format!("{} to {}", change.from, change.to)).await?;
        let part = TierPart::Step(ChangeStepName::Switch);
        self.points.changes.pass(part, Phase::Acted).await;
        tx.commit().await?;
        self.services.tenants.announce(tenant);
        drop(held);
        self.points.changes.pass(part, Phase::Written).await;
        Ok(further)
    }

    /// Takes the old place down, unless somebody wrote there since.
    async fn release(&self, scope: Scope, change: &TierChange) -> Result<TierChange, Error> {
        let now = self.clock.now();
        let Some(left) = &change.left else { return Ok(change.clone().done(now)) };
        let carried = change.carried.clone().unwrap_or_default();
        let released = async { Ok(self.services.provisioning.release(scope, left, Some(&carried)).await?) };
        let Some(found) = self.meanwhile_of(scope, change, released).await? else {
            return Ok(change.clone().done(now));
        };
        let (place, rows, had) = (&left.location, found.rows, carried.rows);
        let why = format!("{place} is kept: {rows} rows are there, others than the {had} that were carried along");
        tracing::warn!(tenant_id = %change.tenant_id, why, "somebody wrote to a place that its tenant had left");
        Ok(change.clone().falters(why, None, now).ends(ChangeStatus::Kept, now))
    }

    /// Notes that a step failed, and decides: try again later, or take everything back.
    async fn change_falters(
        &self,
        scope: Scope,
        change: TierChange,
        (step, error): (ChangeStepName, Error),
        refusal: &mut Option<Error>,
    ) -> Result<Option<TierChange>, Error> {
        let (id, why) = (change.id, error.to_string());
        tracing::warn!(change_id = %id, step = step.name(), error = chain(&error), "a step of a change of tier failed");
        let (now, attempts) = (self.clock.now(), change.current().map_or(1, |step| step.attempts));
        let waits = change.switched_at.is_some() || change.undoing || is_passing(&error);
        let back = !waits || (change.switched_at.is_none() && !change.undoing && attempts >= self.retries.max_attempts);
        self.points.changes.pass(TierPart::Failure, Phase::Begun).await;
        let mut tx = self.store.begin(scope).await?;
        let further = if back {
            change.turns_back(why, now)
        } else {
            let luck = u16::from_be_bytes(random_bytes(&*self.rng));
            let next_try_at = Some(now.plus_micros(self.retries.delay_micros(attempts, luck)));
            change.falters(why, next_try_at, now)
        };
        let leased_until = back.then(|| self.leased_until());
        if !tx.tier_change_update(&further, leased_until).await? {
            return Err(Error::LostChange(id));
        }
        self.points.changes.pass(TierPart::Failure, Phase::Acted).await;
        tx.commit().await?;
        self.points.changes.pass(TierPart::Failure, Phase::Written).await;
        if back {
            *refusal = Some(error);
        }
        Ok(back.then_some(further))
    }

    /// The tenant keeps what it has: what was made for it is taken down, or noted to be when that is possible.
    async fn take_back(&self, scope: Scope, change: &TierChange) -> Result<TierChange, Error> {
        self.points.changes.pass(TierPart::Undo, Phase::Begun).await;
        let tenant = change.tenant_id;
        // What was there before is not this change's to take down.
        if let Some(site) = change.site.as_ref().filter(|_| change.has_done(ChangeStepName::Reserve)) {
            let forsaken = async { Ok(self.services.provisioning.forsake(scope, tenant, site).await?) };
            self.meanwhile_of(scope, change, forsaken).await?;
        }
        let mut undone = change.clone().ends(ChangeStatus::Undone, self.clock.now());
        for step in undone.steps.iter_mut().filter(|step| step.status == StepStatus::Done) {
            step.status = StepStatus::Undone;
        }
        let mut tx = self.store.begin(scope).await?;
        self.put_change(&mut tx, &undone).await?;
        let keep = |tenant: Tenant| match tenant.status {
            Status::ChangingTier { .. } => tenant.abandon_tier_change(),
            // Somebody takes it out.
            _ => Ok(tenant),
        };
        self.services.tenants.change_in(&mut tx, tenant, keep).await?;
        self.note_change(&mut tx, &undone, "tenant.tier_kept", format!("{}, not {}", change.from, change.to)).await?;
        self.points.changes.pass(TierPart::Undo, Phase::Acted).await;
        tx.commit().await?;
        self.services.tenants.announce(tenant);
        self.points.changes.pass(TierPart::Undo, Phase::Written).await;
        Ok(undone)
    }

    /// Another has it, or took its tenant out: what was made here since is not to be left behind.
    async fn lost_change(
        &self,
        scope: Scope,
        tenant: crate::kernel::TenantId,
        id: TierChangeId,
    ) -> Result<(TierChange, Option<Error>), Error> {
        let gone = match self.services.tenants.find(scope, tenant).await {
            Ok(tenant) => matches!(tenant.status, Status::Offboarding | Status::Deleted { .. }),
            Err(tenants::Error::Unknown(_)) => false,
            Err(error) => return Err(error.into()),
        };
        if gone && self.place_is_gone(scope, tenant).await? {
            self.services.provisioning.remove(scope, tenant).await?;
        }
        Ok((self.find_change(scope, tenant, id).await?, gone.then_some(Error::LostChange(id))))
    }

    /// Does work that may take long, and keeps the change meanwhile.
    async fn meanwhile_of<T>(
        &self,
        scope: Scope,
        change: &TierChange,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let pause = Duration::from_secs(self.retries.lease_s.unsigned_abs()) / RENEWALS;
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(pause) => {}
            }
            let renewed = async {
                let mut tx = self.store.begin(scope).await?;
                tx.tier_change_hold(change, self.leased_until()).await?;
                tx.commit().await
            };
            // Whether it is still ours is seen when the work is to be noted; it is not left half done.
            if let Err(error) = renewed.await {
                tracing::warn!(change_id = %change.id, error = chain(&error), "a change of tier could not be kept");
            }
        }
    }

    async fn put_change(&self, tx: &mut Tx, change: &TierChange) -> Result<(), Error> {
        let leased_until = (change.status == ChangeStatus::Running).then(|| self.leased_until());
        let held = tx.tier_change_update(change, leased_until).await?;
        if held { Ok(()) } else { Err(Error::LostChange(change.id)) }
    }

    async fn note_change(
        &self,
        tx: &mut Tx,
        change: &TierChange,
        action: &'static str,
        detail: String,
    ) -> Result<(), Error> {
        let (tenant, subject, actor) = (Some(change.tenant_id), change.tenant_id.to_string(), change.actor);
        Ok(self.services.identity.note(tx, Act { actor, action, tenant, subject, detail: Some(detail) }).await?)
    }
}

/// Whether it makes sense to try again by itself: what failed is nobody's refusal.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::NotQuiet { .. } | Error::Store(StoreError::Database(_)))
}
