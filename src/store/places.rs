//! Queries about places for tenants, the pools they are in, and what the webhook driver asked for.

use uuid::Uuid;

use super::{StoreError, Tx, value::Row};
use crate::{
    kernel::{Isolation, TenantId, Timestamp},
    provisioning::model::{Answered, Asked, KeptPlace, Place, Verb},
};

fn read_place(row: &Row) -> Result<KeptPlace, StoreError> {
    Ok(KeptPlace {
        place: Place {
            tenant_id: row.get("tenant_id")?,
            isolation: row.parse("isolation")?,
            pool: row.get("pool")?,
            location: row.get("location")?,
            upstream: row.get("upstream")?,
            password: None,
        },
        driver: row.get("driver")?,
        made: row.get("made")?,
        sealed: row.get("sealed")?,
        read_at: row.get("read_at")?,
    })
}

fn read_asked(row: &Row) -> Result<Asked, StoreError> {
    let answered = match (row.get::<Option<bool>>("succeeded")?, row.get::<Option<Vec<u8>>>("sealed")?) {
        (Some(succeeded), Some(sealed)) => Some(Answered { succeeded, sealed }),
        _ => None,
    };
    Ok(Asked {
        id: row.get("request_id")?,
        tenant_id: row.get("tenant_id")?,
        isolation: row.parse("isolation")?,
        verb: row.parse("verb")?,
        answered,
    })
}

impl Tx {
    /// A tenant's place of a kind.
    pub async fn place(
        &mut self,
        tenant: TenantId,
        isolation: Isolation,
        driver: &str,
    ) -> Result<Option<KeptPlace>, StoreError> {
        self.must_cover(tenant)?;
        self.query("SELECT * FROM infrastructure_places WHERE tenant_id = $1 AND isolation = $2 AND driver = $3")
            .bind(tenant)
            .bind(isolation.name())
            .bind(driver)
            .map_one(read_place)
            .await
    }

    /// All places of a tenant.
    pub async fn places(&mut self, tenant: TenantId) -> Result<Vec<KeptPlace>, StoreError> {
        self.must_cover(tenant)?;
        self.query("SELECT * FROM infrastructure_places WHERE tenant_id = $1 ORDER BY isolation, driver")
            .bind(tenant)
            .map(read_place)
            .await
    }

    /// The places of a driver that tenants use.
    pub async fn places_in_use(&mut self, driver: &str) -> Result<Vec<KeptPlace>, StoreError> {
        self.query(
            "SELECT p.* FROM infrastructure_places p
             JOIN infrastructure i ON i.tenant_id = p.tenant_id AND i.isolation = p.isolation AND i.driver = p.driver
             WHERE p.driver = $1 AND p.made ORDER BY p.tenant_id",
        )
        .bind(driver)
        .map(read_place)
        .await
    }

