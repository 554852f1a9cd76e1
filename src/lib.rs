//! Tollgate.
pub mod identity;
pub mod kernel;
pub mod provisioning;
pub mod store;
pub mod tenants;
pub mod users;
pub mod web;
