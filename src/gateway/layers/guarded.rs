//! A response's body that ends with the token that it was asked for with: a stream outlives neither `exp` nor a withdrawal.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    BoxError,
    body::Body,
    http::{Response, header},
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{gateway::directory::BoxFuture, identity::TokenLife};

/// A body of a known length up to this is on its way as soon as it is there, and not watched, in bytes.
const SHORT: u64 = 64 * 1024;

/// A body was ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the access token ended before the answer did")]
struct Outlived;

/// Watches a response, if it can take long. `life` is made for those alone.
pub(super) fn guard(response: Response<Body>, life: impl FnOnce() -> TokenLife) -> Response<Body> {
    let body = response.body();
    if body.is_end_stream() || body.size_hint().exact().is_some_and(|bytes| bytes <= SHORT) {
        return response;
    }
    let kind = response.headers().get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes).unwrap_or_default();
    let events = b"text/event-stream";
    let is_events = kind.get(..events.len()).is_some_and(|start| start.eq_ignore_ascii_case(events));
    let of_known_length = body.size_hint().exact().is_some();
    response.map(|inner| {
        let watch = Watch::Not { once_more: of_known_length };
        Body::new(Guarded { inner, life: life(), frames: 0, is_events, watch })
    })
}

/// The body.
struct Guarded {
    inner: Body,
    life: TokenLife,
    frames: u64,
    /// Ends as if the upstream had ended it: whoever listens to events asks again, and is refused.
    is_events: bool,
    watch: Watch,
}

/// Whether somebody waits for the token's end.
enum Watch {
    /// Not yet. A body of known length is given a first frame before it is worth a timer.
    Not { once_more: bool },
    /// A timer and whoever withdraws tokens will wake the body.
    Armed(BoxFuture<'static, ()>),
    /// The body was ended.
    Over,
}

impl Guarded {
    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.watch = Watch::Over;
        // What is behind it settles as it goes.
        self.inner = Body::empty();
        Poll::Ready(if self.is_events { None } else { Some(Err(Outlived.into())) })
    }

    fn has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.watch {
            Watch::Armed(ended) => ended.as_mut().poll(cx).is_ready(),
            Watch::Not { .. } | Watch::Over => false,
        }
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if matches!(self.watch, Watch::Over) {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                // The first comes with the head.
                if self.frames > 0 && !self.life.holds() {
                    return self.end();
                }
                self.frames += 1;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(last) => Poll::Ready(last.map(|result| result.map_err(Into::into))),
            Poll::Pending => {
                if let Watch::Not { once_more } = self.watch
                    && (self.frames > 0 || !once_more)
                {
                    self.watch = Watch::Armed(Box::pin(self.life.clone().ended()));
                }
                if self.has_ended(cx) { self.end() } else { Poll::Pending }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.watch, Watch::Over) || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
