//! Use cases of provisioning.
//!
//! A place is noted before it is made and forgotten after it is taken down: whatever a crash leaves is found by its note, made
//! whole by the next [`Provisioning::ensure`] or taken down by [`Provisioning::remove`].

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dashmap::DashMap;
use tokio::sync::Mutex;

use super::{
    driver::{Callback, Drivers},
    error::Error,
    model::{Finding, Infrastructure, KeptPlace, Leftover, Made, Place, Pool, Site},
    rules::with_room,
    webhook::WebhookDriver,
};
use crate::{
    identity::Identity,
    kernel::{
        Clock, InfrastructureId, Isolation, Rng, Secret, TenantId, TenantObserver, fault::chain, rng::random_bytes,
    },
    store::{Scope, Store},
};

/// Bytes of a password: as many as nobody can guess.
const PASSWORD_BYTES: usize = 24;

/// The provisioning service; cheap to clone.
#[derive(Clone)]
pub struct Provisioning {
    pub(super) store: Store,
    pub(super) drivers: Drivers,
    pub(super) identity: Identity,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Arc<dyn Rng>,
    observer: Arc<dyn TenantObserver>,
    /// Whose places are being taken down just now.
    turns: Arc<DashMap<TenantId, Arc<Mutex<()>>>>,
}

impl Provisioning {
    /// Over a store and drivers. `identity` keeps the credentials; `observer` hears when a tenant's place is another.
    pub fn new(
        store: Store,
        drivers: Drivers,
        identity: Identity,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        observer: Arc<dyn TenantObserver>,
    ) -> Self {
        Self { store, drivers, identity, clock, rng, observer, turns: Arc::default() }
    }

