//! Queries of the doctor: what is left of whom there is no more, and who is served and not billed.

use super::{StoreError, Tx};
use crate::{
    kernel::{Isolation, TenantId, Timestamp, UserId},
    provisioning::model::Leftover,
};

/// A tenant as the doctor sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is there.
    Alive,
    /// There is its tombstone.
    Deleted,
    /// Nobody has ever heard of it here.
    Unknown,
}

/// A tenant in use that no invoice is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unbilled {
    /// It has no account.
    NoAccount,
    /// Its account is closed.
    Closed,
    /// It is never due.
    NeverDue,
}

/// What is kept of tenants until they are deleted, and a sentence's word for it.
const OF_TENANTS: [(&str, &str); 6] = [
    ("memberships", "SELECT tenant_id FROM memberships"),
    ("sign-ins", "SELECT tenant_id FROM sessions WHERE ended_at IS NULL AND tenant_id IS NOT NULL"),
    ("invitations", "SELECT tenant_id FROM invitations"),
    ("webhooks", "SELECT tenant_id FROM webhooks WHERE tenant_id IS NOT NULL"),
    ("clients", "SELECT tenant_id FROM clients WHERE deleted_at IS NULL"),
    ("allowed domains", "SELECT tenant_id FROM tenant_domains"),
];

impl Tx {
    /// Whether a tenant is there, or was.
    pub async fn tenant_known(&mut self, tenant: TenantId) -> Result<Known, StoreError> {
        let deleted = self
            .query("SELECT deleted_at FROM tenants WHERE tenant_id = $1")
            .bind(tenant)
            .map_one(|row| row.get::<Option<Timestamp>>("deleted_at"))
            .await?;
        Ok(match deleted {
            None => Known::Unknown,
            Some(None) => Known::Alive,
            Some(Some(_)) => Known::Deleted,
        })
    }

    /// Every place that is noted, in use, half made or left.
    pub async fn places_noted(&mut self) -> Result<Vec<Leftover>, StoreError> {
        self.query(
            "SELECT tenant_id, isolation, driver, location FROM infrastructure_places
             UNION SELECT tenant_id, isolation, driver, location FROM infrastructure_leftovers
             UNION SELECT tenant_id, isolation, driver, location FROM infrastructure
             ORDER BY tenant_id, isolation, driver, location",
        )
        .map(|row| {
            Ok(Leftover {
                tenant_id: row.get("tenant_id")?,
                isolation: row.parse::<Isolation>("isolation")?,
                driver: row.get("driver")?,
                location: row.get("location")?,
            })
        })
        .await
    }

    /// Open billing accounts of tenants that are deleted or were never there.
    pub async fn accounts_without_tenant(&mut self) -> Result<Vec<TenantId>, StoreError> {
        self.query(
            "SELECT a.tenant_id FROM billing_accounts a LEFT JOIN tenants t ON t.tenant_id = a.tenant_id
             WHERE a.closed_at IS NULL AND (t.tenant_id IS NULL OR t.deleted_at IS NOT NULL) ORDER BY a.tenant_id",
        )
        .map(|row| row.get("tenant_id"))
        .await
    }

    /// People who belong nowhere and are no administrators of the platform.
    pub async fn users_without_membership(&mut self) -> Result<Vec<UserId>, StoreError> {
        self.query(
            "SELECT u.user_id FROM users u WHERE u.platform_admin = $1
                 AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = u.user_id) ORDER BY u.user_id",
        )
        .bind(false)
        .map(|row| row.get("user_id"))
        .await
    }

    /// Tenants in use that no invoice is made for.
    pub async fn tenants_unbilled(&mut self) -> Result<Vec<(TenantId, Unbilled)>, StoreError> {
        self.query(
            "SELECT t.tenant_id, a.tenant_id AS account, a.closed_at FROM tenants t
             LEFT JOIN billing_accounts a ON a.tenant_id = t.tenant_id
             WHERE t.status IN ('active', 'suspended', 'changing_tier')
                 AND (a.tenant_id IS NULL OR a.closed_at IS NOT NULL OR a.next_due IS NULL) ORDER BY t.tenant_id",
        )
        .map(|row| {
            let account: Option<TenantId> = row.get("account")?;
            let closed: Option<Timestamp> = row.get("closed_at")?;
            let why = match (account, closed) {
                (None, _) => Unbilled::NoAccount,
                (Some(_), Some(_)) => Unbilled::Closed,
                (Some(_), None) => Unbilled::NeverDue,
            };
            Ok((row.get("tenant_id")?, why))
        })
        .await
    }

    /// Has an account looked at that is never due; `false` when it is due, or closed.
    pub async fn account_due_again(&mut self, tenant: TenantId) -> Result<bool, StoreError> {
        self.query(
            "UPDATE billing_accounts SET next_due = COALESCE(billed_through, opened_at)
             WHERE tenant_id = $1 AND closed_at IS NULL AND next_due IS NULL",
        )
        .bind(tenant)
        .changed_one()
        .await
    }

    /// Deleted tenants and meters with usage of minutes that began after they were deleted: how many such minutes.
    pub async fn usage_after_deletion(&mut self) -> Result<Vec<(TenantId, String, i64)>, StoreError> {
        self.query(
            "SELECT t.tenant_id, u.meter, COUNT(*) AS minutes FROM tenants t
             JOIN usage_totals u ON u.tenant_id = t.tenant_id AND u.unit = 0 AND u.start > t.deleted_at AND u.n > 0
             WHERE t.deleted_at IS NOT NULL GROUP BY t.tenant_id, u.meter ORDER BY t.tenant_id, u.meter",
        )
        .map(|row| Ok((row.get("tenant_id")?, row.get("meter")?, row.get("minutes")?)))
        .await
    }

    /// What is kept of deleted tenants that should be gone with them: whose, what, how many.
    pub async fn kept_of_deleted(&mut self) -> Result<Vec<(TenantId, &'static str, i64)>, StoreError> {
        let mut found = Vec::new();
        for (what, rows) in OF_TENANTS {
            let theirs: Vec<(TenantId, i64)> = self
                .assembled(format!(
                    "SELECT k.tenant_id, COUNT(*) AS count FROM ({rows}) k JOIN tenants t ON t.tenant_id = k.tenant_id
                     WHERE t.deleted_at IS NOT NULL GROUP BY k.tenant_id ORDER BY k.tenant_id"
                ))
                .map(|row| Ok((row.get("tenant_id")?, row.get("count")?)))
                .await?;
            found.extend(theirs.into_iter().map(|(tenant, count)| (tenant, what, count)));
        }
        Ok(found)
    }
}
