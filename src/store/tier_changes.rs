//! Queries about changes of tier: what is kept of them, and who is at which.

use serde::{Deserialize, Serialize};

use super::{StoreError, Tx, onboarding::read_actor, value::Row};
use crate::{
    kernel::{InfrastructureId, Isolation, PageRequest, TenantId, TierChangeId, Timestamp},
    onboarding::tier_model::{ChangeStep, TierChange},
    provisioning::model::{Infrastructure, Site, Tally},
};

/// The places of a change as kept.
#[derive(Serialize, Deserialize)]
struct WayRow {
    left: Option<PlaceRow>,
    site: Option<SiteRow>,
}

#[derive(Serialize, Deserialize)]
struct PlaceRow {
    id: InfrastructureId,
    at: SiteRow,
    location: String,
    created_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct SiteRow {
    isolation: Isolation,
    driver: String,
}

#[derive(Serialize, Deserialize)]
struct TallyRow {
    rows: u64,
    sum: String,
}

/// A step as kept.
#[derive(Serialize, Deserialize)]
struct StepRow {
    name: String,
    status: String,
    attempts: i64,
    error: Option<String>,
    next_try_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

impl WayRow {
    fn new(change: &TierChange) -> Self {
        let left = change.left.as_ref().map(|left| PlaceRow {
            id: left.id,
            at: SiteRow { isolation: left.isolation, driver: left.driver.clone() },
            location: left.location.clone(),
            created_at: left.created_at,
        });
        let site = change.site.as_ref().map(|site| SiteRow { isolation: site.isolation, driver: site.driver.clone() });
        Self { left, site }
    }
}

impl StepRow {
    fn new(step: &ChangeStep) -> Self {
        Self {
            name: step.name.name().to_owned(),
            status: step.status.name().to_owned(),
            attempts: step.attempts,
            error: step.error.clone(),
            next_try_at: step.next_try_at,
            started_at: step.started_at,
            ended_at: step.ended_at,
        }
    }

