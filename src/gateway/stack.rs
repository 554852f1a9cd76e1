//! The order of the layers, outermost first, each with its reason.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, header},
};
use tower::{Layer, Service, service_fn, util::BoxCloneSyncService};

use super::{
    headers::{
        REQUEST_ID, TENANT_ID, TENANT_TIER, TRACEPARENT, USER_ID, is_traceparent, strip_hop_by_hop, strip_identity,
        strip_our_cookies,
    },
    layers::{AdmitLayer, AuthenticateLayer, MeterLayer, Ticket},
    upstream::{Forward, Hop},
};
use crate::{
    identity::{Access, Subject},
    kernel::{Clock, Rng, ids::uuid_v7, rng::random_bytes},
};

/// What answers a route's requests.
pub(super) type Upstream = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// A metered route's layers round its upstream.
pub(super) fn metered<S>(
    authenticate: &AuthenticateLayer,
    admit: &AdmitLayer,
    meter: &MeterLayer,
    upstream: S,
) -> Upstream
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    // 3. meter: innermost, so that it sees the upstream's own answer and only admitted requests.
    let service = meter.layer(upstream);
    // 2. admit: knows the tenant from the token; refuses before anything is reserved in the journal.
    let service = admit.layer(service);
    // 1. authenticate: outermost; nothing of a request is believed before its token is.
    BoxCloneSyncService::new(authenticate.layer(service))
}

/// Tells the upstream who calls. Runs inside `admit`, outside the upstream; takes hop-by-hop headers away, and the
/// client's token unless the route wants it.
#[derive(Clone)]
pub(super) struct Identify<S> {
    pub(super) inner: S,
    pub(super) forward_token: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Arc<dyn Rng>,
}

impl<S> Service<Request<Body>> for Identify<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        let access = request.extensions().get::<Arc<Access>>().cloned();
        let tier = request.extensions().get::<Arc<Ticket>>().map(|ticket| ticket.tier.to_string());
        let id = uuid_v7(self.clock.now(), &*self.rng);
        Hop::note(&mut request);
        let headers = request.headers_mut();
        // Before anything is added: `Connection` may name any header, and must not name ours away.
        strip_hop_by_hop(headers);
        strip_identity(headers);
        strip_our_cookies(headers);
        if !self.forward_token {
            headers.remove(header::AUTHORIZATION);
        }
        let mut set = |name, text: String| {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        };
        set(REQUEST_ID, id.to_string());
        if let Some(access) = access {
            if let Some(tenant) = access.tenant {
                set(TENANT_ID, tenant.to_string());
            }
            match &access.subject {
                Subject::User(user) => set(USER_ID, user.to_string()),
                // Any text; one that is no value of a header is not passed on.
                Subject::Foreign(subject) => set(USER_ID, subject.sub.to_string()),
                Subject::Client(_) => {}
            }
        }
        if let Some(tier) = tier {
            set(TENANT_TIER, tier);
        }
        if !headers.get(TRACEPARENT).is_some_and(is_traceparent) {
            let trace = u128::from_be_bytes(random_bytes(&*self.rng));
            let span = u64::from_be_bytes(random_bytes(&*self.rng));
            let value = format!("00-{trace:032x}-{span:016x}-01");
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(TRACEPARENT, value);
            }
        }
        self.inner.call(request)
    }
}

/// An upstream over HTTP.
pub(super) fn forwarding(forward: Forward) -> Upstream {
    let forward = Arc::new(forward);
    boxed(service_fn(move |request: Request<Body>| {
        let forward = Arc::clone(&forward);
        async move { Ok::<_, Infallible>(forward.call(request).await) }
    }))
}

/// An upstream that never fails: what cannot be reached is answered with a problem.
pub(super) fn boxed<S>(upstream: S) -> Upstream
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(upstream)
}
