//! Meters: what of an event is counted, how, and in which groups. Pure.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde_json::Value;

use super::{model::MeterKey, rules};
use crate::kernel::{MeterId, Quantity, QuantityError, Timestamp};

/// The most digits of a value before the point, and after it. A total has 28 digits in all, so that some ten thousand
/// values of the largest kind can be added up in any order, and never one makes a total that others cannot be added to.
const DIGITS: (u32, u32) = (15, 9);

/// A meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// Which.
    pub id: MeterId,
    /// What plans and queries call it.
    pub key: MeterKey,
    /// What people call it.
    pub name: String,
    /// What it counts, in words.
    pub description: String,
    /// Where its usage comes from.
    pub source: Source,
    /// How values are put together.
    pub aggregation: Aggregation,
    /// Since when.
    pub created_at: Timestamp,
}

/// Where a meter's usage comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Settled requests: a stock meter.
    Gateway {
        /// The unit of its quantities.
        unit: &'static str,
    },
    /// Events from outside.
    Events {
        /// The `type` of the events.
        event_type: String,
        /// Where in `data` the value is; nothing for `count`.
        value: Option<DataPath>,
        /// Where in `data` the values of group-by keys are.
        group_by: BTreeMap<String, DataPath>,
    },
}

/// How values are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// Their sum.
    Sum,
    /// How many.
    Count,
    /// How many different texts, exactly.
    UniqueCount,
    /// Sum over count, to 28 digits.
    Avg,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The last by its time, then by arrival.
    Latest,
    /// Each value times the seconds until the next one of its group, to the nanosecond.
    WeightedSum,
    /// The value that so many per cent are not above: nearest rank, exact.
    Percentile(u8),
}

impl Aggregation {
    const NAMES: [(&'static str, Self); 12] = [
        ("sum", Self::Sum),
        ("count", Self::Count),
        ("unique_count", Self::UniqueCount),
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
        ("latest", Self::Latest),
        ("weighted_sum", Self::WeightedSum),
        ("p50", Self::Percentile(50)),
        ("p90", Self::Percentile(90)),
        ("p95", Self::Percentile(95)),
        ("p99", Self::Percentile(99)),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, own)| *own == self).map_or("percentile", |(name, _)| name)
    }

    /// Whether it needs single events, not totals.
    pub const fn needs_events(self) -> bool {
        matches!(self, Self::UniqueCount | Self::WeightedSum | Self::Percentile(_))
    }

    /// A value of it as a bill has it: one that may have no exact form, or more digits than a price can be multiplied
    /// with, has nine behind the point.
    pub fn to_be_priced(self, value: Quantity) -> Quantity {
        match self {
            Self::Avg | Self::WeightedSum => value.rounded(DIGITS.1),
            _ => value,
        }
    }

    /// Whether it needs a value at all.
    pub const fn needs_value(self) -> bool {
        !matches!(self, Self::Count)
    }
}

/// The text is no aggregation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be sum, count, unique_count, avg, min, max, latest, weighted_sum, p50, p90, p95 or p99")]
pub struct AggregationError;

impl FromStr for Aggregation {
    type Err = AggregationError;

    fn from_str(text: &str) -> Result<Self, AggregationError> {
        // OpenMeter writes them in capitals.
        let found = Self::NAMES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, aggregation)| aggregation).ok_or(AggregationError)
    }
}

/// A JSON path (RFC 9535) into an event's `data`.
#[derive(Clone)]
pub struct DataPath {
    text: String,
    path: serde_json_path::JsonPath,
    /// The names of a path that is nothing but names, such as `$.usage.tokens`: most are, and they need no evaluator.
    names: Option<Vec<String>>,
}

