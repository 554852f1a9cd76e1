//! What the operator's own programs answer, as JSON: read with care, whoever wrote it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::model::{Finding, Made};
use crate::kernel::Secret;

/// The longest text in an answer, in characters.
const LONGEST: usize = 2_000;

/// An answer, with what each verb needs of it. What else there is, is of no concern.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Answer {
    location: Option<String>,
    upstream: Option<String>,
    credentials: Option<Map<String, Value>>,
    state: Option<String>,
    detail: Option<String>,
    #[serde(default)]
    steps: Vec<String>,
}

/// An answer that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("the answer is not a JSON object of the form that is expected: {0}")]
    Json(String),
    #[error("`upstream` is not an http or https address with a host, such as http://10.0.0.7:8080")]
    Upstream,
    #[error("`{0}` is longer than {LONGEST} characters")]
    TooLong(&'static str),
    #[error("`state` must be present, absent, drifted or unwell")]
    State,
}

impl Answer {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Unfit> {
        serde_json::from_slice(bytes).map_err(|error| Unfit::Json(error.to_string()))
    }

    pub(super) fn of(value: Value) -> Result<Self, Unfit> {
        serde_json::from_value(value).map_err(|error| Unfit::Json(error.to_string()))
    }

    /// What was made; `otherwise` is where it is when the answer does not say.
    pub(super) fn made(self, otherwise: impl FnOnce() -> String) -> Result<Made, Unfit> {
        let location = self.location.unwrap_or_else(otherwise);
        if location.chars().count() > LONGEST {
            return Err(Unfit::TooLong("location"));
        }
        if self.upstream.as_deref().is_some_and(|text| !is_address(text)) {
            return Err(Unfit::Upstream);
        }
        let credentials = self.credentials.filter(|all| !all.is_empty());
        let credentials = credentials.map(|all| Secret::new(Value::Object(all).to_string()));
        Ok(Made { location, upstream: self.upstream, credentials })
    }

    pub(super) fn finding(self) -> Result<Finding, Unfit> {
        match self.state.as_deref() {
            Some("present") => Ok(Finding::Present),
            Some("absent") => Ok(Finding::Absent),
            Some(state @ ("drifted" | "unwell")) => {
                let detail = self.detail.unwrap_or_else(|| "the program does not say what".to_owned());
                let detail = detail.chars().take(LONGEST).collect();
                Ok(if state == "unwell" { Finding::Unwell(detail) } else { Finding::Drifted(detail) })
            }
            _ => Err(Unfit::State),
        }
    }

    pub(super) fn steps(self) -> Vec<String> {
        self.steps
    }
}

/// Whether requests can be sent there.
fn is_address(text: &str) -> bool {
    text.len() <= LONGEST
        && text.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                && uri.query().is_none()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer_is_refused_and_what_is_one_is_read() {
        let made = |text: &str| Answer::parse(text.as_bytes()).and_then(|answer| answer.made(|| "here".to_owned()));
        let fine =
            made(r#"{"location":"eu","upstream":"http://10.0.0.7:8080","credentials":{"a":1},"more":[1]}"#).unwrap();
        assert_eq!((fine.location.as_str(), fine.upstream.as_deref()), ("eu", Some("http://10.0.0.7:8080")));
        assert_eq!(fine.credentials.unwrap().expose(), r#"{"a":1}"#);
        assert_eq!(made("{}").unwrap().location, "here");
        for text in ["", "[]", "null", "{", r#"{"location":7}"#, r#"{"credentials":"no"}"#] {
            assert!(matches!(made(text), Err(Unfit::Json(_))), "{text}");
        }
        for upstream in ["10.0.0.7:8080", "ftp://a", "http://", "http://u:p@a", "http://a/?x", "file:///etc"] {
            assert_eq!(made(&format!(r#"{{"upstream":"{upstream}"}}"#)).unwrap_err(), Unfit::Upstream, "{upstream}");
        }
        let long = format!(r#"{{"location":"{}"}}"#, "x".repeat(LONGEST + 1));
        assert_eq!(made(&long).unwrap_err(), Unfit::TooLong("location"));
        assert_eq!(Answer::parse(br#"{"state":"fine"}"#).unwrap().finding(), Err(Unfit::State));
    }
}
