//! Parameters of OAuth requests (RFC 6749 section 3.1 and 3.2): given twice they are refused, unknown ones are ignored, one
//! without a value is as good as absent.

use std::collections::BTreeMap;

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    identity::{self, AuthMethod, Client, ClientCredentials, Identity, ScopeSet, rules::FIRST_PARTY},
    kernel::Secret,
    web::oauth::OAuthError,
};

/// The longest form, in bytes.
const MAX_FORM: usize = 64 * 1024;

/// Parameters by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    /// From a query or a form.
    pub(crate) fn parse(encoded: &[u8]) -> Result<Self, OAuthError> {
        let mut params = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(encoded).filter(|(_, value)| !value.is_empty()) {
            // No parameter of any protocol here has it, and not every store takes it.
            if value.contains('\0') || name.contains('\0') {
                return Err(OAuthError::invalid_request("a parameter has a character that none may have"));
            }
            if params.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(OAuthError::invalid_request(format!("the parameter {name} was given twice")));
            }
        }
        Ok(Self(params))
    }

    /// From a request with a form.
    pub(crate) async fn of_form(request: Request) -> Result<(Parts, Self), OAuthError> {
        Self::of_form_or(request, StatusCode::BAD_REQUEST).await
    }

    /// The same, with the status of a form that is too large.
    pub(crate) async fn of_form_or(request: Request, too_large: StatusCode) -> Result<(Parts, Self), OAuthError> {
        let (parts, body) = request.into_parts();
        let content_type =
            parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !content_type.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
            return Err(OAuthError::invalid_request("the body must be application/x-www-form-urlencoded"));
        }
        let body = axum::body::to_bytes(body, MAX_FORM).await;
        let body = body.map_err(|_| OAuthError::new(too_large, "invalid_request", "the body is too large"))?;
        Ok((parts, Self::parse(&body)?))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn require(&self, name: &str) -> Result<&str, OAuthError> {
        self.text(name).ok_or_else(|| OAuthError::invalid_request(format!("{name} is missing")))
    }

    pub(crate) fn secret(&self, name: &str) -> Option<Secret> {
        self.text(name).map(|text| Secret::new(text.to_owned()))
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `scope`, as RFC 6749 section 3.3 writes it.
    pub(in crate::identity) fn scope(&self) -> Result<Option<ScopeSet>, identity::Error> {
        let parse = |text: &str| ScopeSet::parse_strictly(text).ok_or(identity::Error::MalformedScope);
        self.text("scope").map(parse).transpose()
    }

    /// As a query.
    pub(crate) fn to_query(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(self.iter()).finish()
    }

    /// How a client says who it is: HTTP Basic or the form, and not both (RFC 6749 section 2.3).
    pub(crate) fn client(&self, headers: &HeaderMap) -> Result<ClientCredentials, OAuthError> {
        let secret = self.secret("client_secret");
        let mut lines = headers.get_all(header::AUTHORIZATION).iter();
        let Some(authorization) = lines.next() else {
            let id = self.text("client_id").ok_or_else(OAuthError::invalid_client)?.to_owned();
            let method = if secret.is_some() { AuthMethod::Post } else { AuthMethod::None };
            return Ok(ClientCredentials { id, secret, method });
        };
        if secret.is_some() || lines.next().is_some() {
            return Err(OAuthError::invalid_request("the client authenticated in two ways"));
        }
        let (id, secret) = authorization.to_str().ok().and_then(basic).ok_or_else(OAuthError::invalid_client)?;
        if self.text("client_id").is_some_and(|own| own != id) {
            return Err(OAuthError::invalid_request("client_id is not the client that authenticated"));
        }
        Ok(ClientCredentials { id, secret: Some(secret), method: AuthMethod::Basic })
    }

    /// The client that calls, once it has authenticated; none where it is our own, which has nothing to authenticate with.
    pub(in crate::identity) async fn caller(
        &self,
        identity: &Identity,
        headers: &HeaderMap,
    ) -> Result<Option<Client>, OAuthError> {
        let named = headers.contains_key(header::AUTHORIZATION)
            || self.text("client_secret").is_some()
            || self.text("client_id").is_some_and(|id| id != FIRST_PARTY);
        if !named {
            return Ok(None);
        }
        Ok(Some(identity.authenticate_client(&self.client(headers)?).await?))
    }
}

/// Client id and secret of HTTP Basic: form-encoded, joined by a colon, in base 64 (RFC 6749 section 2.3.1).
fn basic(value: &str) -> Option<(String, Secret)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let decode = |text: &str| {
        // An ampersand stands for itself here: it separates nothing.
        let text = text.replace('&', "%26");
        url::form_urlencoded::parse(format!("x={text}").as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((decode(id)?, Secret::new(decode(secret)?)))
}
