//! What is asked of Stripe for a job: its step as a request. Forms are in Stripe's bracket style, keys are made of what the
//! job is about, so that the same step is the same request whoever makes it, and whenever.

use std::collections::BTreeMap;

use super::{
    amounts::to_stripe,
    model::{Customer, Form, Job, Kind, Lane, Matter, Request, Step, Turn, UsageEvent},
};
use crate::{
    billing::{AddressBody, Invoice, InvoiceDocument, InvoiceLineBody},
    kernel::{Currency, Money, Timestamp},
};

/// The most items of an invoice (Stripe, "Create an invoice item", `invoice`).
const MOST_ITEMS: usize = 250;
/// The longest description that is sent, in characters.
const MAX_TEXT: usize = 400;
/// The longest `identifier` of a meter event (Stripe, "Create a billing meter event").
const MAX_IDENTIFIER: usize = 100;
/// Usage may be so old (the same: "within the past 35 calendar days"), less an hour for the way.
pub(super) const OLDEST_USAGE_S: i64 = 35 * DAY_S - 3_600;
/// An event may be cancelled so long after Stripe had it (Stripe, "Create a billing meter event adjustment": 24 hours), less
/// an hour for the way.
pub(super) const CANCELLABLE_S: i64 = 23 * 3_600;
/// Look-ups begin so long before the first try, in seconds.
const SLACK_S: i64 = 3_600;
const DAY_S: i64 = 86_400;

/// What follows for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// A request, for a step.
    Ask(Step, Request),
    /// Stripe need not hear of it.
    Nothing,
}

/// The request of a job's next step, and how many steps it has; an error says why there can be none.
pub(super) fn next(
    job: &Job,
    lane: &Lane,
    matter: &Matter,
    more: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<(Next, i64), String> {
    let customer = || lane.customer.as_deref().ok_or("Stripe does not know the tenant: its customer was skipped");
    match matter {
        Matter::Customer(facts) => Ok((customer_step(job, lane, facts, more), 1)),
        Matter::Invoice(invoice) => invoice_step(job, customer()?, &invoice.0, &invoice.1),
        Matter::Known(None) => Ok((Next::Nothing, 1)),
        Matter::Known(Some(remote)) => Ok(known_step(job, remote)),
        Matter::Usage(usage) => usage_step(job, customer()?, usage, now).map(|next| (next, 1)),
    }
}

fn customer_step(job: &Job, lane: &Lane, facts: &Customer, more: &BTreeMap<String, String>) -> Next {
    let tenant = facts.tenant;
    match &lane.customer {
        None if job.in_doubt => {
            let query = format!("metadata['tenant_id']:'{tenant}'");
            Next::Ask(Step::FindCustomer, look("/v1/customers/search", &[("query", &query), ("limit", "2")]))
        }
        None => {
            let form = customer_form(facts, more).into_iter().filter(|(_, value)| !value.is_empty()).collect();
            Next::Ask(Step::MakeCustomer, post("/v1/customers".into(), form, key(job, "make")))
        }
        // To be told the same twice does no harm: nothing has to be looked up.
        Some(id) => {
            let path = format!("/v1/customers/{}", escaped(id));
            Next::Ask(Step::ChangeCustomer, post(path, customer_form(facts, more), key(job, "change")))
        }
    }
}

/// A tenant as a form; what it has not is empty, which takes it off.
pub(super) fn customer_form(facts: &Customer, more: &BTreeMap<String, String>) -> Form {
    let lines = match &facts.address {
        None => [""; 6].map(str::to_owned),
        Some(AddressBody::Text(text)) => [text.as_str(), "", "", "", "", ""].map(cut),
        Some(AddressBody::Lines(lines)) => {
            [&lines.line1, &lines.line2, &lines.city, &lines.region, &lines.postal_code, &lines.country]
                .map(|line| cut(line.as_deref().unwrap_or_default()))
        }
    };
    let mut form = form(&[("name", &facts.name), ("email", facts.email.as_deref().unwrap_or_default())]);
    let names = ["line1", "line2", "city", "state", "postal_code", "country"];
    form.extend(names.iter().zip(lines).map(|(name, line)| (format!("address[{name}]"), line)));
    form.extend(more.iter().map(|(name, value)| (format!("metadata[{name}]"), value.clone())));
    form.push(("metadata[tenant_id]".into(), facts.tenant.to_string()));
    form
}

/// An item of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) amount: i64,
    pub(super) text: String,
    pub(super) period: Option<(i64, i64)>,
}

