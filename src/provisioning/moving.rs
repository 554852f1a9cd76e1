//! The parts of a move to a place of another kind, each of which can be done again: whoever moves a tenant (`onboarding`) notes
//! which are done, and the parts that touch the store alone are done in the transaction that notes it.

use super::{
    error::Error,
    model::{Infrastructure, KeptPlace, Leftover, Place, Site, Tally},
    rules::{Action, action, with_room},
    service::{Provisioning, place_of},
};
use crate::{
    kernel::{InfrastructureId, Isolation, TenantId},
    store::{Scope, Tx},
};

/// Where a tenant goes from and to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Where it is.
    pub from: Option<Infrastructure>,
    /// Where it is to be; nothing where it stays.
    pub to: Option<Site>,
}

impl Way {
    /// Whether it leads from one driver to another, so that nothing can go along.
    pub fn crosses(&self) -> bool {
        self.from.as_ref().zip(self.to.as_ref()).is_some_and(|(from, to)| from.driver != to.driver)
    }
}

impl Provisioning {
    /// The way of a tenant to a place of a kind, as it would be now.
    pub async fn way_in(&self, tx: &mut Tx, tenant: TenantId, wanted: Isolation) -> Result<Way, Error> {
        let site = || Site { isolation: wanted, driver: self.drivers.of(wanted).name().to_owned() };
        Ok(match action(tx.infrastructure(tenant).await?, wanted) {
            Action::Keep(kept) => Way { from: Some(kept), to: None },
            Action::Create => Way { from: None, to: Some(site()) },
            Action::Move { from } => Way { from: Some(from), to: Some(site()) },
        })
    }

    /// How many rows there are to be carried along; an error where they cannot be.
    pub async fn rows_to_carry(&self, scope: Scope, way: &Way) -> Result<u64, Error> {
        let (Some(from), Some(to)) = (&way.from, &way.to) else { return Ok(0) };
        let source = self.drivers.named(&from.driver, from.tenant_id)?;
        let rows = source.tally(&self.old_place(scope, from).await?).await?.rows;
        if from.driver == to.driver || rows == 0 { Ok(rows) } else { Err(self.cannot_move(from, to, rows)) }
    }

    fn cannot_move(&self, from: &Infrastructure, to: &Site, rows: u64) -> Error {
        let to = self.drivers.named(&to.driver, from.tenant_id).map_or("other", |driver| driver.name());
        Error::CannotMove { tenant: from.tenant_id, rows, from: from.driver.clone(), to }
    }

    /// Takes down what was left at a place that is to be made anew.
    pub async fn clear(&self, scope: Scope, tenant: TenantId, to: &Site) -> Result<(), Error> {
        let leftovers = self.store.read(scope).await?.leftovers_of(tenant).await?;
        for leftover in leftovers.iter().filter(|left| left.isolation == to.isolation && left.driver == to.driver) {
            self.take_down(scope, leftover).await?;
        }
        Ok(())
    }

    /// Notes a place that is to be made, where there is room for it; `false` when somebody was quicker, and it is to be tried in
    /// another transaction. What is kept of an earlier move is not made anew.
    pub async fn reserve_in(&self, tx: &mut Tx, tenant: TenantId, to: &Site) -> Result<bool, Error> {
        let driver = self.drivers.named(&to.driver, tenant)?;
        if let Some(known) = tx.place(tenant, to.isolation, &to.driver).await? {
            return if known.made { Err(Error::PlaceKept(tenant, known.place.location)) } else { Ok(true) };
        }
        let sealed = driver.wants_password().then(|| self.new_password(tenant)).transpose()?;
        let mut kept = KeptPlace {
            place: Place::new(tenant, to.isolation, String::new()),
            driver: to.driver.clone(),
            made: false,
            sealed: sealed.map(|(_, sealed)| sealed),
            read_at: None,
        };
        // One pool in a transaction, or two who try two pools could wait for each other. Whoever comes too late looks again, until
        // nothing has room; what was taken goes back with a transaction that is not committed.
        if let Some(pools) = self.drivers.pools(to.isolation) {
            let taken = tx.pools_taken(driver.name()).await?;
            let pool = with_room(pools, &taken).first().copied().ok_or(Error::Full { driver: driver.name() })?;
            kept.place.pool.clone_from(&pool.name);
            if !tx.pool_take(driver.name(), &pool.name, pool.capacity.unwrap_or(i64::MAX)).await? {
                return Ok(false);
            }
        }
        Ok(tx.place_insert(&kept).await?)
    }

