//! The body of an upstream's answer where something watches over it: limits of time, trailers that may not pass, a request
//! that counts as in flight until it is over. Without any of these, bodies are not wrapped.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{target::InFlight, trailers::Trailers};

/// What watches over a body.
#[derive(Default)]
pub(super) struct Watch {
    /// How long the next frame may take.
    pub(super) idle: Option<Duration>,
    /// When it must be over.
    pub(super) until: Option<Instant>,
    /// What may pass of its trailers; all of them when `None`.
    pub(super) trailers: Option<Trailers>,
    /// Dropped when it is over.
    pub(super) in_flight: Option<InFlight>,
}

impl Watch {
    /// The body, wrapped if need be.
    pub(super) fn over(self, body: Body) -> Body {
        let Self { idle, until, trailers, in_flight } = self;
        if body.is_end_stream() || (idle.is_none() && until.is_none() && trailers.is_none() && in_flight.is_none()) {
            return body;
        }
        let idle = idle.map(|period| Idle { period, waiting: false, timer: Box::pin(tokio::time::sleep(period)) });
        let until = until.map(|until| Box::pin(tokio::time::sleep_until(until)));
        Body::new(Watched { inner: body, idle, until, trailers, in_flight, done: false })
    }
}

/// The upstream took longer than it may.
#[derive(Debug, thiserror::Error)]
enum TooLong {
    #[error("the upstream sent nothing of its answer's body for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("the upstream's answer took longer than it may in all")]
    Total,
}

/// Runs while a reader waits for the upstream, and not while the upstream waits for a slow reader.
struct Idle {
    period: Duration,
    waiting: bool,
    timer: Pin<Box<Sleep>>,
}

struct Watched {
    inner: Body,
    idle: Option<Idle>,
    until: Option<Pin<Box<Sleep>>>,
    trailers: Option<Trailers>,
    in_flight: Option<InFlight>,
    done: bool,
}

impl Watched {
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Some(Err(TooLong::Total.into())));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.idle.iter_mut().for_each(|idle| idle.waiting = false);
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                let Some(idle) = &mut self.idle else { return Poll::Pending };
                if !idle.waiting {
                    idle.waiting = true;
                    idle.timer.as_mut().reset(Instant::now() + idle.period);
                }
                ready!(idle.timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(TooLong::Idle(idle.period).into())))
            }
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let frame = match (ready!(self.poll_inner(cx)), &self.trailers) {
            (Some(Ok(frame)), Some(trailers)) => trailers.pass(frame).map(Ok),
            (frame, _) => frame,
        };
        if matches!(frame, None | Some(Err(_))) || self.inner.is_end_stream() {
            self.done = true;
            self.in_flight = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.done || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
