//! What is to be told: customers that are new or changed, and usage that Stripe does not have as it is.

use std::collections::BTreeMap;

use super::{
    error::Error,
    model::{Customer, Kind, Mode, SentMeter},
    planned::{self, Change, Of},
    pushing::{SCOPE, subject},
    requests::{self, OLDEST_USAGE_S},
    service::Stripe,
};
use crate::{
    kernel::{CalendarUnit, Period, TenantId, Timestamp},
    metering::{self, Subjects, UsageQuery},
    store::Tx,
};

/// Tenants that are looked at in one query.
const PAGE: i64 = 200;
/// An hour's usage is sent so long after its end, in seconds: every node has counted it by then.
const COUNTED_S: i64 = 300;
/// Meter events are kept so long, in seconds: longer than Stripe takes usage.
const KEPT_S: i64 = 45 * 86_400;

impl Stripe {
    /// Has Stripe told of tenants that it does not know, and of some that it knows otherwise than they are, those after one in
    /// the order of ids. How many, and after whom to go on; `None` for from the start.
    pub async fn plan_customers(&self, after: Option<TenantId>) -> Result<(usize, Option<TenantId>), Error> {
        let mut told = 0;
        loop {
            let new = self.store.read(SCOPE).await?.stripe_customers_new(PAGE).await?;
            told += self.tell_of(&new).await?;
            if new.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                break;
            }
        }
        let known = self.store.read(SCOPE).await?.stripe_customers_after(after, PAGE).await?;
        told += self.tell_of(&known).await?;
        let all = known.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        let next = known.last().map(|(customer, _)| customer.tenant).filter(|_| !all);
        Ok((told, next))
    }

    async fn tell_of(&self, customers: &[(Customer, Option<Vec<u8>>)]) -> Result<usize, Error> {
        let Some(config) = self.config() else { return Ok(0) };
        let changed: Vec<_> = customers
            .iter()
            .filter_map(|(customer, told)| {
                let form = requests::customer_form(customer, &config.customer_metadata);
                let digest = blake3::hash(format!("{form:?}").as_bytes());
                (told.as_deref() != Some(digest.as_bytes().as_slice())).then_some((customer.tenant, digest))
            })
            .collect();
        if changed.is_empty() {
            return Ok(0);
        }
        let now = self.clock.now();
        let mut tx = self.store.begin(SCOPE).await?;
        for (tenant, digest) in &changed {
            tx.stripe_customer_changed(*tenant, digest.as_bytes(), now).await?;
        }
        tx.commit().await?;
        Ok(changed.len())
    }

    /// Has Stripe told of all usage of hours that are over and that it does not have as it is; how many events that takes.
    pub async fn plan_usage(&self) -> Result<usize, Error> {
        let Some(Mode::MeterEvents(meters)) = self.config().map(|config| &config.mode) else { return Ok(0) };
        let now = self.clock.now();
        let mut tx = self.store.begin(SCOPE).await?;
        let since = tx.stripe_usage_since(hour_of(now)).await?;
        tx.stripe_usage_forget(now.plus_secs(-KEPT_S)).await?;
        tx.commit().await?;
        let oldest = Period::containing(now.plus_secs(-OLDEST_USAGE_S), CalendarUnit::Hour).to();
        let Ok(period) = Period::new(since.max(oldest), self.counted_hour()) else { return Ok(0) };
        let (mut planned, mut after) = (0, None);
        loop {
            let tenants = self.store.read(SCOPE).await?.stripe_lanes_after(after, PAGE).await?;
            let Some(last) = tenants.last() else { return Ok(planned) };
            after = Some(*last);
            for tenant in tenants {
                for meter in meters {
                    planned += self.plan_meter(Of { tenant, meter }, period).await?;
                }
            }
        }
    }

    /// The hour that was counted last by every node: when it is another one, there is more to plan.
    pub fn counted_hour(&self) -> Timestamp {
        hour_of(self.clock.now().plus_secs(-COUNTED_S))
    }

    async fn plan_meter(&self, of: Of<'_>, period: Period) -> Result<usize, Error> {
        let metered = match self.metered(of, period).await {
            // There is nothing of it any more.
            Err(metering::Error::UnknownTenant(_)) => return Ok(0),
            metered => metered?,
        };
        let now = self.clock.now();
        let from = period.from();
        let known = self.store.read(SCOPE).await?.stripe_usage(of.tenant, &of.meter.meter, from).await?;
        if planned::changes(of, &metered, &known, now).is_empty() {
            return Ok(0);
        }
        let mut tx = self.store.begin(SCOPE).await?;
        let known = tx.stripe_usage(of.tenant, &of.meter.meter, from).await?;
        let changes = planned::changes(of, &metered, &known, now);
        for change in &changes {
            note(&mut tx, change, now).await?;
        }
        tx.commit().await?;
        Ok(changes.len())
    }

    /// Usage by hour, in Stripe's whole units; `None` where it has no such number.
    async fn metered(&self, of: Of<'_>, period: Period) -> Result<BTreeMap<Timestamp, Option<i64>>, metering::Error> {
        let SentMeter { meter, times, .. } = of.meter;
        let query = UsageQuery { window: Some(CalendarUnit::Hour), ..UsageQuery::whole(meter.clone(), period) };
        let windows = self.metering.usage(SCOPE, &Subjects::One(of.tenant), &query).await?;
        let mut hours = BTreeMap::new();
        for window in windows {
            let value = planned::whole(window.value, *times);
            if value.is_none() {
                let (tenant_id, meter) = (of.tenant, meter.as_str());
                tracing::warn!(%tenant_id, meter, "an hour's usage is too large for Stripe");
            }
            hours.insert(window.from, value);
        }
        Ok(hours)
    }
}

async fn note(tx: &mut Tx, change: &Change, now: Timestamp) -> Result<(), Error> {
    // What another node has noted is not noted again.
    match change {
        Change::Send(event) => {
            if tx.stripe_usage_insert(event).await? {
                tx.stripe_job_insert(event.tenant, Kind::Usage, &subject(event), now).await?;
            }
        }
        Change::Cancel(event) => {
            if tx.stripe_usage_cancel(event).await? {
                tx.stripe_job_insert(event.tenant, Kind::Cancel, &subject(event), now).await?;
            }
        }
    }
    Ok(())
}

fn hour_of(at: Timestamp) -> Timestamp {
    Period::containing(at, CalendarUnit::Hour).from()
}
