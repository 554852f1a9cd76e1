//! A meter's value in a period, worked out anew and without haste, for whoever reconciles: from the ledger's cells by
//! minute where the aggregation is made of them, from single events otherwise. It shares no code with the answers to
//! queries but the reading of events and the arithmetic.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    error::Error,
    events::measured,
    held::HeldSum,
    meter::{Aggregation, Meter, Reading},
    meters::Meters,
    model::{MeterKey, Stretch, Total, UNITS},
    snapshot::Snapshot,
    windows::always,
};
use crate::{
    kernel::{CalendarUnit, Period, Quantity, QuantityError, TenantId, Timestamp},
    store::{EventFilter, Store, Tx},
};

/// Works figures out anew.
pub struct Recount {
    then: Snapshot,
    meters: Meters,
    now: Timestamp,
}

impl Recount {
    /// Over a moment of a store, with the meters that it has now.
    pub async fn open(store: &Store, then: Snapshot, now: Timestamp) -> Result<Self, Error> {
        Ok(Self { meters: Meters::open(store).await?, then, now })
    }

    /// Everybody who has usage.
    pub async fn tenants(&self) -> Result<Vec<TenantId>, Error> {
        Ok(self.then.moment().await.metered_tenants().await?)
    }

    /// The meters.
    pub fn meters(&self) -> Vec<MeterKey> {
        self.meters.all().iter().map(|meter| meter.key.clone()).collect()
    }

    /// The months from a tenant's first usage to now.
    pub async fn months(&self, tenant: TenantId) -> Result<Vec<Period>, Error> {
        let mut tx = self.then.moment().await;
        let mut first = None;
        for meter in self.meters.all().iter() {
            // Of every unit: what one has lost the others may still have.
            for found in tx.totals(Some(tenant), &meter.key, &UNITS.map(always)).await? {
                first = Some(first.map_or(found.start, |first: Timestamp| first.min(found.start)));
            }
        }
        let mut months = Vec::new();
        let mut at = first;
        while let Some(start) = at.filter(|start| *start <= self.now) {
            let month = Period::containing(start, CalendarUnit::Month);
            months.push(month);
            at = Some(month.to());
        }
        Ok(months)
    }

    /// What a tenant used of a meter in a period, as a bill has it.
    pub async fn value(&self, tenant: TenantId, meter: &MeterKey, period: Period) -> Result<Quantity, Error> {
        let Some(meter) = self.meters.by_key(meter) else { return Ok(Quantity::ZERO) };
        let mut tx = self.then.moment().await;
        match meter.aggregation {
            Aggregation::Sum | Aggregation::Count | Aggregation::Avg => {
                let (count, sum) = self.minutes(&mut tx, tenant, &meter, period).await?;
                Ok(match meter.aggregation {
                    Aggregation::Sum => sum,
                    Aggregation::Count => Quantity::from(count),
                    _ => Aggregation::Avg.to_be_priced(average(sum, count)),
                })
            }
            of_events => Ok(of_events.to_be_priced(self.of_events(&mut tx, tenant, &meter, period).await?)),
        }
    }

    /// Whether values of parts of a period add up to that of the whole.
    pub fn adds_up(&self, meter: &MeterKey) -> bool {
        let known = self.meters.by_key(meter);
        known.is_some_and(|meter| matches!(meter.aggregation, Aggregation::Sum | Aggregation::Count))
    }

    async fn minutes(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        meter: &Meter,
        period: Period,
    ) -> Result<(i64, Quantity), Error> {
        let minutes = Stretch { unit: CalendarUnit::Minute, period };
        let (mut count, mut sum) = (0, Quantity::ZERO);
        for found in tx.totals(Some(tenant), &meter.key, &[minutes]).await? {
            let Total { count: n, sum: more, .. } = found.total;
            count += n;
            sum = sum.add(more).map_err(|source| Error::Inexact { meter: meter.key.clone(), source })?;
        }
        Ok((count, sum))
    }

    async fn of_events(
        &self,
        tx: &mut Tx,
        tenant: TenantId,
        meter: &Arc<Meter>,
        period: Period,
    ) -> Result<Quantity, Error> {
        let weighted = meter.aggregation == Aggregation::WeightedSum;
        let filter = EventFilter {
            tenant: Some(tenant),
            kind: meter.event_type().map(str::to_owned),
            // A value that is held may have come long before.
            from_ns: (!weighted).then(|| nanos(period.from())),
            to_ns: Some(nanos(period.to())),
            valid_only: true,
            ..EventFilter::default()
        };
        let mut all = Vec::new();
        tx.events_each::<Error>(&filter, |event| {
            if let Some((_, reading)) = measured(meter, &event) {
                let Reading { value, text, group } = reading;
                all.push(Point { at_ns: event.at_ns, arrival: event.arrival, value, text, group });
            }
            Ok(())
        })
        .await?;
        let inexact = |source| Error::Inexact { meter: meter.key.clone(), source };
        naive(meter.aggregation, all, period, self.now).map_err(inexact)
    }
}

/// One event as a meter reads it.
struct Point {
    at_ns: i64,
    arrival: i64,
    value: Quantity,
    text: String,
    group: Arc<str>,
}

fn naive(
    aggregation: Aggregation,
    mut all: Vec<Point>,
    period: Period,
    now: Timestamp,
) -> Result<Quantity, QuantityError> {
    let (from, to) = (nanos(period.from()), nanos(period.to()));
    all.sort_by_key(|point| (point.at_ns, point.arrival));
    if aggregation == Aggregation::WeightedSum {
        let mut until: BTreeMap<Arc<str>, i64> = BTreeMap::new();
        let mut sum = HeldSum::default();
        // Backwards: each value was held until the one that was seen just before.
        for point in all.iter().rev() {
            let end = until.insert(Arc::clone(&point.group), point.at_ns).unwrap_or(nanos(now));
            let held = end.min(to).min(nanos(now)).saturating_sub(point.at_ns.max(from));
            if held > 0 {
                sum.add(point.value, held)?;
            }
        }
        return sum.quantity();
    }
    all.retain(|point| (from..to).contains(&point.at_ns));
    let latest = all.last().map(|point| point.value);
    let different: BTreeSet<&str> = all.iter().map(|point| point.text.as_str()).collect();
    let different = Quantity::from(i64::try_from(different.len()).unwrap_or(i64::MAX));
    let mut values: Vec<Quantity> = all.iter().map(|point| point.value).collect();
    values.sort_unstable();
    let found = match aggregation {
        Aggregation::Min => values.first().copied(),
        Aggregation::Max => values.last().copied(),
        Aggregation::Latest => latest,
        Aggregation::UniqueCount => Some(different),
        Aggregation::Percentile(percent) => {
            // The first value that at least so many per cent of all are not above.
            let enough = |place: &usize| (place + 1) * 100 >= values.len() * usize::from(percent);
            (0..values.len()).find(enough).map(|place| values[place])
        }
        Aggregation::Sum | Aggregation::Count | Aggregation::Avg | Aggregation::WeightedSum => None,
    };
    Ok(found.unwrap_or_default())
}

fn nanos(at: Timestamp) -> i64 {
    at.as_micros().saturating_mul(1_000)
}

fn average(sum: Quantity, count: i64) -> Quantity {
    sum.as_decimal().checked_div(count.into()).map(Quantity::new).unwrap_or_default()
}
