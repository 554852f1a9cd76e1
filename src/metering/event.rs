//! Events from outside: CloudEvents 1.0, checked, with an identity and a digest of what they say. Pure.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::model::{Content, Event, Identity};
use crate::kernel::{Faults, Timestamp};

/// The longest `id`, `source`, `type` or `subject`, in bytes: an event's identity must fit into an index of `PostgreSQL`.
const MAX_TEXT: usize = 512;

/// An event as it was sent, before anybody looked up whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// `id`.
    pub id: String,
    /// `source`.
    pub source: String,
    /// `type`.
    pub kind: String,
    /// `subject`: a tenant's id or external id.
    pub subject: String,
    /// `time`, in nanoseconds since 1970; the moment of arrival when it was not given.
    pub at_ns: i64,
    /// All of it, in one form: members in order, numbers and `time` as they were given. An event without `time` has none
    /// in it, so that a repetition is the same.
    pub body: String,
    /// `data`, or an empty object.
    pub data: Value,
}

/// Which times are taken.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimits {
    /// Now.
    pub now: Timestamp,
    /// So far back, in seconds.
    pub back_s: i64,
    /// So far ahead, in seconds.
    pub ahead_s: i64,
}

impl Sent {
    /// Checks one event; what is wrong is recorded below `prefix`, which ends in a dot or is empty.
    pub fn parse(value: Value, prefix: &str, limits: TimeLimits, faults: &mut Faults) -> Option<Self> {
        let at = |name: &str| format!("{prefix}{name}");
        let mut body = String::with_capacity(256);
        write_canonical(&value, &mut body);
        let Value::Object(mut members) = value else {
            faults.add(at("event").trim_end_matches(".event"), "must be an object");
            return None;
        };
        check_content(&members, &at, faults);
        let at_ns = time(&members, &at, limits, faults);
        let mut text = |name: &str| match members.get_mut(name).map(Value::take) {
            Some(Value::String(text)) if good_text(&text) => Some(text),
            Some(Value::String(_)) => {
                faults.add(at(name), format!("must have 1 to {MAX_TEXT} bytes, none of them NUL"));
                None
            }
            Some(_) => {
                faults.add(at(name), "must be a string");
                None
            }
            None => {
                faults.add(at(name), "is required");
                None
            }
        };
        let (id, source, kind, subject) = (text("id"), text("source"), text("type"), text("subject"));
        let version = text("specversion");
        if version.is_some_and(|version| version != "1.0") {
            faults.add(at("specversion"), "must be 1.0");
        }
        let data = members.get_mut("data").map(Value::take).filter(Value::is_object);
        let data = data.unwrap_or_else(|| Value::Object(Map::new()));
        Some(Self { id: id?, source: source?, kind: kind?, subject: subject?, at_ns: at_ns?, body, data })
    }
}

/// What of an event shall be another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Amendment {
    /// Its `data`, in place of all that was there.
    pub data: Option<Map<String, Value>>,
    /// Its `time`.
    pub time: Option<String>,
}

impl Amendment {
    /// What the event says with it: just what its sender would have sent. A time must be one that would have been taken
    /// when the event arrived.
    pub fn of(self, event: &Event, limits: TimeLimits, faults: &mut Faults) -> Option<Content> {
        if self.data.is_none() && self.time.is_none() {
            faults.add("data", "is required, or `time` is");
            return None;
        }
        // What was checked before it was kept is an object.
        let mut members: Map<String, Value> = serde_json::from_str(&event.body).unwrap_or_default();
        let mut at_ns = event.at_ns;
        if let Some(text) = self.time {
            members.insert("time".to_owned(), Value::String(text));
            at_ns = time(&members, &str::to_owned, limits, faults)?;
        }
        if let Some(data) = self.data {
            members.insert("data".to_owned(), Value::Object(data));
        }
        let mut body = String::with_capacity(event.body.len());
        write_canonical(&Value::Object(members), &mut body);
        Some(Content { body, at_ns })
    }
}

impl Identity<'_> {
    /// The identity as one number, for notes about events: each part with its length, so that no two run together.
    pub fn key(&self) -> Uuid {
        let mut hasher = blake3::Hasher::new_derive_key("tollgate 2026 identity of usage events");
        for part in [self.tenant.as_uuid().as_bytes().as_slice(), self.source.as_bytes(), self.id.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Uuid::from_bytes(key)
    }
}

/// What `PostgreSQL` can keep, and index.
fn good_text(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && !text.contains('\0')
}

fn check_content(members: &Map<String, Value>, at: &impl Fn(&str) -> String, faults: &mut Faults) {
    if members.get("data").is_some_and(|data| !data.is_object() && !data.is_null()) {
        faults.add(at("data"), "must be an object");
    }
    if members.contains_key("data_base64") {
        faults.add(at("data_base64"), "is not taken; send JSON in data");
    }
    let is_json = |kind: &Value| {
        let essence = kind.as_str().and_then(|kind| kind.split(';').next()).map(str::trim);
        essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
    };
    if members.get("datacontenttype").is_some_and(|kind| !kind.is_null() && !is_json(kind)) {
        faults.add(at("datacontenttype"), "must be application/json");
    }
}

