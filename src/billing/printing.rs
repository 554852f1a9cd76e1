//! Invoices in their forms (`forms`): an issued document, and what became of it since, as a reader is to see it.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{
    address::AddressBody,
    cadence::Zone,
    error::Error,
    forms::{self, Deduction, Document, Form, FormError, Kind, Line, Party, Period, Reference, Rendered, Tax},
    invoice::{Invoice, InvoiceState},
    invoice_document::{InvoiceDocument, InvoiceLineBody, InvoicePeriod, InvoiceSeller},
    model::Price,
    printing_lines,
    rules::RatingError,
    service::Billing,
    settling::{Settlement, read_document, zone_of},
    spans::Catalogue,
};
use crate::{
    kernel::{Currency, Money, Quantity, Timestamp},
    store::{Scope, StoreError},
};

impl Billing {
    /// An invoice in a form, if it can be had in that.
    pub async fn printed(
        &self,
        scope: Scope,
        invoice: &Invoice,
        form: Form,
    ) -> Result<Result<Rendered, FormError>, Error> {
        let settlement = self.settlement(scope, invoice.id).await?;
        let document = shown(invoice, &settlement, (&self.config.entity, &self.catalogue()))?;
        let fonts = Arc::clone(&self.fonts);
        let rendered = spawn_blocking(move || forms::render(&document, form, &fonts)).await;
        // Rendering does not panic; this is the end of the runtime.
        rendered.map_err(|_| Error::Stopped)
    }
}

fn shown(
    invoice: &Invoice,
    settlement: &Settlement,
    (entity, catalogue): (&str, &Catalogue),
) -> Result<Document, Error> {
    let body = read_document(&invoice.document)?;
    let currency = body.currency;
    let zone = zone_of(&body)?;
    let day = |at: Timestamp| zone.day(at);
    let money = |text: &str| money(text, currency);
    let mut due = money(&body.total)?.minor();
    let mut credits = Vec::new();
    let mut take = |name: String, amount: Money| {
        due -= amount.minor();
        Deduction { name, amount }
    };
    let is_void = matches!(invoice.state, InvoiceState::Void { .. });
    // What a void one drew was given back.
    for credit in body.credits.iter().filter(|_| !is_void) {
        credits.push(take("prepaid credit".to_owned(), money(&credit.amount)?));
    }
    for note in settlement.credit_notes.iter().filter(|note| note.applied.minor() != 0) {
        credits.push(take(format!("credit note {}", note.number), note.applied));
    }
    let total = money(&body.total)?;
    if total.minor() < 0 && !is_void {
        credits.push(take("kept as a prepaid credit".to_owned(), total));
    }
    let paid = settlement.payments.iter().map(|payment| {
        due -= payment.amount.minor();
        forms::Payment { date: Some(day(payment.received_at)), name: payment.reference.clone(), amount: payment.amount }
    });
    let payments: Vec<forms::Payment> = paid.collect();
    let discounts = body
        .discounts
        .iter()
        .map(|discount| Ok(Deduction { name: discount.name.clone(), amount: money(&discount.amount)? }));
    let taxes = body
        .taxes
        .iter()
        .map(|tax| Ok(Tax { name: tax.name.clone(), percent: tax.percent, amount: money(&tax.amount)? }));
    let lines = body.lines.iter().map(|line| shown_line(line, &body, &zone, catalogue));
    let adjusts = body.lines.iter().find_map(|line| line.adjusts.as_ref());
    let notes = match &invoice.state {
        InvoiceState::Void { reason, .. } => vec![format!("Void: {reason}")],
        _ => Vec::new(),
    };
    Ok(Document {
        kind: kind(invoice),
        number: invoice.issue.as_ref().map(|issue| issue.number.clone()),
        issued: invoice.issue.as_ref().map(|issue| day(issue.at)),
        due: invoice.issue.as_ref().map(|issue| day(issue.due_at)),
        period: Some(period(body.period, &zone)),
        time_zone: zone.name().to_owned(),
        seller: seller(body.seller.as_ref(), invoice.issue.as_ref().map_or(entity, |issue| &issue.entity)),
        buyer: buyer(&body),
        currency,
        lines: lines.collect::<Result<_, Error>>()?,
        subtotal: money(&body.subtotal)?,
        discounts: discounts.collect::<Result<_, Error>>()?,
        taxes: taxes.collect::<Result<_, Error>>()?,
        total: money(&body.total)?,
        credits,
        payments,
        amount_due: if is_void { Money::zero(currency) } else { Money::from_minor(due, currency) },
        notes,
        adjusts: adjusts.map(|adjusted| Reference { number: adjusted.number.clone(), issued: None }),
        how_to_pay: body.seller.as_ref().map(|seller| seller.payment_instructions.clone()).unwrap_or_default(),
        paid: match invoice.state {
            InvoiceState::Paid { at } => Some(day(at)),
            _ => None,
        },
    })
}

