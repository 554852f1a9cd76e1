//! Accepting connections: hyper's own builder, because it takes a header timeout and explicit limits.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Version, header, uri::Authority},
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tower::ServiceExt as _;

use crate::{
    kernel::network::{Network, behind_proxies},
    settings::ServerSettings,
    shutdown::Shutdown,
    tls::{self, Acceptor},
    web::{BrokenOff, Kind, Problem, extract::Peer},
};

/// Connections at once.
const MAX_CONNECTIONS: usize = 16_384;
/// The longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most headers of a request.
const MAX_HEADERS: usize = 128;
/// After a failed accept (no file descriptors left), this long until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How connections are served.
#[derive(Debug, Clone)]
pub struct Config {
    header_read_timeout: Duration,
    h2c: bool,
    trusted_proxies: Arc<[Network]>,
    tls: Option<Acceptor>,
}

impl Config {
    /// As the settings say.
    pub fn new(settings: &ServerSettings, tls: Option<Acceptor>) -> Self {
        Self {
            header_read_timeout: settings.header_read_timeout,
            h2c: settings.h2c,
            trusted_proxies: settings.trusted_proxies.clone().into(),
            tls,
        }
    }
}

/// Serves until told to stop, then lets every connection finish its request, or be cut.
pub async fn serve(listener: TcpListener, router: Router, config: Config, shutdown: Shutdown) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let secure = builder(&config);
    let plain = if config.h2c { secure.clone() } else { secure.clone().http1_only() };
    let (plain, secure) = (Arc::new(plain), Arc::new(secure));
    let router = router.layer(from_fn(unambiguous));
    let patience = config.header_read_timeout;
    loop {
        let accepted = shutdown.stop.run_until_cancelled(async {
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            (permit, listener.accept().await)
        });
        let Some((permit, accepted)) = accepted.await else { break };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        drop(stream.set_nodelay(true));
        let begun = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&begun);
        let trusted = Arc::clone(&config.trusted_proxies);
        let service = router.clone().map_request(move |request: Request<_>| {
            noted.store(true, Ordering::Relaxed);
            let mut request = request.map(axum::body::Body::new);
            let client = client_of(peer.ip(), request.headers(), &trusted);
            request.extensions_mut().insert(Peer(client));
            request
        });
        let service = TowerToHyperService::new(service.map_result(unless_broken_off));
        let (plain, secure) = (Arc::clone(&plain), Arc::clone(&secure));
        let watcher = graceful.watcher();
        let cut = shutdown.cut.clone();
        let tls = config.tls.clone();
        shutdown.tasks.spawn(async move {
            let _permit = permit;
            let connection = async {
                // A client that breaks off is no event of ours.
                match tls {
                    None => {
                        let connection = plain.serve_connection_with_upgrades(TokioIo::new(stream), service);
                        drop(watcher.watch(connection.into_owned()).await);
                    }
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        // What was agreed on, and not what the first bytes look like.
                        let builder = (*secure).clone();
                        let builder = if tls::is_http2(&stream) { builder.http2_only() } else { builder.http1_only() };
                        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
                        drop(watcher.watch(connection.into_owned()).await);
                    }
                }
            };
            tokio::select! {
                () = connection => {}
                () = cut.cancelled() => {}
                () = stalled(&begun, patience) => {}
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Who sent a request, as far as we and our proxies know.
fn client_of(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    if trusted.is_empty() {
        return peer;
    }
    let values = headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
    behind_proxies(peer, hops.into_iter(), trusted)
}

/// hyper answers nothing when a service fails, and ends the connection or the stream.
fn unless_broken_off(answer: Result<Response, Infallible>) -> Result<Response, BrokenOff> {
    let response = answer?;
    match response.extensions().get::<BrokenOff>() {
        Some(broken_off) => Err(*broken_off),
        None => Ok(response),
    }
}

/// Resolves when a connection has not begun a request in time. hyper's own timer starts when it knows the protocol, which
/// a client need never tell.
async fn stalled(begun: &AtomicBool, patience: Duration) {
    tokio::time::sleep(patience).await;
    if begun.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

fn builder(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(256).max_header_list_size(64 * 1024);
    builder
}

/// Refuses a request that two programs could read differently and hyper lets through: without exactly one valid `Host`
/// (RFC 9112 section 3.2), or in a transfer coding besides `chunked` (section 6.1). Contradicting lengths are refused by
/// hyper; with a length beside a transfer coding it follows the coding and ends the connection (section 6.3).
async fn unambiguous(request: Request, next: Next) -> Response {
    match ambiguity(&request) {
        None => next.run(request).await,
        Some(why) => {
            let problem = Problem::new(Kind::MALFORMED, why);
            problem.header(header::CONNECTION, HeaderValue::from_static("close")).render(request.uri().path())
        }
    }
}

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

/// Where administration has a listener of its own, the public one does not have it at all.
pub async fn without_admin(request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/admin/") {
        return Problem::new(Kind::NOT_FOUND, "there is no such thing").render(request.uri().path()).into_response();
    }
    next.run(request).await
}
