//! Closing periods for everybody whose is over: drafts, and their issue once late usage had its time.
//!
//! A few hundred tenants are done together: their usage is read as of one moment, and what comes of it is written in one
//! transaction, while the next ones are being worked out. What does not fit in (somebody else came first, a period more is
//! over, something is wrong with one tenant) is done by itself afterwards. So a pass that dies leaves what was committed, and the next one, of
//! this node or of any other, finds the rest.

use std::collections::HashSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    books::{Books, Next},
    error::Error,
    evidence::MarkRef,
    invoice::{Invoice, InvoiceState},
    invoicing::{ATTEMPTS, JOB, Worked, written},
    running::Detail,
    service::Billing,
};
use crate::{
    kernel::{Actor, EventName, InvoiceId, Money, TenantId, Timestamp, fault::chain},
    store::{BilledThrough, DueAccount, Scope},
};

/// Accounts that are looked at in one query.
const PAGE: i64 = 2_000;
/// Tenants whose invoices are written in one transaction: others who write wait for it.
const TOGETHER: usize = 200;
/// So many are being worked out while others are written.
const BESIDE: usize = 2;
/// It is said how far a pass is when it has made so many more.
const SAID: usize = 10_000;

/// A draft to be made.
pub(super) struct Planned {
    invoice: Invoice,
    revision: i64,
    /// When the next period is over.
    then: Option<Timestamp>,
}

impl Planned {
    const fn through(&self) -> BilledThrough {
        let Invoice { tenant_id: tenant, period, .. } = self.invoice;
        BilledThrough { tenant, revision: self.revision, to: period.to(), next_due: self.then }
    }
}

impl Billing {
    /// Makes drafts of all periods that are over and have none; how many. One tenant's trouble does not keep another's.
    pub async fn draft_due(&self) -> Result<usize, Error> {
        let now = self.clock.now();
        let (mut made, mut after) = (0, None);
        loop {
            let accounts = self.store.read(Scope::Job(JOB)).await?.accounts_due(now, after, PAGE).await?;
            let Some(last) = accounts.last() else { return Ok(made) };
            after = Some(*last);
            let chunks = accounts.chunks(TOGETHER).map(<[DueAccount]>::to_vec);
            let together = chunks.map(|some| self.draft_together(some, now)).collect::<Vec<_>>();
            let mut done = stream::iter(together).buffer_unordered(BESIDE);
            while let Some(drafts) = done.try_next().await? {
                made = said("drafted", made, drafts);
            }
        }
    }

