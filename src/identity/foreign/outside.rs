//! What foreign issuers need of the rest of the program: calls over the web, tenants made by onboarding, work in the
//! background. Connected after everything is built, because onboarding needs identity.

use std::{future::Future, pin::Pin};

use crate::kernel::{ExternalId, Secret};

/// A future on the heap.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a call over the web, or the making of a tenant, came to nothing.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OutsideError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// Who named an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The settings did, or it is on a host that they name: it may be private.
    BySettings,
    /// An issuer did: it must be public.
    ByIssuer,
}

/// A tenant that a token names and nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It exists now.
    Exists,
    /// It was taken out, and does not come back by a token.
    Gone,
}

/// The rest of the program.
pub trait Outside: Send + Sync {
    /// Gets a JSON document, within a deadline and a bound of bytes, without following redirects; only from a 200.
    fn get<'a>(&'a self, address: &'a str, named: Named) -> Work<'a, Result<Vec<u8>, OutsideError>>;

    /// Posts a form with a client's id and secret (HTTP Basic), under the same limits.
    fn post<'a>(
        &'a self,
        address: &'a str,
        form: String,
        client: (&'a str, &'a Secret),
    ) -> Work<'a, Result<Vec<u8>, OutsideError>>;

    /// Makes a tenant at the default tier, unless it is there.
    fn make_tenant<'a>(&'a self, name: ExternalId, issuer: &'a str) -> Work<'a, Result<Made, OutsideError>>;

    /// Runs work to its end, whoever waits for it.
    fn run(&self, work: Work<'static, ()>);
}
