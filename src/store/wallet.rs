//! Queries about what changes what is owed: terms, coupons, prepaid credits, payments and credit notes.

use super::{StoreError, Tx, value::Row};
use crate::{
    billing::{
        InvoiceSeller,
        invoice::{Coupon, Credit, CreditNote, CreditedLine, Draw, Off, Payment},
    },
    kernel::{CouponId, CreditId, CreditNoteId, InvoiceId, Money, TenantId, Timestamp},
};

pub(super) fn read_credit(row: &Row) -> Result<Credit, StoreError> {
    let currency = row.parse("currency")?;
    Ok(Credit {
        id: row.get("credit_id")?,
        amount: Money::from_minor(row.get("amount")?, currency),
        drawn: Money::from_minor(row.get("drawn")?, currency),
        priority: row.get("priority")?,
        expires_at: row.get("expires_at")?,
        reason: row.get("reason")?,
        granted_at: row.get("granted_at")?,
    })
}

pub(super) fn read_coupon(row: &Row) -> Result<Coupon, StoreError> {
    let off = match (row.get("percent")?, row.get::<Option<i64>>("amount")?) {
        (Some(percent), None) => Off::Percent(percent),
        (None, Some(minor)) => Off::Amount(Money::from_minor(minor, row.parse("currency")?)),
        _ => return Err(StoreError::Corrupt("a coupon with neither or both of percent and amount".into())),
    };
    Ok(Coupon {
        id: row.get("coupon_id")?,
        name: row.get("name")?,
        off,
        periods: row.get("periods")?,
        uses: row.get("uses")?,
        created_at: row.get("created_at")?,
        ended_at: row.get("ended_at")?,
    })
}

fn read_payment(row: &Row) -> Result<Payment, StoreError> {
    Ok(Payment {
        id: row.get("payment_id")?,
        reference: row.get("reference")?,
        amount: Money::from_minor(row.get("amount")?, row.parse("currency")?),
        received_at: row.get("received_at")?,
        recorded_at: row.get("recorded_at")?,
    })
}

/// What a credit note says, as kept.
#[derive(serde::Serialize, serde::Deserialize)]
struct NoteBody {
    lines: Vec<CreditedLine>,
    reason: String,
    #[serde(default)]
    seller: Option<InvoiceSeller>,
}

fn read_note(row: &Row) -> Result<CreditNote, StoreError> {
    let currency = row.parse("currency")?;
    let money = |name: &str| Ok::<_, StoreError>(Money::from_minor(row.get(name)?, currency));
    let NoteBody { lines, reason, seller } = row.json("document")?;
    Ok(CreditNote {
        id: row.get("credit_note_id")?,
        invoice: row.get("invoice_id")?,
        entity: row.get("entity")?,
        serial: row.get("serial")?,
        number: row.get("number")?,
        lines,
        reason,
        seller,
        net: money("net")?,
        gross: money("gross")?,
        applied: money("applied")?,
        issued_at: row.get("issued_at")?,
    })
}

impl Tx {
    /// A tenant's terms, as JSON; `None` where there are none.
    pub async fn billing_terms(&mut self, tenant: TenantId) -> Result<Option<String>, StoreError> {
        let scope = self.tenant();
        let sql = "SELECT terms FROM billing_accounts WHERE tenant_id = $1 AND ($2 IS NULL OR tenant_id = $2)";
        let terms = self.query(sql).bind(tenant).bind(scope).map_one(|row| row.get::<Option<String>>("terms")).await?;
        Ok(terms.flatten())
    }

