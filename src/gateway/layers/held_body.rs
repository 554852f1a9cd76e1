//! A response body that keeps its request under way until it ends, where nobody else does.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Ticket;

pin_project! {
    /// Leaves when the body ends, fails or is dropped.
    pub(super) struct HeldBody {
        #[pin]
        inner: Body,
        held: Held,
    }
}

/// Leaves when it is dropped.
pub(super) struct Held(Arc<Ticket>);

impl Held {
    pub(super) const fn new(ticket: Arc<Ticket>) -> Self {
        Self(ticket)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl HeldBody {
    pub(super) const fn new(inner: Body, ticket: Arc<Ticket>) -> Self {
        Self { inner, held: Held::new(ticket) }
    }
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            this.held.0.leave();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
