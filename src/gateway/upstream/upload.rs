//! How long an upstream may take to begin its answer while the client still sends. A body that may take long to come is watched:
//! the time counts from when its last piece was handed over, because before that the upstream had nothing to answer.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, http::Request};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

/// A body of this size arrives at once, or nearly.
const SMALL: u64 = 64 * 1024;

/// When an upload last went on.
pub(super) struct Upload {
    began: Instant,
    /// In milliseconds since then; `None` where nobody watches.
    last_ms: Option<Arc<AtomicU64>>,
}

impl Upload {
    /// Watches over a request's body, if it is worth it.
    pub(super) fn watch(request: Request<Body>, began: Instant) -> (Self, Request<Body>) {
        if request.body().is_end_stream() || request.body().size_hint().upper().is_some_and(|upper| upper <= SMALL) {
            return (Self { began, last_ms: None }, request);
        }
        let last_ms = Arc::new(AtomicU64::new(0));
        let noted = Arc::clone(&last_ms);
        let request = request.map(|body| Body::new(Noted { inner: body, began, last_ms: noted }));
        (Self { began, last_ms: Some(last_ms) }, request)
    }

    /// What comes of it, unless that takes longer than `patience` after the upload.
    pub(super) async fn within<F: Future>(&self, patience: Duration, answer: F) -> Option<F::Output> {
        let Some(last_ms) = &self.last_ms else {
            return tokio::time::timeout_at(self.began + patience, answer).await.ok();
        };
        let mut answer = std::pin::pin!(answer);
        loop {
            let last = last_ms.load(Ordering::Relaxed);
            let deadline = self.began + Duration::from_millis(last) + patience;
            match tokio::time::timeout_at(deadline, answer.as_mut()).await {
                Ok(answer) => return Some(answer),
                Err(_) if last_ms.load(Ordering::Relaxed) == last => return None,
                Err(_) => {}
            }
        }
    }
}

/// Notes when a piece was handed over.
struct Noted {
    inner: Body,
    began: Instant,
    last_ms: Arc<AtomicU64>,
}

impl HttpBody for Noted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if frame.is_ready() {
            let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last_ms.store(elapsed, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
