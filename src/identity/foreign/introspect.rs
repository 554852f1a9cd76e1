//! Tokens that say nothing by themselves: their issuer is asked (RFC 7662), and what it said is believed for a while.

use quick_cache::sync::Cache;
use tokio::sync::{Mutex, MutexGuard};

use super::{
    Attempt, Foreign, Issuer, Wait, WaitFor, access,
    claims::{self, Expiry},
    outside::Outside,
};
use crate::{
    identity::{
        access::{Access, ForeignLife, KeyLife, TokenError},
        jws::{MALFORMED, of_members},
        members::Members,
    },
    kernel::{Timestamp, fault::chain},
};

use TokenError::{Invalid, Unavailable};

/// That a token is good for nothing is believed for this long, in seconds.
const INACTIVE_S: i64 = 10;
/// Such tokens that are remembered.
const MOST_INACTIVE: usize = 10_000;
/// Calls at once; more wait.
const AT_ONCE: usize = 64;
/// What our own secrets begin with, which are nobody else's business.
const OURS: &str = "tollgate_";
const INACTIVE: TokenError = Invalid("its issuer says that it is not active");

/// What is known of opaque tokens, besides those that are good.
pub(super) struct Opaque {
    /// Until when a token is known to be good for nothing.
    inactive: Cache<blake3::Hash, Timestamp>,
    /// By the first byte of a token's hash: one call for each token, and so many at once.
    calls: [Mutex<()>; AT_ONCE],
}

impl Default for Opaque {
    fn default() -> Self {
        Self { inactive: Cache::new(MOST_INACTIVE), calls: std::array::from_fn(|_| Mutex::new(())) }
    }
}

impl Foreign {
    /// Only one at a time asks about a token.
    pub(in crate::identity) async fn one_of(&self, key: &[u8; 32]) -> MutexGuard<'_, ()> {
        self.opaque.calls[usize::from(key[0]) % AT_ONCE].lock().await
    }

    /// Looks at an opaque token, without waiting.
    pub(in crate::identity) fn attempt_opaque(&self, token: &str, now: Timestamp) -> Result<Attempt, TokenError> {
        let issuers = self.issuers.load();
        let issuer = issuers.values().find(|issuer| issuer.config.introspection.is_some()).ok_or(MALFORMED)?;
        // RFC 6750 section 2.1.
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if token.is_empty() || !token.bytes().all(fine) || token.starts_with(OURS) {
            return Err(MALFORMED);
        }
        if self.opaque.inactive.get(&blake3::hash(token.as_bytes())).is_some_and(|until| now < until) {
            return Err(INACTIVE);
        }
        Ok(Attempt::Waits(Wait(WaitFor::Introspection(issuer.clone(), token.to_owned()))))
    }

    /// Asks the issuer.
    pub(super) async fn introspect(
        &self,
        outside: &dyn Outside,
        issuer: &Issuer,
        token: &str,
    ) -> Result<Access, TokenError> {
        let Some(config) = &issuer.config.introspection else { return Err(MALFORMED) };
        // Its characters were looked at; these three mean something else in a form.
        let encoded: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
        let form = format!("token={encoded}&token_type_hint=access_token");
        let answer = outside.post(&config.endpoint, form, (&config.client_id, &config.client_secret)).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(issuer = &*issuer.name, error = chain(&error), "an issuer could not be asked about a token");
            Unavailable("its issuer cannot be asked")
        })?;
        let claims = Members::parse(&answer).map_err(of_members)?;
        let now = self.clock.now();
        if claims.member("active").is_none_or(|active| active.get() != "true") {
            self.opaque.inactive.insert(blake3::hash(token.as_bytes()), now.plus_secs(INACTIVE_S));
            return Err(INACTIVE);
        }
        let of_other = claims.text("iss").map_err(of_members)?.is_some_and(|own| own != issuer.config.issuer);
        if of_other {
            return Err(Invalid("its issuer is another"));
        }
        let said = claims::read(&issuer.config, &claims, Expiry::Optional, now)?;
        let place = match self.places.known(&said.tenant) {
            Some(place) => place,
            None => self.place(outside, issuer, &said.tenant).await?,
        };
        let key = KeyLife::until(said.expires_at.min(now.plus_secs(config.cache_s)));
        access(issuer, &said, ForeignLife { key, place })
    }
}
