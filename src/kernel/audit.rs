//! What is noted of who did what: one entry an act, written in the transaction that does it, never changed.

use std::{fmt, net::IpAddr};

use serde_json::{Value, json};
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

/// What was there before an act, and what is there after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Nothing of what was made.
    pub before: Option<Value>,
    /// Nothing of what was taken away.
    pub after: Option<Value>,
}

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// The place of an entry in the chain that all entries make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// From 1, without gaps.
    pub serial: i64,
    /// Of what may be personal: [`AuditEntry::digest`] as it was when the entry was sealed.
    pub digest: Hash,
    /// Of the hash before, and of the entry.
    pub hash: Hash,
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
    /// From where.
    pub address: Option<IpAddr>,
    /// What was changed.
    pub change: Option<Change>,
    /// Its place in the chain; `None` in its first seconds.
    pub seal: Option<Seal>,
}

impl AuditEntry {
    /// The hash of what can be taken out of an entry without breaking the chain: of the JSON array
    /// `[address, detail, before, after]`, without spaces.
    pub fn digest(&self) -> Hash {
        let change = |side: fn(&Change) -> Option<&Value>| self.change.as_ref().and_then(side);
        let before = change(|change| change.before.as_ref());
        let after = change(|change| change.after.as_ref());
        let personal = json!([self.address.map(|address| address.to_string()), self.detail, before, after]);
        *blake3::hash(personal.to_string().as_bytes()).as_bytes()
    }

    /// The seal after another, whose hash is `before`: the hash of these 32 bytes and of the JSON array
    /// `[serial, audit_id, at, actor, action, tenant_id, subject, digest]`, without spaces, the digest in hexadecimal digits.
    pub fn sealed_after(&self, serial: i64, before: &Hash, digest: Hash) -> Seal {
        let Self { id, at, actor, action, tenant, subject, .. } = self;
        let hex = blake3::Hash::from(digest).to_hex();
        let said = json!([serial, id, at, actor, action, tenant, subject, hex.as_str()]);
        let mut hasher = blake3::Hasher::new();
        hasher.update(before).update(said.to_string().as_bytes());
        Seal { serial, digest, hash: *hasher.finalize().as_bytes() }
    }

    /// Whether something was taken out of it since it was sealed.
    pub const fn is_erased(&self) -> bool {
        self.address.is_none() && self.detail.is_none() && self.change.is_none()
    }
}

/// A walk along the chain, entry by entry: what does not fit is said once.
#[derive(Debug, Clone, Copy)]
pub struct ChainWalk {
    serial: i64,
    hash: Hash,
}

impl ChainWalk {
    /// After an entry.
    pub const fn after((serial, hash): (i64, Hash)) -> Self {
        Self { serial, hash }
    }

    /// Takes the next entry; what is wrong with it.
    pub fn step(&mut self, entry: &AuditEntry) -> Option<String> {
        let seal = entry.seal?;
        let expected = self.serial + 1;
        if seal.serial != expected {
            self.serial = seal.serial;
            self.hash = seal.hash;
            return Some(format!("audit: the entries {expected} to {} are missing", seal.serial - 1));
        }
        let said = entry.sealed_after(seal.serial, &self.hash, seal.digest);
        let was = *self;
        (self.serial, self.hash) = (seal.serial, seal.hash);
        if said != seal {
            let at = was.serial + 1;
            return Some(format!("audit: the entry {at} ({}), or the one before it, is not what was sealed", entry.id));
        }
        let fits = entry.is_erased() || entry.digest() == seal.digest;
        (!fits).then(|| format!("audit: the details of the entry {expected} ({}) are not what was sealed", entry.id))
    }

    /// What is wrong with the end of the chain.
    pub fn end(self, last: (i64, Hash)) -> Option<String> {
        let (serial, hash) = last;
        let missing = || format!("audit: the entries after {} are missing, up to {serial}", self.serial);
        (self.serial != serial || self.hash != hash).then(missing)
    }
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