fn invoice_step(
    job: &Job,
    customer: &str,
    invoice: &Invoice,
    document: &InvoiceDocument,
) -> Result<(Next, i64), String> {
    let items = items(document)?;
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let steps = count + 3;
    let currency = invoice.due.currency().code().to_lowercase();
    let remote = job.remote.as_deref();
    let ask = match (job.step, remote) {
        (0, _) if job.in_doubt => {
            let since = since(job);
            let query = [("customer", customer), ("created[gte]", &since), ("limit", "100")];
            (Step::FindInvoice, look("/v1/invoices", &query))
        }
        (0, _) | (_, None) => {
            (Step::MakeInvoice, post("/v1/invoices".into(), invoice_form(customer, invoice)?, key(job, "make")))
        }
        (place, Some(remote)) if place <= count && job.in_doubt => {
            let since = since(job);
            let query = [("invoice", remote), ("created[gte]", &since), ("limit", "100")];
            (Step::FindItem(place), look("/v1/invoiceitems", &query))
        }
        (place, Some(remote)) if place <= count => {
            let item = usize::try_from(place - 1).ok().and_then(|place| items.get(place));
            let item = item.ok_or("the invoice has no such line")?;
            let form = item_form(item, place, [("customer", customer), ("invoice", remote), ("currency", &currency)]);
            (Step::AddItem(place), post("/v1/invoiceitems".into(), form, key(job, &format!("item:{place}"))))
        }
        (place, Some(remote)) if place == count + 1 => {
            let due = to_stripe(invoice.due).map_err(|fault| fault.to_string())?;
            (Step::Check(due), look(&invoice_path(remote), &[]))
        }
        (_, Some(remote)) => turn(job, remote, Turn::Finalized),
    };
    Ok((Next::Ask(ask.0, ask.1), steps))
}

fn invoice_form(customer: &str, invoice: &Invoice) -> Result<Form, String> {
    let issue = invoice.issue.as_ref().ok_or("the invoice has no number")?;
    let days = (issue.due_at.as_secs() - issue.at.as_secs()) / DAY_S;
    Ok(form(&[
        ("customer", customer),
        ("currency", &invoice.due.currency().code().to_lowercase()),
        ("auto_advance", "false"),
        ("collection_method", "send_invoice"),
        ("days_until_due", &days.max(0).to_string()),
        ("pending_invoice_items_behavior", "exclude"),
        ("description", &cut(&format!("Invoice {}", issue.number))),
        ("metadata[tollgate_invoice]", &invoice.id.to_string()),
        ("metadata[tollgate_number]", &issue.number),
        ("metadata[tenant_id]", &invoice.tenant_id.to_string()),
    ]))
}

fn item_form(item: &Item, place: i64, of: [(&str, &str); 3]) -> Form {
    let mut form = form(&of);
    form.push(("amount".into(), item.amount.to_string()));
    form.push(("description".into(), item.text.clone()));
    if let Some((from, to)) = item.period {
        form.push(("period[start]".into(), from.to_string()));
        form.push(("period[end]".into(), to.to_string()));
    }
    form.push(("metadata[tollgate_line]".into(), place.to_string()));
    form
}

