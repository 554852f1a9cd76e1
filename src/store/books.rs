//! Queries about many tenants at once: what their invoices are made of, and the invoices themselves. What one tenant alone is
//! asked for goes the same way.
//!
//! `SQLite` takes tables of a `CROSS JOIN` in the order in which they stand there: from the tenants to what is theirs, never the
//! other way round. To `PostgreSQL` it is a join like others.

use std::collections::{HashMap, HashSet};

use super::{StoreError, Tx, dialect::pieces, value::Row};
use crate::{
    billing::{
        Account,
        cadence::Cadence,
        invoice::{Billed, Coupon, Credit, Invoice, LineKey},
    },
    kernel::{InvoiceId, TenantId, TierName, Timestamp},
};

/// Rows of one statement; a power of two, and with all their columns below either engine's limit of parameters.
const MOST_ROWS: usize = 256;

/// An account, and what invoices need besides.
#[derive(Debug, Clone)]
pub struct BookRow {
    /// The account.
    pub account: Account,
    /// How often what the tenant owes was changed.
    pub revision: i64,
    /// An instant in the first period without an invoice.
    pub next: Timestamp,
    /// The tenant's terms, as JSON.
    pub terms: Option<String>,
    /// What the tenant is called.
    pub name: String,
}

/// How far an account is billed by a draft.
#[derive(Debug, Clone, Copy)]
pub struct BilledThrough {
    /// Whose.
    pub tenant: TenantId,
    /// The revision that was worked with.
    pub revision: i64,
    /// All periods before this have an invoice.
    pub to: Timestamp,
    /// When the next period is over.
    pub next_due: Option<Timestamp>,
}

/// Something of many tenants, by tenant.
pub type ByTenant<T> = HashMap<TenantId, Vec<T>>;

impl Tx {
    /// Takes rows of a query in which `(SELECT column1 FROM these)` are some tenants.
    async fn each_of(
        &mut self,
        tenants: &[TenantId],
        sql: &str,
        mut take: impl FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let own = self.tenant();
        let covered: Vec<TenantId> =
            tenants.iter().copied().filter(|tenant| own.is_none_or(|own| own == *tenant)).collect();
        for piece in pieces(&covered, MOST_ROWS) {
            let these = self.engine().tuples(piece.len(), 1);
            let mut statement = self.assembled(format!("WITH these AS (VALUES {these}) {sql}"));
            for tenant in piece {
                statement.push(*tenant);
            }
            statement.each(&mut take).await?;
        }
        Ok(())
    }

