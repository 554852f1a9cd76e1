//! Metering: what was used, counted once.
//!
//! A settled request becomes a record of this node's journal; the roller turns ranges of the journal into totals per
//! tenant, meter, route and minute, and moves its cursor in the same transaction, so that a range is counted once
//! whatever crashes. Queries answer from totals.
//!
//! Not here: what usage costs (`billing`) and whether more is allowed (`gateway`).

pub mod error;
pub mod http;
pub mod journal;
pub mod model;
pub mod roller;
pub mod rules;
mod service;

pub use error::Error;
pub use journal::{Amounts, Journal, JournalError, Record, Reservation};
pub use model::{Meter, MeterKey, WindowTotal};
pub use service::{Metering, MeteringHealth, STOCK_METERS, Settings, StockMeter, UsageQuery};
