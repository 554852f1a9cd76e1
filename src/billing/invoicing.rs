//! Making an invoice: what it comes to, and its number once late usage had its time. `closing.rs` does it for everybody.
//!
//! Each step is one transaction, and what is left to do is found in the store: a process that dies between two steps leaves
//! work for the next pass, of this node or of any other. What an invoice comes to is worked out outside the transaction
//! that issues it; that transaction claims the tenant's revision, and so fails and is worked out again when anything else
//! changed what the tenant owes meanwhile. Usage that is counted in between is late: the next invoice has it.

use serde_json::{Value, json};

use super::{
    books::{Book, Books, Standing},
    charges::{self, Charges},
    error::Error,
    evidence::{Evidence, MarkRef},
    invoice::{Credit, Draw, Invoice, InvoiceLine, InvoiceState, Issue},
    invoice_document::{InvoiceDocument, document},
    model::Bill,
    running::{Detail, Grounded},
    sealing::{Basis, Used, sealed},
    service::Billing,
};
use crate::{
    kernel::{
        Actor, CreditId, Digest, Event, EventName, InvoiceId, Money, Page, PageRequest, Period, TenantId, audit::Act,
        ids::uuid_v7,
    },
    store::{InvoiceFilter, Scope, Tx},
};

/// The job that makes invoices.
pub(super) const JOB: &str = "invoices";
/// An invoice is worked out so many times before somebody else is told that there is too much going on.
pub(super) const ATTEMPTS: usize = 32;
const INVOICES: &str = "invoice";
const DAY_S: i64 = 86_400;

/// What an invoice would say and come to.
pub(super) struct Worked {
    pub(super) revision: i64,
    lines: Vec<InvoiceLine>,
    pub(super) charges: Charges,
    pub(super) document: InvoiceDocument,
    /// What it was worked out from, with days; of a draft nobody keeps it.
    evidence: Option<Evidence>,
    /// A draft that is to be issued before it.
    earlier_draft: Option<InvoiceId>,
}

/// An invoice that is being issued, and what is written with it.
struct Issued {
    invoice: Invoice,
    lines: Vec<InvoiceLine>,
    charges: Charges,
    evidence: Option<String>,
}

impl Billing {
    /// How invoices are made here.
    pub fn config(&self) -> &super::BillingConfig {
        &self.config
    }

    /// Issues a draft now, whether or not late usage had its time. An invoice that is issued stays as it is.
    pub async fn finalize(&self, scope: Scope, actor: Actor, id: InvoiceId) -> Result<Invoice, Error> {
        let mark = self.mark().await?;
        Ok(self.finalize_once(scope, actor, id, mark).await?.0)
    }

    /// The invoice, and whether this call issued it.
    pub(super) async fn finalize_once(
        &self,
        scope: Scope,
        actor: Actor,
        id: InvoiceId,
        mark: Option<MarkRef>,
    ) -> Result<(Invoice, bool), Error> {
        for _ in 0..ATTEMPTS {
            let invoice = self.invoice(scope, id).await?;
            if invoice.state != InvoiceState::Draft {
                return Ok((invoice, false));
            }
            let books = self.books_of(scope, &[(invoice.tenant_id, invoice.period)]).await?;
            let worked = self.work_out_to_issue(scope, &books, &invoice, mark).await?;
            let mut tx = self.store.begin(scope).await?;
            if let Some(issued) = self.issue_in(&mut tx, actor, vec![(invoice, worked)]).await? {
                tx.commit().await?;
                return issued.into_iter().next().map(|invoice| (invoice, true)).ok_or(Error::Contended);
            }
        }
        Err(Error::Contended)
    }

    /// The books of some tenants as they are now, to work out their invoices of some periods.
    pub(super) async fn books_of(&self, scope: Scope, periods: &[(TenantId, Period)]) -> Result<Books, Error> {
        let tenants: Vec<TenantId> = periods.iter().map(|(tenant, _)| *tenant).collect();
        let mut tx = self.store.read(scope).await?;
        let mut books = Books::open(&mut tx, &tenants).await?;
        books.look_at(&mut tx, periods).await?;
        Ok(books)
    }

    /// What a draft comes to now, with what it is worked out from.
    pub(super) async fn work_out_to_issue(
        &self,
        scope: Scope,
        books: &Books,
        draft: &Invoice,
        mark: Option<MarkRef>,
    ) -> Result<Worked, Error> {
        let book = books.of(draft.tenant_id)?;
        let mut worked = self.work_out(scope, book, draft.period, Detail::Days).await?;
        if let Some(evidence) = &mut worked.evidence {
            // It is older than the usage: all up to there is in it.
            evidence.journals = mark;
        }
        Ok(worked)
    }

