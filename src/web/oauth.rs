//! How errors look at OAuth endpoints: RFC 6749 section 5.2 instead of a problem document.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{identity, kernel::fault::chain};

/// An error of an OAuth endpoint.
#[derive(Debug)]
pub struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: String,
}

impl OAuthError {
    fn new(status: StatusCode, error: &'static str, description: impl Into<String>) -> Self {
        Self { status, error, description: description.into() }
    }

    /// The request is not one.
    pub fn invalid_request(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// The client is not known, or its secret is not.
    pub fn invalid_client() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", "client authentication failed")
    }

    /// A grant that is not offered.
    pub fn unsupported_grant_type() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "offered: authorization_code, refresh_token, client_credentials",
        )
    }
}

impl From<identity::Error> for OAuthError {
    fn from(error: identity::Error) -> Self {
        use identity::Error;
        let text = error.to_string();
        match error {
            Error::InvalidClient | Error::UnknownClient(_) => Self::invalid_client(),
            Error::InvalidGrant(_)
            | Error::WrongCredentials
            | Error::ChooseTenant(_)
            | Error::Disabled
            | Error::FactorNeeded { .. }
            | Error::WrongFactor
            | Error::InvalidLink
            | Error::SharedUser
            | Error::UnknownTenant(_)
            | Error::UnknownSession(_)
            | Error::WeakPassword(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_grant", text),
            Error::TenantNotActive(_) | Error::UnauthorizedClient(_) => {
                Self::new(StatusCode::BAD_REQUEST, "unauthorized_client", text)
            }
            Error::TooManyTries { .. } => Self::new(StatusCode::TOO_MANY_REQUESTS, "slow_down", text),
            Error::InvalidScope(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_scope", text),
            Error::KeyFile { .. } | Error::Key(_) | Error::Stopped => {
                tracing::error!(error = chain(&error), "request failed");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "server_error",
                    "the request failed through no fault of yours",
                )
            }
            Error::Store(error) => {
                tracing::error!(error = chain(&error), "request failed");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "the store did not answer")
            }
        }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "error_description": self.description});
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"tollgate\""));
        }
        response
    }
}
