//! What a bill is rated from: the days that a total is made up of, in one look, and the windows and events behind it.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::{
    error::Error,
    events::measured,
    meter::Aggregation,
    model::{Event, EventsAfter, Found, MeterKey},
    query::{Subjects, UsageQuery, UsageReader, nanos},
    service::Metering,
    windows,
};
use crate::{
    kernel::{CalendarUnit, Period, Quantity, TenantId, Timestamp},
    store::Scope,
};

/// A total, and what it is made up of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByDay {
    /// In all.
    pub total: Quantity,
    /// What each day in UTC (or what is within the period of it) has of that, where it has something, by its first instant.
    /// `None` for a total that is no sum: a largest value, an average, how many different ones.
    pub days: Option<Vec<(Timestamp, Quantity)>>,
}

impl ByDay {
    fn of_days(meter: &MeterKey, days: BTreeMap<Timestamp, Quantity>) -> Result<Self, Error> {
        let inexact = |source| Error::Inexact { meter: meter.clone(), source };
        let total = days.values().try_fold(Quantity::ZERO, |sum, day| sum.add(*day)).map_err(inexact)?;
        let days = days.into_iter().filter(|(_, quantity)| !quantity.is_zero()).collect();
        Ok(Self { total, days: Some(days) })
    }
}

impl Metering {
    /// What has been counted by now, after what was settled on this node before the call is.
    pub async fn reader_for(&self, meter: &MeterKey) -> Result<UsageReader, Error> {
        self.catch_up_for(meter).await?;
        Ok(self.reader())
    }
}

impl UsageReader {
    /// What each window of a period has of a tenant's usage of a meter, where it has something.
    pub async fn windows_of(
        &self,
        scope: Scope,
        tenant: TenantId,
        meter: &MeterKey,
        (period, window): (Period, CalendarUnit),
    ) -> Result<Vec<(Period, Quantity)>, Error> {
        if self.meters.by_key(meter).is_none() {
            return Ok(Vec::new());
        }
        let query = UsageQuery { window: Some(window), ..UsageQuery::whole(meter.clone(), period) };
        let found = self.usage(scope, &Subjects::One(tenant), &query).await?;
        let with_usage = found.into_iter().filter(|window| !window.value.is_zero());
        Ok(with_usage.filter_map(|window| Some((Period::new(window.from, window.to).ok()?, window.value))).collect())
    }

    /// A tenant's events that a meter counts in a period and what it reads in each, in order, after one of them; and where the
    /// list goes on, if it does.
    pub async fn events_of(
        &self,
        scope: Scope,
        tenant: TenantId,
        meter: &MeterKey,
        period: Period,
        (after, most): (Option<EventsAfter>, usize),
    ) -> Result<(Vec<(Event, Option<Quantity>)>, Option<EventsAfter>), Error> {
        let Some(known) = self.meters.by_key(meter) else { return Ok((Vec::new(), None)) };
        let Some(kind) = known.event_type() else { return Ok((Vec::new(), None)) };
        let time = (nanos(period.from()), nanos(period.to()));
        let mut tx = self.ledger.read(scope).await?;
        let one_more = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let mut found = tx.events_after((tenant, kind), time, after.as_ref(), one_more).await?;
        let more = found.len() > most;
        found.truncate(most);
        let last = found.last().filter(|_| more);
        let next = last.map(|last| EventsAfter { at_ns: last.at_ns, arrival: last.arrival, id: last.id.clone() });
        let read = |event: Event| {
            let value = measured(&known, &event).map(|(_, reading)| reading.value);
            (event, value)
        };
        Ok((found.into_iter().map(read).collect(), next))
    }

    /// A tenant's usage of a meter in a period, by day. Its total is that of [`Self::total`], read once.
    pub async fn by_day(
        &self,
        scope: Scope,
        tenant: TenantId,
        meter: &MeterKey,
        period: Period,
    ) -> Result<ByDay, Error> {
        let Some(known) = self.meters.by_key(meter) else { return ByDay::of_days(meter, BTreeMap::new()) };
        let day_of = |at| Period::containing(at, CalendarUnit::Day).from();
        let mut days: BTreeMap<Timestamp, Quantity> = BTreeMap::new();
        if known.event_type().is_none() {
            let Some(cut) = windows::windows(period, CalendarUnit::Day, &TimeZone::UTC) else {
                let total = self.total(scope, tenant, meter, period).await?;
                return Ok(ByDay { total, days: None });
            };
            let take = |found: Found| {
                let sum = days.entry(day_of(found.start)).or_default();
                *sum = sum.add(found.total.sum).map_err(|source| Error::Inexact { meter: meter.clone(), source })?;
                Ok::<(), Error>(())
            };
            let stretches = windows::stretches(&cut);
            self.ledger.read(scope).await?.totals_each(Some(tenant), meter, &stretches, take).await?;
            return ByDay::of_days(meter, days);
        }
        if !matches!(known.aggregation, Aggregation::Sum | Aggregation::Count) {
            let total = self.total(scope, tenant, meter, period).await?;
            return Ok(ByDay { total, days: None });
        }
        let query = UsageQuery { window: Some(CalendarUnit::Day), ..UsageQuery::whole(meter.clone(), period) };
        for window in self.usage(scope, &Subjects::One(tenant), &query).await? {
            days.insert(day_of(window.from), window.value);
        }
        ByDay::of_days(meter, days)
    }
}
