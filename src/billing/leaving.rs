//! The end of an account: the period that runs is cut where its tenant leaves, and all that is owed by then is on invoices that
//! are issued at once.
//!
//! The cut is a change of cadence to the same cadence: what lies before it is a short period, whose bases and commitments are
//! the shares of it, as those of any short period are. It lies at the end of the minute, because usage is counted by
//! minutes, so that all that was used by now is in it.

use super::{
    error::Error,
    evidence::MarkRef,
    invoice::InvoiceState,
    invoicing::{ATTEMPTS, JOB},
    service::Billing,
    source::UsageSource,
};
use crate::{
    kernel::{Actor, InvoiceId, PageRequest, TenantId, Timestamp},
    store::{InvoiceFilter, Scope, StoreError, Tx},
};

/// A minute, in seconds.
const MINUTE_S: i64 = 60;

impl Billing {
    /// Counts what was settled on this node by now.
    pub async fn catch_up(&self) -> Result<(), Error> {
        match self.usage() {
            UsageSource::Live(metering) => Ok(metering.catch_up().await?),
            UsageSource::Ledger(_) => Ok(()),
        }
    }

    /// Ends the account of a tenant that leaves, and issues all that it owes. A tenant that was never in use owes nothing. Doing
    /// it again goes on where it was broken off.
    pub async fn final_invoice(&self, scope: Scope, tenant: TenantId, used: bool) -> Result<(), Error> {
        if !self.end_account(scope, tenant, used).await? {
            return Ok(());
        }
        let mut failed = 0;
        while let Some(drafted) = self.draft_next_of_closed(tenant).await? {
            failed += usize::from(!drafted);
            if failed >= ATTEMPTS {
                return Err(Error::Contended);
            }
        }
        let mark = self.mark().await?;
        while let Some(id) = self.first_draft(tenant).await? {
            self.issue_last(id, mark).await?;
        }
        // Where nothing was left to be drafted.
        let mut tx = self.store.begin(scope).await?;
        if let Some(revision) = tx.accounts_hold(&[tenant]).await?.remove(&tenant) {
            tx.account_due_set(tenant, revision, None).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Closes the account, and cuts the period that runs; whether there is something to be invoiced.
    async fn end_account(&self, scope: Scope, tenant: TenantId, used: bool) -> Result<bool, Error> {
        let mut tx = self.store.begin(scope).await?;
        if !tx.account_lock(tenant).await? {
            return Ok(false);
        }
        let account = tx.billing_account(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        if account.closed_at.is_some() {
            return Ok(used);
        }
        if used {
            self.cut_period(&mut tx, tenant).await?;
            tx.billing_account_close(tenant, self.clock.now()).await?;
        } else {
            self.abandon_account_in(&mut tx, tenant).await?;
        }
        tx.commit().await?;
        Ok(used)
    }

    async fn cut_period(&self, tx: &mut Tx, tenant: TenantId) -> Result<(), Error> {
        let now = self.clock.now();
        let schedule = tx.billing_schedule(tenant).await?;
        let cut = now.floor_minute().plus_secs(MINUTE_S);
        if cut < schedule.containing(now).to() {
            tx.billing_cadences_drop(tenant, cut).await?;
            tx.billing_cadence_insert(tenant, cut, schedule.in_force(now)).await?;
        }
        Ok(())
    }

    /// Drafts the next period of a closed account, whether it is over or ends with this minute; `None` when there is none, and
    /// `false` when somebody else changed something meanwhile.
    async fn draft_next_of_closed(&self, tenant: TenantId) -> Result<Option<bool>, Error> {
        let books = self.books_due(&[tenant], Timestamp::MAX).await?;
        let Some(plan) = self.planned(&books, tenant, Timestamp::MAX).await? else { return Ok(None) };
        Ok(Some(!self.draft_in(std::slice::from_ref(&plan)).await?.is_empty()))
    }

    /// The draft of a tenant whose period is the earliest.
    async fn first_draft(&self, tenant: TenantId) -> Result<Option<InvoiceId>, Error> {
        let filter = InvoiceFilter { tenant: Some(tenant), status: Some(InvoiceState::Draft.name()), issued: false };
        let most = PageRequest::new(Some(PageRequest::MAX_LIMIT), None).unwrap_or_default();
        let drafts = self.store.read(Scope::Job(JOB)).await?.invoices(filter, most).await?;
        Ok(drafts.iter().min_by_key(|draft| draft.period.from()).map(|draft| draft.id))
    }

    async fn issue_last(&self, id: InvoiceId, mark: Option<MarkRef>) -> Result<(), Error> {
        match self.finalize_once(Scope::Job(JOB), Actor::Job("offboarding"), id, mark).await {
            Ok(_) => Ok(()),
            // Another node issued it at the same moment.
            Err(Error::Store(StoreError::Duplicate)) => Err(Error::Contended),
            Err(error) => Err(error),
        }
    }
}
