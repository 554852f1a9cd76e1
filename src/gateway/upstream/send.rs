//! Connections to one target. The request comes with the path that the target is to see; its `Host`, the form of its
//! address and its version are set here. Whom to send to, and whether again, is the cluster's affair.

use std::time::Duration;

use axum::{
    BoxError,
    body::Body,
    http::{HeaderValue, Request, Response, Uri, Version, header, uri::PathAndQuery},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::direct::Direct;

/// A connection is given this long to come about.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// An idle connection is kept this long.
const IDLE: Duration = Duration::from_mins(1);

/// Connections to one target.
pub(super) struct Connections {
    /// The short way, for all but what changes the protocol.
    direct: Option<Direct>,
    client: Client<HttpConnector, Body>,
    base: Uri,
    host: Option<HeaderValue>,
}

/// Why there is no answer.
pub(super) enum SendError {
    /// Nothing was sent.
    Connect(Failed),
    /// The target did not begin: it said so, or an idle connection was closed before a byte of an answer.
    #[expect(dead_code, reason = "the client below tries those again itself")]
    Refused(Failed),
    /// Something may have reached the target.
    Broken(Failed),
}

/// What went wrong, and the request if it is whole: its head kept, nothing of its body read.
pub(super) struct Failed {
    pub(super) cause: Cause,
    #[expect(dead_code, reason = "nobody sends it again yet")]
    pub(super) request: Option<Box<Request<Body>>>,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[error("the target gave no answer")]
pub(super) struct Cause(#[source] BoxError);

impl Failed {
    pub(super) fn with(cause: impl Into<BoxError>, request: Option<Box<Request<Body>>>) -> Self {
        Self { cause: Cause(cause.into()), request }
    }

    fn for_good(cause: impl Into<BoxError>) -> Self {
        Self { cause: Cause(cause.into()), request: None }
    }
}

impl Connections {
    /// None yet; they are made when they are needed.
    pub(super) fn new(base: &Uri) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let host = base.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        let direct = host.as_ref().zip(base.host()).filter(|_| base.scheme_str() == Some("http"));
        let direct = direct.map(|(host, name)| Direct::new(name, base.port_u16().unwrap_or(80), host.clone()));
        Self { direct, client, base: base.clone(), host }
    }

    /// The head of the target's answer; its body flows as it is read.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, SendError> {
        if let Some(direct) = &self.direct
            && !request.headers().contains_key(header::UPGRADE)
        {
            return direct.send(request).await;
        }
        if let Some(host) = &self.host {
            request.headers_mut().insert(header::HOST, host.clone());
        }
        let mut parts = self.base.clone().into_parts();
        let path = request.uri().path_and_query().cloned();
        parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        // A base has a scheme and an authority, so that the whole is an address.
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = Version::HTTP_11;
        match self.client.request(request).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(error) if error.is_connect() => Err(SendError::Connect(Failed::for_good(error))),
            Err(error) => Err(SendError::Broken(Failed::for_good(error))),
        }
    }
}
