//! Queries about what invoices were worked out from, their seals, and the marks of where journals stood.

use uuid::Uuid;

use super::{StoreError, Tx, dialect::pieces, invoices::read_invoice, value::Row};
use crate::{
    billing::{
        export::{JournalPosition, Mark},
        invoice::Invoice,
    },
    kernel::{Digest, InvoiceId, TenantId, Timestamp},
};

/// Rows of one statement; a power of two.
const MOST_ROWS: usize = 128;

/// A hash, if there is one.
pub(super) fn read_digest(row: &Row, name: &str) -> Result<Option<Digest>, StoreError> {
    let Some(bytes) = row.get::<Option<Vec<u8>>>(name)? else { return Ok(None) };
    let bytes = bytes.try_into().map_err(|_| StoreError::Corrupt(format!("{name}: no hash")))?;
    Ok(Some(Digest::from_bytes(bytes)))
}

fn read_mark(row: &Row) -> Result<(i64, Timestamp, Vec<JournalPosition>, Digest), StoreError> {
    let hash = read_digest(row, "hash")?.ok_or_else(|| StoreError::Corrupt("journal_marks: no hash".into()))?;
    Ok((row.get("serial")?, row.get("marked_at")?, row.json("journals")?, hash))
}

impl Tx {
    /// Keeps what invoices were worked out from, in the transaction that issues them.
    pub async fn invoice_evidence_insert(&mut self, all: &[(InvoiceId, String)]) -> Result<(), StoreError> {
        for piece in pieces(all, MOST_ROWS) {
            let rows = self.engine().tuples(piece.len(), 2);
            let mut statement =
                self.assembled(format!("INSERT INTO invoice_evidence (invoice_id, evidence) VALUES {rows}"));
            for (id, evidence) in piece {
                statement.push(*id);
                statement.push(evidence.as_str());
            }
            statement.execute().await?;
        }
        Ok(())
    }

    /// What an invoice was worked out from, if that was kept.
    pub async fn invoice_evidence(&mut self, id: InvoiceId) -> Result<Option<String>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT e.evidence FROM invoice_evidence e JOIN invoices i ON i.invoice_id = e.invoice_id
             WHERE e.invoice_id = $1 AND ($2 IS NULL OR i.tenant_id = $2)",
        )
        .bind(id)
        .bind(scope)
        .map_one(|row| row.get("evidence"))
        .await
    }

    /// What the invoice that holds a tenant's period was worked out from, if it is issued and that was kept.
    pub async fn evidence_of(&mut self, tenant: TenantId, from: Timestamp) -> Result<Option<String>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT e.evidence FROM invoice_evidence e JOIN invoices i ON i.invoice_id = e.invoice_id
             WHERE i.tenant_id = $1 AND ($2 IS NULL OR i.tenant_id = $2) AND i.period_from = $3 AND i.holds_period = 1",
        )
        .bind(tenant)
        .bind(scope)
        .bind(from)
        .map_one(|row| row.get("evidence"))
        .await
    }

    /// The seal of an invoice of an entity, whosever it is; `None` when there is no such invoice, or it has none.
    pub async fn invoice_seal(&mut self, entity: &str, serial: i64) -> Result<Option<Digest>, StoreError> {
        let sql = "SELECT seal FROM invoices WHERE entity = $1 AND serial = $2";
        let found = self.query(sql).bind(entity).bind(serial).map_one(|row| read_digest(row, "seal")).await?;
        Ok(found.flatten())
    }

    /// The entities that issued invoices.
    pub async fn invoice_entities(&mut self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT entity FROM invoice_series WHERE series = 'invoice' ORDER BY entity";
        self.query(sql).map(|row| row.get("entity")).await
    }

    /// An entity's invoices after a serial, in order, so many at most, and what each was worked out from.
    pub async fn invoices_in_series(
        &mut self,
        entity: &str,
        after: i64,
        most: i64,
    ) -> Result<Vec<(Invoice, Option<String>)>, StoreError> {
        self.query(
            "SELECT i.*, e.evidence FROM invoices i LEFT JOIN invoice_evidence e ON e.invoice_id = i.invoice_id
             WHERE i.entity = $1 AND i.serial > $2 ORDER BY i.serial LIMIT $3",
        )
        .bind(entity)
        .bind(after)
        .bind(most)
        .map(|row| Ok((read_invoice(row)?, row.get("evidence")?)))
        .await
    }

    /// The newest mark of where journals stood: its number, when, and its hash.
    pub async fn journal_mark_last(&mut self) -> Result<Option<(i64, Timestamp, Digest)>, StoreError> {
        let sql = "SELECT serial, marked_at, journals, hash FROM journal_marks ORDER BY serial DESC LIMIT 1";
        let last = self.query(sql).map_one(read_mark).await?;
        Ok(last.map(|(serial, marked_at, _, hash)| (serial, marked_at, hash)))
    }

    /// The marks after a number, up to another, in order.
    pub async fn journal_marks(&mut self, after: i64, to: i64, most: i64) -> Result<Vec<Mark>, StoreError> {
        let sql = "SELECT serial, marked_at, journals, hash FROM journal_marks
                   WHERE serial >= $1 AND serial <= $2 ORDER BY serial LIMIT $3";
        let rows = self.query(sql).bind(after).bind(to).bind(most.saturating_add(1)).map(read_mark).await?;
        let mut before = None;
        let mut marks = Vec::with_capacity(rows.len());
        for (serial, marked_at, journals, hash) in rows {
            if serial > after {
                marks.push(Mark { serial, marked_at, before, journals, hash });
            }
            before = Some(hash);
        }
        Ok(marks)
    }

    /// Keeps a mark; `false` when another node made one of that number.
    pub async fn journal_mark_insert(&mut self, mark: &Mark) -> Result<bool, StoreError> {
        let journals = serde_json::to_string(&mark.journals).unwrap_or_default();
        self.query(
            "INSERT INTO journal_marks (serial, marked_at, journals, hash) VALUES ($1, $2, $3, $4)
             ON CONFLICT (serial) DO NOTHING",
        )
        .bind(mark.serial)
        .bind(mark.marked_at)
        .bind(journals)
        .bind(mark.hash.as_bytes().to_vec())
        .changed_one()
        .await
    }

    /// The journals that were counted further than the last mark that they are in, and the hash of each.
    pub async fn journals_moved(&mut self) -> Result<Vec<(Uuid, Vec<u8>)>, StoreError> {
        let sql = "SELECT boot, hash FROM journal_cursors WHERE marked IS NULL OR marked <> hash ORDER BY boot";
        self.query(sql).map(|row| Ok((row.get("boot")?, row.get("hash")?))).await
    }

    /// Notes the hash that a journal has in a mark.
    pub async fn journal_marked(&mut self, boot: Uuid, hash: &[u8]) -> Result<(), StoreError> {
        let sql = "UPDATE journal_cursors SET marked = $2 WHERE boot = $1";
        self.query(sql).bind(boot).bind(hash).execute().await?;
        Ok(())
    }
}
