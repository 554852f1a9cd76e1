//! The real binary killed at its system calls, and on disks that are full: `cargo test --test faults`.
//!
//! `strace` makes the n-th call of a kind the process's last. Then the server starts again, and everything that was
//! answered must be counted, once. Without `TOLLGATE_KILLS=all` only a sample of the calls is tried.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

#[path = "../process/server.rs"]
mod server;
#[path = "../support/mod.rs"]
mod support;

mod kills;