const fn kind(invoice: &Invoice) -> Kind {
    match (&invoice.issue, &invoice.state) {
        (None, _) => Kind::Draft,
        (_, InvoiceState::Void { .. }) => Kind::Void,
        _ => Kind::Invoice,
    }
}

fn shown_line(
    line: &InvoiceLineBody,
    whole: &InvoiceDocument,
    zone: &Zone,
    catalogue: &Catalogue,
) -> Result<Line, Error> {
    let price = price_of(line, catalogue);
    let inexact = |source| RatingError::Inexact { meter: line.meter.clone(), source };
    Ok(Line {
        description: printing_lines::description(line),
        period: (line.period != whole.period).then(|| period(line.period, zone)),
        quantity: printing_lines::is_usage(line).then_some(line.quantity),
        unit: None,
        price: printing_lines::price(line, price),
        exact: line.unrounded,
        amount: money(&line.amount, whole.currency)?,
        tiers: printing_lines::rows(line, price).map_err(inexact)?,
    })
}

/// The price that a line was rated by: a version of a plan never changes.
fn price_of<'c>(line: &InvoiceLineBody, catalogue: &'c Catalogue) -> Option<&'c Price> {
    let plan = &catalogue.version(&line.tier.parse().ok()?, line.price_version)?.plan;
    let mut of_meter =
        plan.prices.iter().filter(|price| price.meter.as_str() == line.meter && price.model.name() == line.model);
    // Two of a kind: the line does not say which.
    of_meter.next().filter(|_| of_meter.next().is_none())
}

/// The seller of a document, or as much as is known where none is noted.
pub(super) fn seller(seller: Option<&InvoiceSeller>, entity: &str) -> Party {
    let Some(seller) = seller else { return Party { name: entity.to_owned(), ..Party::default() } };
    Party {
        name: seller.name.clone(),
        address: seller.address.clone(),
        tax_id: seller.tax_id.clone(),
        registration: seller.registration.clone(),
        language: None,
    }
}

/// Whom a document is for.
pub(super) fn buyer(body: &InvoiceDocument) -> Party {
    Party {
        name: body.customer.name.clone(),
        address: address(&body.customer.billing_address),
        tax_id: body.customer.tax_id.clone(),
        registration: None,
        language: None,
    }
}

fn money(text: &str, currency: Currency) -> Result<Money, Error> {
    let exact: Quantity =
        text.parse().map_err(|_| StoreError::Corrupt(format!("an amount of an invoice's document: {text}")))?;
    Ok(Money::from_exact(exact, currency)?)
}

pub(super) fn period(period: InvoicePeriod, zone: &Zone) -> Period {
    Period { from: zone.shown(period.from), until: zone.shown(period.to) }
}

fn address(body: &AddressBody) -> Vec<String> {
    match body {
        AddressBody::Text(text) => text.lines().map(str::to_owned).collect(),
        AddressBody::Lines(lines) => {
            let city = [&lines.postal_code, &lines.city].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
            let city = (!city.is_empty()).then_some(city);
            let all = [&lines.line1, &lines.line2, &city, &lines.region, &lines.country];
            all.into_iter().flatten().cloned().collect()
        }
    }
}
