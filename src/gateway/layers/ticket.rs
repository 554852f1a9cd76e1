//! What an admitted request holds: slots until its body ends, parts of quotas until it is settled. Nothing of it is lost,
//! however the request ends.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::admit::Gate;
use crate::{
    gateway::{
        entry::{Entry, Loaded, OnRoute},
        holding::{self, Lasting},
        upstream::{Forward, OwnUpstream},
    },
    kernel::{TenantId, TierName},
    metering::Record,
};

/// An admitted request.
pub struct Ticket {
    /// Whose request.
    pub tenant: TenantId,
    /// The tenant's tier.
    pub tier: Arc<TierName>,
    pub(super) gate: Arc<Gate>,
    pub(super) entry: Arc<Entry>,
    pub(super) loaded: Arc<Loaded>,
    pub(super) on_route: Option<Arc<OnRoute>>,
    pub(super) took: Took,
    /// Quotas are settled or given back.
    settled: AtomicBool,
    /// Slots are given back.
    left: AtomicBool,
    /// Somebody settles it and gives slots back when the body ends, or the exchange of a client that is gone.
    watched: AtomicBool,
    /// It lasts by its nature, and is not waited for.
    lasts: AtomicBool,
    lasting: Mutex<Option<Lasting>>,
}

/// What a request took on its way in, to be given back.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says something of its own, and they come in any combination")]
pub(super) struct Took {
    /// One of the requests that the tenant may have under way.
    pub tenant_slot: bool,
    /// One of the node's slots.
    pub node_slot: bool,
    /// One of the requests that the tenant may have under way on the route.
    pub route_slot: bool,
    /// One of the tenant's rate.
    pub rate: bool,
    /// One of the tenant's rate on the route.
    pub route_rate: bool,
    /// Of so many of the tenant's quotas, in their order.
    pub quotas: usize,
}

impl Ticket {
    pub(super) fn new(tenant: TenantId, gate: &Arc<Gate>, (entry, loaded): (Arc<Entry>, Arc<Loaded>)) -> Self {
        Self {
            tenant,
            tier: Arc::clone(&loaded.terms.tier),
            gate: Arc::clone(gate),
            entry,
            loaded,
            on_route: None,
            took: Took::default(),
            settled: AtomicBool::new(false),
            left: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            lasts: AtomicBool::new(false),
            lasting: Mutex::default(),
        }
    }

    /// The largest body of the request, in bytes.
    pub(super) fn body_limit(&self) -> Option<u64> {
        self.gate.route.body_limit
    }

    /// The way to the tenant's own upstream, if it has one, of a route that leads to the pool's.
    pub(in crate::gateway) fn own_way(&self, pool: &Forward) -> Option<Forward> {
        self.loaded.upstream.as_deref().map(|own: &OwnUpstream| own.instead_of(pool))
    }

    /// How much is held of a quota, by its place.
    fn held(&self, place: usize) -> i64 {
        if place >= self.took.quotas {
            return 0;
        }
        self.loaded.terms.quotas.get(place).and_then(|quota| self.gate.route.held(quota.meter)).unwrap_or(0)
    }

    /// Replaces what was held by what was used, as record `seq` of the journal has it; only the first call counts. The request
    /// is over with it.
    pub fn settle(&self, record: &Record, seq: u64) {
        if !self.settled.swap(true, Ordering::AcqRel) {
            let to = self.gate.directory.crossings();
            self.entry.settle(&self.loaded, |place| self.held(place), record, seq, to);
        }
        self.leave();
    }

    /// Gives the quotas back: the request is not billed. It may still be under way.
    pub fn release(&self) {
        if self.settled.swap(true, Ordering::AcqRel) {
            return;
        }
        for (place, counter) in self.loaded.counters.iter().enumerate().take(self.took.quotas) {
            let held = self.held(place);
            if held != 0 {
                counter.release(held);
            }
        }
    }

    /// Gives everything back, its place in the rates too: the request was refused after all.
    pub fn refuse(&self) {
        if !self.settled.load(Ordering::Acquire) {
            if let Some(rate) = self.loaded.terms.rate.filter(|_| self.took.rate) {
                self.entry.rate.give_back(rate);
            }
            if let (Some(rate), Some(on_route)) =
                (self.gate.route.rate.filter(|_| self.took.route_rate), &self.on_route)
            {
                on_route.rate.give_back(rate);
            }
        }
        self.release();
        self.leave();
    }

    /// Gives the slots back: nothing is under way any more.
    pub(in crate::gateway) fn leave(&self) {
        if self.left.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.took.node_slot {
            self.gate.directory.slots().give_back();
        }
        if self.lasts.load(Ordering::SeqCst) {
            drop(self.lasting().take());
        }
        if self.took.tenant_slot {
            self.entry.in_flight.leave();
            self.entry.holding.fewer();
        }
        if let Some(on_route) = self.on_route.as_ref().filter(|_| self.took.route_slot) {
            on_route.in_flight.leave();
        }
    }

    /// The request lasts by its nature: whoever holds its tenant does not wait for it.
    pub(super) fn lasts(&self) {
        if !self.took.tenant_slot || self.left.load(Ordering::SeqCst) || self.lasts.swap(true, Ordering::SeqCst) {
            return;
        }
        *self.lasting() = Some(holding::lasts(&self.entry));
        // Whoever left in between has not seen it.
        if self.left.load(Ordering::SeqCst) {
            drop(self.lasting().take());
        }
    }

    fn lasting(&self) -> std::sync::MutexGuard<'_, Option<Lasting>> {
        self.lasting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever says so settles it: when the body ends, or when the upstream has answered a client that is gone.
    pub(super) fn watch(&self) {
        self.watched.store(true, Ordering::Release);
    }

    /// Whether nobody watches the body, and there is something to give back when it ends.
    pub(super) fn is_unwatched(&self) -> bool {
        let slots = self.took.node_slot || self.took.tenant_slot || self.took.route_slot;
        slots && !self.watched.load(Ordering::Acquire) && !self.left.load(Ordering::Acquire)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.release();
        self.leave();
    }
}

/// Gives everything back when the request is abandoned before it is answered, whoever else still has the ticket: an upstream
/// may keep the request's extensions for longer. Unless the request goes on.
pub(super) struct Abandoned(Option<Arc<Ticket>>);

impl Abandoned {
    pub(super) const fn unless_answered(ticket: Arc<Ticket>) -> Self {
        Self(Some(ticket))
    }

    /// The request is answered.
    pub(super) fn answered(&mut self) -> Option<Arc<Ticket>> {
        self.0.take()
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(ticket) = self.0.take().filter(|ticket| !ticket.watched.load(Ordering::Acquire)) {
            ticket.release();
            ticket.leave();
        }
    }
}
