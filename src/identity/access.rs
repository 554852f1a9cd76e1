//! What a verified access token says: the proof that is carried inward.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use crate::{
    kernel::{ClientId, SessionId, TenantId, Timestamp, UserId},
    users::Role,
};

/// The claims of a token that was verified.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who calls.
    pub subject: Subject,
    /// For which tenant; `None` for the platform administrator alone.
    pub tenant: Option<TenantId>,
    /// The role of a user in the tenant; `None` for machine clients and the platform administrator.
    pub role: Option<Role>,
    /// What the token may be used for.
    pub scope: ScopeSet,
    /// `client_id` of RFC 9068.
    pub client_id: String,
    /// `jti`.
    pub token_id: String,
    /// The sign-in it belongs to; `None` for machine clients.
    pub session: Option<SessionId>,
    /// When it was issued: `iat`, to the millisecond where its id tells.
    pub issued_at: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
    /// What else a foreign issuer's token lives by; `None` for our own.
    pub(super) foreign: Option<ForeignLife>,
}

impl Access {
    /// Whether it must be verified anew before it is believed again: a foreign issuer's key is to be confirmed or is gone, or
    /// the tenant that it names may be another by now.
    pub(super) fn is_in_doubt(&self, now: Timestamp) -> bool {
        self.foreign.as_ref().is_some_and(|life| !life.key.lasts(now) || !life.place.is_sure())
    }
}

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A person.
    User(UserId),
    /// A tenant's machine client.
    Client(ClientId),
    /// Somebody of a foreign issuer, who is nobody of ours.
    Foreign(ForeignSubject),
}

/// Somebody of a foreign issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ForeignSubject {
    /// `iss`.
    pub issuer: Arc<str>,
    /// `sub`: any text.
    pub sub: Box<str>,
}

/// What a foreign issuer's token lives by, besides its own time.
#[derive(Debug, Clone)]
pub(super) struct ForeignLife {
    pub(super) key: KeyLife,
    pub(super) place: Arc<Place>,
}

/// Until when something that was confirmed from afar is good without asking again: a key of a set, an introspected token.
/// Shared by everything that lives by it.
#[derive(Debug, Clone)]
pub(super) struct KeyLife(Arc<AtomicI64>);

impl KeyLife {
    pub(super) fn until(at: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(at.as_micros())))
    }

    pub(super) fn lasts(&self, now: Timestamp) -> bool {
        now.as_micros() < self.0.load(Ordering::Acquire)
    }

    /// The instant, unless it has ended before its time.
    pub(super) fn end_at(&self) -> Option<Timestamp> {
        Timestamp::from_micros(self.0.load(Ordering::Acquire))
    }

    pub(super) fn extend(&self, until: Timestamp) {
        self.0.store(until.as_micros(), Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.0.store(i64::MIN, Ordering::Release);
    }
}

/// The tenant that a foreign issuer's word for it means.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) tenant: TenantId,
    pub(super) external_id: Option<String>,
    /// Grows with every change of the tenant.
    pub(super) changes: Arc<AtomicU64>,
    /// The number under which this was looked up.
    pub(super) as_of: u64,
}

impl Place {
    /// Whether the tenant has not changed since.
    pub(super) fn is_sure(&self) -> bool {
        self.changes.load(Ordering::Acquire) == self.as_of
    }
}

/// The scope of the platform administrator's token.
pub const ADMIN_SCOPE: &str = "tollgate:admin";

/// Scope values (RFC 6749 section 3.3), without repeats, in the order granted: one text, which tokens can share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeSet(Arc<str>);

impl ScopeSet {
    /// From the space-separated form.
    pub fn parse(text: &str) -> Self {
        Self::of(text.split_ascii_whitespace())
    }

    /// Of single values.
    fn of<'t>(values: impl Iterator<Item = &'t str>) -> Self {
        let mut known = String::new();
        for value in values {
            if !known.split(' ').any(|own| own == value) {
                if !known.is_empty() {
                    known.push(' ');
                }
                known.push_str(value);
            }
        }
        Self(known.into())
    }

    /// From the form of RFC 6749 section 3.3, and nothing else: values of visible ASCII without quotes and backslashes,
    /// separated by single spaces.
    pub fn parse_strictly(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte == 0x21 || (0x23..=0x5b).contains(&byte) || (0x5d..=0x7e).contains(&byte);
        let good = text.split(' ').all(|value| !value.is_empty() && value.bytes().all(allowed));
        good.then(|| Self::parse(text))
    }

    /// All values of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::of(self.iter().chain(other.iter()))
    }

    /// Whether it holds a value.
    pub fn contains(&self, value: &str) -> bool {
        self.iter().any(|known| known == value)
    }

    /// The values, in the order granted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_ascii_whitespace()
    }

    /// The values held by both, in this one's order.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self::of(self.iter().filter(|value| other.contains(value)))
    }
}

impl std::fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a token was not accepted. The caller learns no more than [`Display`](std::fmt::Display) says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of ours, altered, or signed with a key that is not known.
    #[error("the access token is not valid: {0}")]
    Invalid(&'static str),
    /// `exp` has passed.
    #[error("the access token has expired")]
    Expired,
    /// Withdrawn before its time.
    #[error("the access token was revoked")]
    Revoked,
    /// Whether it is good cannot be told now; asking again may help.
    #[error("the access token cannot be checked now: {0}")]
    Unavailable(&'static str),
}
