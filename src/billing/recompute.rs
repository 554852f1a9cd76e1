//! An exported invoice, worked out again from its evidence by the rules that the server bills by. Pure: whoever has the file
//! needs nothing else.

use std::sync::Arc;

use serde_json::Value;

use super::{
    charges::{self, Charges},
    evidence::{Evidence, PeriodEvidence, Plans},
    export::{Export, Mark, Refusal, plan_digest},
    invoice::{Adjusted, InvoiceLine, Proration, TaxRate, Terms},
    invoice_document::{InvoiceDocument, document},
    model::{Percentage, Price},
    plan::PlanBody,
    rules::RatingError,
    span_bill::SpanUsage,
    span_evidence::SpanEvidence,
    transactions::{Charged, Tally},
};
use crate::kernel::{Currency, Digest, Faults, Period, Quantity, QuantityError};

/// Reads the evidence; an error says what could not be checked without.
pub fn evidence(export: &Export) -> Result<Evidence, Refusal> {
    let (Some(value), Some(_)) = (&export.evidence, &export.seal) else {
        let number = &export.invoice.number;
        return Err(Refusal::Unchecked(format!(
            "invoice {number} was issued before evidence was kept; its lines cannot be worked out again"
        )));
    };
    let read: Evidence = strictly("evidence", value)?;
    Ok(read)
}

/// What is read of a value, if writing it down gives the same value.
pub fn strictly<T: serde::de::DeserializeOwned + serde::Serialize>(name: &str, value: &Value) -> Result<T, Refusal> {
    let read: T =
        serde_json::from_value(value.clone()).map_err(|error| Refusal::Unreadable(format!("{name}: {error}")))?;
    let written = serde_json::to_value(&read).unwrap_or_default();
    match first_difference(name, value, &written) {
        None => Ok(read),
        Some(Differing { at, said, .. }) => Err(Refusal::Unreadable(format!("{at}: {said} is not as it is written"))),
    }
}

/// The plans that the evidence names, if they are the ones that it means.
pub fn plans(export: &Export, evidence: &Evidence) -> Result<Plans, Refusal> {
    let mut plans = Plans::new();
    for exported in &export.plans {
        let named = format!("the plan of {}, version {}", exported.tier, exported.version);
        let meant = evidence.plans.iter().find(|plan| plan.tier == exported.tier && plan.version == exported.version);
        let meant = meant.ok_or_else(|| Refusal::Wrong(format!("{named} is not in the evidence")))?;
        let digest = plan_digest(&exported.body)?;
        if digest != meant.digest {
            let (said, found) = (meant.digest.to_string(), digest.to_string());
            return Err(Refusal::Differs { of: format!("the hash of {named}"), said, found });
        }
        let plan = read_plan(&exported.tier, exported.version, &exported.body)
            .ok_or_else(|| Refusal::Unreadable(format!("{named} is none")))?;
        if plans.insert((exported.tier.clone(), exported.version), Arc::new(plan)).is_some() {
            return Err(Refusal::Wrong(format!("{named} is there twice")));
        }
    }
    if plans.len() != evidence.plans.len() {
        return Err(Refusal::Wrong("a plan that the evidence names is not there".into()));
    }
    Ok(plans)
}

fn read_plan(tier: &str, version: u32, body: &Value) -> Option<super::model::Plan> {
    let body: PlanBody = serde_json::from_value(body.clone()).ok()?;
    let mut faults = Faults::new();
    let plan = body.parse("", version, &mut faults);
    faults.finish(plan).ok().filter(|plan| plan.tier.as_str() == tier)
}

