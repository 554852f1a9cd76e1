//! What is told of payments, by Stripe or by anybody else who takes them. Each thing told counts once, in the transaction that
//! does what follows from it; in which order they come does not matter, because each says all that is needed.

use serde_json::Value;

use super::{
    amounts::from_stripe,
    error::Error,
    model::{Kind, PaymentEvent, PaymentNotice, Settled},
    pushing::SCOPE,
    service::Stripe,
    signature::{self, StandardHeaders},
};
use crate::{
    billing::{Invoice, InvoiceState, NewPayment},
    kernel::{Actor, Currency, InvoiceId, Money, TenantId, Timestamp},
    store::Tx,
};

/// Who pays by Stripe.
const STRIPE: &str = "stripe";
/// Who tells of payments by the signed webhook.
const PAYMENTS: &str = "payments";
/// The longest id and name of what is told.
const MAX_ID: usize = 255;
/// What Stripe tells about an invoice or a charge that is noted, for people to see to, and as what.
const NOTED: [(&str, &str, &str); 5] = [
    ("invoice", "payment_failed", "payment_failed"),
    ("invoice", "payment_action_required", "noted"),
    ("invoice", "voided", "noted"),
    ("invoice", "marked_uncollectible", "noted"),
    ("charge", "refunded", "refunded"),
];

/// What came of something that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It is nothing of ours.
    Ignored,
    /// It was told before.
    Known,
    /// It is noted, and what came of it.
    Noted(&'static str),
}

impl Received {
    /// The name in the API.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ignored => "ignored",
            Self::Known => "known",
            Self::Noted(outcome) => outcome,
        }
    }
}

