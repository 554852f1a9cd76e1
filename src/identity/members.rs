//! JSON objects of tokens, read strictly: a member that is there twice is refused at any depth (RFC 7515 section 4, RFC 7519
//! section 4 leave the choice of the last one; two programs that choose differently see two tokens). Values stay where
//! they are, as text, until somebody asks for one.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Objects and arrays within each other; tokens need three or four.
const MAX_DEPTH: usize = 16;
/// Up to so many members are compared with each other; more are hashed.
const FEW: usize = 24;

/// The members of an object, in their order.
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A text that is not such an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotMembers {
    /// No JSON object, or one that is nested too deep.
    Malformed,
    /// A member is there twice.
    Duplicate,
}

impl<'a> Members<'a> {
    /// Of an object, which is all of the text.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, NotMembers> {
        let text = std::str::from_utf8(bytes).map_err(|_| NotMembers::Malformed)?;
        Self::at_depth(text, 0)
    }

    fn at_depth(text: &'a str, depth: usize) -> Result<Self, NotMembers> {
        if depth > MAX_DEPTH {
            return Err(NotMembers::Malformed);
        }
        let members: Self = serde_json::from_str(text).map_err(|_| NotMembers::Malformed)?;
        if members.has_duplicates() {
            return Err(NotMembers::Duplicate);
        }
        for (_, value) in &members.0 {
            check_nested(value.get(), depth + 1)?;
        }
        Ok(members)
    }

    fn has_duplicates(&self) -> bool {
        if self.0.len() > FEW {
            let names: HashSet<&str> = self.0.iter().map(|(name, _)| &**name).collect();
            return names.len() < self.0.len();
        }
        self.0.iter().enumerate().any(|(index, (name, _))| self.0[..index].iter().any(|(other, _)| other == name))
    }

    /// A member; `null` is as good as none.
    pub(super) fn member(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().find(|(own, _)| own == name)?.1;
        (found.get() != "null").then_some(found)
    }

    /// Whether there is a member of a name, `null` included.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }

    /// The names, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &Cow<'a, str>> {
        self.0.iter().map(|(name, _)| name)
    }

    /// A member that is a text; an error when it is something else.
    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, NotMembers> {
        self.member(name).map(|value| text(value).ok_or(NotMembers::Malformed)).transpose()
    }

    /// A member that is a time (RFC 7519 section 2, `NumericDate`), in whole seconds; what a fraction adds is dropped.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<i64>, NotMembers> {
        let of = |value: &RawValue| value.get().split('.').next().and_then(|whole| whole.parse().ok());
        self.member(name).map(|value| of(value).ok_or(NotMembers::Malformed)).transpose()
    }

    /// A member that is a text or an array of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<Cow<'a, str>>>, NotMembers> {
        self.member(name).map(|value| texts(value).ok_or(NotMembers::Malformed)).transpose()
    }
}

/// A value that is an object.
pub(super) fn object(value: &RawValue) -> Option<Members<'_>> {
    value.get().starts_with('{').then(|| Members::at_depth(value.get(), 0).ok())?
}

/// A value that is a text.
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let raw = value.get();
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// A value that is a text or an array of texts, as those.
pub(super) fn texts(value: &RawValue) -> Option<Vec<Cow<'_, str>>> {
    if value.get().starts_with('[') {
        return elements(value)?.into_iter().map(text).collect();
    }
    text(value).map(|only| vec![only])
}

/// The elements of a value that is an array.
pub(super) fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

/// Objects in objects and arrays have each member once, too.
fn check_nested(value: &str, depth: usize) -> Result<(), NotMembers> {
    if value.starts_with('{') {
        Members::at_depth(value, depth)?;
    } else if value.starts_with('[') && value[1..].contains(['{', '[']) {
        if depth > MAX_DEPTH {
            return Err(NotMembers::Malformed);
        }
        let elements: Vec<&RawValue> = serde_json::from_str(value).map_err(|_| NotMembers::Malformed)?;
        for element in elements {
            check_nested(element.get(), depth + 1)?;
        }
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some((Name(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

/// A name, borrowed where it is written without escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> NotMembers {
        Members::parse(text.as_bytes()).err().unwrap_or_else(|| panic!("{text} was taken"))
    }

    #[test]
    fn a_member_that_is_there_twice_is_refused_at_any_depth_and_in_any_spelling() {
        for text in
            [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"a":{"b":1,"b":2}}"#, r#"{"a":[1,[{"b":1,"b":2}]]}"#]
        {
            assert_eq!(refused(text), NotMembers::Duplicate, "{text}");
        }
        let many: Vec<String> = (0..100).map(|n| format!("\"m{}\":0", n % 99)).collect();
        assert_eq!(refused(&format!("{{{}}}", many.join(","))), NotMembers::Duplicate);
        assert!(Members::parse(br#"{"a":{"a":[{"a":1},{"a":1}]},"b":"{\"c\":1,\"c\":2}"}"#).is_ok());
    }

    #[test]
    fn only_one_whole_object_is_one() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(4_000), "]".repeat(4_000));
        let bomb = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
        for text in ["", "[]", "\"{}\"", "{} {}", "{\"a\":1", "{\"a\":01}", "{a:1}", "{\"a\":1,}", &deep, &bomb] {
            assert_eq!(refused(text), NotMembers::Malformed, "{text}");
        }
        assert_eq!(Members::parse(b"{\"a\":\"\xff\"}").err(), Some(NotMembers::Malformed));
    }

    #[test]
    fn members_are_read_by_their_types() {
        let text = br#"{"t":"a\"b","n":null,"s":1700000000.9,"w":"7","l":["x","y"],"e":1e9,"m":[1]}"#;
        let members = Members::parse(text).unwrap_or_else(|_| panic!());
        assert_eq!(members.text("t").unwrap().unwrap(), "a\"b");
        assert!(members.text("n").unwrap().is_none() && members.has("n") && !members.has("z"));
        assert_eq!(members.seconds("s").unwrap(), Some(1_700_000_000));
        assert_eq!(members.texts("l").unwrap().unwrap(), ["x", "y"]);
        assert!(members.seconds("w").is_err() && members.seconds("e").is_err());
        assert!(members.texts("m").is_err() && members.text("s").is_err());
    }
}
