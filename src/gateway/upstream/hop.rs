//! What a client says of its own hop that an upstream is to hear of: that it wants another protocol, that it takes trailers.
//! Both go away with the hop's headers, and are said anew.

use axum::{
    body::Body,
    http::{HeaderValue, Request, Version, header},
};

use crate::identity::TokenLife;

use super::{
    Protocol,
    trailers::{self, Passed, Trailers},
};

/// Left in a request's extensions when there is something to say.
#[derive(Clone, Default)]
pub(in crate::gateway) struct Hop {
    /// The protocol that the client wants to change to.
    pub(super) upgrade: Option<HeaderValue>,
    /// Whether it takes trailers.
    pub(super) trailers: bool,
    /// What its token lives by, where it wants another protocol.
    pub(super) life: Option<TokenLife>,
}

impl Hop {
    /// Notes it down, before the headers that say it are taken away.
    pub(in crate::gateway) fn note(request: &mut Request<Body>, life: impl FnOnce() -> Option<TokenLife>) {
        let headers = request.headers();
        let trailers = trailers::are_taken(headers);
        // An upgrade that `Connection` does not name is not meant for us, and HTTP/2 has none (RFC 9110 section 7.8).
        // Of another protocol (`h2c`) we would carry requests that nobody looked at.
        let is_known = |value: &&HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
        let upgrade = headers.get(header::UPGRADE).filter(|_| request.version() == Version::HTTP_11).filter(is_known);
        let named = |value: &HeaderValue| {
            value.to_str().is_ok_and(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case("upgrade")))
        };
        let upgrade = upgrade.filter(|_| headers.get_all(header::CONNECTION).iter().any(named)).cloned();
        if trailers || upgrade.is_some() {
            let life = upgrade.as_ref().and_then(|_| life());
            request.extensions_mut().insert(Self { upgrade, trailers, life });
        }
    }

    /// Which trailers of an answer pass. HTTP/1.1 has none that `Trailer` does not name, and that stays behind.
    pub(super) fn answers_trailers(&self, version: Version) -> Option<Trailers> {
        if self.trailers {
            return Some(Trailers::Pass);
        }
        (version == Version::HTTP_2).then_some(Trailers::Drop)
    }

    /// Says to the upstream what it is to hear, and lets no trailers of the request pass that may not.
    pub(super) fn pass_on(&self, mut request: Request<Body>, protocol: Protocol) -> Request<Body> {
        const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
        if self.trailers {
            request.headers_mut().insert(header::TE, TRAILERS);
        }
        match protocol {
            Protocol::Two => {
                let trailers = if self.trailers { Trailers::Pass } else { Trailers::Drop };
                request.map(|body| Passed::over(body, trailers))
            }
            Protocol::One => {
                if self.trailers {
                    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("te"));
                }
                request
            }
        }
    }
}