fn time(
    members: &Map<String, Value>,
    at: &impl Fn(&str) -> String,
    limits: TimeLimits,
    faults: &mut Faults,
) -> Option<i64> {
    let now_ns = limits.now.as_micros().checked_mul(1_000);
    let text = match members.get("time") {
        None | Some(Value::Null) => return now_ns,
        Some(Value::String(text)) => text,
        Some(_) => {
            faults.add(at("time"), "must be a string");
            return None;
        }
    };
    let Some(at_ns) = text.parse::<jiff::Timestamp>().ok().and_then(|at| i64::try_from(at.as_nanosecond()).ok()) else {
        faults.add(at("time"), "not a time such as 2026-01-31T12:00:00Z (RFC 3339)");
        return None;
    };
    let age_s = now_ns?.saturating_sub(at_ns) / 1_000_000_000;
    if age_s > limits.back_s {
        faults.add(at("time"), format!("is more than {} days old", limits.back_s / 86_400));
        return None;
    }
    if -age_s > limits.ahead_s {
        faults.add(at("time"), format!("is more than {} s ahead", limits.ahead_s));
        return None;
    }
    Some(at_ns)
}

/// JSON with members in order of their names; numbers as they were written.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut ordered: Vec<(&String, &Value)> = members.iter().collect();
            ordered.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, value)) in ordered.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(name, out);
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::String(text) => write_text(text, out),
        Value::Number(number) => out.push_str(number.as_str()),
        Value::Bool(_) | Value::Null => out.push_str(&value.to_string()),
    }
}

fn write_text(text: &str, out: &mut String) {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.push_str(&Value::from(text).to_string());
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kernel::TenantId;

    fn limits() -> TimeLimits {
        TimeLimits { now: "2026-11-10T12:00:00Z".parse().unwrap(), back_s: 35 * 86_400, ahead_s: 300 }
    }

    fn event() -> Value {
        json!({"id": "1", "source": "s", "specversion": "1.0", "type": "prompt", "subject": "acme", "data": {"n": 1}})
    }

    fn fields(value: &Value) -> Vec<String> {
        let mut faults = Faults::new();
        let sent = Sent::parse(value.clone(), "[0].", limits(), &mut faults);
        faults.finish(sent).err().into_iter().flatten().map(|fault| fault.field).collect()
    }

    #[test]
    fn every_fault_of_an_event_is_named() {
        assert_eq!(fields(&event()), Vec::<String>::new());
        assert_eq!(fields(&json!({})), ["[0].id", "[0].source", "[0].type", "[0].subject", "[0].specversion"]);
        assert_eq!(fields(&json!(7)), ["[0]"]);
        let mut bad = event();
        for (name, value) in [
            ("id", json!("")),
            ("type", json!("a\0")),
            ("source", json!("\u{e9}".repeat(257))),
            ("specversion", json!("0.3")),
            ("data", json!([1])),
            ("time", json!("noon")),
        ] {
            bad[name] = value;
        }
        assert_eq!(fields(&bad), ["[0].data", "[0].time", "[0].id", "[0].source", "[0].type", "[0].specversion"]);
        for (time, fine) in [
            ("2026-10-06T12:00:00Z", true),
            ("2026-10-06T11:59:58Z", false),
            ("2026-11-10T12:05:00Z", true),
            ("2026-11-10T12:05:02Z", false),
        ] {
            let mut event = event();
            event["time"] = time.into();
            assert_eq!(fields(&event).is_empty(), fine, "{time}");
        }
    }

    #[test]
    fn the_order_of_members_does_not_matter_and_every_digit_does() {
        let body = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            Sent::parse(value, "", limits(), &mut Faults::new()).unwrap().body
        };
        let one = r#"{"id":"1","source":"s","specversion":"1.0","type":"t","subject":"a","data":{"x":1.10,"y":2}}"#;
        let same = r#"{"subject":"a","data":{"y":2,"x":1.10},"type":"t","specversion":"1.0","source":"s","id":"1"}"#;
        assert_eq!(body(one), body(same));
        assert_ne!(body(one), body(&one.replace("1.10", "1.1")));
        let all = r#"{"data":{"":[true,null,-1.50e+7,[]],"é\"\\\n\u0001":{}},"id":"1","source":"s","specversion":"1.0","subject":"a","type":"t"}"#;
        assert_eq!(body(all), all);
    }

    #[test]
    fn ids_and_sources_do_not_run_together() {
        let key = |source, id| Identity { tenant: TenantId::from_uuid(Uuid::nil()), source, id }.key();
        assert_ne!(key("ab", "c"), key("a", "bc"));
    }
}