    /// Drafts of some accounts, each one's first in one transaction.
    async fn draft_together(&self, accounts: Vec<DueAccount>, now: Timestamp) -> Result<usize, Error> {
        let tenants: Vec<TenantId> = accounts.iter().map(|account| account.tenant).collect();
        let (then, permit) = self.at_this_moment(&tenants).await?;
        let books = then.books_due(&tenants, now).await?;
        let (mut planned, mut alone) = (Vec::new(), Vec::new());
        for tenant in tenants {
            match then.planned(&books, tenant, now).await {
                Ok(Some(plan)) => planned.push(plan),
                Err(error @ Error::Store(_)) => return Err(error),
                // Nothing to be made, or an error that is said below.
                Ok(None) | Err(_) => alone.push(tenant),
            }
        }
        drop((then, books, permit));
        let drafted = self.draft_in(&planned).await?;
        for plan in &planned {
            let tenant = plan.invoice.tenant_id;
            if !drafted.contains(&tenant) || plan.then.is_some_and(|then| then <= now) {
                alone.push(tenant);
            }
        }
        let mut made = drafted.len();
        for tenant in alone {
            match self.draft_all(tenant, now).await {
                Ok(drafts) => made += drafts,
                Err(error @ Error::Store(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(tenant_id = %tenant, error = chain(&error), "a period's invoice could not be drafted");
                }
            }
        }
        Ok(made)
    }

    /// All drafts of one tenant, one by one.
    async fn draft_all(&self, tenant: TenantId, now: Timestamp) -> Result<usize, Error> {
        let (mut made, mut failed) = (0, 0);
        while failed < ATTEMPTS {
            let books = self.books_due(&[tenant], now).await?;
            let Some(plan) = self.planned(&books, tenant, now).await? else {
                let book = books.of(tenant)?;
                if let Next::Running { due } = book.next(now) {
                    let mut tx = self.store.begin(Scope::Job(JOB)).await?;
                    tx.account_due_set(tenant, book.revision, due).await?;
                    tx.commit().await?;
                }
                break;
            };
            if self.draft_in(std::slice::from_ref(&plan)).await?.is_empty() {
                // Another node did, or something changed: it is looked again.
                failed += 1;
                continue;
            }
            made += 1;
            if plan.then.is_none_or(|then| now < then) {
                break;
            }
        }
        Ok(made)
    }

    /// The books of tenants, to work out their next invoices, of periods that are over by an instant.
    pub(super) async fn books_due(&self, tenants: &[TenantId], now: Timestamp) -> Result<Books, Error> {
        let mut tx = self.store.read(Scope::Job(JOB)).await?;
        let mut books = Books::open(&mut tx, tenants).await?;
        let over = |tenant: &TenantId| match books.of(*tenant).ok()?.next(now) {
            Next::Over { period, .. } => Some((*tenant, period)),
            Next::Running { .. } => None,
        };
        let periods: Vec<_> = tenants.iter().filter_map(over).collect();
        books.look_at(&mut tx, &periods).await?;
        Ok(books)
    }

    /// The draft of a tenant's next period, if that is over by an instant.
    pub(super) async fn planned(
        &self,
        books: &Books,
        tenant: TenantId,
        by: Timestamp,
    ) -> Result<Option<Planned>, Error> {
        let (book, now) = (books.of(tenant)?, self.clock.now());
        let Next::Over { period, then } = book.next(by) else { return Ok(None) };
        let worked = self.work_out(Scope::Job(JOB), book, period, Detail::Totals).await?;
        let zero = Money::zero(worked.charges.total.currency());
        let invoice = Invoice {
            id: InvoiceId::generate(now, &*self.rng),
            tenant_id: tenant,
            period,
            state: InvoiceState::Draft,
            issue: None,
            total: worked.charges.total,
            due: worked.charges.due,
            paid: zero,
            credited: zero,
            document: written(&worked.document),
            drafted_at: now,
        };
        Ok(Some(Planned { invoice, revision: worked.revision, then }))
    }

    /// Makes drafts of different tenants in one transaction; whose were made. Not those where somebody else came first.
    pub(super) async fn draft_in(&self, planned: &[Planned]) -> Result<HashSet<TenantId>, Error> {
        let mut tx = self.store.begin(Scope::Job(JOB)).await?;
        let tenants: Vec<TenantId> = planned.iter().map(|plan| plan.invoice.tenant_id).collect();
        tx.accounts_hold(&tenants).await?;
        let through: Vec<BilledThrough> = planned.iter().map(Planned::through).collect();
        let noted = tx.accounts_billed_through(&through).await?;
        let wanted = planned.iter().map(|plan| &plan.invoice).filter(|invoice| noted.contains(&invoice.tenant_id));
        let wanted: Vec<&Invoice> = wanted.collect();
        let made = tx.invoices_insert(&wanted).await?;
        let made: Vec<&Invoice> = wanted.into_iter().filter(|invoice| made.contains(&invoice.id)).collect();
        let events: Vec<_> = made.iter().map(|invoice| self.event_of(EventName::InvoiceDrafted, invoice)).collect();
        tx.outbox_insert(&events).await?;
        tx.commit().await?;
        Ok(made.into_iter().map(|invoice| invoice.tenant_id).collect())
    }

    /// Issues all drafts that late usage had its time for; how many. Each tenant's in order.
    pub async fn finalize_due(&self) -> Result<usize, Error> {
        let ended = self.clock.now().plus_secs(-self.config.grace_s);
        let mut drafts = self.store.read(Scope::Job(JOB)).await?.drafts_ended(ended).await?;
        if drafts.is_empty() {
            return Ok(0);
        }
        let mark = self.mark().await?;
        // A tenant's first is done with those of others, and the rest after it.
        let mut seen = None;
        let later: Vec<_> = drafts.extract_if(.., |(tenant, _)| seen.replace(*tenant) == Some(*tenant)).collect();
        let chunks = drafts.chunks(TOGETHER).map(<[_]>::to_vec);
        let together = chunks.map(|some| self.finalize_together(some, mark)).collect::<Vec<_>>();
        let mut done = stream::iter(together).buffer_unordered(BESIDE);
        let (mut issued, mut stuck) = (0, Vec::new());
        while let Some((some, failed)) = done.try_next().await? {
            issued = said("issued", issued, some);
            stuck.extend(failed);
        }
        for (tenant, id) in later {
            if !stuck.contains(&tenant) {
                match self.finalize_alone(id, mark).await? {
                    Some(new) => issued += usize::from(new),
                    None => stuck.push(tenant),
                }
            }
        }
        Ok(issued)
    }

    /// Issues drafts in one transaction, or one by one where one of them does not go; how many, and whose did not.
    async fn finalize_together(
        &self,
        drafts: Vec<(TenantId, InvoiceId)>,
        mark: Option<MarkRef>,
    ) -> Result<(usize, Vec<TenantId>), Error> {
        let ids: Vec<InvoiceId> = drafts.iter().map(|(_, id)| *id).collect();
        let tenants: Vec<TenantId> = drafts.iter().map(|(tenant, _)| *tenant).collect();
        let (then, permit) = self.at_this_moment(&tenants).await?;
        let mut found = self.store.read(Scope::Job(JOB)).await?.invoices_by_id(&ids).await?;
        found.retain(|invoice| invoice.state == InvoiceState::Draft);
        // In the order of their numbers, they are in the order of their tenants.
        found.sort_unstable_by_key(|invoice| invoice.tenant_id);
        let periods: Vec<_> = found.iter().map(|invoice| (invoice.tenant_id, invoice.period)).collect();
        let books = then.books_of(Scope::Job(JOB), &periods).await?;
        let mut worked = Vec::with_capacity(found.len());
        for invoice in found {
            match then.work_out_to_issue(Scope::Job(JOB), &books, &invoice, mark).await {
                Ok(found) => worked.push((invoice, found)),
                Err(error @ Error::Store(_)) => return Err(error),
                // It is said below.
                Err(_) => {}
            }
        }
        drop((then, books, permit));
        let all = worked.len() == drafts.len();
        let (mut issued, mut stuck) = (self.issue_together(worked).await?, Vec::new());
        if issued == 0 || !all {
            for (tenant, id) in drafts {
                match self.finalize_alone(id, mark).await? {
                    Some(new) => issued += usize::from(new),
                    None => stuck.push(tenant),
                }
            }
        }
        Ok((issued, stuck))
    }

    /// Issues all of these, or none, when one of them does not go; how many.
    async fn issue_together(&self, worked: Vec<(Invoice, Worked)>) -> Result<usize, Error> {
        let mut tx = self.store.begin(Scope::Job(JOB)).await?;
        match self.issue_in(&mut tx, Actor::Job(JOB), worked).await {
            Ok(Some(issued)) => {
                tx.commit().await?;
                Ok(issued.len())
            }
            Err(error @ Error::Store(_)) => Err(error),
            // What it has written, a number among it, is not kept.
            Ok(None) | Err(_) => Ok(0),
        }
    }

    /// Whether this issued it; `None` when it cannot be, which is said.
    async fn finalize_alone(&self, id: InvoiceId, mark: Option<MarkRef>) -> Result<Option<bool>, Error> {
        match self.finalize_once(Scope::Job(JOB), Actor::Job(JOB), id, mark).await {
            Ok((_, new)) => Ok(Some(new)),
            Err(error @ Error::Store(_)) => Err(error),
            Err(error) => {
                tracing::warn!(invoice_id = %id, error = chain(&error), "an invoice could not be issued");
                Ok(None)
            }
        }
    }
}

/// How many there are with some more; says so when there are many.
fn said(what: &str, before: usize, more: usize) -> usize {
    let now = before + more;
    if now / SAID > before / SAID {
        tracing::info!(count = now, "invoices are being {what}");
    }
    now
}
