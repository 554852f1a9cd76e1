//! Which form of a document is asked for, by the ending of its path or by `Accept`, and answering with it.

use std::{fmt::Display, str::FromStr};

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};

use super::forms::{Form, FormError, Rendered};
use crate::web::{Kind, Problem};

/// The id that a path asks for, and in which form, if not as JSON. `what` it is of is for whoever asks for one that cannot be.
pub(super) fn asked_for<Id: FromStr>(
    what: impl Display,
    asked: &str,
    headers: &HeaderMap,
) -> Result<(Id, Option<Form>), Problem> {
    let unknown = || Problem::new(Kind::NOT_FOUND, format!("there is no {what} {asked}"));
    let (id, form) = match asked.rsplit_once('.') {
        Some((id, "json")) => (id, None),
        Some((id, suffix)) => (id, Some(Form::by_suffix(suffix).ok_or_else(unknown)?)),
        None => (asked, accepted(headers)),
    };
    Ok((id.parse().map_err(|_| unknown())?, form))
}

/// The first form that `Accept` names; none where JSON comes first.
fn accepted(headers: &HeaderMap) -> Option<Form> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    let mut kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let known = |kind: &str| match kind {
        "application/json" => Some(None),
        "text/csv" => Some(Some(Form::Csv)),
        "text/html" => Some(Some(Form::Html)),
        "application/pdf" => Some(Some(Form::Pdf)),
        _ => None,
    };
    kinds.find_map(known).flatten()
}

/// A form as an answer.
pub(super) fn answer(rendered: Result<Rendered, FormError>) -> Result<Response, Problem> {
    let rendered = rendered.map_err(|error| match error {
        FormError::NoFont(_) | FormError::Script(_) => Problem::new(Kind::CONFLICT, error.to_string()),
        FormError::Sum { .. } | FormError::Money(_) | FormError::Pdf(_) => Problem::internal(error),
    })?;
    let mut response = ([(header::CONTENT_TYPE, rendered.content_type)], rendered.bytes).into_response();
    let headers = response.headers_mut();
    let named = format!("inline; filename=\"{}\"", rendered.file_name);
    headers.extend(HeaderValue::try_from(named).ok().map(|named| (header::CONTENT_DISPOSITION, named)));
    let policy = rendered.policy.and_then(|policy| HeaderValue::try_from(policy).ok());
    headers.extend(policy.map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The same address has several forms.
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}
