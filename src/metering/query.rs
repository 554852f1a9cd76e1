//! Usage as it is asked for: from totals wherever that is possible, from single events where an aggregation needs them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use jiff::tz::TimeZone;

use super::{
    error::Error,
    events::measured,
    held_query::held_values,
    meter::{Aggregation, Meter},
    meters::Meters,
    model::{Event, Found, MeterKey, Total, Window, WindowTotal},
    routed::ROUTE,
    rules::{self, Key, Shape, Sums},
    service::Metering,
    snapshot::{Ledger, Reading, Snapshot},
    windows::{self, MOST_WINDOWS},
};
use crate::{
    kernel::{Clock, Period, Quantity, QuantityError, TenantId, Timestamp},
    store::{EventFilter, Scope, Store, Tx},
};

/// What somebody wants to know.
#[derive(Debug, Clone)]
pub struct UsageQuery {
    /// Of what.
    pub meter: MeterKey,
    /// When.
    pub period: Period,
    /// Cut how; not at all when absent.
    pub window: Option<Window>,
    /// In which time zone.
    pub zone: TimeZone,
    /// By which keys of the group.
    pub group_by: Vec<String>,
    /// Only groups with one of these values for each of these keys.
    pub filters: BTreeMap<String, Vec<String>>,
    /// Whether windows without usage are in the answer.
    pub zero_fill: bool,
}

impl UsageQuery {
    /// Of a period in all.
    pub fn whole(meter: MeterKey, period: Period) -> Self {
        Self {
            meter,
            period,
            window: None,
            zone: TimeZone::UTC,
            group_by: Vec::new(),
            filters: BTreeMap::new(),
            zero_fill: false,
        }
    }
}

/// Whose usage.
#[derive(Debug, Clone)]
pub enum Subjects {
    /// One tenant's.
    One(TenantId),
    /// These tenants', together or apart.
    Some {
        /// Who.
        tenants: Vec<TenantId>,
        /// Whether they are kept apart.
        apart: bool,
    },
    /// Everybody's within the scope, together or apart.
    All {
        /// Whether they are kept apart.
        apart: bool,
    },
}

impl Subjects {
    /// Everybody within a tenant's scope is that tenant.
    fn within(&self, scope: Scope) -> Self {
        match (self, scope.tenant()) {
            (Self::All { apart }, Some(own)) => Self::Some { tenants: vec![own], apart: *apart },
            (subjects, _) => subjects.clone(),
        }
    }
}

impl Metering {
    /// Usage by window. What was settled on this node before the call is in it.
    pub async fn usage(
        &self,
        scope: Scope,
        subjects: &Subjects,
        query: &UsageQuery,
    ) -> Result<Vec<WindowTotal>, Error> {
        self.catch_up_for(&query.meter).await?;
        self.reader().usage(scope, subjects, query).await
    }

    /// Events are counted as they are taken; only what the gateway counts waits in the journal.
    pub(super) async fn catch_up_for(&self, meter: &MeterKey) -> Result<(), Error> {
        match self.meters.by_key(meter) {
            Some(_) if self.is_routed(meter) => self.catch_up().await,
            _ => Ok(()),
        }
    }

    /// The ledger as of a moment, with the meters that there are now.
    pub fn reader_at(&self, then: Snapshot) -> UsageReader {
        UsageReader { ledger: Ledger::Then(then), ..self.reader() }
    }

    pub(super) fn reader(&self) -> UsageReader {
        UsageReader {
            ledger: Ledger::Now(self.store.clone()),
            meters: self.meters.clone(),
            clock: Arc::clone(&self.clock),
        }
    }
}

/// Usage as the ledger has it, for whoever has no journal of his own: it changes nothing and counts nothing.
#[derive(Clone)]
pub struct UsageReader {
    pub(super) ledger: Ledger,
    pub(super) meters: Meters,
    clock: Arc<dyn Clock>,
}

impl UsageReader {
    /// Over a moment of a store, with the meters that it has now.
    pub async fn open(store: &Store, then: Snapshot, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Ok(Self { meters: Meters::open(store).await?, ledger: Ledger::Then(then), clock })
    }

