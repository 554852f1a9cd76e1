//! `meter`: counts what an admitted request used and settles it exactly once: before the response's last byte, on error,
//! or on drop.
//!
//! Room for the journal record is reserved before the inner call, so that settling fails only with the disk. Billed is a
//! request whose response the inner service produced with a status that the route bills: below 500, unless it says otherwise.
//! A response whose record could not be written is broken off before its end: nobody gets a whole answer that is not counted.
//! So is one whose record was written and may not be on disk: it may be billed, so it is no refusal either. A quantity that
//! cannot be read is not counted, and said aloud in metering's health.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header},
};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{
    Ticket,
    admit::body_too_large,
    draft::{Draft, stopwatch},
    metered_body::{Ingress, IngressBody, MeteredBody, Settle},
    refuse,
    route_terms::RouteTerms,
};
use crate::{
    gateway::{
        directory::BoxFuture,
        reading::Reading,
        routes::Durability,
        units::{Billed, MeterRule, Unit},
        upstream::Tunnel,
        usage,
    },
    kernel::Clock,
    metering::{JournalError, Metering},
    web::{BrokenOff, Kind, Problem, Wording},
};

/// What a route counts, its number in the journal, and how safe its records are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMeters {
    /// The route's number in the journal.
    pub route: u16,
    /// The meters it counts; at most eight.
    pub rules: Arc<[MeterRule]>,
    /// Which answers are billed.
    pub billed: Billed,
    /// Whether the answer waits for the disk.
    pub durability: Durability,
}

impl RouteMeters {
    /// Counts requests (`apis`) alone, without waiting for the disk.
    pub fn requests(route: u16) -> Self {
        Self::by(route, MeterRule::requests())
    }

    /// Counts every stock meter, without waiting for the disk.
    pub fn everything(route: u16) -> Self {
        Self::by(route, MeterRule::everything())
    }

    /// Counts some meters, without waiting for the disk.
    pub fn by(route: u16, rules: Arc<[MeterRule]>) -> Self {
        Self { route, rules, billed: Billed::default(), durability: Durability::Relaxed }
    }

    /// What the admit layer must know of them.
    pub fn terms(&self) -> RouteTerms {
        RouteTerms::counting(self.route.into(), Arc::clone(&self.rules))
    }
}

/// Counts the usage of admitted requests.
#[derive(Clone)]
pub struct MeterLayer {
    pub(super) shared: Arc<Shared>,
}

/// What all requests of a layer share.
pub(super) struct Shared {
    pub(super) metering: Metering,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) meters: RouteMeters,
    /// Something is read out of the answer's body.
    reads_body: bool,
    /// Something is read out of the answer.
    reads: bool,
}

impl Shared {
    pub(super) fn is_durable(&self) -> bool {
        self.meters.durability == Durability::Durable
    }
}

impl MeterLayer {
    /// Records with `metering`, for one route.
    pub fn new(metering: Metering, clock: Arc<dyn Clock>, meters: RouteMeters) -> Self {
        let reads_body = meters.rules.iter().any(|rule| matches!(rule.unit, Unit::Json(_)));
        let reads = reads_body || meters.rules.iter().any(|rule| matches!(rule.unit, Unit::Header(_)));
        Self { shared: Arc::new(Shared { metering, clock, meters, reads_body, reads }) }
    }
}

impl<S> Layer<S> for MeterLayer {
    type Service = Meter<S>;

    fn layer(&self, inner: S) -> Meter<S> {
        Meter { inner, layer: self.clone() }
    }
}

/// The service of [`MeterLayer`].
#[derive(Clone)]
pub struct Meter<S> {
    inner: S,
    layer: MeterLayer,
}

impl<S> Service<Request<Body>> for Meter<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = MeterFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(ticket) = request.extensions().get::<Arc<Ticket>>().cloned() else {
            let problem = Problem::new(Kind::INTERNAL, "the meter layer needs the admit layer before it");
            return MeterFuture::Refused { response: Some(refuse(problem, &request)) };
        };
        match self.layer.begin(ticket, request) {
            Ok((request, begun)) => MeterFuture::Inner { future: self.inner.call(request), begun: Some(begun) },
            Err(response) => MeterFuture::Refused { response: Some(response) },
        }
    }
}

