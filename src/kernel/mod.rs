//! The words every part of Tollgate speaks: ids, money, quantities, time, randomness, secrets, pages.
//!
//! Nothing here does I/O or knows a database, a web framework or another module of this crate. Values are parsed
//! once, at the edge, and carried inward as proof.

pub mod audit;
pub mod canonical;
pub mod cell;
pub mod event;
pub mod fault;
pub mod ids;
pub mod money;
pub mod names;
pub mod network;
pub mod observer;
pub mod page;
pub mod quantity;
pub mod rng;
pub mod secret;
pub mod signature;
pub mod time;

pub use audit::{Act, Actor};
pub use canonical::{Digest, NotCanonical};
pub use event::{Event, EventName, UnknownEventName};
pub use fault::{Fault, Faults};
pub use ids::*;
pub use money::{Currency, Money, MoneyError};
pub use names::{CustomerName, Email, EmailDomain, ExternalId, Isolation, NameError, PersonName, TierName};
pub use observer::{Observers, Standing, TenantObserver};
pub use page::{Cursor, Page, PageRequest};
pub use quantity::{Quantity, QuantityError};
pub use rng::{Rng, SeededRng, SystemRng};
pub use secret::Secret;
pub use time::{CalendarUnit, Clock, ManualClock, Period, SystemClock, Timestamp};
