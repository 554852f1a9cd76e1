//! Drivers: who really makes and takes down a place for a tenant.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use super::{
    Error,
    model::{Finding, Made, Place, Pool, Tally},
};
use crate::kernel::{Isolation, TenantId};

/// Work that a driver does.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Who makes places. Every operation may be repeated, and broken off anywhere: making what is there, or half there, completes
/// it; taking down what is gone, or half gone, succeeds.
pub trait Driver: Send + Sync {
    /// The name in settings and in the store.
    fn name(&self) -> &'static str;

    /// What [`Self::apply`] would do, step by step; nothing where all is done. Changes nothing.
    fn plan<'a>(&'a self, place: &'a Place) -> Work<'a, Vec<String>>;

    /// Makes the place.
    fn apply<'a>(&'a self, place: &'a Place) -> Work<'a, Made>;

    /// Whether the place is there.
    fn verify<'a>(&'a self, place: &'a Place) -> Work<'a, Finding>;

    /// Takes the place down, with everything in it.
    fn destroy<'a>(&'a self, place: &'a Place) -> Work<'a, ()>;

    /// Whether it could make a place now. Changes nothing.
    fn reachable(&self) -> Work<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// Whether a place has a password, which is made up here and kept sealed before the place is made.
    fn wants_password(&self) -> bool {
        false
    }

    /// Whether places are served by what this asks: then its silence is an outage of theirs. Not where somebody else is asked to
    /// make them, who may be away while they work.
    fn serves(&self) -> bool {
        true
    }

    /// Whether a place has rows of the tenant's, which making it again does not bring back.
    fn keeps_rows(&self) -> bool {
        false
    }

    /// Every place that is there, as far as that can be seen; nothing where it cannot. Changes nothing.
    fn list(&self) -> Work<'_, Vec<Place>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// What the tenant's rows come to that it keeps, where it knows of any.
    fn tally<'a>(&'a self, _place: &'a Place) -> Work<'a, Tally> {
        Box::pin(async { Ok(Tally::default()) })
    }

    /// Has everything of the tenant that is at one of its places at another, and nothing else, all or nothing; both exist. What it
    /// comes to, after that was compared.
    fn carry_over<'a>(&'a self, _from: &'a Place, _to: &'a Place) -> Work<'a, Tally> {
        Box::pin(async { Ok(Tally::default()) })
    }

    /// Takes down a place whose rows were carried elsewhere, unless there are others by now: then what they come to. The tenant's
    /// own programs write nothing more there, either way.
    fn destroy_unless_changed<'a>(&'a self, place: &'a Place, _carried: &'a Tally) -> Work<'a, Option<Tally>> {
        Box::pin(async { self.destroy(place).await.map(|()| None) })
    }

    /// Where the tenant's requests go now, if not where the pool's go.
    fn upstream(&self, place: &Place) -> Option<String> {
        place.upstream.clone()
    }

    /// Somebody says what came of something that this driver asked for.
    fn hear<'a>(&'a self, _callback: &'a Callback) -> Work<'a, ()> {
        Box::pin(async { Err(Error::Callback) })
    }

    /// The server starts, and these places are in use.
    fn begin(&self, _places: Vec<Place>) {}

    /// The server ends.
    fn end(&self) -> Work<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// What somebody said, and how it is signed; nothing of it is believed yet.
#[derive(Debug, Clone)]
pub struct Callback {
    /// `webhook-id`
    pub id: String,
    /// `webhook-timestamp`
    pub at: String,
    /// `webhook-signature`
    pub signatures: String,
    /// The body, byte for byte.
    pub body: String,
}

/// Makes nothing: for operators whose product needs no infrastructure per tenant.
pub struct NoDriver;

impl Driver for NoDriver {
    fn name(&self) -> &'static str {
        "none"
    }

    fn plan<'a>(&'a self, _: &'a Place) -> Work<'a, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn apply<'a>(&'a self, place: &'a Place) -> Work<'a, Made> {
        let location = place.isolation.name().to_owned();
        Box::pin(async { Ok(Made { location, upstream: None, credentials: None }) })
    }

    fn verify<'a>(&'a self, _: &'a Place) -> Work<'a, Finding> {
        Box::pin(async { Ok(Finding::Present) })
    }

    fn destroy<'a>(&'a self, _: &'a Place) -> Work<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// The drivers that are configured, and which of them makes which kind of place; cheap to clone.
#[derive(Clone)]
pub struct Drivers(Arc<Configured>);

struct Configured {
    all: BTreeMap<&'static str, Arc<dyn Driver>>,
    pool: Arc<dyn Driver>,
    bridge: Arc<dyn Driver>,
    silo: Arc<dyn Driver>,
    pools: Vec<Pool>,
}

impl Drivers {
    /// One for each kind of isolation, in the order of [`Isolation::ALL`]; `more` are there for what they once made.
    pub fn new([pool, bridge, silo]: [Arc<dyn Driver>; 3], more: Vec<Arc<dyn Driver>>, pools: Vec<Pool>) -> Self {
        let all = more.into_iter().chain([&pool, &bridge, &silo].map(Arc::clone));
        let all = all.map(|driver| (driver.name(), driver)).collect();
        Self(Arc::new(Configured { all, pool, bridge, silo, pools }))
    }

    pub(super) fn of(&self, isolation: Isolation) -> &Arc<dyn Driver> {
        match isolation {
            Isolation::Pool => &self.0.pool,
            Isolation::Bridge => &self.0.bridge,
            Isolation::Silo => &self.0.silo,
        }
    }

    /// The driver that made a tenant's place.
    pub(super) fn named(&self, name: &str, tenant: TenantId) -> Result<&Arc<dyn Driver>, Error> {
        self.0.all.get(name).ok_or_else(|| Error::ForeignDriver { tenant, driver: name.to_owned() })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<dyn Driver>> {
        self.0.all.values()
    }

    /// The pools in which tenants of a kind are placed; none for a kind that has places of its own.
    pub(super) fn pools(&self, isolation: Isolation) -> Option<&[Pool]> {
        (isolation == Isolation::Pool).then_some(&self.0.pools)
    }
}
