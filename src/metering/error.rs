//! What can go wrong with metering.

use super::{JournalError, MeterKey};
use crate::{
    kernel::{QuantityError, TenantId},
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
    /// Somebody else counts the journal of this process: its data folder was copied while it ran.
    #[error("somebody else moved the cursor of this node's journal: its data folder has been copied; it is read again")]
    CursorMoved,
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
