//! The gateway: checks the token on every request, counts the usage, holds the tier's limits, forwards.
//!
//! Three layers, usable in anybody's axum or tower service: [`AuthenticateLayer`], [`AdmitLayer`], [`MeterLayer`];
//! `stack.rs` puts them together. The request path keeps to memory: no SQL, no lock across an await, one journal append.
//!
//! Invariants: a refused request is never billed; a hard quota is never overrun by concurrent calls; a request is settled
//! exactly once, before its response's last byte; an upstream never sees an identity that the client made up.
//!
//! Not here: caching.

pub mod admin_http;
pub mod admission;
mod arrival;
pub mod crossings;
pub mod directory;
mod entry;
mod exchange;
pub mod headers;
mod holding;
pub mod layers;
mod limit_headers;
pub mod path;
pub mod quota_http;
pub mod reading;
pub mod routes;
pub mod sample;
pub mod short;
mod slots;
pub mod source;
mod stack;
pub mod table;
mod terms;
pub mod units;
pub mod upstream;
pub mod usage;
pub mod worker;

pub use crate::kernel::Standing;
pub use admission::RateTerms;
pub use arrival::Arrival;
pub use directory::{Directory, Facts, SourceError, TenantSource, UsageAsOf};
pub use layers::{AdmitLayer, AuthenticateLayer, MeterLayer, RouteMeters, RouteTerms, Ticket};
pub use routes::{Durability, Gateway, Parts, RouteConfig, Upstream};
pub use source::Services;
pub use table::HostRule;
pub use terms::QuotaTerms;
pub use units::{Billed, MeterRule, RouteMeter, Unit};
