//! Goes round all tenants and compares what is there for each with what should be: its tier's kind of place, made by the driver
//! that made it, and well. What is not so is noted as drift; what can be mended without loss is mended; whose infrastructure
//! does not work for several looks in a row becomes unavailable, and available again by itself.
//!
//! A round is walked in steps of so many tenants, and each step is taken by one node: tenants with nothing wrong cost no write.
//! What was found wrong is looked at again by itself, sooner than the round comes by.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use futures_util::{StreamExt as _, stream};

use super::{
    drift::{BAD_LOOKS, Drift, DriftFilter, DriftKind, Found},
    error::Error,
    health::Health,
    looking::Noted,
    service::Provisioning,
};
use crate::{
    kernel::{Act, Actor, Isolation, Page, PageRequest, TenantId, TierName, Timestamp, fault::chain, ids::uuid_v7},
    store::Scope,
    tenants::{self, Status, Tenant, Tenants},
};

const SCOPE: Scope = Scope::Job("reconciler");
const ACTOR: Actor = Actor::Job("reconciler");
/// Tenants that one step of a round looks at, and those with drift that one step looks at again.
const STEP: i64 = 100;
const SUSPECTS: i64 = 1_000;
/// Looks at once.
const AT_ONCE: usize = 8;
/// What somebody took upon himself and did not finish is others' after so many seconds.
const LEASE_S: i64 = 300;
/// While something else is done with a tenant, it is left alone for so many seconds.
const LEFT_ALONE_S: i64 = 15;
/// What was mended is kept for so many seconds: 30 days.
const KEPT_S: i64 = 30 * 86_400;

/// How tenants are looked after.
#[derive(Debug, Clone, Copy)]
pub struct ReconcileConfig {
    /// A round begins so many seconds after the one before began, or when that is over; 0 for never.
    pub every_s: i64,
    /// Whether anything is mended; if not, it is said only.
    pub repair: bool,
}

/// Which kind of place a tier wants.
pub type Wanted = Arc<dyn Fn(&TierName) -> Option<Isolation> + Send + Sync>;

/// Looks after tenants' infrastructure; cheap to clone.
#[derive(Clone)]
pub struct Reconciler {
    provisioning: Provisioning,
    tenants: Tenants,
    wanted: Wanted,
    config: ReconcileConfig,
    health: Arc<Health>,
    counts: Arc<Counts>,
}

/// Numbers of this process.
#[derive(Debug, Default)]
pub struct Counts {
    looks: AtomicU64,
    repairs: AtomicU64,
    open: AtomicI64,
    round_s: AtomicI64,
}

impl Counts {
    /// Looks at tenants, drift that was mended, drift that is open everywhere, and how many seconds the last round took that ended
    /// here.
    pub fn all(&self) -> (u64, u64, i64, i64) {
        let (looks, repairs) = (self.looks.load(Ordering::Relaxed), self.repairs.load(Ordering::Relaxed));
        (looks, repairs, self.open.load(Ordering::Relaxed), self.round_s.load(Ordering::Relaxed))
    }
}

/// What a look at a tenant came to.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// What is not as it should be.
    pub open: Vec<Drift>,
    /// What was mended just now.
    pub mended: Vec<DriftKind>,
}

impl Reconciler {
    /// Over the services; `wanted` says which kind of place a tier wants.
    pub fn new(provisioning: Provisioning, tenants: Tenants, wanted: Wanted, config: ReconcileConfig) -> Self {
        Self { provisioning, tenants, wanted, config, health: Arc::default(), counts: Arc::default() }
    }

    /// Numbers of this process.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// A page of drift, the oldest first.
    pub async fn drift(&self, scope: Scope, filter: &DriftFilter, page: PageRequest) -> Result<Page<Drift>, Error> {
        let rows = self.provisioning.store.read(scope).await?.drift(filter, page).await?;
        Ok(page.page(rows, |drift| drift.id))
    }

    /// One step: looks at whatever is to be looked at now, of suspects and of the round; how many tenants that were.
    pub async fn step(&self) -> Result<usize, Error> {
        let now = self.provisioning.clock.now();
        let mut tenants = self.suspects(now).await?;
        tenants.extend(self.next_of_round(now).await?);
        tenants.sort_unstable();
        tenants.dedup();
        let looked = tenants.len();
        let looks = stream::iter(tenants).map(|tenant| self.look_quietly(tenant)).buffer_unordered(AT_ONCE);
        looks.for_each(|()| std::future::ready(())).await;
        let open = self.provisioning.store.read(SCOPE).await?.drift_open_count().await?;
        self.counts.open.store(open, Ordering::Relaxed);
        Ok(looked)
    }

