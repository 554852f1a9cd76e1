//! Queries about invoices: their lives, their numbers, and what was billed.

use std::collections::{BTreeMap, HashSet};

use super::{StoreError, Tx, dialect::pieces, evidence::read_digest, value::Row};
use crate::{
    billing::invoice::{Billed, Invoice, InvoiceLine, InvoiceState, Issue, LineKey},
    kernel::{InvoiceId, Money, PageRequest, Period, TenantId, Timestamp},
    metering::MeterKey,
};

/// Lines that one statement writes.
const LINES_PER_INSERT: usize = 256;
/// Invoices that one statement writes.
const INVOICES_PER_STATEMENT: usize = 128;

/// Which invoices.
#[derive(Debug, Clone, Copy, Default)]
pub struct InvoiceFilter {
    /// Of a tenant.
    pub tenant: Option<TenantId>,
    /// In a state.
    pub status: Option<&'static str>,
    /// Only those with a number.
    pub issued: bool,
}

fn read_state(row: &Row) -> Result<InvoiceState, StoreError> {
    let status: String = row.get("status")?;
    let settled = || row.get::<Timestamp>("settled_at");
    Ok(match status.as_str() {
        "draft" => InvoiceState::Draft,
        "finalized" => InvoiceState::Finalized,
        "overdue" => InvoiceState::Overdue { since: settled()? },
        "paid" => InvoiceState::Paid { at: settled()? },
        "void" => InvoiceState::Void { at: settled()?, reason: row.get("void_reason")? },
        other => return Err(StoreError::Corrupt(format!("status: {other:?}"))),
    })
}

pub(super) fn read_invoice(row: &Row) -> Result<Invoice, StoreError> {
    let issue = match row.get::<Option<String>>("number")? {
        None => None,
        Some(number) => Some(Issue {
            entity: row.get("entity")?,
            serial: row.get("serial")?,
            number,
            at: row.get("issued_at")?,
            due_at: row.get("due_at")?,
            seal: read_digest(row, "seal")?,
        }),
    };
    let currency = row.parse("currency")?;
    let money = |name: &str| Ok::<_, StoreError>(Money::from_minor(row.get(name)?, currency));
    let period = Period::new(row.get("period_from")?, row.get("period_to")?);
    Ok(Invoice {
        id: row.get("invoice_id")?,
        tenant_id: row.get("tenant_id")?,
        period: period.map_err(|_| StoreError::Corrupt("period of an invoice".into()))?,
        state: read_state(row)?,
        issue,
        total: money("total")?,
        due: money("due")?,
        paid: money("paid")?,
        credited: money("credited")?,
        document: row.get("document")?,
        drafted_at: row.get("drafted_at")?,
    })
}

