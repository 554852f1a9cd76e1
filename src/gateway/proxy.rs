//! Forwarding to an HTTP upstream: bodies stream both ways, the answer's hop-by-hop headers stay behind. The request's
//! were taken away before the gateway said who calls (`stack`).

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, Uri, header, uri::PathAndQuery},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::service_fn;

use super::{
    headers::{strip_forged_cookies, strip_hop_by_hop},
    stack::{Upstream, boxed},
};
use crate::web::{Kind, Problem};

/// A connection is given this long to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// An idle connection is kept this long.
const IDLE: Duration = Duration::from_mins(1);

type HttpClient = Client<HttpConnector, Body>;

/// Where requests of a route go.
#[derive(Debug, Clone)]
pub struct Targets {
    /// Base addresses, taken in turn.
    pub addresses: Vec<Uri>,
    /// Taken off the path before forwarding.
    pub strip_prefix: Option<String>,
    /// How long the upstream may take to begin its answer.
    pub timeout: Duration,
}

struct Proxy {
    client: HttpClient,
    targets: Targets,
    turn: AtomicUsize,
}

/// The client that all routes share.
pub(super) fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).build(connector)
}

/// A service that forwards and never fails: what cannot be reached is answered with a problem.
pub(super) fn forward(client: HttpClient, targets: Targets) -> Upstream {
    let proxy = Arc::new(Proxy { client, targets, turn: AtomicUsize::new(0) });
    boxed(service_fn(move |request: Request<Body>| {
        let proxy = Arc::clone(&proxy);
        async move {
            let path = request.uri().path().to_owned();
            Ok::<_, Infallible>(proxy.send(request).await.unwrap_or_else(|problem| problem.render(&path)))
        }
    }))
}

impl Proxy {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Problem> {
        let target = self.target(request.uri())?;
        let host = target.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, host);
        }
        *request.uri_mut() = target;
        *request.version_mut() = axum::http::Version::HTTP_11;
        let answer = tokio::time::timeout(self.targets.timeout, self.client.request(request)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                return Err(Problem::new(Kind::BAD_GATEWAY, "the upstream could not be reached").caused_by(error));
            }
            Err(_) => return Err(Problem::new(Kind::GATEWAY_TIMEOUT, "the upstream did not begin its answer in time")),
        };
        let mut response = response.map(Body::new);
        strip_hop_by_hop(response.headers_mut());
        strip_forged_cookies(response.headers_mut());
        Ok(response)
    }

    fn target(&self, uri: &Uri) -> Result<Uri, Problem> {
        let unavailable = || Problem::new(Kind::UPSTREAM_UNAVAILABLE, "the route has no target").retry_after(1);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.targets.addresses.len();
        let base =
            self.targets.addresses.get(turn.checked_rem(count).ok_or_else(unavailable)?).ok_or_else(unavailable)?;
        let path = self.path(uri, base);
        let mut parts = base.clone().into_parts();
        parts.path_and_query = Some(path.parse::<PathAndQuery>().map_err(Problem::internal)?);
        Uri::from_parts(parts).map_err(Problem::internal)
    }

    fn path(&self, uri: &Uri, base: &Uri) -> String {
        let asked = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let prefix = self.targets.strip_prefix.as_deref().map(|prefix| prefix.trim_end_matches('/'));
        let rest = prefix.and_then(|prefix| asked.strip_prefix(prefix)).unwrap_or(asked);
        let slash = if rest.starts_with('/') { "" } else { "/" };
        format!("{}{slash}{rest}", base.path().trim_end_matches('/'))
    }
}
