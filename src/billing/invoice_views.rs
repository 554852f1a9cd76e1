//! Invoices on the wire.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error::Error,
    explaining::{Explanation, cursor_text, time_of},
    invoice::{Coupon, Credit, CreditNote, CreditedLine, Draw, Invoice, InvoiceState, Off, Payment},
    invoice_document::{InvoiceDocument, InvoiceLineBody, InvoiceSeller},
    settling::{Settlement, read_document},
};
use crate::kernel::{CouponId, CreditId, CreditNoteId, Currency, InvoiceId, PaymentId, Quantity, TenantId, Timestamp};

/// An invoice.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvoiceView {
    invoice_id: InvoiceId,
    tenant_id: TenantId,
    /// `draft`, `finalized`, `overdue`, `paid` or `void`.
    status: &'static str,
    /// Without gaps within its entity; `null` while it is a draft.
    number: Option<String>,
    /// The legal entity that issued it.
    entity: Option<String>,
    drafted_at: Timestamp,
    issued_at: Option<Timestamp>,
    due_at: Option<Timestamp>,
    overdue_since: Option<Timestamp>,
    paid_at: Option<Timestamp>,
    voided_at: Option<Timestamp>,
    void_reason: Option<String>,
    #[serde(flatten)]
    document: InvoiceDocument,
    /// What came in since it was issued.
    amount_paid: String,
    /// What credit notes took off what was owed.
    amount_credited: String,
    /// What is still owed.
    amount_remaining: String,
}

impl TryFrom<&Invoice> for InvoiceView {
    type Error = Error;

    fn try_from(invoice: &Invoice) -> Result<Self, Error> {
        let issue = invoice.issue.as_ref();
        let (mut overdue_since, mut paid_at, mut voided_at, mut void_reason) = (None, None, None, None);
        match &invoice.state {
            InvoiceState::Draft | InvoiceState::Finalized => {}
            InvoiceState::Overdue { since } => overdue_since = Some(*since),
            InvoiceState::Paid { at } => paid_at = Some(*at),
            InvoiceState::Void { at, reason } => (voided_at, void_reason) = (Some(*at), Some(reason.clone())),
        }
        let remaining = match invoice.state {
            InvoiceState::Void { .. } => crate::kernel::Money::zero(invoice.due.currency()),
            _ => invoice.outstanding(),
        };
        Ok(Self {
            invoice_id: invoice.id,
            tenant_id: invoice.tenant_id,
            status: invoice.state.name(),
            number: issue.map(|issue| issue.number.clone()),
            entity: issue.map(|issue| issue.entity.clone()),
            drafted_at: invoice.drafted_at,
            issued_at: issue.map(|issue| issue.at),
            due_at: issue.map(|issue| issue.due_at),
            overdue_since,
            paid_at,
            voided_at,
            void_reason,
            document: read_document(&invoice.document)?,
            amount_paid: invoice.paid.amount(),
            amount_credited: invoice.credited.amount(),
            amount_remaining: remaining.amount(),
        })
    }
}

/// An invoice with what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvoiceDetailView {
    #[serde(flatten)]
    invoice: InvoiceView,
    payments: Vec<PaymentView>,
    credit_notes: Vec<CreditNoteView>,
}

impl InvoiceDetailView {
    /// Of an invoice and what it got.
    pub fn new(invoice: &Invoice, settlement: Settlement) -> Result<Self, Error> {
        let Settlement { payments, credit_notes } = settlement;
        Ok(Self {
            invoice: InvoiceView::try_from(invoice)?,
            payments: payments.into_iter().map(Into::into).collect(),
            credit_notes: credit_notes.into_iter().map(Into::into).collect(),
        })
    }
}

/// A payment.
#[derive(Debug, Serialize, ToSchema)]
pub struct PaymentView {
    payment_id: PaymentId,
    reference: String,
    amount: String,
    currency: Currency,
    received_at: Timestamp,
    recorded_at: Timestamp,
}

impl From<Payment> for PaymentView {
    fn from(payment: Payment) -> Self {
        Self {
            payment_id: payment.id,
            reference: payment.reference,
            amount: payment.amount.amount(),
            currency: payment.amount.currency(),
            received_at: payment.received_at,
            recorded_at: payment.recorded_at,
        }
    }
}

/// A credit note.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreditNoteView {
    credit_note_id: CreditNoteId,
    invoice_id: InvoiceId,
    entity: String,
    /// Without gaps within its entity's credit notes.
    number: String,
    lines: Vec<CreditedLine>,
    reason: String,
    /// Who issued it, as they were called then.
    seller: Option<InvoiceSeller>,
    /// Off the lines.
    subtotal: String,
    /// With the lines' share of coupons and taxes.
    total: String,
    /// What of it was taken off what was owed; the rest is a prepaid credit.
    applied: String,
    currency: Currency,
    issued_at: Timestamp,
}

impl From<CreditNote> for CreditNoteView {
    fn from(note: CreditNote) -> Self {
        Self {
            credit_note_id: note.id,
            invoice_id: note.invoice,
            entity: note.entity,
            number: note.number,
            lines: note.lines,
            reason: note.reason,
            seller: note.seller,
            subtotal: note.net.amount(),
            total: note.gross.amount(),
            applied: note.applied.amount(),
            currency: note.gross.currency(),
            issued_at: note.issued_at,
        }
    }
}

