//! Sessions, refresh tokens, machine clients, keys as they are kept, and tokens as they are given out.

use std::{fmt, net::IpAddr, str::FromStr};

use uuid::Uuid;

use crate::{
    identity::access::ScopeSet,
    kernel::{BrowserId, ClientId, InitialTokenId, Secret, SessionId, TenantId, Timestamp, UserId},
};

pub use super::client::{About, AuthMethod, AuthMethodError, Client, ClientMetadata, GrantType, GrantTypeError};

/// One sign-in: a family of refresh tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Which.
    pub id: SessionId,
    /// Who signed in.
    pub user_id: UserId,
    /// To which tenant; `None` for the platform administrator.
    pub tenant_id: Option<TenantId>,
    /// With which client; `None` for our own.
    pub client_id: Option<ClientId>,
    /// What its tokens may be used for.
    pub scope: ScopeSet,
    /// When they proved who they are.
    pub authenticated_at: Timestamp,
    /// By what.
    pub proof: Proof,
    /// When.
    pub created_at: Timestamp,
    /// When its tokens were last renewed; `None` when never.
    pub renewed_at: Option<Timestamp>,
    /// Since when it is over.
    pub ended_at: Option<Timestamp>,
    /// The browser it came out of; it ends with that.
    pub browser_id: Option<BrowserId>,
    /// The sign-in it was switched from; it ends with that.
    pub parent_id: Option<SessionId>,
}

/// A refresh token as kept: its keyed hash, never itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// The hash.
    pub hash: [u8; 32],
    /// Its session.
    pub session_id: SessionId,
    /// When it was given out.
    pub issued_at: Timestamp,
    /// Until when it works.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
}

/// By what a person proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Proof {
    /// A password alone.
    #[default]
    Password,
    /// A password, and a code that works once.
    Code,
    /// A password, and a passkey.
    Passkey,
}

impl Proof {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Password, Self::Code, Self::Passkey];

    /// The values of `amr` (RFC 8176 section 2): by what, and whether that were several kinds.
    pub const fn amr(self) -> &'static [&'static str] {
        match self {
            Self::Password => &["pwd"],
            Self::Code => &["pwd", "otp", "mfa"],
            Self::Passkey => &["pwd", "hwk", "mfa"],
        }
    }

    /// Its name in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "pwd",
            Self::Code => "pwd otp",
            Self::Passkey => "pwd hwk",
        }
    }
}

/// The text is no such proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a proof of ours")]
pub struct ProofError;

impl FromStr for Proof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        Self::ALL.into_iter().find(|proof| proof.name() == text).ok_or(ProofError)
    }
}

/// An authenticator as kept.
#[derive(Debug, Clone)]
pub struct TotpFactor {
    /// Its secret, sealed.
    pub sealed_secret: Vec<u8>,
    /// Since when it counts; before that it is an offer.
    pub confirmed_at: Option<Timestamp>,
}

/// A passkey as kept.
#[derive(Debug, Clone)]
pub struct PasskeyRow {
    /// Our name for it.
    pub id: Uuid,
    /// Whose.
    pub user_id: UserId,
    /// The authenticator's name for it.
    pub credential_id: Vec<u8>,
    /// What its owner calls it.
    pub name: String,
    /// Its public key and counter, as JSON.
    pub passkey: String,
    /// Since when.
    pub created_at: Timestamp,
    /// When it was used last.
    pub used_at: Option<Timestamp>,
}

/// What a person has beside the password.
#[derive(Debug, Clone, Default)]
pub struct Factors {
    /// An authenticator that gives codes.
    pub totp: bool,
    /// Passkeys.
    pub passkeys: Vec<PasskeyRow>,
    /// Recovery codes that are left.
    pub recovery_codes: i64,
}

impl Factors {
    /// Whether a sign-in asks for more than the password.
    pub const fn any(&self) -> bool {
        self.totp || !self.passkeys.is_empty()
    }

    /// Whether a code can be what it asks for.
    pub const fn by_code(&self) -> bool {
        self.totp || self.recovery_codes > 0
    }
}

/// A person signed in to our pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Browser {
    /// Which.
    pub id: BrowserId,
    /// Who.
    pub user_id: UserId,
    /// By what they proved it.
    pub proof: Proof,
    /// When they proved it.
    pub authenticated_at: Timestamp,
    /// Until when it holds.
    pub expires_at: Timestamp,
}

/// A browser as its owner recognizes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenBrowser {
    /// Which.
    pub browser: Browser,
    /// From where it signed in, as far as that is known.
    pub address: Option<IpAddr>,
    /// When it was last used, to the minute.
    pub seen_at: Timestamp,
}