/// A request that is being counted.
pub(in crate::gateway) struct Begun {
    draft: Draft,
    /// What it is for, what its caller understands, and how large its body may be, where that is not known from its head.
    limited: Option<(Uri, Wording, u64)>,
}

impl MeterLayer {
    /// Begins to count an admitted request.
    #[expect(clippy::result_large_err, reason = "a refusal is an answer like any other")]
    pub(in crate::gateway) fn begin(
        &self,
        ticket: Arc<Ticket>,
        mut request: Request<Body>,
    ) -> Result<(Request<Body>, Begun), Response<Body>> {
        let shared = &self.shared;
        let mut draft = match self.draft(ticket) {
            Ok(draft) => draft,
            Err(problem) => return Err(refuse(problem, &request)),
        };
        if shared.reads_body {
            ask_for_all_of_it(request.headers_mut());
        }
        let mut limited = None;
        if !request.body().is_end_stream() {
            let limit = draft.ticket.body_limit();
            let counted = Arc::new(Ingress::new(limit));
            limited = limit.map(|limit| (request.uri().clone(), Wording::of(&request), limit));
            draft.ingress = Some(Arc::clone(&counted));
            request = request.map(|body| Body::new(IngressBody::new(body, counted)));
        }
        Ok((request, Begun { draft, limited }))
    }

    /// Whether what it counts is known without looking into answers, and it waits for no disk.
    pub(in crate::gateway) fn is_short(&self) -> bool {
        !self.shared.reads && !self.shared.is_durable()
    }

    /// Begins to count an admitted request whose body is there.
    pub(in crate::gateway) fn begin_whole(&self, ticket: Arc<Ticket>, body: usize) -> Result<Begun, Problem> {
        let mut draft = self.draft(ticket)?;
        if body > 0 {
            let ingress = Ingress::new(None);
            ingress.bytes.store(body as u64, Ordering::Relaxed);
            draft.ingress = Some(Arc::new(ingress));
        }
        Ok(Begun { draft, limited: None })
    }

    fn draft(&self, ticket: Arc<Ticket>) -> Result<Draft, Problem> {
        let shared = Arc::clone(&self.shared);
        match shared.metering.reserve() {
            Ok(reservation) => Ok(Draft::new(shared, ticket, reservation)),
            Err(error) => {
                ticket.refuse();
                Err(Problem::new(Kind::USAGE_UNAVAILABLE, error.to_string()).retry_after(1))
            }
        }
    }
}

impl Begun {
    /// When it began.
    pub(in crate::gateway) const fn started(&self) -> Instant {
        self.draft.started
    }

    /// Settles a call whose answer was all there then; another is given in its place when that fails.
    #[expect(clippy::result_large_err, reason = "a refusal is an answer like any other")]
    pub(in crate::gateway) fn answered_whole(
        self,
        status: StatusCode,
        body: usize,
        at: Instant,
    ) -> Result<(), Response<Body>> {
        let Self { mut draft, .. } = self;
        draft.worked(at);
        if !draft.shared.meters.billed.includes(status) {
            draft.ticket.release();
            draft.ticket.leave();
            return Ok(());
        }
        draft.egress = body as u64;
        draft.settle().map(drop).map_err(|error| not_recorded(&error))
    }

    /// Whether the client has sent all of the request.
    pub(in crate::gateway) fn is_sent_whole(&self) -> bool {
        self.draft.ingress.as_ref().is_none_or(|ingress| ingress.is_whole())
    }

    /// The request goes on without its client. What it holds; whoever goes on gives the slots back.
    pub(in crate::gateway) fn goes_on(&self) -> Arc<Ticket> {
        self.draft.ticket.watch();
        Arc::clone(&self.draft.ticket)
    }

    /// The answer to the client, settled or to be settled with its last byte.
    pub(in crate::gateway) async fn answer(self, response: Response<Body>) -> Response<Body> {
        match answered(self, response) {
            Answered::Now(response) => response,
            Answered::OnDisk(waiting, response) => match waiting.await {
                Ok(()) => response,
                Err(error) => broken_off(&error),
            },
        }
    }
}

