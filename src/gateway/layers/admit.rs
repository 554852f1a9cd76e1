//! `admit`: whether the tenant may call now. Checks its state and the features of its tier, takes a slot for as long as the
//! call is under way, holds what it may use of its quotas, takes one request from its rates, and leaves an `Arc<Ticket>` in the
//! request's extensions. A refused request takes nothing.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{HeaderMap, Request, header},
    response::Response,
};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{
    admitted::Admitted,
    limits::{LimitHeaders, Limits},
    refuse,
    route_terms::RouteTerms,
    ticket::Ticket,
};
use crate::{
    gateway::{
        admission::{Left, NotTaken, RateTerms},
        directory::{BoxFuture, Directory, Known, SourceError},
        entry::Loaded,
        limit_headers,
        units::MeterRule,
    },
    identity::{Access, TokenError},
    kernel::{Standing, TenantId, Timestamp},
    web::{Kind, Problem, extract::unauthenticated},
};

/// Holds a tenant's state, slots, quotas and rates.
#[derive(Clone)]
pub struct AdmitLayer {
    gate: Arc<Gate>,
}

/// What all requests of a layer share.
pub(super) struct Gate {
    pub(super) directory: Directory,
    pub(super) route: RouteTerms,
}

impl AdmitLayer {
    /// Asks `directory`. The route counts `apis`, until [`Self::for_route`] says otherwise.
    pub fn new(directory: Directory) -> Self {
        let route = RouteTerms::counting(u64::MAX, MeterRule::requests());
        Self { gate: Arc::new(Gate { directory, route }) }
    }

    /// Holds tenants to a route's own terms, too.
    #[must_use]
    pub fn for_route(self, route: RouteTerms) -> Self {
        Self { gate: Arc::new(Gate { directory: self.gate.directory.clone(), route }) }
    }
}

/// Why a request is not let in.
enum Refusal {
    /// For good.
    Problem(Problem),
    /// A counter does not know this time; the tenant is to be loaded anew.
    Stale,
    /// The tenant is held; it is to be loaded when it is not any more.
    Held,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl AdmitLayer {
    fn admit(&self, tenant: TenantId, known: Known, now: Timestamp) -> Result<(Ticket, LimitHeaders), Refusal> {
        may_call(&known.1, &self.gate.route)?;
        // Whatever is not let in drops the ticket, which gives back what it holds by then.
        let mut ticket = Ticket::new(tenant, &self.gate, known);
        let mut limits = Limits::of(&ticket.loaded, &self.gate.route);
        match self.take(&mut ticket, &mut limits, now) {
            Ok(()) => {
                let headers = limits.done(&ticket.loaded);
                Ok((ticket, headers))
            }
            Err(Refused::Stale) => Err(Refusal::Stale),
            Err(Refused::Held) => Err(Refusal::Held),
            Err(Refused::Because(problem, violated)) => {
                ticket.refuse();
                limits.policy = Some(Box::new(limits.told(&ticket)));
                let mut headers = HeaderMap::new();
                limits.done(&ticket.loaded).put_on(&mut headers);
                let mut problem = problem;
                if let Some(tier) = &ticket.loaded.terms.limited_to {
                    problem = problem.member("limited_to", tier.as_str().into());
                }
                for (name, value) in &headers {
                    problem = problem.header(name.clone(), value.clone());
                }
                if let Some(name) = violated {
                    problem = problem.member("violated-policies", serde_json::json!([name]));
                }
                Err(Refusal::Problem(problem))
            }
        }
    }

    /// Lets a tenant's request in.
    pub(in crate::gateway) async fn let_in(&self, tenant: TenantId, headers: &HeaderMap) -> Result<Admitted, Problem> {
        match too_large(self.gate.route.body_limit, headers) {
            Some(problem) => Err(problem),
            None => self.let_in_any(tenant, self.now()).await,
        }
    }

    /// Lets a tenant's request in, whose body is so long, at this time.
    pub(in crate::gateway) async fn let_in_with(
        &self,
        tenant: TenantId,
        body: u64,
        now: Timestamp,
    ) -> Result<Admitted, Problem> {
        match self.gate.route.body_limit.filter(|limit| body > *limit) {
            Some(limit) => Err(body_too_large(limit)),
            None => self.let_in_any(tenant, now).await,
        }
    }

    fn now(&self) -> Timestamp {
        self.gate.directory.clock().now()
    }

    async fn let_in_any(&self, tenant: TenantId, now: Timestamp) -> Result<Admitted, Problem> {
        let directory = &self.gate.directory;
        let mut loading: BoxFuture<'_, Found> = match directory.fresh(tenant) {
            Some(known) => match self.admit(tenant, known, now) {
                Ok(admitted) => return Ok(Admitted::new(admitted)),
                Err(Refusal::Problem(problem)) => return Err(problem),
                Err(Refusal::Stale) => Box::pin(directory.load_anew(tenant)),
                Err(Refusal::Held) => Box::pin(directory.load(tenant)),
            },
            None => Box::pin(directory.load(tenant)),
        };
        loop {
            match self.admit_loaded(tenant, loading.await)? {
                Some(admitted) => return Ok(Admitted::new(admitted)),
                None => loading = Box::pin(directory.load(tenant)),
            }
        }
    }

