//! Foreign issuers, whose tokens open routes of the gateway and nothing of our own: who they are, which keys are theirs, and
//! which tenants they speak for.
//!
//! A token's issuer is chosen by `iss`, and its key within that issuer alone; no key is anybody else's. What can be decided
//! from memory is decided without waiting ([`Foreign::attempt`]); else it says what to wait for ([`Foreign::wait`]).

mod claims;
mod config;
mod issuer;
mod jwks;
mod outside;
mod places;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;

pub use config::{
    ACCEPT_TYP, INTROSPECTION_CACHE_S, IntrospectionConfig, IssuerConfig, KEYS_LIFETIME_S, KEYS_STALE_S, SCOPE_CLAIMS,
    UnknownTenant,
};
pub use issuer::KeysState;
use issuer::{Cause, Issuer};
pub use jwks::UnusedKey;
pub use outside::{Made, Named, Outside, OutsideError, Work};
pub use places::NamedTenants;

use super::{
    access::{Access, ForeignLife, ForeignSubject, Place, Subject, TokenError},
    jws::Jws,
    members::Members,
};
use crate::{
    kernel::{Clock, ExternalId, Timestamp, fault::chain},
    store::Store,
};
use claims::Said;

use TokenError::{Invalid, Unavailable};

/// All foreign issuers.
pub(super) struct Foreign {
    clock: Arc<dyn Clock>,
    store: Store,
    issuers: ArcSwap<Table>,
    places: Arc<places::Places>,
    outside: OnceLock<Arc<dyn Outside>>,
}

type Table = HashMap<Arc<str>, Arc<Issuer>>;

/// An issuer and what is known of its keys.
#[derive(Debug, Clone)]
pub struct IssuerState {
    /// What the API calls it.
    pub id: String,
    /// How it is set.
    pub config: IssuerConfig,
    /// Its keys.
    pub keys: KeysState,
}

/// What a token waits for.
pub(super) struct Wait(WaitFor);

enum WaitFor {
    /// Its issuer's keys.
    Keys(Arc<Issuer>),
    /// The tenant that it names.
    Place(Arc<Issuer>, String),
}

/// What came of looking at a token.
pub(super) enum Attempt {
    /// It is good.
    Good(Access),
    /// It waits for something.
    Waits(Wait),
}

impl Foreign {
    pub(super) fn new(configs: &[IssuerConfig], clock: Arc<dyn Clock>, store: Store, named: NamedTenants) -> Self {
        let issuers = ArcSwap::from_pointee(table(configs, &Table::new()));
        Self { clock, store, issuers, places: named.0, outside: OnceLock::new() }
    }

    /// Connects the rest of the program; a second call changes nothing.
    pub(super) fn connect(&self, outside: Arc<dyn Outside>) {
        drop(self.outside.set(outside));
    }

    /// Takes other issuers. One that stays as it was keeps its keys; the tokens of the rest are dead.
    pub(super) fn replace(&self, configs: &[IssuerConfig]) {
        let before = self.issuers.load_full();
        let after = table(configs, &before);
        for (name, issuer) in before.iter() {
            if !after.get(name).is_some_and(|own| Arc::ptr_eq(own, issuer)) {
                issuer.drop_keys();
            }
        }
        self.issuers.store(Arc::new(after));
    }

    /// Looks at a token of an issuer, without waiting. `place` is what its tenant's name was just found to mean.
    pub(super) fn attempt(
        &self,
        issuer: &str,
        jws: &Jws<'_>,
        claims: &Members<'_>,
        place: Option<&(String, Arc<Place>)>,
        now: Timestamp,
    ) -> Result<Attempt, TokenError> {
        let issuers = self.issuers.load();
        let issuer = issuers.get(issuer).ok_or(Invalid("its issuer is another"))?;
        claims::check_type(&issuer.config, &jws.header)?;
        if !issuer.config.algorithms.iter().any(|own| own.name() == jws.header.algorithm) {
            return Err(Invalid("its algorithm is not accepted"));
        }
        let named = |keys: &jwks::KeySet| keys.named(jws.header.kid.as_deref()).is_some_and(|key| key.life.lasts(now));
        let mut keys = issuer.keys();
        if !named(&keys) {
            let may = issuer.may_fetch(now);
            // A fetch may have ended between the two.
            keys = issuer.keys();
            if !named(&keys) {
                may?;
                return Ok(Attempt::Waits(Wait(WaitFor::Keys(Arc::clone(issuer)))));
            }
        }
        let Some(key) = keys.named(jws.header.kid.as_deref()) else { return Err(Invalid("its key is not known")) };
        jws.is_signed_by(&key.verifying)?;
        let said = claims::read(&issuer.config, claims, now)?;
        if now >= said.expires_at {
            return Err(TokenError::Expired);
        }
        let place = match place {
            Some((name, place)) if *name == said.tenant => Some(Arc::clone(place)),
            _ => self.places.known(&said.tenant),
        };
        let Some(place) = place else {
            return Ok(Attempt::Waits(Wait(WaitFor::Place(Arc::clone(issuer), said.tenant.into_owned()))));
        };
        let life = ForeignLife { key: key.life.clone(), place };
        access(issuer, &said, life).map(Attempt::Good)
    }

