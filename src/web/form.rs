//! Forms of pages, outside of OAuth: fields by name, the last of those with one name; text without white space round it.

use std::collections::BTreeMap;

use axum::{
    extract::{FromRequest, Request},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use maud::html;

use super::html::Page;
use crate::kernel::Secret;

/// The longest form, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// A form's fields.
#[derive(Debug, Default)]
pub struct Form(BTreeMap<String, Secret>);

impl Form {
    /// From a query or a form.
    pub fn parse(encoded: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(encoded);
        Self(pairs.map(|(name, value)| (name.into_owned(), Secret::new(value.into_owned()))).collect())
    }

    /// A field's text; empty when it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.expose().trim())
    }

    /// A field as it was sent, if anything was.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.0.get(name).filter(|value| !value.expose().is_empty()).cloned()
    }
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let refuse =
            |status, text: &str| Page::new("This does not work", html! { p { (text) } }).status(status).into_response();
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_form =
            content_type.is_some_and(|text| text.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"));
        if !is_form {
            return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "That is not a form."));
        }
        match axum::body::to_bytes(request.into_body(), MAX_FORM).await {
            Ok(body) => Ok(Self::parse(&body)),
            Err(_) => Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "The form is too large.")),
        }
    }
}
