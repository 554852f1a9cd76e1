//! Meters that routes count: the stock ones, and any other that a route names. How far the gateway's part of a meter is
//! told from that of events, what a tenant used as of a place in the journal, and what could not be read.
//!
//! The gateway's cells are grouped by route, and those of events by what their meter says: their groups tell them apart.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    error::Error,
    meter::{Aggregation, Meter},
    model::MeterKey,
    rules,
    service::Metering,
    windows,
};
use crate::{
    kernel::{Period, Quantity, TenantId, Timestamp},
    store::Scope,
};

/// Requests whose quantity of a meter could not be read, of one route; they are counted here, and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadUsage {
    /// The route.
    pub route: String,
    /// The meter.
    pub meter: String,
    /// How many requests since the start of this process.
    pub requests: u64,
    /// When last.
    pub last_at: Timestamp,
    /// Why that one.
    pub last_error: String,
}

/// The key by which the gateway's usage of any meter is grouped.
pub(super) const ROUTE: &str = "route";

/// By the numbers of route and meter.
#[derive(Default)]
pub(super) struct UnreadBook(Mutex<BTreeMap<(u16, u16), UnreadUsage>>);

/// What a tenant used, and up to which record of this process's journal that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedAsOf {
    /// By meter and period, in the order asked for.
    pub used: Vec<Quantity>,
    /// The last record that is in it.
    pub seq: u64,
}

/// Whether a cell's group is that of a route, which no group of a meter's events is.
pub(super) fn is_of_route(meter: &Meter, group: &str) -> bool {
    let of_events = meter.group_keys() == [ROUTE] && meter.event_type().is_some();
    let by_route = || group.starts_with("{\"route\":") && rules::read_group(group).len() == 1;
    !of_events && by_route()
}

impl Metering {
    /// A meter's number in the journal, if the gateway may count it.
    pub fn meter_number(&self, key: &str) -> Option<u16> {
        self.journal.meter_number(key)
    }

    /// Whether the gateway counts a meter, so that some of it waits in the journal.
    pub(super) fn is_routed(&self, key: &MeterKey) -> bool {
        self.journal.meter_number(key.as_str()).is_some()
    }

    /// An error unless every meter that routes name is there, and is one that requests can be added to.
    pub fn check_routed_meters(&self) -> Result<(), Error> {
        let names = self.journal.meter_names();
        self.check_routable(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// An error unless each of these is a meter that requests can be added to.
    pub fn check_routable(&self, names: &[&str]) -> Result<(), Error> {
        for name in names {
            let unroutable = |why| Error::UnroutableMeter((*name).to_owned(), why);
            let meter = self.meter(name).filter(|meter| meter.key.as_str() == *name);
            let meter = meter.ok_or_else(|| {
                unroutable("there is no such meter: define it in [[metering.meters]] or by POST /admin/v1/meters")
            })?;
            if meter.aggregation != Aggregation::Sum {
                return Err(unroutable("it is no sum"));
            }
            if meter.event_type().is_some() && meter.group_keys() == [ROUTE] {
                return Err(unroutable("its events are grouped by a route of their own"));
            }
        }
        Ok(())
    }

    /// What a tenant used of some meters as the ledger has it, and as of which record of this process that is: both of one
    /// moment.
    pub async fn used_as_of(
        &self,
        scope: Scope,
        tenant: TenantId,
        wanted: &[(MeterKey, Period)],
    ) -> Result<UsedAsOf, Error> {
        let mut tx = self.store.read(scope).await?;
        let cursor = tx.journal_cursor(self.journal.identity().boot).await?;
        let seq = cursor.map_or(0, |cursor| u64::try_from(cursor.seq).unwrap_or(0));
        let mut used = Vec::with_capacity(wanted.len());
        for (meter, period) in wanted {
            let mut sum = Quantity::ZERO;
            for found in tx.totals(Some(tenant), meter, &windows::stretches(&[*period])).await? {
                sum = sum.add(found.total.sum).map_err(|source| Error::Inexact { meter: meter.clone(), source })?;
            }
            used.push(sum);
        }
        Ok(UsedAsOf { used, seq })
    }

    /// Notes a request whose quantity of a meter could not be read. Said in the log, too, the first time and each time that
    /// there are twice as many.
    pub fn note_unread(&self, route: u16, meter: u16, why: &dyn std::error::Error) {
        let now = self.clock.now();
        let mut book = self.unread.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = book.entry((route, meter)).or_insert_with(|| UnreadUsage {
            route: self.journal.route_names().get(usize::from(route)).cloned().unwrap_or_default(),
            meter: self.journal.meter_names().get(usize::from(meter)).cloned().unwrap_or_default(),
            requests: 0,
            last_at: now,
            last_error: String::new(),
        });
        entry.requests += 1;
        entry.last_at = now;
        entry.last_error = why.to_string();
        if entry.requests.is_power_of_two() {
            let UnreadUsage { route, meter, requests, last_error, .. } = entry;
            tracing::warn!(route, meter, requests, error = last_error, "the usage of requests could not be read");
        }
    }

    /// Requests whose usage could not be read, since the start.
    pub fn unread(&self) -> Vec<UnreadUsage> {
        self.unread.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Kept apart, so that the service names one field.
pub(super) type Unread = Arc<UnreadBook>;