    /// Issues drafts of different tenants within the caller's transaction, all of them; `None`, and it must not be committed, when
    /// something else came first. Accounts are held in their order and before the series, as everybody does: nobody waits
    /// for who waits for them.
    pub(super) async fn issue_in(
        &self,
        tx: &mut Tx,
        actor: Actor,
        worked: Vec<(Invoice, Worked)>,
    ) -> Result<Option<Vec<Invoice>>, Error> {
        let tenants: Vec<TenantId> = worked.iter().map(|(invoice, _)| invoice.tenant_id).collect();
        let held = tx.accounts_hold(&tenants).await?;
        if worked.iter().any(|(invoice, worked)| held.get(&invoice.tenant_id) != Some(&worked.revision)) {
            return Ok(None);
        }
        for (invoice, worked) in &worked {
            if let Some(earlier) = worked.earlier_draft {
                return Err(Error::EarlierDraft { id: invoice.id, earlier });
            }
        }
        tx.accounts_step(&tenants).await?;
        let count = i64::try_from(worked.len()).unwrap_or(i64::MAX);
        let first = tx.series_next(&self.config.entity, INVOICES, count).await?;
        let mut seal = tx.invoice_seal(&self.config.entity, first - 1).await?;
        let mut issued = Vec::with_capacity(worked.len());
        for (serial, (invoice, worked)) in (first..).zip(worked) {
            issued.push(self.issued(invoice, worked, serial, &mut seal)?);
        }
        self.keep_issued(tx, actor, issued).await
    }

    /// A draft as it is issued with a number, on top of the seal before it, of which nobody else has the end meanwhile.
    fn issued(
        &self,
        mut invoice: Invoice,
        worked: Worked,
        serial: i64,
        seal: &mut Option<Digest>,
    ) -> Result<Issued, Error> {
        let Worked { lines, charges, document, evidence, .. } = worked;
        let now = self.clock.now();
        let number = format!("{}{serial:06}", self.config.invoice_prefix);
        let due_at = now.plus_secs(self.config.payment_terms_days * DAY_S);
        let mut issue = Issue { entity: self.config.entity.clone(), serial, number, at: now, due_at, seal: None };
        let paid = charges.due.is_zero();
        invoice.state = if paid { InvoiceState::Paid { at: now } } else { InvoiceState::Finalized };
        (invoice.total, invoice.due) = (charges.total, charges.due);
        invoice.document = written(&document);
        let evidence = evidence.map(|evidence| sealed((&invoice, &mut issue), *seal, &document, &evidence));
        *seal = issue.seal;
        invoice.issue = Some(issue);
        Ok(Issued { invoice, lines, charges, evidence: evidence.transpose()? })
    }

    /// Writes what is issued; `None` when one of them was no draft any more.
    async fn keep_issued(&self, tx: &mut Tx, actor: Actor, all: Vec<Issued>) -> Result<Option<Vec<Invoice>>, Error> {
        let now = self.clock.now();
        let rows: Vec<_> = all.iter().filter_map(|of| Some((&of.invoice, of.invoice.issue.as_ref()?))).collect();
        if tx.invoices_issue(&rows).await? != all.len() {
            return Ok(None);
        }
        let (mut evidence, mut events, mut acts, mut invoices) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let lines: Vec<_> = all.iter().map(|of| (&of.invoice, &*of.lines)).collect();
        tx.invoice_lines_insert(&lines).await?;
        for Issued { invoice, charges, evidence: kept, .. } in all {
            evidence.extend(kept.map(|kept| (invoice.id, kept)));
            self.settle_charges(tx, &invoice, &charges).await?;
            let paid = invoice.state != InvoiceState::Finalized;
            if self.config.stripe_invoices && !paid {
                tx.stripe_invoice_issued(invoice.tenant_id, invoice.id, now).await?;
            }
            events.push(self.event_of(EventName::InvoiceFinalized, &invoice));
            events.extend(paid.then(|| self.event_of(EventName::InvoicePaid, &invoice)));
            let (tenant, subject) = (Some(invoice.tenant_id), invoice.id.to_string());
            let detail = Some(format!("{}: {}", invoice.name(), invoice.total));
            let act = Act { actor, action: "invoice.finalized", tenant, subject, detail };
            acts.push((uuid_v7(now, &*self.rng), act));
            invoices.push(invoice);
        }
        tx.invoice_evidence_insert(&evidence).await?;
        let acts: Vec<_> = acts.iter().map(|(id, act)| (*id, act)).collect();
        tx.audit_insert_all(now, &acts).await?;
        tx.outbox_insert(&events).await?;
        Ok(Some(invoices))
    }

    /// Takes from credits what they pay, notes which coupons were used, and keeps what we owe.
    async fn settle_charges(&self, tx: &mut Tx, invoice: &Invoice, charges: &Charges) -> Result<(), Error> {
        let (tenant, now) = (invoice.tenant_id, self.clock.now());
        for (credit, amount) in &charges.draws {
            let draw = Draw { credit: *credit, invoice: invoice.id, amount: *amount, at: now };
            tx.credit_draw_insert(uuid_v7(now, &*self.rng), tenant, &draw).await?;
        }
        for (coupon, _, amount) in &charges.discounts {
            tx.coupon_use_insert(*coupon, invoice.id, *amount).await?;
        }
        if !charges.granted.is_zero() {
            self.grant_in(tx, tenant, charges.granted, invoice.name()).await?;
        }
        Ok(())
    }

