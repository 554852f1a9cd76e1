//! Queries about invoices: their lives, their numbers, and what was billed.

use std::collections::BTreeMap;

use super::{StoreError, Tx, dialect::pieces, evidence::read_digest, value::Row};
use crate::{
    billing::invoice::{Billed, Invoice, InvoiceLine, InvoiceState, Issue, LineKey},
    kernel::{InvoiceId, Money, PageRequest, Period, TenantId, Timestamp},
    metering::MeterKey,
};

/// Lines that one statement writes.
const LINES_PER_INSERT: usize = 64;

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
    /// How often what a tenant owes was changed.
    pub async fn account_revision(&mut self, tenant: TenantId) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT revision FROM billing_accounts WHERE tenant_id = $1";
        self.query(sql).bind(tenant).map_one(|row| row.get("revision")).await
    }

    /// Claims the next change of what a tenant owes, and holds others off until the transaction ends; `false` when there was
    /// another since `revision` was read.
    pub async fn account_step(&mut self, tenant: TenantId, revision: i64) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        let sql = "UPDATE billing_accounts SET revision = revision + 1 WHERE tenant_id = $1 AND revision = $2";
        self.query(sql).bind(tenant).bind(revision).changed_one().await
    }

    /// The same, whatever there was before. What is read afterwards stays as it is until the transaction ends.
    pub async fn account_lock(&mut self, tenant: TenantId) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        let sql = "UPDATE billing_accounts SET revision = revision + 1 WHERE tenant_id = $1";
        self.query(sql).bind(tenant).changed_one().await
    }

    /// What a tenant is called, for its invoices.
    pub async fn billed_name(&mut self, tenant: TenantId) -> Result<Option<String>, StoreError> {
        Ok(self.tenant_by_id(tenant).await?.map(|tenant| tenant.customer_name.to_string()))
    }

    /// Adds a draft; `false` when its period has an invoice.
    pub async fn invoice_insert(&mut self, invoice: &Invoice) -> Result<bool, StoreError> {
        self.must_cover(invoice.tenant_id)?;
        self.query(
            "INSERT INTO invoices (invoice_id, tenant_id, period_from, period_to, holds_period, status, currency, total, due,
                                   paid, credited, document, drafted_at)
             VALUES ($1, $2, $3, $4, 1, 'draft', $5, $6, $7, 0, 0, $8, $9)
             ON CONFLICT (tenant_id, period_from, holds_period) DO NOTHING",
        )
        .bind(invoice.id)
        .bind(invoice.tenant_id)
        .bind(invoice.period.from())
        .bind(invoice.period.to())
        .bind(invoice.total.currency().code())
        .bind(invoice.total.minor())
        .bind(invoice.due.minor())
        .bind(invoice.document.as_str())
        .bind(invoice.drafted_at)
        .changed_one()
        .await
    }

    /// The next number of a series; given back when the transaction does not commit, and nobody else's until then.
    pub async fn series_next(&mut self, entity: &str, series: &str) -> Result<i64, StoreError> {
        let sql = "INSERT INTO invoice_series (entity, series, last) VALUES ($1, $2, 1)
                   ON CONFLICT (entity, series) DO UPDATE SET last = invoice_series.last + 1 RETURNING last";
        let last = self.query(sql).bind(entity).bind(series).map_one(|row| row.get("last")).await?;
        last.ok_or_else(|| StoreError::Corrupt("invoice_series: no row".into()))
    }

    /// Issues a draft: the one statement that writes a document for good; `false` when it is none any more. With the last
    /// invoice of a closed account, its address is forgotten: the document has it.
    pub async fn invoice_issue(&mut self, invoice: &Invoice, issue: &Issue) -> Result<bool, StoreError> {
        let settled_at = match invoice.state {
            InvoiceState::Paid { at } => Some(at),
            _ => None,
        };
        let issued = self
            .query(
            "UPDATE invoices SET status = $2, settled_at = $3, entity = $4, serial = $5, number = $6, issued_at = $7,
                    due_at = $8, total = $9, due = $10, document = $11, seal = $12
             WHERE invoice_id = $1 AND status = 'draft'",
        )
        .bind(invoice.id)
        .bind(invoice.state.name())
        .bind(settled_at)
        .bind(issue.entity.as_str())
        .bind(issue.serial)
        .bind(issue.number.as_str())
        .bind(issue.at)
        .bind(issue.due_at)
        .bind(invoice.total.minor())
        .bind(invoice.due.minor())
        .bind(invoice.document.as_str())
        .bind(issue.seal.map(|seal| seal.as_bytes().to_vec()))
        .changed_one()
        .await?;
        if issued {
            self.billing_address_forget(invoice.tenant_id).await?;
        }
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

    /// Notes what an invoice bills, line by line.
    pub async fn invoice_lines_insert(&mut self, invoice: &Invoice, lines: &[InvoiceLine]) -> Result<(), StoreError> {
        let mut number = 0_i64;
        for some in pieces(lines, LINES_PER_INSERT) {
            let rows = self.engine().tuples(some.len(), 8);
            let mut statement = self.assembled(format!(
                "INSERT INTO invoice_lines (invoice_id, line, tenant_id, month, key, quantity, unrounded, amount) VALUES {rows}"
            ));
            for line in some {
                number += 1;
                statement.push(invoice.id);
                statement.push(number);
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
            sum.quantity = sum.quantity.add(more.quantity).map_err(|_| corrupt())?;
            sum.unrounded = sum.unrounded.add(more.unrounded).map_err(|_| corrupt())?;
            sum.amount = sum.amount.checked_add(more.amount).ok_or_else(corrupt)?;
        }
        Ok(sums)
    }

    /// What the lines that an invoice was noted with come to, in minor units.
    pub async fn invoice_booked(&mut self, id: InvoiceId) -> Result<i64, StoreError> {
        let sql = "SELECT amount FROM invoice_lines WHERE invoice_id = $1";
        let amounts = self.query(sql).bind(id).map(|row| row.get::<i64>("amount")).await?;
        Ok(amounts.into_iter().fold(0, i64::saturating_add))
    }

    /// Instants in calendar months of a tenant's (UTC) in which something came late or was taken back, or in periods that an
    /// invoice was about that was.
    pub async fn adjusted_months(&mut self, tenant: TenantId) -> Result<Vec<Timestamp>, StoreError> {
        let sql = "SELECT month FROM usage_adjustments WHERE tenant_id = $1
                   UNION SELECT l.month FROM invoice_lines l JOIN invoices i ON i.invoice_id = l.invoice_id
                   WHERE l.tenant_id = $1 AND i.status = 'void'";
        self.query(sql).bind(tenant).map(|row| row.get("month")).await
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
