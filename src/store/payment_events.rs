//! Queries about what was told of payments.

use super::{StoreError, Tx, value::Row};
use crate::{
    kernel::{InvoiceId, Timestamp},
    stripe::model::PaymentEvent,
};

fn read_event(row: &Row) -> Result<PaymentEvent, StoreError> {
    Ok(PaymentEvent {
        source: row.get("source")?,
        id: row.get("event_id")?,
        kind: row.get("kind")?,
        outcome: row.get("outcome")?,
        detail: row.get("detail")?,
        tenant: row.get("tenant_id")?,
        invoice: row.get("invoice_id")?,
        received_at: row.get("received_at")?,
    })
}

impl Tx {
    /// Takes what was told upon this transaction: others that are told the same wait for its end. `false` when it is known.
    pub async fn payment_event_claim(
        &mut self,
        source: &str,
        id: &str,
        kind: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.query(
            "INSERT INTO payment_events (source, event_id, kind, outcome, received_at) VALUES ($1, $2, $3, '', $4)
             ON CONFLICT (source, event_id) DO NOTHING",
        )
        .bind(source)
        .bind(id)
        .bind(kind)
        .bind(now)
        .changed_one()
        .await
    }

    /// Notes what came of it.
    pub async fn payment_event_settle(&mut self, event: &PaymentEvent) -> Result<(), StoreError> {
        self.query(
            "UPDATE payment_events SET outcome = $3, detail = $4, tenant_id = $5, invoice_id = $6
             WHERE source = $1 AND event_id = $2",
        )
        .bind(event.source.as_str())
        .bind(event.id.as_str())
        .bind(event.outcome.as_str())
        .bind(event.detail.as_deref())
        .bind(event.tenant)
        .bind(event.invoice)
        .execute()
        .await?;
        Ok(())
    }

    /// What was told and came to something else than a payment, the newest first.
    pub async fn payment_events_odd(&mut self, most: i64) -> Result<Vec<PaymentEvent>, StoreError> {
        self.query(
            "SELECT * FROM payment_events WHERE outcome NOT IN ('recorded', 'known')
             ORDER BY received_at DESC, event_id LIMIT $1",
        )
        .bind(most)
        .map(read_event)
        .await
    }

    /// The invoice with a number, of any entity; `None` when two have it.
    pub async fn invoice_of_number(&mut self, number: &str) -> Result<Option<InvoiceId>, StoreError> {
        let sql = "SELECT invoice_id FROM invoices WHERE number = $1 LIMIT 2";
        let found = self.query(sql).bind(number).map(|row| row.get("invoice_id")).await?;
        Ok(if let [one] = found[..] { Some(one) } else { None })
    }
}
