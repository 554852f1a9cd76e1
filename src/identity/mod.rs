//! Identity: passwords, signing keys, access and refresh tokens, sessions, machine clients.
//!
//! Invariants: a password is kept as argon2id alone, a random secret as a keyed hash alone, a private key sealed under
//! the key file; a refresh token works once (but for a short race) and its second use ends its session; a token that
//! was withdrawn is dead on this node from the next request on; wrong password and unknown email cannot be told apart.
//!
//! Not here: who people are and where they belong (`users`), and which calls a token opens (`gateway`, `web`).

pub mod access;
mod client_http;
mod clients;
mod codes;
pub mod error;
mod factors;
pub mod http;
mod introspection;
mod keys;
mod me_http;
pub mod model;
pub mod oauth;
pub mod pages;
mod passkeys;
mod password;
mod recovery;
mod revocation;
pub mod rules;
mod service;
mod sessions;
mod sign_in;
mod signing;
mod throttle;
mod totp;
mod verifier;

pub use access::{ADMIN_SCOPE, Access, ScopeSet, Subject, TokenError};
pub use clients::{ClientCredentials, ClientKind, NewClient};
pub use codes::Authorization;
pub use error::Error;
pub use factors::{FactorChange, TotpOffer};
pub use model::{
    AuthorizationCode, Browser, Client, ClientMetadata, Factors, GrantType, PasskeyRow, PasswordHash, Proof,
    RefreshToken, Session, SigningAlg, StoredKey, TokenSet, TotpFactor,
};
pub use pages::{failed, not_ours, same_origin, see_other};
pub use recovery::Keep;
pub use revocation::Revoked;
pub use service::{Identity, IdentityConfig};
pub use sign_in::{BrowserSignIn, LoginRequest};
pub use throttle::Origin;
pub use verifier::Verifier;
