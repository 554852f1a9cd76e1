//! Filters of groups as OpenMeter's SDKs write them: `filterGroupBy` as JSON, or as Python writes a dictionary, and
//! `advancedMeterGroupByFilters`. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Which values of which keys an answer is narrowed to.
pub(super) type Filters = BTreeMap<String, Vec<String>>;

/// A text, or several.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

impl OneOrMore {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(more) => more,
        }
    }

    pub(super) fn push(&mut self, text: String) {
        let mut all = std::mem::replace(self, Self::More(Vec::new())).into_vec();
        all.push(text);
        *self = Self::More(all);
    }
}

/// Narrows a key to some values: to those of before that are among them.
pub(super) fn narrow(filters: &mut Filters, key: String, values: Vec<String>) {
    match filters.get_mut(&key) {
        Some(before) => before.retain(|value| values.contains(value)),
        None => drop(filters.insert(key, values)),
    }
}

/// `filterGroupBy` in one text: JSON, or what Python's `str` makes of a dictionary.
pub(super) fn parse(text: &str) -> Option<BTreeMap<String, OneOrMore>> {
    if let Ok(filters) = serde_json::from_str(text) {
        return Some(filters);
    }
    let filters: BTreeMap<String, OneOrMore> = serde_json::from_str(&python_to_json(text)?).ok()?;
    // The Python SDK makes a text of each value first: a list arrives as the text of a list.
    let list = |text: &str| -> Option<Vec<String>> { serde_json::from_str(&python_to_json(text)?).ok() };
    let unfolded = |values: OneOrMore| match &values {
        OneOrMore::One(text) if text.starts_with('[') => list(text).map_or(values, OneOrMore::More),
        _ => values,
    };
    Some(filters.into_iter().map(|(key, values)| (key, unfolded(values))).collect())
}

/// The values that an advanced filter lets pass.
pub(super) fn passing(condition: &Map<String, Value>) -> Result<Vec<String>, &'static str> {
    const KNOWN: &str = "must be {\"$eq\": text} or {\"$in\": [texts]}; other operators are not known";
    let mut passing: Option<Vec<String>> = None;
    for (operator, operand) in condition.iter().filter(|(_, operand)| !operand.is_null()) {
        let values: Vec<String> = match (operator.as_str(), operand) {
            ("$eq", Value::String(text)) => vec![text.clone()],
            ("$in", Value::Array(texts)) => {
                texts.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or(KNOWN)?
            }
            _ => return Err(KNOWN),
        };
        match &mut passing {
            Some(before) => before.retain(|value| values.contains(value)),
            None => passing = Some(values),
        }
    }
    passing.ok_or(KNOWN)
}

/// Texts of Python, single-quoted or double-quoted, as texts of JSON.
fn python_to_json(text: &str) -> Option<String> {
    let (mut json, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        if c != '\'' && c != '"' {
            json.push(c);
            continue;
        }
        let mut content = String::new();
        loop {
            match chars.next()? {
                '\\' => content.push(escaped(&mut chars)?),
                end if end == c => break,
                other => content.push(other),
            }
        }
        json.push_str(&serde_json::to_string(&content).ok()?);
    }
    Some(json)
}

/// What follows a backslash in a text that Python's `repr` made.
fn escaped(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = match chars.next()? {
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        other => return Some(other),
    };
    let hex: String = chars.take(digits).collect();
    char::from_u32(u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == digits)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, key: &str) -> Vec<String> {
        parse(text).unwrap().remove(key).unwrap().into_vec()
    }

    #[test]
    fn json_and_python_say_the_same() {
        for text in [
            r#"{"model":["large","small"]}"#,
            "{'model': ['large', 'small']}",
            // What the Python SDK sends for a list.
            r#"{'model': "['large', 'small']"}"#,
        ] {
            assert_eq!(values(text, "model"), ["large", "small"], "{text}");
        }
        assert_eq!(values("{'model': '[draft'}", "model"), ["[draft"]);
        for broken in ["", "model", "[]", "{'model': 1}", "{'model': 'x}", r"{'model': '\x4'}", "{'model': {'a': 'b'}}"]
        {
            assert!(parse(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn what_python_escapes_is_read_as_it_was() {
        assert_eq!(
            values(r#"{"it's": 'a"b\n\té\x07\u2028\U0001f9ea\\ \''}"#, "it's"),
            ["a\"b\n\té\u{7}\u{2028}🧪\\ '"]
        );
    }

    #[test]
    fn advanced_filters_are_equality_and_membership() {
        let passing = |json: &str| passing(&serde_json::from_str(json).unwrap());
        assert_eq!(passing(r#"{"$in":["a","b"],"$eq":"b","$ne":null}"#).unwrap(), ["b"]);
        for unknown in [r#"{"$ne":"a"}"#, r#"{"$in":"a"}"#, r#"{"$eq":1}"#, "{}"] {
            assert!(passing(unknown).is_err(), "{unknown}");
        }
    }
}
