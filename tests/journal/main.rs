//! The journal and its ledger under every crash that a simulated disk can make: `cargo test --test journal`.
//!
//! Each seed is a history of appends, syncs, uploads, errors, crashes and copies; `TOLLGATE_SEEDS` says how many (200),
//! `TOLLGATE_SEED` replays one.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

mod disk;
mod ledger;
mod model;
