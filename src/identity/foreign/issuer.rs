//! One foreign issuer: its keys, and when they are fetched.
//!
//! A fetch is made once for all who wait, and goes on when they leave. Tokens can cause two in a row and then one every
//! [`FLOOR_S`] seconds, whatever keys they name. Keys that were confirmed are good for their lifetime; when a fetch fails
//! they go on for a stated time, and those that an answer lacks are dead with it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::sync::watch;
use url::Url;

use super::{
    config::IssuerConfig,
    jwks::{KeySet, UnusedKey},
    outside::{Named, Outside, OutsideError},
};
use crate::{
    identity::{
        access::{ScopeSet, TokenError},
        members::Members,
    },
    kernel::{Clock, Timestamp, fault::chain},
};

/// Between two fetches that tokens cause, once the spare one is used, in seconds.
pub(super) const FLOOR_S: i64 = 30;
/// Fetches that can follow each other at once: keys that were just fetched may be rotated.
const SPARE: usize = 2;
/// Scopes that are kept once for all tokens that have them.
const MOST_SCOPES: usize = 1_024;

/// A foreign issuer.
pub(super) struct Issuer {
    pub(super) config: IssuerConfig,
    pub(super) name: Arc<str>,
    /// What the API calls it.
    pub(super) id: String,
    keys: ArcSwap<KeySet>,
    flight: Mutex<Flight>,
    /// Where discovery said that the keys are.
    found: Mutex<Option<String>>,
    scopes: DashMap<Box<str>, ScopeSet>,
    /// It is in the settings no more.
    dropped: AtomicBool,
}

/// When keys were fetched, and whether they are being.
#[derive(Default)]
struct Flight {
    /// Ends when the fetch under way does.
    running: Option<watch::Receiver<()>>,
    /// When the last fetches began.
    begun: Vec<Timestamp>,
    /// When keys were last fetched.
    fetched_at: Option<Timestamp>,
    /// When that was last tried.
    tried_at: Option<Timestamp>,
    /// Why the last try failed.
    error: Option<String>,
}

/// Why keys are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A token names one that is not known, or whose lifetime is over.
    Token,
    /// They are due, or somebody who may asks for it.
    Us,
}

