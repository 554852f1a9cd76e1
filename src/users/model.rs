//! People and their memberships.

use std::str::FromStr;

use crate::kernel::{Email, PersonName, TenantId, Timestamp, UserId};

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// How they sign in.
    pub email: Email,
    /// Since when we know that it reaches them: they followed a link that was sent there.
    pub email_verified_at: Option<Timestamp>,
    /// What they are called, where they said so.
    pub name: Option<PersonName>,
    /// Whether they administer the platform itself.
    pub platform_admin: bool,
    /// Since when they are known.
    pub created_at: Timestamp,
    /// When what they may tell of themselves changed last.
    pub updated_at: Timestamp,
}

/// A person's place in a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Where.
    pub tenant_id: TenantId,
    /// Who.
    pub user_id: UserId,
    /// As what.
    pub role: Role,
    /// Whether it is in force.
    pub status: MembershipStatus,
    /// Since when.
    pub created_at: Timestamp,
}

/// A membership together with its person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The person.
    pub user: User,
    /// Their place.
    pub membership: Membership,
}

/// What a member may do in their tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Uses the product.
    Member,
    /// Also manages users and clients.
    Admin,
    /// The first user; also everything else.
    Owner,
}

/// Whether a membership is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipStatus {
    /// In force.
    Active,
    /// Put out of force by an administrator; the person cannot sign in to this tenant.
    Disabled,
}

/// Not one of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {0}")]
pub struct UnknownName(&'static str);

impl Role {
    /// The name in the API and in tokens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

impl FromStr for Role {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "member" => Ok(Self::Member),
            "admin" => Ok(Self::Admin),
            "owner" => Ok(Self::Owner),
            _ => Err(UnknownName("owner, admin, member")),
        }
    }
}

impl MembershipStatus {
    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }
}

impl FromStr for MembershipStatus {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "active" => Ok(Self::Active),
            "disabled" => Ok(Self::Disabled),
            _ => Err(UnknownName("active, disabled")),
        }
    }
}
