//! What OpenMeter's SDKs ask for, as a query string or a body.

use std::collections::{BTreeMap, HashSet};

use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    Meter, UsageQuery,
    openmeter_filters::{self as filters, Filters, OneOrMore, narrow},
};
use crate::{
    kernel::{CalendarUnit, Faults, Period, Timestamp},
    web::Problem,
};

/// The name under which subjects are grouped.
const SUBJECT: &str = "subject";

/// A query of usage.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryBody {
    /// First instant; the first there is when absent.
    pub(super) from: Option<String>,
    /// First instant after; now when absent.
    pub(super) to: Option<String>,
    /// `MINUTE`, `HOUR`, `DAY` or `MONTH`; one window for all when absent.
    window_size: Option<String>,
    /// An IANA time zone; `UTC` when absent.
    window_time_zone: Option<String>,
    /// Tenants' ids or external ids.
    subject: Option<OneOrMore>,
    /// The same: a customer is a tenant. With both, those that are in both.
    filter_customer_id: Option<OneOrMore>,
    /// Only groups with one of these values for each of these keys.
    filter_group_by: Option<BTreeMap<String, OneOrMore>>,
    /// The same by operators: `{"key": {"$eq": "value"}}` or `{"key": {"$in": ["value"]}}`.
    #[schema(value_type = Option<BTreeMap<String, Value>>)]
    advanced_meter_group_by_filters: Option<BTreeMap<String, Map<String, Value>>>,
    /// Keys of groups, and `subject`.
    group_by: Option<OneOrMore>,
    /// Whether windows without usage are in the answer.
    zero_fill: Option<bool>,
}

impl QueryBody {
    /// The subjects that are named.
    pub(super) fn subjects(&self) -> Vec<String> {
        self.subject.clone().map(OneOrMore::into_vec).unwrap_or_default()
    }

    /// The customers that are named.
    pub(super) fn customers(&self) -> Vec<String> {
        self.filter_customer_id.clone().map(OneOrMore::into_vec).unwrap_or_default()
    }

    /// Names a subject, unless it names that or others.
    pub(super) fn name_subject(&mut self, subject: &str) {
        if self.subject.is_none() && self.filter_customer_id.is_none() {
            self.subject = Some(OneOrMore::One(subject.to_owned()));
        }
    }

    /// The period it is about, and nothing else.
    #[must_use]
    pub(super) fn of_time_alone(self) -> Self {
        Self { from: self.from, to: self.to, ..Self::default() }
    }

    /// The window as the SDKs know it.
    pub(super) fn window_size(&self) -> Option<String> {
        self.window_size.as_deref().map(str::to_ascii_uppercase)
    }

    /// The keys of groups, without `subject`.
    pub(super) fn group_by(&self) -> Vec<String> {
        let mut keys = self.group_by.clone().map(OneOrMore::into_vec).unwrap_or_default();
        let mut seen = HashSet::new();
        keys.retain(|key| key != SUBJECT && seen.insert(key.clone()));
        keys
    }

    /// Whether subjects are kept apart.
    pub(super) fn by_subject(&self) -> bool {
        self.group_by.clone().map(OneOrMore::into_vec).is_some_and(|keys| keys.iter().any(|key| key == SUBJECT))
    }

    /// The query of a meter.
    pub(super) fn parse(self, meter: &Meter, now: Timestamp, utc: TimeZone) -> Result<UsageQuery, Problem> {
        let mut faults = Faults::new();
        let group_by = self.group_by();
        let from = match &self.from {
            Some(text) => faults.parse::<Timestamp>("from", text).map(Timestamp::floor_minute),
            None => Timestamp::from_secs(0),
        };
        let to = match &self.to {
            Some(text) => faults.parse::<Timestamp>("to", text),
            None => Some(now.plus_micros(1)),
        };
        let period = from.zip(to).and_then(|(from, to)| faults.check("from", Period::new(from, to.ceil_minute())));
        let window = match self.window_size().as_deref() {
            None => None,
            Some("MINUTE") => Some(CalendarUnit::Minute),
            Some("HOUR") => Some(CalendarUnit::Hour),
            Some("DAY") => Some(CalendarUnit::Day),
            Some("MONTH") => Some(CalendarUnit::Month),
            Some(_) => {
                faults.add("windowSize", "must be MINUTE, HOUR, DAY or MONTH");
                None
            }
        };
        let zone = match self.window_time_zone.as_deref() {
            None => Some(utc),
            Some(name) => faults.check("windowTimeZone", TimeZone::get(name)),
        };
        let zero_fill = self.zero_fill.unwrap_or(false);
        let filters = self.filters(&mut faults);
        let known = meter.group_keys();
        let named = group_by.iter().map(|key| ("groupBy", key));
        for (field, key) in named.chain(filters.keys().map(|key| ("filterGroupBy", key))) {
            if !known.contains(&key.as_str()) {
                faults.add(field, format!("{key} is no group-by key of the meter {}", meter.key));
            }
        }
        let query = period.zip(zone).map(|(period, zone)| UsageQuery {
            meter: meter.key.clone(),
            // A window of years would be cut where time begins.
            period: window.map_or(Some(period), |_| since_first_use(period, meter)).unwrap_or(period),
            window,
            zone,
            group_by,
            filters,
            zero_fill,
        });
        faults.finish(query).map_err(|faults| Problem::bad(&faults))
    }

