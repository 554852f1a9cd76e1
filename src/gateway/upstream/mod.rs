//! Upstreams: the HTTP services behind the gateway. A route's requests go to a `Forward`, which leads to the upstream's
//! `cluster`, which chooses a `target`, which has its own connections (`send`).
//!
//! Invariants: nothing is sent twice that could do something twice; a body is never held as a whole, neither way; a tunnel
//! is settled once; what failed is told to our log with the upstream's name, and to the client without it.

mod cluster;
mod direct;
mod exchange;
mod flow;
mod framing;
mod health;
mod hop;
mod line;
mod own;
mod probe;
mod retry;
mod send;
mod target;
mod trailers;
mod tunnel;
mod upgrade;
mod upload;
mod whole;
mod wire;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, Response, Uri},
};
use rustls::pki_types::CertificateDer;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::kernel::{Clock, Rng};
use cluster::Cluster;

pub(super) use exchange::{Answered, Came};
pub use health::{Ejection, Standing};
pub(super) use hop::Hop;
pub(super) use own::OwnUpstream;
pub use probe::Probe;
pub(super) use tunnel::Tunnel;

/// The most targets of an upstream.
pub const MOST_TARGETS: usize = 64;

/// One upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// What routes call it.
    pub name: String,
    /// Base addresses of its targets, at most [`MOST_TARGETS`].
    pub targets: Vec<Uri>,
    /// What is spoken with them.
    pub http: Protocol,
    /// Whose certificates are believed of `https` targets, instead of the public roots'.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long a body's next frame may take; how long a tunnel may be silent.
    pub idle: Option<Duration>,
    /// How long an answer may take in all.
    pub total: Option<Duration>,
    /// How often a request that failed is sent again, where that is safe.
    pub retries: u32,
    /// At most so many repetitions for a hundred requests.
    pub retry_budget_percent: u32,
    /// When failures put a target out.
    pub ejection: Ejection,
    /// Whether nothing is sent when every target is out, instead of trying.
    pub fail_fast: bool,
    /// What a target takes at a time.
    pub limit: Option<Limit>,
    /// How targets are asked for their health.
    pub probe: Option<Probe>,
}

/// What is spoken with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    One,
    /// HTTP/2: with prior knowledge to `http` targets, by ALPN to `https` ones.
    Two,
}

/// What a target takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Requests, which over HTTP/1.1 is connections.
    pub requests: u32,
    /// Requests that wait for a place.
    pub waiting: u32,
}

/// Where requests of a route go, and how.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The upstream.
    pub upstream: Arc<UpstreamConfig>,
    /// Taken off the path before forwarding.
    pub strip_prefix: Option<String>,
    /// How long the upstream may take to begin its answer.
    pub timeout: Duration,
}

/// What upstreams need of the program that they run in.
#[derive(Clone)]
pub struct Background {
    /// Runs probes; a drain waits for it.
    pub tasks: TaskTracker,
    /// Runs tunnels; a drain waits for it, and so does the thread that they run on.
    pub served: TaskTracker,
    /// Fires when the server is to stop: probes end.
    pub stop: CancellationToken,
    /// Fires at the drain's deadline: tunnels end.
    pub cut: CancellationToken,
    /// Tells when a token expires.
    pub clock: Arc<dyn Clock>,
    /// Where chance begins.
    pub rng: Arc<dyn Rng>,
}

/// How an upstream fares.
#[derive(Debug, Clone)]
pub struct UpstreamState {
    /// Its settings.
    pub config: Arc<UpstreamConfig>,
    /// Its targets, in the order of the settings.
    pub targets: Vec<TargetState>,
}

/// How a target fares.
#[derive(Debug, Clone)]
pub struct TargetState {
    /// Its address.
    pub address: Uri,
    /// Whether it is given requests.
    pub standing: Standing,
    /// Whether its probes say that it is down.
    pub probed_down: bool,
    /// Failures since the last success.
    pub failures: u32,
    /// Requests in flight, where they are counted.
    pub in_flight: Option<u32>,
}

/// All upstreams that routes lead to; each has its connections and its state once, whatever leads to it.
#[derive(Default)]
pub(super) struct Clusters(Vec<Arc<Cluster>>);

impl Clusters {
    /// The way of a route to its upstream. An upstream that `before` has just so goes on with what it has.
    pub(super) fn forward(&mut self, destination: &Destination, background: &Background, before: &Self) -> Forward {
        let same = |cluster: &&Arc<Cluster>| cluster.config() == &destination.upstream;
        let known = self.0.iter().find(same).cloned();
        let cluster = known.unwrap_or_else(|| {
            let kept = before.0.iter().find(same).cloned();
            let new = || Arc::new(Cluster::new(Arc::clone(&destination.upstream), background));
            let cluster = kept.unwrap_or_else(new);
            self.0.push(Arc::clone(&cluster));
            cluster
        });
        let prefix = destination.strip_prefix.as_deref().map(|prefix| prefix.trim_end_matches('/').into());
        Forward { cluster, terms: Arc::new(Terms { strip_prefix: prefix, first_byte: destination.timeout }) }
    }

    /// How they all fare.
    pub(super) fn states(&self) -> Vec<UpstreamState> {
        self.0.iter().map(|cluster| cluster.state()).collect()
    }
}

/// What a route asks of its upstream.
struct Terms {
    /// Taken off the path; without a slash at the end.
    strip_prefix: Option<Box<str>>,
    /// How long the answer's head may take.
    first_byte: Duration,
}

impl Terms {
    fn prefix(&self) -> &str {
        self.strip_prefix.as_deref().unwrap_or("")
    }
}

/// A route's way to its upstream.
pub(super) struct Forward {
    cluster: Arc<Cluster>,
    terms: Arc<Terms>,
}

impl Forward {
    /// What it needs of the program.
    pub(super) fn background(&self) -> &Background {
        self.cluster.background()
    }

    /// The upstream's answer, or a problem in its place.
    pub(super) async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.cluster.call(request, &self.terms).await
    }
}
