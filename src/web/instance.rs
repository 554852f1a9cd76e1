//! A problem as it travels: built where something went wrong, written out with the address it happened at.

use std::error::Error as StdError;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::{kinds::Kind, oauth::OAuthError, problem::Problem};
use crate::kernel::{Fault, fault::chain};

/// The media type of RFC 9457, exactly.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl Problem {
    /// A problem of a documented kind, told in one sentence.
    pub fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        let parts = Parts { kind, detail: detail.into(), members: Map::new(), headers: HeaderMap::new(), cause: None };
        Self(Box::new(parts))
    }

    /// Refused fields, all of them.
    pub fn invalid(faults: &[Fault]) -> Self {
        Self::listing(Kind::INVALID, faults)
    }

    fn listing(kind: &'static Kind, faults: &[Fault]) -> Self {
        let detail = match faults {
            [one] => format!("{}: {}", one.field, one.detail),
            many => format!("{} fields were refused", many.len()),
        };
        let errors: Vec<Value> =
            faults.iter().map(|fault| json!({"field": fault.field, "detail": fault.detail})).collect();
        Self::new(kind, detail).member("errors", Value::Array(errors))
    }

    /// One refused field.
    #[expect(clippy::needless_pass_by_value, reason = "errors are handed over, not lent")]
    pub fn invalid_field(field: &str, detail: impl ToString) -> Self {
        Self::invalid(&[Fault { field: field.to_owned(), detail: detail.to_string() }])
    }

    /// Refused fields where OpenMeter's clients expect 400.
    pub fn bad(faults: &[Fault]) -> Self {
        Self::listing(Kind::BAD_INPUT, faults)
    }

    /// One refused field where OpenMeter's clients expect 400.
    pub fn bad_field(field: &str, detail: impl Into<String>) -> Self {
        Self::bad(&[Fault { field: field.to_owned(), detail: detail.into() }])
    }

    /// A refusal of input with the status that OpenMeter's clients expect; any other problem as it is.
    #[must_use]
    pub fn into_bad(mut self) -> Self {
        if self.0.kind == Kind::INVALID {
            self.0.kind = Kind::BAD_INPUT;
        }
        self
    }

    /// A fault of ours: the caller learns that, the log learns why.
    pub fn internal(cause: impl StdError + Send + Sync + 'static) -> Self {
        Self::new(Kind::INTERNAL, "the request failed through no fault of yours").caused_by(cause)
    }

    /// An extension member (RFC 9457 section 3.2).
    #[must_use]
    pub fn member(mut self, name: &str, value: Value) -> Self {
        self.0.members.insert(name.to_owned(), value);
        self
    }

    /// A header that goes with it.
    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// How long to wait before asking again, in seconds.
    #[must_use]
    pub fn retry_after(self, secs: u64) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(secs))
    }

    /// What made it happen: logged once, never sent.
    #[must_use]
    pub fn caused_by(mut self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Box::new(cause));
        self
    }

    /// Its kind.
    pub fn kind(&self) -> &'static Kind {
        self.0.kind
    }

    /// Writes it out as the answer to a request for `path`.
    pub fn render(self, path: &str) -> Response {
        let Parts { kind, detail, members, headers, .. } = self.logged(path);
        let mut document = Map::new();
        document.insert("type".into(), kind.uri.into());
        document.insert("title".into(), kind.title.into());
        document.insert("status".into(), kind.status.as_u16().into());
        document.insert("detail".into(), detail.into());
        document.insert("instance".into(), path.into());
        document.extend(members);
        let mut response = Response::new(Body::from(Value::Object(document).to_string()));
        *response.status_mut() = kind.status;
        *response.headers_mut() = headers;
        response.headers_mut().insert(header::CONTENT_TYPE, PROBLEM_JSON);
        response
    }

    /// What it is made of, once its cause is in the log.
    pub(super) fn logged(self, path: &str) -> Parts {
        if let Some(cause) = &self.0.cause {
            tracing::error!(path, error = chain(&**cause), "request failed");
        }
        *self.0
    }
}

/// What a problem is made of; boxed, so that a `Result` with it stays small.
#[derive(Debug)]
pub(super) struct Parts {
    kind: &'static Kind,
    pub(super) detail: String,
    members: Map<String, Value>,
    pub(super) headers: HeaderMap,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

/// A problem on its way through the layers; taken out and written by [`write_problems`].
#[derive(Clone)]
struct Pending(std::sync::Arc<std::sync::Mutex<Option<Problem>>>);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind().status.into_response();
        response.extensions_mut().insert(Pending(std::sync::Arc::new(std::sync::Mutex::new(Some(self)))));
        response
    }
}

/// What a handler's panic looks like from outside. The panic itself is in the log by the hook.
pub fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Problem::new(Kind::INTERNAL, "the request failed through no fault of yours").into_response()
}

/// The layer that writes problems out, with the request's path as `instance`; also gives axum's own bare refusals
/// (an unknown method) a body.
pub async fn write_problems(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    written(next.run(request).await, &path)
}

/// The layer that lets no cache keep what the API answers: some of it is a secret, and all of it is somebody's. What an
/// answer says itself stays.
pub async fn stored_nowhere(request: Request, next: Next) -> Response {
    let is_api = super::is_api(request.uri().path());
    let mut response = next.run(request).await;
    if is_api {
        let entry = response.headers_mut().entry(header::CACHE_CONTROL);
        entry.or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

/// The response with its problem, if it carries one, written out.
pub(super) fn written(mut response: Response, path: &str) -> Response {
    let pending = response.extensions_mut().remove::<Pending>();
    // A lock poisoned by a panic elsewhere still holds a whole problem.
    if let Some(problem) =
        pending.and_then(|Pending(p)| p.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take())
    {
        return problem.render(path);
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED && !response.headers().contains_key(header::CONTENT_TYPE) {
        if path.starts_with("/oauth2/") {
            let error =
                OAuthError::new(response.status(), "invalid_request", "this endpoint does not have that method");
            let mut written = error.into_response();
            written
                .headers_mut()
                .extend(response.headers_mut().remove(header::ALLOW).map(|allow| (header::ALLOW, allow)));
            return written;
        }
        let mut problem = Problem::new(Kind::METHOD_NOT_ALLOWED, "this path does not have that method");
        if let Some(allow) = response.headers().get(header::ALLOW) {
            problem = problem.header(header::ALLOW, allow.clone());
        }
        return problem.render(path);
    }
    response
}
