//! How a line of an invoice came about: which windows have the usage, which events they are made of, and the arithmetic, step
//! by step.

use super::{
    arithmetic,
    error::Error,
    evidence::{Evidence, PeriodEvidence},
    invoice::Proration,
    invoice_document::{InvoiceDocument, InvoiceLineBody},
    model::{Plan, Price},
    service::Billing,
    settling::{read_document, zone_of},
    span_evidence::{ChargedEvidence, SpanEvidence},
    transactions::Charged,
};
use crate::{
    kernel::{CalendarUnit, InvoiceId, Period, Quantity, Timestamp},
    metering::{Event, EventsAfter, MeterKey},
    store::Scope,
};

/// What somebody wants to know of a line.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which line, from 1.
    pub line: usize,
    /// How its time is cut.
    pub window: CalendarUnit,
    /// The event after which the list of events goes on.
    pub after: Option<EventsAfter>,
    /// The most events.
    pub most: usize,
}

/// How a line came about.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The line, as it was issued.
    pub line: InvoiceLineBody,
    /// The days that it was rated from when it was issued; `None` where that was not kept, or the total is no sum.
    pub rated: Option<Vec<(String, Quantity)>>,
    /// What each window of it has now; days are those of the invoice's zone.
    pub windows: Vec<(Period, Quantity)>,
    /// What its part of the period has now, in all.
    pub metered: Quantity,
    /// The events that are in the windows, in order of their time, and what the meter reads in each. None of a meter that counts
    /// requests.
    pub events: Vec<(Event, Option<Quantity>)>,
    /// Where the list goes on, if it does.
    pub next: Option<EventsAfter>,
    /// The arithmetic, in words.
    pub steps: Vec<String>,
}

impl Billing {
    /// Explains a line.
    pub async fn explain(&self, scope: Scope, id: InvoiceId, asked: Asked) -> Result<Explanation, Error> {
        let invoice = self.invoice(scope, id).await?;
        let document: InvoiceDocument = read_document(&invoice.document)?;
        let zone = zone_of(&document)?;
        let place = asked.line.checked_sub(1);
        let line = place.and_then(|place| document.lines.get(place).cloned());
        let line = line.ok_or(Error::UnknownLine(id, asked.line))?;
        let kept = self.store.read(scope).await?.invoice_evidence(id).await?;
        let kept: Option<Evidence> = kept.and_then(|text| serde_json::from_str(&text).ok());
        let steps = self.steps(&document, &line, kept.as_ref());
        let mut explanation = Explanation {
            rated: kept.as_ref().and_then(|kept| rated(kept, &line)),
            windows: Vec::new(),
            metered: line.quantity,
            events: Vec::new(),
            next: None,
            steps,
            line,
        };
        let line = &explanation.line;
        let part = Period::new(line.period.from, line.period.to).ok();
        if let (Some(part), Ok(meter)) = (part, line.meter.parse::<MeterKey>())
            && line.model != "flat"
        {
            let (tenant, usage) = (invoice.tenant_id, self.usage());
            explanation.windows = if asked.window == CalendarUnit::Day && !zone.is_utc() {
                let mut days = Vec::new();
                for day in zone.days(part) {
                    let quantity = usage.total(scope, tenant, &meter, day).await?;
                    days.extend((!quantity.is_zero()).then_some((day, quantity)));
                }
                days
            } else {
                usage.windows(scope, tenant, &meter, (part, asked.window)).await?
            };
            explanation.metered = usage.total(scope, tenant, &meter, part).await?;
            let events = usage.events(scope, tenant, &meter, part, (asked.after, asked.most)).await?;
            (explanation.events, explanation.next) = events;
        }
        Ok(explanation)
    }

    fn steps(&self, document: &InvoiceDocument, line: &InvoiceLineBody, kept: Option<&Evidence>) -> Vec<String> {
        let catalogue = self.catalogue();
        let version = line.tier.parse().ok().and_then(|tier| catalogue.version(&tier, line.price_version));
        let plan = version.map(|version| &*version.plan);
        let mut steps = Vec::new();
        if let Some(adjusted) = &line.adjusts {
            let billed = line.already.unwrap_or_default();
            steps.push(format!("{billed} was billed of this part by invoice {} and later ones", adjusted.number));
            if let Some((by_now, before)) = kept.and_then(|kept| by_now(kept, line)) {
                steps.push(format!("what the part comes to now is {by_now}, of which {before} was billed"));
            }
            steps.push(format!("what the part comes to now, less that, is {} for {}", line.unrounded, line.quantity));
        } else if kept.is_some_and(|kept| span_of(&kept.usage, line).is_some_and(|span| span.trial)) {
            steps.push("this part is within the trial: nothing of it is charged".to_owned());
        } else {
            let span = kept.and_then(|kept| span_of(&kept.usage, line));
            steps.extend(plan.map(|plan| self.of_plan(document, line, (plan, span, kept))).unwrap_or_default());
        }
        steps.push(format!("{} rounds to {}", line.unrounded, line.amount));
        steps
    }

