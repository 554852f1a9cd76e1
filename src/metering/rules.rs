//! From cells to windows: how an answer is put together. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    error::Error,
    model::{Adjustment, Cell, Counted, Found, MeterKey, Total, WindowTotal},
    windows::MOST_WINDOWS,
};
use crate::kernel::{CalendarUnit, Period, Quantity, TenantId, Timestamp};

/// What of some minutes belongs to months that are closed by now, `grace_s` after their end, and so is to be noted besides
/// being counted: whatever it came from. The one place that decides it.
pub fn adjustments(minutes: &BTreeMap<Cell, Total>, now: Timestamp, grace_s: i64) -> Result<Vec<Adjustment>, Error> {
    let mut months: BTreeMap<Cell, (i64, Quantity)> = BTreeMap::new();
    for (cell, total) in minutes {
        let month = Period::containing(cell.start, CalendarUnit::Month);
        if month.to().plus_secs(grace_s) <= now {
            let cell = Cell { unit: CalendarUnit::Month, start: month.from(), ..cell.clone() };
            let inexact = |source| Error::Inexact { meter: cell.meter.clone(), source };
            let (count, sum) = months.get(&cell).copied().unwrap_or_default();
            let both = (count.saturating_add(total.count), sum.add(total.sum).map_err(inexact)?);
            months.insert(cell, both);
        }
    }
    let noted = |(cell, (count, sum)): (Cell, (i64, Quantity))| {
        let Cell { tenant, meter, start: month, group, .. } = cell;
        Adjustment { tenant, meter, month, group, count, sum }
    };
    Ok(months.into_iter().map(noted).collect())
}

impl Counted {
    /// Both together, which are of one meter.
    pub fn and(&self, more: &Self) -> Result<Self, Error> {
        let inexact = |source| Error::Inexact { meter: self.meter.clone(), source };
        let sum = self.sum.add(more.sum).map_err(inexact)?;
        Ok(Self { meter: self.meter.clone(), count: self.count.saturating_add(more.count), sum })
    }
}

/// The group of what came by a route.
pub fn group_of_route(route: &str) -> Arc<str> {
    group([("route", route)].into_iter())
}

/// A group's text: a JSON object in order of its keys, so that equal groups have equal texts.
pub fn group<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Arc<str> {
    let ordered: BTreeMap<&str, &str> = pairs.collect();
    // A map of texts is always JSON.
    serde_json::to_string(&ordered).unwrap_or_default().into()
}

/// The keys and values of a group's text.
pub fn read_group(text: &str) -> BTreeMap<String, String> {
    serde_json::from_str(text).unwrap_or_default()
}

/// How an answer is to be put together.
#[derive(Debug, Clone)]
pub struct Shape<'a> {
    /// Of what, for errors.
    pub meter: &'a MeterKey,
    /// The windows, ascending.
    pub windows: &'a [Period],
    /// The keys to group by.
    pub group_by: &'a [String],
    /// Only groups with one of these values for each of these keys.
    pub filters: &'a BTreeMap<String, Vec<String>>,
    /// Whether tenants are kept apart.
    pub by_tenant: bool,
    /// Whether windows without usage are in the answer.
    pub zero_fill: bool,
}

/// What of an answer belongs together: the window's place, the tenant when they are kept apart, the group.
pub type Key = (usize, Option<TenantId>, Vec<(String, String)>);

/// Cells added up by window, tenant and group, as they come: only sums are in memory.
pub struct Sums<'a> {
    shape: &'a Shape<'a>,
    /// What of each group the answer shows.
    groups: HashMap<String, Option<Vec<(String, String)>>>,
    /// The sums.
    pub by_key: BTreeMap<Key, Total>,
}

impl<'a> Sums<'a> {
    /// Of nothing yet.
    pub fn new(shape: &'a Shape<'a>) -> Self {
        Self { shape, groups: HashMap::new(), by_key: BTreeMap::new() }
    }

    /// Adds a cell.
    pub fn add(&mut self, cell: Found) -> Result<(), Error> {
        let group = match self.groups.get(&cell.group) {
            Some(known) => known.clone(),
            None => self.groups.entry(cell.group.clone()).or_insert(self.shape.group(&cell.group)).clone(),
        };
        let (Some(group), Some(window)) = (group, self.shape.window(cell.start)) else { return Ok(()) };
        let key = (window, self.shape.by_tenant.then_some(cell.tenant), group);
        let inexact = |source| Error::Inexact { meter: self.shape.meter.clone(), source };
        let sum = match self.by_key.get(&key) {
            Some(sum) => sum.and(&cell.total).map_err(inexact)?,
            None => cell.total,
        };
        self.by_key.insert(key, sum);
        Ok(())
    }
}

