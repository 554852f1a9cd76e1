//! One target of an upstream: its address and connections, how it fares, and what it has in flight.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::http::{
    Uri,
    uri::{InvalidUri, PathAndQuery},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{Limit, UpstreamConfig, direct::Direct, health::Health, send::Connections};

/// One target.
pub(super) struct Target {
    pub(super) address: Uri,
    pub(super) connections: Connections,
    pub(super) health: Health,
    /// The path of its address, put before every request's; without a slash at the end.
    base_path: Box<str>,
    in_flight: AtomicU32,
    gate: Option<Gate>,
}

/// At most so many requests at a time.
struct Gate {
    places: Arc<Semaphore>,
    most_waiting: u32,
    waiting: AtomicU32,
}

/// A request that a target works on; over when this is dropped.
pub(super) struct InFlight {
    target: Arc<Target>,
    _place: Option<OwnedSemaphorePermit>,
}

/// The target has as much to do as it may have.
pub(super) struct Full;

impl Target {
    pub(super) fn new(address: &Uri, config: &UpstreamConfig) -> Self {
        let gate = |limit: Limit| Gate {
            places: Arc::new(Semaphore::new(usize::try_from(limit.requests).unwrap_or(usize::MAX >> 3))),
            most_waiting: limit.waiting,
            waiting: AtomicU32::new(0),
        };
        Self {
            address: address.clone(),
            connections: Connections::new(address, config),
            health: Health::new(config.ejection, Instant::now()),
            base_path: address.path().trim_end_matches('/').into(),
            in_flight: AtomicU32::new(0),
            gate: config.limit.map(gate),
        }
    }

    /// The path that the target is to see, if it is not the client's.
    pub(super) fn path(&self, asked: &PathAndQuery, prefix: &str) -> Result<Option<PathAndQuery>, InvalidUri> {
        if prefix.is_empty() && self.base_path.is_empty() {
            return Ok(None);
        }
        let asked = asked.as_str();
        let rest = asked.strip_prefix(prefix).unwrap_or(asked);
        let slash = if rest.starts_with('/') { "" } else { "/" };
        format!("{}{slash}{rest}", self.base_path).parse().map(Some)
    }

    /// The connections on which requests go as they are: over HTTP/1.1 without TLS, to paths that stay.
    pub(super) fn short(&self) -> Option<&Direct> {
        self.connections.direct().filter(|_| self.base_path.is_empty())
    }

    /// Requests in flight, where they are counted.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request in; waits for a place where there is a limit, in a queue that is short.
    pub(super) async fn enter(self: &Arc<Self>, patience: Duration) -> Result<InFlight, Full> {
        let place = match &self.gate {
            None => None,
            Some(gate) => Some(gate.enter(patience).await?),
        };
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(InFlight { target: Arc::clone(self), _place: place })
    }
}

impl Gate {
    async fn enter(&self, patience: Duration) -> Result<OwnedSemaphorePermit, Full> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let _waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most_waiting {
            return Err(Full);
        }
        let place = tokio::time::timeout(patience, Arc::clone(&self.places).acquire_owned()).await;
        place.map_err(|_| Full)?.map_err(|_| Full)
    }
}

/// Counts out whoever waits, also when they go away.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.target.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
