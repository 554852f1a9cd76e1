//! Users: people, and which tenants they belong to in which role.
//!
//! Invariants: an email address (compared without regard to case) is one person; a person belongs to a tenant at most
//! once; a person without any tenant left, who is no platform administrator, is forgotten.
//!
//! Not here: passwords and sessions (`identity`).

pub mod error;
pub mod model;
pub mod rules;
mod service;

pub use error::Error;
pub use model::{Member, Membership, MembershipStatus, Role, User};
pub use rules::KnownEmail;
pub use service::{Joined, Users};
