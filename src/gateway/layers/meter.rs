//! `meter`: counts what an admitted request used and settles it exactly once: before the response's last byte, on error,
//! or on drop.
//!
//! Room for the journal record is reserved before the inner call, so that settling fails only with the disk. Billed is a
//! request whose response the inner service produced with a status below 500. A response whose record could not be
//! written is broken off before its end: nobody gets a whole answer that is not counted. So is one whose record was
//! written and may not be on disk: it may be billed, so it is no refusal either.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    BoxError,
    body::Body,
    http::{Request, Response},
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Ticket, refuse};
use crate::{
    gateway::{
        directory::BoxFuture,
        routes::Durability,
        upstream::Tunnel,
        usage::{self, Reported},
    },
    kernel::Clock,
    metering::{Amounts, JournalError, Metering, Record, Reservation, STOCK_METERS},
    web::{BrokenOff, Kind, Problem},
};

const APIS: usize = 0;
const COMPUTE: usize = 1;
const EGRESS: usize = 3;
const INGRESS: usize = 4;

/// Which stock meters a route counts, its number in the journal, and how safe its records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteMeters {
    /// The route's number in the journal.
    pub route: u16,
    /// By stock meter's number: whether the route counts it.
    pub counted: [bool; STOCK_METERS.len()],
    /// Whether the answer waits for the disk.
    pub durability: Durability,
}

impl RouteMeters {
    /// Counts requests (`apis`) alone, without waiting for the disk.
    pub const fn requests(route: u16) -> Self {
        let mut counted = [false; STOCK_METERS.len()];
        counted[APIS] = true;
        Self { route, counted, durability: Durability::Relaxed }
    }

    /// Counts every stock meter, without waiting for the disk.
    pub const fn everything(route: u16) -> Self {
        Self { route, counted: [true; STOCK_METERS.len()], durability: Durability::Relaxed }
    }
}

/// Counts the usage of admitted requests.
#[derive(Clone)]
pub struct MeterLayer {
    metering: Metering,
    clock: Arc<dyn Clock>,
    meters: RouteMeters,
}

impl MeterLayer {
    /// Records with `metering`, for one route.
    pub const fn new(metering: Metering, clock: Arc<dyn Clock>, meters: RouteMeters) -> Self {
        Self { metering, clock, meters }
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
        let reservation = match self.layer.metering.reserve() {
            Ok(reservation) => reservation,
            Err(error) => {
                let problem = Problem::new(Kind::USAGE_UNAVAILABLE, error.to_string()).retry_after(1);
                return MeterFuture::Refused { response: Some(refuse(problem, &request)) };
            }
        };
        let ingress = Arc::new(AtomicU64::new(0));
        let request = request.map(|body| {
            if body.is_end_stream() {
                return body;
            }
            Body::new(CountedBody { inner: body, bytes: Arc::clone(&ingress) })
        });
        let draft = Draft {
            layer: self.layer.clone(),
            ticket,
            reservation,
            ingress,
            egress: 0,
            tunnel: None,
            reported: Reported::default(),
            started: stopwatch(),
            worked_micros: 0,
        };
        MeterFuture::Inner { future: self.inner.call(request), draft: Some(draft) }
    }
}

/// What is needed to settle a request; everything that could be refused was taken before.
struct Draft {
    layer: MeterLayer,
    ticket: Arc<Ticket>,
    reservation: Reservation,
    ingress: Arc<AtomicU64>,
    egress: u64,
    /// What goes on counting after a change of protocol.
    tunnel: Option<Tunnel>,
    reported: Reported,
    started: Instant,
    worked_micros: u64,
}

/// The record was not written: the disk failed.
#[derive(Debug, thiserror::Error)]
#[error("the usage could not be recorded")]
struct NotRecorded;

impl Draft {
    /// Writes the record; its sequence number. Must not wait: it also runs on drop.
    fn settle(self) -> Result<u64, NotRecorded> {
        let amounts = self.amounts();
        let Self { layer, ticket, reservation, .. } = self;
        let record = Record { tenant: ticket.tenant, at: layer.clock.now(), route: layer.meters.route, amounts };
        match layer.metering.record(reservation, &record) {
            Ok(seq) => {
                ticket.settle(&amounts);
                Ok(seq)
            }
            Err(error) => {
                tracing::error!(error = crate::kernel::fault::chain(&error), "a settled request could not be recorded");
                Err(NotRecorded)
            }
        }
    }

