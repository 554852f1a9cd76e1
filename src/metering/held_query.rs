//! Answers about values that are held: each times the seconds until the next one of its tenant and group, or until now.
//!
//! Events come in order, and of each tenant and group one value is remembered: the one that is held. Those that came
//! before the first window are not read, because the ledger has the latest value of every cell.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    error::Error,
    events::measured,
    held::HeldSum,
    meter::Meter,
    model::{Event, Last},
    query::nanos,
    rules::{Key, Shape},
    windows,
};
use crate::{
    kernel::{Quantity, QuantityError, TenantId, Timestamp},
    store::{EventFilter, Tx},
};

/// What is held by each tenant and group, and since when. Tenants and groups that an answer does not keep apart do not end
/// each other's values either.
type Held = HashMap<(TenantId, Arc<str>), (i64, Quantity)>;

/// What was held of a meter in each window.
pub(super) async fn held_values(
    tx: &mut Tx,
    tenants: &[Option<TenantId>],
    meter: &Arc<Meter>,
    shape: &Shape<'_>,
    now: Timestamp,
) -> Result<BTreeMap<Key, Quantity>, Error> {
    let (Some(first), Some(last)) = (shape.windows.first(), shape.windows.last()) else { return Ok(BTreeMap::new()) };
    let inexact = |source| Error::Inexact { meter: meter.key.clone(), source };
    let mut sums = Sums { shape, now_ns: nanos(now), by_key: BTreeMap::new() };
    for tenant in tenants {
        let before = held_before(tx, *tenant, meter, first.from()).await?;
        let filter = EventFilter {
            tenant: *tenant,
            kind: meter.event_type().map(str::to_owned),
            from_ns: before.is_some().then(|| nanos(first.from())),
            to_ns: Some(nanos(last.to())),
            valid_only: true,
            ..EventFilter::default()
        };
        let mut held = before.unwrap_or_default();
        let take = |event: Event| {
            let Some((_, reading)) = measured(meter, &event) else { return Ok(()) };
            let series = (event.tenant, reading.group);
            match held.insert(series.clone(), (event.at_ns, reading.value)) {
                Some(ended) => sums.add(&series, ended, event.at_ns).map_err(inexact),
                None => Ok(()),
            }
        };
        tx.events_each(&filter, take).await?;
        for (series, last) in held {
            sums.add(&series, last, i64::MAX).map_err(inexact)?;
        }
    }
    sums.by_key.into_iter().map(|(key, sum)| Ok((key, sum.quantity().map_err(inexact)?))).collect()
}

/// What is held at an instant, from the ledger; `None` when events were corrected, so that it does not know.
async fn held_before(
    tx: &mut Tx,
    tenant: Option<TenantId>,
    meter: &Meter,
    at: Timestamp,
) -> Result<Option<Held>, Error> {
    let mut latest: HashMap<(TenantId, Arc<str>), Last> = HashMap::new();
    let order = |last: &Last| (last.at_ns, last.arrival, last.value);
    for found in tx.totals(tenant, &meter.key, &windows::before(at)).await? {
        if found.total.count < 0 {
            return Ok(None);
        }
        let own = found.total.last;
        let known = latest.entry((found.tenant, found.group.into())).or_insert(own);
        if order(&own) > order(known) {
            *known = own;
        }
    }
    Ok(Some(latest.into_iter().map(|(series, last)| (series, (last.at_ns, last.value))).collect()))
}

/// What was held, by window and by what the answer keeps apart.
struct Sums<'a> {
    shape: &'a Shape<'a>,
    now_ns: i64,
    by_key: BTreeMap<Key, HeldSum>,
}

impl Sums<'_> {
    /// Adds a value that was held until an instant, or until now when that is yet to come.
    fn add(
        &mut self,
        (tenant, group): &(TenantId, Arc<str>),
        (since, value): (i64, Quantity),
        until: i64,
    ) -> Result<(), QuantityError> {
        let Some(shown) = self.shape.group(group) else { return Ok(()) };
        let until = until.min(self.now_ns);
        // Windows ascend: those that end before the value began are passed over.
        let first = self.shape.windows.partition_point(|window| nanos(window.to()) <= since);
        for (place, window) in self.shape.windows.iter().enumerate().skip(first) {
            let (from, to) = (nanos(window.from()).max(since), nanos(window.to()).min(until));
            // Held for no time: the next one came at once, or it is of a moment that is yet to come.
            if from >= to {
                break;
            }
            let key = (place, self.shape.by_tenant.then_some(*tenant), shown.clone());
            self.by_key.entry(key).or_default().add(value, to.saturating_sub(from))?;
        }
        Ok(())
    }
}
