//! Identifiers: one type per thing, so that a user can never stand where a tenant is meant.
//!
//! All are `UUIDv7` (RFC 9562 section 5.7): they sort by the time they were made. They are made from a clock and a
//! random source that the caller passes in; there is no default and no conversion from a bare `Uuid` outside
//! [`from_uuid`](TenantId::from_uuid), which is for values that come back from a store or a verified token.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Rng, Timestamp};

/// The text is not the canonical form of an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID: expected 36 characters, 8-4-4-4-12 hexadecimal digits")]
pub struct IdError;

/// A `UUIDv7` for `now`, with 74 random bits.
pub fn uuid_v7(now: Timestamp, rng: &dyn Rng) -> Uuid {
    let mut random = [0_u8; 10];
    rng.fill(&mut random);
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new identifier.
            pub fn generate(now: Timestamp, rng: &dyn Rng) -> Self {
                Self(uuid_v7(now, rng))
            }

            /// Wraps a value that was this kind of identifier before it was stored or signed.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The bare value, for storing and signing.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.len() != 36 {
                    return Err(IdError);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| IdError)
            }
        }
    };
}

id!(/// A customer's organisation.
    TenantId);
id!(/// A person (or the platform administrator).
    UserId);
id!(/// One run of the onboarding saga.
    RegistrationId);
id!(/// One change of a tenant's tier.
    TierChangeId);
id!(/// A tenant's billing account.
    BillingAccountId);
id!(/// A piece of infrastructure that provisioning made.
    InfrastructureId);
id!(/// A family of refresh tokens: one sign-in.
    SessionId);
id!(/// A browser that somebody is signed in with.
    BrowserId);
id!(/// What lets somebody register clients.
    InitialTokenId);
id!(/// A machine client of OAuth 2.0.
    ClientId);
id!(/// An invitation to a tenant.
    InvitationId);
id!(/// A meter.
    MeterId);
id!(/// An event that other programs hear of.
    EventId);
id!(/// An address that is told of events.
    WebhookId);
id!(/// An invoice.
    InvoiceId);
id!(/// What takes some of an invoice back.
    CreditNoteId);
id!(/// Money that came in for an invoice.
    PaymentId);
id!(/// Money that a tenant has with us.
    CreditId);
id!(/// A rebate on invoices.
    CouponId);
id!(/// A node's journal: random, made with its data folder.
    NodeId);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededRng;

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let rng = SeededRng::new(1);
        let earlier = TenantId::generate(Timestamp::from_millis(1_000).unwrap(), &rng);
        let later = TenantId::generate(Timestamp::from_millis(2_000).unwrap(), &rng);
        assert!(earlier < later);
        assert_eq!(earlier.as_uuid().get_version_num(), 7);
    }

    #[test]
    fn only_the_canonical_text_is_an_id() {
        let text = "018f0000-0000-7000-8000-000000000001";
        assert_eq!(text.parse::<TenantId>().unwrap().to_string(), text);
        for wrong in ["", "018f", "{018f0000-0000-7000-8000-000000000001}", "018f00000000700080000000000000001"] {
            assert_eq!(wrong.parse::<TenantId>(), Err(IdError), "{wrong}");
        }
    }
}
