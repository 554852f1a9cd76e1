//! The gateway over real sockets: what crosses it and what does not, with clients and upstreams that are slow, broken or
//! hostile.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

mod admission;
#[path = "../process/client.rs"]
mod client;
#[path = "../process/configured.rs"]
mod configured;
#[path = "../process/customer.rs"]
mod customer;
mod differential;
mod edge;
mod exchange;
mod flow;
mod grpc;
mod leaving;
mod mixed;
mod reload;
mod secure;
#[path = "../process/server.rs"]
mod server;
mod silent;
#[path = "../support/mod.rs"]
mod support;
mod target;
mod targets;
mod tunnels;
mod two_ways;
#[path = "../process/upstream.rs"]
mod upstream;
mod wait;
