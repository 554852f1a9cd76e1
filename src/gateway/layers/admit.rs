//! `admit`: whether the tenant may call now. Checks its state, takes one request from its rate, reserves in its quotas,
//! and leaves an `Arc<Ticket>` in the request's extensions. A refused request takes nothing.

use std::{
    fmt::Write as _,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Request},
    response::Response,
};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::refuse;
use crate::{
    gateway::{
        admission::{Counter, Left, Taken},
        directory::{BoxFuture, Directory, Entry, Loaded, QuotaFact, SourceError},
    },
    identity::{Access, TokenError},
    kernel::{CalendarUnit, Standing, TenantId, TierName},
    metering::{Amounts, STOCK_METERS},
    web::{Kind, Problem, extract::unauthenticated},
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The meter of which every request takes one beforehand: `apis`.
const REQUESTS: u16 = 0;
const ONE: i64 = 1_000;

/// Holds a tenant's state, rate and quotas.
#[derive(Clone)]
pub struct AdmitLayer {
    directory: Directory,
}

impl AdmitLayer {
    /// Asks `directory`.
    pub const fn new(directory: Directory) -> Self {
        Self { directory }
    }
}

/// An admitted request: what it holds of the tenant's quotas, until it is settled or dropped.
pub struct Ticket {
    /// Whose request.
    pub tenant: TenantId,
    /// The tenant's tier.
    pub tier: TierName,
    held: Vec<(u16, Arc<Counter>, Taken)>,
    settled: AtomicBool,
}

impl Ticket {
    /// Replaces what was held by what was used; only the first call counts.
    pub fn settle(&self, amounts: &Amounts) {
        if self.settled.swap(true, Ordering::AcqRel) {
            return;
        }
        for (meter, counter, taken) in &self.held {
            let used = amounts.as_slice().iter().find(|amount| amount.meter == *meter);
            counter.settle(*taken, used.map_or(0, |amount| amount.thousandths));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.settle(&Amounts::default());
    }
}

/// The two headers of draft-ietf-httpapi-ratelimit-headers, being put together.
#[derive(Default)]
struct LimitHeaders {
    limits: String,
    policies: String,
}

impl LimitHeaders {
    fn add(&mut self, name: &str, limit: u64, window_s: u64, left: Left) {
        let separator = if self.limits.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(self.limits, "{separator}\"{name}\";r={};t={}", left.remaining, left.reset_s);
        let _ = write!(self.policies, "{separator}\"{name}\";q={limit};w={window_s}");
    }

    fn values(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let pairs = [(RATE_LIMIT, &self.limits), (RATE_LIMIT_POLICY, &self.policies)];
        pairs
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .filter_map(|(name, text)| Some((name, HeaderValue::from_str(text).ok()?)))
    }

    fn put_on(&self, mut problem: Problem) -> Problem {
        for (name, value) in self.values() {
            problem = problem.header(name, value);
        }
        problem
    }
}

impl AdmitLayer {
    fn admit(&self, tenant: TenantId, entry: &Entry, loaded: &Loaded) -> Result<(Ticket, LimitHeaders), Problem> {
        match loaded.facts.standing {
            Standing::Active => {}
            Standing::Refused(state) => {
                return Err(Problem::new(Kind::TENANT_NOT_ACTIVE, format!("the tenant is {state}")));
            }
            Standing::Gone => return Err(unauthenticated(&TokenError::Invalid("its tenant is gone"))),
        }
        let now = self.directory.clock().now();
        let mut headers = LimitHeaders::default();
        // From here on a refusal drops the ticket, which gives back what it holds.
        let mut ticket =
            Ticket { tenant, tier: loaded.facts.tier.clone(), held: Vec::new(), settled: AtomicBool::new(false) };
        for (quota, counter) in &loaded.limits {
            let amount = if quota.meter == REQUESTS { ONE } else { 0 };
            let (name, limit, window_s) = policy(quota);
            match counter.take(now, amount, quota.limit, quota.hard) {
                Ok((taken, left)) => {
                    headers.add(&name, limit, window_s, left);
                    ticket.held.push((quota.meter, Arc::clone(counter), taken));
                }
                Err(left) => {
                    headers.add(&name, limit, window_s, left);
                    let detail = format!("the quota of {limit} for {name} is used up");
                    let problem = Problem::new(Kind::QUOTA_EXCEEDED, detail).retry_after(left.reset_s.max(1));
                    return Err(headers.put_on(problem));
                }
            }
        }
        if let Some(terms) = loaded.facts.rate {
            let add = |headers: &mut LimitHeaders, left| {
                headers.add("rate", u64::from(terms.requests), u64::from(terms.per_s), left);
            };
            match entry.rate().take(terms, now) {
                Ok(left) => add(&mut headers, left),
                Err(left) => {
                    add(&mut headers, left);
                    let detail = format!("more than {} requests in {} s", terms.requests, terms.per_s);
                    return Err(
                        headers.put_on(Problem::new(Kind::QUOTA_EXCEEDED, detail).retry_after(left.reset_s.max(1)))
                    );
                }
            }
        }
        Ok((ticket, headers))
    }
}

/// A quota's name, limit in whole units, and length in seconds (a month counted as 30 days).
fn policy(quota: &QuotaFact) -> (String, u64, u64) {
    let (unit, window_s) = match quota.unit {
        CalendarUnit::Minute => ("minute", 60),
        CalendarUnit::Hour => ("hour", 3_600),
        CalendarUnit::Day => ("day", 86_400),
        CalendarUnit::Month => ("month", 2_592_000),
    };
    let meter = STOCK_METERS.get(usize::from(quota.meter)).map_or("usage", |meter| meter.key);
    (format!("{meter}-{unit}"), u64::try_from(quota.limit / ONE).unwrap_or(0), window_s)
}

impl<S> Layer<S> for AdmitLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit { inner, layer: self.clone() }
    }
}

