//! Queries about drift, and about the round that looks for it.

use super::{StoreError, Tx, value::Row};
use crate::{
    kernel::{PageRequest, TenantId, Timestamp},
    provisioning::{
        drift::{Drift, DriftFilter, DriftKind, Round},
        model::KeptPlace,
    },
};

fn read_drift(row: &Row) -> Result<Drift, StoreError> {
    Ok(Drift {
        id: row.get("drift_id")?,
        tenant_id: row.get("tenant_id")?,
        kind: row.parse("kind")?,
        detail: row.get("detail")?,
        found_at: row.get("found_at")?,
        seen_at: row.get("seen_at")?,
        looks: row.get("looks")?,
        next_look_at: row.get("next_look_at")?,
        repaired_at: row.get("repaired_at")?,
    })
}

fn read_round(row: &Row) -> Result<Round, StoreError> {
    Ok(Round { after: row.get("after")?, began_at: row.get("began_at")?, ended_at: row.get("ended_at")? })
}

impl Tx {
    /// How far the round is.
    pub async fn drift_round(&mut self) -> Result<Round, StoreError> {
        let round = self.query("SELECT * FROM drift_round WHERE id = 1").map_one(read_round).await?;
        round.ok_or_else(|| StoreError::Corrupt("drift_round: no row".into()))
    }

    /// The same, held until the transaction ends: nobody else takes the same tenants.
    pub async fn drift_round_hold(&mut self) -> Result<Round, StoreError> {
        let round =
            self.query("UPDATE drift_round SET after = after WHERE id = 1 RETURNING *").map_one(read_round).await?;
        round.ok_or_else(|| StoreError::Corrupt("drift_round: no row".into()))
    }

    /// Notes how far it is.
    pub async fn drift_round_put(&mut self, round: Round) -> Result<(), StoreError> {
        self.query("UPDATE drift_round SET after = $1, began_at = $2, ended_at = $3 WHERE id = 1")
            .bind(round.after)
            .bind(round.began_at)
            .bind(round.ended_at)
            .execute()
            .await?;
        Ok(())
    }

    /// The tenants after one, without those that are deleted, and without those with drift, which are looked at by themselves.
    pub async fn tenants_after(&mut self, after: Option<TenantId>, limit: i64) -> Result<Vec<TenantId>, StoreError> {
        self.query(
            "SELECT tenant_id FROM tenants t WHERE ($1 IS NULL OR tenant_id > $1) AND deleted_at IS NULL
                 AND NOT EXISTS (SELECT 1 FROM drift d WHERE d.tenant_id = t.tenant_id AND d.repaired_at IS NULL)
             ORDER BY tenant_id LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .map(|row| row.get("tenant_id"))
        .await
    }

    /// Deleted tenants of which a place is still noted.
    pub async fn outlived_by_places(&mut self, limit: i64) -> Result<Vec<TenantId>, StoreError> {
        self.query(
            "SELECT t.tenant_id FROM tenants t WHERE t.deleted_at IS NOT NULL AND t.tenant_id IN (
                 SELECT tenant_id FROM infrastructure_places UNION SELECT tenant_id FROM infrastructure_leftovers
                 UNION SELECT tenant_id FROM infrastructure)
             ORDER BY t.tenant_id LIMIT $1",
        )
        .bind(limit)
        .map(|row| row.get("tenant_id"))
        .await
    }

    /// Notes drift: anew, or that one more look found it; how it stands.
    pub async fn drift_note(&mut self, drift: &Drift) -> Result<Drift, StoreError> {
        self.must_cover(drift.tenant_id)?;
        let noted = self
            .query(
                "INSERT INTO drift (drift_id, tenant_id, kind, detail, found_at, seen_at, looks, next_look_at)
                 VALUES ($1, $2, $3, $4, $5, $5, 1, $6)
                 ON CONFLICT (tenant_id, kind) WHERE repaired_at IS NULL DO UPDATE SET detail = excluded.detail,
                     seen_at = excluded.seen_at, looks = drift.looks + 1, next_look_at = excluded.next_look_at
                 RETURNING *",
            )
            .bind(drift.id)
            .bind(drift.tenant_id)
            .bind(drift.kind.name())
            .bind(drift.detail.as_str())
            .bind(drift.seen_at)
            .bind(drift.next_look_at)
            .map_one(read_drift)
            .await?;
        noted.ok_or_else(|| StoreError::Corrupt("drift: no row".into()))
    }

    /// Notes when drift is looked at again, and what is known of it by now.
    pub async fn drift_put_off(&mut self, drift: &Drift) -> Result<(), StoreError> {
        self.query("UPDATE drift SET next_look_at = $2, detail = $3 WHERE drift_id = $1 AND repaired_at IS NULL")
            .bind(drift.id)
            .bind(drift.next_look_at)
            .bind(drift.detail.as_str())
            .execute()
            .await?;
        Ok(())
    }

