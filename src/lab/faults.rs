//! Faults of key sets and discovery documents: slow, failing, cut off, or another issuer's.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::vendors::Vendor;
use crate::identity::{self, SigningAlg, signing::SigningPair};

/// Whose documents an issuer shows that is made to be wrong.
const WRONG_ISSUER: &str = "https://wrong-issuer.example";

/// Which document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The key set.
    Jwks,
    /// The discovery document.
    Discovery,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It comes after a while.
    Slow(Duration),
    /// An error instead.
    Fail(StatusCode),
    /// The first half.
    Truncate,
    /// Another issuer's.
    WrongIssuer,
}

/// A fault that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub kind: Kind,
    /// For how many more requests; `None` until it is taken off.
    pub left: Option<u32>,
}

/// Where a fault is: a document of a vendor's issuers, or of ours.
pub type Place = (Target, Option<Vendor>);

/// The faults that are on.
#[derive(Default)]
pub struct Faults(Mutex<HashMap<Place, Fault>>);

impl Faults {
    /// Puts a fault on, or takes it off.
    pub fn set(&self, place: Place, fault: Option<Fault>) {
        let mut on = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(fault) => drop(on.insert(place, fault)),
            None => drop(on.remove(&place)),
        }
    }

    /// Takes all of them off.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Those that are on.
    pub fn list(&self) -> Vec<(Place, Fault)> {
        let on = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = on.iter().map(|(place, fault)| (*place, *fault)).collect();
        list.sort_unstable_by_key(|(place, _)| *place);
        list
    }

    /// The fault that the next request meets.
    fn meet(&self, place: Place) -> Option<Kind> {
        let mut on = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = on.get_mut(&place)?;
        let kind = fault.kind;
        match &mut fault.left {
            None => {}
            Some(0 | 1) => drop(on.remove(&place)),
            Some(left) => *left -= 1,
        }
        Some(kind)
    }

    /// A document as it goes out.
    pub async fn served(&self, place: Place, document: Value) -> Response {
        match self.meet(place) {
            None => json_response(StatusCode::OK, document.to_string()),
            Some(Kind::Slow(delay)) => {
                tokio::time::sleep(delay).await;
                json_response(StatusCode::OK, document.to_string())
            }
            Some(Kind::Fail(status)) => json_response(status, json!({"error": "temporarily_unavailable"}).to_string()),
            Some(Kind::Truncate) => {
                let text = document.to_string();
                // Documents of ours are ASCII; elsewhere half of one is nothing at all.
                json_response(StatusCode::OK, text.get(..text.len() / 2).unwrap_or_default().to_owned())
            }
            Some(Kind::WrongIssuer) => json_response(StatusCode::OK, wrong(place.0, document).to_string()),
        }
    }
}

/// Another issuer's document of the same kind: another `issuer`, or keys that sign nothing here.
fn wrong(target: Target, mut document: Value) -> Value {
    match target {
        Target::Discovery => {
            document["issuer"] = WRONG_ISSUER.into();
            document
        }
        Target::Jwks => json!({"keys": [stranger().unwrap_or_default()]}),
    }
}

fn stranger() -> Result<Value, identity::Error> {
    Ok(SigningPair::generate(SigningAlg::Es256)?.public()?.1)
}

/// JSON that nobody may keep: the next request may meet another fault.
pub fn json_response(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_ends_after_its_requests() {
        let faults = Faults::default();
        let place = (Target::Jwks, Some(Vendor::Okta));
        faults.set(place, Some(Fault { kind: Kind::Truncate, left: Some(2) }));
        assert_eq!(faults.meet((Target::Jwks, None)), None, "of another issuer");
        assert_eq!([0; 3].map(|_| faults.meet(place)), [Some(Kind::Truncate), Some(Kind::Truncate), None]);
        assert!(faults.list().is_empty());
    }
}
