//! Tollgate: a `SaaS` control plane in one binary.
//!
//! Nine services, each a module that owns its facts: [`onboarding`] orchestrates, [`tenants`] says who the customers are
//! and owns their tier, [`users`] knows people, [`identity`] passwords, keys and tokens, [`metering`] usage, [`billing`]
//! plans and bills, [`provisioning`] infrastructure, [`mail`] letters to people, [`webhooks`] events for programs, [`stripe`] what goes to Stripe and comes from it. In front of them stands the [`gateway`], whose layers are usable in
//! anybody's axum service. [`store`] is the one seam to a database, [`web`] the HTTP kit, [`kernel`] the words that all
//! of them speak. `docs/architecture.md` has the picture.

pub mod app;
pub mod billing;
pub mod cli;
pub mod data_folder;
pub mod deliveries;
mod drivers;
mod foreign;
pub mod gateway;
pub mod identity;
pub mod kernel;
pub mod lab;
pub mod mail;
pub mod metering;
pub mod onboarding;
pub mod operations;
pub mod outbound;
pub mod provisioning;
pub mod pushes;
pub mod reload;
pub mod server;
pub mod settings;
mod setup;
pub mod shutdown;
pub mod store;
pub mod stripe;
mod surface;
pub mod telemetry;
pub mod tenants;
pub mod tls;
pub mod upkeep;
pub mod users;
pub mod verification;
pub mod web;
pub mod webhooks;

/// Compiles the examples of the guide, and runs those that can be run.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
pub struct EmbeddingGuide;
