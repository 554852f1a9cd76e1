//! Whether invoices agree with themselves, with each other and with the ledger. Changes nothing.
//!
//! Per meter that adds up: all that was metered is on invoices, is still to be billed, or was on an invoice that was taken
//! back for good. Per invoice: its document adds up, and is what the books say was billed, and what was paid and credited of it
//! is what payments and credit notes come to. Per entity: numbers have no gaps,
//! and each seal is that of the document, its evidence and the seal before it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    charges::BilledByKey,
    error::Error,
    invoice::{Invoice, InvoiceState},
    service::Billing,
    settling::{minor, read_document},
};
use crate::{
    kernel::{CalendarUnit, PageRequest, Period, Quantity, QuantityError, TenantId, Timestamp},
    metering::{Difference, MeterKey},
    store::{InvoiceFilter, Scope},
};

/// Where what was metered of a meter is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// All of it.
    pub metered: Quantity,
    /// On invoices that hold.
    pub billed: Quantity,
    /// Not on any: the period runs, its invoice is a draft, it came late, or its plan has no price for it.
    pub unbilled: Quantity,
    /// On invoices that were taken back for good.
    pub voided: Quantity,
}

impl Balance {
    /// Both.
    pub fn and(self, more: Self) -> Result<Self, QuantityError> {
        Ok(Self {
            metered: self.metered.add(more.metered)?,
            billed: self.billed.add(more.billed)?,
            unbilled: self.unbilled.add(more.unbilled)?,
            voided: self.voided.add(more.voided)?,
        })
    }

    /// Whether nothing is lost and nothing is there twice.
    pub fn agrees(self) -> bool {
        let sum = self.billed.add(self.unbilled).and_then(|sum| sum.add(self.voided));
        sum == Ok(self.metered)
    }
}

/// Usage that was counted so shortly before an invoice was issued may not be in it yet, in seconds; nor is it noted while an
/// invoice is issued that soon after a month was closed.
const MARGIN_S: i64 = 3_600;

/// Of so many sums of what came in it is said that they differ.
const MOST_SETTLEMENTS: i64 = 100;

/// What invoices have of a tenant's period.
pub(super) struct Invoiced {
    period: Period,
    billed: BilledByKey,
    is_void: bool,
    /// If all was billed that was used by then, what was noted as late since, by meter and month.
    noted: Option<Vec<(MeterKey, Timestamp)>>,
}

/// What a period's bill has of a meter, in all, and of it what has a price.
pub(super) struct OfPeriod {
    pub(super) metered: Quantity,
    pub(super) priced: Quantity,
    pub(super) unpriced: Quantity,
}

impl Invoiced {
    /// Reads it.
    pub(super) async fn of(billing: &Billing, tenant: TenantId, period: Period) -> Result<Self, Error> {
        let mut tx = billing.store.read(Scope::Job("doctor")).await?;
        let mut invoices = tx.invoices_before(tenant, Timestamp::MAX).await?;
        invoices.retain(|invoice| period.from() <= invoice.period.from());
        let holder = invoices.iter().find(|invoice| invoice.period == period);
        let is_void = holder.is_some_and(|invoice| matches!(invoice.state, InvoiceState::Void { .. }));
        let noted = match holder.and_then(|_| settled(billing, period, &invoices)) {
            Some(at) => Some(tx.adjusted_since(tenant, at.plus_secs(-MARGIN_S)).await?),
            None => None,
        };
        Ok(Self { period, billed: tx.billed(tenant, period.from()).await?, is_void, noted })
    }

    /// Where a period's usage of a meter is.
    pub(super) fn balance(&self, meter: &MeterKey, of_period: &OfPeriod) -> Result<Balance, QuantityError> {
        let (mut billed, mut seen) = (Quantity::ZERO, BTreeSet::new());
        for (key, sum) in &self.billed {
            let is_usage = key.meter == meter.as_str() && key.model != "flat";
            // Several prices of a meter bill the same usage.
            if is_usage && seen.insert((key.from, key.to, &key.tier, key.version)) {
                billed = billed.add(sum.quantity)?;
            }
        }
        let rest = of_period.priced.sub(billed)?.add(of_period.unpriced)?;
        let (unbilled, voided) = if self.is_void { (Quantity::ZERO, rest) } else { (rest, Quantity::ZERO) };
        Ok(Balance { metered: of_period.metered, billed, unbilled, voided })
    }

    /// What must be on invoices: all that has a price, or nothing of a period whose invoice was taken back. `None` while the
    /// next invoice may have to make up for something.
    pub(super) fn due(&self, meter: &MeterKey, of_period: &OfPeriod) -> Option<Quantity> {
        let is_late = |(of, month): &(MeterKey, Timestamp)| {
            of == meter && Period::containing(*month, CalendarUnit::Month).intersect(self.period).is_some()
        };
        let is_settled = self.noted.as_ref().is_some_and(|noted| !noted.iter().any(is_late));
        is_settled.then_some(if self.is_void { Quantity::ZERO } else { of_period.priced })
    }
}

