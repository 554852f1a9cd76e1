//! How a line of an invoice came about: which days have the usage, and the arithmetic, step by step.

use super::{
    error::Error,
    invoice_document::{InvoiceDocument, InvoiceLineBody},
    model::{Price, PriceModel},
    service::Billing,
    settling::read_document,
};
use crate::{
    kernel::{CalendarUnit, InvoiceId, Period, Quantity, Timestamp},
    metering::MeterKey,
    store::Scope,
};

/// How a line came about.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The line, as it was issued.
    pub line: InvoiceLineBody,
    /// What each day of it has now.
    pub windows: Vec<(Period, Quantity)>,
    /// What its part of the period has now, in all.
    pub metered: Quantity,
    /// The arithmetic, in words.
    pub steps: Vec<String>,
}

impl Billing {
    /// Explains a line, counted from 1.
    pub async fn explain(&self, scope: Scope, id: InvoiceId, number: usize) -> Result<Explanation, Error> {
        let invoice = self.invoice(scope, id).await?;
        let document: InvoiceDocument = read_document(&invoice.document)?;
        let line = number.checked_sub(1).and_then(|place| document.lines.into_iter().nth(place));
        let line = line.ok_or(Error::UnknownLine(id, number))?;
        let (mut windows, mut metered) = (Vec::new(), line.quantity);
        let part = Period::new(line.period.from, line.period.to).ok();
        if let (Some(part), Ok(meter)) = (part, line.meter.parse::<MeterKey>())
            && line.model != "flat"
        {
            for day in days(part) {
                let quantity = self.usage().total(scope, invoice.tenant_id, &meter, day).await?;
                if !quantity.is_zero() {
                    windows.push((day, quantity));
                }
            }
            metered = self.usage().total(scope, invoice.tenant_id, &meter, part).await?;
        }
        let steps = self.steps(&line);
        Ok(Explanation { line, windows, metered, steps })
    }

    fn steps(&self, line: &InvoiceLineBody) -> Vec<String> {
        let catalogue = self.catalogue();
        let price = line.tier.parse().ok().and_then(|tier| {
            let plan = catalogue.version(&tier, line.price_version)?;
            let of_line = |price: &&Price| price.meter.as_str() == line.meter && price.model.name() == line.model;
            plan.plan.prices.iter().find(of_line).cloned()
        });
        let mut steps = Vec::new();
        if let Some(adjusted) = &line.adjusts {
            let billed = line.already.unwrap_or_default();
            steps.push(format!("{billed} was billed of this part by invoice {} and later ones", adjusted.number));
            steps.push(format!("what the part comes to now, less that, is {} for {}", line.unrounded, line.quantity));
        } else if let Some(price) = &price {
            steps.extend(arithmetic(price, line));
        }
        steps.push(format!("{} rounds to {}", line.unrounded, line.amount));
        steps
    }
}

fn arithmetic(price: &Price, line: &InvoiceLineBody) -> Vec<String> {
    let mut steps = Vec::new();
    if let Some(already) = line.already {
        steps.push(format!("{already} was used before in this period: the line is what {} more adds", line.quantity));
    }
    if let Some(included) = price.included {
        steps.push(format!("the first {included} of the period cost nothing"));
    }
    for tier in &line.tiers {
        let up_to = tier.up_to.map_or("the last tier".to_owned(), |up_to| format!("the tier up to {up_to}"));
        let flat = if tier.flat.is_zero() { String::new() } else { format!(" and {} for entering it", tier.flat) };
        steps.push(format!("{up_to}: {} at {}{flat} is {}", tier.quantity, tier.unit, tier.amount));
    }
    match &price.model {
        PriceModel::Flat { amount } => steps.push(format!("{amount}, whatever was used")),
        PriceModel::PerUnit { unit } => steps.push(format!("each at {unit}")),
        PriceModel::Package { price, size, round } => {
            steps.push(format!("packages of {size} at {price}, a broken one rounded {}", round.name()));
        }
        PriceModel::Percentage(terms) if terms.looks_at_each() => {
            steps.push(format!("of each transaction {}", terms.in_words()));
        }
        PriceModel::Percentage(terms) => steps.push(format!("{} per cent", terms.rate_percent)),
        PriceModel::Dynamic { multiplier } => steps.push(format!("the amount itself, times {multiplier}")),
        PriceModel::Graduated(_) | PriceModel::Volume(_) | PriceModel::GraduatedPercentage(_) => {}
    }
    let terms = [
        ("less a discount in per cent of", price.discount_percent),
        ("at most", price.maximum),
        ("at least", price.minimum),
    ];
    steps.extend(terms.into_iter().filter_map(|(word, value)| Some(format!("{word} {}", value?))));
    steps
}

/// The days of a part of a period, cut to it.
fn days(part: Period) -> Vec<Period> {
    let mut days = Vec::new();
    let mut at: Timestamp = part.from();
    while let Some(day) = Period::containing(at, CalendarUnit::Day).intersect(part).filter(|day| day.to() <= part.to())
    {
        days.push(day);
        at = day.to();
        if at >= part.to() {
            break;
        }
    }
    days
}
