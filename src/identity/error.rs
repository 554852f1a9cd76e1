//! What can go wrong with identity.

use std::{io, path::PathBuf};

use super::model::GrantType;
use crate::{
    kernel::{BrowserId, ClientId, CustomerName, InitialTokenId, SessionId, TenantId},
    store::StoreError,
};

/// An error of the identity service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Email and password do not belong together, or the tenant named is not the user's.
    #[error("email and password do not belong together")]
    WrongCredentials,
    /// The user belongs to several tenants and named none.
    #[error("the user belongs to several tenants")]
    ChooseTenant(Vec<(TenantId, CustomerName)>),
    /// The user's tenant is not in use.
    #[error("the tenant is {0}")]
    TenantNotActive(&'static str),
    /// The user was put out of force.
    #[error("the user is disabled in this tenant")]
    Disabled,
    /// A password that is too easy to guess.
    #[error("{0}")]
    WeakPassword(String),
    /// Too many wrong tries: wait.
    #[error("there were too many tries; wait before the next one")]
    TooManyTries {
        /// How long, in seconds.
        retry_after_s: u64,
    },
    /// The password was right, and a second factor is needed.
    #[error("a second factor is needed: {}", if *.totp { "send a code as otp" } else { "sign in with a browser" })]
    FactorNeeded {
        /// Whether a code of an authenticator would do.
        totp: bool,
    },
    /// The password was right, and the second factor was not.
    #[error("the code is wrong, or was used before")]
    WrongFactor,
    /// A link that is not known, was used, or has expired.
    #[error("the link is not valid any more; ask for another one")]
    InvalidLink,
    /// The user has factors that somebody of another tenant relies on, too.
    #[error("the user belongs to other tenants as well: the platform administrator resets their factors")]
    SharedUser,
    /// A client that is not known, or its secret is not.
    #[error("client authentication failed")]
    InvalidClient,
    /// A client that did not register a grant.
    #[error("the client has not registered the grant {}", .0.name())]
    UnauthorizedClient(GrantType),
    /// A code, or a refresh token that is not known, used, expired or withdrawn.
    #[error("{0}")]
    InvalidGrant(&'static str),
    /// More scope than was granted.
    #[error("the scope {0} was not granted")]
    InvalidScope(String),
    /// What was asked makes no sense.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// A scope that is not written as RFC 6749 section 3.3 has it.
    #[error("the scope is not a list of scope values separated by single spaces")]
    MalformedScope,
    /// A tenant that a token cannot be had for.
    #[error("{0}")]
    InvalidTarget(&'static str),
    /// A device is not to have its tokens, yet or at all.
    #[error("{}", .0.text())]
    Waiting(Waiting),
    /// Somebody guesses user codes.
    #[error("too many wrong codes were entered; wait a few minutes")]
    TooManyGuesses,
    /// An initial access token that is not known, used up or expired.
    #[error("the initial access token is not valid")]
    InvalidInitialToken,
    /// No such initial access token.
    #[error("there is no initial access token {0}")]
    UnknownInitialToken(InitialTokenId),
    /// No such client.
    #[error("there is no client {0}")]
    UnknownClient(ClientId),
    /// No such tenant.
    #[error("there is no tenant {0}")]
    UnknownTenant(TenantId),
    /// No such session.
    #[error("there is no session {0}")]
    UnknownSession(SessionId),
    /// No browser of theirs has this id.
    #[error("there is no browser {0}")]
    UnknownBrowser(BrowserId),
    /// The key file cannot be used.
    #[error("the key file {path} {why}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
        /// What the file system said.
        #[source]
        source: Option<io::Error>,
    },
    /// A signing key in the store cannot be opened or made.
    #[error("signing key: {0}")]
    Key(&'static str),
    /// A worker of ours stopped: a bug.
    #[error("a worker stopped")]
    Stopped,
    /// The store failed.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}

/// Why a device has no tokens (RFC 8628 section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Nobody has said anything.
    Pending,
    /// It asks too often.
    SlowDown,
    /// Somebody said no.
    Denied,
    /// Nobody said anything in time.
    Expired,
}

impl Waiting {
    const fn text(self) -> &'static str {
        match self {
            Self::Pending => "nobody has decided yet",
            Self::SlowDown => "wait five seconds longer between requests from now on",
            Self::Denied => "the user said no",
            Self::Expired => "the device code has expired",
        }
    }
}
