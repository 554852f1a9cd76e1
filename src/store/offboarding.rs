//! Queries about tenants that are taken out: how far each is, who is at it, and the export that is kept of it.

use super::{StoreError, Tx, value::Row};
use crate::{
    kernel::{TenantId, Timestamp, UserId},
    onboarding::leaving::{KeptExport, LeavingState, Offboarding},
};

fn read_offboarding(row: &Row) -> Result<Offboarding, StoreError> {
    let export_until: Option<Timestamp> = row.get("export_until")?;
    let claim: Option<i64> = row.get("export_claim")?;
    Ok(Offboarding {
        tenant_id: row.get("tenant_id")?,
        actor: row.get("actor")?,
        status: row.parse("status")?,
        used: row.get("used")?,
        claims: row.get("claims")?,
        steps: Vec::new(),
        export: claim.zip(export_until).map(|(claim, until)| KeptExport { claim, until }),
        export_until,
        people_until: row.get("people_until")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn read_step(row: &Row) -> Result<LeavingState, StoreError> {
    Ok(LeavingState {
        name: row.parse("name")?,
        status: row.parse("status")?,
        attempts: row.get("attempts")?,
        error: row.get("error")?,
        next_try_at: row.get("next_try_at")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
    })
}

impl Tx {
    /// Begins to take a tenant out, in the hands of its maker until `leased_until`; `false` when that has begun.
    pub async fn offboarding_insert(
        &mut self,
        begun: &Offboarding,
        leased_until: Timestamp,
    ) -> Result<bool, StoreError> {
        self.must_cover(begun.tenant_id)?;
        let inserted = self
            .query(
                "INSERT INTO offboardings (tenant_id, actor, status, used, claims, leased_until, next_try_at, created_at,
                     updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (tenant_id) DO NOTHING",
            )
            .bind(begun.tenant_id)
            .bind(begun.actor.as_str())
            .bind(begun.status.name())
            .bind(begun.used)
            .bind(begun.claims)
            .bind(leased_until)
            .bind(begun.due_at())
            .bind(begun.created_at)
            .bind(begun.updated_at)
            .changed_one()
            .await?;
        if inserted {
            for (position, step) in (0_i64..).zip(&begun.steps) {
                self.offboarding_step_put(begun.tenant_id, position, step).await?;
            }
        }
        Ok(inserted)
    }

    /// Writes how it stands now: `false`, and nothing, unless it is still the caller's who claimed it.
    pub async fn offboarding_update(
        &mut self,
        before: &Offboarding,
        after: &Offboarding,
        leased_until: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        self.must_cover(after.tenant_id)?;
        let held = self
            .query(
                "UPDATE offboardings SET status = $3, used = $4, leased_until = $5, next_try_at = $6, export_claim = $7,
                     export_until = $8, people_until = $9, updated_at = $10
                 WHERE tenant_id = $1 AND claims = $2",
            )
            .bind(after.tenant_id)
            .bind(before.claims)
            .bind(after.status.name())
            .bind(after.used)
            .bind(leased_until)
            .bind(after.due_at())
            .bind(after.export.map(|export| export.claim))
            .bind(after.export_until)
            .bind(after.people_until)
            .bind(after.updated_at)
            .changed_one()
            .await?;
        if held {
            for (position, step) in (0_i64..).zip(&after.steps) {
                if before.steps.get(usize::try_from(position).unwrap_or(0)) != Some(step) {
                    self.offboarding_step_put(after.tenant_id, position, step).await?;
                }
            }
        }
        Ok(held)
    }

    /// Whether it is still the caller's; its row is locked, and it stays the caller's until `leased_until`.
    pub async fn offboarding_hold(&mut self, held: &Offboarding, leased_until: Timestamp) -> Result<bool, StoreError> {
        self.query("UPDATE offboardings SET leased_until = $3 WHERE tenant_id = $1 AND claims = $2")
            .bind(held.tenant_id)
            .bind(held.claims)
            .bind(leased_until)
            .changed_one()
            .await
    }

    /// Takes one up, unless it is done or somebody else has it.
    pub async fn offboarding_claim(
        &mut self,
        tenant: TenantId,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Option<Offboarding>, StoreError> {
        let claimed = self
            .query(
                "UPDATE offboardings SET claims = claims + 1, leased_until = $3
                 WHERE tenant_id = $1 AND status <> 'done' AND (leased_until IS NULL OR leased_until <= $2)",
            )
            .bind(tenant)
            .bind(now)
            .bind(leased_until)
            .changed_one()
            .await?;
        if claimed { self.offboarding(tenant).await } else { Ok(None) }
    }

    /// Lets go of what an earlier process had taken up, where there can be no other process.
    pub async fn offboardings_release(&mut self) -> Result<(), StoreError> {
        if self.is_ours_alone() {
            self.query("UPDATE offboardings SET leased_until = NULL WHERE leased_until IS NOT NULL").execute().await?;
        }
        Ok(())
    }

    /// Those that are to be taken up now, those first that wait longest.
    pub async fn offboardings_due(&mut self, now: Timestamp, most: i64) -> Result<Vec<TenantId>, StoreError> {
        self.query(
            "SELECT tenant_id FROM offboardings
             WHERE next_try_at <= $1 AND status <> 'done' AND (leased_until IS NULL OR leased_until <= $1)
             ORDER BY next_try_at LIMIT $2",
        )
        .bind(now)
        .bind(most)
        .map(|row| row.get("tenant_id"))
        .await
    }

    /// How far the taking out of a tenant is, if it has begun.
    pub async fn offboarding(&mut self, tenant: TenantId) -> Result<Option<Offboarding>, StoreError> {
        let scope = self.tenant();
        let found = self
            .query("SELECT * FROM offboardings WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(tenant)
            .bind(scope)
            .map_one(read_offboarding)
            .await?;
        let Some(mut found) = found else { return Ok(None) };
        found.steps = self
            .query("SELECT * FROM offboarding_steps WHERE tenant_id = $1 ORDER BY position")
            .bind(tenant)
            .map(read_step)
            .await?;
        Ok(Some(found))
    }

    async fn offboarding_step_put(
        &mut self,
        tenant: TenantId,
        position: i64,
        step: &LeavingState,
    ) -> Result<(), StoreError> {
        self.query(
            "INSERT INTO offboarding_steps (tenant_id, position, name, status, attempts, error, next_try_at, started_at,
                 ended_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (tenant_id, position) DO UPDATE SET status = excluded.status, attempts = excluded.attempts,
                 error = excluded.error, next_try_at = excluded.next_try_at, started_at = excluded.started_at,
                 ended_at = excluded.ended_at",
        )
        .bind(tenant)
        .bind(position)
        .bind(step.name.name())
        .bind(step.status.name())
        .bind(step.attempts)
        .bind(step.error.as_deref())
        .bind(step.next_try_at)
        .bind(step.started_at)
        .bind(step.ended_at)
        .execute()
        .await?;
        Ok(())
    }

    /// Remembers who belonged to a tenant, was invited, or registered it, by the emails they have there.
    pub async fn offboarding_people_note(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        for sql in [
            "INSERT INTO offboarding_people (tenant_id, user_id, email_key)
                 SELECT m.tenant_id, u.user_id, u.email_key FROM memberships m JOIN users u ON u.user_id = m.user_id
                 WHERE m.tenant_id = $1
             ON CONFLICT (tenant_id, email_key) DO NOTHING",
            "INSERT INTO offboarding_people (tenant_id, user_id, email_key)
                 SELECT DISTINCT r.tenant_id, r.user_id, LOWER(r.email) FROM registrations r
                 WHERE r.tenant_id = $1 AND r.email IS NOT NULL
             ON CONFLICT (tenant_id, email_key) DO NOTHING",
            "INSERT INTO offboarding_people (tenant_id, user_id, email_key)
                 SELECT DISTINCT tenant_id, CAST(NULL AS {uuid}), email_key FROM invitations WHERE tenant_id = $1
             ON CONFLICT (tenant_id, email_key) DO NOTHING",
        ] {
            let sql = self.engine().ddl(sql);
            self.assembled(sql).bind(tenant).execute().await?;
        }
        Ok(())
    }

    /// Who belonged to a tenant that is gone, as far as that is still remembered.
    pub async fn offboarding_people(&mut self, tenant: TenantId) -> Result<Vec<(Option<UserId>, String)>, StoreError> {
        self.query("SELECT user_id, email_key FROM offboarding_people WHERE tenant_id = $1")
            .bind(tenant)
            .map(|row| Ok((row.get::<Option<uuid::Uuid>>("user_id")?.map(UserId::from_uuid), row.get("email_key")?)))
            .await
    }

    /// Keeps a piece of an export.
    pub async fn kept_export_put(
        &mut self,
        (tenant, claim, number): (TenantId, i64, i64),
        sealed: &[u8],
    ) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "INSERT INTO kept_exports (tenant_id, claim, number, sealed) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant_id, claim, number) DO UPDATE SET sealed = excluded.sealed",
        )
        .bind(tenant)
        .bind(claim)
        .bind(number)
        .bind(sealed)
        .execute()
        .await?;
        Ok(())
    }

    /// Forgets the pieces of an export that is not the kept one: all of them, where none is.
    pub async fn kept_export_drop_others(&mut self, tenant: TenantId, kept: Option<i64>) -> Result<u64, StoreError> {
        self.must_cover(tenant)?;
        self.query("DELETE FROM kept_exports WHERE tenant_id = $1 AND ($2 IS NULL OR claim <> $2)")
            .bind(tenant)
            .bind(kept)
            .execute()
            .await
    }

    /// A piece of an export; `None` after the last.
    pub async fn kept_export_piece(
        &mut self,
        (tenant, claim, number): (TenantId, i64, i64),
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT sealed FROM kept_exports
             WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2) AND claim = $3 AND number = $4",
        )
        .bind(tenant)
        .bind(scope)
        .bind(claim)
        .bind(number)
        .map_one(|row| row.get("sealed"))
        .await
    }

    /// Tenants of which something was kept for a time that is over.
    pub async fn offboardings_over(&mut self, now: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        self.query(
            "SELECT tenant_id FROM offboardings
             WHERE status = 'done' AND export_claim IS NOT NULL AND export_until <= $1 OR (people_until IS NOT NULL AND people_until <= $1)",
        )
        .bind(now)
        .map(|row| row.get("tenant_id"))
        .await
    }

    /// Forgets what was kept of a tenant for a time that is over; with no time, whatever is kept. How many exports that were.
    pub async fn offboarding_forget(&mut self, tenant: TenantId, now: Timestamp) -> Result<u64, StoreError> {
        self.must_cover(tenant)?;
        let sql = "UPDATE offboardings SET export_claim = NULL
                   WHERE tenant_id = $1 AND export_claim IS NOT NULL AND export_until <= $2";
        let exports = self.query(sql).bind(tenant).bind(now).execute().await?;
        if exports > 0 {
            self.kept_export_drop_others(tenant, None).await?;
        }
        let sql = "UPDATE offboardings SET people_until = NULL WHERE tenant_id = $1 AND people_until <= $2";
        if self.query(sql).bind(tenant).bind(now).changed_one().await? {
            self.query("DELETE FROM offboarding_people WHERE tenant_id = $1").bind(tenant).execute().await?;
        }
        Ok(exports)
    }
}