    /// Waits for what a token waits for; the tenant that it names, if it was that.
    pub(super) async fn wait(&self, wait: Wait) -> Result<Option<(String, Arc<Place>)>, TokenError> {
        let Some(outside) = self.outside.get() else { return Err(Unavailable("the server is starting")) };
        match wait.0 {
            WaitFor::Keys(issuer) => {
                issuer.refresh(outside, &self.clock, Cause::Token).await;
                Ok(None)
            }
            WaitFor::Place(issuer, name) => {
                let place = self.place(&**outside, &issuer, &name).await?;
                Ok(Some((name, place)))
            }
        }
    }

    /// The tenant of a name; made, where the issuer's settings say so.
    async fn place(&self, outside: &dyn Outside, issuer: &Issuer, name: &str) -> Result<Arc<Place>, TokenError> {
        const UNKNOWN: TokenError = Invalid("its tenant is not known");
        const LOST: TokenError = Unavailable("its tenant cannot be looked up");
        let find = async || {
            self.places.find(&self.store, name).await.map_err(|error| {
                tracing::warn!(error = chain(&error), "the tenant that a token names could not be looked up");
                LOST
            })
        };
        if let Some(place) = find().await? {
            return Ok(place);
        }
        let may = issuer.config.on_unknown_tenant == UnknownTenant::Create
            && issuer.config.may_speak_for(name, name, Some(name));
        let external_id = name.parse::<ExternalId>().ok().filter(|id| may && id.as_str() == name).ok_or(UNKNOWN)?;
        let _one = self.places.making.lock().await;
        if let Some(place) = find().await? {
            return Ok(place);
        }
        match outside.make_tenant(external_id, &issuer.name).await {
            Ok(Made::Exists) => {}
            Ok(Made::Gone) => return Err(Invalid("its tenant is gone")),
            Err(error) => {
                tracing::warn!(issuer = &*issuer.name, error = chain(&error), "a tenant could not be made for a token");
                return Err(Unavailable("its tenant cannot be made"));
            }
        }
        find().await?.ok_or(UNKNOWN)
    }

    /// Every issuer, by name.
    pub(super) fn states(&self) -> Vec<IssuerState> {
        let mut states: Vec<IssuerState> = self.issuers.load().values().map(|issuer| state(issuer)).collect();
        states.sort_by(|one, other| one.config.issuer.cmp(&other.config.issuer));
        states
    }

    /// Fetches an issuer's keys now; `None` when nobody has the id.
    pub(super) async fn refresh(&self, id: &str) -> Option<IssuerState> {
        let issuer = self.issuers.load().values().find(|issuer| issuer.id == id).cloned()?;
        if let Some(outside) = self.outside.get() {
            issuer.refresh(outside, &self.clock, Cause::Us).await;
        }
        Some(state(&issuer))
    }

    /// Fetches keys whose lifetime is nearly over, so that no request waits for that.
    pub(super) async fn keep_fresh(&self) {
        let Some(outside) = self.outside.get() else { return };
        let now = self.clock.now();
        let issuers: Vec<_> = self.issuers.load().values().filter(|issuer| issuer.is_due(now)).cloned().collect();
        let fetches = issuers.iter().map(|issuer| issuer.refresh(outside, &self.clock, Cause::Us));
        futures_util::future::join_all(fetches).await;
    }
}

fn state(issuer: &Issuer) -> IssuerState {
    IssuerState { id: issuer.id.clone(), config: issuer.config.clone(), keys: issuer.state() }
}

/// Issuers by name; those that are as they were stay.
fn table(configs: &[IssuerConfig], before: &Table) -> Table {
    let issuer = |config: &IssuerConfig| match before.get(&*config.issuer) {
        Some(issuer) if issuer.config == *config => Arc::clone(issuer),
        _ => Arc::new(Issuer::new(config.clone())),
    };
    configs.iter().map(issuer).map(|issuer| (Arc::clone(&issuer.name), issuer)).collect()
}

/// What a token gives, if its issuer may speak for the tenant.
fn access(issuer: &Issuer, said: &Said<'_>, life: ForeignLife) -> Result<Access, TokenError> {
    let Place { tenant, external_id, .. } = &*life.place;
    let tenant = *tenant;
    let listed = issuer.config.tenants.is_none()
        || issuer.config.may_speak_for(&said.tenant, &tenant.to_string(), external_id.as_deref());
    if !listed {
        return Err(Invalid("its issuer may not speak for this tenant"));
    }
    let subject = ForeignSubject { issuer: Arc::clone(&issuer.name), sub: (*said.sub).into() };
    Ok(Access {
        subject: Subject::Foreign(subject),
        tenant: Some(tenant),
        role: None,
        scope: issuer.scope(&said.scope),
        client_id: said.client_id.clone().into_owned(),
        token_id: said.token_id.clone().into_owned(),
        session: None,
        issued_at: said.issued_at,
        expires_at: said.expires_at,
        foreign: Some(life),
    })
}