    /// Usage by window.
    pub async fn usage(
        &self,
        scope: Scope,
        subjects: &Subjects,
        query: &UsageQuery,
    ) -> Result<Vec<WindowTotal>, Error> {
        let UsageQuery { meter: key, period, window, zone, group_by, filters, zero_fill } = query;
        let meter = self.meters.by_key(key).ok_or_else(|| Error::UnknownMeter(key.clone()))?;
        // What came by routes is grouped by them, whatever the meter's events are grouped by.
        let known = |key: &&String| key.as_str() == ROUTE || meter.group_keys().contains(&key.as_str());
        if let Some(key) = group_by.iter().chain(filters.keys()).find(|key| !known(key)) {
            return Err(Error::UnknownGroupKey { meter: meter.key.clone(), key: key.clone() });
        }
        let windows = match window {
            Some(window) => windows::windows(*period, *window, zone).ok_or(Error::TooManyWindows(MOST_WINDOWS))?,
            None => vec![*period],
        };
        let subjects = &subjects.within(scope);
        let mut tx = self.ledger.read(scope).await?;
        if let Subjects::One(tenant) = subjects {
            tx.tenant_by_id(*tenant).await?.ok_or(Error::UnknownTenant(*tenant))?;
        }
        let by_tenant = matches!(subjects, Subjects::Some { apart: true, .. } | Subjects::All { apart: true });
        let shape = Shape { meter: key, windows: &windows, group_by, filters, by_tenant, zero_fill: *zero_fill };
        let mut values = None;
        if !meter.aggregation.needs_events() {
            values = from_totals(&mut tx, subjects, &meter, &shape).await?;
        }
        let values = match values {
            Some(values) => values,
            None => from_events(&mut tx, subjects, &meter, &shape, self.clock.now()).await?,
        };
        rules::answer(&shape, values)
    }

    /// A tenant's usage of a meter in a period, in all.
    pub async fn total(
        &self,
        scope: Scope,
        tenant: TenantId,
        meter: &MeterKey,
        period: Period,
    ) -> Result<Quantity, Error> {
        // A price of a meter that is not there yet is a price of nothing.
        let Some(known) = self.meters.by_key(meter) else { return Ok(Quantity::ZERO) };
        if known.event_type().is_none() {
            return self.counted(scope, tenant, meter, period).await;
        }
        let query = UsageQuery::whole(meter.clone(), period);
        let values = self.usage(scope, &Subjects::One(tenant), &query).await?;
        Ok(values.first().map_or(Quantity::ZERO, |value| known.aggregation.to_be_priced(value.value)))
    }

    /// The sum of a meter's totals in a period.
    pub async fn counted(
        &self,
        scope: Scope,
        tenant: TenantId,
        meter: &MeterKey,
        period: Period,
    ) -> Result<Quantity, Error> {
        let stretches = windows::stretches(&[period]);
        let mut sum = Quantity::ZERO;
        let take = |found: Found| {
            sum = sum.add(found.total.sum).map_err(|source| Error::Inexact { meter: meter.clone(), source })?;
            Ok::<(), Error>(())
        };
        self.ledger.read(scope).await?.totals_each(Some(tenant), meter, &stretches, take).await?;
        Ok(sum)
    }
}

fn tenants(subjects: &Subjects) -> Vec<Option<TenantId>> {
    match subjects {
        Subjects::One(tenant) => vec![Some(*tenant)],
        Subjects::Some { tenants, .. } => tenants.iter().copied().map(Some).collect(),
        Subjects::All { .. } => vec![None],
    }
}

/// From totals; `None` when events were taken back that a smallest, largest or latest value may have come from.
async fn from_totals(
    tx: &mut Reading<'_>,
    subjects: &Subjects,
    meter: &Meter,
    shape: &Shape<'_>,
) -> Result<Option<BTreeMap<Key, Quantity>>, Error> {
    let stretches = windows::stretches(shape.windows);
    let (mut sums, mut corrected) = (Sums::new(shape), false);
    for tenant in tenants(subjects) {
        let take = |found: Found| {
            corrected |= found.total.count < 0;
            sums.add(found)
        };
        tx.totals_each(tenant, &meter.key, &stretches, take).await?;
    }
    let needs_all = matches!(meter.aggregation, Aggregation::Min | Aggregation::Max | Aggregation::Latest);
    if corrected && needs_all {
        return Ok(None);
    }
    let mut values = BTreeMap::new();
    for (key, total) in sums.by_key {
        // What was taken back altogether is no usage.
        if total.count != 0 {
            values.insert(key, value_of(meter, &total)?);
        }
    }
    Ok(Some(values))
}

fn value_of(meter: &Meter, total: &Total) -> Result<Quantity, Error> {
    Ok(match meter.aggregation {
        Aggregation::Count => Quantity::from(total.count),
        Aggregation::Min => total.low,
        Aggregation::Max => total.high,
        Aggregation::Latest => total.last.value,
        Aggregation::Avg => ratio(meter, total.sum, total.count)?,
        _ => total.sum,
    })
}

