//! Metering: what was used, counted once.
//!
//! A settled request becomes a record of this node's journal; the roller turns ranges of the journal into totals per
//! tenant, meter, route and minute, and moves its cursor in the same transaction, so that a range is counted once
//! whatever crashes. Queries answer from totals.
//!
//! Not here: what usage costs (`billing`) and whether more is allowed (`gateway`).

mod commit;
pub mod error;
pub mod event;
mod events;
pub mod http;
pub mod ingest;
pub mod journal;
pub mod meter;
mod meters;
pub mod model;
pub mod openmeter_http;
mod openmeter_meters_http;
mod openmeter_query;
mod query;
pub mod reconcile;
pub mod roller;
pub mod rules;
mod service;
pub mod tally;
pub mod windows;

pub use error::Error;
pub use events::EventRef;
pub use ingest::Outcome;
pub use journal::{Amounts, Journal, JournalError, Record, Reservation};
pub use meter::{Aggregation, DataPath, Meter, Source};
pub use model::{MeterKey, WindowTotal};
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub use openmeter_query::query_of;
pub use query::{Subjects, UsageQuery};
pub use service::{Metering, MeteringHealth, STOCK_METERS, Settings, StockMeter};
