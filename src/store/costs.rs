//! Queries about what things cost us, whose bills there are, and who is held to lower limits.

use super::{StoreError, Tx};
use crate::{
    billing::invoice::Invoice,
    kernel::{PageRequest, TenantId, Timestamp},
};

/// A version of the cost rates as kept.
#[derive(Debug, Clone)]
pub struct CostRow {
    /// Which.
    pub version: i64,
    /// From when it holds.
    pub effective_from: Timestamp,
    /// The rates, as on the wire.
    pub body: String,
}

impl Tx {
    /// Adds a version of the cost rates; `false` when that version exists.
    pub async fn costs_insert(&mut self, row: &CostRow, now: Timestamp) -> Result<bool, StoreError> {
        self.query(
            "INSERT INTO cost_rates (version, effective_from, body, created_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (version) DO NOTHING",
        )
        .bind(row.version)
        .bind(row.effective_from)
        .bind(row.body.as_str())
        .bind(now)
        .changed_one()
        .await
    }

    /// All versions of the cost rates.
    pub async fn costs(&mut self) -> Result<Vec<CostRow>, StoreError> {
        self.query("SELECT version, effective_from, body FROM cost_rates ORDER BY version")
            .map(|row| {
                Ok(CostRow {
                    version: row.get("version")?,
                    effective_from: row.get("effective_from")?,
                    body: row.get("body")?,
                })
            })
            .await
    }

    /// A page of the tenants whose account was opened before an instant and not closed before another, by id.
    pub async fn accounts_within(
        &mut self,
        (opened_before, closed_after): (Timestamp, Timestamp),
        page: PageRequest,
    ) -> Result<Vec<TenantId>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT tenant_id FROM billing_accounts
             WHERE tenant_id > $1 AND ($2 IS NULL OR tenant_id = $2) AND opened_at < $3
               AND (closed_at IS NULL OR closed_at >= $4)
             ORDER BY tenant_id LIMIT $5",
        )
        .bind(page.after())
        .bind(scope)
        .bind(opened_before)
        .bind(closed_after)
        .bind(page.fetch_limit())
        .map(|row| row.get("tenant_id"))
        .await
    }

    /// The invoice that holds a tenant's period, with its document.
    pub async fn invoice_of_period(
        &mut self,
        tenant: TenantId,
        from: Timestamp,
    ) -> Result<Option<Invoice>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM invoices
             WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2) AND period_from = $3 AND holds_period = 1",
        )
        .bind(tenant)
        .bind(scope)
        .bind(from)
        .map_one(super::invoices::read_invoice)
        .await
    }

    /// Since when a tenant is held to lower limits, if it is.
    pub async fn account_limited(&mut self, tenant: TenantId) -> Result<Option<Timestamp>, StoreError> {
        let scope = self.tenant();
        let sql = "SELECT limited_at FROM billing_accounts WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2)";
        let found = self.query(sql).bind(tenant).bind(scope).map_one(|row| row.get::<Option<Timestamp>>("limited_at"));
        Ok(found.await?.flatten())
    }

    /// Holds a tenant to lower limits; `false` when it is, or has no open account.
    pub async fn account_limit(&mut self, tenant: TenantId, since: Timestamp) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        let sql = "UPDATE billing_accounts SET limited_at = $2
                   WHERE tenant_id = $1 AND limited_at IS NULL AND closed_at IS NULL";
        self.query(sql).bind(tenant).bind(since).changed_one().await
    }

    /// Ends that; `false` when it is not.
    pub async fn account_unlimit(&mut self, tenant: TenantId) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        let sql = "UPDATE billing_accounts SET limited_at = NULL WHERE tenant_id = $1 AND limited_at IS NOT NULL";
        self.query(sql).bind(tenant).changed_one().await
    }
}
