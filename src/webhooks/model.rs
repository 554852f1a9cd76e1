//! Who is told of events, what waits for them, and what came of it.

use std::fmt;

use super::toolkit::Format;
use crate::kernel::{EventId, EventName, Secret, TenantId, Timestamp, WebhookId};

/// Somebody's address that is told of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Whose; `None` for the platform's, which is told of everything.
    pub tenant: Option<TenantId>,
    /// Where.
    pub url: String,
    /// Of what.
    pub events: Events,
    /// In which words.
    pub format: Format,
    /// Since when.
    pub created_at: Timestamp,
    /// Whether anything goes there.
    pub state: WebhookState,
    /// How it fails, while it does.
    pub failing: Option<Failing>,
}

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Events {
    /// `*`: all, those that come to be later, too.
    All,
    /// Some.
    Named(Vec<EventName>),
}

impl Events {
    /// What stands for all.
    pub const STAR: &'static str = "*";

    /// As texts.
    pub fn names(&self) -> Vec<&'static str> {
        match self {
            Self::All => vec![Self::STAR],
            Self::Named(names) => names.iter().map(|name| name.name()).collect(),
        }
    }
}

/// Whether anything goes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookState {
    /// What happens is told.
    On,
    /// What happens is not told.
    Off {
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: OffReason,
    },
}

/// Why nothing goes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffReason {
    /// Somebody switched it off.
    Asked,
    /// It answered 410 Gone.
    Gone,
    /// It failed for long.
    Failing,
}

/// Not one of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reason")]
pub struct UnknownReason;

impl OffReason {
    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

impl std::str::FromStr for OffReason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        [Self::Asked, Self::Gone, Self::Failing].into_iter().find(|own| own.name() == text).ok_or(UnknownReason)
    }
}

/// How an address fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// Since when nothing succeeded.
    pub since: Timestamp,
    /// Tries since then.
    pub failures: i64,
}

/// A webhook to be made.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Whose.
    pub tenant: Option<TenantId>,
    /// Where.
    pub url: String,
    /// Of what.
    pub events: Events,
    /// In which words.
    pub format: Format,
}

/// What is to be changed of a webhook.
#[derive(Debug, Clone, Default)]
pub struct WebhookPatch {
    /// Where.
    pub url: Option<String>,
    /// Of what.
    pub events: Option<Events>,
    /// Whether anything goes there.
    pub enabled: Option<bool>,
}

/// A secret that deliveries are signed with: `whsec_` and base64.
#[derive(Debug, Clone)]
pub struct SealedSecret {
    /// Under the key file.
    pub sealed: Vec<u8>,
    /// Until when it signs; `None` for the one in force.
    pub signs_until: Option<Timestamp>,
}

/// An event in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Its id.
    pub id: EventId,
    /// Whose affair it is; `None` for the platform's own.
    pub tenant: Option<TenantId>,
    /// Its place among those of its tenant: one more than that of the one before.
    pub sequence: i64,
    /// What happened. A text, because names may be forgotten by a later version.
    pub name: String,
    /// When.
    pub occurred_at: Timestamp,
    /// What is told of it, as JSON.
    pub data: String,
}

/// Which events of the outbox; an empty filter is all.
#[derive(Debug, Clone, Default)]
pub struct OutboxFilter {
    /// Of a tenant.
    pub tenant: Option<TenantId>,
    /// Of a name.
    pub name: Option<EventName>,
}

/// An event that waits for a webhook, the first of its tenant's.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Who is to be told.
    pub webhook: WebhookId,
    /// How often it was tried.
    pub attempts: i64,
    /// Of what.
    pub event: OutboxEvent,
}

/// A delivery that this process has taken upon itself.
#[derive(Clone)]
pub struct Claimed {
    /// Who is told of what; `attempts` counts this one.
    pub delivery: Delivery,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub url: String,
    /// What is sent, one after the other.
    pub messages: Vec<Message>,
}

/// A signed message.
#[derive(Clone)]
pub struct Message {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-signature`.
    pub signatures: Secret,
    /// The body.
    pub body: String,
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}

/// What a try came to.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status, or why there is none.
    pub status: Result<u16, String>,
    /// `Retry-After`, as it was sent.
    pub retry_after: Option<String>,
}

/// What follows from a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has it.
    Delivered,
    /// It is tried again then.
    Failed {
        /// When.
        next_try_at: Timestamp,
    },
    /// It is not tried again.
    GivenUp,
}

impl Outcome {
    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed { .. } => "failed",
            Self::GivenUp => "given_up",
        }
    }

    /// When it is tried again, if it is.
    pub const fn next_try_at(self) -> Option<Timestamp> {
        match self {
            Self::Failed { next_try_at } => Some(next_try_at),
            Self::Delivered | Self::GivenUp => None,
        }
    }
}

/// A try, as it is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its id, in order of time.
    pub id: uuid::Uuid,
    /// Of which webhook.
    pub webhook: WebhookId,
    /// Which event.
    pub event: EventId,
    /// The event's name.
    pub name: String,
    /// The how manieth.
    pub number: i64,
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// The status of the answer, if there was one.
    pub status: Option<i64>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// The name of its [`Outcome`].
    pub outcome: String,
    /// When it is tried again, as was decided then.
    pub next_try_at: Option<Timestamp>,
}
