//! The real binary killed at its system calls, and on disks that fail, fill up or lose power: `cargo test --test faults`.
//!
//! Each proof runs a script against a copy of one prepared data folder, breaks something, starts the server again, and
//! compares what clients were told with what is counted. Without `TOLLGATE_FAULTS=all` only a sample is tried. What the
//! machine must have for it (`strace` that may attach, root for mounts) is skipped aloud where it is missing.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

#[path = "../process/client.rs"]
mod client;
#[path = "../process/server.rs"]
mod server;
#[path = "../support/mod.rs"]
mod support;

mod closing;
mod crowd;
mod disk_errors;
mod disk_full;
mod kills;
mod mount;
mod power_loss;
mod scene;
mod strace;