    /// `None` for a tenant that is held, again.
    fn admit_loaded(&self, tenant: TenantId, found: Found) -> Result<Option<(Ticket, LimitHeaders)>, Problem> {
        let unreadable = || Problem::new(Kind::UNAVAILABLE, "the tenant's limits cannot be read now").retry_after(1);
        match found {
            Ok(Some(known)) => match self.admit(tenant, known, self.now()) {
                Ok(admitted) => Ok(Some(admitted)),
                Err(Refusal::Problem(problem)) => Err(problem),
                // The clock goes back faster than the tenant is loaded.
                Err(Refusal::Stale) => Err(unreadable()),
                Err(Refusal::Held) => Ok(None),
            },
            Ok(None) => Err(unauthenticated(&TokenError::Invalid("its tenant is not known"))),
            Err(error) => Err(unreadable().caused_by(error)),
        }
    }

    fn take(&self, ticket: &mut Ticket, limits: &mut Limits, now: Timestamp) -> Result<(), Refused> {
        let slots = self.take_slots(ticket, limits)?;
        self.hold_quotas(ticket, limits, now)?;
        self.take_rates(ticket, limits, now)?;
        for (name, remaining) in slots.into_iter().flatten() {
            limits.left.concurrency(name, remaining);
        }
        Ok(())
    }

