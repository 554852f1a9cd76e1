//! What a verified access token says: the proof that is carried inward.

use crate::{
    kernel::{ClientId, SessionId, TenantId, Timestamp, UserId},
    users::Role,
};

/// The claims of a token that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

/// Who a token speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A person.
    User(UserId),
    /// A tenant's machine client.
    Client(ClientId),
}

/// The scope of the platform administrator's token.
pub const ADMIN_SCOPE: &str = "tollgate:admin";

/// Scope values (RFC 6749 section 3.3), without repeats, in the order granted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeSet(Vec<String>);

impl ScopeSet {
    /// From the space-separated form.
    pub fn parse(text: &str) -> Self {
        let mut values: Vec<String> = Vec::new();
        for value in text.split_ascii_whitespace() {
            if !values.iter().any(|known| known == value) {
                values.push(value.to_owned());
            }
        }
        Self(values)
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
        Self::parse(&format!("{self} {other}"))
    }

    /// Whether it holds a value.
    pub fn contains(&self, value: &str) -> bool {
        self.0.iter().any(|known| known == value)
    }

    /// The values, in the order granted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The values held by both, in this one's order.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|value| other.contains(value)).cloned().collect())
    }
}

impl std::fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(" "))
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
}
