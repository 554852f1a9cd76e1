//! The short way of a call: a request that is as plain as can be, whose route leads to one HTTP/1.1 target, is passed on as
//! bytes, and so is its answer. The same layers decide, in the same order, and say the same (`stack`); what they need of a
//! request is read from its bytes, and nothing else is made of it.
//!
//! Invariants: whatever is not plain goes the long way, before anything was taken or reserved; a refusal on the short way is
//! the long way's; an upstream and a client see by the one what they see by the other, but for the order and the spelling of
//! names.

mod deadline;
mod head;

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, StatusCode, uri::Authority},
};
use bytes::{Buf as _, BytesMut};

pub use deadline::Deadline;

use super::{
    arrival::Arrival,
    layers::{Admitted, AuthenticateLayer, Begun},
    path,
    routes::Gateway,
    stack::{Metered, Upstream, Way},
    table::Match,
    upstream::{Answered, Came, Forward},
};
use crate::{identity::Access, kernel::Timestamp, web::Problem};
pub use head::put;
use head::{Asked, Seen, look};

/// What is kept of a connection from one request to the next.
pub struct Client {
    arrival: Arrival,
    /// The last host that was found to be one, and what is said of the way of requests for it.
    host: String,
    forwarding: Vec<u8>,
    /// The request that an upstream is sent.
    told: Vec<u8>,
}

/// How a request begins.
pub enum Beginning {
    /// It is not all there; how long it is, once that is known.
    Part(Option<usize>),
    /// It goes the long way.
    Other,
    /// It is refused.
    Refused {
        /// With this.
        response: Box<Response<Body>>,
        /// Of which only the head is given.
        is_head: bool,
    },
    /// It was let in.
    Call(Box<Call>),
}

/// A call that was let in.
pub struct Call {
    way: Arc<Way>,
    access: Arc<Access>,
    admitted: Admitted,
    begun: Begun,
    method: Method,
    has_body: bool,
    /// Where in what is told the path lies.
    path: std::ops::Range<usize>,
}

/// The end of a call.
pub enum Ending {
    /// All of an answer was written; when it was there.
    Written(Instant),
    /// An answer that is written as it comes.
    Response(Response<Body>),
}

impl Client {
    /// Who came so.
    pub fn new(arrival: Arrival) -> Self {
        Self { arrival, host: String::new(), forwarding: Vec::new(), told: Vec::new() }
    }

    /// Gives back room beyond so many bytes.
    pub fn keep_at_most(&mut self, bytes: usize) {
        if self.told.capacity() > bytes {
            self.told = Vec::new();
        }
    }

    /// Whether that is a host (RFC 9112 section 3.2).
    fn knows(&mut self, host: &str) -> bool {
        if self.host == host && !host.is_empty() {
            return true;
        }
        if host.contains('@') || host.parse::<Authority>().is_err() {
            return false;
        }
        host.clone_into(&mut self.host);
        self.forwarding.clear();
        true
    }

    /// Says how a request came: of a proxy of ours it has to be put together each time.
    fn tell_way(&mut self, said: Option<axum::http::HeaderMap>) {
        if said.is_none() && !self.forwarding.is_empty() {
            self.told.extend_from_slice(&self.forwarding);
            return;
        }
        let is_usual = said.is_none();
        let mut headers = said.unwrap_or_default();
        self.arrival.tell_of(HeaderValue::from_str(&self.host).ok(), &mut headers);
        let begins = self.told.len();
        for (name, value) in &headers {
            put(&mut self.told, name.as_str().as_bytes(), value.as_bytes());
        }
        if is_usual {
            self.forwarding.extend_from_slice(&self.told[begins..]);
        }
    }
}

impl Gateway {
    /// Begins the call whose request is at the beginning of what was read, and takes that off. `is_own` says which paths
    /// are not the gateway's.
    pub async fn begin(&self, read: &mut BytesMut, client: &mut Client, is_own: impl Fn(&str) -> bool) -> Beginning {
        client.told.clear();
        let from_proxy = client.arrival.is_from_proxy();
        let mut told = std::mem::take(&mut client.told);
        let seen = look(read, from_proxy, &mut told, |asked, told| {
            let way = self.short_way(asked, client, &is_own)?;
            let Short { metered, host, .. } = way.as_short()?;
            begin_to_tell(told, asked, host);
            let forward_token = metered.identify.forward_token;
            Some((way, forward_token))
        });
        client.told = told;
        let (asked, way) = match seen {
            Seen::Part(length) => return Beginning::Part(length),
            Seen::Other => return Beginning::Other,
            Seen::Whole(asked, way) => (asked, way),
        };
        let Some(Short { metered, .. }) = way.as_short() else { return Beginning::Other };
        let path = asked.method.as_str().len() + 1;
        let path = path..path + asked.path.len();
        let now = metered.identify.clock.now();
        let (access, admitted, begun) = match metered.let_in_whole(asked.token, asked.body, now).await {
            Ok(let_in) => let_in,
            Err(problem) => {
                let (refused, all) = (problem.render(asked.path), asked.head + asked.body);
                let is_head = asked.method == Method::HEAD;
                read.advance(all);
                return Beginning::Refused { response: Box::new(refused), is_head };
            }
        };
        let caller = Some((&*access, &*admitted.ticket));
        metered.identify.introduce(caller, now, asked.has_trace, |name, text| {
            put(&mut client.told, name.as_str().as_bytes(), text.as_bytes());
        });
        let Asked { method, head, body, way: said, .. } = asked;
        client.tell_way(from_proxy.then_some(said));
        client.told.extend_from_slice(b"\r\n");
        client.told.extend_from_slice(&read[head..head + body]);
        read.advance(head + body);
        Beginning::Call(Box::new(Call { way, access, admitted, begun, method, has_body: body > 0, path }))
    }

