//! What is to go to Stripe, how far it is, and what is called for it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    billing::{AddressBody, Invoice, InvoiceDocument},
    kernel::{InvoiceId, Money, Secret, TenantId, Timestamp},
    metering::MeterKey,
};

/// How Stripe is used.
#[derive(Debug, Clone)]
pub struct StripeConfig {
    /// What calls are made with.
    pub secret_key: Secret,
    /// What its webhooks may be signed with.
    pub webhook_secrets: Vec<Secret>,
    /// Where it is, without a slash at the end.
    pub api_base: String,
    /// What it is told.
    pub mode: Mode,
    /// More of a customer's metadata.
    pub customer_metadata: BTreeMap<String, String>,
}

/// What Stripe is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Usage, which it rates and bills by itself.
    MeterEvents(Vec<SentMeter>),
    /// Invoices of ours, to collect them.
    InvoiceItems,
}

impl Mode {
    /// The name in settings and the API.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MeterEvents(_) => "meter_events",
            Self::InvoiceItems => "invoice_items",
        }
    }
}

/// A meter whose usage is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMeter {
    /// Ours.
    pub meter: MeterKey,
    /// `event_name` of Stripe's.
    pub event: String,
    /// So many of Stripe's whole units are one of ours.
    pub times: i64,
}

/// What a job is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tenant as a customer.
    Customer,
    /// An invoice, to be made and finalised.
    Invoice,
    /// An invoice that was taken back here.
    Void,
    /// An invoice that was paid here.
    Paid,
    /// A meter event.
    Usage,
    /// A meter event that is no more.
    Cancel,
}

/// Not one of the kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of job")]
pub struct UnknownKind;

impl Kind {
    const ALL: [Self; 6] = [Self::Customer, Self::Invoice, Self::Void, Self::Paid, Self::Usage, Self::Cancel];

    /// The name in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Invoice => "invoice",
            Self::Void => "void",
            Self::Paid => "paid",
            Self::Usage => "usage",
            Self::Cancel => "cancel",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(UnknownKind)
    }
}

/// A tenant's lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Whose.
    pub tenant: TenantId,
    /// What Stripe calls it.
    pub customer: Option<String>,
}

/// Something that is to be done at Stripe, step by step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Whose.
    pub tenant: TenantId,
    /// Its place in the tenant's lane.
    pub sequence: i64,
    /// What it is about.
    pub kind: Kind,
    /// Which one.
    pub subject: String,
    /// The step that is next.
    pub step: i64,
    /// What Stripe calls what was made.
    pub remote: Option<String>,
    /// Which idempotency key of the step is in use, from 1.
    pub generation: i64,
    /// When the step was first tried with that key.
    pub tried_at: Option<Timestamp>,
    /// Whether it is to be looked up first if the step was done.
    pub in_doubt: bool,
    /// Tries of the step.
    pub attempts: i64,
    /// When it is tried next.
    pub next_try_at: Timestamp,
    /// Why the last try came to nothing.
    pub error: Option<String>,
    /// What holds it up.
    pub parked_at: Option<Timestamp>,
    /// What became of it.
    pub settled: Option<(Timestamp, Settled)>,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Stripe has it.
    Done,
    /// There was nothing to do at Stripe.
    Nothing,
    /// Somebody said that it is to be left.
    Skipped,
}

impl Settled {
    /// The name in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Nothing => "nothing",
            Self::Skipped => "skipped",
        }
    }
}

/// A tenant as Stripe is to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// Whose.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// Its first owner's.
    pub email: Option<String>,
    /// Where bills go.
    pub address: Option<AddressBody>,
}

/// A meter event, as it was planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageEvent {
    /// Whose.
    pub tenant: TenantId,
    /// Of what.
    pub meter: MeterKey,
    /// The hour's first instant.
    pub hour: Timestamp,
    /// From 1 for each hour.
    pub revision: i64,
    /// Stripe's name.
    pub event: String,
    /// In Stripe's whole units; below zero it takes back.
    pub value: i64,
    /// When Stripe had it.
    pub sent_at: Option<Timestamp>,
    /// Whether it was cancelled, or is to be.
    pub cancelled: bool,
}

