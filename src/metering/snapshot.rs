//! The ledger as it was at one moment, for figures that must agree with each other while a server goes on.

use std::{
    collections::{HashMap, HashSet},
    ops::{Deref, DerefMut},
    sync::Arc,
};

use tokio::sync::{Mutex, MutexGuard};

use super::{
    error::Error,
    model::{Found, MeterKey, Stretch},
};
use crate::{
    kernel::{CalendarUnit, TenantId},
    store::{Scope, Store, StoreError, Tx},
};

/// One transaction that only reads, shared by all who look; cheap to clone.
#[derive(Clone)]
pub struct Snapshot(Arc<Mutex<Moment>>);

/// A transaction, and what was read ahead in it.
pub(super) struct Moment {
    tx: Tx,
    /// Of whom the same will be asked one after the other.
    many: HashSet<TenantId>,
    /// Their totals, by what was asked for.
    ahead: HashMap<(MeterKey, Vec<Stretch>), HashMap<TenantId, Vec<Found>>>,
}

impl Snapshot {
    /// As it is now.
    pub async fn take(store: &Store) -> Result<Self, Error> {
        Self::of_many(store, &[]).await
    }

    /// The same, for whoever asks the same of many tenants: whole days and months are read of all of them with the first.
    pub async fn of_many(store: &Store, many: &[TenantId]) -> Result<Self, Error> {
        let mut tx = store.read(Scope::Job("doctor")).await?;
        // The moment is that of the first query.
        tx.journal_cursors().await?;
        let (many, ahead) = (many.iter().copied().collect(), HashMap::new());
        Ok(Self(Arc::new(Mutex::new(Moment { tx, many, ahead }))))
    }

    /// The transaction.
    pub(super) async fn moment(&self) -> MutexGuard<'_, Moment> {
        self.0.lock().await
    }
}

impl Moment {
    /// What was found ahead of a tenant, if that is how it is read.
    async fn ahead(
        &mut self,
        tenant: TenantId,
        meter: &MeterKey,
        stretches: &[Stretch],
    ) -> Result<Option<&[Found]>, StoreError> {
        // A period by the minute is too much of many.
        let coarse = |stretch: &Stretch| matches!(stretch.unit, CalendarUnit::Day | CalendarUnit::Month);
        if !self.many.contains(&tenant) || !stretches.iter().all(coarse) {
            return Ok(None);
        }
        let key = (meter.clone(), stretches.to_vec());
        if !self.ahead.contains_key(&key) {
            let many: Vec<TenantId> = self.many.iter().copied().collect();
            let mut found: HashMap<TenantId, Vec<Found>> = HashMap::new();
            for one in self.tx.totals_of(&many, meter, stretches).await? {
                found.entry(one.tenant).or_default().push(one);
            }
            self.ahead.insert(key.clone(), found);
        }
        let found = self.ahead.get(&key).and_then(|found| found.get(&tenant));
        Ok(Some(found.map_or(&[], Vec::as_slice)))
    }
}

impl Deref for Moment {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for Moment {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
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
            Self::Then(snapshot) => Reading::Shared(snapshot.moment().await),
        })
    }
}

/// A transaction to read in.
pub(super) enum Reading<'a> {
    Own(Tx),
    Shared(MutexGuard<'a, Moment>),
}

impl Reading<'_> {
    /// What all writers have counted of a meter, for one tenant or all, in stretches of windows; in no order, one at a time.
    pub(super) async fn totals_each<E: From<StoreError>>(
        &mut self,
        tenant: Option<TenantId>,
        meter: &MeterKey,
        stretches: &[Stretch],
        mut take: impl FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        if let (Self::Shared(moment), Some(tenant)) = (&mut *self, tenant)
            && let Some(found) = moment.ahead(tenant, meter, stretches).await?
        {
            return found.iter().cloned().try_for_each(take);
        }
        Tx::totals_each(self, tenant, meter, stretches, &mut take).await
    }
}

impl Deref for Reading<'_> {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        match self {
            Self::Own(tx) => tx,
            Self::Shared(moment) => moment,
        }
    }
}

impl DerefMut for Reading<'_> {
    fn deref_mut(&mut self) -> &mut Tx {
        match self {
            Self::Own(tx) => tx,
            Self::Shared(moment) => moment,
        }
    }
}
