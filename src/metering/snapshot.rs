//! The ledger as it was at one moment, for figures that must agree with each other while a server goes on.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use tokio::sync::{Mutex, MutexGuard};

use super::error::Error;
use crate::store::{Scope, Store, Tx};

/// One transaction that only reads, shared by all who look; cheap to clone.
#[derive(Clone)]
pub struct Snapshot(Arc<Mutex<Tx>>);

impl Snapshot {
    /// As it is now.
    pub async fn take(store: &Store) -> Result<Self, Error> {
        let mut tx = store.read(Scope::Job("doctor")).await?;
        // The moment is that of the first query.
        tx.journal_cursors().await?;
        Ok(Self(Arc::new(Mutex::new(tx))))
    }

    /// The transaction.
    pub(super) async fn tx(&self) -> MutexGuard<'_, Tx> {
        self.0.lock().await
    }
}

/// Where usage is read: each time anew, or at one moment.
#[derive(Clone)]
pub(super) enum Ledger {
    /// As it is then.
    Now(Store),
    /// As it was.
    Then(Snapshot),
}

impl Ledger {
    pub(super) async fn read(&self, scope: Scope) -> Result<Reading<'_>, Error> {
        Ok(match self {
            Self::Now(store) => Reading::Own(store.read(scope).await?),
            Self::Then(snapshot) => Reading::Shared(snapshot.tx().await),
        })
    }
}

/// A transaction to read in.
pub(super) enum Reading<'a> {
    Own(Tx),
    Shared(MutexGuard<'a, Tx>),
}

impl Deref for Reading<'_> {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        match self {
            Self::Own(tx) => tx,
            Self::Shared(tx) => tx,
        }
    }
}

impl DerefMut for Reading<'_> {
    fn deref_mut(&mut self) -> &mut Tx {
        match self {
            Self::Own(tx) => tx,
            Self::Shared(tx) => tx,
        }
    }
}