    fn amounts(&self) -> Amounts {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX).saturating_mul(1_000);
        let mut measured = self.reported.thousandths;
        measured[APIS] = Some(1_000);
        // A millisecond has a thousand microseconds: elapsed microseconds are thousandths of the meter's unit.
        let worked = i64::try_from(self.worked_micros).unwrap_or(i64::MAX);
        measured[COMPUTE] = measured[COMPUTE].or(Some(worked));
        let (ingress, egress) = self.tunnel.as_ref().map_or((0, 0), |tunnel| (tunnel.ingress(), tunnel.egress()));
        measured[EGRESS] = Some(whole(self.egress.saturating_add(egress)));
        measured[INGRESS] = Some(whole(self.ingress.load(Ordering::Relaxed).saturating_add(ingress)));
        let mut amounts = Amounts::default();
        for (number, (thousandths, counted)) in (0_u16..).zip(measured.into_iter().zip(self.layer.meters.counted)) {
            if counted {
                amounts.push(number, thousandths.unwrap_or(0));
            }
        }
        amounts
    }
}

/// Starts measuring how long the upstream works: real time, whatever the clock says.
#[expect(clippy::disallowed_methods, reason = "a stopwatch, not a clock")]
fn stopwatch() -> Instant {
    Instant::now()
}

pin_project! {
    /// The future of [`Meter`].
    #[project = MeterProjection]
    pub enum MeterFuture<F> {
        /// The inner service answers.
        Inner { #[pin] future: F, draft: Option<Draft> },
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
                MeterProjection::Inner { future, draft } => {
                    let mut response = ready!(future.poll(cx))?;
                    let mut draft = draft.take().expect("a future is not polled after it is done");
                    draft.reported = usage::take(response.headers_mut());
                    draft.worked_micros = u64::try_from(draft.started.elapsed().as_micros()).unwrap_or(u64::MAX);
                    if response.status().is_server_error() {
                        // Not billed: what the ticket and the reservation hold is given back.
                        draft.ticket.settle(&Amounts::default());
                        return Poll::Ready(Ok(response));
                    }
                    if let Some(tunnel) = response.extensions_mut().remove::<Tunnel>() {
                        // Settled when the tunnel lets go of it.
                        draft.tunnel = Some(tunnel.clone());
                        tunnel.hold(Settle(Some(draft)));
                        return Poll::Ready(Ok(response));
                    }
                    if !response.body().is_end_stream() {
                        return Poll::Ready(Ok(response.map(|body| {
                            Body::new(MeteredBody { inner: body, settle: Settle(Some(draft)), state: Ending::Running })
                        })));
                    }
                    let durable = draft.layer.meters.durability == Durability::Durable;
                    let metering = draft.layer.metering.clone();
                    match draft.settle() {
                        Ok(seq) if durable => Self::Durable {
                            waiting: Box::pin(async move { metering.durable(seq).await }),
                            response: Some(response),
                        },
                        Ok(_) => return Poll::Ready(Ok(response)),
                        Err(error) => return Poll::Ready(Ok(not_recorded(&error))),
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

/// Settles on drop what was not settled before: a response that the client or the upstream broke off.
struct Settle(Option<Draft>);

impl Settle {
    fn now(&mut self) -> Result<Option<(u64, MeterLayer)>, NotRecorded> {
        let Some(draft) = self.0.take() else { return Ok(None) };
        let layer = draft.layer.clone();
        draft.settle().map(|seq| Some((seq, layer)))
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
    struct MeteredBody {
        #[pin]
        inner: Body,
        settle: Settle,
        state: Ending,
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
                        draft.egress = draft.egress.saturating_add(data.len() as u64);
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
            match this.settle.now() {
                Ok(Some((seq, layer))) if layer.meters.durability == Durability::Durable => {
                    let waiting = Box::pin(async move { layer.metering.durable(seq).await });
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

pin_project! {
    /// A request body whose bytes are counted.
    struct CountedBody {
        #[pin]
        inner: Body,
        bytes: Arc<AtomicU64>,
    }
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
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
