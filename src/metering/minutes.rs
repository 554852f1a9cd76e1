//! Records of the journal, added up by minute. Records of one minute, tenant, route and meter are added as plain numbers
//! first, and put into cells once a run: a record costs what finding its place costs.

use std::{
    collections::{HashMap, hash_map::Entry as Place},
    sync::Arc,
};

use super::{
    error::Error,
    journal::Entry,
    model::{Cell, Last, MeterKey, Total},
    rules,
    tally::{self, Totals},
};
use crate::kernel::{CalendarUnit, Quantity, TenantId, Timestamp};

/// Texts by small numbers. There are few, and mostly they are the very same in memory.
#[derive(Default)]
struct Names(Vec<Arc<str>>);

impl Names {
    fn number(&mut self, name: &Arc<str>) -> usize {
        let same = |known: &Arc<str>| Arc::ptr_eq(known, name);
        if let Some(known) = self.0.iter().position(same).or_else(|| self.0.iter().position(|known| known == name)) {
            return known;
        }
        self.0.push(Arc::clone(name));
        self.0.len() - 1
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    minute: Timestamp,
    route: usize,
    meter: usize,
}

/// A total in thousandths.
struct Running {
    count: i64,
    sum: i64,
    low: i64,
    high: i64,
    /// By time, then by number in the journal; with its value.
    last: (i64, i64, i64),
}

impl Running {
    const fn one(thousandths: i64, at_ns: i64, arrival: i64) -> Self {
        let last = (at_ns, arrival, thousandths);
        Self { count: 1, sum: thousandths, low: thousandths, high: thousandths, last }
    }

    /// `false` when the sum is too large for that, and nothing is changed.
    fn add(&mut self, other: &Self) -> bool {
        let Some(sum) = self.sum.checked_add(other.sum) else { return false };
        self.sum = sum;
        self.count += other.count;
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.last = self.last.max(other.last);
        true
    }

    fn total(&self) -> Total {
        let quantity = |thousandths| Quantity::from_scaled(thousandths, 3).unwrap_or_default();
        let (at_ns, arrival, value) = self.last;
        Total {
            count: self.count,
            sum: quantity(self.sum),
            low: quantity(self.low),
            high: quantity(self.high),
            last: Last { at_ns, arrival, value: quantity(value) },
        }
    }
}

/// Adds a run of records to the cells of their minutes.
pub(super) fn add(totals: &mut Totals, entries: &[Entry]) -> Result<(), Error> {
    let (mut routes, mut meters, mut running) = (Names::default(), Names::default(), HashMap::new());
    let mut cells = Vec::new();
    for entry in entries {
        let at = entry.record.at;
        let at_ns = at.as_micros().saturating_mul(1_000);
        let arrival = i64::try_from(entry.seq).unwrap_or(i64::MAX);
        let (tenant, minute, route) = (entry.record.tenant, at.floor_minute(), routes.number(&entry.route));
        for (amount, name) in entry.record.amounts.as_slice().iter().zip(&entry.meters) {
            let one = Running::one(amount.thousandths, at_ns, arrival);
            match running.entry(Key { tenant, minute, route, meter: meters.number(name) }) {
                Place::Vacant(place) => drop(place.insert(one)),
                Place::Occupied(mut place) => {
                    if !place.get_mut().add(&one) {
                        let full = place.insert(one);
                        let Key { tenant, minute, route, meter } = *place.key();
                        cells.push((Key { tenant, minute, route, meter }, full));
                    }
                }
            }
        }
    }
    let groups: Vec<Arc<str>> = routes.0.iter().map(|route| rules::group_of_route(route)).collect();
    let keys: Vec<Option<MeterKey>> = meters.0.iter().map(|name| name.parse().ok()).collect();
    cells.extend(running);
    for (Key { tenant, minute, route, meter }, running) in cells {
        // Names were checked before they were written.
        let Some(meter) = keys[meter].clone() else { return Err(Error::NamelessMeter(running.last.1.unsigned_abs())) };
        let group = Arc::clone(&groups[route]);
        tally::add(totals, Cell { tenant, meter, unit: CalendarUnit::Minute, start: minute, group }, &running.total())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::metering::{Amounts, Record};

    #[test]
    fn a_run_adds_up_to_what_its_records_say_one_by_one() {
        let at: Timestamp = "2026-11-10T12:00:59.5Z".parse().unwrap();
        let names: Vec<Arc<str>> = vec!["apis".into(), "compute".into()];
        let entry = |seq: u64, tenant: u128, route: &str, thousandths: i64| {
            let mut amounts = Amounts::default();
            amounts.push(0, 1_000);
            amounts.push(1, thousandths);
            // In both of two minutes, and out of order.
            let at = at.plus_micros(if seq.is_multiple_of(2) { 600_000 } else { 0 });
            let record = Record { tenant: TenantId::from_uuid(Uuid::from_u128(tenant)), at, route: 0, amounts };
            Entry { seq, record, route: route.into(), meters: names.clone() }
        };
        let large = i64::MAX / 2 + 1;
        let entries: Vec<Entry> = (0..200)
            .map(|seq| {
                entry(seq, u128::from(seq % 3), if seq % 5 == 0 { "/b" } else { "/a" }, 7 * i64::try_from(seq).unwrap())
            })
            .chain((200..204).map(|seq| entry(seq, 9, "/a", large)))
            .collect();
        let mut together = Totals::new();
        add(&mut together, &entries).unwrap();
        let mut one_by_one = Totals::new();
        for entry in &entries {
            add(&mut one_by_one, std::slice::from_ref(entry)).unwrap();
        }
        assert_eq!(together, one_by_one);
        // What is nothing is not in a record.
        assert_eq!(together.values().map(|total| total.count).sum::<i64>(), 2 * 204 - 1);
    }
}