impl DataPath {
    /// The first value it leads to.
    fn first<'v>(&self, data: &'v Value) -> Option<&'v Value> {
        match &self.names {
            Some(names) => names.iter().try_fold(data, |value, name| value.as_object()?.get(name)),
            None => self.path.query(data).first(),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a JSON path such as $.usage.tokens (RFC 9535): {0}")]
pub struct DataPathError(String);

impl FromStr for DataPath {
    type Err = DataPathError;

    fn from_str(text: &str) -> Result<Self, DataPathError> {
        let path = serde_json_path::JsonPath::parse(text).map_err(|error| DataPathError(error.to_string()))?;
        Ok(Self { text: text.to_owned(), path, names: names(text) })
    }
}

/// The names of a path in the shorthand of RFC 9535 section 2.5.1.1, if it is nothing else.
fn names(path: &str) -> Option<Vec<String>> {
    let good = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    path.strip_prefix("$.")?.split('.').map(|name| good(name).then(|| name.to_owned())).collect()
}

impl PartialEq for DataPath {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for DataPath {}

impl fmt::Debug for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a meter reads in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The value; one for meters that count.
    pub value: Quantity,
    /// The value as a text, for meters that count different ones.
    pub text: String,
    /// The group.
    pub group: Arc<str>,
}

/// Why a meter cannot read an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadingError {
    /// There is nothing where the value should be.
    #[error("the meter {meter} finds no value at {path}")]
    NoValue {
        /// The meter.
        meter: MeterKey,
        /// Where it looked.
        path: String,
    },
    /// What is there is no number.
    #[error("the meter {meter} finds no number at {path}")]
    NoNumber {
        /// The meter.
        meter: MeterKey,
        /// Where it looked.
        path: String,
    },
    /// The number has too many digits.
    #[error(
        "the meter {meter} finds a number at {path} with more than {} digits before the point or {} after it",
        DIGITS.0,
        DIGITS.1
    )]
    TooManyDigits {
        /// The meter.
        meter: MeterKey,
        /// Where it looked.
        path: String,
    },
}

impl Meter {
    /// The type of the events it counts; `None` for what the gateway counts.
    pub fn event_type(&self) -> Option<&str> {
        match &self.source {
            Source::Gateway { .. } => None,
            Source::Events { event_type, .. } => Some(event_type),
        }
    }

    /// The keys of its groups.
    pub fn group_keys(&self) -> Vec<&str> {
        match &self.source {
            Source::Gateway { .. } => vec!["route"],
            Source::Events { group_by, .. } => group_by.keys().map(String::as_str).collect(),
        }
    }

    /// What it reads in an event's data.
    pub fn read(&self, data: &Value) -> Result<Reading, ReadingError> {
        let Source::Events { value, group_by, .. } = &self.source else {
            return Ok(Reading { value: Quantity::ONE, text: String::new(), group: rules::group(std::iter::empty()) });
        };
        let groups: Vec<(&str, String)> = group_by
            .iter()
            .map(|(key, path)| (key.as_str(), path.first(data).map(plain).unwrap_or_default()))
            .collect();
        let group = rules::group(groups.iter().map(|(key, value)| (*key, value.as_str())));
        let Some(path) = value.as_ref().filter(|_| self.aggregation.needs_value()) else {
            return Ok(Reading { value: Quantity::ONE, text: String::new(), group });
        };
        let no_value = || ReadingError::NoValue { meter: self.key.clone(), path: path.text.clone() };
        let found = path.first(data).filter(|found| !found.is_null()).ok_or_else(no_value)?;
        let text = plain(found);
        if self.aggregation == Aggregation::UniqueCount {
            return Ok(Reading { value: Quantity::ONE, text, group });
        }
        let value = match exact(&text) {
            Ok(value) if value.fits(DIGITS.0, DIGITS.1) => value,
            Ok(_) | Err(QuantityError::TooManyDigits) => {
                return Err(ReadingError::TooManyDigits { meter: self.key.clone(), path: path.text.clone() });
            }
            Err(_) => return Err(ReadingError::NoNumber { meter: self.key.clone(), path: path.text.clone() }),
        };
        Ok(Reading { value, text, group })
    }
}