    /// Looks at one tenant now, whoever has looked when, and mends what can be mended.
    pub async fn look_now(&self, scope: Scope, actor: Actor, tenant: TenantId) -> Result<Look, Error> {
        self.health.forget();
        self.look(scope, actor, tenant).await
    }

    /// Tenants with drift that is to be looked at again, and that nobody else looks at.
    async fn suspects(&self, now: Timestamp) -> Result<Vec<TenantId>, Error> {
        let due = self.provisioning.store.read(SCOPE).await?.drift_suspects(now, SUSPECTS).await?;
        if due.is_empty() {
            return Ok(due);
        }
        let mut tx = self.provisioning.store.begin(SCOPE).await?;
        let mut ours = Vec::with_capacity(due.len());
        for tenant in due {
            if tx.drift_claim(tenant, now, now.plus_secs(LEASE_S)).await? {
                ours.push(tenant);
            }
        }
        tx.commit().await?;
        Ok(ours)
    }

    /// The next tenants of the round, when one is due.
    async fn next_of_round(&self, now: Timestamp) -> Result<Vec<TenantId>, Error> {
        let every_s = self.config.every_s;
        let store = &self.provisioning.store;
        if every_s == 0 || store.read(SCOPE).await?.drift_round().await?.due(every_s, now).is_none() {
            return Ok(Vec::new());
        }
        let mut tx = store.begin(SCOPE).await?;
        let Some(mut round) = tx.drift_round_hold().await?.due(every_s, now) else { return Ok(Vec::new()) };
        let begins = round.after.is_none();
        let mut tenants = tx.tenants_after(round.after, STEP).await?;
        if tenants.len() < usize::try_from(STEP).unwrap_or(usize::MAX) {
            round.ended_at = Some(now);
            let took_s = round.began_at.map_or(0, |began| now.micros_since(began) / 1_000_000);
            self.counts.round_s.store(took_s, Ordering::Relaxed);
        }
        round.after = tenants.last().copied().or(round.after);
        tx.drift_round_put(round).await?;
        if begins {
            tx.drift_forget(now.plus_secs(-KEPT_S)).await?;
            tenants.extend(tx.outlived_by_places(STEP).await?);
        }
        tx.commit().await?;
        Ok(tenants)
    }

    async fn look_quietly(&self, tenant: TenantId) {
        if let Err(error) = self.look(SCOPE, ACTOR, tenant).await {
            tracing::warn!(tenant_id = %tenant, error = chain(&error), "a tenant's infrastructure could not be looked at");
        }
    }

    async fn look(&self, scope: Scope, actor: Actor, id: TenantId) -> Result<Look, Error> {
        self.counts.looks.fetch_add(1, Ordering::Relaxed);
        let tenant = self.tenants.find(scope, id).await?;
        let Some(found) = self.find(scope, &tenant).await? else { return self.leave_alone(scope, id).await };
        let mut look = Look { open: self.note(scope, id, &found, &[], actor).await?, mended: Vec::new() };
        let mended = if self.config.repair { self.mend(scope, &tenant, &look.open).await? } else { Vec::new() };
        if !mended.is_empty() {
            // Whether it is mended is not for who mended it to say.
            let found = self.find(scope, &tenant).await?.unwrap_or_default();
            look.open = self.note(scope, id, &found, &mended, actor).await?;
            look.mended = mended.into_iter().filter(|kind| look.open.iter().all(|drift| drift.kind != *kind)).collect();
            self.counts.repairs.fetch_add(u64::try_from(look.mended.len()).unwrap_or(0), Ordering::Relaxed);
        }
        self.say_how_it_fares(scope, &tenant, &look.open).await?;
        Ok(look)
    }

    /// What is not as it should be; `None` while somebody else is at the tenant's infrastructure.
    async fn find(&self, scope: Scope, tenant: &Tenant) -> Result<Option<Vec<Found>>, Error> {
        match tenant.status {
            Status::Active | Status::Suspended(_) => {
                let wanted = (self.wanted)(&tenant.tier);
                self.provisioning.look_at(scope, tenant.id, wanted, &self.health).await.map(Some)
            }
            Status::Deleted { .. } => {
                let mut tx = self.provisioning.store.read(scope).await?;
                Ok(Some(Noted::read(&mut tx, tenant.id).await?.outlived()))
            }
            Status::Provisioning | Status::Failed(_) | Status::ChangingTier { .. } | Status::Offboarding => Ok(None),
        }
    }