/// What is read in a body must be there, and as it is: not encoded, and not a part.
fn ask_for_all_of_it(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(header::RANGE);
    headers.remove(header::IF_RANGE);
}

pin_project! {
    /// The future of [`Meter`].
    #[project = MeterProjection]
    pub enum MeterFuture<F> {
        /// The inner service answers.
        Inner { #[pin] future: F, begun: Option<Begun> },
        /// The answer waits for the disk.
        Durable { waiting: BoxFuture<'static, Result<(), JournalError>>, response: Option<Response<Body>> },
        /// The layer answers.
        Refused { response: Option<Response<Body>> },
    }
}

impl<F, E> Future for MeterFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project() {
                MeterProjection::Inner { future, begun } => {
                    let response = ready!(future.poll(cx))?;
                    let begun = begun.take().expect("a future is not polled after it is done");
                    match answered(begun, response) {
                        Answered::Now(response) => return Poll::Ready(Ok(response)),
                        Answered::OnDisk(waiting, response) => Self::Durable { waiting, response: Some(response) },
                    }
                }
                MeterProjection::Durable { waiting, response } => {
                    let response = match ready!(waiting.as_mut().poll(cx)) {
                        Ok(()) => response.take().expect("a future is not polled after it is done"),
                        Err(error) => broken_off(&error),
                    };
                    return Poll::Ready(Ok(response));
                }
                MeterProjection::Refused { response } => {
                    return Poll::Ready(Ok(response.take().expect("a future is not polled after it is done")));
                }
            };
            self.set(next);
        }
    }
}

/// What becomes of an answer whose head is there.
enum Answered {
    Now(Response<Body>),
    /// When the disk has its record.
    OnDisk(BoxFuture<'static, Result<(), JournalError>>, Response<Body>),
}

fn answered(begun: Begun, mut response: Response<Body>) -> Answered {
    let Begun { mut draft, limited } = begun;
    draft.worked(stopwatch());
    draft.reported = usage::take(response.headers_mut());
    if let (Some((uri, wording, limit)), Some(ingress)) = (limited, &draft.ingress)
        && ingress.is_exceeded()
    {
        // Whatever the upstream made of half a body, the request is refused.
        draft.ticket.refuse();
        return Answered::Now(body_too_large(limit).render_in(wording, uri.path()));
    }
    let shared = Arc::clone(&draft.shared);
    if !shared.meters.billed.includes(response.status()) {
        // What the ticket and the reservation hold is given back.
        draft.ticket.release();
        return Answered::Now(response);
    }
    if let Some(tunnel) = response.extensions_mut().remove::<Tunnel>() {
        // Settled when the tunnel lets go of it; until then it is under way.
        draft.ticket.watch();
        draft.tunnel = Some(tunnel.clone());
        tunnel.hold(Settle::new(draft));
        return Answered::Now(response);
    }
    if shared.reads {
        draft.reading = Reading::begin(&shared.meters.rules, response.headers());
    }
    if !response.body().is_end_stream() {
        draft.ticket.watch();
        return Answered::Now(response.map(|body| Body::new(MeteredBody::new(body, draft))));
    }
    draft.finish();
    match draft.settle() {
        Ok(seq) if shared.is_durable() => {
            let waiting = Box::pin(async move { shared.metering.durable(seq).await });
            Answered::OnDisk(waiting, response)
        }
        Ok(_) => Answered::Now(response),
        Err(error) => Answered::Now(not_recorded(&error)),
    }
}

/// In place of an answer whose usage could not be recorded.
fn not_recorded(error: &impl std::error::Error) -> Response<Body> {
    Problem::new(Kind::USAGE_UNAVAILABLE, error.to_string()).retry_after(1).render("")
}

/// In place of an answer without a body whose usage was recorded, but maybe not for good. It is not sent; where another
/// server does not know that, it says no more than is true.
fn broken_off(error: &JournalError) -> Response<Body> {
    tracing::error!(%error, "an answer is broken off, and may be billed");
    let problem = Problem::new(Kind::INTERNAL, "the call was made, and its usage may be billed");
    let mut response = problem.render("");
    response.extensions_mut().insert(BrokenOff);
    response
}
