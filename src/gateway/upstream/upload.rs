//! A request's body on its way to an upstream: what is late or broken while the client still sends is not the upstream's doing.
//! The time for its answer counts from when the last piece was handed over, because before that it had nothing to answer.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body, http::Request};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

/// When an upload last went on, and how it ended.
pub(super) struct Upload {
    began: Instant,
    /// `None` where there is no body.
    noted: Option<Arc<Noted>>,
}

/// What is known of a body on its way.
#[derive(Default)]
struct Noted {
    /// When its last piece was handed over, in milliseconds since it began.
    last_ms: AtomicU64,
    /// All of it was.
    whole: AtomicBool,
    /// The client broke it off.
    broken: AtomicBool,
}

impl Upload {
    /// Watches over a request's body.
    pub(super) fn watch(request: Request<Body>, began: Instant) -> (Self, Request<Body>) {
        if request.body().is_end_stream() {
            return (Self { began, noted: None }, request);
        }
        let noted = Arc::new(Noted::default());
        let own = Arc::clone(&noted);
        let request = request.map(|body| Body::new(Watched { inner: body, began, noted: own }));
        (Self { began, noted: Some(noted) }, request)
    }

    /// Whether the upstream has all that it is to answer: until then, what is late or broken is so by the client.
    pub(super) fn is_whole(&self) -> bool {
        self.noted.as_ref().is_none_or(|noted| noted.whole.load(Ordering::Relaxed))
    }

    /// Whether the client broke it off.
    pub(super) fn is_broken(&self) -> bool {
        self.noted.as_ref().is_some_and(|noted| noted.broken.load(Ordering::Relaxed))
    }

    /// What comes of it, unless that takes longer than `patience` after the upload.
    pub(super) async fn within<F: Future>(&self, patience: Duration, answer: F) -> Option<F::Output> {
        let Some(noted) = &self.noted else {
            return tokio::time::timeout_at(self.began + patience, answer).await.ok();
        };
        let mut answer = std::pin::pin!(answer);
        loop {
            let last = noted.last_ms.load(Ordering::Relaxed);
            let deadline = self.began + Duration::from_millis(last) + patience;
            match tokio::time::timeout_at(deadline, answer.as_mut()).await {
                Ok(answer) => return Some(answer),
                Err(_) if noted.last_ms.load(Ordering::Relaxed) == last => return None,
                Err(_) => {}
            }
        }
    }
}

/// A body that notes how far it is.
struct Watched {
    inner: Body,
    began: Instant,
    noted: Arc<Noted>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.noted.last_ms.store(elapsed, Ordering::Relaxed);
        match &frame {
            Some(Err(_)) => self.noted.broken.store(true, Ordering::Relaxed),
            None => self.noted.whole.store(true, Ordering::Relaxed),
            // Whoever reads by length does not ask again.
            Some(Ok(_)) if self.inner.is_end_stream() => self.noted.whole.store(true, Ordering::Relaxed),
            Some(Ok(_)) => {}
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
