//! The least rate at which a request's body must come: a client that sends byte by byte holds what a call holds for nothing.
//!
//! What counts is the time that we wait for the client, not the time that it waits for an upstream. Bodies of gRPC are let be:
//! a stream of messages may be silent for long.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    BoxError,
    body::Body,
    extract::Request,
    http::{Version, header},
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// A client may stop for this long, after having kept to the rate.
const CREDIT: Duration = Duration::from_secs(10);

/// The body comes too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the request's body comes at less than {0} bytes a second")]
struct TooSlow(u32);

/// Holds a request's body to a rate, in bytes a second; to none when it is 0.
pub(super) fn hold(request: Request, rate: u32) -> Request {
    hold_with(request, rate, CREDIT)
}

fn hold_with(request: Request, rate: u32, most: Duration) -> Request {
    let kind = request.headers().get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes).unwrap_or_default();
    let is_grpc = request.version() == Version::HTTP_2 && kind.starts_with(b"application/grpc");
    if rate == 0 || is_grpc || request.body().is_end_stream() {
        return request;
    }
    request.map(|inner| Body::new(Paced { inner, rate, credit: most, most, waits: None }))
}

struct Paced {
    inner: Body,
    rate: u32,
    /// How long the client may be waited for, and the most that this can be.
    credit: Duration,
    most: Duration,
    /// Since when it is, and until when.
    waits: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some((since, _)) = this.waits.take() {
                    this.credit = this.credit.saturating_sub(since.elapsed());
                }
                let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
                let earned = u32::try_from(bytes).map_or(this.most, |bytes| Duration::from_secs(1) * bytes / this.rate);
                this.credit = this.credit.saturating_add(earned).min(this.most);
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                let credit = this.credit;
                let waits = this.waits.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(credit))));
                ready!(waits.1.as_mut().poll(cx));
                Poll::Ready(Some(Err(TooSlow(this.rate).into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    /// A body of pieces, each after a pause in milliseconds, read at a rate of 1,000 bytes a second with a second's patience.
    async fn read(pieces: &'static [(u64, usize)], kind: &str) -> Result<usize, String> {
        let pieces = stream::iter(pieces).then(|(pause_ms, bytes)| async move {
            drop(tokio::time::timeout(Duration::from_millis(*pause_ms), std::future::pending::<()>()).await);
            Ok::<_, BoxError>(Bytes::from(vec![0; *bytes]))
        });
        let version = if kind.contains("grpc") { Version::HTTP_2 } else { Version::HTTP_11 };
        let request = Request::post("/").version(version).header(header::CONTENT_TYPE, kind);
        let request = request.body(Body::from_stream(pieces)).unwrap();
        let body = hold_with(request, 1_000, Duration::from_secs(1)).into_body().collect().await;
        body.map(|body| body.to_bytes().len()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_body_that_keeps_to_the_rate_may_pause_and_one_that_trickles_is_broken_off() {
        let (steady, trickling, tired, stream) = tokio::join!(
            read(&[(300, 1_000); 5], "text/plain"),
            read(&[(50, 1); 100], "text/plain"),
            read(&[(0, 1_000_000), (2_000, 1)], "text/plain"),
            read(&[(1_200, 1)], "application/grpc+proto"),
        );
        assert_eq!(steady, Ok(5_000));
        assert!(trickling.unwrap_err().contains("1000 bytes a second"));
        assert!(tired.is_err(), "what was sent before is no excuse");
        assert_eq!(stream, Ok(1));
    }
}
