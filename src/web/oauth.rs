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
    /// Whether an endpoint says it that takes bearer tokens.
    of_resource: bool,
}

impl OAuthError {
    /// An error by its code.
    pub fn new(status: StatusCode, error: &'static str, description: impl Into<String>) -> Self {
        Self { status, error, description: described(&description.into()), of_resource: false }
    }

    /// The same, said by an endpoint that takes bearer tokens: with a challenge (RFC 6750 section 3).
    #[must_use]
    pub fn of_resource(self) -> Self {
        Self { of_resource: true, ..self }
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
        let offered = identity::GrantType::ALL.map(identity::GrantType::name).join(", ");
        Self::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", format!("offered: {offered}"))
    }

    /// A bearer token that lets nobody in (RFC 6750 section 3.1).
    pub fn invalid_token(description: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", description)
    }

    /// A bearer token with too little scope.
    pub fn insufficient_scope(scope: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "insufficient_scope", format!("the token lacks the scope {scope}"))
    }

    /// No bearer token at all: the challenge names no error (RFC 6750 section 3.1).
    pub fn no_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "", "one bearer token is needed")
    }

    /// What `WWW-Authenticate` asks for.
    fn challenge(&self) -> Option<HeaderValue> {
        let challenge = match self.error {
            "" => "Bearer realm=\"tollgate\"".to_owned(),
            error if self.of_resource || matches!(error, "invalid_token" | "insufficient_scope") => {
                let scope = self.description.strip_prefix("the token lacks the scope ");
                let scope = scope.map(|scope| format!(", scope=\"{scope}\"")).unwrap_or_default();
                let text = &self.description;
                format!("Bearer realm=\"tollgate\", error=\"{error}\", error_description=\"{text}\"{scope}")
            }
            _ if self.status == StatusCode::UNAUTHORIZED => "Basic realm=\"tollgate\"".to_owned(),
            _ => return None,
        };
        HeaderValue::try_from(challenge).ok()
    }
}

/// What `error_description` may be made of (RFC 6749 section 5.2): visible ASCII and spaces, without quotes and backslashes.
/// Some of it may be what a caller sent.
pub fn described(text: &str) -> String {
    let plain = |c: char| match c {
        '"' => '\'',
        ' ' | '!' | '#'..='[' | ']'..='~' => c,
        _ => '?',
    };
    text.chars().map(plain).collect()
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
            | Error::UnknownBrowser(_)
            | Error::UnknownInitialToken(_)
            | Error::WeakPassword(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_grant", text),
            Error::TenantNotActive(_) | Error::UnauthorizedClient(_) => {
                Self::new(StatusCode::BAD_REQUEST, "unauthorized_client", text)
            }
            Error::InvalidScope(_) | Error::MalformedScope => Self::new(StatusCode::BAD_REQUEST, "invalid_scope", text),
            Error::InvalidRequest(_) => Self::invalid_request(text),
            Error::InvalidTarget(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_target", text),
            Error::InvalidInitialToken => Self::invalid_token(text),
            Error::TooManyTries { .. } => Self::new(StatusCode::TOO_MANY_REQUESTS, "slow_down", text),
            Error::TooManyGuesses => Self::new(StatusCode::TOO_MANY_REQUESTS, "access_denied", text),
            Error::Waiting(waiting) => Self::new(StatusCode::BAD_REQUEST, of_waiting(waiting), text),
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

/// RFC 8628 section 3.5.
const fn of_waiting(waiting: identity::Waiting) -> &'static str {
    match waiting {
        identity::Waiting::Pending => "authorization_pending",
        identity::Waiting::SlowDown => "slow_down",
        identity::Waiting::Denied => "access_denied",
        identity::Waiting::Expired => "expired_token",
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "error_description": self.description});
        let mut response = match self.error {
            "" => self.status.into_response(),
            _ => (self.status, Json(body)).into_response(),
        };
        if let Some(challenge) = self.challenge() {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        not_stored(response)
    }
}

/// An answer that no cache may keep (RFC 6749 section 5.1).
pub fn not_stored(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
