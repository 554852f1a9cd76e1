//! Changing a tenant's tier: what it would do, what is asked for, and how a change stands. What its steps do is in `tier_steps.rs`.

use std::{sync::Arc, time::Duration};

use super::{
    error::Error,
    points::Phase,
    service::{Onboarding, PATIENCE},
    tier_model::{ChangeStatus, TierChange},
    tier_points::TierPart,
};
use crate::{
    billing::TierSplit,
    kernel::{
        Act, Actor, Isolation, Page, PageRequest, TenantId, TierChangeId, TierName, fault::chain, observer::CallHolder,
    },
    provisioning::{self, Infrastructure, Site, Way},
    store::{Scope, StoreError, Tx},
    tenants::{Status, Tenant},
};

/// A change does not wait for longer than this to know what it comes to.
const SPLIT: Duration = Duration::from_secs(2);

/// How a tenant's calls are treated while it moves.
#[derive(Clone)]
pub struct Moves {
    /// Lets calls wait.
    pub holder: Arc<dyn CallHolder>,
    /// For so long at most.
    pub hold: Duration,
    /// Calls that last and went to the old place have so long to end.
    pub drain: Duration,
}

/// What a change of tier does, did, or would do.
#[derive(Debug, Clone)]
pub struct TierAnswer {
    /// The tenant as it is now.
    pub tenant: Tenant,
    /// The tier it had.
    pub from: TierName,
    /// The tier it has, or would have.
    pub to: TierName,
    /// The change, where there is one.
    pub change: Option<TierChange>,
    /// What would be done, step by step, where nothing is.
    pub planned: Vec<(&'static str, Vec<String>)>,
    /// What happens to its infrastructure.
    pub infrastructure: Move,
    /// How many rows go along.
    pub rows: u64,
    /// What it comes to for the period that runs.
    pub money: Option<TierSplit>,
}

/// What happens to infrastructure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Both tiers want the same kind.
    Kept(Option<Infrastructure>),
    /// It would be moved, or is about to be.
    Planned {
        /// What is there.
        from: Option<Infrastructure>,
        /// What would be made.
        to: Isolation,
    },
    /// It was moved.
    Moved {
        /// What was there.
        from: Option<Infrastructure>,
        /// What is there now.
        to: Infrastructure,
    },
}

/// What became of a request to change a tier.
enum Asked {
    /// It has that tier.
    Has(Tenant),
    /// It is a change that is under way.
    Known(TierChange),
    /// It is one that begins.
    New(Box<TierChange>),
}

impl Onboarding {
    /// What a change of tier would do; changes nothing.
    pub async fn plan_tier_change(&self, scope: Scope, id: TenantId, to: TierName) -> Result<TierAnswer, Error> {
        let (way, wanted) = self.looked_ahead(scope, id, &to).await?;
        let rows = self.services.provisioning.rows_to_carry(scope, &way).await?;
        let tenant = self.services.tenants.find(scope, id).await?;
        let under_way = self.store.read(scope).await?.tier_change_running(id).await?;
        if let Some(change) = under_way {
            return if change.to == to { self.answer(scope, change, None).await } else { Err(under_way_of(&change)) };
        }
        if tenant.tier != to {
            tenant.clone().begin_tier_change(to.clone())?;
        }
        let Way { from, to: site } = way;
        let planned = if tenant.tier == to {
            Vec::new()
        } else {
            self.planned(scope, id, (from.as_ref(), site.as_ref()), rows).await?
        };
        let infrastructure = match site {
            None => Move::Kept(from),
            Some(_) => Move::Planned { from, to: wanted },
        };
        let money = self.split(scope, id, &to).await;
        Ok(TierAnswer { from: tenant.tier.clone(), tenant, to, change: None, planned, infrastructure, rows, money })
    }

    /// Moves a tenant to another tier. Calls go on during the move, and none fails of it. A move that fails leaves the old tier in
    /// force. The answer is how it stands when it has ended, or after a few seconds, while it goes on in the background.
    pub async fn change_tier(
        &self,
        scope: Scope,
        actor: Actor,
        id: TenantId,
        to: TierName,
    ) -> Result<TierAnswer, Error> {
        let under_way = self.store.read(scope).await?.tier_change_running(id).await?;
        if let Some(change) = under_way {
            return if change.to == to { self.answer(scope, change, None).await } else { Err(under_way_of(&change)) };
        }
        let (way, wanted) = self.looked_ahead(scope, id, &to).await?;
        if way.crosses() {
            self.services.provisioning.rows_to_carry(scope, &way).await?;
        }
        let money = self.split(scope, id, &to).await;
        match self.accept_change(scope, actor, id, (to.clone(), wanted)).await? {
            Asked::Has(tenant) => {
                let infrastructure = Move::Kept(self.infrastructure(scope, id).await?);
                let (from, planned) = (tenant.tier.clone(), Vec::new());
                Ok(TierAnswer { from, tenant, to, change: None, planned, infrastructure, rows: 0, money: None })
            }
            Asked::Known(change) => self.answer(scope, change, None).await,
            Asked::New(change) => {
                let (this, change_id) = (self.clone(), change.id);
                let work = Box::pin(async move { this.run_change(scope, *change).await });
                let change = match tokio::time::timeout(PATIENCE, self.run_detached(work)).await {
                    Ok(Some(went)) => went?,
                    Ok(None) | Err(_) => self.find_change(scope, id, change_id).await?,
                };
                self.answer(scope, change, money).await
            }
        }
    }