/// A coupon.
#[derive(Debug, Serialize, ToSchema)]
pub struct CouponView {
    coupon_id: CouponId,
    name: String,
    percent_off: Option<Quantity>,
    amount_off: Option<String>,
    /// For how many invoices; `null` for all.
    periods: Option<i64>,
    /// By how many it was used.
    uses: i64,
    /// Whether it takes something off the next invoice.
    active: bool,
    created_at: Timestamp,
    ended_at: Option<Timestamp>,
}

impl From<Coupon> for CouponView {
    fn from(coupon: Coupon) -> Self {
        let (percent_off, amount_off) = match coupon.off {
            Off::Percent(percent) => (Some(percent), None),
            Off::Amount(amount) => (None, Some(amount.amount())),
        };
        Self {
            active: coupon.holds(),
            coupon_id: coupon.id,
            name: coupon.name,
            percent_off,
            amount_off,
            periods: coupon.periods,
            uses: coupon.uses,
            created_at: coupon.created_at,
            ended_at: coupon.ended_at,
        }
    }
}

/// A prepaid credit.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreditView {
    credit_id: CreditId,
    amount: String,
    /// What is left of it; of an expired one, what was lost.
    left: String,
    currency: Currency,
    priority: i64,
    expires_at: Option<Timestamp>,
    expired: bool,
    reason: String,
    granted_at: Timestamp,
    /// What invoices took of it and gave back, in order.
    draws: Vec<DrawView>,
}

/// What an invoice took of a credit.
#[derive(Debug, Serialize, ToSchema)]
pub struct DrawView {
    invoice_id: InvoiceId,
    /// Below zero when it was given back.
    amount: String,
    drawn_at: Timestamp,
}

impl CreditView {
    /// Of a credit and the draws of all of a tenant's.
    pub fn new(credit: Credit, draws: &[Draw], now: Timestamp) -> Self {
        let draws = draws.iter().filter(|draw| draw.credit == credit.id);
        let currency = credit.amount.currency();
        Self {
            credit_id: credit.id,
            amount: credit.amount.amount(),
            left: crate::kernel::Money::from_minor(credit.left(), currency).amount(),
            currency,
            priority: credit.priority,
            expires_at: credit.expires_at,
            expired: credit.is_expired(now),
            reason: credit.reason,
            granted_at: credit.granted_at,
            draws: draws
                .map(|draw| DrawView { invoice_id: draw.invoice, amount: draw.amount.amount(), drawn_at: draw.at })
                .collect(),
        }
    }
}

/// How a line of an invoice came about.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplanationView {
    /// The line, as it was issued.
    line: InvoiceLineBody,
    /// The days in UTC that it was rated from when it was issued; `null` where that was not kept, or the total is no sum.
    rated: Option<Vec<RatedDay>>,
    /// The windows that have usage, as they are now. Of meters that add up they sum to `metered`.
    windows: Vec<UsageWindow>,
    /// What the line's part of the period has now; what it has more than the line came late, and is on a later invoice.
    metered: Quantity,
    /// The events of the line's part of the period as they are now, in order of their time, a page of them. Requests are
    /// counted by the minute and not kept one by one: their windows are all there is.
    events: ExplainedEvents,
    /// The arithmetic, in words.
    steps: Vec<String>,
}

/// What was used in a day, or the part of it that the line is about.
#[derive(Debug, Serialize, ToSchema)]
pub struct RatedDay {
    day: String,
    value: Quantity,
}

/// What was used in a window, or the part of it that the line is about.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageWindow {
    window_start: Timestamp,
    window_end: Timestamp,
    value: Quantity,
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainedEvents {
    items: Vec<ExplainedEvent>,
    /// Asks for the next page; `null` on the last one.
    next_cursor: Option<String>,
}

/// An event that a line's meter counts.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainedEvent {
    /// Its id, as it was sent.
    event_id: String,
    /// Where it came from, as it was sent.
    source: String,
    /// Its time.
    time: Timestamp,
    /// What the meter reads in it, 1 where it counts; `null` where it reads nothing.
    value: Option<Quantity>,
}

impl From<Explanation> for ExplanationView {
    fn from(explanation: Explanation) -> Self {
        let Explanation { line, rated, windows, metered, events, next, steps } = explanation;
        let window = |(window, value): (crate::kernel::Period, Quantity)| UsageWindow {
            window_start: window.from(),
            window_end: window.to(),
            value,
        };
        let event = |(event, value): (crate::metering::Event, Option<Quantity>)| ExplainedEvent {
            time: time_of(&event),
            value,
            event_id: event.id,
            source: event.source,
        };
        Self {
            line,
            rated: rated.map(|days| days.into_iter().map(|(day, value)| RatedDay { day, value }).collect()),
            windows: windows.into_iter().map(window).collect(),
            metered,
            events: ExplainedEvents {
                items: events.into_iter().map(event).collect(),
                next_cursor: next.as_ref().map(cursor_text),
            },
            steps,
        }
    }
}
