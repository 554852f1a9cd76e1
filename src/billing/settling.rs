//! What becomes of an issued invoice: payments, credit notes, being overdue, being taken back. Its document never changes.

use super::{
    cadence::{CadenceError, Zone},
    charges::gross_of,
    error::Error,
    invoice::{CreditNote, CreditedLine, Draw, Invoice, InvoiceState, Payment},
    invoice_document::InvoiceDocument,
    invoicing::JOB,
    service::Billing,
};
use crate::{
    kernel::{
        Actor, CreditNoteId, Currency, EventName, Fault, Faults, InvoiceId, Money, PaymentId, Timestamp, fault::chain,
        ids::uuid_v7,
    },
    store::{Scope, StoreError, Tx},
};

const CREDIT_NOTES: &str = "credit_note";

/// A payment that somebody saw.
#[derive(Debug, Clone)]
pub struct NewPayment {
    /// How much.
    pub amount: Money,
    /// What tells it from others of the same invoice.
    pub reference: String,
    /// When it came; now when absent.
    pub received_at: Option<Timestamp>,
}

/// A credit note to be made.
#[derive(Debug, Clone)]
pub struct NewCreditNote {
    /// Off which lines how much; what is left of all of them when empty.
    pub lines: Vec<CreditedLine>,
    /// Why.
    pub reason: String,
}

/// An invoice and a payment of it.
pub type Paid = (Invoice, Payment);

/// An invoice and a credit note of it.
pub type Credited = (Invoice, CreditNote);

/// What an invoice got since it was issued.
#[derive(Debug, Clone, Default)]
pub struct Settlement {
    /// What came in.
    pub payments: Vec<Payment>,
    /// What was taken back of it.
    pub credit_notes: Vec<CreditNote>,
}

impl Billing {
    /// What an invoice got since it was issued.
    pub async fn settlement(&self, scope: Scope, id: InvoiceId) -> Result<Settlement, Error> {
        let mut tx = self.store.read(scope).await?;
        Ok(Settlement { payments: tx.payments(id).await?, credit_notes: tx.credit_notes(id).await? })
    }

    /// Notes a payment within the caller's transaction. With a reference that is known it is the one that was noted.
    pub async fn pay_in(
        &self,
        tx: &mut Tx,
        actor: Actor,
        id: InvoiceId,
        new: NewPayment,
    ) -> Result<(Invoice, Payment), Error> {
        let mut invoice = locked(tx, id).await?;
        let NewPayment { amount, reference, received_at } = new;
        if let Some(known) = tx.payments(id).await?.into_iter().find(|payment| payment.reference == reference) {
            let same = known.amount == amount;
            return if same { Ok((invoice, known)) } else { Err(Error::ReferenceTaken(reference)) };
        }
        must_be_open(&invoice, "be paid")?;
        if amount.currency() != invoice.due.currency() {
            return Err(invalid("currency", format!("must be {}", invoice.due.currency())));
        }
        let outstanding = invoice.outstanding();
        if amount.minor() <= 0 || amount.minor() > outstanding.minor() {
            return Err(invalid("amount", format!("must be above zero, and at most the {outstanding} that is owed")));
        }
        let now = self.clock.now();
        let received_at = received_at.unwrap_or(now);
        let payment =
            Payment { id: PaymentId::generate(now, &*self.rng), reference, amount, received_at, recorded_at: now };
        if !tx.payment_insert(invoice.tenant_id, id, &payment).await? {
            return Err(Error::Contended);
        }
        invoice.paid = invoice.paid.add(amount)?;
        self.settle(tx, &mut invoice).await?;
        // What a credit note took off is not paid: Stripe is not told that it was.
        let whole = invoice.credited.is_zero() && matches!(invoice.state, InvoiceState::Paid { .. });
        if self.config.stripe_invoices && whole {
            tx.stripe_invoice_paid(invoice.tenant_id, id, now).await?;
        }
        let detail = Some(format!("{}: {amount}, {}", invoice.name(), payment.reference));
        self.note(tx, actor, "invoice.paid", (invoice.tenant_id, id.to_string(), detail)).await?;
        Ok((invoice, payment))
    }

