//! The HTTP surface with the router in process; the files mirror the routes.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod allowed_domains;
mod audit;
mod bad_input;
mod bills;
mod corrections;
mod coverage;
mod customers;
mod dialects;
mod events;
mod foreign;
mod foreign_keys;
mod foreign_opaque;
mod foreign_profiles;
mod foreign_tokens;
mod forms;
mod gateway;
mod invitations;
mod invoice_money;
mod invoice_years;
mod invoices;
mod lab;
mod ledger;
mod limits;
mod mail;
mod metered;
mod metering_health;
mod meters;
mod mistakes;
mod naive;
mod oauth;
mod openmeter;
mod pages;
mod people;
mod portal;
mod protocol;
mod quota_race;
mod registrations;
mod reset;
mod routing;
mod second_factor;
mod sessions;
mod sign_in;
mod throttle;
mod tokens;
mod units;
mod upstream;
mod usage;
mod webhook_deliveries;
mod webhook_events;
mod webhooks;
