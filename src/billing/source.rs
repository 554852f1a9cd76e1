//! Where the quantities of a bill come from: one way for the server, which counts what it has recorded first, and for whoever
//! looks at a ledger without being its server.

use crate::{
    kernel::{CalendarUnit, Period, Quantity, QuantityError, TenantId},
    metering::{self, ByDay, Event, EventsAfter, MeterKey, Metering, Snapshot, UsageReader},
    store::{Scope, Store},
};

/// Where the quantities of a bill come from.
#[derive(Clone)]
pub enum UsageSource {
    /// This node's metering.
    Live(Metering),
    /// The ledger as it is.
    Ledger(UsageReader),
}

impl UsageSource {
    /// The ledger as it is now, after what was settled on this node by now is counted. What is asked of one of these tenants
    /// is read of all of them at once.
    pub async fn at_this_moment(&self, store: &Store, of: &[TenantId]) -> Result<Self, metering::Error> {
        match self {
            Self::Live(metering) => {
                metering.catch_up().await?;
                Ok(Self::Ledger(metering.reader_at(Snapshot::of_many(store, of).await?)))
            }
            Self::Ledger(reader) => Ok(Self::Ledger(reader.clone())),
        }
    }

    /// A tenant's usage of a meter in a period, in all.
    pub async fn total(
        &self,
        scope: Scope,
        tenant: TenantId,
        meter: &MeterKey,
        period: Period,
    ) -> Result<Quantity, metering::Error> {
        self.reader(meter).await?.total(scope, tenant, meter, period).await
    }

    /// The same, and what each day has of it.
    pub async fn by_day(
        &self,
        scope: Scope,
        tenant: TenantId,
        meter: &MeterKey,
        period: Period,
    ) -> Result<ByDay, metering::Error> {
        self.reader(meter).await?.by_day(scope, tenant, meter, period).await
    }

    /// What each window of a period has of it.
    pub async fn windows(
        &self,
        scope: Scope,
        tenant: TenantId,
        meter: &MeterKey,
        cut: (Period, CalendarUnit),
    ) -> Result<Vec<(Period, Quantity)>, metering::Error> {
        self.reader(meter).await?.windows_of(scope, tenant, meter, cut).await
    }

    /// The events that a meter counts in a period and what it reads in each, a page of them, and where the list goes on.
    pub async fn events(
        &self,
        scope: Scope,
        tenant: TenantId,
        meter: &MeterKey,
        period: Period,
        page: (Option<EventsAfter>, usize),
    ) -> Result<(Vec<(Event, Option<Quantity>)>, Option<EventsAfter>), metering::Error> {
        self.reader(meter).await?.events_of(scope, tenant, meter, period, page).await
    }

    /// The amount of each of a tenant's transactions in a period, in the order in which they happened; `false` when the meter
    /// counts no transactions with amounts that add up.
    pub async fn each_amount(
        &self,
        scope: Scope,
        (tenant, meter): (TenantId, &MeterKey),
        period: Period,
        take: impl FnMut(Quantity) -> Result<(), QuantityError> + Send,
    ) -> Result<bool, metering::Error> {
        self.reader(meter).await?.each_amount(scope, (tenant, meter), period, take).await
    }

    /// The meters that there are, and whether a value of each is one row of totals away, not all of its events.
    pub fn meters(&self) -> Vec<(MeterKey, bool)> {
        let known = match self {
            Self::Live(metering) => metering.meters(),
            Self::Ledger(reader) => reader.meters(),
        };
        known.iter().map(|meter| (meter.key.clone(), !meter.aggregation.needs_events())).collect()
    }

    /// The ledger, after what was settled of a meter on this node by now is counted.
    async fn reader(&self, meter: &MeterKey) -> Result<UsageReader, metering::Error> {
        match self {
            Self::Live(metering) => metering.reader_for(meter).await,
            Self::Ledger(reader) => Ok(reader.clone()),
        }
    }
}
