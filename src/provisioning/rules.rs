//! What has to be done so that a tenant has the infrastructure its tier asks for.

use super::model::Infrastructure;
use crate::kernel::Isolation;

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is as it should be.
    Keep(Infrastructure),
    /// There is none yet.
    Create,
    /// It is of the other kind: make the new place, carry everything over, take the old one down.
    Move {
        /// The place to leave.
        from: Infrastructure,
    },
}

/// Compares what is there with what is wanted.
pub fn action(existing: Option<Infrastructure>, wanted: Isolation) -> Action {
    match existing {
        None => Action::Create,
        Some(infrastructure) if infrastructure.isolation == wanted => Action::Keep(infrastructure),
        Some(from) => Action::Move { from },
    }
}