    /// A tenant's infrastructure.
    pub async fn find(&self, scope: Scope, tenant: TenantId) -> Result<Infrastructure, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.infrastructure(tenant).await?.ok_or(Error::None(tenant))
    }

    /// The place that a tenant uses, as it is kept.
    pub async fn place(&self, scope: Scope, tenant: TenantId) -> Result<Option<KeptPlace>, Error> {
        Ok(self.store.read(scope).await?.place_in_use(tenant).await?)
    }

    /// Where a tenant's requests go, if not where the pool's go.
    pub async fn upstream(&self, scope: Scope, tenant: TenantId) -> Result<Option<String>, Error> {
        let Some(kept) = self.place(scope, tenant).await? else { return Ok(None) };
        // What was made by a driver that is not configured any more is where it was.
        let Ok(driver) = self.drivers.named(&kept.driver, tenant) else { return Ok(kept.place.upstream) };
        Ok(driver.upstream(&kept.place))
    }

    /// Whether a place of a kind could be made now: its driver answers, and where tenants share pools there is room in one.
    /// Changes nothing.
    pub async fn preflight(&self, isolation: Isolation) -> Result<(), Error> {
        let driver = self.drivers.of(isolation);
        if let Some(pools) = self.drivers.pools(isolation) {
            let taken = self.store.read(Scope::Job("preflight")).await?.pools_taken(driver.name()).await?;
            if with_room(pools, &taken).is_empty() {
                return Err(Error::Full { driver: driver.name() });
            }
        }
        driver.reachable().await
    }

    /// The pools that tenants are placed in: whose they are, and how many are in each.
    pub async fn pools(&self, scope: Scope) -> Result<Vec<(&'static str, Pool, i64)>, Error> {
        let driver = self.drivers.of(Isolation::Pool).name();
        let taken = self.store.read(scope).await?.pools_taken(driver).await?;
        let taken_of = |name: &str| taken.iter().find(|(own, _)| own == name).map_or(0, |(_, taken)| *taken);
        let pools = self.drivers.pools(Isolation::Pool).unwrap_or_default();
        Ok(pools.iter().map(|pool| (driver, pool.clone(), taken_of(&pool.name))).collect())
    }

    /// What making a place of a kind for a tenant would do, step by step. Changes nothing.
    pub async fn plan(&self, scope: Scope, tenant: TenantId, isolation: Isolation) -> Result<Vec<String>, Error> {
        let driver = self.drivers.of(isolation);
        let mut tx = self.store.read(scope).await?;
        let place = if let Some(kept) = tx.place(tenant, isolation, driver.name()).await? {
            kept.place
        } else {
            let taken = tx.pools_taken(driver.name()).await?;
            let pool = self.drivers.pools(isolation).map(|pools| with_room(pools, &taken).first().copied());
            let pool = pool.map(|pool| pool.ok_or(Error::Full { driver: driver.name() })).transpose()?;
            Place::new(tenant, isolation, pool.map(|pool| pool.name.clone()).unwrap_or_default())
        };
        drop(tx);
        driver.plan(&place).await
    }

    /// Whether a tenant's place is there as it should be.
    pub async fn verify(&self, scope: Scope, tenant: TenantId) -> Result<Finding, Error> {
        let kept = self.place(scope, tenant).await?.ok_or(Error::None(tenant))?;
        if !kept.made {
            return Ok(Finding::Drifted("it was not all made".to_owned()));
        }
        self.drivers.named(&kept.driver, tenant)?.verify(&kept.place).await
    }

    /// Sees to it that a tenant has infrastructure: keeps what it has, of whatever kind, or makes a place of this one. Whenever it is
    /// interrupted, doing it again finishes the work. (Who changes its kind moves: `moving.rs`.)
    pub async fn ensure(&self, scope: Scope, tenant: TenantId, wanted: Isolation) -> Result<Infrastructure, Error> {
        if let Some(existing) = self.store.read(scope).await?.infrastructure(tenant).await? {
            self.complete(scope, tenant).await?;
            return Ok(existing);
        }
        let driver = self.drivers.of(wanted);
        let mut kept = self.reserve(scope, tenant, wanted, driver.name()).await?;
        // What was made in part is kept, to go on with.
        let made = driver.apply(&self.opened(&kept)?).await?;
        self.fill_in(&mut kept, &made)?;
        let now = self.clock.now();
        let infrastructure = Infrastructure {
            id: InfrastructureId::generate(now, &*self.rng),
            tenant_id: tenant,
            isolation: wanted,
            driver: driver.name().to_owned(),
            location: made.location,
            created_at: now,
        };
        let mut tx = self.store.begin(scope).await?;
        tx.leftover_delete(&Leftover::from(&infrastructure)).await?;
        if !tx.place_update(&kept).await? {
            // It was removed while it was made.
            drop(tx);
            driver.destroy(&kept.place).await?;
            return Err(Error::NotMade(tenant));
        }
        tx.infrastructure_put(&infrastructure).await?;
        tx.commit().await?;
        self.observer.tenant_changed(tenant);
        Ok(infrastructure)
    }

    /// Makes again what is in use, and notes what came of it: what is missing is there afterwards.
    pub async fn repair(&self, scope: Scope, tenant: TenantId) -> Result<(), Error> {
        let mut kept = self.place(scope, tenant).await?.ok_or(Error::None(tenant))?;
        let driver = self.drivers.named(&kept.driver, tenant)?;
        if kept.sealed.is_none() && driver.wants_password() && driver.verify(&kept.place).await? == Finding::Absent {
            kept.sealed = Some(self.new_password(tenant)?.1);
            kept.read_at = None;
        }
        self.apply_again(scope, kept).await
    }

    /// Takes everything of a tenant down, also what was only half made; without infrastructure there is nothing to do.
    pub async fn remove(&self, scope: Scope, tenant: TenantId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        if let Some(infrastructure) = tx.infrastructure(tenant).await? {
            tx.leftover_insert(&Leftover::from(&infrastructure)).await?;
            tx.infrastructure_delete(tenant).await?;
        }
        for kept in tx.places(tenant).await? {
            tx.leftover_insert(&Leftover::from(&kept)).await?;
        }
        let leftovers = tx.leftovers_of(tenant).await?;
        tx.commit().await?;
        self.observer.tenant_changed(tenant);
        for leftover in &leftovers {
            self.take_down(scope, leftover).await?;
        }
        Ok(())
    }

    /// Takes down what an interrupted move or removal left behind; how many places that were. One that cannot be taken down
    /// keeps nobody from starting: it is tried again.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let scope = Scope::Job("sweep");
        let leftovers = self.store.read(scope).await?.leftovers().await?;
        let mut taken_down = 0;
        for leftover in &leftovers {
            match self.take_down(scope, leftover).await {
                Ok(()) => taken_down += 1,
                Err(Error::Store(error)) => return Err(error.into()),
                Err(error) => {
                    let (tenant_id, error) = (leftover.tenant_id, chain(&error));
                    tracing::warn!(%tenant_id, error, "a place that was left could not be taken down");
                }
            }
        }
        Ok(taken_down)
    }

    /// Takes what somebody says came of something that the `webhook` driver asked for.
    pub async fn hear(&self, callback: &Callback) -> Result<(), Error> {
        match self.drivers.all().find(|driver| driver.name() == WebhookDriver::NAME) {
            Some(driver) => driver.hear(callback).await,
            None => Err(Error::Callback),
        }
    }

    /// The server starts: drivers that run something for tenants begin with it.
    pub async fn begin(&self) -> Result<(), Error> {
        let mut tx = self.store.read(Scope::Job("provisioning")).await?;
        for driver in self.drivers.all() {
            let places = tx.places_in_use(driver.name()).await?;
            driver.begin(places.into_iter().map(|kept| kept.place).collect());
        }
        Ok(())
    }

    /// The server ends, and no request is under way any more.
    pub async fn end(&self) -> Result<(), Error> {
        for driver in self.drivers.all() {
            driver.end().await?;
        }
        Ok(())
    }

    /// Takes down what was made in vain; what cannot be taken down now is remembered.
    pub(super) async fn give_up(&self, scope: Scope, kept: &KeptPlace) {
        let (leftover, tenant_id) = (Leftover::from(kept), kept.place.tenant_id);
        let given_up = async {
            let mut tx = self.store.begin(scope).await?;
            tx.leftover_insert(&leftover).await?;
            tx.commit().await?;
            self.take_down(scope, &leftover).await
        };
        if let Err(error) = given_up.await {
            tracing::warn!(%tenant_id, error = chain(&error), "a place that was made in vain could not be taken down");
        }
    }

    /// Finishes what is in use and was not all made.
    async fn complete(&self, scope: Scope, tenant: TenantId) -> Result<(), Error> {
        match self.place(scope, tenant).await? {
            Some(kept) if !kept.made => self.apply_again(scope, kept).await,
            _ => Ok(()),
        }
    }

    pub(super) async fn apply_again(&self, scope: Scope, mut kept: KeptPlace) -> Result<(), Error> {
        let tenant = kept.place.tenant_id;
        let driver = self.drivers.named(&kept.driver, tenant)?;
        let made = driver.apply(&self.opened(&kept)?).await?;
        self.fill_in(&mut kept, &made)?;
        let mut tx = self.store.begin(scope).await?;
        if !tx.place_update(&kept).await? {
            drop(tx);
            driver.destroy(&kept.place).await?;
            return Err(Error::None(tenant));
        }
        tx.commit().await?;
        self.observer.tenant_changed(tenant);
        Ok(())
    }

    /// Notes a place that is to be made, where there is room for it, with a password if it is to have one.
    async fn reserve(
        &self,
        scope: Scope,
        tenant: TenantId,
        isolation: Isolation,
        driver: &str,
    ) -> Result<KeptPlace, Error> {
        let site = Site { isolation, driver: driver.to_owned() };
        loop {
            let mut tx = self.store.begin(scope).await?;
            if let Some(known) = tx.place(tenant, isolation, driver).await? {
                return Ok(known);
            }
            if self.reserve_in(&mut tx, tenant, &site).await?
                && let Some(kept) = tx.place(tenant, isolation, driver).await?
            {
                tx.commit().await?;
                return Ok(kept);
            }
        }
    }

    /// Takes down what was left, if it still is: it may have been taken down meanwhile, and be in use again.
    pub(super) async fn take_down(&self, scope: Scope, leftover: &Leftover) -> Result<(), Error> {
        let tenant = leftover.tenant_id;
        let turn = Arc::clone(&*self.turns.entry(tenant).or_default());
        let taken_down = {
            let _mine = turn.lock().await;
            self.take_down_alone(scope, leftover).await
        };
        // Of nobody but the map and this.
        self.turns.remove_if(&tenant, |_, turn| Arc::strong_count(turn) <= 2);
        taken_down
    }

    async fn take_down_alone(&self, scope: Scope, leftover: &Leftover) -> Result<(), Error> {
        let Leftover { tenant_id, isolation, driver, .. } = leftover;
        let mut tx = self.store.read(scope).await?;
        let left = tx.leftovers_of(*tenant_id).await?;
        if !left.iter().any(|left| left.isolation == *isolation && left.driver == *driver) {
            return Ok(());
        }
        let kept = tx.place(*tenant_id, *isolation, driver).await?;
        drop(tx);
        let place = kept.map_or_else(|| place_of(leftover), |kept| kept.place);
        self.drivers.named(driver, *tenant_id)?.destroy(&place).await?;
        self.forget_place(scope, leftover).await
    }

    /// Forgets a place that is down.
    pub(super) async fn forget_place(&self, scope: Scope, gone: &Leftover) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        tx.place_delete(gone.tenant_id, gone.isolation, &gone.driver).await?;
        tx.leftover_delete(gone).await?;
        Ok(tx.commit().await?)
    }

    /// A new password, and the same sealed.
    pub(super) fn new_password(&self, tenant: TenantId) -> Result<(Secret, Vec<u8>), Error> {
        let password = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<PASSWORD_BYTES>(&*self.rng)));
        let text = Secret::new(serde_json::json!({ "password": password.expose() }).to_string());
        let sealed = self.identity.seal_secret(&sealed_as(tenant), text.expose().as_bytes())?;
        Ok((password, sealed))
    }

    /// A place with the password that it is to have, if that is not all done.
    pub(super) fn opened(&self, kept: &KeptPlace) -> Result<Place, Error> {
        let mut place = kept.place.clone();
        if let Some(sealed) = &kept.sealed {
            let plain = self.identity.unseal_secret(&sealed_as(place.tenant_id), sealed)?;
            let object: serde_json::Value = serde_json::from_slice(&plain).unwrap_or_default();
            place.password = object["password"].as_str().map(|password| Secret::new(password.to_owned()));
        }
        Ok(place)
    }

    /// Notes what a driver made. Credentials that were read already, and are the same, stay read.
    fn fill_in(&self, kept: &mut KeptPlace, made: &Made) -> Result<(), Error> {
        kept.place.location.clone_from(&made.location);
        kept.place.upstream.clone_from(&made.upstream);
        kept.made = true;
        if let Some(credentials) = &made.credentials {
            let sealed =
                self.identity.seal_secret(&sealed_as(kept.place.tenant_id), credentials.expose().as_bytes())?;
            kept.sealed = Some(sealed);
            kept.read_at = None;
        }
        Ok(())
    }
}

/// No credentials open as those of another tenant.
pub(super) fn sealed_as(tenant: TenantId) -> String {
    format!("infrastructure {tenant}")
}

/// A place that was made before places were noted.
pub(super) fn place_of(leftover: &Leftover) -> Place {
    let pool = match leftover.isolation {
        Isolation::Pool => Pool::DEFAULT.to_owned(),
        Isolation::Bridge | Isolation::Silo => String::new(),
    };
    Place { location: leftover.location.clone(), ..Place::new(leftover.tenant_id, leftover.isolation, pool) }
}