/// A value as a text, without the quotes of a JSON string.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A JSON number, with an exponent or not, exactly.
pub(crate) fn exact(text: &str) -> Result<Quantity, QuantityError> {
    let Some((digits, _)) = text.split_once(['e', 'E']) else { return text.parse() };
    let well_formed = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    let decimal = rust_decimal::Decimal::from_scientific(text);
    let refused = if well_formed { QuantityError::TooManyDigits } else { QuantityError::NotANumber };
    let Ok(decimal) = decimal else { return Err(refused) };
    // What does not come back as it went in has been rounded.
    let significant = |text: &str| {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        digits.trim_start_matches('0').trim_end_matches('0').to_owned()
    };
    let whole = significant(&decimal.to_string()) == significant(digits);
    if whole { Ok(Quantity::new(decimal)) } else { Err(QuantityError::TooManyDigits) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meter(aggregation: Aggregation) -> Meter {
        Meter {
            id: MeterId::from_uuid(uuid::Uuid::nil()),
            key: "tokens".parse().unwrap(),
            name: String::new(),
            description: String::new(),
            source: Source::Events {
                event_type: "prompt".into(),
                value: Some("$.usage.tokens".parse().unwrap()),
                group_by: [("model".to_owned(), "$.model".parse().unwrap())].into(),
            },
            aggregation,
            created_at: Timestamp::MIN,
        }
    }

    #[test]
    fn values_are_exact_whether_numbers_or_texts() {
        let read = |data: &str| {
            let data: Value = serde_json::from_str(data).unwrap();
            meter(Aggregation::Sum).read(&data).map(|reading| reading.value.to_string())
        };
        let longest = "-123456789012345.123456789";
        assert_eq!(read(&format!(r#"{{"usage":{{"tokens":{longest}}}}}"#)).unwrap(), longest);
        assert_eq!(read(r#"{"usage":{"tokens":"42.50"}}"#).unwrap(), "42.50".parse::<Quantity>().unwrap().to_string());
        assert_eq!(read(r#"{"usage":{"tokens":1.5e3}}"#).unwrap(), "1500");
        for long in ["1234567890123456", "0.1234567891", "1e15", "1e-10", "1e400", "0.12345678901234567890123456789"] {
            let refused = read(&format!(r#"{{"usage":{{"tokens":{long}}}}}"#));
            assert!(matches!(refused, Err(ReadingError::TooManyDigits { .. })), "{long}: {refused:?}");
        }
        for wrong in ["true", "\"\"", "\"one\"", "\"1e\"", "[]"] {
            let refused = read(&format!(r#"{{"usage":{{"tokens":{wrong}}}}}"#));
            assert!(refused.is_err(), "{wrong}: {refused:?}");
        }
        assert!(matches!(read(r#"{"usage":{}}"#), Err(ReadingError::NoValue { .. })));
    }

    #[test]
    fn short_paths_lead_where_the_standard_says() {
        let data = json!({"a": {"b": [1, {"c": 2}], "x": null}, "b.c": 3, "b": "text"});
        for text in ["$.a", "$.a.b", "$.a.x", "$.a.x.y", "$.b.c", "$.none", "$.a.b[1].c", "$['b.c']", "$"] {
            let path: DataPath = text.parse().unwrap();
            assert_eq!(
                path.first(&data),
                serde_json_path::JsonPath::parse(text).unwrap().query(&data).first(),
                "{text}"
            );
        }
    }

    #[test]
    fn groups_are_texts_and_a_missing_one_is_empty() {
        let group = |data: Value| meter(Aggregation::Count).read(&data).unwrap().group.to_string();
        assert_eq!(group(json!({"model": "large"})), r#"{"model":"large"}"#);
        assert_eq!(group(json!({"model": 7})), r#"{"model":"7"}"#);
        assert_eq!(group(json!({})), r#"{"model":""}"#);
    }

    #[test]
    fn aggregations_have_the_names_of_the_contract() {
        for (name, aggregation) in Aggregation::NAMES {
            assert_eq!(name.to_uppercase().parse::<Aggregation>(), Ok(aggregation));
            assert_eq!(aggregation.name(), name);
        }
        assert!("median".parse::<Aggregation>().is_err());
    }
}
