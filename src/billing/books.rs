//! What invoices of tenants are made of, but for usage: read of many at once, as of one moment.

use std::collections::{BTreeMap, HashMap};

use super::{
    charges::BilledByKey,
    error::Error,
    invoice::{Adjusted, Billed, Coupon, Credit, Invoice, InvoiceState, LineKey, Proration, Terms},
    running::proration_of,
    schedule::Schedule,
    terms::read_terms,
};
use crate::{
    billing::Account,
    kernel::{CalendarUnit, Digest, InvoiceId, Period, TenantId, TierName, Timestamp},
    store::{BookRow, StoreError, Tx},
};

/// Of so many invoices before, and of all whose period ended so many seconds before, what was used is worked out again for
/// each: whatever came between their issue and the time from which late usage is noted, which is the end of its month
/// (UTC) and a while. Of older ones, only of the months in which something was noted.
const LOOKED_BACK: usize = 2;
const LOOKED_BACK_S: i64 = 35 * 86_400;

/// Who is billed, by which periods, on which tiers.
pub(super) struct Standing {
    /// The account.
    pub(super) account: Account,
    /// Its periods.
    pub(super) schedule: Schedule,
    /// The tiers the tenant has had and since when, oldest first.
    pub(super) tiers: Vec<(Timestamp, TierName)>,
}

/// What is known of a tenant.
pub(super) struct Book {
    pub(super) standing: Standing,
    pub(super) revision: i64,
    pub(super) name: String,
    pub(super) terms: Terms,
    pub(super) coupons: Vec<Coupon>,
    pub(super) credits: Vec<Credit>,
    /// An instant in the first period without an invoice.
    next: Timestamp,
    /// The invoices that hold its periods, oldest first.
    invoices: Vec<Invoice>,
    /// Months in which something came late or was taken back.
    noted: Vec<Period>,
    /// What was billed of periods that somebody looks at, and how their bases were split, by when they begin.
    billed: BTreeMap<Timestamp, BilledByKey>,
    prorations: BTreeMap<Timestamp, Proration>,
}

/// What a tenant's next period is, if one is over.
pub(super) enum Next {
    /// It is, and has no invoice; and when the one after it is over.
    Over { period: Period, then: Option<Timestamp> },
    /// It is not, and when it is.
    Running { due: Option<Timestamp> },
}

/// The books of some tenants.
pub(super) struct Books(HashMap<TenantId, Book>);

impl Books {
    /// As they are now; nothing of who has no account.
    pub(super) async fn open(tx: &mut Tx, tenants: &[TenantId]) -> Result<Self, Error> {
        let rows = tx.book_rows(tenants).await?;
        let (mut cadences, mut tiers) = (tx.cadences_of(tenants).await?, tx.tiers_of(tenants).await?);
        let (mut coupons, mut credits) = (tx.coupons_of(tenants).await?, tx.credits_of(tenants).await?);
        let (mut invoices, noted) = (tx.invoices_of(tenants).await?, tx.adjusted_months_of(tenants).await?);
        let books = rows.into_iter().map(|BookRow { account, revision, next, terms, name }| {
            let tenant = account.tenant_id;
            let schedule = Schedule::new(cadences.remove(&tenant).unwrap_or_default());
            let months = noted.get(&tenant).into_iter().flatten();
            let book = Book {
                standing: Standing { account, schedule, tiers: tiers.remove(&tenant).unwrap_or_default() },
                revision,
                name,
                terms: read_terms(terms.as_deref())?,
                coupons: coupons.remove(&tenant).unwrap_or_default(),
                credits: credits.remove(&tenant).unwrap_or_default(),
                next,
                invoices: invoices.remove(&tenant).unwrap_or_default(),
                noted: months.map(|at| Period::containing(*at, CalendarUnit::Month)).collect(),
                billed: BTreeMap::new(),
                prorations: BTreeMap::new(),
            };
            Ok((tenant, book))
        });
        Ok(Self(books.collect::<Result<_, StoreError>>()?))
    }

    /// A tenant's.
    pub(super) fn of(&self, tenant: TenantId) -> Result<&Book, Error> {
        self.0.get(&tenant).ok_or(Error::NoAccount(tenant))
    }