    fn filters(self, faults: &mut Faults) -> Filters {
        let mut all = Filters::new();
        for (key, values) in self.filter_group_by.unwrap_or_default() {
            narrow(&mut all, key, values.into_vec());
        }
        for (key, condition) in self.advanced_meter_group_by_filters.unwrap_or_default() {
            match filters::passing(&condition) {
                Ok(values) => narrow(&mut all, key, values),
                Err(detail) => faults.add(format!("advancedMeterGroupByFilters.{key}"), detail),
            }
        }
        all
    }
}

/// Without `from`, windows begin where events may: 35 days, or however long, before the meter was made at the most.
fn since_first_use(period: Period, meter: &Meter) -> Option<Period> {
    const EARLIER_S: i64 = 366 * 86_400;
    if period.from().as_secs() > 0 {
        return Some(period);
    }
    let from = Timestamp::from_secs(meter.created_at.as_secs().max(period.to().as_secs() - 2 * EARLIER_S) - EARLIER_S)?;
    Period::new(from.floor_minute(), period.to()).ok()
}

/// A query string: `filterGroupBy[key]=value`, or `filterGroupBy={"key":["value"]}`, or the same as Python writes it.
pub(super) fn parse_query(query: &str) -> Result<QueryBody, Problem> {
    let mut body = QueryBody::default();
    let mut faults = Faults::new();
    let add = |slot: &mut Option<OneOrMore>, text: String| match slot {
        Some(all) => all.push(text),
        None => *slot = Some(OneOrMore::One(text)),
    };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        let bracketed = name.strip_prefix("filterGroupBy[").and_then(|rest| rest.split_once(']'));
        match &*name {
            "from" => body.from = Some(value),
            "to" => body.to = Some(value),
            "windowSize" => body.window_size = Some(value),
            "windowTimeZone" => body.window_time_zone = Some(value),
            "subject" | "subject[]" => add(&mut body.subject, value),
            "filterCustomerId" | "filterCustomerId[]" => add(&mut body.filter_customer_id, value),
            "groupBy" | "groupBy[]" => {
                value.split(',').filter(|key| !key.is_empty()).for_each(|key| add(&mut body.group_by, key.to_owned()));
            }
            "zeroFill" => body.zero_fill = faults.parse("zeroFill", &value),
            "filterGroupBy" => match filters::parse(&value) {
                Some(all) => body.filter_group_by.get_or_insert_default().extend(all),
                None => faults.add("filterGroupBy", "must be an object of keys and values"),
            },
            "advancedMeterGroupByFilters" => match serde_json::from_str(&value) {
                Ok(all) => body.advanced_meter_group_by_filters = Some(all),
                Err(_) => faults.add("advancedMeterGroupByFilters", "must be an object of keys and conditions"),
            },
            _ => {
                if let Some((key, _)) = bracketed {
                    let filters = body.filter_group_by.get_or_insert_default();
                    match filters.get_mut(key) {
                        Some(all) => all.push(value),
                        None => drop(filters.insert(key.to_owned(), OneOrMore::One(value))),
                    }
                }
            }
        }
    }
    faults.finish(Some(body)).map_err(|faults| Problem::bad(&faults))
}

/// The query that a query string asks of a meter, for the fuzz target.
#[cfg(feature = "fuzz")]
pub fn query_of(text: &str, meter: &Meter, now: Timestamp) -> Option<UsageQuery> {
    parse_query(text).ok()?.parse(meter, now, TimeZone::UTC).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_in_three_forms() {
        for query in [
            "filterGroupBy[model]=large&filterGroupBy[model]=small",
            "filterGroupBy=%7B%22model%22%3A%5B%22large%22%2C%22small%22%5D%7D",
            "filterGroupBy=%7B%27model%27%3A+%5B%27large%27%2C+%27small%27%5D%7D",
        ] {
            let body = parse_query(query).unwrap();
            let filters = body.filter_group_by.unwrap();
            assert_eq!(filters["model"].clone().into_vec(), ["large", "small"], "{query}");
        }
    }

    #[test]
    fn subjects_and_groups_come_once_or_several_times() {
        let body = parse_query("subject=a&subject=b&groupBy=subject&groupBy=model,route&groupBy=model").unwrap();
        assert_eq!(body.subjects(), ["a", "b"]);
        assert_eq!(body.group_by(), ["model", "route"]);
        assert!(body.by_subject());
    }
}
