//! Tollgate.
pub mod billing;
pub mod identity;
pub mod kernel;
pub mod metering;
pub mod onboarding;
pub mod provisioning;
pub mod store;
pub mod tenants;
pub mod users;
pub mod web;
