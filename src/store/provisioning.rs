//! Queries about infrastructure.

use super::{StoreError, Tx, value::Row};
use crate::{
    kernel::TenantId,
    provisioning::model::{Infrastructure, Leftover},
};

fn read_infrastructure(row: &Row) -> Result<Infrastructure, StoreError> {
    Ok(Infrastructure {
        id: row.get("infrastructure_id")?,
        tenant_id: row.get("tenant_id")?,
        isolation: row.parse("isolation")?,
        driver: row.get("driver")?,
        location: row.get("location")?,
        created_at: row.get("created_at")?,
    })
}

fn read_leftover(row: &Row) -> Result<Leftover, StoreError> {
    Ok(Leftover {
        tenant_id: row.get("tenant_id")?,
        isolation: row.parse("isolation")?,
        driver: row.get("driver")?,
        location: row.get("location")?,
    })
}

impl Tx {
    /// A tenant's infrastructure.
    pub async fn infrastructure(&mut self, tenant: TenantId) -> Result<Option<Infrastructure>, StoreError> {
        let scope = self.tenant();
        self.query("SELECT * FROM infrastructure WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(tenant)
            .bind(scope)
            .map_one(read_infrastructure)
            .await
    }

    /// Notes what was made for a tenant, in place of what was noted before.
    pub async fn infrastructure_put(&mut self, made: &Infrastructure) -> Result<(), StoreError> {
        self.must_cover(made.tenant_id)?;
        self.query(
            "INSERT INTO infrastructure (infrastructure_id, tenant_id, isolation, driver, location, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (tenant_id) DO UPDATE SET infrastructure_id = excluded.infrastructure_id,
                 isolation = excluded.isolation, driver = excluded.driver, location = excluded.location,
                 created_at = excluded.created_at",
        )
        .bind(made.id)
        .bind(made.tenant_id)
        .bind(made.isolation.name())
        .bind(made.driver.as_str())
        .bind(made.location.as_str())
        .bind(made.created_at)
        .execute()
        .await?;
        Ok(())
    }

    /// Forgets a tenant's infrastructure.
    pub async fn infrastructure_delete(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        self.query("DELETE FROM infrastructure WHERE tenant_id = $1").bind(tenant).execute().await?;
        Ok(())
    }

    /// Remembers a place that has to be taken down.
    pub async fn leftover_insert(&mut self, leftover: &Leftover) -> Result<(), StoreError> {
        self.must_cover(leftover.tenant_id)?;
        self.query(
            "INSERT INTO infrastructure_leftovers (tenant_id, isolation, driver, location) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant_id, isolation, driver) DO NOTHING",
        )
        .bind(leftover.tenant_id)
        .bind(leftover.isolation.name())
        .bind(leftover.driver.as_str())
        .bind(leftover.location.as_str())
        .execute()
        .await?;
        Ok(())
    }

    /// Places that have to be taken down.
    pub async fn leftovers(&mut self) -> Result<Vec<Leftover>, StoreError> {
        self.query("SELECT * FROM infrastructure_leftovers ORDER BY tenant_id LIMIT 1000").map(read_leftover).await
    }

    /// Those of a tenant.
    pub async fn leftovers_of(&mut self, tenant: TenantId) -> Result<Vec<Leftover>, StoreError> {
        self.must_cover(tenant)?;
        self.query("SELECT * FROM infrastructure_leftovers WHERE tenant_id = $1 ORDER BY isolation, driver")
            .bind(tenant)
            .map(read_leftover)
            .await
    }

    /// A place is down, or is in use again.
    pub async fn leftover_delete(&mut self, leftover: &Leftover) -> Result<(), StoreError> {
        self.query("DELETE FROM infrastructure_leftovers WHERE tenant_id = $1 AND isolation = $2 AND driver = $3")
            .bind(leftover.tenant_id)
            .bind(leftover.isolation.name())
            .bind(leftover.driver.as_str())
            .execute()
            .await?;
        Ok(())
    }
}
