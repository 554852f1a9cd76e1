//! People at the real binary's pages, in real Chromium: `cargo test --test browser`.
//!
//! Chromium and its driver come from the distribution (Debian: `chromium`, `chromium-driver`). Where they are missing the
//! tests say so and pass; `TOLLGATE_REQUIRE=browser` makes that a failure. The tests share one browser and one server and
//! take turns. Every page that is seen on the way is looked over: structure, labels, names in the accessibility tree, and
//! whether the browser complained of a script, a resource or the page's policy.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

#[path = "../process/server.rs"]
mod server;
#[path = "../support/mod.rs"]
mod support;

mod account;
mod chromium;
mod consent;
mod device;
mod factors;
mod letters;
mod party;
mod passkeys;
mod scene;
mod sign_in;
mod tab;
mod without_scripts;
