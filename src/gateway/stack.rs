//! The way of a call through the gateway: the order of the layers, outermost first, each with its reason. The layers
//! themselves can be put round anybody's service; here their steps follow one another in one future, without a box or a
//! clone between them.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Request, Response, header},
};
use tower::{ServiceExt as _, util::BoxCloneSyncService};

use super::{
    arrival::{self, Arrival},
    exchange::Exchange,
    headers::{
        REQUEST_ID, TENANT_ID, TENANT_TIER, TRACEPARENT, USER_ID, is_traceparent, strip_hop_by_hop, strip_identity,
        strip_our_cookies,
    },
    layers::{AdmitLayer, AuthenticateLayer, Form, Limit, MeterLayer, Ticket},
    upstream::{Forward, Hop},
    usage,
};
use crate::{
    identity::{Access, Subject, TokenLife},
    kernel::{Clock, Rng, Timestamp, ids::uuid_v7, rng::random_bytes},
    web::{Problem, Wording},
};

/// A route's way.
pub(super) enum Way {
    /// With a token, and metered.
    Metered(Metered),
    /// Without; what the upstream reports is not the client's business either.
    Public { limit: Option<Limit>, identify: Identify, upstream: Upstream },
}

/// The layers of a metered route.
pub(super) struct Metered {
    pub(super) authenticate: AuthenticateLayer,
    pub(super) admit: AdmitLayer,
    pub(super) meter: MeterLayer,
    pub(super) identify: Identify,
    pub(super) upstream: Upstream,
}

/// What answers a route's requests in the end. It never fails: what cannot be reached is answered with a problem.
pub(super) enum Upstream {
    /// A service of our own.
    Own(Own),
    /// Over HTTP.
    Http(Arc<Forward>),
}

/// A service in this process.
pub(super) type Own = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

impl Way {
    /// The answer to a request.
    pub(super) async fn call(&self, request: Request<Body>, arrival: Option<&Arrival>) -> Response<Body> {
        match self {
            Self::Metered(metered) => metered.call(request, arrival).await,
            Self::Public { limit, identify, upstream } => {
                let answer = |request| async {
                    let mut response = upstream.call(identify.tell(request, None, arrival, || None)).await;
                    usage::take(response.headers_mut());
                    response
                };
                match limit {
                    Some(limit) => limit.call(request, answer).await,
                    None => answer(request).await,
                }
            }
        }
    }
}

impl Metered {
    async fn call(&self, mut request: Request<Body>, arrival: Option<&Arrival>) -> Response<Body> {
        // 1. authenticate: outermost; nothing of a request is believed before its token is.
        let access = match self.authenticate.who_calls(&mut request).await {
            Ok(access) => access,
            Err(problem) => return refuse(problem, &request),
        };
        let Some(tenant) = access.tenant else { return refuse(AuthenticateLayer::without_tenant(), &request) };
        // 2. admit: knows the tenant from the token; refuses before anything is reserved in the journal.
        let admitted = match self.admit.let_in(tenant, request.headers()).await {
            Ok(admitted) => admitted,
            Err(problem) => return refuse(problem, &request),
        };
        // 3. meter: within admit, so that it sees the upstream's own answer and only admitted requests.
        let response = match self.meter.begin(Arc::clone(&admitted.ticket), request) {
            Ok((request, begun)) => {
                // 4. form: innermost, so that a form with a token in it is a failure of the call, and not billed.
                let (request, form) = Form::looked_through(request);
                let life = || Some(self.authenticate.life(&access));
                let request = self.identify.tell(request, Some((&access, &admitted.ticket)), arrival, life);
                let (response, begun) = match &self.upstream {
                    Upstream::Own(_) => (form.unless_it_has_a_token(self.upstream.call(request).await), begun),
                    Upstream::Http(forward) => {
                        let own = admitted.ticket.own_way(forward).map(Arc::new);
                        let to = own.unwrap_or_else(|| Arc::clone(forward));
                        let answer = async move { form.unless_it_has_a_token(Upstream::Http(to).call(request).await) };
                        Exchange::new(answer, begun, forward.background()).await
                    }
                };
                begun.answer(response).await
            }
            Err(refusal) => refusal,
        };
        self.authenticate.answer(admitted.answer(response), access)
    }
}

