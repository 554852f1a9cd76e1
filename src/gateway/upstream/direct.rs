//! The short way to an upstream that speaks HTTP/1.1: connections that are kept by the thread that uses them.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderValue, Request, Response},
};
use http_body::{Frame, SizeHint};
use tokio::net::TcpStream;

use super::{
    framing::{Framing, Next},
    line::{Broken, Line, Upload},
    send::{Cause, SendError},
    wire::Head,
};
use crate::gateway::worker;

/// An idle connection is kept this long.
const IDLE: Duration = Duration::from_mins(1);
/// So many idle connections are kept by a thread.
const MOST_IDLE: usize = 1_024;

/// One address.
pub(super) struct Direct {
    /// What is connected to.
    name: String,
    port: u16,
    /// What requests say that they are for.
    host: HeaderValue,
    /// How long a connection may take to come about.
    patience: Duration,
    idle: Arc<Idle>,
}

/// Idle connections, and since when; the last used at the end.
type Lines = Vec<(Instant, Line)>;

/// Idle connections by worker.
pub(super) struct Idle {
    of: Box<[Mutex<Lines>]>,
}

impl Idle {
    fn own(&self) -> Option<&Mutex<Lines>> {
        self.of.get(worker::current())
    }

    pub(super) fn take(&self, now: Instant) -> Option<Line> {
        let mut lines = self.own()?.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((since, line)) = lines.pop() {
            // The rest have been idle for longer.
            if now.saturating_duration_since(since) > IDLE {
                lines.clear();
                return None;
            }
            if line.is_open() {
                return Some(line);
            }
        }
        None
    }

    /// Closes those that were idle for too long; whoever needs one looks at its own alone.
    fn close_old(&self, now: Instant) {
        for lines in &self.of {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.retain(|(since, _)| now.saturating_duration_since(*since) <= IDLE);
        }
    }

    pub(super) fn put(&self, line: Line, now: Instant) {
        let Some(own) = self.own() else { return };
        let mut lines = own.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.first().is_some_and(|(since, _)| now.saturating_duration_since(*since) > IDLE) {
            lines.remove(0);
        }
        if lines.len() < MOST_IDLE {
            lines.push((now, line));
        }
    }
}

/// How long a connection has been idle is real time.
#[expect(clippy::disallowed_methods, reason = "a stopwatch, not a clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

impl Direct {
    /// Connects to nothing yet.
    pub(super) fn new((name, port): (&str, u16), host: HeaderValue, patience: Duration) -> Self {
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let of = (0..=worker::MOST).map(|_| Mutex::default()).collect();
        Self { name, port, host, patience, idle: Arc::new(Idle { of }) }
    }

    /// Closes connections that are idle for too long, for ever.
    pub(super) fn keep_tidy(&self) -> impl Future<Output = ()> + Send + 'static {
        let idle = Arc::clone(&self.idle);
        async move {
            loop {
                tokio::time::sleep(IDLE).await;
                idle.close_old(now());
            }
        }
    }

    /// What is said in `Host`.
    pub(super) const fn host(&self) -> &HeaderValue {
        &self.host
    }

    pub(super) const fn idle(&self) -> &Arc<Idle> {
        &self.idle
    }

    /// The head of the target's answer; its body flows as it is read.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, SendError> {
        let (parts, body) = request.into_parts();
        let mut upload = Upload::of(body, &parts.headers);
        let mut idle = self.idle.take(now());
        loop {
            let (mut line, used) = match idle.take() {
                Some(line) => (line, true),
                None => match self.connect().await {
                    Ok(line) => (line, false),
                    Err(error) => return Err(SendError::Connect(Cause(error.into()))),
                },
            };
            match line.exchange(&parts, &self.host, &mut upload).await {
                Ok(head) => return Ok(answer(head, line, upload, &self.idle)),
                // It was closed while it was idle, as far as anybody can tell (RFC 9110 section 9.2.2): a new one is made.
                Err(Broken::Silent(_)) if used && upload.is_empty() && parts.method.is_idempotent() => {}
                Err(error) => return Err(SendError::Broken(Cause(error.into()))),
            }
        }
    }

    pub(super) async fn connect(&self) -> io::Result<Line> {
        let connecting = TcpStream::connect((self.name.as_str(), self.port));
        let stream = tokio::time::timeout(self.patience, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        drop(stream.set_nodelay(true));
        Ok(Line::new(stream))
    }
}

/// A response with this head, whose body flows as it is read, while the rest of the request is sent.
pub(super) fn answer(head: Head, line: Line, upload: Upload, home: &Arc<Idle>) -> Response<Body> {
    let upload = Some(upload).filter(|upload| !upload.is_done() || line.owes());
    let mut answer =
        Answer { line: Some(line), framing: head.framing, keeps: head.keeps, upload, home: Arc::clone(home) };
    answer.go_home_if_over();
    let mut response = Response::new(if answer.line.is_none() { Body::empty() } else { Body::new(answer) });
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

/// The body of an answer; the connection goes back when it is over, and is closed when it is dropped before.
struct Answer {
    line: Option<Line>,
    framing: Framing,
    keeps: bool,
    upload: Option<Upload>,
    home: Arc<Idle>,
}

impl Answer {
    fn go_home_if_over(&mut self) {
        if !self.framing.is_over() {
            return;
        }
        if let Some(line) = self.line.take()
            && self.keeps
            && line.is_clean(self.upload.as_ref())
        {
            self.home.put(line, now());
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        let Some(line) = &mut this.line else { return Poll::Ready(None) };
        let next = match ready!(line.poll_body(cx, &mut this.framing, &mut this.upload)) {
            Ok(next) => next,
            Err(error) => {
                this.line = None;
                return Poll::Ready(Some(Err(error)));
            }
        };
        let frame = match next {
            Next::Data(data) => Some(Ok(Frame::data(data))),
            Next::End(trailers) => {
                this.framing = Framing::Length(0);
                trailers.map(|trailers| Ok(Frame::trailers(*trailers)))
            }
            Next::Read => None,
        };
        this.go_home_if_over();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.line.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Length(left) => SizeHint::with_exact(left),
            Framing::Chunked(_) | Framing::Close => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn connections_that_nobody_needs_are_closed_after_a_minute() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let direct = Direct::new(("127.0.0.1", address.port()), HeaderValue::from_static("x"), Duration::from_secs(5));
        let line = direct.connect().await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let since = now();
        direct.idle.put(line, since);
        direct.idle.close_old(since + IDLE);
        let line = direct.idle.take(since).expect("it is kept for a minute");
        direct.idle.put(line, since);
        direct.idle.close_old(since + IDLE + Duration::from_secs(1));
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
    }
}
