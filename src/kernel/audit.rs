//! What is noted of who did what: one entry an act, written in the transaction that does it, never changed.

use std::fmt;

use uuid::Uuid;

use super::{ClientId, TenantId, Timestamp, UserId};

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A person, by themselves.
    User(UserId),
    /// The platform administrator.
    Admin(UserId),
    /// A program.
    Client(ClientId),
    /// A worker of our own.
    Job(&'static str),
    /// Somebody who has not said who they are.
    Anonymous,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Admin(id) => write!(f, "admin:{id}"),
            Self::Client(id) => write!(f, "client:{id}"),
            Self::Job(name) => write!(f, "job:{name}"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// An act, as it is noted. Without secrets; with emails only where there is no id to name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who.
    pub actor: Actor,
    /// What, as `noun.verb`: `password.reset`.
    pub action: &'static str,
    /// Whose affair it is; `None` for the platform's.
    pub tenant: Option<TenantId>,
    /// To what it was done: an id.
    pub subject: String,
    /// More, in words.
    pub detail: Option<String>,
}

/// An entry as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its id, in order of time.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// [`Actor`] as text.
    pub actor: String,
    /// What.
    pub action: String,
    /// Whose affair.
    pub tenant: Option<TenantId>,
    /// To what.
    pub subject: String,
    /// More.
    pub detail: Option<String>,
}

/// Which entries are asked for; an empty filter is all.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of a tenant.
    pub tenant: Option<TenantId>,
    /// Of an actor, as text.
    pub actor: Option<String>,
    /// Of an action.
    pub action: Option<String>,
    /// Done to a subject.
    pub subject: Option<String>,
}