    /// Reads what was billed of some periods, and of those before them that their invoices look back at.
    pub(super) async fn look_at(&mut self, tx: &mut Tx, periods: &[(TenantId, Period)]) -> Result<(), Error> {
        let mut wanted = Vec::with_capacity(periods.len());
        for (tenant, period) in periods {
            let Some(book) = self.0.get(tenant) else { continue };
            wanted.push((*tenant, period.from()));
            wanted.extend(book.looked_back_at(*period).map(|earlier| (*tenant, earlier.period.from())));
        }
        let books = &mut self.0;
        let corrupt = || StoreError::Corrupt("sums of invoice_lines".into());
        let take = |(tenant, from): (TenantId, Timestamp), key: LineKey, more: Billed| {
            let Some(book) = books.get_mut(&tenant) else { return Ok(()) };
            let sums = book.billed.entry(from).or_default();
            match sums.get_mut(&key) {
                Some(sum) => sum.add(&more).ok_or_else(corrupt)?,
                None => drop(sums.insert(key, more)),
            }
            Ok(())
        };
        tx.billed_of(&wanted, take).await?;
        let books = &mut self.0;
        let take = |(tenant, from): (TenantId, Timestamp), evidence: &str| {
            if let Some((book, proration)) = books.get_mut(&tenant).zip(proration_of(evidence)) {
                book.prorations.insert(from, proration);
            }
            Ok(())
        };
        Ok(tx.evidence_of_periods(&wanted, take).await?)
    }
}

impl Book {
    /// What the next period is.
    pub(super) fn next(&self, now: Timestamp) -> Next {
        let Standing { account, schedule, .. } = &self.standing;
        let ends = |next| {
            let is_open = account.closed_at.is_none_or(|closed_at| next <= closed_at);
            is_open.then(|| schedule.containing(next))
        };
        match ends(self.next) {
            Some(period) if period.to() <= now => Next::Over { period, then: ends(period.to()).map(Period::to) },
            running => Next::Running { due: running.map(Period::to) },
        }
    }

    /// What was billed of a period that is looked at.
    pub(super) fn billed(&self, period: Period) -> BilledByKey {
        self.billed.get(&period.from()).cloned().unwrap_or_default()
    }

    /// How the bases of a period that is looked at were split, if its invoice says so.
    pub(super) fn proration(&self, period: Period) -> Option<Proration> {
        self.prorations.get(&period.from()).copied()
    }

    /// The invoices of before a period.
    fn before(&self, period: Period) -> &[Invoice] {
        let end = self.invoices.partition_point(|invoice| invoice.period.from() < period.from());
        &self.invoices[..end]
    }

    /// A draft of before a period.
    pub(super) fn earlier_draft(&self, period: Period) -> Option<InvoiceId> {
        self.before(period).iter().find(|earlier| earlier.state == InvoiceState::Draft).map(|draft| draft.id)
    }

    /// The seal of the last invoice of before a period.
    pub(super) fn seal_before(&self, period: Period) -> Option<Digest> {
        self.before(period).iter().rev().find_map(|earlier| earlier.issue.as_ref()?.seal)
    }

    /// The issued invoices of before a period whose usage may have changed since.
    fn looked_back_at(&self, period: Period) -> impl Iterator<Item = &Invoice> {
        let earlier = self.before(period);
        let recent = earlier.len().saturating_sub(LOOKED_BACK);
        earlier.iter().enumerate().filter_map(move |(place, invoice)| {
            let is_recent = place >= recent || invoice.period.to() > period.from().plus_secs(-LOOKED_BACK_S);
            let noted = || self.noted.iter().any(|month| invoice.period.intersect(*month).is_some());
            (invoice.issue.is_some() && (is_recent || noted())).then_some(invoice)
        })
    }

    /// The periods before one whose usage may have changed since it was billed, what was billed of them, and whether their
    /// invoice was taken back: such a period is billed no more, so that what later invoices had adjusted of it goes back, too.
    pub(super) fn looked_back(&self, period: Period) -> Vec<(Adjusted, BilledByKey, bool)> {
        let found = self.looked_back_at(period).filter_map(|invoice| {
            let number = invoice.issue.as_ref()?.number.clone();
            let is_void = matches!(invoice.state, InvoiceState::Void { .. });
            let of = Adjusted { invoice: invoice.id, number, period: invoice.period };
            Some((of, self.billed(invoice.period), is_void))
        });
        found.collect()
    }
}