    /// A tenant's changes of tier.
    pub async fn tier_changes(&self, scope: Scope, id: TenantId, page: PageRequest) -> Result<Page<TierChange>, Error> {
        self.services.tenants.find(scope, id).await?;
        let rows = self.store.read(scope).await?.tier_changes(id, page).await?;
        Ok(page.page(rows, |change| change.id.as_uuid()))
    }

    /// Takes down the old place of a change that was kept because somebody wrote there: if that was taken back since, or, on
    /// demand, whatever is there.
    pub async fn release_place(
        &self,
        scope: Scope,
        actor: Actor,
        (id, change): (TenantId, TierChangeId),
        discard: bool,
    ) -> Result<TierChange, Error> {
        let change = self.find_change(scope, id, change).await?;
        let left = change.left.as_ref().filter(|_| change.status == ChangeStatus::Kept);
        let left = left.ok_or(Error::NothingKept(change.id))?;
        let carried = change.carried.as_ref().filter(|_| !discard);
        if let Some(found) = self.services.provisioning.release(scope, left, carried).await? {
            return Err(Error::StillThere { place: left.location.clone(), rows: found.rows });
        }
        let now = self.clock.now();
        let released = change.clone().done(now);
        let mut tx = self.store.begin(scope).await?;
        if !tx.tier_change_update(&released, None).await? {
            return Err(Error::LostChange(change.id));
        }
        let detail = Some(format!("{}{}", left.location, if discard { ", whatever is there" } else { "" }));
        let (tenant, action, subject) = (Some(id), "tenant.place_released", change.id.to_string());
        self.services.identity.note(&mut tx, Act { actor, action, tenant, subject, detail }).await?;
        tx.commit().await?;
        Ok(released)
    }

    pub(super) async fn find_change(
        &self,
        scope: Scope,
        id: TenantId,
        change: TierChangeId,
    ) -> Result<TierChange, Error> {
        let found = self.store.read(scope).await?.tier_change_by_id(change).await?;
        found.filter(|change| change.tenant_id == id).ok_or(Error::UnknownChange(change))
    }

    /// Refuses what can be refused before anything is written.
    async fn looked_ahead(&self, scope: Scope, id: TenantId, to: &TierName) -> Result<(Way, Isolation), Error> {
        let wanted = self.isolation_of(to)?;
        self.services.tenants.find(scope, id).await?;
        self.services.billing.must_owe_in_currency_of(scope, id, to).await?;
        let mut tx = self.store.read(scope).await?;
        let way = self.services.provisioning.way_in(&mut tx, id, wanted).await?;
        Ok((way, wanted))
    }

    /// Writes a change down, with all it works from, before anything of it is done.
    async fn accept_change(
        &self,
        scope: Scope,
        actor: Actor,
        id: TenantId,
        (to, wanted): (TierName, Isolation),
    ) -> Result<Asked, Error> {
        self.points.changes.pass(TierPart::Accept, Phase::Begun).await;
        let mut tx = self.store.begin(scope).await?;
        // Of two who ask at once, one is the first.
        tx.tenant_lock(id).await?;
        if let Some(change) = tx.tier_change_running(id).await? {
            return if change.to == to { Ok(Asked::Known(change)) } else { Err(under_way_of(&change)) };
        }
        let tenant = tx.tenant_by_id(id).await?.ok_or(crate::tenants::Error::Unknown(id))?;
        if tenant.tier == to && tenant.status == Status::Active {
            return Ok(Asked::Has(tenant));
        }
        let change = self.begin_change_in(&mut tx, actor, &tenant, (to, wanted)).await?;
        let detail = Some(format!("{} to {}", change.from, change.to));
        let (action, subject) = ("tenant.tier_asked", id.to_string());
        self.services.identity.note(&mut tx, Act { actor, action, tenant: Some(id), subject, detail }).await?;
        self.points.changes.pass(TierPart::Accept, Phase::Acted).await;
        tx.commit().await?;
        self.services.tenants.announce(id);
        self.points.changes.pass(TierPart::Accept, Phase::Written).await;
        Ok(Asked::New(Box::new(change)))
    }

