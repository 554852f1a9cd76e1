//! Bodies as they pass: what is counted of each, and when it is settled.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    draft::{Draft, NotRecorded},
    meter::Shared,
};
use crate::{gateway::directory::BoxFuture, metering::JournalError};

/// Settles on drop what was not settled before: a response that the client or the upstream broke off.
pub(super) struct Settle(Option<Draft>);

impl Settle {
    pub(super) const fn new(draft: Draft) -> Self {
        Self(Some(draft))
    }

    fn now(&mut self) -> Result<Option<(u64, Arc<Shared>)>, NotRecorded> {
        let Some(draft) = self.0.take() else { return Ok(None) };
        let shared = Arc::clone(&draft.shared);
        draft.settle().map(|seq| Some((seq, shared)))
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        drop(self.now());
    }
}

/// How far the end of a body has come.
enum Ending {
    /// Not there yet.
    Running,
    /// The last frame waits for the disk.
    Waiting(BoxFuture<'static, Result<(), JournalError>>, Option<Frame<Bytes>>),
    /// Released.
    Done,
}

pin_project! {
    /// A response body that is counted and settled before its last byte.
    pub(super) struct MeteredBody {
        #[pin]
        inner: Body,
        settle: Settle,
        state: Ending,
    }
}

impl MeteredBody {
    pub(super) const fn new(inner: Body, draft: Draft) -> Self {
        Self { inner, settle: Settle::new(draft), state: Ending::Running }
    }
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        loop {
            match this.state {
                Ending::Running => {}
                Ending::Waiting(waiting, last) => {
                    let durable = ready!(waiting.as_mut().poll(cx));
                    let last = last.take();
                    *this.state = Ending::Done;
                    return Poll::Ready(match durable {
                        Ok(()) => last.map(Ok),
                        Err(error) => Some(Err(error.into())),
                    });
                }
                Ending::Done => return Poll::Ready(None),
            }
            let last = match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let (Some(data), Some(draft)) = (frame.data_ref(), &mut this.settle.0) {
                        draft.data(data);
                    }
                    if !this.inner.is_end_stream() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    Some(frame)
                }
                None => None,
                Some(Err(error)) => {
                    drop(this.settle.now());
                    *this.state = Ending::Done;
                    return Poll::Ready(Some(Err(error.into())));
                }
            };
            // This is the end: the record first, then the last byte.
            if let Some(draft) = &mut this.settle.0 {
                draft.finish();
            }
            match this.settle.now() {
                Ok(Some((seq, shared))) if shared.is_durable() => {
                    let waiting = Box::pin(async move { shared.metering.durable(seq).await });
                    *this.state = Ending::Waiting(waiting, last);
                }
                Ok(_) => {
                    *this.state = Ending::Done;
                    return Poll::Ready(last.map(Ok));
                }
                Err(error) => {
                    *this.state = Ending::Done;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, Ending::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            Ending::Running => self.inner.size_hint(),
            Ending::Waiting(_, Some(frame)) => {
                SizeHint::with_exact(frame.data_ref().map_or(0, |data| data.len() as u64))
            }
            Ending::Waiting(_, None) | Ending::Done => SizeHint::with_exact(0),
        }
    }
}

/// What is known of a request's body as it passes.
pub(super) struct Ingress {
    pub(super) bytes: AtomicU64,
    limit: u64,
    exceeded: AtomicBool,
    whole: AtomicBool,
}

impl Ingress {
    pub(super) fn new(limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX);
        Self { bytes: AtomicU64::new(0), limit, exceeded: AtomicBool::new(false), whole: AtomicBool::new(false) }
    }

    /// Whether it came to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Whether there was more than the route takes.
    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Acquire)
    }
}

/// The request's body is larger than the route takes: the upstream does not get all of it.
#[derive(Debug, thiserror::Error)]
#[error("the request's body is larger than the route takes")]
struct BodyTooLarge;

pin_project! {
    /// A request body whose bytes are counted, and which is broken off beyond a limit.
    pub(super) struct IngressBody {
        #[pin]
        inner: Body,
        ingress: Arc<Ingress>,
    }
}

impl IngressBody {
    pub(super) const fn new(inner: Body, ingress: Arc<Ingress>) -> Self {
        Self { inner, ingress }
    }
}

impl HttpBody for IngressBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut this = self.project();
        if this.ingress.is_exceeded() {
            return Poll::Ready(None);
        }
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        // Whoever reads by length does not ask again.
        if frame.is_none() || (matches!(frame, Some(Ok(_))) && this.inner.is_end_stream()) {
            this.ingress.whole.store(true, Ordering::Release);
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let more = data.len() as u64;
            let before = this.ingress.bytes.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > this.ingress.limit {
                this.ingress.exceeded.store(true, Ordering::Release);
                return Poll::Ready(Some(Err(axum::Error::new(BodyTooLarge))));
            }
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
