//! Stripe: tenants as its customers, and either usage as meter events or invoices of ours as invoices of its own; and what it, or
//! anybody else who takes payments, tells of them.
//!
//! Invariants: what is to be told is written in the transaction that it follows from, and a step before it is made; a step is
//! made under a key of what it is about, so that nothing is there twice, whoever dies between which two steps; of one tenant
//! things go in order, and one tenant's trouble keeps nobody else; what Stripe refuses for good is parked with its reason, and
//! when it refuses us, nothing more is sent until somebody says so. A payment counts once, however often it is told of.
//! Without settings nothing waits and nothing is sent.
//!
//! Not here: the calls themselves (`pushes.rs`), and what a payment does (`onboarding`).

mod amounts;
pub mod error;
pub mod http;
pub mod model;
mod planned;
mod planning;
mod pushing;
mod received;
mod requests;
pub mod rules;
mod service;
pub mod signature;
mod webhook_http;

pub use error::Error;
pub use model::{
    Answer, Call, Form, Job, Kind, Mode, PaymentEvent, Request, SentMeter, Settled, Standing, StripeConfig,
};
pub use received::Received;
pub use service::{Overview, Stripe, StripeSetup};
pub use signature::is_standard_secret;
