//! Webhooks: events in an outbox, and whoever asked for it is told of them by signed calls (Standard Webhooks).
//!
//! Invariants: an event is written in the transaction of the change that it tells of, so there is none without the other; it is
//! told at least once, or given up after days, and always under the same id; of one tenant's events a later one is not told to
//! an address before the earlier one was taken or given up; a tenant's address hears of that tenant alone; secrets are kept
//! sealed under the key file, and shown once.
//!
//! Not here: what events say, which belongs to who writes them; the calls themselves (`deliveries.rs`).

mod delivering;
pub mod error;
mod events_http;
pub mod http;
pub mod model;
mod own_http;
pub mod rules;
mod service;
mod shapes_http;
pub mod toolkit;

pub use error::Error;
pub use model::{
    Answer, Attempt, Claimed, Delivery, Events, Failing, Message, NewWebhook, OffReason, OutboxEvent, OutboxFilter,
    Outcome, SealedSecret, Webhook, WebhookPatch, WebhookState,
};
pub use service::{Webhooks, WebhooksConfig};
pub use toolkit::Format;
