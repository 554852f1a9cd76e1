//! Invoices in their forms (`forms`): an issued document, and what became of it since, as a reader is to see it.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{
    address::AddressBody,
    cadence::Zone,
    error::Error,
    forms::{
        self, Deduction, Document, Form, FormError, Kind, Line, Party, Period, Price, Reference, Rendered, Tax, TierRow,
    },
    invoice::{Invoice, InvoiceState},
    invoice_document::{InvoiceDocument, InvoiceLineBody, InvoicePeriod, InvoiceTier},
    service::Billing,
    settling::{Settlement, read_document, zone_of},
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
        let document = shown(invoice, &settlement, &self.config.entity)?;
        let fonts = Arc::clone(&self.fonts);
        let rendered = spawn_blocking(move || forms::render(&document, form, &fonts)).await;
        // Rendering does not panic; this is the end of the runtime.
        rendered.map_err(|_| Error::Stopped)
    }
}

fn shown(invoice: &Invoice, settlement: &Settlement, entity: &str) -> Result<Document, Error> {
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
    for credit in &body.credits {
        credits.push(take("prepaid credit".to_owned(), money(&credit.amount)?));
    }
    for note in settlement.credit_notes.iter().filter(|note| note.applied.minor() != 0) {
        credits.push(take(format!("credit note {}", note.number), note.applied));
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
    let lines = body.lines.iter().map(|line| shown_line(line, &body, &zone));
    let adjusts = body.lines.iter().find_map(|line| line.adjusts.as_ref());
    let kind = match (&invoice.issue, &invoice.state) {
        (None, _) => Kind::Draft,
        (_, InvoiceState::Void { .. }) => Kind::Void,
        _ => Kind::Invoice,
    };
    let notes = match &invoice.state {
        InvoiceState::Void { reason, .. } => vec![format!("Void: {reason}")],
        _ => Vec::new(),
    };
    Ok(Document {
        kind,
        number: invoice.issue.as_ref().map(|issue| issue.number.clone()),
        issued: invoice.issue.as_ref().map(|issue| day(issue.at)),
        due: invoice.issue.as_ref().map(|issue| day(issue.due_at)),
        period: Some(period(body.period, &zone)),
        time_zone: zone.name().to_owned(),
        seller: Party {
            name: invoice.issue.as_ref().map_or(entity, |issue| &issue.entity).to_owned(),
            ..Party::default()
        },
        buyer: Party {
            name: body.customer.name.clone(),
            address: address(&body.customer.billing_address),
            tax_id: body.customer.tax_id.clone(),
            language: None,
        },
        currency,
        lines: lines.collect::<Result<_, Error>>()?,
        subtotal: money(&body.subtotal)?,
        discounts: discounts.collect::<Result<_, Error>>()?,
        taxes: taxes.collect::<Result<_, Error>>()?,
        total: money(&body.total)?,
        credits,
        payments,
        amount_due: Money::from_minor(due, currency),
        notes,
        adjusts: adjusts.map(|adjusted| Reference { number: adjusted.number.clone(), issued: None }),
    })
}

fn shown_line(line: &InvoiceLineBody, whole: &InvoiceDocument, zone: &Zone) -> Result<Line, Error> {
    let what = match line.kind.as_str() {
        "base" => format!("{} plan", line.tier),
        "commitment" => format!("{} plan, up to the commitment", line.tier),
        _ => line.meter.clone(),
    };
    let description = match &line.adjusts {
        Some(adjusted) => format!("{what}, correction of {}", adjusted.number),
        None => what,
    };
    let is_usage = !matches!(line.kind.as_str(), "base" | "commitment");
    let mut above = Some(Quantity::ZERO);
    let tier = |tier: &InvoiceTier| {
        let row = TierRow {
            above,
            up_to: tier.up_to,
            quantity: tier.quantity,
            unit: tier.unit,
            flat: tier.flat,
            amount: tier.amount,
        };
        above = tier.up_to;
        row
    };
    Ok(Line {
        description,
        period: (line.period != whole.period).then(|| period(line.period, zone)),
        quantity: is_usage.then_some(line.quantity),
        unit: None,
        price: is_usage.then(|| Price::Model(line.model.replace('_', " "))),
        exact: line.unrounded,
        amount: money(&line.amount, whole.currency)?,
        tiers: line.tiers.iter().map(tier).collect(),
    })
}

fn money(text: &str, currency: Currency) -> Result<Money, Error> {
    let exact: Quantity =
        text.parse().map_err(|_| StoreError::Corrupt(format!("an amount of an invoice's document: {text}")))?;
    Ok(Money::from_exact(exact, currency)?)
}

fn period(period: InvoicePeriod, zone: &Zone) -> Period {
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
