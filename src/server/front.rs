//! What answers a request: the gateway itself, on the thread that read it, where a route has it; the router, on the
//! runtime that the store's connections belong to, for everything else.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Version, header, uri::Authority},
    response::Response,
};
use bytes::BytesMut;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

use crate::{
    gateway::{
        Arrival, Gateway,
        short::{Beginning, Client},
    },
    web::{BrokenOff, Kind, Problem},
};

/// The paths that the router has, by its own rules of matching.
#[derive(Clone, Default)]
pub struct OwnPaths(matchit::Router<()>);

impl OwnPaths {
    /// Of paths in the router's syntax.
    pub fn of<'p>(paths: impl Iterator<Item = &'p str>) -> Self {
        let mut own = matchit::Router::new();
        for path in paths {
            // Twice the same, or what the router itself would have refused.
            drop(own.insert(path, ()));
        }
        Self(own)
    }

    /// Whether the router has a path.
    pub fn have(&self, path: &str) -> bool {
        self.0.at(path).is_ok()
    }
}

/// Answers the requests of a listener; cheap to clone.
#[derive(Clone)]
pub struct Front {
    shared: Arc<Shared>,
}

struct Shared {
    router: Router,
    gateway: Option<(Gateway, OwnPaths)>,
    runtime: Handle,
}

impl Front {
    /// Everything goes to the router, which runs where this is called.
    pub fn new(router: Router) -> Self {
        Self { shared: Arc::new(Shared { router, gateway: None, runtime: Handle::current() }) }
    }

    /// Paths that the router does not have go to the gateway at once. The router's fallback must be the same gateway.
    pub fn with_gateway(router: Router, gateway: Gateway, own: OwnPaths) -> Self {
        Self { shared: Arc::new(Shared { router, gateway: Some((gateway, own)), runtime: Handle::current() }) }
    }

    /// Whether a request is the gateway's.
    pub(super) fn is_gateways(&self, request: &Request) -> bool {
        self.shared.gateway.as_ref().is_some_and(|(_, own)| !own.have(request.uri().path()))
    }

    /// Answers; an answer that is broken off is an error, and ends the connection or the stream. What is the gateway's
    /// ([`Self::is_gateways`]) came with this arrival; anything else has it in its extensions.
    pub(super) async fn answer(&self, request: Request, arrival: Option<&Arrival>) -> Result<Response, BrokenOff> {
        if let Some(why) = ambiguity(&request) {
            let problem = Problem::new(Kind::MALFORMED, why);
            return Ok(problem
                .header(header::CONNECTION, HeaderValue::from_static("close"))
                .render(request.uri().path()));
        }
        let answered = match (&self.shared.gateway, arrival) {
            (Some((gateway, _)), Some(arrival)) => gateway.answer(request, Some(arrival)).await,
            _ => Err(request),
        };
        let response = match answered {
            Ok(response) => response,
            // What no route has, the router knows how to refuse.
            Err(request) => self.by_router(request).await?,
        };
        match response.extensions().get::<BrokenOff>() {
            Some(broken_off) => Err(*broken_off),
            None => Ok(response),
        }
    }

    /// Begins the call at the beginning of what was read, if it goes the gateway's short way.
    pub(super) async fn begin(&self, read: &mut BytesMut, client: &mut Client) -> Beginning {
        match &self.shared.gateway {
            Some((gateway, own)) => gateway.begin(read, client, |path| own.have(path)).await,
            None => Beginning::Other,
        }
    }

    async fn by_router(&self, request: Request) -> Result<Response, BrokenOff> {
        let answer = self.shared.router.clone().oneshot(request);
        match AbortOnDropHandle::new(self.shared.runtime.spawn(answer)).await {
            Ok(Ok(response)) => Ok(response),
            // A panic was answered by the router; this is the end of the runtime.
            Err(_) => Err(BrokenOff),
        }
    }
}

/// Why a request is refused that two programs could read differently and hyper lets through: without exactly one valid
/// `Host` (RFC 9112 section 3.2), or in a transfer coding besides `chunked` (section 6.1). Contradicting lengths are
/// refused by hyper; with a length beside a transfer coding it follows the coding and ends the connection (section 6.3).
fn ambiguity(request: &Request) -> Option<&'static str> {
    let is_host = |host: &HeaderValue| {
        let bytes = host.as_bytes();
        bytes.is_empty() || (!bytes.contains(&b'@') && Authority::try_from(bytes).is_ok())
    };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => return Some("a Host header is needed"),
        (Some(_), Some(_)) => return Some("there is more than one Host header"),
        (Some(host), None) if !is_host(host) => return Some("the Host header names no host"),
        _ => {}
    }
    match (codings.next(), codings.next()) {
        (None, _) => None,
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => None,
        _ => Some("a body can be chunked, once, and nothing else"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_routers_by_the_routers_own_rules() {
        let own = OwnPaths::of(["/v1/me", "/v1/users/{id}", "/lab/issuers/{name}/{*path}"].into_iter());
        for path in ["/v1/me", "/v1/users/7", "/lab/issuers/okta/oauth2/v1/keys"] {
            assert!(own.have(path), "{path}");
        }
        for path in ["/v1/items/1", "/v1/users/7/more", "/v1", "/", "/v1/me/"] {
            assert!(!own.have(path), "{path}");
        }
    }
}
