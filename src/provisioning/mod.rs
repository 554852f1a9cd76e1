//! Provisioning: real infrastructure that follows the tier. Pooled tiers get a row space in a shared place, siloed
//! tiers a place of their own.
//!
//! Invariants: a tenant has at most one piece of infrastructure; making it twice makes nothing twice; what was made
//! is taken down by the driver that made it, and what could not be taken down at once is remembered and tried again.
//!
//! Not here: which tier means which isolation (`billing`'s plans say so; `onboarding` passes it on).

pub mod driver;
pub mod error;
pub mod http;
pub mod model;
pub mod rules;
mod service;
mod sqlite;

pub use driver::Driver;
pub use error::Error;
pub use http::InfrastructureView;
pub use model::{Infrastructure, Leftover};
pub use service::Provisioning;
pub use sqlite::SqliteDriver;