/// What a job is made of.
#[derive(Debug, Clone)]
pub enum Matter {
    /// Of [`Kind::Customer`].
    Customer(Customer),
    /// Of [`Kind::Invoice`].
    Invoice(Box<(Invoice, InvoiceDocument)>),
    /// Of [`Kind::Void`] and [`Kind::Paid`]: what Stripe calls the invoice, if it has it.
    Known(Option<String>),
    /// Of [`Kind::Usage`] and [`Kind::Cancel`].
    Usage(UsageEvent),
}

/// Fields of a form, in order.
pub type Form = Vec<(String, String)>;

/// A request to Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// From `/v1` on, with its query.
    pub path: String,
    /// What is posted, under which idempotency key; a look-up when absent.
    pub post: Option<(Form, String)>,
}

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Makes a customer.
    MakeCustomer,
    /// Looks whether there is one of the tenant's.
    FindCustomer,
    /// Brings it up to date.
    ChangeCustomer,
    /// Makes an invoice.
    MakeInvoice,
    /// Looks whether it was made.
    FindInvoice,
    /// Adds an item, by its place from 1.
    AddItem(i64),
    /// Looks whether it was added.
    FindItem(i64),
    /// Looks whether the invoice comes to what ours does, in Stripe's units.
    Check(i64),
    /// Finalises it, or voids it, or says that it was paid.
    Turn(Turn),
    /// Looks in which state it is.
    FindState(Turn),
    /// Sends a meter event, or one that takes it back.
    Send,
    /// Cancels one.
    Cancel,
}

/// What an invoice at Stripe is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// No draft any more.
    Finalized,
    /// Taken back.
    Void,
    /// Paid.
    Paid,
}

/// A call that this process has taken upon itself.
#[derive(Debug, Clone)]
pub struct Call {
    /// For which job.
    pub job: Job,
    /// For what.
    pub step: Step,
    /// What is sent.
    pub request: Request,
    /// Until when the lane is held, which tells this claim from later ones.
    pub lease: Timestamp,
    /// How many steps the job has.
    pub steps: i64,
    /// Whether no call before this one was made under its key that may have come to Stripe.
    pub is_first: bool,
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The status, or why there is none.
    pub status: Option<u16>,
    /// Why there is none.
    pub failure: Option<String>,
    /// Whether the call has certainly not come to anybody.
    pub unsent: bool,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<i64>,
    /// `Stripe-Should-Retry`.
    pub should_retry: Option<bool>,
    /// `Idempotent-Replayed`: what an earlier call with the same key was answered.
    pub replayed: bool,
    /// `Request-Id`.
    pub request_id: Option<String>,
    /// The document.
    pub body: Value,
}

/// What is told of a payment, by whoever takes it.
#[derive(Debug, Clone)]
pub struct PaymentNotice {
    /// Who tells: `stripe` or `payments`.
    pub source: &'static str,
    /// The id of what is told.
    pub event: String,
    /// What it is called there.
    pub kind: String,
    /// Of which invoice.
    pub invoice: InvoiceId,
    /// How much.
    pub amount: Money,
    /// What tells it from other payments of the invoice.
    pub reference: String,
    /// When it came; now when absent.
    pub received_at: Option<Timestamp>,
}

/// What was told, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEvent {
    /// Who told it.
    pub source: String,
    /// Its id there.
    pub id: String,
    /// What it is called there.
    pub kind: String,
    /// What came of it: one of the names in `docs/stripe.md`.
    pub outcome: String,
    /// In words.
    pub detail: Option<String>,
    /// Whose invoice.
    pub tenant: Option<TenantId>,
    /// Which invoice.
    pub invoice: Option<InvoiceId>,
    /// When it came.
    pub received_at: Timestamp,
}

/// How a tenant stands at Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Who.
    pub tenant: TenantId,
    /// What Stripe calls it.
    pub customer: Option<String>,
    /// Jobs that are done.
    pub done: i64,
    /// Jobs that wait, the parked one among them.
    pub waiting: i64,
    /// The job that is next, if any.
    pub next: Option<Job>,
    /// When a call last succeeded.
    pub sent_at: Option<Timestamp>,
}
