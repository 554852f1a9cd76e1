//! Queries about corrections: events that were taken back or amended, and what came to closed months.

use uuid::Uuid;

use super::{StoreError, Tx, dialect::pieces, value::Row};
use crate::{
    kernel::{PageRequest, TenantId, Timestamp},
    metering::model::{Adjusted, Adjustment, Content, Correction, Event, Identity},
};

/// Rows of one statement; a power of two, and below either engine's limit of parameters.
const MOST_ROWS: usize = 256;

fn read_correction(row: &Row) -> Result<Correction, StoreError> {
    let (body, at_ns): (Option<String>, Option<i64>) = (row.get("body")?, row.get("at_ns")?);
    Ok(Correction {
        id: row.get("id")?,
        event: row.get("event_key")?,
        before: body.zip(at_ns).map(|(body, at_ns)| Content { body, at_ns }),
        reason: row.get("reason")?,
        by: row.get("corrected_by")?,
        at: row.get("corrected_at")?,
    })
}

fn read_adjusted(row: &Row) -> Result<Adjusted, StoreError> {
    let group: String = row.get("grp")?;
    let adjustment = Adjustment {
        tenant: row.get("tenant_id")?,
        meter: row.parse("meter")?,
        month: row.get("month")?,
        group: group.into(),
        count: row.get("n")?,
        sum: row.get("total")?,
    };
    Ok(Adjusted { id: row.get("id")?, adjustment, made_at: row.get("made_at")? })
}

impl Tx {
    /// Takes an event back that still says what it was found to say; `false` when it was taken back or amended
    /// meanwhile.
    pub async fn event_void(&mut self, event: &Event, now: Timestamp) -> Result<bool, StoreError> {
        let Identity { tenant, source, id } = event.identity();
        let sql = "UPDATE events SET voided_at = $4
             WHERE id = $1 AND source = $2 AND tenant_id = $3 AND voided_at IS NULL AND body = $5 AND at_ns = $6";
        let query = self.query(sql).bind(id).bind(source).bind(tenant).bind(now);
        query.bind(event.body.as_str()).bind(event.at_ns).changed_one().await
    }

    /// Gives an event that still says what it was found to say another content; `false` when it was taken back or
    /// amended meanwhile.
    pub async fn event_amend(&mut self, event: &Event, now: &Content) -> Result<bool, StoreError> {
        let Identity { tenant, source, id } = event.identity();
        let sql = "UPDATE events SET body = $4, at_ns = $5
             WHERE id = $1 AND source = $2 AND tenant_id = $3 AND voided_at IS NULL AND body = $6 AND at_ns = $7";
        let query = self.query(sql).bind(id).bind(source).bind(tenant).bind(now.body.as_str()).bind(now.at_ns);
        query.bind(event.body.as_str()).bind(event.at_ns).changed_one().await
    }

    /// Notes a correction after those that the event had before. The event's row is locked by then.
    pub async fn correction_insert(&mut self, correction: &Correction) -> Result<(), StoreError> {
        let (body, at_ns) = match &correction.before {
            Some(before) => (Some(before.body.as_str()), Some(before.at_ns)),
            None => (None, None),
        };
        self.query(
            "INSERT INTO usage_corrections (id, event_key, reason, corrected_by, corrected_at, body, at_ns, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT COUNT(*) FROM usage_corrections WHERE event_key = $2))",
        )
        .bind(correction.id)
        .bind(correction.event)
        .bind(correction.reason.as_str())
        .bind(correction.by.as_str())
        .bind(correction.at)
        .bind(body)
        .bind(at_ns)
        .execute()
        .await?;
        Ok(())
    }

    /// The corrections of some events, each event's in order.
    pub async fn corrections(&mut self, events: &[Uuid]) -> Result<Vec<Correction>, StoreError> {
        let mut found = Vec::new();
        for piece in pieces(events, MOST_ROWS) {
            let mut sql = String::from(
                "SELECT id, event_key, reason, corrected_by, corrected_at, body, at_ns FROM usage_corrections
                 WHERE event_key IN (VALUES ",
            );
            sql.push_str(&self.engine().tuples(piece.len(), 1));
            sql.push_str(") ORDER BY event_key, revision");
            let mut statement = self.assembled(sql);
            for event in piece {
                statement.push(*event);
            }
            found.extend(statement.map(read_correction).await?);
        }
        Ok(found)
    }

    /// Notes what came to months that were closed by then.
    pub async fn adjustments_insert(
        &mut self,
        adjustments: &[(Uuid, Adjustment)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (id, adjustment) in adjustments {
            self.query(
                "INSERT INTO usage_adjustments (id, tenant_id, meter, month, grp, n, total, made_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(*id)
            .bind(adjustment.tenant)
            .bind(adjustment.meter.as_str())
            .bind(adjustment.month)
            .bind(&*adjustment.group)
            .bind(adjustment.count)
            .bind(adjustment.sum)
            .bind(now)
            .execute()
            .await?;
        }
        Ok(())
    }

    /// What came to a tenant's closed months, or was taken out of them: a page, oldest first.
    pub async fn adjustments(&mut self, tenant: TenantId, page: PageRequest) -> Result<Vec<Adjusted>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT id, tenant_id, meter, month, grp, n, total, made_at FROM usage_adjustments
             WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2) AND id > $3 ORDER BY id LIMIT $4",
        )
        .bind(tenant)
        .bind(scope)
        .bind(page.after())
        .bind(page.fetch_limit())
        .map(read_adjusted)
        .await
    }
}
