//! Events: what happened, for other programs to hear of. Each is written in the transaction of the change that it tells of, so
//! that there is none without the other.

use std::{fmt, str::FromStr};

use serde_json::Value;

use super::{EventId, Rng, TenantId, Timestamp};

macro_rules! event_names {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// The names of all events. `docs/webhooks.md` says what each has in its data.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventName {
            $($(#[$doc])* $variant),*
        }

        impl EventName {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name, as `noun.verb`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
    };
}

event_names! {
    /// A tenant came about; it is not usable yet.
    TenantCreated = "tenant.created";
    /// It can be used: for the first time, or after it was suspended.
    TenantActivated = "tenant.activated";
    /// A step of making it failed. It is tried again, or taken out.
    TenantFailed = "tenant.failed";
    /// No call of it gets through any more.
    TenantSuspended = "tenant.suspended";
    /// Its infrastructure does not answer: calls are told so until it does.
    TenantUnavailable = "tenant.unavailable";
    /// Its infrastructure answers again.
    TenantAvailable = "tenant.available";
    /// It is held to the limits of a lower tier because an invoice is overdue.
    TenantLimited = "tenant.limited";
    /// It has its own limits again.
    TenantLimitLifted = "tenant.limit_lifted";
    /// It is on another tier.
    TenantTierChanged = "tenant.tier_changed";
    /// It begins to be taken out: no call of it gets through any more.
    TenantOffboarding = "tenant.offboarding";
    /// All of it is gone but the tombstone.
    TenantDeleted = "tenant.deleted";
    /// A person became a user of a tenant.
    UserCreated = "user.created";
    /// A person is no user of a tenant any more.
    UserRemoved = "user.removed";
    /// A soft quota was exceeded, for the first time in its period.
    UsageThreshold = "usage.threshold";
    /// A period is over, and what it came to is known but for what comes late.
    InvoiceDrafted = "invoice.drafted";
    /// An invoice has its number and does not change any more.
    InvoiceFinalized = "invoice.finalized";
    /// Nothing of an invoice is owed any more.
    InvoicePaid = "invoice.paid";
    /// An invoice was due and is not paid.
    InvoiceOverdue = "invoice.overdue";
    /// An invoice was taken back.
    InvoiceVoided = "invoice.voided";
    /// An endpoint gets nothing any more, because it said so or because it failed for long.
    WebhookDisabled = "webhook.disabled";
}

/// Not the name of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no event {0}; there are: {names}", names = EventName::ALL.iter().map(|name| name.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownEventName(pub String);

impl FromStr for EventName {
    type Err = UnknownEventName;

    fn from_str(text: &str) -> Result<Self, UnknownEventName> {
        Self::ALL.iter().copied().find(|name| name.name() == text).ok_or_else(|| UnknownEventName(text.to_owned()))
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The same wherever and however often it is told.
    pub id: EventId,
    /// Whose affair it is; `None` for the platform's own.
    pub tenant: Option<TenantId>,
    /// What it was.
    pub name: EventName,
    /// When.
    pub occurred_at: Timestamp,
    /// What is told of it: an object without secrets and without emails.
    pub data: Value,
}

impl Event {
    /// One that happens now.
    pub fn new(name: EventName, tenant: Option<TenantId>, data: Value, now: Timestamp, rng: &dyn Rng) -> Self {
        Self { id: EventId::generate(now, rng), tenant, name, occurred_at: now, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_another_is_refused_with_the_list() {
        for name in EventName::ALL {
            assert_eq!(name.name().parse(), Ok(*name));
        }
        let refused = "tenant.exploded".parse::<EventName>().unwrap_err().to_string();
        assert!(refused.contains("tenant.exploded") && refused.contains("usage.threshold"), "{refused}");
    }
}
