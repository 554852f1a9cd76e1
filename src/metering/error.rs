//! What can go wrong with metering.

use uuid::Uuid;

use super::{JournalError, MeterKey, meter::ReadingError, model::Conflict};
use crate::{
    kernel::{Fault, QuantityError, TenantId},
    store::StoreError,
};

/// An error of the metering service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Records were counted once, and deleted, that the ledger does not know: it is older than the journal.
    #[error(
        "the ledger has counted up to record {counted} of journal {boot}, and the next one there is {next}: the ledger \
         is older than the journal, as after a restored backup; restore the newer one, or start with --accept-loss to \
         go on without the records between"
    )]
    Gap {
        /// Of which process.
        boot: Uuid,
        /// The last record counted.
        counted: u64,
        /// The first one there is.
        next: u64,
    },
    /// No such meter.
    #[error("there is no meter {0}")]
    UnknownMeter(MeterKey),
    /// No such tenant.
    #[error("there is no tenant {0}")]
    UnknownTenant(TenantId),
    /// Somebody else counts the journal of this process: its data folder was copied while it ran.
    #[error("somebody else moved the cursor of this node's journal: its data folder has been copied; it is read again")]
    CursorMoved,
    /// A meter with this key exists.
    #[error("there is a meter {0} already")]
    MeterTaken(MeterKey),
    /// Meters of the settings count otherwise than those that are there.
    #[error(
        "meters of the settings differ from those that are there, which are never changed because usage was counted by \
         them: {}; give a new meter a new key",
        .0.join("; ")
    )]
    MetersDiffer(Vec<String>),
    /// A stock meter belongs to the program.
    #[error("{0} is a stock meter and cannot be changed")]
    StockMeter(MeterKey),
    /// A route counts it.
    #[error("{0} is counted by a route; take it out of the routes' settings before")]
    RoutedMeter(MeterKey),
    /// A plan has, or had, a price for it, so bills of past periods are made of it.
    #[error(
        "{0} has a price in a version of a plan, and bills are worked out from what it counted; it cannot be removed"
    )]
    PricedMeter(MeterKey),
    /// A route names a meter that it cannot count.
    #[error("a route counts the meter {0}, and {1}")]
    UnroutableMeter(String, &'static str),
    /// The subject of an event is nobody.
    #[error("{field}: there is no tenant {subject}")]
    UnknownSubject {
        /// Where in the request.
        field: String,
        /// What it said.
        subject: String,
    },
    /// A tenant's token names another tenant.
    #[error("{0}: a tenant's token may only name itself")]
    ForeignSubject(String),
    /// A tenant's token takes usage back.
    #[error(
        "{field}: {meter} is a sum, and a tenant's token may not take away from it: ask the platform's administrator"
    )]
    Takes {
        /// Where in the request.
        field: String,
        /// From what.
        meter: MeterKey,
    },
    /// A meter cannot read an event.
    #[error("{field}: {source}")]
    Unreadable {
        /// Where in the request.
        field: String,
        /// Why.
        source: ReadingError,
    },
    /// The id of an event is taken by another content.
    #[error("the event {} is known with another content", .0.id)]
    Conflict(Conflict),
    /// Meters came or went while events were measured; they are measured again.
    #[error("the meters changed meanwhile")]
    MetersChanged,
    /// Another's events stood in the way: nothing was taken.
    #[error("the events could not be taken in together with others")]
    TryAgain,
    /// So much waits to be taken in that no more is queued.
    #[error("too many events wait to be taken in; nothing of these was")]
    Crowded,
    /// No such event.
    #[error("there is no event {0}")]
    UnknownEvent(String),
    /// Several events have this id.
    #[error("{1} events have the id {0}; name tenant_id and source")]
    AmbiguousEvent(String, usize),
    /// The event was taken back before.
    #[error("the event {0} was taken back before")]
    AlreadyVoid(String),
    /// An amendment is none.
    #[error("{} fields were refused", .0.len())]
    Amendment(Vec<Fault>),
    /// A record's meter has no name: a bug, and counting stops rather than lose it.
    #[error("record {0} of the journal is of a meter without a name")]
    NamelessMeter(u64),
    /// The meter has no such group-by key.
    #[error("the meter {meter} has no group-by key {key}")]
    UnknownGroupKey {
        /// The meter.
        meter: MeterKey,
        /// The key.
        key: String,
    },
    /// More windows than one answer holds.
    #[error("more than {0} windows; ask for longer ones, or for less time")]
    TooManyWindows(usize),
    /// A total has more digits than can be held exactly.
    #[error("the total of {meter} cannot be held exactly")]
    Inexact {
        /// Of what.
        meter: MeterKey,
        /// Why.
        #[source]
        source: QuantityError,
    },
    /// The journal failed.
    #[error("the journal failed")]
    Journal(#[from] JournalError),
    /// A worker of ours stopped: a bug.
    #[error("a worker stopped")]
    Stopped,
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}