    /// Writes what an invoice got, and that it is paid once nothing is owed.
    async fn settle(&self, tx: &mut Tx, invoice: &mut Invoice) -> Result<(), Error> {
        let open = matches!(invoice.state, InvoiceState::Finalized | InvoiceState::Overdue { .. });
        let paid = open && invoice.outstanding().is_zero();
        if paid {
            invoice.state = InvoiceState::Paid { at: self.clock.now() };
        }
        tx.invoice_settle(invoice).await?;
        if paid {
            self.tell_of(tx, EventName::InvoicePaid, invoice).await?;
        }
        Ok(())
    }

    /// Takes some of an invoice back, or what is left of it, within the caller's transaction: first off what is owed; what was
    /// paid already becomes a credit.
    pub async fn credit_in(
        &self,
        tx: &mut Tx,
        actor: Actor,
        id: InvoiceId,
        new: NewCreditNote,
    ) -> Result<(Invoice, CreditNote), Error> {
        let mut invoice = locked(tx, id).await?;
        if matches!(invoice.state, InvoiceState::Draft | InvoiceState::Void { .. }) {
            return Err(wrong_state(&invoice, "be credited"));
        }
        let currency = invoice.total.currency();
        let document: InvoiceDocument = read_document(&invoice.document)?;
        let notes = tx.credit_notes(id).await?;
        let NewCreditNote { lines, reason } = new;
        let lines = credited_lines(&document, &notes, lines, currency)?;
        let net: i64 = minor_sum(lines.iter().map(|line| line.amount.as_str()), currency)?;
        let before: i64 = notes.iter().map(|note| note.net.minor()).sum();
        let subtotal = minor(&document.subtotal, currency)?;
        if net <= 0 || before + net > subtotal {
            let left = Money::from_minor((subtotal - before).max(0), currency);
            return Err(invalid("lines", format!("{left} of this invoice is left to be credited")));
        }
        let gross = gross_of(net, before, subtotal, invoice.total.minor());
        let applied = gross.min(invoice.outstanding().minor());
        let now = self.clock.now();
        // Whoever issued the invoice takes it back, whomever the settings name by now.
        let entity = invoice.issue.as_ref().map_or(&self.config.entity, |issue| &issue.entity).clone();
        let is_current = entity == self.config.entity;
        let seller = document.seller.clone().or_else(|| is_current.then(|| self.config.seller.clone()));
        let serial = tx.series_next(&entity, CREDIT_NOTES, 1).await?;
        let money = |minor| Money::from_minor(minor, currency);
        let note = CreditNote {
            id: CreditNoteId::generate(now, &*self.rng),
            invoice: id,
            number: format!("{}{serial:06}", self.config.credit_note_prefix),
            entity,
            serial,
            lines,
            reason,
            seller,
            net: money(net),
            gross: money(gross),
            applied: money(applied),
            issued_at: now,
        };
        tx.credit_note_insert(invoice.tenant_id, &note).await?;
        if gross > applied {
            self.grant_in(tx, invoice.tenant_id, money(gross - applied), note.number.clone()).await?;
        }
        invoice.credited = invoice.credited.add(note.applied)?;
        self.settle(tx, &mut invoice).await?;
        let detail = Some(format!("{} of {}: {}", note.number, invoice.name(), note.gross));
        self.note(tx, actor, "credit_note.issued", (invoice.tenant_id, id.to_string(), detail)).await?;
        Ok((invoice, note))
    }