/// The service of [`AdmitLayer`].
#[derive(Clone)]
pub struct Admit<S> {
    inner: S,
    layer: AdmitLayer,
}

type Found = Result<Option<(Arc<Entry>, Arc<Loaded>)>, SourceError>;

impl<S, B> Service<Request<B>> for Admit<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = AdmitFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(tenant) = request.extensions().get::<Arc<Access>>().and_then(|access| access.tenant) else {
            let problem = unauthenticated(&TokenError::Invalid("nobody authenticated this request"));
            return AdmitFuture::refused(problem, &request);
        };
        if let Some((entry, loaded)) = self.layer.directory.fresh(tenant) {
            return AdmitFuture::decided(&self.layer, tenant, &entry, &loaded, &mut self.inner, request);
        }
        let directory = self.layer.directory.clone();
        let loading = Box::pin(async move { directory.load(tenant).await });
        // The instance that was polled ready goes with the request; a clone takes its place.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        AdmitFuture::Loading { loading, waiting: Some((self.layer.clone(), tenant, inner, request)) }
    }
}

pin_project! {
    /// The future of [`Admit`].
    #[project = AdmitProjection]
    pub enum AdmitFuture<S, B> where S: Service<Request<B>> {
        /// The tenant's facts are being loaded.
        Loading { loading: BoxFuture<'static, Found>, waiting: Option<(AdmitLayer, TenantId, S, Request<B>)> },
        /// The inner service answers.
        Inner { #[pin] future: S::Future, headers: Vec<(HeaderName, HeaderValue)> },
        /// The layer does.
        Refused { response: Option<Response<Body>> },
    }
}

impl<S, B> AdmitFuture<S, B>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    fn refused(problem: Problem, request: &Request<B>) -> Self {
        Self::Refused { response: Some(refuse(problem, request)) }
    }

    fn decided(
        layer: &AdmitLayer,
        tenant: TenantId,
        entry: &Entry,
        loaded: &Loaded,
        inner: &mut S,
        mut request: Request<B>,
    ) -> Self {
        match layer.admit(tenant, entry, loaded) {
            Ok((ticket, headers)) => {
                request.extensions_mut().insert(Arc::new(ticket));
                Self::Inner { future: inner.call(request), headers: headers.values().collect() }
            }
            Err(problem) => Self::refused(problem, &request),
        }
    }
}

impl<S, B> Future for AdmitFuture<S, B>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Output = Result<Response<Body>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project() {
                AdmitProjection::Loading { loading, waiting } => {
                    let found = ready!(loading.as_mut().poll(cx));
                    let (layer, tenant, mut inner, request) =
                        waiting.take().expect("a future is not polled after it is done");
                    match found {
                        Ok(Some((entry, loaded))) => {
                            Self::decided(&layer, tenant, &entry, &loaded, &mut inner, request)
                        }
                        Ok(None) => {
                            Self::refused(unauthenticated(&TokenError::Invalid("its tenant is not known")), &request)
                        }
                        Err(error) => {
                            let problem = Problem::new(Kind::UNAVAILABLE, "the tenant's limits cannot be read now");
                            Self::refused(problem.retry_after(1).caused_by(error), &request)
                        }
                    }
                }
                AdmitProjection::Inner { future, headers } => {
                    let mut result = ready!(future.poll(cx));
                    if let Ok(response) = &mut result {
                        response.headers_mut().extend(headers.drain(..));
                    }
                    return Poll::Ready(result);
                }
                AdmitProjection::Refused { response } => {
                    return Poll::Ready(Ok(response.take().expect("a future is not polled after it is done")));
                }
            };
            self.set(next);
        }
    }
}