    /// Notes that drift is no more; `false` when that is known.
    pub async fn drift_repaired(&mut self, drift: &Drift, now: Timestamp) -> Result<bool, StoreError> {
        self.query("UPDATE drift SET repaired_at = $2 WHERE drift_id = $1 AND repaired_at IS NULL")
            .bind(drift.id)
            .bind(now)
            .changed_one()
            .await
    }

    /// What is open of a tenant, the oldest first.
    pub async fn drift_of(&mut self, tenant: TenantId) -> Result<Vec<Drift>, StoreError> {
        self.must_cover(tenant)?;
        self.query("SELECT * FROM drift WHERE tenant_id = $1 AND repaired_at IS NULL ORDER BY drift_id")
            .bind(tenant)
            .map(read_drift)
            .await
    }

    /// Tenants with drift that is to be looked at again, those first that waited longest.
    pub async fn drift_suspects(&mut self, now: Timestamp, limit: i64) -> Result<Vec<TenantId>, StoreError> {
        self.query(
            "SELECT tenant_id, MIN(next_look_at) AS due FROM drift WHERE repaired_at IS NULL AND next_look_at <= $1
             GROUP BY tenant_id ORDER BY due, tenant_id LIMIT $2",
        )
        .bind(now)
        .bind(limit)
        .map(|row| row.get("tenant_id"))
        .await
    }

    /// Takes a tenant's drift upon oneself until an instant; `false` when somebody else has it, or there is none.
    pub async fn drift_claim(
        &mut self,
        tenant: TenantId,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let claimed = self
            .query(
                "UPDATE drift SET next_look_at = $3 WHERE tenant_id = $1 AND repaired_at IS NULL AND next_look_at <= $2",
            )
            .bind(tenant)
            .bind(now)
            .bind(until)
            .execute()
            .await?;
        Ok(claimed > 0)
    }

    /// A page of drift, the oldest first.
    pub async fn drift(&mut self, filter: &DriftFilter, page: PageRequest) -> Result<Vec<Drift>, StoreError> {
        self.query(
            "SELECT * FROM drift
             WHERE drift_id > $1 AND ($2 IS NULL OR tenant_id = $2) AND ($3 IS NULL OR kind = $3)
               AND ($4 IS NULL OR (repaired_at IS NULL) = $4)
             ORDER BY drift_id LIMIT $5",
        )
        .bind(page.after())
        .bind(filter.tenant)
        .bind(filter.kind.map(DriftKind::name))
        .bind(filter.open)
        .bind(page.fetch_limit())
        .map(read_drift)
        .await
    }

    /// How much is open.
    pub async fn drift_open_count(&mut self) -> Result<i64, StoreError> {
        let count = self.query("SELECT COUNT(*) AS count FROM drift WHERE repaired_at IS NULL");
        Ok(count.map_one(|row| row.get("count")).await?.unwrap_or(0))
    }

    /// Forgets what was mended before an instant.
    pub async fn drift_forget(&mut self, before: Timestamp) -> Result<(), StoreError> {
        self.query("DELETE FROM drift WHERE repaired_at < $1").bind(before).execute().await?;
        Ok(())
    }

    /// Whether a look found rows of the tenant at a place.
    pub async fn place_kept_rows(&mut self, kept: &KeptPlace) -> Result<bool, StoreError> {
        let found = self
            .query(
                "SELECT kept_rows FROM infrastructure_places WHERE tenant_id = $1 AND isolation = $2 AND driver = $3",
            )
            .bind(kept.place.tenant_id)
            .bind(kept.place.isolation.name())
            .bind(kept.driver.as_str())
            .map_one(|row| row.get("kept_rows"))
            .await?;
        Ok(found.unwrap_or(false))
    }

    /// Notes whether it did.
    pub async fn place_kept_rows_set(&mut self, kept: &KeptPlace, has_rows: bool) -> Result<(), StoreError> {
        self.query(
            "UPDATE infrastructure_places SET kept_rows = $4 WHERE tenant_id = $1 AND isolation = $2 AND driver = $3",
        )
        .bind(kept.place.tenant_id)
        .bind(kept.place.isolation.name())
        .bind(kept.driver.as_str())
        .bind(has_rows)
        .execute()
        .await?;
        Ok(())
    }

    /// Says that a place that is all made is being mended, or that it no longer is; `false` when somebody else is at it: then
    /// nobody sets other credentials meanwhile.
    pub async fn place_mending(&mut self, kept: &KeptPlace, mends: bool) -> Result<bool, StoreError> {
        self.query(
            "UPDATE infrastructure_places SET made = $4
             WHERE tenant_id = $1 AND isolation = $2 AND driver = $3 AND made <> $4",
        )
        .bind(kept.place.tenant_id)
        .bind(kept.place.isolation.name())
        .bind(kept.driver.as_str())
        .bind(!mends)
        .changed_one()
        .await
    }
}