    /// Takes an invoice back as a whole, within the caller's transaction: what it drew of credits is given back. With
    /// `anew` its period is billed by another one; without, nobody is billed for it.
    pub async fn void_in(
        &self,
        tx: &mut Tx,
        actor: Actor,
        id: InvoiceId,
        (reason, anew): (String, bool),
    ) -> Result<Invoice, Error> {
        let mut invoice = locked(tx, id).await?;
        if matches!(invoice.state, InvoiceState::Void { .. }) {
            let is_replaced = !tx.invoice_holds_period(id).await?;
            return if anew && !is_replaced {
                Err(wrong_state(&invoice, "be made anew any more"))
            } else {
                Ok(invoice)
            };
        }
        if invoice.state == InvoiceState::Draft {
            return Err(wrong_state(&invoice, "be voided before it is issued"));
        }
        if !invoice.paid.is_zero() {
            return Err(wrong_state(&invoice, "be voided, because something was paid: make a credit note"));
        }
        if invoice.total.minor() < 0 || !tx.credit_notes(id).await?.is_empty() {
            return Err(wrong_state(&invoice, "be voided, because something of it was credited"));
        }
        let (tenant, now) = (invoice.tenant_id, self.clock.now());
        invoice.state = InvoiceState::Void { at: now, reason: reason.clone() };
        tx.invoice_settle(&invoice).await?;
        self.give_back(tx, &invoice).await?;
        if self.config.stripe_invoices {
            tx.stripe_invoice_voided(tenant, id, now).await?;
        }
        self.tell_of(tx, EventName::InvoiceVoided, &invoice).await?;
        if anew {
            tx.invoice_give_way(id).await?;
            let zero = Money::zero(invoice.total.currency());
            let draft = Invoice {
                id: InvoiceId::generate(now, &*self.rng),
                state: InvoiceState::Draft,
                issue: None,
                paid: zero,
                credited: zero,
                drafted_at: now,
                ..invoice.clone()
            };
            if !tx.invoices_insert(&[&draft]).await?.is_empty() {
                self.tell_of(tx, EventName::InvoiceDrafted, &draft).await?;
            }
        }
        let detail = Some(format!("{}: {reason}", invoice.name()));
        self.note(tx, actor, "invoice.voided", (tenant, id.to_string(), detail)).await?;
        Ok(invoice)
    }

    /// Gives back what a voided invoice drew of credits. Where one has expired since, nothing could be drawn of it any more:
    /// what it paid becomes a credit of its own.
    async fn give_back(&self, tx: &mut Tx, invoice: &Invoice) -> Result<(), Error> {
        let (tenant, now) = (invoice.tenant_id, self.clock.now());
        let credits = tx.credits(tenant).await?;
        let zero = Money::zero(invoice.total.currency());
        let mut anew = zero;
        for draw in tx.credit_draws(tenant).await?.into_iter().filter(|draw| draw.invoice == invoice.id) {
            if credits.iter().any(|credit| credit.id == draw.credit && credit.is_expired(now)) {
                anew = anew.add(draw.amount)?;
                continue;
            }
            let back = Draw { amount: zero.sub(draw.amount)?, at: now, ..draw };
            tx.credit_draw_insert(uuid_v7(now, &*self.rng), tenant, &back).await?;
        }
        if !anew.is_zero() {
            self.grant_in(tx, tenant, anew, format!("{} was voided", invoice.name())).await?;
        }
        Ok(())
    }

