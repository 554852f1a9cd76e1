//! A request that was let in, from there to its answer.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue},
    response::Response,
};
use http_body::Body as _;

use super::{
    held_body::{Held, HeldBody},
    limits::LimitHeaders,
    ticket::{Abandoned, Ticket},
};
use crate::gateway::{holding::is_lasting, upstream::Tunnel};

/// A request that was let in, and what is said of that on its answer.
pub(in crate::gateway) struct Admitted {
    /// What it holds.
    pub(in crate::gateway) ticket: Arc<Ticket>,
    abandoned: Abandoned,
    headers: LimitHeaders,
}

impl Admitted {
    pub(super) fn new((ticket, headers): (Ticket, LimitHeaders)) -> Self {
        let ticket = Arc::new(ticket);
        Self { abandoned: Abandoned::unless_answered(Arc::clone(&ticket)), ticket, headers }
    }

    /// The limits' headers.
    pub(in crate::gateway) fn limits(&self) -> impl Iterator<Item = (HeaderName, &HeaderValue)> {
        self.headers.named()
    }

    /// The answer was given; whoever settled it gave the slots back.
    pub(in crate::gateway) fn over(mut self) {
        self.abandoned.answered();
    }

    /// The answer, with the limits' headers; it holds its slots until its body ends.
    pub(in crate::gateway) fn answer(self, mut response: Response<Body>) -> Response<Body> {
        let Self { ticket, mut abandoned, headers } = self;
        if is_lasting(&response) {
            ticket.lasts();
        }
        headers.put_on(response.headers_mut());
        abandoned.answered();
        keep_under_way(ticket, response)
    }
}

/// Holds the slots of an answered request until its body ends, where nobody else does.
fn keep_under_way(ticket: Arc<Ticket>, response: Response<Body>) -> Response<Body> {
    if let Some(tunnel) = response.extensions().get::<Tunnel>().filter(|_| ticket.is_unwatched()) {
        tunnel.hold(Held::new(ticket));
        return response;
    }
    if !ticket.is_unwatched() {
        return response;
    }
    if response.body().is_end_stream() {
        ticket.leave();
        return response;
    }
    response.map(|body| Body::new(HeldBody::new(body, ticket)))
}