/// To as many digits as there are.
fn ratio(meter: &Meter, sum: Quantity, count: i64) -> Result<Quantity, Error> {
    let ratio = sum.as_decimal().checked_div(count.into());
    let source = QuantityError::TooManyDigits;
    ratio.map(Quantity::new).ok_or_else(|| Error::Inexact { meter: meter.key.clone(), source })
}

/// What belongs together whatever the window: the tenant when they are kept apart, and the group.
type Series = (Option<TenantId>, Vec<(String, String)>);

/// A value of one event.
struct Point {
    at_ns: i64,
    arrival: i64,
    value: Quantity,
    text: String,
}

async fn from_events(
    tx: &mut Tx,
    subjects: &Subjects,
    meter: &Arc<Meter>,
    shape: &Shape<'_>,
    now: Timestamp,
) -> Result<BTreeMap<Key, Quantity>, Error> {
    let (Some(first), Some(last)) = (shape.windows.first(), shape.windows.last()) else { return Ok(BTreeMap::new()) };
    if meter.aggregation == Aggregation::WeightedSum {
        return held_values(tx, &tenants(subjects), meter, shape, now).await;
    }
    let mut series = BTreeMap::<Series, Vec<Point>>::new();
    for tenant in tenants(subjects) {
        let filter = EventFilter {
            tenant,
            kind: meter.event_type().map(str::to_owned),
            from_ns: Some(nanos(first.from())),
            to_ns: Some(nanos(last.to())),
            valid_only: true,
            ..EventFilter::default()
        };
        let take = |event: Event| {
            let Some((_, reading)) = measured(meter, &event) else { return Ok(()) };
            let Some(shown) = shape.group(&reading.group) else { return Ok(()) };
            let key = (shape.by_tenant.then_some(event.tenant), shown);
            let Event { at_ns, arrival, .. } = event;
            let point = Point { at_ns, arrival, value: reading.value, text: reading.text };
            series.entry(key).or_default().push(point);
            Ok::<(), Error>(())
        };
        tx.events_each(&filter, take).await?;
    }
    let inexact = |source| Error::Inexact { meter: meter.key.clone(), source };
    let mut values: BTreeMap<Key, Quantity> = BTreeMap::new();
    for ((tenant, group), points) in series {
        let of_series = window_values(meter, &points, shape).map_err(inexact)?;
        values.extend(of_series.into_iter().map(|(index, value)| ((index, tenant, group.clone()), value)));
    }
    Ok(values)
}

pub(super) fn nanos(at: Timestamp) -> i64 {
    at.as_micros().saturating_mul(1_000)
}

/// The value of each window that has points.
fn window_values(
    meter: &Meter,
    points: &[Point],
    shape: &Shape<'_>,
) -> Result<BTreeMap<usize, Quantity>, QuantityError> {
    let mut by_window: BTreeMap<usize, Vec<&Point>> = BTreeMap::new();
    for point in points {
        let at = Timestamp::from_micros(point.at_ns.div_euclid(1_000)).unwrap_or(Timestamp::MIN);
        if let Some(index) = shape.window(at) {
            by_window.entry(index).or_default().push(point);
        }
    }
    let value = |points: &[&Point]| -> Result<Quantity, QuantityError> {
        let mut sorted: Vec<Quantity> = points.iter().map(|point| point.value).collect();
        sorted.sort_unstable();
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        Ok(match meter.aggregation {
            Aggregation::UniqueCount => {
                let different: HashSet<&str> = points.iter().map(|point| point.text.as_str()).collect();
                Quantity::from(i64::try_from(different.len()).unwrap_or(i64::MAX))
            }
            // Nearest rank: the smallest value that so many per cent are not above.
            Aggregation::Percentile(percent) => {
                at((sorted.len() * usize::from(percent)).div_ceil(100).saturating_sub(1))
            }
            Aggregation::Min => at(0),
            Aggregation::Max => at(sorted.len().saturating_sub(1)),
            // In order of time and arrival within one tenant, but not from tenant to tenant.
            Aggregation::Latest => {
                let latest = points.iter().max_by_key(|point| (point.at_ns, point.arrival, point.value));
                latest.map_or(Quantity::ZERO, |point| point.value)
            }
            _ => sorted.iter().try_fold(Quantity::ZERO, |sum, value| sum.add(*value))?,
        })
    };
    by_window.into_iter().map(|(index, points)| Ok((index, value(&points)?))).collect()
}