    /// The place that a tenant uses.
    pub async fn place_in_use(&mut self, tenant: TenantId) -> Result<Option<KeptPlace>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT p.* FROM infrastructure_places p
             JOIN infrastructure i ON i.tenant_id = p.tenant_id AND i.isolation = p.isolation AND i.driver = p.driver
             WHERE p.tenant_id = $1 AND ($2 IS NULL OR p.tenant_id = $2)",
        )
        .bind(tenant)
        .bind(scope)
        .map_one(read_place)
        .await
    }

    /// Notes a place before it is made; `false` when it is noted already.
    pub async fn place_insert(&mut self, kept: &KeptPlace) -> Result<bool, StoreError> {
        self.must_cover(kept.place.tenant_id)?;
        self.query(
            "INSERT INTO infrastructure_places (tenant_id, isolation, driver, pool, location, upstream, made, sealed)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(kept.place.tenant_id)
        .bind(kept.place.isolation.name())
        .bind(kept.driver.as_str())
        .bind(kept.place.pool.as_str())
        .bind(kept.place.location.as_str())
        .bind(kept.place.upstream.as_deref())
        .bind(kept.made)
        .bind(kept.sealed.clone())
        .changed_one()
        .await
    }

    /// Notes what became of a place; `false` when it is not noted any more.
    pub async fn place_update(&mut self, kept: &KeptPlace) -> Result<bool, StoreError> {
        self.must_cover(kept.place.tenant_id)?;
        self.query(
            "UPDATE infrastructure_places SET location = $4, upstream = $5, made = $6, sealed = $7, read_at = $8
             WHERE tenant_id = $1 AND isolation = $2 AND driver = $3",
        )
        .bind(kept.place.tenant_id)
        .bind(kept.place.isolation.name())
        .bind(kept.driver.as_str())
        .bind(kept.place.location.as_str())
        .bind(kept.place.upstream.as_deref())
        .bind(kept.made)
        .bind(kept.sealed.clone())
        .bind(kept.read_at)
        .changed_one()
        .await
    }

    /// Notes credentials that are to be set, at a place that is all made, which it is not any more until they are; `false` when it is
    /// not: somebody else sets others.
    pub async fn place_credentials_renew(&mut self, kept: &KeptPlace) -> Result<bool, StoreError> {
        self.must_cover(kept.place.tenant_id)?;
        self.query(
            "UPDATE infrastructure_places SET sealed = $4, read_at = NULL, made = FALSE
             WHERE tenant_id = $1 AND isolation = $2 AND driver = $3 AND made",
        )
        .bind(kept.place.tenant_id)
        .bind(kept.place.isolation.name())
        .bind(kept.driver.as_str())
        .bind(kept.sealed.clone())
        .changed_one()
        .await
    }

    /// Takes credentials out, if they are still these; `false` when somebody else did.
    pub async fn place_credentials_take(
        &mut self,
        kept: &KeptPlace,
        sealed: &[u8],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.must_cover(kept.place.tenant_id)?;
        self.query(
            "UPDATE infrastructure_places SET sealed = NULL, read_at = $5
             WHERE tenant_id = $1 AND isolation = $2 AND driver = $3 AND sealed = $4",
        )
        .bind(kept.place.tenant_id)
        .bind(kept.place.isolation.name())
        .bind(kept.driver.as_str())
        .bind(sealed)
        .bind(now)
        .changed_one()
        .await
    }

    /// Forgets a place that was taken down, and gives its part of a pool back.
    pub async fn place_delete(
        &mut self,
        tenant: TenantId,
        isolation: Isolation,
        driver: &str,
    ) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        let pool: Option<String> = self
            .query(
                "DELETE FROM infrastructure_places WHERE tenant_id = $1 AND isolation = $2 AND driver = $3 RETURNING pool",
            )
            .bind(tenant)
            .bind(isolation.name())
            .bind(driver)
            .map_one(|row| row.get("pool"))
            .await?;
        if let Some(pool) = pool.filter(|pool| !pool.is_empty()) {
            self.query("UPDATE infrastructure_pools SET taken = taken - 1 WHERE driver = $1 AND pool = $2")
                .bind(driver)
                .bind(pool.as_str())
                .execute()
                .await?;
        }
        Ok(())
    }

    /// How many places each pool of a driver has given away.
    pub async fn pools_taken(&mut self, driver: &str) -> Result<Vec<(String, i64)>, StoreError> {
        self.query("SELECT pool, taken FROM infrastructure_pools WHERE driver = $1")
            .bind(driver)
            .map(|row| Ok((row.get("pool")?, row.get("taken")?)))
            .await
    }

    /// Takes a place in a pool, if there is room. One update decides, so that a pool never gives away more than it has.
    pub async fn pool_take(&mut self, driver: &str, pool: &str, capacity: i64) -> Result<bool, StoreError> {
        self.query("INSERT INTO infrastructure_pools (driver, pool, taken) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING")
            .bind(driver)
            .bind(pool)
            .execute()
            .await?;
        self.query("UPDATE infrastructure_pools SET taken = taken + 1 WHERE driver = $1 AND pool = $2 AND taken < $3")
            .bind(driver)
            .bind(pool)
            .bind(capacity)
            .changed_one()
            .await
    }

    /// What the webhook driver asked for and nobody has answered, or has answered and nobody has looked.
    pub async fn asked(
        &mut self,
        tenant: TenantId,
        isolation: Isolation,
        verb: Verb,
    ) -> Result<Option<Asked>, StoreError> {
        self.query(
            "SELECT * FROM provisioning_requests WHERE tenant_id = $1 AND isolation = $2 AND verb = $3
             ORDER BY request_id DESC LIMIT 1",
        )
        .bind(tenant)
        .bind(isolation.name())
        .bind(verb.name())
        .map_one(read_asked)
        .await
    }

    /// One of them.
    pub async fn asked_by_id(&mut self, id: Uuid) -> Result<Option<Asked>, StoreError> {
        self.query("SELECT * FROM provisioning_requests WHERE request_id = $1").bind(id).map_one(read_asked).await
    }

    /// Notes what is asked for, before it is.
    pub async fn asked_insert(&mut self, asked: &Asked, now: Timestamp) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO provisioning_requests (request_id, tenant_id, isolation, verb, asked_at)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(asked.id)
        .bind(asked.tenant_id)
        .bind(asked.isolation.name())
        .bind(asked.verb.name())
        .bind(now)
        .execute()
        .await?;
        Ok(())
    }

    /// Notes the answer; the first one counts.
    pub async fn asked_answer(&mut self, id: Uuid, answered: &Answered, now: Timestamp) -> Result<bool, StoreError> {
        self.query(
            "UPDATE provisioning_requests SET answered_at = $2, succeeded = $3, sealed = $4
             WHERE request_id = $1 AND answered_at IS NULL",
        )
        .bind(id)
        .bind(now)
        .bind(answered.succeeded)
        .bind(answered.sealed.as_slice())
        .changed_one()
        .await
    }

    /// What was asked for a tenant last.
    pub async fn asked_of(&mut self, tenant: TenantId, verb: Option<Verb>) -> Result<Option<Asked>, StoreError> {
        self.query(
            "SELECT * FROM provisioning_requests WHERE tenant_id = $1 AND ($2 IS NULL OR verb = $2)
             ORDER BY request_id DESC LIMIT 1",
        )
        .bind(tenant)
        .bind(verb.map(Verb::name))
        .map_one(read_asked)
        .await
    }

    /// Forgets what was asked for a place: it was answered, and the answer is used.
    pub async fn asked_delete(&mut self, tenant: TenantId, isolation: Isolation) -> Result<(), StoreError> {
        self.query("DELETE FROM provisioning_requests WHERE tenant_id = $1 AND isolation = $2")
            .bind(tenant)
            .bind(isolation.name())
            .execute()
            .await?;
        Ok(())
    }
}
