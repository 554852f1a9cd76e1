//! Queries about the audit.

use uuid::Uuid;

use super::{StoreError, Tx, value::Row};
use crate::kernel::{
    PageRequest, Timestamp,
    audit::{Act, AuditEntry, AuditFilter},
};

fn read_entry(row: &Row) -> Result<AuditEntry, StoreError> {
    Ok(AuditEntry {
        id: row.get("audit_id")?,
        at: row.get("at")?,
        actor: row.get("actor")?,
        action: row.get("action")?,
        tenant: row.get("tenant_id")?,
        subject: row.get("subject")?,
        detail: row.get("detail")?,
    })
}

impl Tx {
    /// Notes an act, with what else this transaction does; `id` is a `UUIDv7` of `at`.
    pub async fn audit_insert(&mut self, id: Uuid, at: Timestamp, act: &Act) -> Result<(), StoreError> {
        if let Some(tenant) = act.tenant {
            self.must_cover(tenant)?;
        }
        self.query(
            "INSERT INTO audit (audit_id, at, actor, action, tenant_id, subject, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id)
        .bind(at)
        .bind(act.actor.to_string())
        .bind(act.action)
        .bind(act.tenant)
        .bind(act.subject.as_str())
        .bind(act.detail.clone())
        .execute()
        .await?;
        Ok(())
    }

    /// A page of entries, the oldest first.
    pub async fn audit(&mut self, filter: &AuditFilter, page: PageRequest) -> Result<Vec<AuditEntry>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM audit
             WHERE audit_id > $1 AND ($2 IS NULL OR tenant_id = $2) AND ($3 IS NULL OR tenant_id = $3)
                 AND ($4 IS NULL OR actor = $4) AND ($5 IS NULL OR action = $5) AND ($6 IS NULL OR subject = $6)
             ORDER BY audit_id LIMIT $7",
        )
        .bind(page.after())
        .bind(filter.tenant)
        .bind(scope)
        .bind(filter.actor.clone())
        .bind(filter.action.clone())
        .bind(filter.subject.clone())
        .bind(page.fetch_limit())
        .map(read_entry)
        .await
    }
}
