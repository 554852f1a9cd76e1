//! Closing periods for everybody whose is over: drafts, and their issue once late usage had its time.
//!
//! A few hundred tenants are done together: their usage is read as of one moment, and what comes of it is written in one
//! transaction, while the next ones are being worked out. What does not fit in (somebody else came first, a period more is
//! over, something is wrong with one tenant) is done by itself afterwards. So a pass that dies leaves what was committed, and the next one, of
//! this node or of any other, finds the rest.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    error::Error,
    evidence::MarkRef,
    invoice::{Invoice, InvoiceState},
    invoicing::{ATTEMPTS, JOB, Worked, written},
    running::Detail,
    service::Billing,
};
use crate::{
    kernel::{Actor, EventName, InvoiceId, Money, Period, TenantId, Timestamp, fault::chain},
    store::{DueAccount, Scope, Tx},
};

/// Accounts that are looked at in one query.
const PAGE: i64 = 2_000;
/// Tenants whose invoices are written in one transaction: others who write wait for it.
const TOGETHER: usize = 100;
/// So many are being worked out while others are written.
const BESIDE: usize = 2;
/// It is said how far a pass is when it has made so many more.
const SAID: usize = 10_000;

/// A draft to be made.
struct Planned {
    invoice: Invoice,
    revision: i64,
    /// When the next period is over.
    then: Option<Timestamp>,
}

/// What a tenant's next period is, if one is over.
enum Next {
    Over { revision: i64, period: Period, then: Option<Timestamp> },
    Running { revision: i64, due: Option<Timestamp> },
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
        let (mut made, mut planned, mut alone) = (0, Vec::new(), Vec::new());
        let (then, permit) = self.at_this_moment().await?;
        for DueAccount { tenant, .. } in accounts {
            match then.planned(tenant, now).await {
                Ok(Some(plan)) => planned.push(plan),
                Err(error @ Error::Store(_)) => return Err(error),
                // Nothing to be made, or an error that is said below.
                Ok(None) | Err(_) => alone.push(tenant),
            }
        }
        drop((then, permit));
        let mut tx = self.store.begin(Scope::Job(JOB)).await?;
        for plan in &planned {
            let tenant = plan.invoice.tenant_id;
            let drafted = self.draft_in(&mut tx, plan).await?;
            made += usize::from(drafted);
            if !drafted || plan.then.is_some_and(|then| then <= now) {
                alone.push(tenant);
            }
        }
        tx.commit().await?;
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
            let Some(plan) = self.planned(tenant, now).await? else {
                let (revision, due) = match self.next(tenant, now).await? {
                    Next::Running { revision, due } => (revision, due),
                    Next::Over { .. } => continue,
                };
                let mut tx = self.store.begin(Scope::Job(JOB)).await?;
                tx.account_due_set(tenant, revision, due).await?;
                tx.commit().await?;
                break;
            };
            let mut tx = self.store.begin(Scope::Job(JOB)).await?;
            if !self.draft_in(&mut tx, &plan).await? {
                // Another node did, or something changed: it is looked again.
                failed += 1;
                continue;
            }
            tx.commit().await?;
            made += 1;
            if plan.then.is_none_or(|then| now < then) {
                break;
            }
        }
        Ok(made)
    }

    async fn next(&self, tenant: TenantId, now: Timestamp) -> Result<Next, Error> {
        let mut tx = self.store.read(Scope::Job(JOB)).await?;
        let progress = tx.billing_progress(tenant).await?.ok_or(Error::NoAccount(tenant))?;
        let schedule = tx.billing_schedule(tenant).await?;
        drop(tx);
        let revision = progress.revision;
        let ends = |next| {
            let is_open = progress.closed_at.is_none_or(|closed_at| next <= closed_at);
            is_open.then(|| schedule.containing(next))
        };
        Ok(match ends(progress.next) {
            Some(period) if period.to() <= now => {
                Next::Over { revision, period, then: ends(period.to()).map(Period::to) }
            }
            running => Next::Running { revision, due: running.map(Period::to) },
        })
    }

    async fn planned(&self, tenant: TenantId, now: Timestamp) -> Result<Option<Planned>, Error> {
        let Next::Over { revision, period, then } = self.next(tenant, now).await? else { return Ok(None) };
        let worked = self.work_out(Scope::Job(JOB), tenant, period, Detail::Totals).await?;
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
        Ok(Some(Planned { invoice, revision, then }))
    }

    /// Makes a draft within the caller's transaction; `false`, and nothing is written, when somebody else came first.
    async fn draft_in(&self, tx: &mut Tx, plan: &Planned) -> Result<bool, Error> {
        let Planned { invoice, revision, then } = plan;
        if !tx.account_billed_through(invoice.tenant_id, (*revision, invoice.period.to()), *then).await? {
            return Ok(false);
        }
        let made = tx.invoice_insert(invoice).await?;
        if made {
            self.tell_of(tx, EventName::InvoiceDrafted, invoice).await?;
        }
        Ok(made)
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
        let mut worked = Vec::new();
        let (then, permit) = self.at_this_moment().await?;
        for (_, id) in &drafts {
            let invoice = then.invoice(Scope::Job(JOB), *id).await?;
            if invoice.state != InvoiceState::Draft {
                continue;
            }
            match then.work_out_to_issue(Scope::Job(JOB), &invoice, mark).await {
                Ok(found) => worked.push((invoice, found)),
                Err(error @ Error::Store(_)) => return Err(error),
                // It is said below.
                Err(_) => {}
            }
        }
        drop((then, permit));
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
        let count = worked.len();
        let mut tx = self.store.begin(Scope::Job(JOB)).await?;
        // In the order of tenants and before the series, as everybody does: nobody waits for who waits for them.
        for (invoice, worked) in &worked {
            if !tx.account_step(invoice.tenant_id, worked.revision).await? {
                return Ok(0);
            }
        }
        for (invoice, worked) in worked {
            match self.issue_in(&mut tx, Actor::Job(JOB), invoice, worked).await {
                Ok(Some(_)) => {}
                Err(error @ Error::Store(_)) => return Err(error),
                // What it has written, a number among it, is not kept.
                Ok(None) | Err(_) => return Ok(0),
            }
        }
        tx.commit().await?;
        Ok(count)
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