    /// Sets them.
    pub async fn billing_terms_set(&mut self, tenant: TenantId, terms: &str) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        let sql = "UPDATE billing_accounts SET terms = $2 WHERE tenant_id = $1";
        self.query(sql).bind(tenant).bind(terms).execute().await?;
        Ok(())
    }

    /// Grants a credit.
    pub async fn credit_insert(&mut self, tenant: TenantId, credit: &Credit) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "INSERT INTO credits (credit_id, tenant_id, currency, amount, priority, expires_at, reason, granted_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(credit.id)
        .bind(tenant)
        .bind(credit.amount.currency().code())
        .bind(credit.amount.minor())
        .bind(credit.priority)
        .bind(credit.expires_at)
        .bind(credit.reason.as_str())
        .bind(credit.granted_at)
        .execute()
        .await?;
        Ok(())
    }

    /// A tenant's credits, oldest first, with what was drawn of each.
    pub async fn credits(&mut self, tenant: TenantId) -> Result<Vec<Credit>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT c.*, CAST((SELECT COALESCE(SUM(d.amount), 0) FROM credit_draws d WHERE d.credit_id = c.credit_id) AS BIGINT) AS drawn
             FROM credits c WHERE c.tenant_id = $1 AND ($2 IS NULL OR c.tenant_id = $2) ORDER BY c.granted_at, c.credit_id",
        )
        .bind(tenant)
        .bind(scope)
        .map(read_credit)
        .await
    }

    /// Notes what was drawn of a credit, or given back.
    pub async fn credit_draw_insert(
        &mut self,
        id: uuid::Uuid,
        tenant: TenantId,
        draw: &Draw,
    ) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "INSERT INTO credit_draws (draw_id, credit_id, tenant_id, invoice_id, amount, drawn_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id)
        .bind(draw.credit)
        .bind(tenant)
        .bind(draw.invoice)
        .bind(draw.amount.minor())
        .bind(draw.at)
        .execute()
        .await?;
        Ok(())
    }

    /// What was drawn of a tenant's credits and given back, in order.
    pub async fn credit_draws(&mut self, tenant: TenantId) -> Result<Vec<Draw>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT d.*, c.currency FROM credit_draws d JOIN credits c ON c.credit_id = d.credit_id
             WHERE d.tenant_id = $1 AND ($2 IS NULL OR d.tenant_id = $2) ORDER BY d.draw_id",
        )
        .bind(tenant)
        .bind(scope)
        .map(|row| {
            Ok(Draw {
                credit: row.get::<CreditId>("credit_id")?,
                invoice: row.get::<InvoiceId>("invoice_id")?,
                amount: Money::from_minor(row.get("amount")?, row.parse("currency")?),
                at: row.get("drawn_at")?,
            })
        })
        .await
    }

    /// Gives a tenant a coupon.
    pub async fn coupon_insert(&mut self, tenant: TenantId, coupon: &Coupon) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        let (percent, amount) = match coupon.off {
            Off::Percent(percent) => (Some(percent), None),
            Off::Amount(amount) => (None, Some(amount.minor())),
        };
        self.query(
            "INSERT INTO coupons (coupon_id, tenant_id, name, percent, amount, periods, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(coupon.id)
        .bind(tenant)
        .bind(coupon.name.as_str())
        .bind(percent)
        .bind(amount)
        .bind(coupon.periods)
        .bind(coupon.created_at)
        .execute()
        .await?;
        Ok(())
    }

    /// A tenant's coupons, oldest first, with how often each was used by invoices that hold.
    pub async fn coupons(&mut self, tenant: TenantId) -> Result<Vec<Coupon>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT c.*, a.currency,
                    (SELECT COUNT(*) FROM coupon_uses u JOIN invoices i ON i.invoice_id = u.invoice_id
                     WHERE u.coupon_id = c.coupon_id AND i.status <> 'void') AS uses
             FROM coupons c JOIN billing_accounts a ON a.tenant_id = c.tenant_id
             WHERE c.tenant_id = $1 AND ($2 IS NULL OR c.tenant_id = $2) ORDER BY c.created_at, c.coupon_id",
        )
        .bind(tenant)
        .bind(scope)
        .map(read_coupon)
        .await
    }

    /// Ends a coupon; `false` when there is none that holds.
    pub async fn coupon_end(&mut self, tenant: TenantId, id: CouponId, now: Timestamp) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        let sql = "UPDATE coupons SET ended_at = $3 WHERE tenant_id = $1 AND coupon_id = $2 AND ended_at IS NULL";
        self.query(sql).bind(tenant).bind(id).bind(now).changed_one().await
    }

    /// Notes that an invoice used a coupon.
    pub async fn coupon_use_insert(
        &mut self,
        id: CouponId,
        invoice: InvoiceId,
        amount: Money,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO coupon_uses (coupon_id, invoice_id, amount) VALUES ($1, $2, $3)";
        self.query(sql).bind(id).bind(invoice).bind(amount.minor()).execute().await?;
        Ok(())
    }

    /// Notes that money came in; `false` when a payment with its reference is known.
    pub async fn payment_insert(
        &mut self,
        tenant: TenantId,
        invoice: InvoiceId,
        payment: &Payment,
    ) -> Result<bool, StoreError> {
        self.must_cover(tenant)?;
        self.query(
            "INSERT INTO payments (payment_id, invoice_id, tenant_id, reference, currency, amount, received_at, recorded_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (invoice_id, reference) DO NOTHING",
        )
        .bind(payment.id)
        .bind(invoice)
        .bind(tenant)
        .bind(payment.reference.as_str())
        .bind(payment.amount.currency().code())
        .bind(payment.amount.minor())
        .bind(payment.received_at)
        .bind(payment.recorded_at)
        .changed_one()
        .await
    }

    /// The payments of an invoice, oldest first.
    pub async fn payments(&mut self, invoice: InvoiceId) -> Result<Vec<Payment>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM payments WHERE invoice_id = $1 AND ($2 IS NULL OR tenant_id = $2) ORDER BY payment_id",
        )
        .bind(invoice)
        .bind(scope)
        .map(read_payment)
        .await
    }

    /// Adds a credit note.
    pub async fn credit_note_insert(&mut self, tenant: TenantId, note: &CreditNote) -> Result<(), StoreError> {
        self.must_cover(tenant)?;
        let body = NoteBody { lines: note.lines.clone(), reason: note.reason.clone(), seller: note.seller.clone() };
        self.query(
            "INSERT INTO credit_notes (credit_note_id, invoice_id, tenant_id, entity, serial, number, currency, net, gross,
                                       applied, document, issued_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(note.id)
        .bind(note.invoice)
        .bind(tenant)
        .bind(note.entity.as_str())
        .bind(note.serial)
        .bind(note.number.as_str())
        .bind(note.net.currency().code())
        .bind(note.net.minor())
        .bind(note.gross.minor())
        .bind(note.applied.minor())
        .bind(serde_json::to_string(&body).unwrap_or_default())
        .bind(note.issued_at)
        .execute()
        .await?;
        Ok(())
    }

    /// One credit note.
    pub async fn credit_note(&mut self, id: CreditNoteId) -> Result<Option<CreditNote>, StoreError> {
        let scope = self.tenant();
        self.query("SELECT * FROM credit_notes WHERE credit_note_id = $1 AND ($2 IS NULL OR tenant_id = $2)")
            .bind(id)
            .bind(scope)
            .map_one(read_note)
            .await
    }

    /// The credit notes of an invoice, oldest first.
    pub async fn credit_notes(&mut self, invoice: InvoiceId) -> Result<Vec<CreditNote>, StoreError> {
        let scope = self.tenant();
        self.query(
            "SELECT * FROM credit_notes WHERE invoice_id = $1 AND ($2 IS NULL OR tenant_id = $2) ORDER BY serial",
        )
        .bind(invoice)
        .bind(scope)
        .map(read_note)
        .await
    }
}
