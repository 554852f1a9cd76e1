//! Accepting connections: hyper's own builder, because it takes a header timeout and explicit limits; on threads of their
//! own (`workers`), and straight to the gateway where the request is its (`front`).

mod front;
mod workers;

use std::{cell::Cell, future::Future, io, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{self, HeaderMap, HeaderName},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

pub use front::{Front, OwnPaths};

use crate::{
    gateway::worker,
    kernel::network::{Network, behind_proxies},
    settings::ServerSettings,
    shutdown::Shutdown,
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
    /// Room for more of them.
    connections: Arc<Semaphore>,
}

impl From<&ServerSettings> for Config {
    fn from(settings: &ServerSettings) -> Self {
        Self {
            header_read_timeout: settings.header_read_timeout,
            h2c: settings.h2c,
            trusted_proxies: settings.trusted_proxies.clone().into(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }
    }
}

/// A listening socket that workers share; whoever of them is free accepts.
type Listener = std::net::TcpListener;

/// Serves listeners on one thread for each core, until told to stop; then every connection finishes its request, or is cut.
pub fn start(listeners: Vec<(TcpListener, Front)>, config: &Config, shutdown: &Shutdown) -> io::Result<()> {
    let listeners: Vec<(Listener, Front)> =
        listeners.into_iter().map(|(listener, front)| Ok((listener.into_std()?, front))).collect::<io::Result<_>>()?;
    for number in 1..=worker::count() {
        let own = listeners.iter().map(|(listener, front)| Ok((listener.try_clone()?, front.clone())));
        workers::start(number, own.collect::<io::Result<_>>()?, config.clone(), shutdown)?;
    }
    Ok(())
}

async fn serve(listener: Listener, front: Front, config: Config, shutdown: Shutdown) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a worker cannot listen");
            return;
        }
    };
    let graceful = GracefulShutdown::new();
    let builder = Rc::new(builder(&config));
    let mut connections = JoinSet::new();
    loop {
        let accepted = shutdown.stop.run_until_cancelled(async {
            // The semaphore is never closed.
            let permit = Arc::clone(&config.connections).acquire_owned().await.ok();
            (permit, listener.accept().await)
        });
        let Some((permit, accepted)) = accepted.await else { break };
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        drop(stream.set_nodelay(true));
        let connection = Connection::new(peer.ip(), front.clone(), &config);
        let (builder, watcher) = (Rc::clone(&builder), graceful.watcher());
        let (cut, patience) = (shutdown.cut.clone(), config.header_read_timeout);
        connections.spawn_local(async move {
            let _permit = permit;
            let service = Rc::new(connection);
            let begun = Rc::clone(&service);
            let served = builder.serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| {
                    let connection = Rc::clone(&service);
                    async move { connection.answer(request).await }
                }),
            );
            // A client that breaks off is no event of ours.
            tokio::select! {
                _ = watcher.watch(served.into_owned()) => {}
                () = cut.cancelled() => {}
                () = stalled(&begun.begun, patience) => {}
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
}

/// One client's connection.
struct Connection {
    peer: IpAddr,
    front: Front,
    trusted_proxies: Arc<[Network]>,
    /// It has sent the head of a request.
    begun: Cell<bool>,
}

impl Connection {
    fn new(peer: IpAddr, front: Front, config: &Config) -> Self {
        let trusted_proxies = Arc::clone(&config.trusted_proxies);
        Self { peer, front, trusted_proxies, begun: Cell::new(false) }
    }

    async fn answer(&self, request: http::Request<Incoming>) -> Result<Response, BrokenOff> {
        self.begun.set(true);
        let mut request = request.map(Body::new);
        if !self.front.is_gateways(&request) {
            let client = client_of(self.peer, request.headers(), &self.trusted_proxies);
            request.extensions_mut().insert(Peer(client));
        }
        self.front.answer(request).await
    }
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

/// Runs what hyper starts, on the thread that it starts it on.
#[derive(Clone, Copy)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, future: F) {
        // A stream of a connection: it ends with the connection, which a drain waits for.
        drop(tokio::task::spawn_local(future));
    }
}

/// Resolves when a connection has not begun a request in time. hyper's own timer starts when it knows the protocol, which
/// a client need never tell.
async fn stalled(begun: &Cell<bool>, patience: Duration) {
    tokio::time::sleep(patience).await;
    if begun.get() {
        std::future::pending::<()>().await;
    }
}

fn builder(config: &Config) -> auto::Builder<OnThisThread> {
    let mut builder = auto::Builder::new(OnThisThread);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(256).max_header_list_size(64 * 1024);
    if config.h2c { builder } else { builder.http1_only() }
}

/// Where administration has a listener of its own, the public one does not have it at all.
pub async fn without_admin(request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/admin/") {
        return Problem::new(Kind::NOT_FOUND, "there is no such thing").render(request.uri().path()).into_response();
    }
    next.run(request).await
}
