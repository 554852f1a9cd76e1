//! Tenants: who the customers are, their state and their tier. The tier is kept here and nowhere else.
//!
//! Invariants: a customer name and an external id belong to at most one tenant that is not deleted; a tenant's id is
//! fixed before anything else is made for it; a deleted tenant stays as a tombstone; every change of tier is kept
//! with its time, so that a bill of the past can be worked out again; a state is followed by those alone that may follow it,
//! which the types, the store's updates and the database hold each by itself. That a tenant does not answer is no state: it
//! stands beside what was decided.
//!
//! Not here: people (`users`), money (`billing`), and the order in which a tenant comes about (`onboarding`).

pub mod error;
pub mod http;
pub mod model;
pub mod rules;
mod service;

pub use error::Error;
pub use http::TenantView;
pub use model::{Failure, Status, Suspension, Tenant, TenantFilter, TierSpan, Unavailable};
pub use rules::TRANSITIONS;
pub use service::{Deed, TenantPatch, Tenants};
