//! Queries about billing periods: how a tenant's follow each other, and whose may be over.

use super::{StoreError, Tx, value::Row};
use crate::{
    billing::{cadence::Cadence, schedule::Schedule},
    kernel::{TenantId, Timestamp},
};

/// An account whose next period may be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueAccount {
    /// By when it may be.
    pub due: Timestamp,
    /// Whose.
    pub tenant: TenantId,
}

/// How far a tenant is billed, as of one revision.
#[derive(Debug, Clone)]
pub struct BillingProgress {
    /// Of the account.
    pub revision: i64,
    /// An instant in the first period without an invoice.
    pub next: Timestamp,
    /// Until when the account was open, if it is closed.
    pub closed_at: Option<Timestamp>,
}

pub(super) fn read_cadence(row: &Row) -> Result<(Timestamp, Cadence), StoreError> {
    let cadence = Cadence { interval: row.parse("every")?, anchor: row.parse("anchor")?, zone: row.parse("zone")? };
    Ok((row.get("since")?, cadence))
}

impl Tx {
    /// A tenant's billing periods.
    pub async fn billing_schedule(&mut self, tenant: TenantId) -> Result<Schedule, StoreError> {
        let scope = self.tenant();
        let kept = self
            .query(
                "SELECT since, every, anchor, zone FROM billing_cadences
                 WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2) ORDER BY since",
            )
            .bind(tenant)
            .bind(scope)
            .map(read_cadence)
            .await?;
        Ok(Schedule::new(kept))
    }

    /// Adds how a tenant's periods follow each other from an instant on.
    pub async fn billing_cadence_insert(
        &mut self,
        tenant: TenantId,
        since: Timestamp,
        cadence: &Cadence,
    ) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        self.query("INSERT INTO billing_cadences (tenant_id, since, every, anchor, zone) VALUES ($1, $2, $3, $4, $5)")
            .bind(tenant)
            .bind(since)
            .bind(cadence.interval.to_string())
            .bind(cadence.anchor.to_string())
            .bind(cadence.zone.name())
            .execute()
            .await?;
        Ok(())
    }

    /// Forgets what was to hold from an instant on, and has the account looked at by then.
    pub async fn billing_cadences_drop(&mut self, tenant: TenantId, from: Timestamp) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        let sql = "DELETE FROM billing_cadences WHERE tenant_id = $1 AND since >= $2";
        self.query(sql).bind(tenant).bind(from).execute().await?;
        let sql = "UPDATE billing_accounts SET next_due = $2 WHERE tenant_id = $1 AND next_due > $2";
        self.query(sql).bind(tenant).bind(from).execute().await?;
        Ok(())
    }

    /// Accounts whose next period may be over by an instant, soonest first, after one of them. Who was never in use owes nothing yet.
    pub async fn accounts_due(
        &mut self,
        by: Timestamp,
        after: Option<DueAccount>,
        limit: i64,
    ) -> Result<Vec<DueAccount>, StoreError> {
        // No id is the lowest.
        let (due, tenant) = after.map_or((Timestamp::MIN, None), |last| (last.due, Some(last.tenant)));
        self.query(
            "SELECT next_due, tenant_id FROM billing_accounts
             WHERE next_due <= $1 AND next_due >= $2 AND ($3 IS NULL OR next_due > $2 OR tenant_id > $3)
               AND NOT EXISTS (SELECT 1 FROM tenants t WHERE t.tenant_id = billing_accounts.tenant_id
                               AND t.status IN ('provisioning', 'failed'))
             ORDER BY next_due, tenant_id LIMIT $4",
        )
        .bind(by)
        .bind(due)
        .bind(tenant)
        .bind(limit)
        .map(|row| Ok(DueAccount { due: row.get("next_due")?, tenant: row.get("tenant_id")? }))
        .await
    }

    /// How far a tenant is billed.
    pub async fn billing_progress(&mut self, tenant: TenantId) -> Result<Option<BillingProgress>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT revision, COALESCE(billed_through, opened_at) AS next, closed_at FROM billing_accounts
             WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2)",
        )
        .bind(tenant)
        .bind(scope)
        .map_one(|row| {
            let (revision, next, closed_at) = (row.get("revision")?, row.get("next")?, row.get("closed_at")?);
            Ok(BillingProgress { revision, next, closed_at })
        })
        .await
    }

    /// Notes when the next period of a tenant is over, unless something has changed since `revision` was read. With none to
    /// come, the address of a closed account is forgotten.
    pub async fn account_due_set(
        &mut self,
        tenant: TenantId,
        revision: i64,
        next_due: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        let sql = "UPDATE billing_accounts SET next_due = $2 WHERE tenant_id = $1 AND revision = $3";
        self.query(sql).bind(tenant).bind(next_due).bind(revision).execute().await?;
        if next_due.is_none() {
            self.billing_address_forget(tenant).await?;
        }
        Ok(())
    }
}
