//! `[server]`: where to listen, and limits on what comes in.

use std::{net::SocketAddr, time::Duration};

use super::read::Reader;
use crate::kernel::network::Network;

/// Where to listen when nothing else is said.
const LISTEN: &str = "127.0.0.1:8080";
/// A drain may take this long, in seconds.
const DRAIN_S: i64 = 30;
/// A client may take this long to send a request's head, in seconds.
const HEADER_READ_TIMEOUT_S: i64 = 10;

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
        if reader.take("server.tls").is_some() {
            reader.fault("server.tls", "is not served yet: put a TLS proxy in front");
        }
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
        })
    }
}

impl ServerSettings {
    /// `iss` of our tokens.
    pub fn issuer(&self) -> String {
        self.issuer.clone().unwrap_or_else(|| format!("http://{}", self.listen))
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
