//! Withdrawn tokens: everything issued to somebody up to an instant is dead. Kept in memory for the request path and in
//! the store for the next start, until the last such token has expired by itself.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use uuid::Uuid;

use super::access::{Access, Subject};
use crate::kernel::{ClientId, SessionId, TenantId, Timestamp, UserId};

/// Whose tokens are withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// Everybody's in a tenant.
    Tenant(TenantId),
    /// A user's in a tenant.
    User(TenantId, UserId),
    /// A person's everywhere.
    Person(UserId),
    /// A client's: its own, and its users' with it.
    Client(ClientId),
    /// One sign-in's.
    Session(SessionId),
    /// One token, by its `jti`.
    Token(Uuid),
}

impl Revoked {
    /// The name in the store.
    pub fn key(self) -> String {
        match self {
            Self::Tenant(tenant) => format!("tenant {tenant}"),
            Self::User(tenant, user) => format!("user {tenant} {user}"),
            Self::Person(user) => format!("person {user}"),
            Self::Client(client) => format!("client {client}"),
            Self::Session(session) => format!("session {session}"),
            Self::Token(token) => format!("token {token}"),
        }
    }

    /// From the name in the store.
    pub fn from_key(key: &str) -> Option<Self> {
        let (kind, rest) = key.split_once(' ')?;
        Some(match kind {
            "tenant" => Self::Tenant(rest.parse().ok()?),
            "user" => {
                let (tenant, user) = rest.split_once(' ')?;
                Self::User(tenant.parse().ok()?, user.parse().ok()?)
            }
            "person" => Self::Person(rest.parse().ok()?),
            "client" => Self::Client(rest.parse().ok()?),
            "session" => Self::Session(rest.parse().ok()?),
            "token" => Self::Token(rest.parse().ok()?),
            _ => return None,
        })
    }
}

/// The withdrawals that matter now.
#[derive(Default)]
pub(super) struct Revocations {
    until: DashMap<Revoked, i64>,
    /// Entries in `until`: most of the time none, and then nothing is looked up.
    count: AtomicUsize,
}

impl Revocations {
    /// Withdraws what was issued at or before an instant.
    pub(super) fn add(&self, revoked: Revoked, at: Timestamp) {
        let millis = at.as_millis();
        if self.until.insert(revoked, millis).is_none() {
            self.count.fetch_add(1, Ordering::Release);
        }
    }

    /// Forgets withdrawals before `horizon`: those tokens have expired.
    pub(super) fn forget_before(&self, horizon: Timestamp) {
        let before = self.until.len();
        self.until.retain(|_, at| *at >= horizon.as_millis());
        self.count.fetch_sub(before.saturating_sub(self.until.len()), Ordering::Release);
    }

    /// Whether a token is dead.
    pub(super) fn covers(&self, access: &Access) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let issued = access.issued_at.as_millis();
        let dead = |revoked: Revoked| self.until.get(&revoked).is_some_and(|at| issued <= *at);
        // A session that ended stays so, whenever its last token was signed.
        let over = |revoked: Revoked| self.until.contains_key(&revoked);
        let by_subject = match (&access.subject, access.tenant) {
            (&Subject::User(user), Some(tenant)) => dead(Revoked::User(tenant, user)) || dead(Revoked::Person(user)),
            (&Subject::User(user), None) => dead(Revoked::Person(user)),
            (&Subject::Client(client), _) => dead(Revoked::Client(client)),
            // Their ids are their issuer's, whatever they look like; their tenant is ours.
            (Subject::Foreign(_), tenant) => return tenant.is_some_and(|tenant| dead(Revoked::Tenant(tenant))),
        };
        by_subject
            || access.tenant.is_some_and(|tenant| dead(Revoked::Tenant(tenant)))
            || access.client_id.parse().is_ok_and(|client| dead(Revoked::Client(client)))
            || access.session.is_some_and(|session| over(Revoked::Session(session)))
            || access.token_id.parse().is_ok_and(|token| over(Revoked::Token(token)))
    }
}