/// The lines of a document, what coupons take off, taxes, and what credits pay: together what is owed.
pub(super) fn items(document: &InvoiceDocument) -> Result<Vec<Item>, String> {
    let currency = document.currency;
    let units = |amount: &str, sign: i64| units(amount, currency).map(|units| units * sign);
    let mut items = Vec::new();
    for line in &document.lines {
        let period = Some((line.period.from.as_secs(), line.period.to.as_secs()));
        items.push(Item { amount: units(&line.amount, 1)?, text: cut(&line_text(line)), period });
    }
    let mut add = |amount: i64, text: String| items.push(Item { amount, text: cut(&text), period: None });
    for discount in &document.discounts {
        add(units(&discount.amount, -1)?, format!("Discount: {}", discount.name));
    }
    for tax in &document.taxes {
        add(units(&tax.amount, 1)?, format!("{} ({}% of {} {currency})", tax.name, tax.percent, tax.taxable));
    }
    for credit in &document.credits {
        add(units(&credit.amount, -1)?, "Prepaid credit".to_owned());
    }
    if items.len() > MOST_ITEMS {
        return Err(format!("an invoice of Stripe's has at most {MOST_ITEMS} items, and this one has {}", items.len()));
    }
    Ok(items)
}

fn units(amount: &str, currency: Currency) -> Result<i64, String> {
    let exact = amount.parse().map_err(|_| format!("{amount:?} is no amount"))?;
    let money = Money::from_exact(exact, currency).map_err(|error| error.to_string())?;
    to_stripe(money).map_err(|fault| fault.to_string())
}

fn line_text(line: &InvoiceLineBody) -> String {
    let InvoiceLineBody { meter, tier, quantity, adjusts, .. } = line;
    match (line.kind.as_str(), adjusts) {
        ("base", _) => format!("Base fee, {tier}"),
        ("commitment", _) => format!("Minimum commitment, {tier}"),
        (_, Some(adjusted)) => format!("{meter}: {quantity} more or less than on {}", adjusted.number),
        _ => format!("{meter}: {quantity}, {tier}"),
    }
}

/// What a job about an invoice that Stripe has does to it.
fn known_step(job: &Job, remote: &str) -> (Next, i64) {
    let ((step, request), steps) = match (job.kind, job.step) {
        (Kind::Void, _) => (turn(job, remote, Turn::Void), 1),
        // Most that are paid here were paid there.
        (_, 0) => ((Step::FindState(Turn::Paid), look(&invoice_path(remote), &[])), 2),
        _ => (turn(job, remote, Turn::Paid), 2),
    };
    (Next::Ask(step, request), steps)
}

fn turn(job: &Job, remote: &str, turn: Turn) -> (Step, Request) {
    let path = invoice_path(remote);
    if job.in_doubt {
        return (Step::FindState(turn), look(&path, &[]));
    }
    let (verb, form) = match turn {
        Turn::Finalized => ("finalize", form(&[("auto_advance", "false")])),
        Turn::Void => ("void", Form::new()),
        Turn::Paid => ("pay", form(&[("paid_out_of_band", "true")])),
    };
    (Step::Turn(turn), post(format!("{path}/{verb}"), form, key(job, verb)))
}

fn usage_step(job: &Job, customer: &str, usage: &UsageEvent, now: Timestamp) -> Result<Next, String> {
    if job.in_doubt && job.kind == Kind::Usage {
        return Err("Stripe may have it or not, and forgets by now which events it has: look there".to_owned());
    }
    if job.kind == Kind::Cancel && usage.sent_at.is_none() {
        return Ok(Next::Nothing);
    }
    let identifier = identifier(usage);
    let cancellable = usage.sent_at.is_some_and(|sent_at| now < sent_at.plus_secs(CANCELLABLE_S));
    if job.kind == Kind::Cancel && cancellable {
        let form = form(&[("type", "cancel"), ("event_name", &usage.event), ("cancel[identifier]", &identifier)]);
        let request = post("/v1/billing/meter_event_adjustments".into(), form, key(job, "cancel"));
        return Ok(Next::Ask(Step::Cancel, request));
    }
    if usage.hour < now.plus_secs(-OLDEST_USAGE_S) {
        return Err("it is of more than 35 days ago, which Stripe does not take".to_owned());
    }
    let (identifier, value) = match job.kind {
        // Too late to cancel it: another one takes it back.
        Kind::Cancel => (format!("{identifier}:undo"), -usage.value),
        _ => (identifier, usage.value),
    };
    let form = form(&[
        ("event_name", &usage.event),
        ("identifier", &identifier),
        ("timestamp", &usage.hour.as_secs().to_string()),
        ("payload[stripe_customer_id]", customer),
        ("payload[value]", &value.to_string()),
    ]);
    Ok(Next::Ask(Step::Send, post("/v1/billing/meter_events".into(), form, key(job, "send"))))
}

