//! The journal and its ledger under every crash that a simulated disk can make: `cargo test --test journal`.
//!
//! Each seed is a history of appends, syncs, uploads, errors, crashes, copies, damage and backups; `TOLLGATE_SEEDS` says how many (200),
//! `TOLLGATE_SEED` replays one.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

mod cases;
mod disk;
mod ledger;
mod model;
mod steps;