    /// The route of a request, if it is one that has a short way.
    fn short_way(&self, asked: &Asked<'_>, client: &mut Client, is_own: impl Fn(&str) -> bool) -> Option<Arc<Way>> {
        if path::fault(asked.path).is_some() || !client.knows(asked.host) || is_own(asked.path) {
            return None;
        }
        self.way(|table| match table.find_by(asked.path, Some(asked.host), &asked.method) {
            Match::Route(place) => Some(place),
            Match::Method(_) | Match::None => None,
        })
    }
}

/// A way that is short.
struct Short<'w> {
    metered: &'w Metered,
    forward: &'w Forward,
    /// What its target is called.
    host: &'w HeaderValue,
}

/// Whoever begins a call asks first.
#[derive(Debug, thiserror::Error)]
#[error("the route has no short way")]
pub(super) struct NoShortWay;

impl Way {
    fn as_short(&self) -> Option<Short<'_>> {
        let Self::Metered(metered) = self else { return None };
        let Upstream::Http(forward) = &metered.upstream else { return None };
        let host = forward.short().filter(|_| metered.meter.is_short())?;
        Some(Short { metered, forward, host })
    }
}

impl Metered {
    /// The steps of [`Metered::call`], for a request whose body is there.
    async fn let_in_whole(
        &self,
        token: &str,
        body: usize,
        now: Timestamp,
    ) -> Result<(Arc<Access>, Admitted, Begun), Problem> {
        let access = self.authenticate.who_has(token, now).await?;
        let Some(tenant) = access.tenant else { return Err(AuthenticateLayer::without_tenant()) };
        let admitted = self.admit.let_in_with(tenant, body as u64, now).await?;
        let begun = self.meter.begin_whole(Arc::clone(&admitted.ticket), body)?;
        Ok((access, admitted, begun))
    }
}

fn begin_to_tell(told: &mut Vec<u8>, asked: &Asked<'_>, host: &HeaderValue) {
    told.extend_from_slice(asked.method.as_str().as_bytes());
    told.push(b' ');
    told.extend_from_slice(asked.target.as_bytes());
    told.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    told.extend_from_slice(host.as_bytes());
    told.extend_from_slice(b"\r\n");
}

impl Call {
    /// Whether the answer has a head alone.
    pub fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Has the request answered. An answer that is all there is written to `out`; `add` writes what the connection adds to
    /// the headers, which have a date or not.
    pub async fn answer(
        self: Box<Self>,
        client: &Client,
        out: &mut Vec<u8>,
        deadline: &mut Deadline,
        add: impl FnOnce(&mut Vec<u8>, bool),
    ) -> Ending {
        let call = self;
        let Some(Short { metered, forward, .. }) = call.way.as_short() else {
            return Ending::Response(Problem::internal(NoShortWay).render(""));
        };
        let began = call.begun.started();
        let came = match call.admitted.ticket.own_way(forward) {
            None => forward.exchange(&client.told, &call.method, call.has_body, began, deadline).await,
            // Seldom enough, and any target at all: it goes on by the long way.
            Some(own) => own.send_told(&client.told).await,
        };
        let response = match came {
            Came::Whole(answered) => {
                let (body, at) = (answered.body(), answered.at());
                if let Err(refused) = call.begun.answered_whole(answered.status(), body.len(), at) {
                    return Ending::Response(refused);
                }
                write_whole(out, &answered, &call.admitted, add);
                call.admitted.over();
                return Ending::Written(at);
            }
            Came::Response(response) => response,
            Came::Nothing(problem) => {
                problem.render(std::str::from_utf8(&client.told[call.path.clone()]).unwrap_or_default())
            }
        };
        let response = call.admitted.answer(call.begun.answer(response).await);
        Ending::Response(metered.authenticate.answer(response, call.access))
    }
}

fn write_whole(out: &mut Vec<u8>, answered: &Answered, admitted: &Admitted, add: impl FnOnce(&mut Vec<u8>, bool)) {
    write_status(out, answered.status());
    for (name, value) in answered.headers() {
        put(out, name, value);
    }
    for (name, value) in admitted.limits() {
        put(out, name.as_str().as_bytes(), value.as_bytes());
    }
    add(out, answered.has_date());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(answered.body());
}

/// Writes the first line of an answer.
pub fn write_status(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("<none>").as_bytes());
    out.extend_from_slice(b"\r\n");
}
