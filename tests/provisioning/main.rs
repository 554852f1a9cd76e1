//! Real infrastructure: every driver against what it drives, and the program round it.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../process/server.rs"]
mod server;

mod crowd;
mod drift;
mod exec;
mod half_made;
mod isolation;
mod leaving;
mod moving;
mod pools;
mod postgres;
mod process;
mod proxy;
mod settings;
mod strays;
mod tier_changes;
mod tier_load;
mod tier_streams;
mod webhook;
