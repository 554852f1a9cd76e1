//! One way to write JSON down, so that it can be hashed: RFC 8785, for values whose numbers are whole.

use std::{collections::HashSet, fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};

/// The largest whole number that every reader of JSON holds exactly: 2^53 - 1.
const MOST: u64 = (1 << 53) - 1;

/// A number that has more than one form: with a point or an exponent, or beyond 2^53.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the number {0} is not a whole one of at most 2^53 - 1")]
pub struct NotCanonical(String);

/// A value without spaces, its members in the order of their names (as UTF-16), its texts with the fewest escapes.
pub fn canonical(value: &Value) -> Result<String, NotCanonical> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

fn write(value: &Value, text: &mut String) -> Result<(), NotCanonical> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => text.push_str(&whole(number)?),
        Value::String(string) => write_text(string, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text)?;
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            text.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_text(name, text);
                text.push(':');
                write(value, text)?;
            }
            text.push('}');
        }
    }
    Ok(())
}

fn whole(number: &Number) -> Result<String, NotCanonical> {
    let text = number.to_string();
    let known = number.as_i64().filter(|whole| whole.unsigned_abs() <= MOST && whole.to_string() == text);
    known.map(|_| text.clone()).ok_or(NotCanonical(text))
}

fn write_text(string: &str, text: &mut String) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            control if control < ' ' => {
                use fmt::Write as _;
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{:04x}", u32::from(control));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

/// Reads a value in which no object has a member twice: two readers that choose differently would see two values.
pub fn parse_unique(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Unique>(bytes)?;
    serde_json::from_slice(bytes)
}

/// A value that was looked at and is not kept.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<Self>()?;
            if names.contains(&name) {
                return Err(de::Error::custom(format!("the member {name:?} is there twice")));
            }
            names.insert(name);
        }
        Ok(self)
    }
}

/// A BLAKE3 hash of a value for a purpose; 64 small hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// The text is no such hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 hexadecimal digits, small ones")]
pub struct DigestError;

impl Digest {
    /// Of the purpose, a line feed, and the value as [`canonical`] writes it.
    pub fn of(purpose: &str, value: &Value) -> Result<Self, NotCanonical> {
        Ok(Self::of_text(purpose, &canonical(value)?))
    }

    /// The same of a value that is written down already.
    pub fn of_text(purpose: &str, canonical: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(purpose.as_bytes()).update(b"\n").update(canonical.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Bytes as small hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let small = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let hash = blake3::Hash::from_hex(text).ok().filter(|_| small).ok_or(DigestError)?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_in_the_order_of_their_names_and_texts_have_the_fewest_escapes() {
        // The names and texts of RFC 8785 section 3.2.3 and 3.2.2.2.
        let value = json!({"\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis"});
        let written = canonical(&value).unwrap();
        let places = ["\\r", "\"1\"", "\u{80}", "\u{f6}", "\u{20ac}", "\u{1f600}", "\u{fb33}"]
            .map(|name| written.find(name).unwrap());
        assert!(places.is_sorted(), "{written}");
        let text = json!("\u{20ac}$\u{f}\u{a}A'B\"\\\\\"/");
        assert_eq!(canonical(&text).unwrap(), "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"");
        assert_eq!(canonical(&json!({"b": [1, null, true], "a": {}})).unwrap(), r#"{"a":{},"b":[1,null,true]}"#);
    }

    #[test]
    fn a_number_that_others_may_write_otherwise_is_refused() {
        for text in ["1.0", "1e3", "0.5", "9007199254740992", "-0", "18446744073709551615"] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(canonical(&value).is_err(), "{text}");
        }
        for text in ["0", "-7", "9007199254740991"] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(canonical(&value).unwrap(), text);
        }
    }

    #[test]
    fn a_member_that_is_there_twice_is_refused_at_any_depth() {
        assert_eq!(parse_unique(br#"{"a": [{"b": 1, "c": 1.5, "d": null}], "b": true}"#).unwrap()["a"][0]["b"], 1);
        for text in [r#"{"a":1,"a":1}"#, r#"[{"a":[{"b":"x","\u0062":2}]}]"#, "{", ""] {
            assert!(parse_unique(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_is_read_as_it_is_written_and_not_otherwise() {
        let digest = Digest::of("test", &json!({})).unwrap();
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.to_string().to_uppercase().parse::<Digest>(), Err(DigestError));
        assert_ne!(Digest::of("other", &json!({})).unwrap(), digest);
    }
}
