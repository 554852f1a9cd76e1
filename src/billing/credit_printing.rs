//! Credit notes, read and in their forms: what was taken back of which line, with its share of coupons and taxes.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{
    charges::gross_of,
    error::Error,
    forms::{self, Deduction, Document, Form, FormError, Kind, Line, Reference, Rendered, Tax},
    invoice::{CreditNote, Invoice},
    invoice_document::InvoiceDocument,
    printing::{buyer, period, seller},
    printing_lines::description,
    service::Billing,
    settling::{minor, read_document, zone_of},
};
use crate::{
    kernel::{CreditNoteId, Money},
    store::Scope,
};

impl Billing {
    /// One credit note.
    pub async fn credit_note(&self, scope: Scope, id: CreditNoteId) -> Result<CreditNote, Error> {
        self.store.read(scope).await?.credit_note(id).await?.ok_or(Error::UnknownCreditNote(id))
    }

    /// A credit note in a form, if it can be had in that.
    pub async fn printed_note(
        &self,
        scope: Scope,
        note: &CreditNote,
        form: Form,
    ) -> Result<Result<Rendered, FormError>, Error> {
        let mut tx = self.store.read(scope).await?;
        let invoice = tx.invoice(note.invoice).await?.ok_or(Error::UnknownInvoice(note.invoice))?;
        let notes = tx.credit_notes(note.invoice).await?;
        drop(tx);
        let before = notes.iter().take_while(|other| other.id != note.id).map(|other| other.net.minor()).sum();
        let document = shown(note, &invoice, before)?;
        let fonts = Arc::clone(&self.fonts);
        let rendered = spawn_blocking(move || forms::render(&document, form, &fonts)).await;
        // Rendering does not panic; this is the end of the runtime.
        rendered.map_err(|_| Error::Stopped)
    }
}

/// `before` is what earlier notes took off the same invoice's lines, in minor units.
fn shown(note: &CreditNote, invoice: &Invoice, before: i64) -> Result<Document, Error> {
    let body: InvoiceDocument = read_document(&invoice.document)?;
    let (currency, zone) = (body.currency, zone_of(&body)?);
    let day = |at| zone.day(at);
    let money = |minor| Money::from_minor(minor, currency);
    let subtotal = minor(&body.subtotal, currency)?;
    let share = |amount: &str| Ok::<_, Error>(gross_of(note.net.minor(), before, subtotal, minor(amount, currency)?));
    let mut lines = Vec::new();
    for credited in &note.lines {
        let line = credited.line.checked_sub(1).and_then(|place| body.lines.get(place));
        let amount = money(minor(&credited.amount, currency)?);
        lines.push(Line {
            description: line.map(description).unwrap_or_default(),
            period: line.filter(|line| line.period != body.period).map(|line| period(line.period, &zone)),
            quantity: None,
            unit: None,
            price: None,
            exact: amount.quantity(),
            amount,
            tiers: Vec::new(),
        });
    }
    let mut discounts = Vec::new();
    for discount in &body.discounts {
        discounts.push(Deduction { name: discount.name.clone(), amount: money(share(&discount.amount)?) });
    }
    let mut taxes = Vec::new();
    for tax in &body.taxes {
        taxes.push(Tax { name: tax.name.clone(), percent: tax.percent, amount: money(share(&tax.amount)?) });
    }
    // Shares are rounded one by one, and the whole at once: what is between them is the last one's.
    let off: i64 = discounts.iter().map(|discount| discount.amount.minor()).sum();
    let more: i64 = taxes.iter().map(|tax| tax.amount.minor()).sum();
    let rest = note.gross.minor() - (note.net.minor() - off + more);
    match (taxes.last_mut(), discounts.last_mut()) {
        (Some(tax), _) => tax.amount = money(tax.amount.minor() + rest),
        (None, Some(discount)) => discount.amount = money(discount.amount.minor() - rest),
        (None, None) => {}
    }
    discounts.retain(|discount| !discount.amount.is_zero());
    let number = invoice.name();
    let mut notes = vec![note.reason.clone()];
    if !note.applied.is_zero() {
        notes.push(format!("{} of it was taken off what was owed on {number}.", in_full(note.applied)));
    }
    let kept = note.gross.sub(note.applied)?;
    if !kept.is_zero() {
        notes.push(format!("{} of it is a prepaid credit, which the next invoices draw.", in_full(kept)));
    }
    Ok(Document {
        kind: Kind::CreditNote,
        number: Some(note.number.clone()),
        issued: Some(day(note.issued_at)),
        due: None,
        period: Some(period(body.period, &zone)),
        time_zone: zone.name().to_owned(),
        seller: seller(note.seller.as_ref().or(body.seller.as_ref()), &note.entity),
        buyer: buyer(&body),
        currency,
        lines,
        subtotal: note.net,
        discounts,
        taxes,
        total: note.gross,
        credits: Vec::new(),
        payments: Vec::new(),
        amount_due: note.gross,
        notes,
        adjusts: Some(Reference { number, issued: invoice.issue.as_ref().map(|issue| day(issue.at)) }),
        how_to_pay: Vec::new(),
        paid: None,
    })
}

/// As the rest of a form says it.
fn in_full(money: Money) -> String {
    format!("{} {}", money.currency(), money.amount())
}