    /// Makes what we owe a tenant a credit that does not expire and is drawn first.
    pub(super) async fn grant_in(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        amount: Money,
        reason: String,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let id = CreditId::generate(now, &*self.rng);
        let drawn = Money::zero(amount.currency());
        let credit = Credit { id, amount, drawn, priority: 0, expires_at: None, reason, granted_at: now };
        Ok(tx.credit_insert(tenant, &credit).await?)
    }

    /// What an invoice of a period would come to now; with days, what it is worked out from, too.
    pub(super) async fn work_out(
        &self,
        scope: Scope,
        book: &Book,
        period: Period,
        detail: Detail,
    ) -> Result<Worked, Error> {
        let Book { standing, revision, name, terms, coupons, credits, .. } = book;
        let Standing { account, schedule, .. } = standing;
        let (tenant, catalogue) = (account.tenant_id, self.catalogue());
        let bill_of =
            |period, detail| self.bill_on(scope, standing, (period, book.proration(period)), (detail, &catalogue));
        let Grounded { bill, cadence, proration, spans } = bill_of(period, detail).await?;
        let own_billed = book.billed(period);
        let mut lines = charges::own_lines(&bill, &own_billed)?;
        let mut adjusted = Vec::new();
        for (of, billed, is_void) in book.looked_back(period) {
            if is_void {
                let bill = Bill::nothing(tenant, of.period, account.currency);
                let more = charges::adjustments(&bill, &billed, &of)?;
                if !more.is_empty() {
                    let cadence = schedule.in_force(of.period.from()).clone();
                    adjusted.push((of, Used { period: bill.period, cadence, proration, spans: Vec::new(), billed }));
                }
                lines.extend(more);
                continue;
            }
            let bill = bill_of(of.period, Detail::Totals).await?.bill;
            let mut more = charges::adjustments(&bill, &billed, &of)?;
            if !more.is_empty() && detail == Detail::Days {
                // What its days are is read where somebody will want to know, which is seldom.
                let Grounded { bill, cadence, proration, spans } = bill_of(of.period, detail).await?;
                more = charges::adjustments(&bill, &billed, &of)?;
                adjusted.push((of, Used { period: bill.period, cadence, proration, spans, billed }));
            }
            lines.extend(more);
        }
        let (currency, now) = (account.currency, self.clock.now());
        let by = (&**coupons, &*terms.tax_rates, &**credits);
        let charges = charges::charge(&lines, by, currency, now)?;
        let of = (period, schedule.zone(period.from()));
        let to = (&**name, account.billing_address.body(), terms);
        let document = document(&self.config.seller, to, of, &lines, &charges);
        let own = Used { period: bill.period, cadence, proration, spans, billed: own_billed };
        let tax_rates = &*terms.tax_rates;
        let basis = Basis { at: now, currency, own: &own, adjusted: &adjusted, tax_rates, coupons, credits };
        let evidence = (detail == Detail::Days).then(|| self.evidence(&basis)).transpose()?;
        let earlier_draft = book.earlier_draft(period);
        let evidence = evidence.map(|evidence| Evidence { before: book.seal_before(period), ..evidence });
        Ok(Worked { revision: *revision, lines, charges, document, evidence, earlier_draft })
    }

    /// What others hear of an invoice.
    pub(super) async fn tell_of(&self, tx: &mut Tx, name: EventName, invoice: &Invoice) -> Result<(), Error> {
        Ok(tx.event_insert(&self.event_of(name, invoice)).await?)
    }

    /// The same, as it is written.
    pub(super) fn event_of(&self, name: EventName, invoice: &Invoice) -> Event {
        Event::new(name, Some(invoice.tenant_id), told(invoice), self.clock.now(), &*self.rng)
    }

    /// One invoice.
    pub async fn invoice(&self, scope: Scope, id: InvoiceId) -> Result<Invoice, Error> {
        self.store.read(scope).await?.invoice(id).await?.ok_or(Error::UnknownInvoice(id))
    }

    /// A page of invoices, oldest first.
    pub async fn invoices(
        &self,
        scope: Scope,
        filter: InvoiceFilter,
        page: PageRequest,
    ) -> Result<Page<Invoice>, Error> {
        let mut tx = self.store.read(scope).await?;
        if let Some(tenant) = filter.tenant {
            tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        }
        Ok(page.page(tx.invoices(filter, page).await?, |invoice| invoice.id.as_uuid()))
    }
}

fn told(invoice: &Invoice) -> Value {
    let issue = invoice.issue.as_ref();
    json!({
        "invoice_id": invoice.id,
        "tenant_id": invoice.tenant_id,
        "status": invoice.state.name(),
        "number": issue.map(|issue| &issue.number),
        "period": {"from": invoice.period.from(), "to": invoice.period.to()},
        "total": invoice.total.amount(),
        "amount_due": invoice.outstanding().amount(),
        "currency": invoice.total.currency(),
        "due_at": issue.map(|issue| issue.due_at),
    })
}

/// A document is made of texts and numbers that JSON has.
pub(super) fn written(document: &InvoiceDocument) -> String {
    serde_json::to_string(document).unwrap_or_default()
}
