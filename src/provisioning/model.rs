//! What was made for a tenant, what may be there of it, and what a driver says of it.

use std::str::FromStr;

use uuid::Uuid;

use crate::kernel::{InfrastructureId, Isolation, Secret, TenantId, Timestamp};

/// A tenant's piece of infrastructure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Infrastructure {
    /// Which piece.
    pub id: InfrastructureId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Shared or its own.
    pub isolation: Isolation,
    /// Which driver made it.
    pub driver: String,
    /// Where it is, in the driver's terms.
    pub location: String,
    /// Since when.
    pub created_at: Timestamp,
}

/// A place that is no longer used and still has to be taken down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Whose it was.
    pub tenant_id: TenantId,
    /// Shared or its own.
    pub isolation: Isolation,
    /// Which driver made it.
    pub driver: String,
    /// Where it is, in the driver's terms.
    pub location: String,
}

impl From<&Infrastructure> for Leftover {
    fn from(infrastructure: &Infrastructure) -> Self {
        Self {
            tenant_id: infrastructure.tenant_id,
            isolation: infrastructure.isolation,
            driver: infrastructure.driver.clone(),
            location: infrastructure.location.clone(),
        }
    }
}

/// Which of a tenant's places: it has at most one of a kind and a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Of which kind.
    pub isolation: Isolation,
    /// Whose doing.
    pub driver: String,
}

/// What a tenant's rows at a place come to: the same for the same rows, at whatever place of one driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are.
    pub rows: u64,
    /// Their checksum, in the driver's terms.
    pub sum: String,
}

/// Where a tenant is to be, as drivers are told. A driver needs nothing else to make it, look at it or take it down.
#[derive(Debug, Clone)]
pub struct Place {
    /// Whose.
    pub tenant_id: TenantId,
    /// Shared or its own.
    pub isolation: Isolation,
    /// Which of the driver's pools it is in; empty for a place of its own.
    pub pool: String,
    /// Where it is, in the driver's terms; empty until it was made.
    pub location: String,
    /// Where the tenant's requests go, if not where the pool's go.
    pub upstream: Option<String>,
    /// A password made up for it, while it is to be set.
    pub password: Option<Secret>,
}

impl Place {
    /// A place that is not there yet.
    pub const fn new(tenant_id: TenantId, isolation: Isolation, pool: String) -> Self {
        Self { tenant_id, isolation, pool, location: String::new(), upstream: None, password: None }
    }
}

/// A place as the store has it, from before it is made until after it is taken down.
#[derive(Debug, Clone)]
pub struct KeptPlace {
    /// The place, without its password.
    pub place: Place,
    /// Whose doing it is.
    pub driver: String,
    /// Whether all of it was made. It may be there, or a part of it, when this is false.
    pub made: bool,
    /// Credentials that nobody has read yet, sealed.
    pub sealed: Option<Vec<u8>>,
    /// When they were read.
    pub read_at: Option<Timestamp>,
}

impl KeptPlace {
    /// What became of its credentials: `none`, `unread` or `read`.
    pub const fn credentials(&self) -> &'static str {
        match (&self.sealed, &self.read_at) {
            (Some(_), _) => "unread",
            (None, Some(_)) => "read",
            (None, None) => "none",
        }
    }
}

impl From<&KeptPlace> for Leftover {
    fn from(kept: &KeptPlace) -> Self {
        Self {
            tenant_id: kept.place.tenant_id,
            isolation: kept.place.isolation,
            driver: kept.driver.clone(),
            location: kept.place.location.clone(),
        }
    }
}

/// What a driver made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Where it is, in the driver's terms.
    pub location: String,
    /// Where the tenant's requests go, if not where the pool's go: an http or https address.
    pub upstream: Option<String>,
    /// What the tenant's own programs need to use it: a JSON object.
    pub credentials: Option<Secret>,
}

/// What a driver finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// All of it is there.
    Present,
    /// Nothing of it is there.
    Absent,
    /// Some of it is not as it should be.
    Drifted(String),
    /// All of it is there, and it does not work just now; it is seen to.
    Unwell(String),
}

/// One of the pools that tenants are placed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// The most tenants in it; `None` for as many as come.
    pub capacity: Option<i64>,
}

impl Pool {
    /// The pool of those who name none.
    pub const DEFAULT: &'static str = "default";
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Make it.
    Apply,
    /// Take it down.
    Destroy,
}

impl Verb {
    /// The name on the wire and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Destroy => "destroy",
        }
    }
}

impl FromStr for Verb {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "apply" => Ok(Self::Apply),
            "destroy" => Ok(Self::Destroy),
            _ => Err("is neither apply nor destroy"),
        }
    }
}

/// Something that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The same however often it is asked.
    pub id: Uuid,
    /// For whom.
    pub tenant_id: TenantId,
    /// What kind of place.
    pub isolation: Isolation,
    /// What.
    pub verb: Verb,
    /// What was answered.
    pub answered: Option<Answered>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Whether it was done.
    pub succeeded: bool,
    /// What was made, or why it was not; there may be credentials in it.
    pub sealed: Vec<u8>,
}
