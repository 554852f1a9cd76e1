//! What can go wrong with metering.

use super::{JournalError, MeterKey};
use crate::{
    kernel::{NodeId, QuantityError, TenantId},
    store::StoreError,
};

/// An error of the metering service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such meter.
    #[error("there is no meter {0}")]
    UnknownMeter(MeterKey),
    /// No such tenant.
    #[error("there is no tenant {0}")]
    UnknownTenant(TenantId),
    /// Somebody else counted for this node: its data folder was copied and both copies run.
    #[error(
        "the cursor of node {0} was moved by another process: its data folder has been copied; start this copy with an empty journal folder"
    )]
    Cloned(NodeId),
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
