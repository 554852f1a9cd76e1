//! Connections to one target. The request comes with the path that the target is to see; its `Host`, the form of its
//! address and its version are set here. Whom to send to, and whether again, is the cluster's affair.
//!
//! Trailers of a request reach HTTP/2 targets, and were looked at before; to HTTP/1.1 ones there are none.

use std::time::Duration;

use axum::{
    BoxError,
    body::Body,
    http::{HeaderValue, Request, Response, Uri, Version, header, uri::PathAndQuery},
};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Builder, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};

use super::{Protocol, UpstreamConfig, direct::Direct};

/// An idle connection is kept this long.
const IDLE: Duration = Duration::from_mins(1);

/// A connection of HTTP/2 is asked this often whether it is there, and has as long to say so.
const PING: Duration = Duration::from_secs(20);

/// Connections to one target.
pub(super) struct Connections {
    /// The short way to what speaks HTTP/1.1 without TLS, for all but a change of protocol.
    direct: Option<Direct>,
    way: Way,
    base: Uri,
    /// What is said in `Host`; HTTP/2 has it in the address.
    host: Option<HeaderValue>,
}

enum Way {
    Plain(Client<HttpConnector, Body>),
    Tls(Client<HttpsConnector<HttpConnector>, Body>),
}

/// Why there is no answer.
pub(super) enum SendError {
    /// Nothing was sent.
    Connect(Cause),
    /// Something may have reached the target.
    Broken(Cause),
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[error("the target gave no answer")]
pub(super) struct Cause(#[source] pub(super) BoxError);

impl Connections {
    /// None yet; they are made when they are needed.
    pub(super) fn new(base: &Uri, config: &UpstreamConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(config.connect));
        tcp.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).timer(TokioTimer::new());
        builder.http2_only(config.http == Protocol::Two);
        // A target that is gone without a word would take every request until its connection is given up.
        builder.http2_keep_alive_interval(PING).http2_keep_alive_timeout(PING).http2_keep_alive_while_idle(true);
        let way = if base.scheme_str() == Some("https") {
            Way::Tls(with_tls(&builder, tcp, config))
        } else {
            Way::Plain(builder.build(tcp))
        };
        let host = base.authority().filter(|_| config.http == Protocol::One);
        let host = host.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        let plain = host.as_ref().zip(base.host()).filter(|_| base.scheme_str() == Some("http"));
        let port = base.port_u16().unwrap_or(80);
        let direct = plain.map(|(host, name)| Direct::new((name, port), host.clone(), config.connect));
        Self { direct, way, base: base.clone(), host }
    }

    /// The short way, where there is one.
    pub(super) const fn direct(&self) -> Option<&Direct> {
        self.direct.as_ref()
    }

    /// The head of the target's answer; its body flows as it is read.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, SendError> {
        if let Some(direct) = &self.direct
            && !request.headers().contains_key(header::UPGRADE)
        {
            return direct.send(request).await;
        }
        // hyper asks for the body whatever an upstream says.
        request.headers_mut().remove(header::EXPECT);
        match &self.host {
            Some(host) => drop(request.headers_mut().insert(header::HOST, host.clone())),
            None => drop(request.headers_mut().remove(header::HOST)),
        }
        let mut parts = self.base.clone().into_parts();
        let path = request.uri().path_and_query().cloned();
        parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        // A base has a scheme and an authority, so that the whole is an address.
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = Version::HTTP_11;
        let answer = match &self.way {
            Way::Plain(client) => client.request(request),
            Way::Tls(client) => client.request(request),
        };
        match answer.await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(error) if error.is_connect() => Err(SendError::Connect(Cause(error.into()))),
            Err(error) => Err(SendError::Broken(Cause(error.into()))),
        }
    }
}

fn with_tls(
    builder: &Builder,
    mut tcp: HttpConnector,
    config: &UpstreamConfig,
) -> Client<HttpsConnector<HttpConnector>, Body> {
    tcp.enforce_http(false);
    let tls = ClientConfig::builder();
    let tls = match &config.ca {
        None => tls.with_webpki_roots(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            // The settings tried each of them.
            roots.add_parsable_certificates(authorities.iter().cloned());
            tls.with_root_certificates(roots)
        }
    };
    let https = HttpsConnectorBuilder::new().with_tls_config(tls.with_no_client_auth()).https_only();
    let connector = match config.http {
        Protocol::One => https.enable_http1().wrap_connector(tcp),
        Protocol::Two => https.enable_http2().wrap_connector(tcp),
    };
    builder.build(connector)
}