    /// Takes slots; how many more of each kind there are.
    fn take_slots(
        &self,
        ticket: &mut Ticket,
        limits: &mut Limits,
    ) -> Result<[Option<(&'static str, u32)>; 2], Refused> {
        let (node, route) = (self.gate.directory.slots(), &self.gate.route);
        let most = ticket.loaded.terms.max_concurrency;
        let mut left = [None, None];
        // Who waits takes nobody's slot.
        if ticket.entry.holding.is_held() {
            return Err(Refused::Held);
        }
        let has = ticket.entry.in_flight.enter(most).map_err(|has| crowded(limits, limit_headers::CONCURRENCY, has))?;
        ticket.took.tenant_slot = true;
        // Counted first: whoever holds the tenant then waits for this one. Who held it may be done by now, and what was known
        // of it before be no longer so.
        if ticket.entry.holding.is_held() || self.gate.directory.is_outdated(&ticket.entry, &ticket.loaded) {
            return Err(Refused::Held);
        }
        ticket.took.node_slot = node.take(has).map_err(|_| overloaded())?;
        left[0] = most.map(|most| (limit_headers::CONCURRENCY, most.saturating_sub(has + 1)));
        if route.rate.is_some() || route.max_concurrency.is_some() {
            ticket.on_route = Some(ticket.entry.on_route(route.key));
        }
        if let (Some(most), Some(on_route)) = (route.max_concurrency, &ticket.on_route) {
            let has = on_route.in_flight.enter(Some(most));
            let has = has.map_err(|has| crowded(limits, limit_headers::ROUTE_CONCURRENCY, has))?;
            ticket.took.route_slot = true;
            left[1] = Some((limit_headers::ROUTE_CONCURRENCY, most.saturating_sub(has + 1)));
        }
        Ok(left)
    }

    fn hold_quotas(&self, ticket: &mut Ticket, limits: &mut Limits, now: Timestamp) -> Result<(), Refused> {
        for (quota, counter) in ticket.loaded.terms.quotas.iter().zip(&ticket.loaded.counters) {
            if let Some(amount) = self.gate.route.held(quota.meter) {
                match counter.hold(now, amount, quota.limit, quota.hard) {
                    Ok(left) => limits.quota(quota, left),
                    Err(NotTaken::ClockWentBack) => return Err(Refused::Stale),
                    Err(NotTaken::Full(left)) => {
                        limits.quota(quota, left);
                        let name = limit_headers::quota_name(quota);
                        let detail =
                            format!("the quota of {} for {name} is used up", limit_headers::units(quota.limit));
                        return Err(refused(detail, name, left.reset_s));
                    }
                }
            }
            ticket.took.quotas += 1;
        }
        Ok(())
    }

    fn take_rates(&self, ticket: &mut Ticket, limits: &mut Limits, now: Timestamp) -> Result<(), Refused> {
        if let Some(terms) = ticket.loaded.terms.rate {
            let taken = ticket.entry.rate.take(terms, now);
            take_rate(limits, limit_headers::RATE, terms, taken)?;
            ticket.took.rate = true;
        }
        if let (Some(terms), Some(on_route)) = (self.gate.route.rate, &ticket.on_route) {
            let taken = on_route.rate.take(terms, now);
            take_rate(limits, limit_headers::ROUTE_RATE, terms, taken)?;
            ticket.took.route_rate = true;
        }
        Ok(())
    }
}

/// Why nothing more was taken.
enum Refused {
    /// With the policy that is violated, if it is one.
    Because(Problem, Option<String>),
    Stale,
    Held,
}

fn may_call(loaded: &Loaded, route: &RouteTerms) -> Result<(), Problem> {
    match loaded.standing {
        Standing::Active => {}
        Standing::Unavailable => {
            let problem = Problem::new(Kind::UPSTREAM_UNAVAILABLE, "the tenant's infrastructure does not answer");
            return Err(problem.retry_after(5));
        }
        Standing::Refused(state) => {
            return Err(Problem::new(Kind::TENANT_NOT_ACTIVE, format!("the tenant is {state}")));
        }
        Standing::Gone => return Err(unauthenticated(&TokenError::Invalid("its tenant is gone"))),
    }
    let terms = &loaded.terms;
    match route.features.iter().find(|feature| !terms.features.contains(feature)) {
        None => Ok(()),
        Some(feature) => {
            let detail = format!("the tier {} does not have the feature {feature}", terms.tier);
            Err(Problem::new(Kind::FEATURE_MISSING, detail).member("feature", feature.as_str().into()))
        }
    }
}

fn take_rate(
    limits: &mut Limits,
    name: &'static str,
    terms: RateTerms,
    taken: Result<Left, Left>,
) -> Result<(), Refused> {
    let (Ok(left) | Err(left)) = taken;
    limits.rate(name, left);
    let detail = || format!("more than {} requests in {} s", terms.requests, terms.per_s);
    taken.map(drop).map_err(|left| refused(detail(), name.to_owned(), left.reset_s))
}

fn refused(detail: String, policy: String, retry_after_s: u64) -> Refused {
    Refused::Because(Problem::new(Kind::QUOTA_EXCEEDED, detail).retry_after(retry_after_s.max(1)), Some(policy))
}

/// When a request under way will end, nobody knows; a second later is as good a time to ask as any.
fn crowded(limits: &mut Limits, policy: &'static str, most: u32) -> Refused {
    limits.left.concurrency(policy, 0);
    limits.crowded = Some((policy, most));
    let detail = format!("{most} requests are under way, which is the most at once");
    refused(detail, policy.to_owned(), 1)
}

fn overloaded() -> Refused {
    let detail = "there is more to do than this node can; the tenant has its share of it under way";
    Refused::Because(Problem::new(Kind::OVERLOADED, detail).retry_after(1), None)
}

/// A request that says that its body is larger than the route takes.
pub(super) fn too_large(limit: Option<u64>, headers: &HeaderMap) -> Option<Problem> {
    let limit = limit?;
    let length: u64 = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (length > limit).then(|| body_too_large(limit))
}

/// Said also when it turns out while the body is read.
pub(super) fn body_too_large(limit: u64) -> Problem {
    Problem::new(Kind::TOO_LARGE, format!("the body is larger than {limit} bytes"))
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

type Found = Result<Option<Known>, SourceError>;

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
        if let Some(problem) = too_large(self.layer.gate.route.body_limit, request.headers()) {
            return AdmitFuture::refused(problem, &request);
        }
        let directory = self.layer.gate.directory.clone();
        let loading: BoxFuture<'static, Found> = match directory.fresh(tenant) {
            Some(known) => match self.layer.admit(tenant, known, self.layer.now()) {
                Ok(admitted) => return AdmitFuture::admitted(admitted, &mut self.inner, request),
                Err(Refusal::Problem(problem)) => return AdmitFuture::refused(problem, &request),
                Err(Refusal::Stale) => Box::pin(async move { directory.load_anew(tenant).await }),
                Err(Refusal::Held) => Box::pin(async move { directory.load(tenant).await }),
            },
            None => Box::pin(async move { directory.load(tenant).await }),
        };
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
        Inner { #[pin] future: S::Future, admitted: Option<Admitted> },
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

    fn admitted(admitted: (Ticket, LimitHeaders), inner: &mut S, mut request: Request<B>) -> Self {
        let admitted = Admitted::new(admitted);
        request.extensions_mut().insert(Arc::clone(&admitted.ticket));
        Self::Inner { future: inner.call(request), admitted: Some(admitted) }
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
                    match layer.admit_loaded(tenant, found) {
                        Ok(Some(admitted)) => Self::admitted(admitted, &mut inner, request),
                        Ok(None) => {
                            let directory = layer.gate.directory.clone();
                            let loading = Box::pin(async move { directory.load(tenant).await });
                            Self::Loading { loading, waiting: Some((layer, tenant, inner, request)) }
                        }
                        Err(problem) => Self::refused(problem, &request),
                    }
                }
                AdmitProjection::Inner { future, admitted } => {
                    let result = ready!(future.poll(cx));
                    let admitted = admitted.take().expect("a future is not polled after it is done");
                    return Poll::Ready(result.map(|response| admitted.answer(response)));
                }
                AdmitProjection::Refused { response } => {
                    return Poll::Ready(Ok(response.take().expect("a future is not polled after it is done")));
                }
            };
            self.set(next);
        }
    }
}
