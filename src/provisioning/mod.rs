//! Provisioning: real infrastructure that follows the tier. Pooled tiers get a row space in a shared place, siloed
//! tiers a place of their own, bridged ones a store of their own behind what all share.
//!
//! Invariants: a tenant has at most one piece of infrastructure; making it twice makes nothing twice; a place is noted before
//! it is made and forgotten after it is gone; what was made is taken down by the driver that made it, and what could not be
//! taken down at once is remembered and tried again; a pool never gives away more places than it has; credentials are shown
//! once.
//!
//! What is there is compared with what should be, all the time (`reconciler.rs`).
//!
//! Not here: which tier means which isolation (`billing`'s plans say so; `onboarding` passes it on).

mod answer;
pub mod callback_http;
mod callbacks;
mod credentials;
mod describing;
pub mod drift;
pub mod drift_http;
pub mod driver;
pub mod error;
mod exec;
mod group;
mod health;
pub mod http;
mod looking;
pub mod model;
mod moving;
mod postgres;
mod process;
mod reconciler;
pub mod rules;
mod service;
mod sqlite;
mod webhook;

pub use describing::Described;
pub use driver::{Driver, Drivers, NoDriver, Work};
pub use error::Error;
pub use exec::{ExecConfig, ExecDriver};
pub use http::InfrastructureView;
pub use model::{Finding, Infrastructure, Leftover, Made, Place, Pool, Site, Tally};
pub use moving::Way;
pub use postgres::{PostgresConfig, PostgresDriver};
pub use process::{ProcessConfig, ProcessDriver};
pub use reconciler::{Look, ReconcileConfig, Reconciler, Wanted};
pub use service::Provisioning;
pub use sqlite::SqliteDriver;
pub use webhook::{Called, Calls, WebhookConfig, WebhookDriver};