    /// Makes a place that was noted, or makes it whole.
    pub async fn make_site(&self, scope: Scope, tenant: TenantId, to: &Site) -> Result<(), Error> {
        let kept = self.store.read(scope).await?.place(tenant, to.isolation, &to.driver).await?;
        let kept = kept.ok_or(Error::NotMade(tenant))?;
        self.apply_again(scope, kept).await
    }

    /// Has everything of a tenant that is at one place at another, too, as of one moment; what it comes to. Number and checksum
    /// are compared.
    pub async fn carry(&self, scope: Scope, tenant: TenantId, way: &Way) -> Result<Tally, Error> {
        let (Some(from), Some(to)) = (&way.from, &way.to) else { return Ok(Tally::default()) };
        let source = self.drivers.named(&from.driver, tenant)?;
        let old = self.old_place(scope, from).await?;
        let kept = self.store.read(scope).await?.place(tenant, to.isolation, &to.driver).await?;
        let kept = kept.ok_or(Error::NotMade(tenant))?;
        if from.driver == to.driver {
            return source.carry_over(&old, &kept.place).await;
        }
        match source.tally(&old).await? {
            found if found.rows == 0 => Ok(found),
            found => Err(self.cannot_move(from, to, found.rows)),
        }
    }

    /// Has a tenant use the place that was made. The caller tells who remembers tenants, after its commit.
    pub async fn use_in(&self, tx: &mut Tx, tenant: TenantId, to: &Site) -> Result<Infrastructure, Error> {
        let kept = tx.place(tenant, to.isolation, &to.driver).await?.filter(|kept| kept.made);
        let kept = kept.ok_or(Error::NotMade(tenant))?;
        let now = self.clock.now();
        let infrastructure = Infrastructure {
            id: InfrastructureId::generate(now, &*self.rng),
            tenant_id: tenant,
            isolation: to.isolation,
            driver: to.driver.clone(),
            location: kept.place.location,
            created_at: now,
        };
        tx.infrastructure_put(&infrastructure).await?;
        Ok(infrastructure)
    }

    /// Takes down a place that is used no more, unless somebody wrote there since: then what is there now. Without `carried`
    /// it is taken down whatever is there.
    pub async fn release(
        &self,
        scope: Scope,
        from: &Infrastructure,
        carried: Option<&Tally>,
    ) -> Result<Option<Tally>, Error> {
        let driver = self.drivers.named(&from.driver, from.tenant_id)?;
        let used = self.store.read(scope).await?.infrastructure(from.tenant_id).await?;
        if used.is_some_and(|used| used.isolation == from.isolation && used.driver == from.driver) {
            return Err(Error::InUse(from.tenant_id));
        }
        let place = self.old_place(scope, from).await?;
        let changed = match carried {
            Some(carried) => driver.destroy_unless_changed(&place, carried).await?,
            None => driver.destroy(&place).await.map(|()| None)?,
        };
        if changed.is_none() {
            self.forget_place(scope, &Leftover::from(from)).await?;
        }
        Ok(changed)
    }

    /// Takes down a place that was made in vain, or notes that it is to be taken down.
    pub async fn forsake(&self, scope: Scope, tenant: TenantId, to: &Site) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        let Some(kept) = tx.place(tenant, to.isolation, &to.driver).await? else { return Ok(()) };
        let used = tx.infrastructure(tenant).await?;
        if used.is_some_and(|used| used.isolation == to.isolation && used.driver == to.driver) {
            return Err(Error::InUse(tenant));
        }
        drop(tx);
        self.give_up(scope, &kept).await;
        Ok(())
    }

    /// The place of infrastructure that may be from before places were noted.
    async fn old_place(&self, scope: Scope, from: &Infrastructure) -> Result<Place, Error> {
        let kept = self.store.read(scope).await?.place(from.tenant_id, from.isolation, &from.driver).await?;
        Ok(kept.map_or_else(|| place_of(&Leftover::from(from)), |kept| kept.place))
    }
}
