//! From cells to windows: how an answer is put together. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    error::Error,
    model::{Found, MeterKey, Total, WindowTotal},
};
use crate::kernel::{Period, Quantity};

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
    /// Whether windows without usage are in the answer.
    pub zero_fill: bool,
}

/// Adds cells up by window and group.
pub fn answer(
    shape: &Shape<'_>,
    cells: &[Found],
    value: impl Fn(&Total) -> Quantity,
) -> Result<Vec<WindowTotal>, Error> {
    let mut groups: HashMap<&str, Option<Vec<(String, String)>>> = HashMap::new();
    let mut sums: BTreeMap<(usize, Vec<(String, String)>), Total> = BTreeMap::new();
    for cell in cells {
        let group = groups.entry(cell.group.as_str()).or_insert_with(|| shape.group(&cell.group));
        let (Some(group), Some(window)) = (group.clone(), shape.window(cell)) else { continue };
        let key = (window, group);
        let inexact = |source| Error::Inexact { meter: shape.meter.clone(), source };
        let sum = match sums.get(&key) {
            Some(sum) => sum.and(&cell.total).map_err(inexact)?,
            None => cell.total.clone(),
        };
        sums.insert(key, sum);
    }
    let window = |index: usize, value, group| {
        let period = shape.windows[index];
        WindowTotal { from: period.from(), to: period.to(), value, group }
    };
    let mut totals: Vec<WindowTotal> =
        sums.iter().map(|((index, group), total)| window(*index, value(total), group.clone())).collect();
    if shape.zero_fill {
        let all: std::collections::BTreeSet<_> = match shape.group_by {
            [] => [Vec::new()].into(),
            _ => sums.keys().map(|(_, group)| group.clone()).collect(),
        };
        let empty = (0..shape.windows.len())
            .flat_map(|index| all.iter().map(move |group| (index, group.clone())))
            .filter(|key| !sums.contains_key(key));
        totals.extend(empty.map(|(index, group)| window(index, Quantity::ZERO, group)));
        totals.sort_by(|a, b| (a.from, &a.group).cmp(&(b.from, &b.group)));
    }
    Ok(totals)
}

impl Shape<'_> {
    /// The part of a group that the answer shows; `None` when it is filtered out.
    fn group(&self, text: &str) -> Option<Vec<(String, String)>> {
        let group = read_group(text);
        let passes = |(key, wanted): (&String, &Vec<String>)| group.get(key).is_some_and(|own| wanted.contains(own));
        if !self.filters.iter().all(passes) {
            return None;
        }
        let shown = |key: &String| (key.clone(), group.get(key).cloned().unwrap_or_default());
        Some(self.group_by.iter().map(shown).collect())
    }

    fn window(&self, cell: &Found) -> Option<usize> {
        let index = self.windows.partition_point(|window| window.from() <= cell.start).checked_sub(1)?;
        self.windows[index].contains(cell.start).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{CalendarUnit, TenantId, Timestamp},
        metering::windows,
    };

    fn cell(start: &str, route: &str, value: i64) -> Found {
        let total = Total::one(value.into(), 0, 0);
        let tenant = TenantId::from_uuid(uuid::Uuid::nil());
        Found { tenant, start: start.parse().unwrap(), group: group_of_route(route).to_string(), total }
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
            let shape = Shape { meter: &apis, windows, group_by: &group_by, filters: &filters, zero_fill };
            let totals = answer(&shape, &cells, |total| total.sum).unwrap();
            totals.iter().map(|total| format!("{} {}", total.from, total.value)).collect()
        };
        assert_eq!(values(&days, &[], &[], false), ["2026-11-02T00:00:00Z 3", "2026-11-03T00:00:00Z 4"]);
        assert_eq!(values(&[period], &[], &[], false), ["2026-11-02T00:00:00Z 7"]);
        assert_eq!(values(&[period], &["route"], &[], false), ["2026-11-02T00:00:00Z 5", "2026-11-02T00:00:00Z 2"]);
        assert_eq!(values(&[period], &[], &["/b/"], false), ["2026-11-02T00:00:00Z 2"]);
        assert_eq!(values(&days, &[], &[], true).len(), 3);
    }
}
