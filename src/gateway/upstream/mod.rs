//! Upstreams: the HTTP services behind the gateway. A route's requests go to a [`Forward`], which leads to the upstream's
//! [`cluster`], which chooses a target, which has its own connections ([`send`]).

mod cluster;
mod direct;
mod line;
mod send;
mod wire;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, Response, Uri},
};

use cluster::Cluster;

/// One upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// What routes call it.
    pub name: String,
    /// Base addresses of its targets.
    pub targets: Vec<Uri>,
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

/// All upstreams that routes lead to; each has its connections and its state once, whatever leads to it.
#[derive(Default)]
pub(super) struct Clusters(Vec<Arc<Cluster>>);

impl Clusters {
    /// The way of a route to its upstream.
    pub(super) fn forward(&mut self, destination: &Destination) -> Forward {
        let known = self.0.iter().find(|cluster| cluster.config() == &destination.upstream).cloned();
        let cluster = known.unwrap_or_else(|| {
            let cluster = Arc::new(Cluster::new(Arc::clone(&destination.upstream)));
            self.0.push(Arc::clone(&cluster));
            cluster
        });
        let prefix = destination.strip_prefix.as_deref().map(|prefix| prefix.trim_end_matches('/').into());
        Forward { cluster, terms: Terms { strip_prefix: prefix, first_byte: destination.timeout } }
    }
}

/// What a route asks of its upstream.
struct Terms {
    /// Taken off the path; without a slash at the end.
    strip_prefix: Option<Box<str>>,
    /// How long the answer's head may take.
    first_byte: Duration,
}

/// A route's way to its upstream.
pub(super) struct Forward {
    cluster: Arc<Cluster>,
    terms: Terms,
}

impl Forward {
    /// The upstream's answer, or a problem in its place.
    pub(super) async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.cluster.call(request, &self.terms).await
    }
}