    /// Notes which invoices were due and are not paid; how many.
    pub async fn note_overdue(&self) -> Result<usize, Error> {
        let due = self.store.read(Scope::Job(JOB)).await?.invoices_due(self.clock.now()).await?;
        let mut noted = 0;
        for id in due {
            match self.note_one_overdue(id).await {
                Ok(new) => noted += usize::from(new),
                Err(error @ Error::Store(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(invoice_id = %id, error = chain(&error), "an invoice is overdue, and it is not noted yet");
                }
            }
        }
        Ok(noted)
    }

    async fn note_one_overdue(&self, id: InvoiceId) -> Result<bool, Error> {
        let mut tx = self.store.begin(Scope::Job(JOB)).await?;
        let mut invoice = locked(&mut tx, id).await?;
        if invoice.state != InvoiceState::Finalized {
            return Ok(false);
        }
        invoice.state = InvoiceState::Overdue { since: self.clock.now() };
        tx.invoice_settle(&invoice).await?;
        self.tell_of(&mut tx, EventName::InvoiceOverdue, &invoice).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// An invoice that nobody else changes until the transaction ends.
async fn locked(tx: &mut Tx, id: InvoiceId) -> Result<Invoice, Error> {
    let tenant = tx.invoice(id).await?.ok_or(Error::UnknownInvoice(id))?.tenant_id;
    tx.account_lock(tenant).await?;
    tx.invoice(id).await?.ok_or(Error::UnknownInvoice(id))
}

fn wrong_state(invoice: &Invoice, verb: &'static str) -> Error {
    Error::InvoiceState { id: invoice.id, status: invoice.state.name(), verb }
}

fn must_be_open(invoice: &Invoice, verb: &'static str) -> Result<(), Error> {
    match invoice.state {
        InvoiceState::Finalized | InvoiceState::Overdue { .. } => Ok(()),
        _ => Err(wrong_state(invoice, verb)),
    }
}

fn invalid(field: &str, detail: String) -> Error {
    Error::Invalid(vec![Fault { field: field.to_owned(), detail }])
}

/// An invoice's document, read.
pub(super) fn read_document(text: &str) -> Result<InvoiceDocument, Error> {
    let corrupt = |error| StoreError::Corrupt(format!("document of an invoice: {error}"));
    Ok(serde_json::from_str(text).map_err(corrupt)?)
}

/// The zone of a document's days.
pub(super) fn zone_of(document: &InvoiceDocument) -> Result<Zone, Error> {
    let corrupt = |error: CadenceError| StoreError::Corrupt(format!("zone of an invoice: {error}"));
    Ok(document.time_zone.parse().map_err(corrupt)?)
}

/// An amount of a document in minor units.
pub(super) fn minor(amount: &str, currency: Currency) -> Result<i64, Error> {
    let corrupt = || StoreError::Corrupt(format!("amount of an invoice: {amount:?}"));
    let exact = amount.parse().map_err(|_| corrupt())?;
    Ok(Money::from_exact(exact, currency).map_err(|_| corrupt())?.minor())
}

fn minor_sum<'a>(amounts: impl Iterator<Item = &'a str>, currency: Currency) -> Result<i64, Error> {
    amounts.map(|amount| minor(amount, currency)).try_fold(0_i64, |sum, amount| Ok(sum.saturating_add(amount?)))
}

/// Off which lines how much: what was asked for, at most what is left of each; or what is left of all lines.
fn credited_lines(
    document: &InvoiceDocument,
    notes: &[CreditNote],
    asked: Vec<CreditedLine>,
    currency: Currency,
) -> Result<Vec<CreditedLine>, Error> {
    let left = |line: usize| -> Result<Option<i64>, Error> {
        let Some(body) = line.checked_sub(1).and_then(|place| document.lines.get(place)) else { return Ok(None) };
        let credited = notes.iter().flat_map(|note| &note.lines).filter(|credited| credited.line == line);
        Ok(Some(minor(&body.amount, currency)? - minor_sum(credited.map(|credited| &*credited.amount), currency)?))
    };
    let money = |minor| Money::from_minor(minor, currency);
    if asked.is_empty() {
        let mut all = Vec::new();
        for line in 1..=document.lines.len() {
            // What a line gives is taken back with the rest.
            if let Some(left) = left(line)?.filter(|left| *left != 0) {
                all.push(CreditedLine { line, amount: money(left).amount() });
            }
        }
        return Ok(all);
    }
    let (mut faults, mut taken) = (Faults::new(), Vec::new());
    for (place, CreditedLine { line, amount }) in asked.into_iter().enumerate() {
        let field = format!("lines[{place}]");
        let Some(left) = left(line)? else {
            faults.add(format!("{field}.line"), format!("must be from 1 to {}", document.lines.len()));
            continue;
        };
        if taken.iter().any(|other: &CreditedLine| other.line == line) {
            faults.add(format!("{field}.line"), "is there twice");
            continue;
        }
        let exact = faults.parse(&format!("{field}.amount"), &amount);
        let exact =
            exact.and_then(|exact| faults.check(&format!("{field}.amount"), Money::from_exact(exact, currency)));
        let Some(amount) = exact else { continue };
        if amount.minor() <= 0 || amount.minor() > left {
            let most = money(left.max(0)).amount();
            faults.add(
                format!("{field}.amount"),
                format!("must be above zero, and at most the {most} that is left of it"),
            );
            continue;
        }
        taken.push(CreditedLine { line, amount: amount.amount() });
    }
    faults.finish(Some(taken)).map_err(Error::Invalid)
}
