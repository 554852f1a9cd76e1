//! Drivers: who really makes and takes down a place for a tenant.

use super::{Error, model::Leftover, sqlite::SqliteDriver};
use crate::kernel::{Isolation, TenantId};

/// The configured driver. Every operation may be repeated: making what is there and taking down what is gone succeed.
#[derive(Clone)]
pub enum Driver {
    /// Rows in a shared `SQLite` file, or a file of the tenant's own.
    Sqlite(SqliteDriver),
    /// Makes nothing: for operators whose product needs no infrastructure per tenant.
    None,
}

impl Driver {
    /// The name in settings and in the store.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => SqliteDriver::NAME,
            Self::None => "none",
        }
    }

    /// Whether a place could be made now.
    pub async fn preflight(&self, isolation: Isolation) -> Result<(), Error> {
        match self {
            Self::Sqlite(driver) => driver.preflight(isolation).await,
            Self::None => Ok(()),
        }
    }

    /// Makes the tenant's place; says where it is.
    pub async fn create(&self, tenant: TenantId, isolation: Isolation) -> Result<String, Error> {
        match self {
            Self::Sqlite(driver) => driver.create(tenant, isolation).await,
            Self::None => Ok(isolation.name().to_owned()),
        }
    }

    /// Copies everything of the tenant from one kind of place to the other; both exist.
    pub async fn carry_over(&self, tenant: TenantId, from: Isolation, to: Isolation) -> Result<(), Error> {
        match self {
            Self::Sqlite(driver) => driver.carry_over(tenant, from, to).await,
            Self::None => Ok(()),
        }
    }

    /// Takes a place down.
    pub async fn destroy(&self, leftover: &Leftover) -> Result<(), Error> {
        if leftover.driver != self.name() {
            return Err(Error::ForeignDriver { tenant: leftover.tenant_id, driver: leftover.driver.clone() });
        }
        match self {
            Self::Sqlite(driver) => driver.destroy(leftover.tenant_id, leftover.isolation).await,
            Self::None => Ok(()),
        }
    }
}