/// Values as an answer, windows without usage filled in where that is asked for; an error when that makes too many.
pub fn answer(shape: &Shape<'_>, values: BTreeMap<Key, Quantity>) -> Result<Vec<WindowTotal>, Error> {
    let mut values = values;
    if shape.zero_fill {
        let mut all: BTreeSet<_> = values.keys().map(|(_, tenant, group)| (*tenant, group.clone())).collect();
        if all.is_empty() && shape.group_by.is_empty() && !shape.by_tenant {
            all.insert((None, Vec::new()));
        }
        if all.len().saturating_mul(shape.windows.len()) > MOST_WINDOWS {
            return Err(Error::TooManyWindows(MOST_WINDOWS));
        }
        for index in 0..shape.windows.len() {
            for (tenant, group) in &all {
                values.entry((index, *tenant, group.clone())).or_insert(Quantity::ZERO);
            }
        }
    }
    let window = |((index, tenant, group), value): (Key, Quantity)| {
        let period = shape.windows[index];
        WindowTotal { from: period.from(), to: period.to(), tenant, value, group }
    };
    Ok(values.into_iter().map(window).collect())
}

impl Shape<'_> {
    /// The part of a group that the answer shows; `None` when it is filtered out.
    pub fn group(&self, text: &str) -> Option<Vec<(String, String)>> {
        let group = read_group(text);
        let passes = |(key, wanted): (&String, &Vec<String>)| group.get(key).is_some_and(|own| wanted.contains(own));
        if !self.filters.iter().all(passes) {
            return None;
        }
        let shown = |key: &String| (key.clone(), group.get(key).cloned().unwrap_or_default());
        Some(self.group_by.iter().map(shown).collect())
    }

    /// The place of the window that an instant lies in.
    pub fn window(&self, at: Timestamp) -> Option<usize> {
        let index = self.windows.partition_point(|window| window.from() <= at).checked_sub(1)?;
        self.windows[index].contains(at).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metering::windows;

    fn cell(start: &str, route: &str, value: i64) -> Found {
        let total = Total::one(value.into(), 0, 0);
        let tenant = TenantId::from_uuid(uuid::Uuid::nil());
        Found { tenant, start: start.parse().unwrap(), group: group_of_route(route).to_string(), total }
    }

    #[test]
    fn a_month_is_closed_after_its_grace_and_has_one_adjustment_of_a_group() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let minute = |start: &str, value: i64| {
            let cell = Cell {
                tenant: TenantId::from_uuid(uuid::Uuid::nil()),
                meter: "apis".parse().unwrap(),
                unit: CalendarUnit::Minute,
                start: at(start),
                group: group_of_route("/"),
            };
            (cell, Total::one(value.into(), 0, 0))
        };
        let minutes =
            [minute("2026-10-31T23:58:00Z", 1), minute("2026-10-31T23:59:00Z", 2), minute("2026-11-01T00:00:00Z", 4)];
        let late = |now: &str| {
            let late = adjustments(&minutes.clone().into(), at(now), 3_600).unwrap();
            let shown = |late: &Adjustment| format!("{} {} {}", late.month, late.count, late.sum);
            late.iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(late("2026-11-01T00:59:59Z"), Vec::<String>::new());
        assert_eq!(late("2026-11-01T01:00:00Z"), ["2026-10-01T00:00:00Z 2 3"]);
        assert_eq!(late("2026-12-01T01:00:00Z"), ["2026-10-01T00:00:00Z 2 3", "2026-11-01T00:00:00Z 1 4"]);
    }

    #[test]
    fn cells_add_up_by_window_and_group() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let period = Period::new(at("2026-11-02T00:00:00Z"), at("2026-11-05T00:00:00Z")).unwrap();
        let days = windows::windows(period, CalendarUnit::Day, &jiff::tz::TimeZone::UTC).unwrap();
        let cells = [
            cell("2026-11-02T10:00:00Z", "/a/", 1),
            cell("2026-11-02T10:01:00Z", "/b/", 2),
            cell("2026-11-03T10:00:00Z", "/a/", 4),
        ];
        let apis: MeterKey = "apis".parse().unwrap();
        let values = |windows: &[Period], by: &[&str], only: &[&str], zero_fill| -> Vec<String> {
            let group_by: Vec<String> = by.iter().map(|key| (*key).to_owned()).collect();
            let only: Vec<String> = only.iter().map(|route| (*route).to_owned()).collect();
            let filters = if only.is_empty() { BTreeMap::new() } else { [("route".to_owned(), only)].into() };
            let (meter, group_by) = (&apis, &group_by);
            let shape = Shape { meter, windows, group_by, filters: &filters, by_tenant: false, zero_fill };
            let mut sums = Sums::new(&shape);
            for cell in &cells {
                sums.add(cell.clone()).unwrap();
            }
            let totals =
                answer(&shape, sums.by_key.into_iter().map(|(key, total)| (key, total.sum)).collect()).unwrap();
            totals.iter().map(|total| format!("{} {}", total.from, total.value)).collect()
        };
        assert_eq!(values(&days, &[], &[], false), ["2026-11-02T00:00:00Z 3", "2026-11-03T00:00:00Z 4"]);
        assert_eq!(values(&[period], &[], &[], false), ["2026-11-02T00:00:00Z 7"]);
        assert_eq!(values(&[period], &["route"], &[], false), ["2026-11-02T00:00:00Z 5", "2026-11-02T00:00:00Z 2"]);
        assert_eq!(values(&[period], &[], &["/b/"], false), ["2026-11-02T00:00:00Z 2"]);
        assert_eq!(values(&days, &[], &[], true).len(), 3);
    }
}
