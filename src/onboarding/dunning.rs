//! From the end of a period to its payment, for all tenants: invoices are made, what is overdue is pursued by the policy of the
//! settings, and a payment ends what that did. Billing owns invoices and tenants their state; here both change in one
//! transaction.

use crate::{
    billing::{self, NewCreditNote, NewPayment, OverduePolicy},
    kernel::{Act, Actor, InvoiceId, TenantId, ids::uuid_v7},
    store::{Scope, Tx},
    tenants::{self, Status, Tenant},
};

use super::{error::Error, service::Onboarding};

/// The job that does it.
const JOB: &str = "invoices";

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Closed {
    /// Drafts that were made.
    pub drafted: usize,
    /// Invoices that were issued.
    pub finalized: usize,
    /// Invoices that became overdue.
    pub overdue: usize,
    /// Tenants that were suspended because of one.
    pub suspended: usize,
    /// Tenants that were held to lower limits because of one.
    pub limited: usize,
}

impl Onboarding {
    /// Does all that is due for invoices now. Every step is a transaction of its own, so that whoever dies in between leaves
    /// the rest to the next pass, and nodes that do it at once do it once.
    pub async fn close_periods(&self) -> Result<Closed, Error> {
        let billing = &self.services.billing;
        let mut closed = Closed {
            drafted: billing.draft_due().await?,
            finalized: billing.finalize_due().await?,
            overdue: billing.note_overdue().await?,
            ..Closed::default()
        };
        match billing.config().overdue {
            OverduePolicy::Warn => {}
            OverduePolicy::Limit => closed.limited = self.pursue(OverduePolicy::Limit).await?,
            OverduePolicy::Suspend => closed.suspended = self.pursue(OverduePolicy::Suspend).await?,
        }
        Ok(closed)
    }

    /// Does what the policy says to tenants with overdue invoices, once for each invoice: a tenant that an administrator lets
    /// through nevertheless is not suspended or limited again for the same one.
    async fn pursue(&self, policy: OverduePolicy) -> Result<usize, Error> {
        let overdue = self.store.read(Scope::Job(JOB)).await?.invoices_to_pursue().await?;
        let mut pursued = 0;
        for (tenant, invoice) in overdue {
            let done = match policy {
                OverduePolicy::Warn => false,
                OverduePolicy::Limit => self.limit_for(tenant, invoice).await?,
                OverduePolicy::Suspend => self.suspend_for(tenant, invoice).await?,
            };
            pursued += usize::from(done);
        }
        Ok(pursued)
    }

    /// Unlike a suspension it changes no state, so it does not wait for anything under way.
    async fn limit_for(&self, tenant: TenantId, invoice: InvoiceId) -> Result<bool, Error> {
        let mut tx = self.store.begin(Scope::Job(JOB)).await?;
        // In the order of a payment: first the account, then the invoice.
        tx.account_lock(tenant).await?;
        if !tx.invoice_pursue(invoice, self.clock.now()).await? {
            return Ok(false);
        }
        let limited = self.services.billing.limit_in(&mut tx, tenant, invoice).await?;
        if limited {
            self.note_state(&mut tx, Actor::Job(JOB), "tenant.limited", (tenant, invoice)).await?;
        }
        tx.commit().await?;
        self.services.tenants.announce(tenant);
        Ok(limited)
    }

    /// Gives a tenant its own limits again although it has not paid.
    pub async fn lift_limit(&self, scope: Scope, actor: Actor, tenant: TenantId) -> Result<(), Error> {
        let mut tx = self.store.begin(scope).await?;
        if !tx.account_lock(tenant).await? {
            return Err(billing::Error::NoAccount(tenant).into());
        }
        if self.services.billing.lift_limit_in(&mut tx, tenant).await? {
            let now = self.clock.now();
            let action = "tenant.limit_lifted";
            let act = Act { actor, action, tenant: Some(tenant), subject: tenant.to_string(), detail: None };
            tx.audit_insert(uuid_v7(now, &*self.rng), now, &act).await?;
        }
        tx.commit().await?;
        self.services.tenants.announce(tenant);
        Ok(())
    }