    async fn leave_alone(&self, scope: Scope, tenant: TenantId) -> Result<Look, Error> {
        let store = &self.provisioning.store;
        let open = store.read(scope).await?.drift_of(tenant).await?;
        if !open.is_empty() {
            let mut tx = store.begin(scope).await?;
            for drift in &open {
                let next_look_at = self.provisioning.clock.now().plus_secs(LEFT_ALONE_S);
                tx.drift_put_off(&Drift { next_look_at, ..drift.clone() }).await?;
            }
            tx.commit().await?;
        }
        Ok(Look { open, mended: Vec::new() })
    }

    /// Notes what was found, and that what was not found any more is over; what is open then. Nothing is written where nothing is
    /// wrong and nothing was.
    async fn note(
        &self,
        scope: Scope,
        tenant: TenantId,
        found: &[Found],
        mended: &[DriftKind],
        actor: Actor,
    ) -> Result<Vec<Drift>, Error> {
        let Provisioning { store, clock, rng, identity, .. } = &self.provisioning;
        let known = store.read(scope).await?.drift_of(tenant).await?;
        if known.is_empty() && found.is_empty() {
            return Ok(known);
        }
        let now = clock.now();
        let mut tx = store.begin(scope).await?;
        let mut open = Vec::with_capacity(found.len());
        for Found { kind, detail } in found {
            let new = Drift {
                id: uuid_v7(now, &**rng),
                tenant_id: tenant,
                kind: *kind,
                detail: detail.clone(),
                found_at: now,
                seen_at: now,
                looks: 1,
                next_look_at: now.plus_secs(LEASE_S),
                repaired_at: None,
            };
            let mut noted = tx.drift_note(&new).await?;
            if noted.looks == 1 {
                tracing::warn!(tenant_id = %tenant, kind = kind.name(), detail, "infrastructure is not as it should be");
            }
            if !self.config.repair || !kind.is_mended_after(noted.looks) || mended.contains(kind) {
                noted.next_look_at = now.plus_secs(kind.wait_s(noted.looks));
                tx.drift_put_off(&noted).await?;
            }
            open.push(noted);
        }
        for over in known.iter().filter(|drift| found.iter().all(|found| found.kind != drift.kind)) {
            if tx.drift_repaired(over, now).await? && mended.contains(&over.kind) {
                let detail = Some(format!("{}: {}", over.kind.name(), over.detail));
                let (action, subject) = ("infrastructure.repaired", tenant.to_string());
                identity.note(&mut tx, Act { actor, action, tenant: Some(tenant), subject, detail }).await?;
            }
        }
        tx.commit().await?;
        Ok(open)
    }

    /// Mends what can be mended; what was done of it.
    async fn mend(&self, scope: Scope, tenant: &Tenant, open: &[Drift]) -> Result<Vec<DriftKind>, Error> {
        let mut mended = Vec::new();
        for drift in open.iter().filter(|drift| drift.kind.is_mended_after(drift.looks)) {
            let wanted = (self.wanted)(&tenant.tier);
            match self.provisioning.mend(scope, tenant.id, drift.kind, wanted).await {
                Ok(()) => mended.push(drift.kind),
                Err(Error::Store(error)) => return Err(error.into()),
                Err(error) => {
                    let now = self.provisioning.clock.now();
                    let Found { detail, .. } =
                        Found::new(drift.kind, format!("{}; it could not be mended: {}", drift.detail, chain(&error)));
                    let next_look_at = now.plus_secs(drift.kind.wait_s(drift.looks));
                    let mut tx = self.provisioning.store.begin(scope).await?;
                    tx.drift_put_off(&Drift { detail, next_look_at, ..drift.clone() }).await?;
                    tx.commit().await?;
                }
            }
        }
        Ok(mended)
    }

    /// Says that a tenant is unavailable, when several looks in a row have found it so, or that it is available again.
    async fn say_how_it_fares(&self, scope: Scope, tenant: &Tenant, open: &[Drift]) -> Result<(), Error> {
        let outages = || open.iter().filter_map(|drift| Some((drift.looks, drift.kind.outage()?)));
        let said = match &tenant.unavailable {
            None => match outages().find(|(looks, _)| *looks >= BAD_LOOKS) {
                Some((_, why)) => self.tenants.note_unavailable(scope, ACTOR, tenant.id, why.to_owned()).await,
                None => return Ok(()),
            },
            Some(_) if outages().next().is_none() => self.tenants.note_available(scope, ACTOR, tenant.id).await,
            Some(_) => return Ok(()),
        };
        match said {
            // Somebody changed it meanwhile; the next look says it.
            Ok(_) | Err(tenants::Error::WrongState { .. }) => Ok(()),
            Err(tenants::Error::Store(error)) => Err(error.into()),
            Err(error) => Err(error.into()),
        }
    }
}
