//! The real binary: coming up, going down, being killed, and refusing to start.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

#[path = "../support/mod.rs"]
mod support;

mod at_rest;
mod client;
mod configured;
mod customer;
mod demo;
mod doctor;
mod doctor_repair;
mod drain;
mod framing;
mod kills;
mod lab;
mod leaving;
mod lifecycle;
mod outage;
mod refusals;
mod restart;
mod rotation;
mod saga;
mod server;
mod starting;
mod stripe;
mod tier_saga;
mod timing;
mod upstream;
mod verify_invoice;
mod webhooks;
mod wire;
