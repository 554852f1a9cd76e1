//! What a meter of events is to be, by the API or by settings: one set of checks for both. Pure.

use std::collections::BTreeMap;

use super::{
    meter::{Aggregation, DataPath, Meter, Source},
    model::MeterKey,
};
use crate::kernel::{Faults, MeterId, Timestamp};

/// The longest name, description or event type, in characters.
const MAX_WORDS: usize = 1_000;
/// The most group-by keys: each combination of values is a cell of the ledger.
const MAX_GROUP_KEYS: usize = 16;

/// A meter as somebody wrote it down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeterDraft {
    /// What plans and queries call it.
    pub key: Option<String>,
    /// What people call it.
    pub name: Option<String>,
    /// What it counts, in words.
    pub description: Option<String>,
    /// The `type` of the events.
    pub event_type: Option<String>,
    /// How values are put together.
    pub aggregation: Option<String>,
    /// Where in `data` the value is.
    pub value_property: Option<String>,
    /// Where in `data` the values of group-by keys are.
    pub group_by: BTreeMap<String, String>,
}

/// What the caller calls the fields of a draft.
#[derive(Debug, Clone, Copy)]
pub struct FieldNames {
    /// `key`
    pub key: &'static str,
    /// `event_type`
    pub event_type: &'static str,
    /// `aggregation`
    pub aggregation: &'static str,
    /// `value_property`
    pub value_property: &'static str,
    /// `group_by`
    pub group_by: &'static str,
}

impl FieldNames {
    /// The contract's own.
    pub const OURS: Self = Self {
        key: "key",
        event_type: "event_type",
        aggregation: "aggregation",
        value_property: "value_property",
        group_by: "group_by",
    };
}

/// A meter of events, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterDefinition {
    /// What plans and queries call it.
    pub key: MeterKey,
    /// What people call it, if that was said.
    pub name: Option<String>,
    /// What it counts, in words, if that was said.
    pub description: Option<String>,
    /// Where its usage comes from.
    pub source: Source,
    /// How values are put together.
    pub aggregation: Aggregation,
}

impl MeterDraft {
    /// Checks all of it; what is wrong is recorded under the caller's names.
    pub fn check(self, names: FieldNames, faults: &mut Faults) -> Option<MeterDefinition> {
        let key: Option<MeterKey> = faults.require(names.key, self.key.as_deref());
        let aggregation: Option<Aggregation> = faults.require(names.aggregation, self.aggregation.as_deref());
        let event_type = self.event_type.filter(|kind| !kind.is_empty() && good_words(kind));
        if event_type.is_none() {
            faults.add(names.event_type, format!("must be a text of 1 to {MAX_WORDS} characters"));
        }
        for (name, text) in [("name", &self.name), ("description", &self.description)] {
            if text.as_ref().is_some_and(|text| !good_words(text)) {
                faults.add(name, format!("must have at most {MAX_WORDS} characters, none of them NUL"));
            }
        }
        let value =
            self.value_property.as_deref().and_then(|text| faults.parse::<DataPath>(names.value_property, text));
        match aggregation {
            Some(Aggregation::Count) if self.value_property.is_some() => {
                faults.add(names.value_property, "is not for count");
            }
            Some(aggregation) if aggregation.needs_value() && self.value_property.is_none() => {
                faults.add(names.value_property, "is required");
            }
            _ => {}
        }
        if self.group_by.len() > MAX_GROUP_KEYS {
            faults.add(names.group_by, format!("must have at most {MAX_GROUP_KEYS} keys"));
        }
        let mut group_by = BTreeMap::new();
        for (key, text) in &self.group_by {
            if let Some(path) = faults.parse::<DataPath>(&format!("{}.{key}", names.group_by), text) {
                group_by.insert(key.clone(), path);
            }
        }
        Some(MeterDefinition {
            key: key?,
            name: self.name,
            description: self.description,
            source: Source::Events { event_type: event_type?, value, group_by },
            aggregation: aggregation?,
        })
    }
}

/// What `PostgreSQL` can keep, and a person reads.
fn good_words(text: &str) -> bool {
    text.chars().count() <= MAX_WORDS && !text.contains('\0')
}

impl MeterDefinition {
    /// A meter of this definition.
    pub fn into_meter(self, id: MeterId, created_at: Timestamp) -> Meter {
        let Self { key, name, description, source, aggregation } = self;
        let name = name.unwrap_or_else(|| key.to_string());
        let description = description.unwrap_or_default();
        Meter { id, key, name, description, source, aggregation, created_at }
    }

    /// What a meter counts otherwise than this says, in words; nothing when both count the same.
    pub fn differences(&self, meter: &Meter) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, own: String, other: String| {
            if own != other {
                found.push(format!("{what} is {own}, not {other}"));
            }
        };
        compare("aggregation", self.aggregation.name().to_owned(), meter.aggregation.name().to_owned());
        match (&self.source, &meter.source) {
            (
                Source::Events { event_type, value, group_by },
                Source::Events { event_type: kind, value: at, group_by: by },
            ) => {
                let path = |path: &Option<DataPath>| {
                    path.as_ref().map_or("absent".to_owned(), |path| path.as_str().to_owned())
                };
                compare("event_type", event_type.clone(), kind.clone());
                compare("value_property", path(value), path(at));
                compare("group_by", format!("{group_by:?}"), format!("{by:?}"));
            }
            _ => compare("it", "a meter of events".to_owned(), "a stock meter".to_owned()),
        }
        found
    }
}