/// What is known of an issuer's keys.
#[derive(Debug, Clone)]
pub struct KeysState {
    /// `kid` and algorithm of those that check tokens.
    pub keys: Vec<(Option<String>, &'static str)>,
    /// Those that do not, and why.
    pub unused: Vec<UnusedKey>,
    /// Where they are, as far as is known.
    pub jwks_uri: Option<String>,
    /// When they were last fetched.
    pub fetched_at: Option<Timestamp>,
    /// When that was last tried.
    pub tried_at: Option<Timestamp>,
    /// Until when they are good without being fetched again.
    pub good_until: Option<Timestamp>,
    /// Why the last try failed.
    pub error: Option<String>,
}

/// Why there are no keys of a document.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the issuer's discovery cannot be had")]
    Discovery(#[source] OutsideError),
    #[error("the issuer's discovery is {0}")]
    NotDiscovery(&'static str),
    #[error("the issuer's keys cannot be had")]
    Keys(#[source] OutsideError),
    #[error(transparent)]
    NotJwks(#[from] super::jwks::NotJwks),
}

impl Issuer {
    pub(super) fn new(config: IssuerConfig) -> Self {
        Self {
            name: config.issuer.as_str().into(),
            id: blake3::hash(config.issuer.as_bytes()).to_hex()[..16].to_owned(),
            config,
            keys: ArcSwap::default(),
            flight: Mutex::default(),
            found: Mutex::default(),
            scopes: DashMap::new(),
            dropped: AtomicBool::new(false),
        }
    }

    pub(super) fn keys(&self) -> arc_swap::Guard<Arc<KeySet>> {
        self.keys.load()
    }

    /// The settings have it no more: its tokens are dead.
    pub(super) fn drop_keys(&self) {
        self.dropped.store(true, Ordering::Release);
        self.keys.load().keys.iter().for_each(|key| key.life.end());
    }

    /// One value for all tokens that may do the same.
    pub(super) fn scope(&self, text: &str) -> ScopeSet {
        if let Some(known) = self.scopes.get(text) {
            return known.clone();
        }
        let scope = ScopeSet::parse(text);
        if self.scopes.len() < MOST_SCOPES {
            self.scopes.insert(text.into(), scope.clone());
        }
        scope
    }

    /// Whether waiting for a fetch, or making one, may help a token whose key is not known or not confirmed. An error says
    /// what is to be answered instead.
    pub(super) fn may_fetch(&self, now: Timestamp) -> Result<(), TokenError> {
        let flight = self.flight();
        if flight.running.is_some() || flight.has_spare(now) {
            return Ok(());
        }
        Err(match flight.error {
            Some(_) => TokenError::Unavailable("its issuer's keys cannot be had"),
            None => TokenError::Invalid("its key is not known"),
        })
    }

    /// Whether a worker should fetch the keys: three quarters of their lifetime are over, or the last try failed.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let flight = self.flight();
        let since = |at: Option<Timestamp>, secs: i64| at.is_none_or(|at| now < at || now >= at.plus_secs(secs));
        let wanted = since(flight.fetched_at, self.config.keys_lifetime_s * 3 / 4);
        wanted && since(flight.tried_at, FLOOR_S) && flight.running.is_none()
    }

    /// Waits for the fetch that is under way, or for one that this begins.
    pub(super) async fn refresh(self: &Arc<Self>, outside: &Arc<dyn Outside>, clock: &Arc<dyn Clock>, cause: Cause) {
        let mut ended = {
            let mut flight = self.flight();
            let now = clock.now();
            // One whose sender is gone without a word has ended badly.
            match flight.running.clone().filter(|running| running.has_changed().is_ok()) {
                Some(running) => running,
                _ if cause == Cause::Token && !flight.has_spare(now) => return,
                _ => {
                    let (end, ended) = watch::channel(());
                    flight.running = Some(ended.clone());
                    flight.tried_at = Some(now);
                    flight.begun.retain(|at| is_recent(*at, now));
                    flight.begun.push(now);
                    let (this, with, clock) = (Arc::clone(self), Arc::clone(outside), Arc::clone(clock));
                    outside.run(Box::pin(async move {
                        this.fetch(&*with, &*clock).await;
                        drop(end);
                    }));
                    ended
                }
            }
        };
        // An error is the end.
        while ended.changed().await.is_ok() {}
    }

    async fn fetch(&self, outside: &dyn Outside, clock: &dyn Clock) {
        let fetched = self.try_fetch(outside, clock).await;
        let now = clock.now();
        let mut flight = self.flight();
        match fetched {
            Ok(()) => {
                flight.fetched_at = Some(now);
                flight.error = None;
            }
            Err(error) => {
                tracing::warn!(issuer = &*self.name, error = chain(&error), "an issuer's keys could not be fetched");
                flight.error = Some(chain(&error));
                *self.found.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.go_on_stale(&flight, now);
            }
        }
        flight.running = None;
    }

    /// What is known goes on until the next try, within the time that the settings allow.
    fn go_on_stale(&self, flight: &Flight, now: Timestamp) {
        let Some(fetched_at) = flight.fetched_at else { return };
        let end = fetched_at.plus_secs(self.config.keys_lifetime_s + self.config.keys_stale_s);
        let good = fetched_at.plus_secs(self.config.keys_lifetime_s);
        if now >= good && now < end {
            self.keys.load().extend(now.plus_secs(FLOOR_S).min(end));
        }
    }

    async fn try_fetch(&self, outside: &dyn Outside, clock: &dyn Clock) -> Result<(), FetchError> {
        let (address, named) = self.jwks_uri(outside).await?;
        let document = outside.get(&address, named).await.map_err(FetchError::Keys)?;
        let until = clock.now().plus_secs(self.config.keys_lifetime_s);
        let before = self.keys.load_full();
        let set = KeySet::parse(&document, &self.config.algorithms, &before, until)?;
        self.keys.store(Arc::new(set));
        if self.dropped.load(Ordering::Acquire) {
            self.drop_keys();
        }
        Ok(())
    }

    /// Where the keys are: as the settings say, or as discovery does (`OpenID` Connect Discovery section 4).
    async fn jwks_uri(&self, outside: &dyn Outside) -> Result<(String, Named), FetchError> {
        if let Some(address) = &self.config.jwks_uri {
            return Ok((address.clone(), Named::BySettings));
        }
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(address) = known {
            let named = self.who_named(&address);
            return Ok((address, named));
        }
        let discovery = format!("{}/.well-known/openid-configuration", self.config.issuer.trim_end_matches('/'));
        let document = outside.get(&discovery, Named::BySettings).await.map_err(FetchError::Discovery)?;
        let members = Members::parse(&document).map_err(|_| FetchError::NotDiscovery("not JSON"))?;
        let text = |name| members.text(name).ok().flatten();
        // Section 4.3: whoever else's document it is.
        if text("issuer").as_deref() != Some(&*self.config.issuer) {
            return Err(FetchError::NotDiscovery("another issuer's"));
        }
        let address = text("jwks_uri").ok_or(FetchError::NotDiscovery("without a jwks_uri"))?.into_owned();
        if self.config.issuer.starts_with("https:") && !address.starts_with("https:") {
            return Err(FetchError::NotDiscovery("of keys that are not to be had by https"));
        }
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(address.clone());
        let named = self.who_named(&address);
        Ok((address, named))
    }

    /// Keys on the issuer's own host are where the settings say.
    fn who_named(&self, address: &str) -> Named {
        let host = |text: &str| Url::parse(text).ok().and_then(|url| url.host_str().map(str::to_owned));
        match (host(address), host(&self.config.issuer)) {
            (Some(keys), Some(own)) if keys == own => Named::BySettings,
            _ => Named::ByIssuer,
        }
    }

    /// What is known of its keys.
    pub(super) fn state(&self) -> KeysState {
        let (keys, flight) = (self.keys.load(), self.flight());
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        KeysState {
            keys: keys.keys.iter().map(|key| (key.kid.clone(), key.verifying.algorithm.name())).collect(),
            unused: keys.unused.clone(),
            jwks_uri: self.config.jwks_uri.clone().or(found),
            fetched_at: flight.fetched_at,
            tried_at: flight.tried_at,
            good_until: keys.keys.first().and_then(|key| key.life.end_at()),
            error: flight.error.clone(),
        }
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        // Held for a few assignments, none of which panics.
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Whether a token may cause a fetch now: of the last ones, not all were within the floor.
    fn has_spare(&self, now: Timestamp) -> bool {
        self.begun.iter().filter(|at| is_recent(**at, now)).count() < SPARE
    }
}

/// A clock that went back forgets what was begun.
fn is_recent(begun: Timestamp, now: Timestamp) -> bool {
    begun <= now && now < begun.plus_secs(FLOOR_S)
}
