//! A registered client: what it said of itself (RFC 7591), and by which grants it may be used.

use std::str::FromStr;

use super::{access::ScopeSet, model::SigningAlg};
use crate::kernel::{ClientId, TenantId, Timestamp};

/// A registered client (RFC 7591).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its `client_id`.
    pub id: ClientId,
    /// Whose; `None` for one that people of every tenant may use.
    pub tenant_id: Option<TenantId>,
    /// What people call it.
    pub name: String,
    /// What its tokens may be used for.
    pub scope: ScopeSet,
    /// The keyed hash of its secret; `None` for a public client.
    pub secret_hash: Option<[u8; 32]>,
    /// How it may be used.
    pub metadata: ClientMetadata,
    /// Since when.
    pub created_at: Timestamp,
}

/// How a client may be used, with the names of RFC 7591 section 2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientMetadata {
    /// By which grants.
    pub grant_types: Vec<GrantType>,
    /// Where answers of the authorization endpoint may go, compared whole.
    pub redirect_uris: Vec<String>,
    /// The algorithm of its ID tokens.
    pub id_token_alg: Option<SigningAlg>,
    /// How it authenticates, where it said so.
    pub auth_method: Option<AuthMethod>,
    /// Where a sign-out may lead, compared whole (RP-Initiated Logout section 3.1).
    pub post_logout_redirect_uris: Vec<String>,
    /// Where it hears that a session is over (Back-Channel Logout section 2.2).
    pub backchannel_logout_uri: Option<String>,
    /// Whether it must hear which one.
    pub backchannel_logout_session_required: bool,
    /// Whether it must push its requests (RFC 9126 section 6).
    pub require_pushed: bool,
    /// `max_age` of requests that name none, in seconds (`OpenID` Connect Registration section 2).
    pub default_max_age_s: Option<i64>,
    /// Whether people are not asked: for applications of the platform's own.
    pub skip_consent: bool,
    /// What it says of itself.
    pub about: About,
}

/// What a client says of itself: addresses of pages, and of people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// `client_uri`.
    pub client_uri: Option<String>,
    /// `logo_uri`.
    pub logo_uri: Option<String>,
    /// `policy_uri`.
    pub policy_uri: Option<String>,
    /// `tos_uri`.
    pub tos_uri: Option<String>,
    /// `contacts`.
    pub contacts: Vec<String>,
}

/// How a client authenticates (RFC 7591 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// By HTTP Basic.
    Basic,
    /// In the form.
    Post,
    /// Not at all.
    None,
}

impl AuthMethod {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Basic, Self::Post, Self::None];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
            Self::None => "none",
        }
    }
}

/// The text is no method that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be client_secret_basic, client_secret_post or none")]
pub struct AuthMethodError;

impl FromStr for AuthMethod {
    type Err = AuthMethodError;

    fn from_str(text: &str) -> Result<Self, AuthMethodError> {
        Self::ALL.into_iter().find(|method| method.name() == text).ok_or(AuthMethodError)
    }
}

/// A grant of the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantType {
    /// RFC 6749 section 4.1.
    AuthorizationCode,
    /// RFC 6749 section 6.
    RefreshToken,
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 8628.
    DeviceCode,
    /// RFC 8693.
    TokenExchange,
}

impl GrantType {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials, Self::DeviceCode, Self::TokenExchange];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::TokenExchange => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }
}

/// The text is no grant that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be authorization_code, refresh_token, client_credentials, urn:ietf:params:oauth:grant-type:device_code or \
     urn:ietf:params:oauth:grant-type:token-exchange"
)]
pub struct GrantTypeError;

impl FromStr for GrantType {
    type Err = GrantTypeError;

    fn from_str(text: &str) -> Result<Self, GrantTypeError> {
        Self::ALL.into_iter().find(|grant| grant.name() == text).ok_or(GrantTypeError)
    }
}