    /// The same, each tenant's rows together, in the order in which they come.
    pub(super) async fn by_tenant<T>(
        &mut self,
        tenants: &[TenantId],
        sql: &str,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<ByTenant<T>, StoreError> {
        let mut found = ByTenant::new();
        let take = |row: &Row| {
            found.entry(row.get("tenant_id")?).or_insert_with(Vec::new).push(read(row)?);
            Ok(())
        };
        self.each_of(tenants, sql, take).await?;
        Ok(found)
    }

    /// Tenants' accounts, with what invoices need besides; nothing of who has none.
    pub async fn book_rows(&mut self, tenants: &[TenantId]) -> Result<Vec<BookRow>, StoreError> {
        let sql = "SELECT a.*, COALESCE(a.billed_through, a.opened_at) AS next, t.customer_name
            FROM billing_accounts a JOIN tenants t ON t.tenant_id = a.tenant_id
            WHERE a.tenant_id IN (SELECT column1 FROM these)";
        let mut found = Vec::with_capacity(tenants.len());
        let take = |row: &Row| {
            found.push(BookRow {
                account: super::billing::read_account(row)?,
                revision: row.get("revision")?,
                next: row.get("next")?,
                terms: row.get("terms")?,
                name: row.get("customer_name")?,
            });
            Ok(())
        };
        self.each_of(tenants, sql, take).await?;
        Ok(found)
    }

    /// Tenants' cadences, each one's oldest first.
    pub async fn cadences_of(&mut self, tenants: &[TenantId]) -> Result<ByTenant<(Timestamp, Cadence)>, StoreError> {
        let sql = "SELECT tenant_id, since, every, anchor, zone FROM billing_cadences
            WHERE tenant_id IN (SELECT column1 FROM these) ORDER BY tenant_id, since";
        self.by_tenant(tenants, sql, super::cadences::read_cadence).await
    }

    /// The tiers that tenants have had and since when, each one's oldest first.
    pub async fn tiers_of(&mut self, tenants: &[TenantId]) -> Result<ByTenant<(Timestamp, TierName)>, StoreError> {
        let sql = "SELECT tenant_id, since, tier FROM tenant_tiers
            WHERE tenant_id IN (SELECT column1 FROM these) ORDER BY tenant_id, since";
        self.by_tenant(tenants, sql, |row| Ok((row.get("since")?, row.parse("tier")?))).await
    }

    /// Tenants' credits, each one's oldest first, with what was drawn of each.
    pub async fn credits_of(&mut self, tenants: &[TenantId]) -> Result<ByTenant<Credit>, StoreError> {
        let sql = "SELECT c.*, CAST((SELECT COALESCE(SUM(d.amount), 0) FROM credit_draws d
                                     WHERE d.credit_id = c.credit_id) AS BIGINT) AS drawn
            FROM credits c WHERE c.tenant_id IN (SELECT column1 FROM these)
            ORDER BY c.tenant_id, c.granted_at, c.credit_id";
        self.by_tenant(tenants, sql, super::wallet::read_credit).await
    }

    /// Tenants' coupons, each one's oldest first, with how often each was used by invoices that hold.
    pub async fn coupons_of(&mut self, tenants: &[TenantId]) -> Result<ByTenant<Coupon>, StoreError> {
        let sql = "SELECT c.*, a.currency,
                (SELECT COUNT(*) FROM coupon_uses u JOIN invoices i ON i.invoice_id = u.invoice_id
                 WHERE u.coupon_id = c.coupon_id AND i.status <> 'void') AS uses
            FROM coupons c JOIN billing_accounts a ON a.tenant_id = c.tenant_id
            WHERE c.tenant_id IN (SELECT column1 FROM these) ORDER BY c.tenant_id, c.created_at, c.coupon_id";
        self.by_tenant(tenants, sql, super::wallet::read_coupon).await
    }

    /// The invoices that hold tenants' periods, each one's oldest first. Their documents are not read.
    pub async fn invoices_of(&mut self, tenants: &[TenantId]) -> Result<ByTenant<Invoice>, StoreError> {
        let sql =
            "SELECT invoice_id, tenant_id, period_from, period_to, status, settled_at, void_reason, entity, serial,
                number, issued_at, due_at, seal, currency, total, due, paid, credited, '' AS document, drafted_at
            FROM invoices WHERE tenant_id IN (SELECT column1 FROM these) AND holds_period = 1
            ORDER BY tenant_id, period_from";
        self.by_tenant(tenants, sql, super::invoices::read_invoice).await
    }

    /// Instants in calendar months (UTC) of tenants in which something came late or was taken back, or in periods that an
    /// invoice was about that was.
    pub async fn adjusted_months_of(&mut self, tenants: &[TenantId]) -> Result<ByTenant<Timestamp>, StoreError> {
        let sql = "SELECT tenant_id, month FROM usage_adjustments WHERE tenant_id IN (SELECT column1 FROM these)
            UNION SELECT l.tenant_id, l.month FROM invoices i CROSS JOIN invoice_lines l
            WHERE i.tenant_id IN (SELECT column1 FROM these) AND i.status = 'void' AND l.invoice_id = i.invoice_id";
        self.by_tenant(tenants, sql, |row| row.get("month")).await
    }

    /// Takes rows of a query in which `these` are tenants and the beginnings of periods.
    async fn each_of_periods(
        &mut self,
        periods: &[(TenantId, Timestamp)],
        sql: &str,
        mut take: impl FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for piece in pieces(periods, MOST_ROWS) {
            let these = self.engine().tuples(piece.len(), 2);
            let mut statement = self.assembled(format!("WITH these AS (VALUES {these}) {sql}"));
            for (tenant, from) in piece {
                statement.push(*tenant);
                statement.push(*from);
            }
            statement.each(&mut take).await?;
        }
        Ok(())
    }

    /// What the invoices that were not taken back have billed of periods, line by line.
    pub async fn billed_of(
        &mut self,
        periods: &[(TenantId, Timestamp)],
        mut take: impl FnMut((TenantId, Timestamp), LineKey, Billed) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let sql = "SELECT l.tenant_id, l.month, l.key, l.quantity, l.unrounded, l.amount
            FROM these CROSS JOIN invoice_lines l CROSS JOIN invoices i
            WHERE l.tenant_id = these.column1 AND l.month = these.column2
                AND i.invoice_id = l.invoice_id AND i.status <> 'void'";
        let read = |row: &Row| {
            let (quantity, unrounded, amount) = (row.get("quantity")?, row.get("unrounded")?, row.get("amount")?);
            let of = (row.get("tenant_id")?, row.get("month")?);
            take(of, row.json("key")?, Billed { quantity, unrounded, amount })
        };
        self.each_of_periods(periods, sql, read).await
    }

    /// What the invoices that hold periods were worked out from, if they are issued and that was kept.
    pub async fn evidence_of_periods(
        &mut self,
        periods: &[(TenantId, Timestamp)],
        mut take: impl FnMut((TenantId, Timestamp), &str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let sql = "SELECT i.tenant_id, i.period_from, e.evidence
            FROM these CROSS JOIN invoices i CROSS JOIN invoice_evidence e
            WHERE i.tenant_id = these.column1 AND i.period_from = these.column2 AND i.holds_period = 1
                AND e.invoice_id = i.invoice_id";
        let read = |row: &Row| {
            let evidence: String = row.get("evidence")?;
            take((row.get("tenant_id")?, row.get("period_from")?), &evidence)
        };
        self.each_of_periods(periods, sql, read).await
    }

    /// Some invoices, with their documents, in no order.
    pub async fn invoices_by_id(&mut self, ids: &[InvoiceId]) -> Result<Vec<Invoice>, StoreError> {
        let own = self.tenant();
        let mut found = Vec::with_capacity(ids.len());
        for piece in pieces(ids, MOST_ROWS) {
            let these = self.engine().tuples(piece.len(), 1);
            let sql = format!("SELECT * FROM invoices WHERE invoice_id IN (VALUES {these})");
            let mut statement = self.assembled(sql);
            for id in piece {
                statement.push(*id);
            }
            found.extend(statement.map(super::invoices::read_invoice).await?);
        }
        found.retain(|invoice| own.is_none_or(|own| own == invoice.tenant_id));
        Ok(found)
    }

    /// Holds tenants' accounts until the transaction ends, one after the other in their order, as everybody does who holds
    /// several; the revision of each.
    pub async fn accounts_hold(&mut self, tenants: &[TenantId]) -> Result<HashMap<TenantId, i64>, StoreError> {
        let mut sorted = tenants.to_vec();
        sorted.sort_unstable();
        let mut found = HashMap::with_capacity(sorted.len());
        let sql = format!(
            "SELECT tenant_id, revision FROM billing_accounts WHERE tenant_id IN (SELECT column1 FROM these)
             ORDER BY tenant_id{}",
            self.engine().for_update()
        );
        let take = |row: &Row| {
            found.insert(row.get("tenant_id")?, row.get("revision")?);
            Ok(())
        };
        self.each_of(&sorted, &sql, take).await?;
        Ok(found)
    }

    /// Notes that what tenants owe changed, of whom the transaction holds the accounts.
    pub async fn accounts_step(&mut self, tenants: &[TenantId]) -> Result<(), StoreError> {
        for tenant in tenants {
            self.must_cover(*tenant)?;
        }
        for piece in pieces(tenants, MOST_ROWS) {
            let these = self.engine().tuples(piece.len(), 1);
            let sql = "UPDATE billing_accounts SET revision = revision + 1 WHERE tenant_id IN (VALUES ";
            let mut statement = self.assembled(format!("{sql}{these})"));
            for tenant in piece {
                statement.push(*tenant);
            }
            statement.execute().await?;
        }
        Ok(())
    }

    /// Notes how far accounts are billed; whose it was noted of. Not of those of whom it is known, or with whom something
    /// changed what is owed since the revision was read.
    pub async fn accounts_billed_through(&mut self, all: &[BilledThrough]) -> Result<HashSet<TenantId>, StoreError> {
        for of in all {
            self.must_cover(of.tenant)?;
        }
        let mut noted = HashSet::with_capacity(all.len());
        for piece in pieces(all, MOST_ROWS) {
            let these = self.engine().tuples(piece.len(), 4);
            let mut statement = self.assembled(format!(
                "UPDATE billing_accounts SET billed_through = v.column2, next_due = v.column3
                 FROM (VALUES {these}) AS v
                 WHERE tenant_id = v.column1 AND revision = v.column4
                   AND (billed_through IS NULL OR billed_through < v.column2) RETURNING tenant_id"
            ));
            for BilledThrough { tenant, revision, to, next_due } in piece {
                statement.push(*tenant);
                statement.push(*to);
                statement.push(*next_due);
                statement.push(*revision);
            }
            noted.extend(statement.map(|row| row.get::<TenantId>("tenant_id")).await?);
        }
        Ok(noted)
    }
}
