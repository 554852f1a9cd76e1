//! Changing the protocol of a connection (RFC 9110 section 7.8), WebSocket above all: the client's wish is passed on, and
//! only after the upstream's 101, and for WebSocket only with the answer to the client's key (RFC 6455 section 4.1), does a
//! tunnel take the place of the two connections.

use aws_lc_rs::digest;
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Request, Response, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::upgrade::OnUpgrade;

use super::{
    Background,
    hop::Hop,
    target::InFlight,
    tunnel::{Ends, Tunnel},
};
use crate::{
    gateway::headers::{strip_forged_cookies, strip_hop_by_hop},
    identity::TokenLife,
};

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
/// RFC 6455 section 1.3.
const WEBSOCKET: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A change of protocol that a client wants.
pub(super) struct Upgrade {
    client: OnUpgrade,
    protocol: HeaderValue,
    /// What the upstream must say in `Sec-WebSocket-Accept`.
    accept: Option<HeaderValue>,
    /// When the client's token ends.
    life: Option<TokenLife>,
}

impl Upgrade {
    /// Says the client's wish to the upstream, if it has one.
    pub(super) fn begin(hop: &Hop, request: &mut Request<Body>) -> Option<Self> {
        let protocol = hop.upgrade.clone()?;
        let client = hyper::upgrade::on(&mut *request);
        let life = hop.life.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, protocol.clone());
        let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
        let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_websocket);
        let accept = key.and_then(|key| HeaderValue::try_from(accept_of(key)).ok());
        Some(Self { client, protocol, accept, life })
    }

    /// Whether an answer changes to what was asked for.
    pub(super) fn is_agreed(&self, response: &Response<Body>) -> bool {
        let only = |name: HeaderName| {
            let mut values = response.headers().get_all(name).iter();
            values.next().filter(|_| values.next().is_none())
        };
        let protocol =
            only(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(self.protocol.as_bytes()));
        let is_websocket = self.protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
        // Without a key there is nothing to accept.
        protocol
            && (!is_websocket || (self.accept.is_some() && only(header::SEC_WEBSOCKET_ACCEPT) == self.accept.as_ref()))
    }

    /// The 101 for the client, and a tunnel behind it.
    pub(super) fn tunnel(
        self,
        mut response: Response<Body>,
        background: &Background,
        idle: Option<std::time::Duration>,
        in_flight: Option<InFlight>,
    ) -> Response<Body> {
        let upstream = hyper::upgrade::on(&mut response);
        let ends = Ends { client: self.client, upstream, idle, life: self.life };
        let tunnel = Tunnel::default();
        background.served.spawn(tunnel.clone().run(ends, background.clone(), in_flight));
        strip_hop_by_hop(response.headers_mut());
        strip_forged_cookies(response.headers_mut());
        response.headers_mut().insert(header::CONNECTION, UPGRADE);
        response.headers_mut().insert(header::UPGRADE, self.protocol);
        response.extensions_mut().insert(tunnel);
        response.map(|_| Body::empty())
    }
}

fn accept_of(key: &HeaderValue) -> String {
    // SHA-1 is what the RFC says; it proves that the other side speaks WebSocket, and nothing else.
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(WEBSOCKET.as_bytes());
    STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_rfc_shows() {
        // RFC 6455 section 1.3.
        assert_eq!(accept_of(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
