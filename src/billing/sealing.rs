//! What is kept with an invoice when it is issued: what it was worked out from, where the journals stood, and its seal. And the
//! check that all of it is as it was.
//!
//! Journals have their chain of hashes; the hash of the last frame that was counted moves with the totals, in one transaction.
//! Their segments are removed once they are counted, so a mark, every hour in which something is issued, is what stays of
//! them. Counting does nothing for it.

use serde_json::Value;

use super::{
    cadence::Cadence,
    charges::BilledByKey,
    error::Error,
    evidence::{
        AdjustedEvidence, CouponEvidence, CreditEvidence, Evidence, MarkRef, PeriodEvidence, PlanEvidence, plans_of,
    },
    export::{ExportedInvoice, JournalPosition, Mark},
    invoice::{Adjusted, Coupon, Credit, Invoice, Issue, Proration, TaxRate},
    invoice_document::{AdjustedInvoice, InvoiceDocument},
    invoicing::JOB,
    service::Billing,
    span_bill::SpanUsage,
};
use crate::{
    kernel::{
        Currency, Digest, Period, Timestamp,
        canonical::{canonical, hex},
    },
    metering::Difference,
    store::{Scope, StoreError},
};

/// A mark is used for so long, in seconds. It says where journals stood at least; an older one is as true.
const MARK_S: i64 = 3_600;
/// Invoices and marks that are checked in one query.
const PAGE: i64 = 500;

/// What was used in a period, by which cadence it is one, by what its bases are split, and what was billed of it before.
pub(super) struct Used {
    pub(super) period: Period,
    pub(super) cadence: Cadence,
    pub(super) proration: Proration,
    pub(super) spans: Vec<SpanUsage>,
    pub(super) billed: BilledByKey,
}

/// What an invoice is worked out from.
pub(super) struct Basis<'a> {
    pub(super) at: Timestamp,
    pub(super) currency: Currency,
    pub(super) own: &'a Used,
    pub(super) adjusted: &'a [(Adjusted, Used)],
    pub(super) tax_rates: &'a [TaxRate],
    pub(super) coupons: &'a [Coupon],
    pub(super) credits: &'a [Credit],
}

impl Billing {
    /// Where the journals stand, or stood within the last hour; `None` when nothing was ever counted.
    pub(super) async fn mark(&self) -> Result<Option<MarkRef>, Error> {
        let now = self.clock.now();
        let reference = |(serial, _, hash): (i64, Timestamp, Digest)| MarkRef { serial, hash };
        let last = self.store.read(Scope::Job(JOB)).await?.journal_mark_last().await?;
        if last.is_some_and(|(_, at, _)| (0..MARK_S * 1_000_000).contains(&now.micros_since(at))) {
            return Ok(last.map(reference));
        }
        let mut tx = self.store.begin(Scope::Job(JOB)).await?;
        let moved = tx.journals_moved().await?;
        if moved.is_empty() {
            return Ok(last.map(reference));
        }
        let journals = moved.iter().map(|(journal, hash)| JournalPosition { journal: *journal, hash: hex(hash) });
        let (serial, before) = last.map_or((1, None), |(serial, _, hash)| (serial + 1, Some(hash)));
        let mark = Mark::new(serial, now, before, journals.collect()).map_err(unwritten)?;
        if !tx.journal_mark_insert(&mark).await? {
            drop(tx);
            // Another node was first.
            let last = self.store.read(Scope::Job(JOB)).await?.journal_mark_last().await?;
            return Ok(last.map(reference));
        }
        for (journal, hash) in &moved {
            tx.journal_marked(*journal, hash).await?;
        }
        tx.commit().await?;
        Ok(Some(MarkRef { serial, hash: mark.hash }))
    }

    /// What an invoice was worked out from, as it is kept; where it stands is filled in when it is issued.
    pub(super) fn evidence(&self, basis: &Basis<'_>) -> Result<Evidence, Error> {
        let Basis { at, currency, own, adjusted, tax_rates, coupons, credits } = basis;
        let of_period = |used: &Used| {
            let Used { period, cadence, spans, billed, proration } = used;
            let proration = (*proration != own.proration).then(|| proration.name().to_owned());
            PeriodEvidence { proration, ..PeriodEvidence::new((*period, cadence), spans, billed, *currency) }
        };
        let earlier = adjusted.iter().map(|(of, used)| AdjustedEvidence {
            invoice: AdjustedInvoice { invoice_id: of.invoice, number: of.number.clone(), period: of.period.into() },
            usage: of_period(used),
        });
        let spans = std::iter::once(&own.spans).chain(adjusted.iter().map(|(_, used)| &used.spans)).flatten();
        let plans = plans_of(spans).into_iter().map(|(tier, version)| {
            let digest = self.plan_digest(&tier, version).ok_or_else(|| Error::UnknownTier(tier.clone()))?;
            Ok(PlanEvidence { tier: tier.to_string(), version, digest })
        });
        Ok(Evidence {
            worked_out_at: *at,
            before: None,
            journals: None,
            proration: own.proration.name().to_owned(),
            usage: of_period(own),
            adjusted: earlier.collect(),
            plans: plans.collect::<Result<_, Error>>()?,
            tax_rates: tax_rates.iter().map(Into::into).collect(),
            coupons: coupons.iter().filter(|coupon| coupon.holds()).map(CouponEvidence::new).collect(),
            credits: credits
                .iter()
                .filter(|credit| !credit.is_expired(*at) && credit.left() > 0)
                .map(CreditEvidence::new)
                .collect(),
        })
    }
}