    fn of_plan(
        &self,
        document: &InvoiceDocument,
        line: &InvoiceLineBody,
        (plan, span, kept): (&Plan, Option<&SpanEvidence>, Option<&Evidence>),
    ) -> Vec<String> {
        let by = kept.and_then(|kept| Proration::named(&kept.proration)).unwrap_or(self.config.proration).name();
        let is_part = line.period != document.period;
        match line.kind.as_str() {
            "base" if is_part => {
                vec![format!("the base is {} a period; this part's share by the {by} is {}", plan.base, line.amount)]
            }
            "base" => vec![format!("the base is {} a period", plan.base)],
            "commitment" => {
                // Parts between that belong to a plan without one were not compared.
                let is_committed = |other: &InvoiceLineBody| {
                    let tier = other.tier.parse().ok();
                    let catalogue = self.catalogue();
                    let version = tier.and_then(|tier| catalogue.version(&tier, other.price_version).cloned());
                    version.is_some_and(|version| version.plan.commitment.is_some())
                };
                let of_part = |other: &&InvoiceLineBody| {
                    let within = other.period.from >= line.period.from && other.period.to <= line.period.to;
                    within && other.adjusts.is_none() && other.kind != "commitment" && is_committed(other)
                };
                let own = document.lines.iter().filter(of_part);
                let amounts = own.map(|own| own.amount.parse::<Quantity>().unwrap_or_default());
                let sum = amounts.fold(Quantity::ZERO, |sum, amount| sum.add(amount).unwrap_or(sum));
                let share = if is_part {
                    format!(" a period, of which this part has a share by the {by}")
                } else {
                    " a period".into()
                };
                let committed = plan.commitment.map_or_else(|| "nothing".to_owned(), |own| own.to_string());
                vec![
                    format!("the plan commits to {committed}{share}"),
                    format!("base and usage of this part come to {sum}; {} is missing", line.amount),
                ]
            }
            _ => of_line(document, line, plan, span),
        }
    }
}

/// The steps of a line of usage. Of several prices of a meter and model it is the one at the line's place.
fn of_line(
    document: &InvoiceDocument,
    line: &InvoiceLineBody,
    plan: &Plan,
    kept: Option<&SpanEvidence>,
) -> Vec<String> {
    let fits = |(_, price): &(usize, &Price)| price.meter.as_str() == line.meter && price.model.name() == line.model;
    let alike = |other: &&InvoiceLineBody| {
        (&other.kind, &other.period, &other.meter, &other.model, &other.tier)
            == (&line.kind, &line.period, &line.meter, &line.model, &line.tier)
    };
    let place = document.lines.iter().filter(alike).position(|other| other == line).unwrap_or(0);
    let Some((place, price)) = plan.prices.iter().enumerate().filter(fits).nth(place) else { return Vec::new() };
    let charged = kept.and_then(|span| span.charged.iter().find(|charged| charged.price == place));
    let each = charged.and(price.per_transaction()).or_else(|| price.per_transaction().filter(|_| kept.is_none()));
    let mut told: Vec<String> =
        each.map(|terms| format!("of each transaction {}", terms.in_words())).into_iter().collect();
    let steps = match charged {
        Some(ChargedEvidence { earlier, whole, .. }) => {
            let on_top = line.already.is_some() || !earlier.is_zero();
            arithmetic::charged_steps(price, Charged { earlier: *earlier, whole: *whole }, on_top)
        }
        // A flat price is of one, whatever was used.
        None if line.model == "flat" => arithmetic::steps(price, Quantity::ZERO, line.already),
        None => arithmetic::steps(price, line.quantity, line.already),
    };
    // Where it comes to something else, it was worked out otherwise.
    told.extend(steps.ok().filter(|(_, exact)| *exact == line.unrounded).map(|(steps, _)| steps).into_iter().flatten());
    told
}

fn span_of<'a>(usage: &'a PeriodEvidence, line: &InvoiceLineBody) -> Option<&'a SpanEvidence> {
    usage.spans.iter().find(|span| {
        (span.from, span.to, &span.tier, span.version)
            == (line.period.from, line.period.to, &line.tier, line.price_version)
    })
}

/// Of which evidence a line is: of its own period, or of the one that it adjusts.
fn usage_of<'a>(kept: &'a Evidence, line: &InvoiceLineBody) -> Option<&'a PeriodEvidence> {
    let Some(adjusts) = &line.adjusts else { return Some(&kept.usage) };
    kept.adjusted.iter().find(|adjusted| adjusted.invoice == *adjusts).map(|adjusted| &adjusted.usage)
}

fn rated(kept: &Evidence, line: &InvoiceLineBody) -> Option<Vec<(String, Quantity)>> {
    let span = span_of(usage_of(kept, line)?, line)?;
    span.usage.iter().find(|of_meter| of_meter.meter == line.meter)?.days.clone()
}

/// What the part that a line adjusts comes to by now, and what was billed of it.
fn by_now(kept: &Evidence, line: &InvoiceLineBody) -> Option<(Quantity, Quantity)> {
    let usage = usage_of(kept, line)?;
    let billed = usage.billed.iter().find(|billed| {
        (billed.from, billed.to, &billed.meter, &billed.model, billed.version, Some(billed.quantity))
            == (line.period.from, line.period.to, &line.meter, &line.model, line.price_version, line.already)
    })?;
    Some((billed.unrounded.add(line.unrounded).ok()?, billed.unrounded))
}

/// Where a list of events goes on, as text: the time and the order of arrival of the last, and its id.
pub(super) fn cursor_text(after: &EventsAfter) -> String {
    format!("{}.{}.{}", after.at_ns, after.arrival, after.id)
}

/// The same read.
pub(super) fn read_cursor(text: &str) -> Option<EventsAfter> {
    let mut parts = text.splitn(3, '.');
    let mut number = || parts.next()?.parse().ok();
    let (at_ns, arrival) = (number()?, number()?);
    Some(EventsAfter { at_ns, arrival, id: parts.next()?.to_owned() })
}

/// An event's time.
pub(super) fn time_of(event: &Event) -> Timestamp {
    Timestamp::from_micros(event.at_ns.div_euclid(1_000)).unwrap_or(Timestamp::MIN)
}