    pub(super) async fn begin_change_in(
        &self,
        tx: &mut Tx,
        actor: Actor,
        tenant: &Tenant,
        (to, wanted): (TierName, Isolation),
    ) -> Result<TierChange, Error> {
        let (id, now, target) = (tenant.id, self.clock.now(), to.clone());
        self.services.tenants.change_in(tx, id, |tenant| tenant.begin_tier_change(target)).await?;
        let Way { from: left, to: site } = self.services.provisioning.way_in(tx, id, wanted).await?;
        let change = TierChange {
            id: TierChangeId::generate(now, &*self.rng),
            tenant_id: id,
            from: tenant.tier.clone(),
            to,
            status: ChangeStatus::Running,
            undoing: false,
            actor,
            steps: TierChange::first_steps(left.is_some(), site.is_some(), now),
            left,
            site,
            carried: None,
            switched_at: None,
            claims: 1,
            created_at: now,
            updated_at: now,
        };
        match tx.tier_change_insert(&change, self.leased_until()).await {
            Err(StoreError::Duplicate) => Err(under_way_of(&change)),
            inserted => Ok(inserted.map(|()| change)?),
        }
    }

    /// How a change stands, with all there is to say.
    async fn answer(&self, scope: Scope, change: TierChange, money: Option<TierSplit>) -> Result<TierAnswer, Error> {
        let id = change.tenant_id;
        let tenant = self.services.tenants.find(scope, id).await?;
        let now = self.infrastructure(scope, id).await?;
        let infrastructure = match (&change.site, now) {
            (Some(Site { isolation, .. }), now) if change.switched_at.is_none() => {
                Move::Planned { from: now, to: *isolation }
            }
            (Some(_), Some(now)) => Move::Moved { from: change.left.clone(), to: now },
            (_, now) => Move::Kept(now),
        };
        let money = match (money, change.switched_at) {
            // What was worked out for the minute of the switch is what it came to.
            (Some(before), Some(at)) if before.switched_at != at.floor_minute() => {
                let made = self.services.billing.tier_split_made(scope, id, (&before, at)).await;
                Some(made.unwrap_or(before))
            }
            (money, _) => money,
        };
        let rows = change.carried.as_ref().map_or(0, |carried| carried.rows);
        let (from, to) = (change.from.clone(), change.to.clone());
        Ok(TierAnswer { tenant, from, to, change: Some(change), planned: Vec::new(), infrastructure, rows, money })
    }

    /// What a change comes to. A tenant that owes nothing, or whose bill cannot be worked out now, changes its tier all the same.
    async fn split(&self, scope: Scope, id: TenantId, to: &TierName) -> Option<TierSplit> {
        match tokio::time::timeout(SPLIT, self.services.billing.tier_split(scope, id, to)).await {
            Ok(Ok(split)) => Some(split),
            Ok(Err(error)) => {
                tracing::debug!(tenant_id = %id, error = chain(&error), "what a change of tier comes to is not known");
                None
            }
            // A bill of hundreds of parts.
            Err(_) => None,
        }
    }

    /// What would be done, step by step.
    async fn planned(
        &self,
        scope: Scope,
        id: TenantId,
        (from, site): (Option<&Infrastructure>, Option<&Site>),
        rows: u64,
    ) -> Result<Vec<(&'static str, Vec<String>)>, Error> {
        let mut steps = Vec::new();
        let hold = format!("hold calls, for {} ms at most", self.moves.hold.as_millis());
        let Some(site) = site else {
            return Ok(vec![("switch", vec!["tier and bill are the new ones".to_owned()])]);
        };
        let made = self.services.provisioning.plan(scope, id, site.isolation).await?;
        steps.push(("reserve", vec![format!("note a {} of the driver {}", site.isolation.name(), site.driver)]));
        steps.push(("provision", made));
        let switched = "tier, bill and route are the new ones".to_owned();
        let Some(from) = from else {
            steps.push(("switch", vec![hold, switched]));
            return Ok(steps);
        };
        steps.push(("copy", vec![format!("copy {rows} rows while calls go on")]));
        steps.push(("switch", vec![hold, "copy again, compare number and checksum".to_owned(), switched]));
        let drain = self.moves.drain.as_secs();
        steps.push(("drain", vec![format!("wait for streams of before, for {drain} s at most")]));
        steps.push(("release", vec![format!("compare {} once more, and take it down", from.location)]));
        Ok(steps)
    }

    pub(super) async fn infrastructure(&self, scope: Scope, id: TenantId) -> Result<Option<Infrastructure>, Error> {
        match self.services.provisioning.find(scope, id).await {
            Ok(found) => Ok(Some(found)),
            Err(provisioning::Error::None(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn isolation_of(&self, tier: &TierName) -> Result<Isolation, Error> {
        let plan = self.services.billing.plan(tier).ok_or_else(|| Error::UnknownTier(tier.clone()))?;
        Ok(plan.isolation)
    }
}

fn under_way_of(change: &TierChange) -> Error {
    Error::ChangeUnderWay { id: change.tenant_id, to: change.to.clone() }
}