/// An authorization code as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationCode {
    /// Its keyed hash.
    pub hash: [u8; 32],
    /// For which client.
    pub client_id: ClientId,
    /// The session it becomes.
    pub session_id: SessionId,
    /// Who allowed it.
    pub user_id: UserId,
    /// For which tenant.
    pub tenant_id: Option<TenantId>,
    /// In which browser.
    pub browser_id: Option<BrowserId>,
    /// Where it was sent.
    pub redirect_uri: String,
    /// Whether the request said so; if so, the redemption must.
    pub redirect_uri_given: bool,
    /// The challenge of RFC 7636, of method S256.
    pub code_challenge: Option<String>,
    /// `nonce` of `OpenID` Connect.
    pub nonce: Option<String>,
    /// What was allowed.
    pub scope: ScopeSet,
    /// When the person proved who they are.
    pub authenticated_at: Timestamp,
    /// By what.
    pub proof: Proof,
    /// Until when it works.
    pub expires_at: Timestamp,
    /// When it was redeemed.
    pub used_at: Option<Timestamp>,
}

/// A device that waits for a person (RFC 8628), as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceGrant {
    /// The keyed hash of its device code.
    pub hash: [u8; 32],
    /// The keyed hash of what the person enters.
    pub user_code_hash: [u8; 32],
    /// With which client.
    pub client_id: ClientId,
    /// What for.
    pub scope: ScopeSet,
    /// How far it is.
    pub state: DeviceState,
    /// It may ask this often, in seconds.
    pub interval_s: i64,
    /// When it asked last.
    pub polled_at: Option<Timestamp>,
    /// Until when it may wait.
    pub expires_at: Timestamp,
}

/// How far a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceState {
    /// Nobody has said anything.
    Pending,
    /// Somebody said yes.
    Allowed(Allowed),
    /// Somebody said no.
    Denied,
    /// It has its tokens.
    Used,
}

/// Who said yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Who.
    pub user_id: UserId,
    /// For which tenant.
    pub tenant_id: TenantId,
    /// In which browser.
    pub browser_id: BrowserId,
    /// When they had proved who they are.
    pub authenticated_at: Timestamp,
    /// By what.
    pub proof: Proof,
}

/// What lets somebody register clients (RFC 7591 section 3), as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialToken {
    /// Which.
    pub id: InitialTokenId,
    /// Whose its clients are; `None` for clients of the platform.
    pub tenant_id: Option<TenantId>,
    /// How many it still lets in.
    pub uses_left: i64,
    /// Until when.
    pub expires_at: Timestamp,
    /// Since when.
    pub created_at: Timestamp,
}

/// A client that is to hear that a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutNotice {
    /// Which session.
    pub session_id: SessionId,
    /// Whose.
    pub user_id: UserId,
    /// Who is to hear it.
    pub client: Client,
    /// How often it was tried.
    pub attempts: i64,
}

/// An algorithm of JWS (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SigningAlg {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, of 2048 bits.
    Rs256,
    /// Ed25519.
    EdDsa,
}

impl SigningAlg {
    /// All of them, in the order in which they are published.
    pub const ALL: [Self; 3] = [Self::Es256, Self::Rs256, Self::EdDsa];

    /// Its name in `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for SigningAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is no algorithm of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be ES256, RS256 or EdDSA")]
pub struct SigningAlgError;

impl FromStr for SigningAlg {
    type Err = SigningAlgError;

    fn from_str(text: &str) -> Result<Self, SigningAlgError> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text).ok_or(SigningAlgError)
    }
}

/// A signing key as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its RFC 7638 thumbprint.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: SigningAlg,
    /// The public half, as a JWK.
    pub public_jwk: String,
    /// The private half, sealed.
    pub sealed_private: Vec<u8>,
    /// When it was made, and published.
    pub created_at: Timestamp,
    /// Since when it signs.
    pub signs_from: Timestamp,
    /// Since when it signs no more.
    pub retired_at: Option<Timestamp>,
}

/// What a successful grant gives.
#[derive(Debug)]
pub struct TokenSet {
    /// The access token.
    pub access_token: Secret,
    /// Its life, in seconds.
    pub expires_in_s: i64,
    /// The refresh token, for grants that have one.
    pub refresh_token: Option<Secret>,
    /// The ID token, where `openid` was granted.
    pub id_token: Option<Secret>,
    /// What the access token may be used for.
    pub scope: ScopeSet,
    /// For which tenant.
    pub tenant_id: Option<TenantId>,
}

/// A password's hash, in PHC form.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// From the store.
    pub const fn from_phc(text: String) -> Self {
        Self(text)
    }

    /// The PHC form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}
