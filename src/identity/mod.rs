//! Identity: passwords, signing keys, tokens, sessions, machine clients.
pub mod access;
pub use access::{ADMIN_SCOPE, Access, ScopeSet, Subject, TokenError};