    fn read(self) -> Result<ChangeStep, StoreError> {
        let corrupt = |_| StoreError::Corrupt("steps of a change of tier".into());
        Ok(ChangeStep {
            name: self.name.parse().map_err(corrupt)?,
            status: self.status.parse().map_err(corrupt)?,
            attempts: self.attempts,
            error: self.error,
            next_try_at: self.next_try_at,
            started_at: self.started_at,
            ended_at: self.ended_at,
        })
    }
}

/// Texts, numbers and options of them: what is written never fails.
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn steps_text(change: &TierChange) -> String {
    text(&change.steps.iter().map(StepRow::new).collect::<Vec<_>>())
}

fn carried_text(change: &TierChange) -> Option<String> {
    change.carried.as_ref().map(|Tally { rows, sum }| text(&TallyRow { rows: *rows, sum: sum.clone() }))
}

fn read_change(row: &Row) -> Result<TierChange, StoreError> {
    let tenant_id = row.get("tenant_id")?;
    let WayRow { left, site } = row.json("way")?;
    let carried: Option<TallyRow> = match row.get::<Option<String>>("carried")? {
        Some(_) => Some(row.json("carried")?),
        None => None,
    };
    let steps: Vec<StepRow> = row.json("steps")?;
    Ok(TierChange {
        id: row.get("change_id")?,
        tenant_id,
        from: row.parse("from_tier")?,
        to: row.parse("to_tier")?,
        status: row.parse("status")?,
        undoing: row.get("undoing")?,
        actor: read_actor(&row.get::<String>("actor")?),
        left: left.map(|PlaceRow { id, at, location, created_at }| Infrastructure {
            id,
            tenant_id,
            isolation: at.isolation,
            driver: at.driver,
            location,
            created_at,
        }),
        site: site.map(|SiteRow { isolation, driver }| Site { isolation, driver }),
        carried: carried.map(|TallyRow { rows, sum }| Tally { rows, sum }),
        switched_at: row.get("switched_at")?,
        claims: row.get("claims")?,
        steps: steps.into_iter().map(StepRow::read).collect::<Result<_, _>>()?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

impl Tx {
    /// Adds a change, which is its maker's until `leased_until`.
    pub async fn tier_change_insert(&mut self, change: &TierChange, leased_until: Timestamp) -> Result<(), StoreError> {
        self.must_cover(change.tenant_id)?;
        self.query(
            "INSERT INTO tier_changes (change_id, tenant_id, from_tier, to_tier, status, undoing, actor, way, carried,
                 steps, switched_at, claims, leased_until, next_try_at, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(change.id)
        .bind(change.tenant_id)
        .bind(change.from.as_str())
        .bind(change.to.as_str())
        .bind(change.status.name())
        .bind(change.undoing)
        .bind(change.actor.to_string())
        .bind(text(&WayRow::new(change)))
        .bind(carried_text(change))
        .bind(steps_text(change))
        .bind(change.switched_at)
        .bind(change.claims)
        .bind(leased_until)
        .bind(change.due_at())
        .bind(change.created_at)
        .bind(change.updated_at)
        .execute()
        .await?;
        Ok(())
    }

    /// Writes how a change stands now: `false`, and nothing, unless it is still the caller's who claimed it, and knows whether the
    /// tier is another. It stays the caller's until `leased_until`, where there is one.
    pub async fn tier_change_update(
        &mut self,
        change: &TierChange,
        leased_until: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        self.must_cover(change.tenant_id)?;
        self.query(
            "UPDATE tier_changes SET status = $3, undoing = $4, carried = $5, steps = $6, switched_at = $7,
                 leased_until = $8, next_try_at = $9, updated_at = $10
             WHERE change_id = $1 AND claims = $2 AND status IN ('running', 'kept')
                 AND (switched_at IS NULL OR $7 IS NOT NULL)",
        )
        .bind(change.id)
        .bind(change.claims)
        .bind(change.status.name())
        .bind(change.undoing)
        .bind(carried_text(change))
        .bind(steps_text(change))
        .bind(change.switched_at)
        .bind(leased_until)
        .bind(change.due_at())
        .bind(change.updated_at)
        .changed_one()
        .await
    }

    /// Whether a change is still the caller's; its row is locked, and it stays the caller's until `leased_until`.
    pub async fn tier_change_hold(&mut self, held: &TierChange, leased_until: Timestamp) -> Result<bool, StoreError> {
        self.query(
            "UPDATE tier_changes SET leased_until = $3 WHERE change_id = $1 AND claims = $2 AND status = 'running'",
        )
        .bind(held.id)
        .bind(held.claims)
        .bind(leased_until)
        .changed_one()
        .await
    }

    /// Takes a change up, unless it has ended or somebody else has it.
    pub async fn tier_change_claim(
        &mut self,
        id: TierChangeId,
        now: Timestamp,
        leased_until: Timestamp,
    ) -> Result<Option<TierChange>, StoreError> {
        let claimed = self
            .query(
                "UPDATE tier_changes SET claims = claims + 1, leased_until = $3
                 WHERE change_id = $1 AND status = 'running' AND (leased_until IS NULL OR leased_until <= $2)",
            )
            .bind(id)
            .bind(now)
            .bind(leased_until)
            .changed_one()
            .await?;
        if claimed { self.tier_change_by_id(id).await } else { Ok(None) }
    }

    /// Lets go of what an earlier process had taken up. Only where there can be no other process: elsewhere its time runs out.
    pub async fn tier_changes_release(&mut self) -> Result<(), StoreError> {
        if self.is_ours_alone() {
            self.query(
                "UPDATE tier_changes SET leased_until = NULL WHERE leased_until IS NOT NULL AND status = 'running'",
            )
            .execute()
            .await?;
        }
        Ok(())
    }

    /// Takes the change of a tenant that has not ended from whoever has it, for good: the tenant is taken out.
    pub(super) async fn tier_change_stop(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "UPDATE tier_changes SET claims = claims + 1, leased_until = NULL, next_try_at = NULL,
                 status = CASE WHEN switched_at IS NULL THEN 'undone' ELSE 'done' END
             WHERE tenant_id = $1 AND status IN ('running', 'kept')",
        )
        .bind(tenant)
        .execute()
        .await?;
        Ok(())
    }

    /// Changes that are to be taken up now, those first that wait longest.
    pub async fn tier_changes_due(&mut self, now: Timestamp, most: i64) -> Result<Vec<TierChangeId>, StoreError> {
        self.query(
            "SELECT change_id FROM tier_changes
             WHERE next_try_at <= $1 AND status = 'running' AND (leased_until IS NULL OR leased_until <= $1)
             ORDER BY next_try_at LIMIT $2",
        )
        .bind(now)
        .bind(most)
        .map(|row| row.get("change_id"))
        .await
    }

    /// One change.
    pub async fn tier_change_by_id(&mut self, id: TierChangeId) -> Result<Option<TierChange>, StoreError> {
        let scope = self.tenant();
        self.query("SELECT * FROM tier_changes WHERE change_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(id)
            .bind(scope)
            .map_one(read_change)
            .await
    }

    /// The change of a tenant that has not ended.
    pub async fn tier_change_running(&mut self, tenant: TenantId) -> Result<Option<TierChange>, StoreError> {
        self.must_cover(tenant)?;
        self.query("SELECT * FROM tier_changes WHERE tenant_id = $1 AND status = 'running'")
            .bind(tenant)
            .map_one(read_change)
            .await
    }

    /// A page of a tenant's changes.
    pub async fn tier_changes(&mut self, tenant: TenantId, page: PageRequest) -> Result<Vec<TierChange>, StoreError> {
        self.must_cover(tenant)?;
        self.query("SELECT * FROM tier_changes WHERE tenant_id = $1 AND change_id > $2 ORDER BY change_id LIMIT $3")
            .bind(tenant)
            .bind(page.after())
            .bind(page.fetch_limit())
            .map(read_change)
            .await
    }
}