    async fn suspend_for(&self, tenant: TenantId, invoice: InvoiceId) -> Result<bool, Error> {
        let mut tx = self.store.begin(Scope::Job(JOB)).await?;
        let Some(before) = tx.tenant_by_id(tenant).await? else { return Ok(false) };
        if matches!(before.status, Status::ChangingTier { .. } | Status::Provisioning | Status::Failed(_)) {
            // Under way; the next pass finds it in a state that says something.
            return Ok(false);
        }
        if !tx.invoice_pursue(invoice, self.clock.now()).await? {
            return Ok(false);
        }
        let suspends = before.status == Status::Active;
        if suspends {
            match self.services.tenants.change_in(&mut tx, tenant, Tenant::suspend_unpaid).await {
                // Somebody changes it just now; the next pass looks again.
                Err(tenants::Error::WrongState { .. }) => return Ok(false),
                changed => drop(changed?),
            }
            self.note_state(&mut tx, Actor::Job(JOB), "tenant.suspended", (tenant, invoice)).await?;
        }
        tx.commit().await?;
        self.services.tenants.announce(tenant);
        Ok(suspends)
    }

    async fn note_state(
        &self,
        tx: &mut Tx,
        actor: Actor,
        action: &'static str,
        (tenant, invoice): (TenantId, InvoiceId),
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let detail = Some(format!("invoice {invoice}"));
        let act = Act { actor, action, tenant: Some(tenant), subject: tenant.to_string(), detail };
        Ok(tx.audit_insert(uuid_v7(now, &*self.rng), now, &act).await?)
    }

    /// Lets calls of a tenant through that was suspended or limited for what it owed, once nothing is overdue.
    async fn lift_in(&self, tx: &mut Tx, actor: Actor, cause: (TenantId, InvoiceId)) -> Result<(), Error> {
        let (tenant, _) = cause;
        if tx.owes_overdue(tenant).await? {
            return Ok(());
        }
        let before = tx.tenant_by_id(tenant).await?;
        let after = self.services.tenants.change_in(tx, tenant, |tenant| Ok(tenant.settle())).await?;
        if before.is_some_and(|before| before.status != after.status) {
            self.note_state(tx, actor, "tenant.activated", cause).await?;
        }
        if self.services.billing.lift_limit_in(tx, tenant).await? {
            self.note_state(tx, actor, "tenant.limit_lifted", cause).await?;
        }
        Ok(())
    }

    /// Notes a payment within the caller's transaction, and ends what it ends. Whoever commits it says so by
    /// [`Self::announce`].
    pub async fn pay_invoice_in(
        &self,
        tx: &mut Tx,
        actor: Actor,
        id: InvoiceId,
        payment: NewPayment,
    ) -> Result<billing::Paid, Error> {
        let paid = self.services.billing.pay_in(tx, actor, id, payment).await?;
        self.lift_in(tx, actor, (paid.0.tenant_id, id)).await?;
        Ok(paid)
    }

    /// Tells this process that a tenant may be another by now.
    pub fn announce(&self, tenant: TenantId) {
        self.services.tenants.announce(tenant);
    }

    /// Notes a payment.
    pub async fn pay_invoice(
        &self,
        scope: Scope,
        actor: Actor,
        id: InvoiceId,
        payment: NewPayment,
    ) -> Result<billing::Paid, Error> {
        let mut tx = self.store.begin(scope).await?;
        let paid = self.services.billing.pay_in(&mut tx, actor, id, payment).await?;
        self.settled(tx, actor, &paid.0).await?;
        Ok(paid)
    }

    /// Makes a credit note.
    pub async fn credit_invoice(
        &self,
        scope: Scope,
        actor: Actor,
        id: InvoiceId,
        note: NewCreditNote,
    ) -> Result<billing::Credited, Error> {
        let mut tx = self.store.begin(scope).await?;
        let credited = self.services.billing.credit_in(&mut tx, actor, id, note).await?;
        self.settled(tx, actor, &credited.0).await?;
        Ok(credited)
    }

    /// Takes an invoice back; with `anew`, another takes its place.
    pub async fn void_invoice(
        &self,
        scope: Scope,
        actor: Actor,
        id: InvoiceId,
        (reason, anew): (String, bool),
    ) -> Result<billing::Invoice, Error> {
        let mut tx = self.store.begin(scope).await?;
        let invoice = self.services.billing.void_in(&mut tx, actor, id, (reason, anew)).await?;
        self.settled(tx, actor, &invoice).await?;
        Ok(invoice)
    }

    async fn settled(&self, mut tx: Tx, actor: Actor, invoice: &billing::Invoice) -> Result<(), Error> {
        let tenant = invoice.tenant_id;
        self.lift_in(&mut tx, actor, (tenant, invoice.id)).await?;
        tx.commit().await?;
        self.services.tenants.announce(tenant);
        Ok(())
    }
}
