//! An exchange with an upstream whose request is all there, as bytes: the short way. An answer that is all there, too, is given
//! on as it is; any other becomes a response, as on the long way.

use std::{future::poll_fn, sync::Arc, time::Instant as Moment};

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, StatusCode},
};
use tokio::time::Instant;

use super::{
    Forward,
    cluster::Cluster,
    direct::{Direct, Idle, answer, now},
    health::is_failure,
    line::{Broken, Line},
    send::{Cause, SendError},
    target::Target,
    whole::{Seen, Whole},
};
use crate::{
    gateway::{
        headers::{strip_forged_cookies, strip_hop_by_hop},
        short::{Deadline, NoShortWay},
    },
    web::Problem,
};

/// What came of an exchange.
pub(in crate::gateway) enum Came {
    /// All of an answer.
    Whole(Answered),
    /// An answer that goes on.
    Response(Response<Body>),
    /// None.
    Nothing(Problem),
}

/// An answer, and the connection that it came on, which goes back when this is dropped.
pub(in crate::gateway) struct Answered {
    whole: Whole,
    line: Option<Line>,
    home: Arc<Idle>,
    /// When it was there.
    at: Moment,
}

impl Forward {
    /// What is said in `Host` to the one target that this leads to, if requests can go there by the short way: there is
    /// nothing to choose, to count or to watch over, and the path stays as it is.
    pub(in crate::gateway) fn short(&self) -> Option<&HeaderValue> {
        self.cluster.short().filter(|_| self.terms.prefix().is_empty()).map(|(_, direct)| direct.host())
    }

    /// Sends a request that began then, and waits for the beginning of the answer as long as the route says.
    pub(in crate::gateway) async fn exchange(
        &self,
        told: &[u8],
        method: &Method,
        has_body: bool,
        began: Moment,
        deadline: &mut Deadline,
    ) -> Came {
        let Some((target, direct)) = self.cluster.short() else {
            return Came::Nothing(Problem::internal(NoShortWay));
        };
        deadline.set(Instant::from_std(began) + self.terms.first_byte);
        let again = !has_body && method.is_idempotent();
        let came = match direct.exchange(told, method, again, began, deadline).await {
            Ok(came) => came,
            Err(Some(SendError::Connect(cause) | SendError::Broken(cause))) => {
                target.health.failed(false, Instant::now());
                return Came::Nothing(self.cluster.unreachable(target, cause));
            }
            Err(None) => {
                target.health.failed(false, Instant::now());
                return Came::Nothing(Cluster::too_late());
            }
        };
        let status = match &came {
            Came::Whole(answered) => answered.whole.status,
            Came::Response(response) => response.status(),
            Came::Nothing(_) => return came,
        };
        if is_failure(status) {
            target.health.failed(false, Instant::now());
        } else {
            target.health.answered();
        }
        came
    }
}

impl Cluster {
    fn short(&self) -> Option<(&Arc<Target>, &Direct)> {
        let target = self.only_target()?;
        Some((target, target.short()?))
    }
}

impl Direct {
    /// `Err(None)` when the deadline went off.
    async fn exchange(
        &self,
        told: &[u8],
        method: &Method,
        again: bool,
        began: Moment,
        deadline: &mut Deadline,
    ) -> Result<Came, Option<SendError>> {
        let mut idle = self.idle().take(began);
        loop {
            let (mut line, used) = match idle.take() {
                Some(line) => (line, true),
                None => match tokio::time::timeout_at(deadline.due(), self.connect()).await {
                    Ok(Ok(line)) => (line, false),
                    Ok(Err(error)) => return Err(Some(SendError::Connect(Cause(error.into())))),
                    Err(_) => return Err(None),
                },
            };
            line.begin();
            let mut sent = 0;
            let seen = poll_fn(|cx| line.poll_whole(cx, told, &mut sent, method, deadline)).await;
            match seen {
                None => return Err(None),
                Some(Ok(Seen::Whole(whole))) => {
                    line.note_unsent(sent < told.len());
                    let home = Arc::clone(self.idle());
                    return Ok(Came::Whole(Answered { whole, line: Some(line), home, at: now() }));
                }
                Some(Ok(_)) => {
                    let mut rest = line.owe(&told[sent..]);
                    let head = tokio::time::timeout_at(deadline.due(), line.head(method, &mut rest)).await;
                    let head = head.map_err(|_| None)?.map_err(|error| Some(SendError::Broken(Cause(error.into()))))?;
                    let mut response = answer(head, line, rest, self.idle());
                    strip_hop_by_hop(response.headers_mut());
                    strip_forged_cookies(response.headers_mut());
                    return Ok(Came::Response(response));
                }
                // It was closed while it was idle, as far as anybody can tell (RFC 9110 section 9.2.2): a new one is made.
                Some(Err(Broken::Silent(_))) if used && again => {}
                Some(Err(error)) => return Err(Some(SendError::Broken(Cause(error.into())))),
            }
        }
    }
}

impl Answered {
    pub(in crate::gateway) const fn status(&self) -> StatusCode {
        self.whole.status
    }

    pub(in crate::gateway) const fn at(&self) -> Moment {
        self.at
    }

    pub(in crate::gateway) const fn has_date(&self) -> bool {
        self.whole.has_date
    }

    /// The headers that the client is to see.
    pub(in crate::gateway) fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.line.iter().map(Line::seen).flat_map(|(read, places)| {
            places.iter().map(move |(name, value)| (&read[name.clone()], &read[value.clone()]))
        })
    }

    /// All of the body.
    pub(in crate::gateway) fn body(&self) -> &[u8] {
        let read = self.line.as_ref().map_or(&[][..], |line| line.seen().0);
        read.get(self.whole.head..self.whole.head + self.whole.body).unwrap_or_default()
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.pass_over(self.whole.head + self.whole.body);
            if self.whole.keeps && line.is_clean(None) {
                self.home.put(line, self.at);
            }
        }
    }
}
