//! `[server]`: where to listen, and limits on what comes in.

use std::{net::SocketAddr, path::Path, time::Duration};

use super::read::Reader;
use crate::{
    gateway::worker,
    kernel::network::Network,
    tls::{Pair, TlsError},
};

/// Where to listen when nothing else is said.
const LISTEN: &str = "127.0.0.1:8080";
/// A drain may take this long, in seconds.
const DRAIN_S: i64 = 30;
/// A client may take this long to send a request's head, in seconds.
const HEADER_READ_TIMEOUT_S: i64 = 10;
/// Connections at once.
const MAX_CONNECTIONS: i64 = 16_384;

/// The least rate of a request's body, in bytes a second.
const MIN_BODY_RATE: i64 = 100;

/// `[server]`
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The public listener.
    pub listen: SocketAddr,
    /// A listener for administration alone.
    pub admin_listen: Option<SocketAddr>,
    /// `iss` of tokens; `http://<listen>` when absent.
    pub issuer: Option<String>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// HTTP/2 with prior knowledge.
    pub h2c: bool,
    /// How long a drain may take.
    pub drain: Duration,
    /// How long a request's head may take.
    pub header_read_timeout: Duration,
    /// Connections at once, tunnels among them.
    pub max_connections: usize,
    /// Threads that serve connections; one for each core when it is 0.
    pub workers: usize,
    /// The least rate of a request's body, in bytes a second; none when it is 0.
    pub min_body_rate: u32,
    /// With which both listeners speak TLS.
    pub tls: Option<Pair>,
}

impl ServerSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let listen = reader.parsed::<SocketAddr>("server.listen", LISTEN);
        let admin_listen = reader.optional_string("server.admin_listen").map(|text| {
            text.parse::<SocketAddr>().map_err(|error| reader.fault("server.admin_listen", &error.to_string())).ok()
        });
        let issuer = reader.optional_string("server.issuer").map(|text| issuer(reader, &text));
        let proxies = reader.strings("server.trusted_proxies", &[]);
        let proxy = |text: String| {
            text.parse().map_err(|error| reader.fault("server.trusted_proxies", &format!("{text}: {error}"))).ok()
        };
        let trusted_proxies = proxies.and_then(|texts| texts.into_iter().map(proxy).collect());
        let h2c = reader.switch("server.h2c", false);
        let drain = reader.number("server.drain_s", DRAIN_S, 0, 3_600);
        let header = reader.number("server.header_read_timeout_s", HEADER_READ_TIMEOUT_S, 1, 600);
        let rate = reader.number("server.min_body_rate", MIN_BODY_RATE, 0, 1 << 30);
        let most = reader.number("server.max_connections", MAX_CONNECTIONS, 1, 1 << 20);
        let workers = reader.number("server.workers", 0, 0, i64::try_from(worker::MOST).unwrap_or(64));
        let tls = match reader.table("server.tls") {
            None => None,
            Some(mut table) => {
                let pair = read_tls(&mut table);
                reader.finish_item("server.tls", table);
                pair
            }
        };
        let secs = |secs: i64| Duration::from_secs(secs.unsigned_abs());
        Some(Self {
            listen: listen?,
            admin_listen: match admin_listen {
                None => None,
                Some(address) => Some(address?),
            },
            issuer: match issuer {
                None => None,
                Some(issuer) => Some(issuer?),
            },
            trusted_proxies: trusted_proxies?,
            h2c: h2c?,
            drain: secs(drain?),
            header_read_timeout: secs(header?),
            max_connections: usize::try_from(most?).unwrap_or(1),
            workers: usize::try_from(workers?).unwrap_or(0),
            min_body_rate: u32::try_from(rate?).unwrap_or(0),
            tls,
        })
    }
}

impl ServerSettings {
    /// `iss` of our tokens.
    pub fn issuer(&self) -> String {
        self.issuer
            .clone()
            .unwrap_or_else(|| format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.listen))
    }
}

/// Certificate and key, read and tried: what cannot be used is a fault.
fn read_tls(table: &mut Reader) -> Option<Pair> {
    let mut path = |key: &str| {
        let path = table.string(key, "").filter(|path| !path.is_empty());
        if path.is_none() {
            table.fault(key, "must be the path of a file in PEM");
        }
        path
    };
    let (cert, key) = (path(".cert"), path(".key"));
    match Pair::read(Path::new(&cert?), Path::new(&key?)) {
        Ok(pair) => Some(pair),
        Err(error) => {
            let of = if matches!(error, TlsError::Certificate { .. }) { ".cert" } else { ".key" };
            table.fault(of, &error.to_string());
            None
        }
    }
}

/// An issuer is an address without query or fragment (OIDC Discovery section 3); without a slash at the end, so that
/// paths can be put behind it.
fn issuer(reader: &mut Reader, text: &str) -> Option<String> {
    let fine = url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
            && !text.ends_with('/')
    });
    if !fine {
        reader.fault("server.issuer", "must be an http or https address without query, fragment or a slash at the end");
    }
    fine.then(|| text.to_owned())
}
