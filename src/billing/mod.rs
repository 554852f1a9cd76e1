//! Billing: plans and what they entitle to, rating, billing accounts, and what a tenant owes for a period.
//!
//! Invariants: a tenant has at most one billing account; a plan is never changed, a new version takes its place from
//! a stated time on; an amount is exact until its line is rounded, once; a bill can be worked out again from the
//! usage totals, the tiers a tenant had and the versions of their plans, and comes out the same.
//!
//! Not here: counting (`metering`) and which tier a tenant has (`tenants`).

pub mod address;
mod amounts;
pub mod audit;
mod entitlements;
pub mod error;
pub mod forms;
pub mod http;
pub mod model;
pub mod plan;
pub mod rules;
mod service;
mod source;
mod spans;
mod views;
pub mod wire;

pub use address::{AddressBody, BillingAddress};
pub use entitlements::{Entitlement, EntitlementQuery, Metered};
pub use error::Error;
pub use model::{Account, Bill, Plan, Quota, QuotaMode, RateLimit};
pub use plan::{parse_plans, stock_plans};
pub use service::{Billing, Effective};
pub use source::UsageSource;
pub use spans::{Catalogue, PlanVersion, Span};