impl Tx {
    /// Claims the next change of what a tenant owes, and holds others off. What is read afterwards stays as it is until the transaction ends.
    pub async fn account_lock(&mut self, tenant: TenantId) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        let sql = "UPDATE billing_accounts SET revision = revision + 1 WHERE tenant_id = $1";
        self.query(sql).bind(tenant).changed_one().await
    }

    /// Adds drafts; the ids of those that were. Not of those whose period has an invoice.
    pub async fn invoices_insert(&mut self, invoices: &[&Invoice]) -> Result<HashSet<InvoiceId>, StoreError> {
        for invoice in invoices {
            self.must_cover(invoice.tenant_id)?;
        }
        let mut made = HashSet::with_capacity(invoices.len());
        for piece in pieces(invoices, INVOICES_PER_STATEMENT) {
            let rows = self.engine().tuples(piece.len(), 13);
            let mut statement = self.assembled(format!(
                "INSERT INTO invoices (invoice_id, tenant_id, period_from, period_to, holds_period, status, currency, total,
                                       due, paid, credited, document, drafted_at) VALUES {rows}
                 ON CONFLICT (tenant_id, period_from, holds_period) DO NOTHING RETURNING invoice_id"
            ));
            for invoice in piece {
                statement.push(invoice.id);
                statement.push(invoice.tenant_id);
                statement.push(invoice.period.from());
                statement.push(invoice.period.to());
                statement.push(1_i64);
                statement.push(invoice.state.name());
                statement.push(invoice.total.currency().code());
                for minor in [invoice.total.minor(), invoice.due.minor(), 0, 0] {
                    statement.push(minor);
                }
                statement.push(invoice.document.as_str());
                statement.push(invoice.drafted_at);
            }
            made.extend(statement.map(|row| row.get::<InvoiceId>("invoice_id")).await?);
        }
        Ok(made)
    }

    /// The first of the next so many numbers of a series; given back when the transaction does not commit, and nobody else's
    /// until then.
    pub async fn series_next(&mut self, entity: &str, series: &str, count: i64) -> Result<i64, StoreError> {
        let sql = "INSERT INTO invoice_series (entity, series, last) VALUES ($1, $2, $3)
                   ON CONFLICT (entity, series) DO UPDATE SET last = invoice_series.last + excluded.last RETURNING last";
        let last = self.query(sql).bind(entity).bind(series).bind(count).map_one(|row| row.get::<i64>("last")).await?;
        let last = last.ok_or_else(|| StoreError::Corrupt("invoice_series: no row".into()))?;
        Ok(last - count + 1)
    }

    /// Issues drafts: the one statement that writes a document for good; how many it was, of which none was a draft no more. With
    /// the last invoice of a closed account, its address is forgotten: the document has it.
    pub async fn invoices_issue(&mut self, invoices: &[(&Invoice, &Issue)]) -> Result<usize, StoreError> {
        let mut issued = 0;
        for piece in pieces(invoices, INVOICES_PER_STATEMENT) {
            let rows = self.engine().tuples(piece.len(), 12);
            let mut statement = self.assembled(format!(
                "UPDATE invoices SET status = v.column2, settled_at = v.column3, entity = v.column4, serial = v.column5,
                        number = v.column6, issued_at = v.column7, due_at = v.column8, total = v.column9, due = v.column10,
                        document = v.column11, seal = v.column12
                 FROM (VALUES {rows}) AS v WHERE invoice_id = v.column1 AND status = 'draft'"
            ));
            for (invoice, issue) in piece {
                let settled_at = match invoice.state {
                    InvoiceState::Paid { at } => Some(at),
                    _ => None,
                };
                statement.push(invoice.id);
                statement.push(invoice.state.name());
                statement.push(settled_at);
                statement.push(issue.entity.as_str());
                statement.push(issue.serial);
                statement.push(issue.number.as_str());
                statement.push(issue.at);
                statement.push(issue.due_at);
                statement.push(invoice.total.minor());
                statement.push(invoice.due.minor());
                statement.push(invoice.document.as_str());
                statement.push(issue.seal.map(|seal| seal.as_bytes().to_vec()));
            }
            issued += usize::try_from(statement.execute().await?).unwrap_or(usize::MAX);
        }
        let tenants: Vec<TenantId> = invoices.iter().map(|(invoice, _)| invoice.tenant_id).collect();
        self.billing_addresses_forget(&tenants).await?;
        Ok(issued)
    }

    /// Writes what became of an issued invoice; its document and its number stay.
    pub async fn invoice_settle(&mut self, invoice: &Invoice) -> Result<(), StoreError> {
        let (at, reason) = match &invoice.state {
            InvoiceState::Draft | InvoiceState::Finalized => (None, None),
            InvoiceState::Overdue { since: at } | InvoiceState::Paid { at } => (Some(*at), None),
            InvoiceState::Void { at, reason } => (Some(*at), Some(reason.as_str())),
        };
        self.query(
            "UPDATE invoices SET status = $2, settled_at = $3, void_reason = $4, paid = $5, credited = $6
             WHERE invoice_id = $1 AND status <> 'draft'",
        )
        .bind(invoice.id)
        .bind(invoice.state.name())
        .bind(at)
        .bind(reason)
        .bind(invoice.paid.minor())
        .bind(invoice.credited.minor())
        .execute()
        .await?;
        Ok(())
    }

    /// Lets another invoice take the place of one for its period.
    pub async fn invoice_give_way(&mut self, id: InvoiceId) -> Result<(), StoreError> {
        let sql = "UPDATE invoices SET holds_period = NULL WHERE invoice_id = $1";
        self.query(sql).bind(id).execute().await?;
        Ok(())
    }

    /// Whether an invoice is the one of its period: no other took its place.
    pub async fn invoice_holds_period(&mut self, id: InvoiceId) -> Result<bool, StoreError> {
        let sql = "SELECT holds_period FROM invoices WHERE invoice_id = $1";
        let held = self.query(sql).bind(id).map_one(|row| row.get::<Option<i64>>("holds_period")).await?;
        Ok(held.flatten().is_some())
    }

    /// Invoices that say another sum of what came in, or of what was credited, than payments and credit notes come to; and credits of
    /// which more was drawn than there was, or less than nothing: each as what it is, what is said, and what it comes to.
    pub async fn settlements_that_differ(&mut self, most: i64) -> Result<Vec<(String, i64, i64)>, StoreError> {
        let sql = "SELECT what, said, found FROM (
                SELECT 'what was paid of invoice ' || i.number AS what, i.paid AS said,
                    CAST(COALESCE((SELECT SUM(p.amount) FROM payments p WHERE p.invoice_id = i.invoice_id), 0) AS BIGINT) AS found
                FROM invoices i WHERE i.number IS NOT NULL
                UNION ALL
                SELECT 'what was credited of invoice ' || i.number, i.credited,
                    CAST(COALESCE((SELECT SUM(n.applied) FROM credit_notes n WHERE n.invoice_id = i.invoice_id), 0) AS BIGINT)
                FROM invoices i WHERE i.number IS NOT NULL
                UNION ALL
                SELECT 'what was drawn of a credit: ' || c.reason,
                    CASE WHEN d.drawn < 0 THEN 0 WHEN d.drawn > c.amount THEN c.amount ELSE d.drawn END, d.drawn
                FROM credits c JOIN (SELECT credit_id, CAST(SUM(amount) AS BIGINT) AS drawn FROM credit_draws GROUP BY credit_id) d
                    ON d.credit_id = c.credit_id
            ) AS settled WHERE said <> found ORDER BY what LIMIT $1";
        let read = |row: &Row| Ok((row.get("what")?, row.get("said")?, row.get("found")?));
        self.query(sql).bind(most).map(read).await
    }

    /// One invoice.
    pub async fn invoice(&mut self, id: InvoiceId) -> Result<Option<Invoice>, StoreError> {
        let scope = self.tenant();
        self.query("SELECT * FROM invoices WHERE invoice_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(id)
            .bind(scope)
            .map_one(read_invoice)
            .await
    }

    /// A page of invoices, oldest first.
    pub async fn invoices(&mut self, filter: InvoiceFilter, page: PageRequest) -> Result<Vec<Invoice>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM invoices
             WHERE invoice_id > $1 AND ($2 IS NULL OR tenant_id = $2) AND ($3 IS NULL OR tenant_id = $3)
               AND ($4 IS NULL OR status = $4) AND (number IS NOT NULL OR NOT $5)
             ORDER BY invoice_id LIMIT $6",
        )
        .bind(page.after())
        .bind(filter.tenant)
        .bind(scope)
        .bind(filter.status)
        .bind(filter.issued)
        .bind(page.fetch_limit())
        .map(read_invoice)
        .await
    }

    /// The invoices that hold a tenant's periods before an instant, oldest first. Their documents are not read.
    pub async fn invoices_before(&mut self, tenant: TenantId, before: Timestamp) -> Result<Vec<Invoice>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT invoice_id, tenant_id, period_from, period_to, status, settled_at, void_reason, entity, serial, number,
                    issued_at, due_at, seal, currency, total, due, paid, credited, '' AS document, drafted_at
             FROM invoices WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2) AND period_from < $3 AND holds_period = 1
             ORDER BY period_from",
        )
        .bind(tenant)
        .bind(scope)
        .bind(before)
        .map(read_invoice)
        .await
    }

    /// Drafts whose period ended before an instant, each tenant's oldest first.
    pub async fn drafts_ended(&mut self, before: Timestamp) -> Result<Vec<(TenantId, InvoiceId)>, StoreError> {
        self.query(
            "SELECT tenant_id, invoice_id FROM invoices WHERE status = 'draft' AND period_to <= $1
             ORDER BY tenant_id, period_from",
        )
        .bind(before)
        .map(|row| Ok((row.get("tenant_id")?, row.get("invoice_id")?)))
        .await
    }

    /// Drops a tenant's drafts.
    pub async fn drafts_drop(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        self.query("DELETE FROM invoices WHERE tenant_id = $1 AND status = 'draft'").bind(tenant).execute().await?;
        Ok(())
    }

    /// Invoices that were due by an instant and are not known to be overdue.
    pub async fn invoices_due(&mut self, by: Timestamp) -> Result<Vec<InvoiceId>, StoreError> {
        let sql = "SELECT invoice_id FROM invoices WHERE status = 'finalized' AND due_at <= $1 ORDER BY due_at";
        self.query(sql).bind(by).map(|row| row.get("invoice_id")).await
    }

    /// Overdue invoices for which nothing was done to their tenant yet.
    pub async fn invoices_to_pursue(&mut self) -> Result<Vec<(TenantId, InvoiceId)>, StoreError> {
        let sql = "SELECT tenant_id, invoice_id FROM invoices WHERE status = 'overdue' AND pursued_at IS NULL ORDER BY due_at";
        self.query(sql).map(|row| Ok((row.get("tenant_id")?, row.get("invoice_id")?))).await
    }

    /// Notes that it was; `false` when that is known, or it is not overdue any more.
    pub async fn invoice_pursue(&mut self, id: InvoiceId, now: Timestamp) -> Result<bool, StoreError> {
        let sql =
            "UPDATE invoices SET pursued_at = $2 WHERE invoice_id = $1 AND status = 'overdue' AND pursued_at IS NULL";
        self.query(sql).bind(id).bind(now).changed_one().await
    }

    /// Whether a tenant has an overdue invoice.
    pub async fn owes_overdue(&mut self, tenant: TenantId) -> Result<bool, StoreError> {
        let sql = "SELECT invoice_id FROM invoices WHERE tenant_id = $1 AND status = 'overdue' LIMIT 1";
        let found = self.query(sql).bind(tenant).map_one(|row| row.get::<InvoiceId>("invoice_id")).await?;
        Ok(found.is_some())
    }

    /// Notes what invoices bill, line by line.
    pub async fn invoice_lines_insert(&mut self, all: &[(&Invoice, &[InvoiceLine])]) -> Result<(), StoreError> {
        let numbered =
            all.iter().flat_map(|(invoice, lines)| lines.iter().zip(1_i64..).map(move |line| (*invoice, line)));
        let rows: Vec<(&Invoice, (&InvoiceLine, i64))> = numbered.collect();
        for some in pieces(&rows, LINES_PER_INSERT) {
            let rows = self.engine().tuples(some.len(), 8);
            let mut statement = self.assembled(format!(
                "INSERT INTO invoice_lines (invoice_id, line, tenant_id, month, key, quantity, unrounded, amount) VALUES {rows}"
            ));
            for (invoice, (line, number)) in some {
                statement.push(invoice.id);
                statement.push(*number);
                statement.push(invoice.tenant_id);
                statement.push(line.month);
                statement.push(serde_json::to_string(&line.key).unwrap_or_default());
                statement.push(line.quantity);
                statement.push(line.unrounded);
                statement.push(line.amount.minor());
            }
            statement.execute().await?;
        }
        Ok(())
    }

    /// What the invoices that were not taken back have billed of a tenant's month, by key.
    pub async fn billed(
        &mut self,
        tenant: TenantId,
        month: Timestamp,
    ) -> Result<BTreeMap<LineKey, Billed>, StoreError> {
        let scope = self.tenant();
        let rows = self
            .query(
                "SELECT l.key, l.quantity, l.unrounded, l.amount FROM invoice_lines l
                 JOIN invoices i ON i.invoice_id = l.invoice_id
                 WHERE l.tenant_id = $1 AND ($2 IS NULL OR l.tenant_id = $2) AND l.month = $3 AND i.status <> 'void'",
            )
            .bind(tenant)
            .bind(scope)
            .bind(month)
            .map(|row| {
                let (quantity, unrounded, amount) = (row.get("quantity")?, row.get("unrounded")?, row.get("amount")?);
                Ok((row.json::<LineKey>("key")?, Billed { quantity, unrounded, amount }))
            })
            .await?;
        let mut sums: BTreeMap<LineKey, Billed> = BTreeMap::new();
        for (key, more) in rows {
            let Some(sum) = sums.get_mut(&key) else {
                sums.insert(key, more);
                continue;
            };
            let corrupt = || StoreError::Corrupt("sums of invoice_lines".into());
            sum.add(&more).ok_or_else(corrupt)?;
        }
        Ok(sums)
    }

    /// What the lines that an invoice was noted with come to, in minor units.
    pub async fn invoice_booked(&mut self, id: InvoiceId) -> Result<i64, StoreError> {
        let sql = "SELECT amount FROM invoice_lines WHERE invoice_id = $1";
        let amounts = self.query(sql).bind(id).map(|row| row.get::<i64>("amount")).await?;
        Ok(amounts.into_iter().fold(0, i64::saturating_add))
    }

    /// The meters and calendar months (UTC) of a tenant's in which something came late or was taken back since an instant.
    pub async fn adjusted_since(
        &mut self,
        tenant: TenantId,
        since: Timestamp,
    ) -> Result<Vec<(MeterKey, Timestamp)>, StoreError> {
        let sql = "SELECT DISTINCT meter, month FROM usage_adjustments WHERE tenant_id = $1 AND made_at >= $2";
        let rows = self.query(sql).bind(tenant).bind(since);
        rows.map(|row| Ok((row.parse("meter")?, row.get("month")?))).await
    }
}