/// Works the document out again and compares it with what the file says; what was compared, and what could not be, in words.
pub fn compare(export: &Export, evidence: &Evidence, plans: &Plans) -> Result<Vec<String>, Refusal> {
    let said: InvoiceDocument = serde_json::from_value(export.invoice.document.clone())
        .map_err(|error| Refusal::Unreadable(format!("the document: {error}")))?;
    let proration = Proration::named(&evidence.proration);
    let proration = proration.ok_or_else(|| Refusal::Unreadable("evidence.proration: is none".into()))?;
    let usages = std::iter::once(&evidence.usage).chain(evidence.adjusted.iter().map(|earlier| &earlier.usage));
    let told = usages.map(|usage| taken_as_told(usage, plans)).sum::<Result<usize, Refusal>>()?;
    let (lines, period) = lines(export, evidence, plans, (said.currency, proration))?;
    let (terms, charges) = charges(evidence, &lines, &said)?;
    let customer = (&*said.customer.name, &said.customer.billing_address, &terms);
    let zone = evidence.usage.cadence.read()?.zone;
    let seller = said.seller.clone().unwrap_or_default();
    let mut found = document(&seller, customer, (period, &zone), &lines, &charges);
    // What documents say of who issues them is not worked out; the seal holds it. Older ones say nothing.
    found.seller.clone_from(&said.seller);
    let found = serde_json::to_value(found).unwrap_or_default();
    if let Some(Differing { at, said, found }) = first_difference("document", &export.invoice.document, &found) {
        return Err(Refusal::Differs { of: named(&at, &export.invoice.document), said, found });
    }
    let days: usize =
        evidence.usage.spans.iter().flat_map(|span| &span.usage).filter_map(|of| of.days.as_ref()).map(Vec::len).sum();
    let mut compared = vec![format!(
        "{} lines worked out again, with {days} daily totals: total {} {}, due {}",
        lines.len(),
        said.total,
        said.currency,
        said.amount_due
    )];
    if told > 0 {
        compared.push(format!("{told} lines with single transactions taken as told"));
    }
    Ok(compared)
}

/// Works out again what single transactions come to. Of how many lines it was taken as told, because not all of them are there.
fn taken_as_told(usage: &PeriodEvidence, plans: &Plans) -> Result<usize, Refusal> {
    let spans = usage.spans(plans)?;
    let mut told = 0;
    let parts = spans.iter().zip(&usage.spans).enumerate().filter(|(_, (span, _))| !span.is_trial);
    for (place, (span, SpanEvidence { usage: own, .. })) in parts {
        let plan = &span.span.plan;
        let before = spans.iter().take(place).filter(|before| !before.is_trial && before.span.plan.tier == plan.tier);
        let before: Vec<&SpanUsage> = before.collect();
        for (place, price) in plan.prices.iter().enumerate() {
            let Some(terms) = price.per_transaction() else { continue };
            let used = span.used.get(&price.meter).copied().unwrap_or_default();
            let adds_up = own.iter().any(|of| of.is_sum_of(&price.meter));
            let Some(charged) = span.charged.get(&place) else {
                // The whole is one transaction: that the meter has no events is what the file says.
                if !used.is_zero() && spans.iter().any(|other| other.looks_at_each_of(&price.meter)) {
                    let why = format!("transactions of {} are looked at in one part and not in another", price.meter);
                    return Err(Refusal::Wrong(why));
                }
                told += usize::from(adds_up && !used.is_zero());
                continue;
            };
            if !adds_up {
                let why = format!("transactions of {} are looked at, and its usage is no sum of them", price.meter);
                return Err(Refusal::Wrong(why));
            }
            let found = worked_out((price, terms), &before, span);
            let found =
                found.map_err(|source| unrated(RatingError::Inexact { meter: price.meter.to_string(), source }))?;
            told += usize::from(found.is_none());
            let earlier = found.map(|found| found.earlier).or_else(|| carried((price, terms), &before));
            let whole = found.map(|found| found.whole);
            for (what, said, found) in [("before", charged.earlier, earlier), ("in all", charged.whole, whole)] {
                if let Some(found) = found.filter(|found| *found != said) {
                    let of =
                        format!("what transactions of {} come to {what} from {}", price.meter, span.span.period.from());
                    return Err(Refusal::Differs { of, said: said.to_string(), found: found.to_string() });
                }
            }
        }
    }
    Ok(told)
}

/// What the transactions of a span come to, after those of spans before it; `None` where not all of them are there.
fn worked_out(
    (price, terms): (&Price, &Percentage),
    before: &[&SpanUsage],
    span: &SpanUsage,
) -> Result<Option<Charged>, QuantityError> {
    let mut tally = Tally::new(terms, price.included);
    let mut earlier = Quantity::ZERO;
    for part in before.iter().copied().chain([span]) {
        earlier = tally.sum();
        let Some(transactions) = part.transactions.get(&price.meter) else { return Ok(None) };
        transactions.iter().try_for_each(|amount| tally.add(*amount))?;
    }
    Ok(Some(Charged { earlier, whole: tally.sum() }))
}