/// Seals an invoice that is being issued, on top of the seal before it in its series. The evidence as it is to be kept, once the
/// invoice is issued indeed.
pub(super) fn sealed(
    (invoice, issue): (&Invoice, &mut Issue),
    previous: Option<Digest>,
    document: &InvoiceDocument,
    evidence: &Evidence,
) -> Result<String, Error> {
    let evidence = serde_json::to_value(evidence).map_err(unwritten)?;
    let document = serde_json::to_value(document).map_err(unwritten)?;
    let sealed = ExportedInvoice::new(invoice, issue, document);
    issue.seal = Some(sealed.seal(previous, &evidence).map_err(unwritten)?);
    canonical(&evidence).map_err(unwritten)
}

/// Documents are made of texts and whole numbers.
pub(super) fn unwritten(error: impl std::fmt::Display) -> Error {
    Error::Store(StoreError::Corrupt(format!("an invoice's evidence: {error}")))
}

/// Checks the seals of all series and the marks of the journals; of each, the first that does not fit is told. Whatever their
/// number, a page of them is in memory.
pub(super) async fn audit_seals(billing: &Billing, differences: &mut Vec<Difference>) -> Result<usize, Error> {
    let entities = billing.store.read(Scope::Job("doctor")).await?.invoice_entities().await?;
    let mut count = 0;
    for entity in entities {
        let (mut after, mut previous) = (0, None);
        'series: loop {
            let mut tx = billing.store.read(Scope::Job("doctor")).await?;
            let page = tx.invoices_in_series(&entity, after, PAGE).await?;
            drop(tx);
            let Some((last, _)) = page.last() else { break };
            after = last.issue.as_ref().map_or(i64::MAX, |issue| issue.serial);
            for (invoice, evidence) in &page {
                let Some(issue) = &invoice.issue else { continue };
                count += usize::from(issue.seal.is_some());
                if let Some((one, other)) = unfit(invoice, issue, evidence.as_deref(), previous) {
                    let of = format!("seal of invoice {} of {entity}", issue.number);
                    differences.push(Difference { of, one, other });
                    break 'series;
                }
                previous = issue.seal;
            }
        }
    }
    differences.extend(unfit_mark(billing).await?);
    Ok(count)
}

/// Why an invoice's seal does not fit after the one before it: what is there, and what must be.
fn unfit(
    invoice: &Invoice,
    issue: &Issue,
    evidence: Option<&str>,
    previous: Option<Digest>,
) -> Option<(String, String)> {
    let (seal, evidence) = match (issue.seal, evidence) {
        (Some(seal), Some(evidence)) => (seal, evidence),
        (None, None) if previous.is_none() => return None,
        (None, None) => return Some(("it has none".into(), "the one before it has".into())),
        (Some(_), None) => return Some(("it has a seal".into(), "it has no evidence".into())),
        (None, Some(_)) => return Some(("it has no seal".into(), "it has evidence".into())),
    };
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    let found = read(&invoice.document)
        .zip(read(evidence))
        .and_then(|(document, evidence)| ExportedInvoice::new(invoice, issue, document).seal(previous, &evidence).ok());
    let found = found.map_or_else(|| "cannot be read".to_owned(), |found| format!("come to {found}"));
    let fits = found == format!("come to {seal}");
    (!fits).then(|| (format!("it is {seal}"), format!("document, evidence and the seal before it {found}")))
}

async fn unfit_mark(billing: &Billing) -> Result<Option<Difference>, Error> {
    let mut last: Option<Mark> = None;
    loop {
        let after = last.as_ref().map_or(0, |mark| mark.serial);
        let marks = billing.store.read(Scope::Job("doctor")).await?.journal_marks(after, i64::MAX, PAGE).await?;
        if marks.is_empty() {
            return Ok(None);
        }
        for mark in marks {
            let before = last.as_ref().map(|last| last.hash);
            let again = Mark::new(mark.serial, mark.marked_at, before, mark.journals.clone()).map_err(unwritten)?;
            if again.hash != mark.hash {
                return Ok(Some(Difference {
                    of: format!("journal mark {}", mark.serial),
                    one: format!("its hash is {}", mark.hash),
                    other: format!("what it says and the mark before it come to {}", again.hash),
                }));
            }
            last = Some(mark);
        }
    }
}
