//! Identity: passwords, signing keys, access, refresh and portal tokens, sessions, machine clients.
//!
//! Invariants: a password is kept as argon2id alone, a random secret as a keyed hash alone, a private key sealed under
//! the key file; a refresh token works once (but for a short race) and its second use ends its session; a token that
//! was withdrawn is dead on this node from the next request on; a session ends with its browser, and its client is
//! told; wrong password and unknown email cannot be told apart.
//!
//! Not here: who people are and where they belong (`users`), and which calls a token opens (`gateway`, `web`).

pub mod access;
mod browsers;
mod client;
mod client_http;
mod clients;
mod codes;
mod devices;
mod documents;
pub mod error;
mod exchange;
mod factors;
mod fixtures;
mod foreign;
pub mod http;
mod id_tokens;
mod introspection;
mod issuers_http;
mod jws;
mod keys;
mod known_clients;
mod life;
mod me_http;
mod members;
pub mod model;
mod noting;
pub mod oauth;
pub mod pages;
mod passkeys;
mod password;
mod password_grant;
mod portal;
mod pushed;
mod recovery;
mod registrations;
mod revocation;
pub mod rules;
mod service;
mod sessions;
mod sign_in;
mod sign_outs;
pub(crate) mod signing;
mod throttle;
mod totp;
mod verifier;

pub use access::{ADMIN_SCOPE, Access, ForeignSubject, ScopeSet, Subject, TokenError};
pub use client_http::ClientRequest;
pub use clients::{ClientCredentials, ClientKind, NewClient};
pub(crate) use codes::check_verifier;
pub use codes::{Authorization, Consent};
pub use devices::DeviceStart;
pub use documents::{DocumentKey, INVOICE_TYP, thumbprint, verify_document};
pub use error::{Error, Waiting};
pub use factors::{FactorChange, TotpOffer};
pub use fixtures::KeyChoice;
pub use foreign::{
    ACCEPT_TYP, INTROSPECTION_CACHE_S, IntrospectionConfig, IssuerConfig, IssuerState, KEYS_LIFETIME_S, KEYS_STALE_S,
    KeysState, Made, Named, NamedTenants, Outside, OutsideError, SCOPE_CLAIMS, UnknownTenant, UnusedKey, Work,
};
pub use id_tokens::IdTokenHint;
pub use jws::{JwsAlgorithm, JwsAlgorithmError};
pub use known_clients::KnownClients;
pub use life::TokenLife;
pub use model::{
    About, Allowed, AuthMethod, AuthorizationCode, Browser, Client, ClientMetadata, DeviceGrant, DeviceState, Factors,
    GrantType, InitialToken, LogoutNotice, PasskeyRow, PasswordHash, Proof, RefreshToken, SeenBrowser, Session,
    SigningAlg, StoredKey, TokenSet, TotpFactor,
};
pub use oauth::cors;
pub use pages::{PATHS as PAGE_FILES, failed, not_ours, same_origin, see_other};
pub use portal::PortalGrant;
pub use pushed::Stamp;
pub use recovery::Keep;
pub use registrations::NewInitialToken;
pub use revocation::Revoked;
pub use service::{Identity, IdentityConfig, Withdrawal};
pub use sign_in::{BrowserSignIn, LoginRequest};
pub use throttle::Origin;
pub use verifier::Verifier;