/// What becomes of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Judged {
    /// So much of it is noted, and what is said of it.
    Pay(Money, &'static str, Option<String>),
    /// Nothing of it is.
    Not(&'static str, String),
}

/// What an invoice takes of an amount.
fn judge(invoice: &Invoice, amount: Money) -> Judged {
    let owed = invoice.outstanding();
    if amount.currency() != owed.currency() {
        return Judged::Not("wrong_currency", format!("{amount} came, and the invoice is in {}", owed.currency()));
    }
    if !matches!(invoice.state, InvoiceState::Finalized | InvoiceState::Overdue { .. }) {
        return Judged::Not("not_owed", format!("{amount} came, and the invoice is {}", invoice.state.name()));
    }
    let difference = Money::from_minor((amount.minor() - owed.minor()).abs(), amount.currency());
    match amount.minor().cmp(&owed.minor()) {
        std::cmp::Ordering::Equal => Judged::Pay(amount, "recorded", None),
        std::cmp::Ordering::Less => Judged::Pay(amount, "underpaid", Some(format!("{difference} is still owed"))),
        std::cmp::Ordering::Greater => {
            Judged::Pay(owed, "overpaid", Some(format!("{difference} more than owed came, and is not booked")))
        }
    }
}

impl Stripe {
    /// Takes an event of Stripe's: its body as it came, and `Stripe-Signature`.
    pub async fn take_stripe_event(&self, signature: &str, body: &[u8]) -> Result<Received, Error> {
        let secrets = self.config().map(|config| config.webhook_secrets.as_slice()).unwrap_or_default();
        if secrets.is_empty() {
            return Err(Error::Off("Stripe's webhook"));
        }
        signature::check_stripe(signature, body, secrets, self.clock.now()).map_err(Error::Signature)?;
        let event: Value = serde_json::from_slice(body).map_err(|_| Error::Malformed("the body is not JSON"))?;
        let text = |name: &str| event[name].as_str().filter(|text| !text.is_empty() && text.len() <= MAX_ID);
        let (id, kind) = text("id").zip(text("type")).ok_or(Error::Malformed("the event has no id or no type"))?;
        let object = &event["data"]["object"];
        if kind == "invoice.paid" {
            return match notice(id, kind, object)? {
                Some(notice) => self.take_payment(notice).await,
                None => Ok(Received::Ignored),
            };
        }
        let noted = NOTED.iter().find(|(noun, verb, _)| kind.split_once('.') == Some((noun, verb)));
        match noted {
            Some((_, _, outcome)) => self.note(id, (kind, outcome), object).await,
            None => Ok(Received::Ignored),
        }
    }

    /// Notes a payment that Stripe took, once; what is odd about it is noted, too, and nothing is made up.
    async fn take_payment(&self, notice: PaymentNotice) -> Result<Received, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin(SCOPE).await?;
        if !tx.payment_event_claim(notice.source, &notice.event, &notice.kind, now).await? {
            return Ok(Received::Known);
        }
        let Some(invoice) = locked(&mut tx, notice.invoice).await? else {
            // Another installation's, or a store that was begun anew. To be told again would change nothing.
            let detail = format!("there is no invoice {}", notice.invoice);
            return self.noted(tx, &notice, (None, "unknown_invoice", Some(detail))).await;
        };
        let tenant = Some(invoice.tenant_id);
        let noted_before = tx.payments(invoice.id).await?.iter().any(|payment| payment.reference == notice.reference);
        // We said ourselves that it was paid here: Stripe took that, and did not have it paid when we looked before.
        let said = tx.stripe_job(Kind::Paid, &invoice.id.to_string()).await?;
        let told_by_us = said.is_some_and(|job| job.step > 0 && matches!(job.settled, Some((_, Settled::Done))));
        if noted_before || told_by_us {
            return self.noted(tx, &notice, (tenant, "known", None)).await;
        }
        match judge(&invoice, notice.amount) {
            Judged::Not(outcome, detail) => self.noted(tx, &notice, (tenant, outcome, Some(detail))).await,
            Judged::Pay(amount, outcome, detail) => {
                let PaymentNotice { reference, received_at, .. } = notice.clone();
                let payment = NewPayment { amount, reference, received_at };
                let actor = Actor::Job(notice.source);
                self.onboarding.pay_invoice_in(&mut tx, actor, invoice.id, payment).await?;
                let received = self.noted(tx, &notice, (tenant, outcome, detail)).await?;
                self.onboarding.announce(invoice.tenant_id);
                Ok(received)
            }
        }
    }

    /// Notes what came of something, and makes all that follows from it lasting.
    async fn noted(
        &self,
        mut tx: Tx,
        notice: &PaymentNotice,
        (tenant, outcome, detail): (Option<TenantId>, &'static str, Option<String>),
    ) -> Result<Received, Error> {
        let event = PaymentEvent {
            source: notice.source.to_owned(),
            id: notice.event.clone(),
            kind: notice.kind.clone(),
            outcome: outcome.to_owned(),
            detail,
            tenant,
            invoice: Some(notice.invoice),
            received_at: self.clock.now(),
        };
        tx.payment_event_settle(&event).await?;
        tx.commit().await?;
        if !["recorded", "known"].contains(&outcome) {
            let (invoice_id, detail) = (notice.invoice, event.detail.as_deref().unwrap_or_default());
            tracing::warn!(%invoice_id, outcome, detail, "something about a payment needs to be looked at");
        }
        Ok(Received::Noted(outcome))
    }

    /// Notes what happened to an invoice or a payment of ours at Stripe. Nothing is booked: what follows is for people.
    async fn note(&self, id: &str, (kind, outcome): (&str, &'static str), object: &Value) -> Result<Received, Error> {
        let mut tx = self.store.begin(SCOPE).await?;
        let Some(invoice) = invoice_of(object) else { return Ok(Received::Ignored) };
        let Some(invoice) = tx.invoice(invoice).await? else { return Ok(Received::Ignored) };
        if !tx.payment_event_claim(STRIPE, id, kind, self.clock.now()).await? {
            return Ok(Received::Known);
        }
        let zero = Money::zero(invoice.due.currency());
        let (event, kind) = (id.to_owned(), kind.to_owned());
        let notice = PaymentNotice {
            source: STRIPE,
            event,
            kind,
            invoice: invoice.id,
            amount: zero,
            reference: String::new(),
            received_at: None,
        };
        self.noted(tx, &notice, (Some(invoice.tenant_id), outcome, refund_of(object))).await
    }

    /// An error unless headers of Standard Webhooks sign a body with one of the secrets that payments are told with.
    pub fn check_payment(&self, headers: StandardHeaders<'_>, body: &[u8]) -> Result<(), Error> {
        if self.setup.payment_secrets.is_empty() {
            return Err(Error::Off("the webhook for payments"));
        }
        if headers.id.is_empty() || headers.id.len() > MAX_ID {
            return Err(Error::Malformed("webhook-id must be 1 to 255 characters"));
        }
        let checked = signature::check_standard(headers, body, &self.setup.payment_secrets, self.clock.now());
        checked.map_err(Error::Signature)
    }

    /// Notes a payment that somebody else took, once for each `webhook-id`. What an invoice cannot take is refused and may be
    /// told again, put right. `invoice` is an id or a number.
    pub async fn take_told_payment(
        &self,
        id: &str,
        invoice: &str,
        payment: NewPayment,
    ) -> Result<(Received, Option<Invoice>), Error> {
        let mut tx = self.store.begin(SCOPE).await?;
        if !tx.payment_event_claim(PAYMENTS, id, "payment", self.clock.now()).await? {
            return Ok((Received::Known, None));
        }
        let found = match invoice.parse::<InvoiceId>() {
            Ok(id) => Some(id),
            Err(_) => tx.invoice_of_number(invoice).await?,
        };
        let unknown = || Error::UnknownInvoice(invoice.to_owned());
        let found = locked(&mut tx, found.ok_or_else(unknown)?).await?.ok_or_else(unknown)?;
        let notice = PaymentNotice {
            source: PAYMENTS,
            event: id.to_owned(),
            kind: "payment".to_owned(),
            invoice: found.id,
            amount: payment.amount,
            reference: payment.reference.clone(),
            received_at: payment.received_at,
        };
        let paid = self.onboarding.pay_invoice_in(&mut tx, Actor::Job(PAYMENTS), found.id, payment).await?.0;
        let (tenant, owed) = (paid.tenant_id, paid.outstanding());
        let came =
            if owed.is_zero() { ("recorded", None) } else { ("underpaid", Some(format!("{owed} is still owed"))) };
        let received = self.noted(tx, &notice, (Some(tenant), came.0, came.1)).await?;
        self.onboarding.announce(tenant);
        Ok((received, Some(paid)))
    }
}

/// An invoice that nobody else changes until the transaction ends.
async fn locked(tx: &mut Tx, id: InvoiceId) -> Result<Option<Invoice>, Error> {
    let Some(invoice) = tx.invoice(id).await? else { return Ok(None) };
    tx.account_lock(invoice.tenant_id).await?;
    Ok(tx.invoice(id).await?)
}

/// Which invoice of ours an object of Stripe's is about: it has our id in its metadata.
fn invoice_of(object: &Value) -> Option<InvoiceId> {
    object["metadata"]["tollgate_invoice"].as_str()?.parse().ok()
}

/// What `invoice.paid` says of an invoice of ours; `None` when it is about another, or nothing was paid.
fn notice(id: &str, kind: &str, object: &Value) -> Result<Option<PaymentNotice>, Error> {
    let Some(invoice) = invoice_of(object) else { return Ok(None) };
    let amount = object["amount_paid"].as_i64().ok_or(Error::Malformed("the invoice has no amount_paid"))?;
    let currency = object["currency"].as_str().unwrap_or_default().to_uppercase().parse::<Currency>();
    let currency = currency.map_err(|_| Error::Malformed("the invoice has no currency"))?;
    let reference = object["id"].as_str().filter(|text| !text.is_empty() && text.len() <= MAX_ID);
    let reference = reference.ok_or(Error::Malformed("the invoice has no id"))?.to_owned();
    if amount <= 0 {
        return Ok(None);
    }
    let amount = from_stripe(amount, currency).map_err(|_| Error::Malformed("the amount is none of the currency"))?;
    let paid_at = object["status_transitions"]["paid_at"].as_i64().and_then(Timestamp::from_secs);
    let (event, kind) = (id.to_owned(), kind.to_owned());
    Ok(Some(PaymentNotice { source: STRIPE, event, kind, invoice, amount, reference, received_at: paid_at }))
}

fn refund_of(object: &Value) -> Option<String> {
    let amount = object["amount_refunded"].as_i64()?;
    let currency = object["currency"].as_str()?.to_uppercase().parse().ok()?;
    Some(format!("{} was given back", from_stripe(amount, currency).ok()?))
}
