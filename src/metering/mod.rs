//! Metering: what was used, counted once.
//!
//! A settled request becomes a record of this node's journal; the roller turns ranges of the journal into totals per
//! tenant, meter, route and minute, and moves its cursor in the same transaction, so that a range is counted once
//! whatever crashes. Queries answer from totals.
//!
//! Not here: what usage costs (`billing`) and whether more is allowed (`gateway`).

mod by_day;
mod commit;
mod corrections;
mod corrections_http;
pub mod definition;
pub mod error;
pub mod event;
mod events;
mod health;
pub mod held;
mod held_query;
pub mod http;
pub mod ingest;
pub mod journal;
pub mod meter;
mod meters;
mod minutes;
pub mod model;
mod openmeter_filters;
pub mod openmeter_http;
mod openmeter_meters_http;
mod openmeter_query;
mod openmeter_query_http;
mod query;
pub mod reconcile;
pub mod recount;
pub mod roller;
mod rounds;
mod routed;
pub mod rules;
mod service;
mod snapshot;
pub mod tally;
mod transactions;
pub mod windows;

pub use by_day::ByDay;
pub use corrections::{EventRef, Grounds};
pub use definition::{FieldNames, MeterDefinition, MeterDraft};
pub use error::Error;
pub use event::Amendment;
pub use health::MeteringHealth;
pub use ingest::Outcome;
pub use journal::{Amounts, Journal, JournalError, Record, Reservation};
pub use meter::{Aggregation, DataPath, Meter, Source};
pub use model::{Event, EventsAfter, MeterKey, WindowTotal};
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub use openmeter_query::query_of;
pub use query::{Subjects, UsageQuery, UsageReader};
pub use reconcile::Difference;
pub use recount::Recount;
pub use routed::{UnreadUsage, UsedAsOf};
pub use service::{Metering, STOCK_METERS, Settings, StockMeter};
pub use snapshot::Snapshot;
