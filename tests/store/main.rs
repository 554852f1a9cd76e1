//! One contract suite for the store, run on each engine.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

#[path = "../support/mod.rs"]
mod support;

mod contract;
mod places;
mod states;
