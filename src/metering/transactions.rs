//! Usage one event at a time, for prices that look at each.

use std::sync::Arc;

use super::{
    error::Error,
    events::measured,
    meter::{Aggregation, Meter},
    model::{Event, MeterKey},
    query::{UsageReader, nanos},
};
use crate::{
    kernel::{Period, Quantity, QuantityError, TenantId},
    store::{EventFilter, Scope},
};

impl UsageReader {
    /// The meters that there are.
    pub fn meters(&self) -> Arc<Vec<Arc<Meter>>> {
        self.meters.all()
    }

    /// Gives the value of each event of a tenant in a period to `take`, in order of time and arrival, without those that were
    /// taken back. One is in memory at a time. `false`, and none, where a meter counts no events, or their values are not
    /// what it adds up.
    pub async fn each_amount(
        &self,
        scope: Scope,
        (tenant, meter): (TenantId, &MeterKey),
        period: Period,
        mut take: impl FnMut(Quantity) -> Result<(), QuantityError> + Send,
    ) -> Result<bool, Error> {
        let known = self.meters.by_key(meter);
        let adds_up = |meter: &Arc<Meter>| {
            meter.event_type().is_some() && matches!(meter.aggregation, Aggregation::Sum | Aggregation::Count)
        };
        let Some(known) = known.filter(adds_up) else { return Ok(false) };
        let filter = EventFilter {
            tenant: Some(tenant),
            kind: known.event_type().map(str::to_owned),
            from_ns: Some(nanos(period.from())),
            to_ns: Some(nanos(period.to())),
            valid_only: true,
            ..EventFilter::default()
        };
        let each = |event: Event| {
            let Some((_, reading)) = measured(&known, &event) else { return Ok(()) };
            take(reading.value).map_err(|source| Error::Inexact { meter: meter.clone(), source })
        };
        self.ledger.read(scope).await?.events_each(&filter, each).await?;
        Ok(true)
    }
}