impl Upstream {
    async fn call(&self, request: Request<Body>) -> Response<Body> {
        match self {
            Self::Own(service) => {
                let Ok(response) = service.clone().oneshot(request).await;
                response
            }
            // In a box: the way to an upstream takes kilobytes, which would be moved with every step round it.
            Self::Http(forward) => Box::pin(forward.call(request)).await,
        }
    }
}

fn refuse(problem: Problem, request: &Request<Body>) -> Response<Body> {
    problem.render_in(Wording::of(request), request.uri().path())
}

/// Headers that are added at most, and the forwarding ones.
const ADDED: usize = 10;

/// Tells the upstream who calls. Takes hop-by-hop headers away, and the client's token unless the route wants it.
pub(super) struct Identify {
    pub(super) forward_token: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Arc<dyn Rng>,
}

impl Identify {
    /// Says what an upstream is told of a request by us alone: its id, who calls, and a trace where it has none.
    pub(super) fn introduce(
        &self,
        caller: Option<(&Access, &Ticket)>,
        now: Timestamp,
        has_trace: bool,
        mut say: impl FnMut(HeaderName, &str),
    ) {
        let mut text = [0; 36];
        say(REQUEST_ID, uuid_v7(now, &*self.rng).hyphenated().encode_lower(&mut text));
        if let Some((access, ticket)) = caller {
            say(TENANT_ID, ticket.tenant.as_uuid().hyphenated().encode_lower(&mut text));
            match &access.subject {
                Subject::User(user) => say(USER_ID, user.as_uuid().hyphenated().encode_lower(&mut text)),
                // Any text; one that is no value of a header is not passed on.
                Subject::Foreign(subject) if HeaderValue::from_str(&subject.sub).is_ok() => say(USER_ID, &subject.sub),
                Subject::Foreign(_) | Subject::Client(_) => {}
            }
            say(TENANT_TIER, ticket.tier.as_str());
        }
        if !has_trace {
            say(TRACEPARENT, &new_traceparent(&*self.rng));
        }
    }

    fn tell(
        &self,
        mut request: Request<Body>,
        caller: Option<(&Arc<Access>, &Arc<Ticket>)>,
        arrival: Option<&Arrival>,
        life: impl FnOnce() -> Option<TokenLife>,
    ) -> Request<Body> {
        Hop::note(&mut request, life);
        let headers = request.headers_mut();
        // Once for all that is added.
        headers.reserve(ADDED);
        // Before anything is added: `Connection` may name any header, and must not name ours away.
        strip_hop_by_hop(headers);
        if caller.is_none() {
            // Whoever authenticates does so before looking at anything.
            strip_identity(headers);
        }
        strip_our_cookies(headers);
        if !self.forward_token {
            headers.remove(header::AUTHORIZATION);
        }
        let has_trace = headers.get(TRACEPARENT).is_some_and(is_traceparent);
        let caller = caller.map(|(access, ticket)| (&**access, &**ticket));
        self.introduce(caller, self.clock.now(), has_trace, |name, text| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        });
        match arrival {
            Some(arrival) => arrival.tell(&mut request),
            None => arrival::strip(request.headers_mut()),
        }
        request
    }
}

/// The beginning of a trace (W3C Trace Context section 3.2).
fn new_traceparent(rng: &dyn Rng) -> String {
    let random: [u8; 24] = random_bytes(rng);
    let mut text = String::with_capacity(55);
    text.push_str("00-");
    push_hex(&mut text, &random[..16]);
    text.push('-');
    push_hex(&mut text, &random[16..]);
    text.push_str("-01");
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}
