//! Use cases of provisioning.

use std::sync::Arc;

use super::{
    driver::Driver,
    error::Error,
    model::{Infrastructure, Leftover},
    rules::{Action, action},
};
use crate::{
    kernel::{Clock, InfrastructureId, Isolation, Rng, TenantId},
    store::{Scope, Store},
};

/// The provisioning service; cheap to clone.
#[derive(Clone)]
pub struct Provisioning {
    store: Store,
    driver: Driver,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl Provisioning {
    /// Over a store and a driver.
    pub fn new(store: Store, driver: Driver, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        Self { store, driver, clock, rng }
    }

    /// A tenant's infrastructure.
    pub async fn find(&self, scope: Scope, tenant: TenantId) -> Result<Infrastructure, Error> {
        let mut tx = self.store.read(scope).await?;
        tx.infrastructure(tenant).await?.ok_or(Error::None(tenant))
    }

    /// Whether a tenant's place of a kind could be made now; makes nothing.
    pub async fn preflight(&self, wanted: Isolation) -> Result<(), Error> {
        self.driver.preflight(wanted).await
    }

    /// Sees to it that a tenant has infrastructure of a kind: keeps it, makes it, or moves it with everything in it.
    /// Whenever it is interrupted, doing it again finishes the work.
    pub async fn ensure(&self, scope: Scope, tenant: TenantId, wanted: Isolation) -> Result<Infrastructure, Error> {
        let existing = self.store.read(scope).await?.infrastructure(tenant).await?;
        let left = match action(existing, wanted) {
            Action::Keep(infrastructure) => return Ok(infrastructure),
            Action::Create => None,
            Action::Move { from } => Some(from),
        };
        let location = self.driver.create(tenant, wanted).await?;
        if let Some(from) = &left {
            self.driver.carry_over(tenant, from.isolation, wanted).await?;
        }
        let now = self.clock.now();
        let made = Infrastructure {
            id: InfrastructureId::generate(now, &*self.rng),
            tenant_id: tenant,
            isolation: wanted,
            driver: self.driver.name().to_owned(),
            location,
            created_at: now,
        };
        let left = left.as_ref().map(Leftover::from);
        let mut tx = self.store.begin(scope).await?;
        tx.leftover_delete(&Leftover::from(&made)).await?;
        tx.infrastructure_put(&made).await?;
        if let Some(left) = &left {
            tx.leftover_insert(left).await?;
        }
        tx.commit().await?;
        if let Some(left) = left {
            self.take_down(scope, &left).await?;
        }
        Ok(made)
    }

    /// Takes everything of a tenant down; without infrastructure there is nothing to do.
    pub async fn remove(&self, scope: Scope, tenant: TenantId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        let existing = tx.infrastructure(tenant).await?;
        if let Some(infrastructure) = &existing {
            tx.leftover_insert(&Leftover::from(infrastructure)).await?;
            tx.infrastructure_delete(tenant).await?;
        }
        let leftovers = tx.leftovers().await?;
        tx.commit().await?;
        for leftover in leftovers.iter().filter(|leftover| leftover.tenant_id == tenant) {
            self.take_down(scope, leftover).await?;
        }
        Ok(())
    }

    /// Takes down what an interrupted move or removal left behind; how many places that were.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let scope = Scope::Job("sweep");
        let leftovers = self.store.read(scope).await?.leftovers().await?;
        for leftover in &leftovers {
            self.take_down(scope, leftover).await?;
        }
        Ok(leftovers.len())
    }

    async fn take_down(&self, scope: Scope, leftover: &Leftover) -> Result<(), Error> {
        self.driver.destroy(leftover).await?;
        let mut tx = self.store.begin(scope).await?;
        tx.leftover_delete(leftover).await?;
        Ok(tx.commit().await?)
    }
}
