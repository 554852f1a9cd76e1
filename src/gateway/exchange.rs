//! An exchange with an upstream whose client may go away before there is an answer. The upstream does the work all the same
//! once it has the whole request, so the exchange goes on without the client until the status is known, and is billed by
//! that; the body is of no use to anybody. It holds its slots until then, and takes no longer than the route's `timeout_s`.
//!
//! What the client had not sent whole is given up with it: the upstream never gets the end, and nothing is billed. So is
//! what still runs at a drain's deadline.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{body::Body, response::Response};
use tokio::runtime::Handle;

use super::{directory::BoxFuture, layers::Begun, upstream::Background};

/// Resolves to the upstream's answer, and to what counts it.
pub(super) struct Exchange<'a> {
    under_way: Option<UnderWay>,
    background: &'a Background,
}

struct UnderWay {
    answer: BoxFuture<'static, Response<Body>>,
    begun: Begun,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        answer: impl Future<Output = Response<Body>> + Send + 'static,
        begun: Begun,
        background: &'a Background,
    ) -> Self {
        // In a box: the way to an upstream takes kilobytes, which would be moved with every step round it.
        Self { under_way: Some(UnderWay { answer: Box::pin(answer), begun }), background }
    }
}

impl Future for Exchange<'_> {
    type Output = (Response<Body>, Begun);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let under_way = self.under_way.as_mut().expect("a future is not polled after it is done");
        let response = ready!(under_way.answer.as_mut().poll(cx));
        let done = self.under_way.take().expect("it was there a line before");
        Poll::Ready((response, done.begun))
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let Some(under_way) = self.under_way.take().filter(|own| own.begun.is_sent_whole()) else { return };
        // Without a runtime everything ends; and what panicked cannot go on.
        let Some(runtime) = Handle::try_current().ok().filter(|_| !std::thread::panicking()) else { return };
        let ticket = under_way.begun.goes_on();
        let cut = self.background.cut.clone();
        let going_on = async move {
            let UnderWay { answer, begun } = under_way;
            // Settled by the status and whatever else the head says.
            if let Some(response) = cut.run_until_cancelled(answer).await {
                drop(begun.answer(response).await);
            }
            // Whoever else still has the ticket.
            ticket.leave();
        };
        self.background.served.spawn_on(going_on, &runtime);
    }
}
