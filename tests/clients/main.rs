//! Other people's clients against the real binary: `cargo test --test clients`.
//!
//! A client is installed by name and version from its registry, into a folder below `target`, and kept there for the next
//! run. Where Node.js, npm or Python is missing, or a registry cannot be reached, its tests say so and pass;
//! `TOLLGATE_REQUIRE=clients` makes that a failure. What a client does is a script of its own, in its own language, beside
//! this file; it ends with status 0 when all it asserted holds.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

#[path = "../process/server.rs"]
mod server;
#[path = "../support/mod.rs"]
mod support;

mod issuers;
mod lab;
mod npm;
mod oidc;
mod openidconnect;
mod openmeter;
mod scene;
mod scratch;
mod stripe;
mod venv;
mod webhooks;