/// What was billed before by the same price, as far as spans before say.
fn carried((price, terms): (&Price, &Percentage), before: &[&SpanUsage]) -> Option<Quantity> {
    let Some(last) = before.last() else { return Some(Quantity::ZERO) };
    let is_same = |other: &Price| {
        (&other.meter, other.included, other.per_transaction()) == (&price.meter, price.included, Some(terms))
    };
    let place = last.span.plan.prices.iter().position(is_same)?;
    last.charged.get(&place).map(|charged| charged.whole)
}

fn lines(
    export: &Export,
    evidence: &Evidence,
    plans: &Plans,
    terms: super::evidence::Terms,
) -> Result<(Vec<InvoiceLine>, Period), Refusal> {
    let tenant = export.invoice.tenant_id;
    let bill = evidence.usage.bill(tenant, plans, terms)?;
    let mut lines = charges::own_lines(&bill, &evidence.usage.billed(terms.0)?).map_err(unrated)?;
    for earlier in &evidence.adjusted {
        let bill_now = earlier.usage.bill(tenant, plans, terms)?;
        let of = &earlier.invoice;
        if of.period != earlier.usage.period {
            return Err(Refusal::Wrong(format!(
                "the usage of another period is said to be that of invoice {}",
                of.number
            )));
        }
        let adjusted = Adjusted { invoice: of.invoice_id, number: of.number.clone(), period: bill_now.period };
        lines.extend(charges::adjustments(&bill_now, &earlier.usage.billed(terms.0)?, &adjusted).map_err(unrated)?);
    }
    Ok((lines, bill.period))
}

