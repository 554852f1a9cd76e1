//! Accepting connections: hyper's own builder, because it takes a header timeout and explicit limits; on threads of their
//! own (`workers`), and straight to the gateway where the request is its (`front`).

mod front;
mod pace;
mod patient;
mod rewound;
mod serving;
mod short;
mod workers;
mod writing;

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{self, HeaderMap, HeaderName},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use tokio::{net::TcpListener, sync::Semaphore};

pub use front::{Front, OwnPaths};
use serving::Serving;

use crate::{
    gateway::{Arrival, worker},
    kernel::network::{Network, behind_proxies},
    settings::ServerSettings,
    shutdown::Shutdown,
    tls::Acceptor,
    web::{BrokenOff, Kind, Problem, extract::Peer},
};

/// The longest head of a request, in bytes.
const MAX_HEAD: u32 = 64 * 1024;
const MAX_HEAD_BYTES: usize = MAX_HEAD as usize;
/// A connection of HTTP/2 is asked this often whether it is there, and has as long to say so.
const PING: Duration = Duration::from_secs(20);
/// Requests at once on one connection of HTTP/2.
const MAX_STREAMS: u32 = 128;
/// Requests that a client takes back before they were looked at, until its connection is closed (CVE-2023-44487).
const MAX_RESETS: usize = 20;
/// The most headers of a request.
const MAX_HEADERS: usize = 128;
/// After a failed accept (no file descriptors left), this long until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How connections are served.
#[derive(Debug, Clone)]
pub struct Config {
    header_read_timeout: Duration,
    /// In bytes a second.
    min_body_rate: u32,
    workers: usize,
    h2c: bool,
    trusted_proxies: Arc<[Network]>,
    /// Room for more of them.
    connections: Arc<Semaphore>,
    tls: Option<Acceptor>,
}

impl Config {
    /// As the settings say.
    pub fn new(settings: &ServerSettings, tls: Option<Acceptor>) -> Self {
        Self {
            header_read_timeout: settings.header_read_timeout,
            min_body_rate: settings.min_body_rate,
            workers: if settings.workers == 0 { worker::count().min(worker::MOST) } else { settings.workers },
            h2c: settings.h2c,
            trusted_proxies: settings.trusted_proxies.clone().into(),
            connections: Arc::new(Semaphore::new(settings.max_connections)),
            tls,
        }
    }
}

/// A listening socket that workers share; whoever of them is free accepts.
type Listener = std::net::TcpListener;

/// Serves listeners on one thread for each core, until told to stop; then every connection finishes its request, or is cut.
pub fn start(listeners: Vec<(TcpListener, Front)>, config: &Config, shutdown: &Shutdown) -> io::Result<()> {
    let listeners: Vec<(Listener, Front)> =
        listeners.into_iter().map(|(listener, front)| Ok((listener.into_std()?, front))).collect::<io::Result<_>>()?;
    for number in 1..=config.workers {
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
    let mut serving = Serving::new(&config);
    loop {
        let accepted = shutdown.stop.run_until_cancelled(async {
            tokio::select! {
                biased;
                // First, and while there is room for none: it is these that make room.
                () = serving.end_stalled() => None,
                accepted = async {
                    // The semaphore is never closed.
                    let permit = Arc::clone(&config.connections).acquire_owned().await.ok();
                    (permit, listener.accept().await)
                } => Some(accepted),
            }
        });
        let (permit, accepted) = match accepted.await {
            None => break,
            Some(None) => continue,
            Some(Some(accepted)) => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        drop(stream.set_nodelay(true));
        serving.serve(stream, Connection::new(peer.ip(), front.clone(), &config), permit);
    }
    // Told before the port is closed: whoever is refused there knows that what still runs is the last of its connection.
    serving.end();
    drop(listener);
    serving.finish(&shutdown.cut).await;
}

/// One client's connection.
struct Connection {
    peer: IpAddr,
    arrival: Arrival,
    front: Front,
    trusted_proxies: Arc<[Network]>,
    min_body_rate: u32,
    /// It has sent the head of a request.
    begun: AtomicBool,
}

impl Connection {
    fn new(peer: IpAddr, front: Front, config: &Config) -> Self {
        let trusted_proxies = Arc::clone(&config.trusted_proxies);
        let from_proxy = trusted_proxies.iter().any(|network| network.contains(peer));
        let arrival = Arrival::new(peer, config.tls.is_some(), from_proxy);
        let min_body_rate = config.min_body_rate;
        Self { peer, arrival, front, trusted_proxies, min_body_rate, begun: AtomicBool::new(false) }
    }

    async fn answer(&self, request: http::Request<Incoming>) -> Result<Response, BrokenOff> {
        self.begun.store(true, Ordering::Relaxed);
        let mut request = pace::hold(request.map(Body::new), self.min_body_rate);
        let is_gateways = self.front.is_gateways(&request);
        if !is_gateways {
            let client = client_of(self.peer, request.headers(), &self.trusted_proxies);
            request.extensions_mut().insert(Peer(client));
            // For the gateway, should the router leave it to that.
            request.extensions_mut().insert(self.arrival.clone());
        }
        self.front.answer(request, is_gateways.then_some(&self.arrival)).await
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

/// How connections are served, by what they speak.
struct Builders {
    one: http1::Builder,
    two: http2::Builder<TokioExecutor>,
    /// Whichever they begin with.
    either: auto::Builder<TokioExecutor>,
    /// How long the head of a request may take.
    patience: Duration,
}

impl Builders {
    fn new(config: &Config) -> Self {
        let mut one = http1::Builder::new();
        one.timer(TokioTimer::new())
            .header_read_timeout(config.header_read_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS);
        let mut two = http2::Builder::new(TokioExecutor::new());
        two.timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_header_list_size(MAX_HEAD)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let mut either = auto::Builder::new(TokioExecutor::new());
        either
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_read_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS);
        either
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_header_list_size(MAX_HEAD)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        Self { one, two, either, patience: config.header_read_timeout }
    }
}

/// Where administration has a listener of its own, the public one does not have it at all.
pub async fn without_admin(request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/admin/") {
        return Problem::new(Kind::NOT_FOUND, "there is no such thing").render(request.uri().path()).into_response();
    }
    next.run(request).await
}
