//! One upstream: its targets, which of them a request goes to, and what is answered when none can take it. Bodies stream
//! both ways; the answer's hop-by-hop headers stay behind. The request's were taken away before the gateway said who calls
//! (`stack`).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    body::Body,
    http::{
        Request, Response, Uri,
        uri::{InvalidUri, PathAndQuery},
    },
};

use super::{
    Terms, UpstreamConfig,
    send::{Connections, SendError},
};
use crate::{
    gateway::headers::{strip_forged_cookies, strip_hop_by_hop},
    web::{Kind, Problem},
};

/// One upstream.
pub(super) struct Cluster {
    config: Arc<UpstreamConfig>,
    targets: Box<[Target]>,
    turn: AtomicUsize,
}

/// One address of it.
struct Target {
    connections: Connections,
    /// The path of its base address, put before every request's; without a slash at the end.
    base_path: Box<str>,
}

impl Cluster {
    pub(super) fn new(config: Arc<UpstreamConfig>) -> Self {
        let target = |base: &Uri| Target {
            connections: Connections::new(base),
            base_path: base.path().trim_end_matches('/').into(),
        };
        let targets = config.targets.iter().map(target).collect();
        Self { config, targets, turn: AtomicUsize::new(0) }
    }

    pub(super) const fn config(&self) -> &Arc<UpstreamConfig> {
        &self.config
    }

    /// The upstream's answer, or a problem in its place.
    pub(super) async fn call(&self, request: Request<Body>, terms: &Terms) -> Response<Body> {
        // The path is the client's, and the problem is about that; the target may see another.
        let path = request.uri().path_and_query().cloned();
        match self.answer(request, terms).await {
            Ok(response) => response,
            Err(problem) => problem.render(path.as_ref().map_or("/", PathAndQuery::path)),
        }
    }

    async fn answer(&self, mut request: Request<Body>, terms: &Terms) -> Result<Response<Body>, Problem> {
        let target = self.choose()?;
        if let Some(path) = target.path(request.uri(), terms).map_err(Problem::internal)? {
            *request.uri_mut() = path.into();
        }
        let mut response = match tokio::time::timeout(terms.first_byte, target.connections.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(SendError::Connect(failed) | SendError::Refused(failed) | SendError::Broken(failed))) => {
                return Err(
                    Problem::new(Kind::BAD_GATEWAY, "the upstream could not be reached").caused_by(failed.cause)
                );
            }
            Err(_) => return Err(Problem::new(Kind::GATEWAY_TIMEOUT, "the upstream did not begin its answer in time")),
        };
        strip_hop_by_hop(response.headers_mut());
        strip_forged_cookies(response.headers_mut());
        Ok(response)
    }

    fn choose(&self) -> Result<&Target, Problem> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(self.targets.len());
        turn.and_then(|turn| self.targets.get(turn))
            .ok_or_else(|| Problem::new(Kind::UPSTREAM_UNAVAILABLE, "the route has no target").retry_after(1))
    }
}

impl Target {
    /// The path that the target is to see, if it is not the client's.
    fn path(&self, asked: &Uri, terms: &Terms) -> Result<Option<PathAndQuery>, InvalidUri> {
        let prefix = terms.strip_prefix.as_deref().unwrap_or("");
        if prefix.is_empty() && self.base_path.is_empty() {
            return Ok(None);
        }
        let asked = asked.path_and_query().map_or("/", PathAndQuery::as_str);
        let rest = asked.strip_prefix(prefix).unwrap_or(asked);
        let slash = if rest.starts_with('/') { "" } else { "/" };
        format!("{}{slash}{rest}", self.base_path).parse().map(Some)
    }
}
