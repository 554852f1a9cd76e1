//! The HTTP surface with the router in process; the files mirror the routes.

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod audit;
mod audit_chain;
mod bad_input;
mod billing_lives;
mod billing_periods;
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
mod invoice_exports;
mod invoice_forms;
mod invoice_money;
mod invoice_steps;
mod invoice_years;
mod invoices;
mod lab;
mod ledger;
mod limited;
mod limits;
mod mail;
mod margins;
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
mod reset;
mod routing;
mod second_factor;
mod sessions;
mod sign_in;
mod throttle;
mod tokens;
mod transactions;
mod units;
mod upstream;
mod usage;
mod webhook_deliveries;
mod webhook_events;
mod webhooks;
mod what_if;
