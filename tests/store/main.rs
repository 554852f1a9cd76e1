//! One contract suite for the store, run on each engine.

#[path = "../support/mod.rs"]
mod support;

mod contract;