/// Who a meter event is: tenant, meter, hour and revision.
pub(super) fn identifier(usage: &UsageEvent) -> String {
    let UsageEvent { tenant, meter, hour, revision, .. } = usage;
    let hour = hour.as_secs() / 3_600;
    let plain = format!("tollgate:{tenant}:{meter}:{hour}:{revision}");
    // With room for `:undo`.
    if plain.len() + 5 <= MAX_IDENTIFIER {
        return plain;
    }
    let meter = &blake3::hash(meter.as_str().as_bytes()).to_hex()[..16];
    format!("tollgate:{tenant}:{meter}:{hour}:{revision}")
}

/// The idempotency key of a step: what the job is about, what is done, and which try it is of those that could not be the same.
fn key(job: &Job, step: &str) -> String {
    let Job { kind, subject, generation, .. } = job;
    let again = if *generation > 1 { format!(":{generation}") } else { String::new() };
    format!("tollgate:{}:{subject}:{step}{again}", kind.name())
}

fn post(path: String, form: Form, key: String) -> Request {
    Request { path, post: Some((form, key)) }
}

fn look(path: &str, query: &[(&str, &str)]) -> Request {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let path = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    Request { path, post: None }
}

fn invoice_path(remote: &str) -> String {
    format!("/v1/invoices/{}", escaped(remote))
}

/// An id of Stripe's in a path.
fn escaped(id: &str) -> String {
    url::form_urlencoded::byte_serialize(id.as_bytes()).collect()
}

fn since(job: &Job) -> String {
    job.tried_at.map_or(0, |at| at.as_secs() - SLACK_S).max(0).to_string()
}

fn form(fields: &[(&str, &str)]) -> Form {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{SeededRng, TenantId};

    fn usage(meter: &str) -> UsageEvent {
        let hour = Timestamp::from_secs(1_799_996_400).unwrap();
        UsageEvent {
            tenant: TenantId::generate(hour, &SeededRng::new(1)),
            meter: meter.parse().unwrap(),
            hour,
            revision: 12,
            event: "e".into(),
            value: 7,
            sent_at: None,
            cancelled: false,
        }
    }

    #[test]
    fn identifiers_tell_events_apart_and_fit_what_stripe_takes() {
        let long = |last: &str| usage(&format!("{}{last}", "m".repeat(63)));
        for event in [usage("apis"), long("a")] {
            assert!(identifier(&event).len() + ":undo".len() <= MAX_IDENTIFIER, "{}", identifier(&event));
        }
        let plain = usage("apis");
        assert!(identifier(&plain).ends_with(":apis:499999:12"), "{}", identifier(&plain));
        assert_ne!(identifier(&long("a")), identifier(&long("b")));
        assert_ne!(identifier(&plain), identifier(&UsageEvent { revision: 13, ..plain.clone() }));
    }

    #[test]
    fn a_customer_has_all_fields_so_that_what_is_gone_is_taken_off() {
        let tenant = usage("apis").tenant;
        let facts =
            Customer { tenant, name: "A & B".into(), email: None, address: Some(AddressBody::Text("1 Main".into())) };
        let more = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
        let form = customer_form(&facts, &more);
        let value = |name: &str| form.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        assert_eq!((value("name"), value("email"), value("address[line1]")), (Some("A & B"), Some(""), Some("1 Main")));
        assert_eq!((value("address[country]"), value("metadata[region]")), (Some(""), Some("eu")));
        assert_eq!(value("metadata[tenant_id]"), Some(&*tenant.to_string()));
    }
}
