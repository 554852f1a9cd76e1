//! Whence a request comes, as far as we can tell: the other end of its connection or of a trusted proxy's, and our own cookies.

use std::net::IpAddr;

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::Response,
};

use crate::{identity::Origin, kernel::Secret, store::acting_from};

/// The cookie of a browser that signed in here before.
pub const DEVICE_COOKIE: &str = "tollgate_device";

/// The cookie of a browser that is signed in.
pub const BROWSER_COOKIE: &str = "tollgate_browser";

/// Who is at the other end of a request, noted by who accepted its connection: what proxies say is believed or not there.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Has the audit say from where what a request does was asked for.
pub async fn noted(request: Request, next: Next) -> Response {
    let address = request.extensions().get::<Peer>().map(|Peer(address)| address.to_canonical());
    acting_from(address, next.run(request)).await
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = std::convert::Infallible;

    /// `Forwarded` and `X-Forwarded-For` are whatever a client likes, and are not read here.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let address = parts.extensions.get::<Peer>().map(|Peer(address)| *address);
        let device = cookie(&parts.headers, DEVICE_COOKIE).map(str::to_owned);
        let browser = cookie(&parts.headers, BROWSER_COOKIE).map(|secret| Secret::new(secret.to_owned()));
        Ok(Self { address, device, browser })
    }
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
}
