//! What is passed on of trailers: those of gRPC, and those that a client says it takes (`TE: trailers`); never a name that
//! says who calls, frames a message or concerns one hop.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::gateway::{
    arrival,
    headers::{strip_hop_by_hop, strip_identity},
};

/// Whether trailers pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trailers {
    /// They do, without the names that may not.
    Pass,
    /// They do not.
    Drop,
}

/// Fields that a trailer may not have (RFC 9110 section 6.5.1), besides those of one hop and of identity.
const NOT_THERE: [header::HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::HOST,
    header::SET_COOKIE,
    header::MAX_FORWARDS,
];

impl Trailers {
    /// A frame as it passes; `None` when nothing of it does.
    pub(super) fn pass(self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let mut trailers = match frame.into_trailers() {
            Ok(trailers) => trailers,
            Err(frame) => return Some(frame),
        };
        if self == Self::Drop {
            return None;
        }
        strip(&mut trailers);
        (!trailers.is_empty()).then(|| Frame::trailers(trailers))
    }
}

/// A body without the trailers that may not pass.
pub(super) struct Passed {
    inner: Body,
    trailers: Trailers,
}

impl Passed {
    pub(super) fn over(body: Body, trailers: Trailers) -> Body {
        if body.is_end_stream() { body } else { Body::new(Self { inner: body, trailers }) }
    }
}

impl HttpBody for Passed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => self.trailers.pass(frame).map(Ok),
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn strip(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    strip_identity(trailers);
    arrival::strip(trailers);
    for name in NOT_THERE {
        trailers.remove(name);
    }
}

/// Whether a client takes trailers: it says so, or it speaks gRPC, which cannot do without.
pub(super) fn are_taken(headers: &HeaderMap) -> bool {
    let says = |value: &HeaderValue| {
        value.to_str().is_ok_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("trailers")))
    };
    headers.get_all(header::TE).iter().any(says)
        || headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers(names: &[&'static str]) -> Frame<Bytes> {
        let pairs = names.iter().map(|name| (header::HeaderName::from_static(name), HeaderValue::from_static("1")));
        Frame::trailers(pairs.collect())
    }

    #[test]
    fn no_trailer_says_who_calls_or_frames_a_message() {
        let sent = [
            "grpc-status",
            "x_tenant_id",
            "x-user-id",
            "tollgate-usage",
            "transfer-encoding",
            "content-length",
            "set-cookie",
        ];
        let passed = Trailers::Pass.pass(trailers(&sent)).unwrap().into_trailers().unwrap();
        assert_eq!(passed.keys().map(header::HeaderName::as_str).collect::<Vec<_>>(), ["grpc-status"]);
        assert!(Trailers::Pass.pass(trailers(&["x-tenant-id"])).is_none());
        assert!(Trailers::Drop.pass(trailers(&["grpc-status"])).is_none());
        assert!(Trailers::Drop.pass(Frame::data(Bytes::from_static(b"x"))).is_some());
    }

    #[test]
    fn trailers_are_for_those_who_take_them() {
        let with = |name: header::HeaderName, value: &'static str| {
            [(name, HeaderValue::from_static(value))].into_iter().collect()
        };
        assert!(are_taken(&with(header::TE, "gzip, Trailers")));
        assert!(are_taken(&with(header::CONTENT_TYPE, "application/grpc+proto")));
        assert!(!are_taken(&with(header::TE, "gzip")) && !are_taken(&HeaderMap::new()));
    }
}