fn charges(evidence: &Evidence, lines: &[InvoiceLine], said: &InvoiceDocument) -> Result<(Terms, Charges), Refusal> {
    let (currency, at): (Currency, _) = (said.currency, evidence.worked_out_at);
    let rates = evidence.tax_rates.iter().map(|rate| TaxRate { name: rate.name.clone(), percent: rate.percent });
    let terms = Terms { tax_rates: rates.collect(), tax_id: said.customer.tax_id.clone() };
    let coupons = evidence.coupons.iter().map(|coupon| coupon.read(currency, at)).collect::<Result<Vec<_>, _>>()?;
    let credits = evidence.credits.iter().map(|credit| credit.read(currency, at)).collect::<Result<Vec<_>, _>>()?;
    let charged = charges::charge(lines, (&coupons, &terms.tax_rates, &credits), currency, at).map_err(unrated)?;
    Ok((terms, charged))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unrated(error: RatingError) -> Refusal {
    Refusal::Unreadable(error.to_string())
}

/// The seal, worked out again.
pub fn check_seal(export: &Export) -> Result<Digest, Refusal> {
    let (Some(evidence), Some(seal)) = (&export.evidence, export.seal) else {
        return Err(Refusal::Unchecked("there is no seal".into()));
    };
    let invoice = &export.invoice;
    if !invoice.number.ends_with(&format!("{:06}", invoice.serial)) {
        let (said, found) = (invoice.number.clone(), format!("{:06} at its end", invoice.serial));
        return Err(Refusal::Differs { of: "the number".into(), said, found });
    }
    let found = invoice.seal(seal.previous, evidence)?;
    if found != seal.seal {
        return Err(Refusal::Differs { of: "the seal".into(), said: seal.seal.to_string(), found: found.to_string() });
    }
    Ok(found)
}

/// The marks of the journals: each with the hash of the one before it, the last the one of the evidence.
pub fn check_chain(export: &Export, evidence: &Evidence) -> Result<usize, Refusal> {
    let mut before: Option<&Mark> = None;
    for mark in &export.chain {
        let Mark { serial, marked_at, journals, .. } = mark;
        let again = Mark::new(*serial, *marked_at, mark.before, journals.clone())?;
        if again.hash != mark.hash {
            let (said, found) = (mark.hash.to_string(), again.hash.to_string());
            return Err(Refusal::Differs { of: format!("the hash of mark {serial}"), said, found });
        }
        if let Some(before) = before
            && (mark.before != Some(before.hash) || before.serial.checked_add(1) != Some(*serial))
        {
            return Err(Refusal::Wrong(format!("mark {serial} does not follow mark {}", before.serial)));
        }
        before = Some(mark);
    }
    let last = before.map(|mark| (mark.serial, mark.hash));
    if last != evidence.journals.map(|mark| (mark.serial, mark.hash)) {
        return Err(Refusal::Wrong("the chain does not end with the mark of the evidence".into()));
    }
    Ok(export.chain.len())
}

/// Whether an invoice follows the one before it, in words.
pub fn check_before(export: &Export, evidence: &Evidence, before: &Export) -> Result<String, Refusal> {
    let number = &before.invoice.number;
    if before.invoice.tenant_id != export.invoice.tenant_id {
        return Err(Refusal::Wrong(format!("invoice {number} is somebody else's")));
    }
    if before.seal.is_none() || before.seal.map(|seal| seal.seal) != evidence.before {
        return Err(Refusal::Wrong(format!("invoice {number} is not the one before: its seal is another")));
    }
    let checked = check_seal(before);
    checked
        .map_err(|error| Refusal::Wrong(format!("invoice {number}, which is said to be the one before: {error}")))?;
    let of_before = self::evidence(before)?.journals;
    let first = export.chain.first().filter(|first| of_before.is_none_or(|mark| mark.serial < first.serial));
    if let (Some(mark), Some(first)) = (of_before, first)
        && first.before != Some(mark.hash)
    {
        return Err(Refusal::Wrong(format!("the chain does not begin after the mark of invoice {number}")));
    }
    Ok(format!("it follows invoice {number}"))
}

struct Differing {
    at: String,
    said: String,
    found: String,
}

/// As much of a text as somebody reads.
fn shortened(mut text: String) -> String {
    const MOST: usize = 200;
    if let Some((end, _)) = text.char_indices().nth(MOST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Where two values differ first. A member that is missing is as good as one that says nothing: fields were added later.
fn first_difference(at: &str, said: &Value, found: &Value) -> Option<Differing> {
    let differs = |at: String, said: &Value, found: &Value| {
        let shown = |value: &Value| if value.is_null() { "nothing".to_owned() } else { shortened(value.to_string()) };
        Some(Differing { at, said: shown(said), found: shown(found) })
    };
    match (said, found) {
        (Value::Object(one), Value::Object(other)) => {
            let of_one = one.iter().find_map(|(name, said)| match other.get(name) {
                Some(found) => first_difference(&format!("{at}.{name}"), said, found),
                None => differs(format!("{at}.{name}"), said, &Value::Null),
            });
            let says_nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            of_one.or_else(|| {
                let missing = other.iter().find(|(name, value)| !one.contains_key(*name) && !says_nothing(value));
                missing.and_then(|(name, found)| differs(format!("{at}.{name}"), &Value::Null, found))
            })
        }
        (Value::Array(one), Value::Array(other)) => {
            let length = one.len().max(other.len());
            (0..length).find_map(|place| {
                let (said, found) = (one.get(place).unwrap_or(&Value::Null), other.get(place).unwrap_or(&Value::Null));
                first_difference(&format!("{at}[{}]", place + 1), said, found)
            })
        }
        (one, other) if one == other => None,
        (one, other) => differs(at.to_owned(), one, other),
    }
}

/// A place in the document as a reader knows it: `line 2 (usage of apis), amount`.
fn named(at: &str, document: &Value) -> String {
    let line = at.strip_prefix("document.lines[").and_then(|rest| rest.split_once(']'));
    let Some((number, field)) = line else { return at.strip_prefix("document.").unwrap_or(at).to_owned() };
    let place = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    let body = place.and_then(|place| document.get("lines")?.get(place));
    let text = |name: &str| body.and_then(|line| line.get(name)?.as_str()).unwrap_or("none");
    let field = field.trim_start_matches('.');
    let field = if field.is_empty() { String::new() } else { format!(", {field}") };
    format!("line {number} ({} of {}){field}", text("kind"), text("meter"))
}
