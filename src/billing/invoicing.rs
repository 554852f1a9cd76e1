//! Making an invoice: what it comes to, and its number once late usage had its time. `closing.rs` does it for everybody.
//!
//! Each step is one transaction, and what is left to do is found in the store: a process that dies between two steps leaves
//! work for the next pass, of this node or of any other. What an invoice comes to is worked out outside the transaction
//! that issues it; that transaction claims the tenant's revision, and so fails and is worked out again when anything else
//! changed what the tenant owes meanwhile. Usage that is counted in between is late: the next invoice has it.

use serde_json::{Value, json};

use super::{
    charges::{self, BilledByKey, Charges},
    error::Error,
    evidence::{Evidence, MarkRef},
    invoice::{Adjusted, Credit, Draw, Invoice, InvoiceLine, InvoiceState, Issue},
    invoice_document::{InvoiceDocument, document},
    model::{Account, Bill},
    running::{Detail, Grounded},
    sealing::{Basis, Used},
    service::Billing,
};
use crate::{
    kernel::{
        Actor, CalendarUnit, CreditId, Event, EventName, InvoiceId, Money, Page, PageRequest, Period, TenantId,
        ids::uuid_v7,
    },
    store::{InvoiceFilter, Scope, StoreError, Tx},
};

/// The job that makes invoices.
pub(super) const JOB: &str = "invoices";
/// An invoice is worked out so many times before somebody else is told that there is too much going on.
pub(super) const ATTEMPTS: usize = 32;
/// Of so many invoices before, and of all whose period ended so many seconds before, what was used is worked out again for
/// each: whatever came between their issue and the time from which late usage is noted, which is the end of its month
/// (UTC) and a while. Of older ones, only of the months in which something was noted.
const LOOKED_BACK: usize = 2;
const LOOKED_BACK_S: i64 = 35 * DAY_S;
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
            let worked = self.work_out_to_issue(scope, &invoice, mark).await?;
            let mut tx = self.store.begin(scope).await?;
            if !tx.account_step(invoice.tenant_id, worked.revision).await? {
                continue;
            }
            if let Some(invoice) = self.issue_in(&mut tx, actor, invoice, worked).await? {
                tx.commit().await?;
                return Ok((invoice, true));
            }
        }
        Err(Error::Contended)
    }

    /// What a draft comes to now, with what it is worked out from.
    pub(super) async fn work_out_to_issue(
        &self,
        scope: Scope,
        draft: &Invoice,
        mark: Option<MarkRef>,
    ) -> Result<Worked, Error> {
        let mut worked = self.work_out(scope, draft.tenant_id, draft.period, Detail::Days).await?;
        if let Some(evidence) = &mut worked.evidence {
            // It is older than the usage: all up to there is in it.
            evidence.journals = mark;
        }
        Ok(worked)
    }

    /// Issues a draft within the caller's transaction, which has claimed the account at the revision that was worked with, and must
    /// not be committed otherwise; `None` when something else came first. The series is held from here on: whoever issues
    /// several claims all their accounts before.
    pub(super) async fn issue_in(
        &self,
        tx: &mut Tx,
        actor: Actor,
        mut invoice: Invoice,
        worked: Worked,
    ) -> Result<Option<Invoice>, Error> {
        let Worked { lines, charges, document, evidence, .. } = worked;
        let (tenant, now) = (invoice.tenant_id, self.clock.now());
        let earlier = tx.invoices_before(tenant, invoice.period.from()).await?;
        if let Some(draft) = earlier.iter().find(|earlier| earlier.state == InvoiceState::Draft) {
            return Err(Error::EarlierDraft { id: invoice.id, earlier: draft.id });
        }
        let entity = self.config.entity.clone();
        let serial = tx.series_next(&entity, INVOICES).await?;
        let number = format!("{}{serial:06}", self.config.invoice_prefix);
        let due_at = now.plus_secs(self.config.payment_terms_days * DAY_S);
        let mut issue = Issue { entity, serial, number, at: now, due_at, seal: None };
        let paid = charges.due.is_zero();
        invoice.state = if paid { InvoiceState::Paid { at: now } } else { InvoiceState::Finalized };
        (invoice.total, invoice.due) = (charges.total, charges.due);
        invoice.document = written(&document);
        let mut kept = None;
        if let Some(mut evidence) = evidence {
            evidence.before = earlier.iter().rev().find_map(|earlier| earlier.issue.as_ref()?.seal);
            kept = Some(self.seal(tx, (&invoice, &mut issue), &document, &evidence).await?);
        }
        if !tx.invoice_issue(&invoice, &issue).await? {
            return Ok(None);
        }
        if let Some(evidence) = kept {
            tx.invoice_evidence_insert(invoice.id, &evidence).await?;
        }
        invoice.issue = Some(issue);
        tx.invoice_lines_insert(&invoice, &lines).await?;
        self.settle_charges(tx, &invoice, &charges).await?;
        if self.config.stripe_invoices && !paid {
            tx.stripe_invoice_issued(tenant, invoice.id, now).await?;
        }
        self.tell_of(tx, EventName::InvoiceFinalized, &invoice).await?;
        if paid {
            self.tell_of(tx, EventName::InvoicePaid, &invoice).await?;
        }
        let detail = Some(format!("{}: {}", invoice.name(), invoice.total));
        self.note(tx, actor, "invoice.finalized", (tenant, invoice.id.to_string(), detail)).await?;
        Ok(Some(invoice))
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
        tenant: TenantId,
        period: Period,
        detail: Detail,
    ) -> Result<Worked, Error> {
        let mut tx = self.store.read(scope).await?;
        let account = tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        let revision = tx.account_revision(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        let name = tx.billed_name(tenant).await?.unwrap_or_default();
        let own_billed = tx.billed(tenant, period.from()).await?;
        let earlier = looked_back_at(&mut tx, tenant, period).await?;
        let schedule = tx.billing_schedule(tenant).await?;
        let terms = super::terms::read_terms(tx.billing_terms(tenant).await?.as_deref())?;
        let (coupons, credits) = (tx.coupons(tenant).await?, tx.credits(tenant).await?);
        drop(tx);
        let Grounded { bill, cadence, proration, spans } = self.bill_from(scope, tenant, period, detail).await?;
        let mut lines = charges::own_lines(&bill, &own_billed)?;
        let mut adjusted = Vec::new();
        for (of, billed, is_void) in earlier {
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
            let bill = self.bill_of(scope, tenant, of.period).await?;
            let mut more = charges::adjustments(&bill, &billed, &of)?;
            if !more.is_empty() && detail == Detail::Days {
                // What its days are is read where somebody will want to know, which is seldom.
                let Grounded { bill, cadence, proration, spans } =
                    self.bill_from(scope, tenant, of.period, detail).await?;
                more = charges::adjustments(&bill, &billed, &of)?;
                adjusted.push((of, Used { period: bill.period, cadence, proration, spans, billed }));
            }
            lines.extend(more);
        }
        let Account { currency, billing_address, .. } = account;
        let now = self.clock.now();
        let by = (&*coupons, &*terms.tax_rates, &*credits);
        let charges = charges::charge(&lines, by, currency, now)?;
        let of = (period, schedule.zone(period.from()));
        let to = (&*name, billing_address.body(), &terms);
        let document = document(&self.config.seller, to, of, &lines, &charges);
        let own = Used { period: bill.period, cadence, proration, spans, billed: own_billed };
        let (tax_rates, coupons, credits) = (&*terms.tax_rates, &*coupons, &*credits);
        let basis = Basis { at: now, currency, own: &own, adjusted: &adjusted, tax_rates, coupons, credits };
        let evidence = (detail == Detail::Days).then(|| self.evidence(&basis)).transpose()?;
        Ok(Worked { revision, lines, charges, document, evidence })
    }

    /// What others hear of an invoice.
    pub(super) async fn tell_of(&self, tx: &mut Tx, name: EventName, invoice: &Invoice) -> Result<(), Error> {
        let data = told(invoice);
        let event = Event::new(name, Some(invoice.tenant_id), data, self.clock.now(), &*self.rng);
        Ok(tx.event_insert(&event).await?)
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

/// The periods before one whose usage may have changed since it was billed, what was billed of them, and whether their
/// invoice was taken back: such a period is billed no more, so that what later invoices had adjusted of it goes back, too.
async fn looked_back_at(
    tx: &mut Tx,
    tenant: TenantId,
    period: Period,
) -> Result<Vec<(Adjusted, BilledByKey, bool)>, StoreError> {
    let invoices = tx.invoices_before(tenant, period.from()).await?;
    let noted = tx.adjusted_months(tenant).await?;
    let noted: Vec<_> = noted.into_iter().map(|at| Period::containing(at, CalendarUnit::Month)).collect();
    let recent = invoices.len().saturating_sub(LOOKED_BACK);
    let mut found = Vec::new();
    for (place, invoice) in invoices.into_iter().enumerate() {
        let is_void = matches!(invoice.state, InvoiceState::Void { .. });
        let Some(issue) = invoice.issue else { continue };
        let is_recent = place >= recent || invoice.period.to() > period.from().plus_secs(-LOOKED_BACK_S);
        if is_recent || noted.iter().any(|month| invoice.period.intersect(*month).is_some()) {
            let billed = tx.billed(tenant, invoice.period.from()).await?;
            let of = Adjusted { invoice: invoice.id, number: issue.number, period: invoice.period };
            found.push((of, billed, is_void));
        }
    }
    Ok(found)
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