/// When a period was billed with all that was used by then: when the newest of its invoice and the later ones was issued, if
/// the period's months were closed by then, so that whatever came since is noted. `None` while one of them is still to be
/// issued anew, or was taken back since.
fn settled(billing: &Billing, period: Period, invoices: &[Invoice]) -> Option<Timestamp> {
    let held = invoices.iter().filter(|invoice| !matches!(invoice.state, InvoiceState::Void { .. }));
    let (at, newest) = held.filter_map(|invoice| Some((invoice.issue.as_ref()?.at, invoice.period.from()))).max()?;
    let is_open = |invoice: &Invoice| match invoice.state {
        InvoiceState::Draft => invoice.period.from() < newest,
        InvoiceState::Void { at: voided, .. } => voided >= at,
        _ => false,
    };
    let month = Period::containing(period.to().plus_secs(-1), CalendarUnit::Month);
    let closed = month.to().plus_secs(billing.config.late_after_s + MARGIN_S);
    // One that was issued while this is looked at may have usage that is not in what is looked at.
    let is_settled = closed <= at && at <= billing.now() && !invoices.iter().any(is_open);
    is_settled.then_some(at)
}

/// Looks at every invoice; how many there are.
pub(super) async fn audit_invoices(billing: &Billing, differences: &mut Vec<Difference>) -> Result<usize, Error> {
    let mut serials: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let (mut count, mut after) = (0, None);
    while let Some(page) = PageRequest::new(Some(PageRequest::MAX_LIMIT), after) {
        let found = billing.invoices(Scope::Job("doctor"), InvoiceFilter::default(), page).await?;
        for invoice in &found.items {
            count += 1;
            if let Some(issue) = &invoice.issue {
                serials.entry(issue.entity.clone()).or_default().push(issue.serial);
                differences.extend(check(billing, invoice).await?);
            }
        }
        after = found.next_cursor;
        if after.is_none() {
            break;
        }
    }
    for (entity, mut serials) in serials {
        serials.sort_unstable();
        let gap = (1..).zip(&serials).find(|(expected, found)| expected != *found);
        differences.extend(gap.map(|(expected, found)| Difference {
            of: format!("numbers of invoices of {entity}"),
            one: format!("{expected} is missing"),
            other: format!("{found} is there"),
        }));
    }
    let settled = billing.store.read(Scope::Job("doctor")).await?.settlements_that_differ(MOST_SETTLEMENTS).await?;
    differences.extend(settled.into_iter().map(|(of, said, found)| Difference {
        of,
        one: format!("it says {said} in minor units"),
        other: format!("they come to {found}"),
    }));
    super::sealing::audit_seals(billing, differences).await?;
    Ok(count)
}

async fn check(billing: &Billing, invoice: &Invoice) -> Result<Option<Difference>, Error> {
    let differs = |one: String, other: String| {
        Some(Difference { of: format!("invoice {} of tenant {}", invoice.name(), invoice.tenant_id), one, other })
    };
    let document = match read_document(&invoice.document) {
        Ok(document) => document,
        Err(error) => return Ok(differs(error.to_string(), "its document must be readable".into())),
    };
    let currency = document.currency;
    let sum = |amounts: Vec<&String>| {
        amounts.into_iter().try_fold(0_i64, |sum, amount| Ok::<_, Error>(sum.saturating_add(minor(amount, currency)?)))
    };
    let lines = sum(document.lines.iter().map(|line| &line.amount).collect())?;
    let discounts = sum(document.discounts.iter().map(|discount| &discount.amount).collect())?;
    let taxes = sum(document.taxes.iter().map(|tax| &tax.amount).collect())?;
    let credits = sum(document.credits.iter().map(|credit| &credit.amount).collect())?;
    let (subtotal, total) = (minor(&document.subtotal, currency)?, minor(&document.total, currency)?);
    if (lines, lines - discounts + taxes) != (subtotal, total) || (total - credits).max(0) != invoice.due.minor() {
        let one = format!("lines {lines}, discounts {discounts}, taxes {taxes}, credits {credits}");
        return Ok(differs(one, format!("subtotal {subtotal}, total {total}, due {}", invoice.due.minor())));
    }
    let booked = billing.store.read(Scope::Job("doctor")).await?.invoice_booked(invoice.id).await?;
    if booked != lines {
        return Ok(differs(format!("its lines are {lines}"), format!("{booked} is booked")));
    }
    if invoice.outstanding().minor() < 0 {
        return Ok(differs(format!("{} is owed", invoice.due), "more than that came in".into()));
    }
    Ok(None)
}
