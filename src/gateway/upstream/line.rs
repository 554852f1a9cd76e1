//! One connection to an upstream, and one exchange on it: the request is written by the task that answers the client, and
//! the answer is read by it. No other task, no channel, no lock lies between.
//!
//! A request's body and its answer flow at the same time; an answer may come before the body is sent, and then the body goes
//! on while the answer is read. What the client asked to be waited for (`Expect: 100-continue`) is waited for.

use std::{
    future::{Future, poll_fn},
    io::{self, ErrorKind, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderMap, HeaderValue, Method, header, request::Parts, uri::PathAndQuery},
};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{io::AsyncWrite as _, net::TcpStream, time::Sleep};
use tokio_util::io::poll_read_buf;

use super::{
    framing::{Framing, Next},
    whole::{Seen, look},
    wire::{Head, Length, Malformed, Places, take_head, write_head},
};
use crate::gateway::short::Deadline;

/// Room for what is read at once.
const READ: usize = 8 * 1024;
/// The most room: a connection that filled what it had gets twice as much for the next time.
const MOST_READ: usize = 128 * 1024;
/// Pieces of a body up to this many bytes are put together with what goes before and after them.
const SMALL: usize = 16 * 1024;
/// A body whose sender waits to be told to go on is sent all the same after this long (RFC 9110 section 10.1.1).
const WAIT: Duration = Duration::from_secs(1);

/// Why an exchange came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The connection was closed, or failed, before a byte of an answer.
    #[error("the upstream closed the connection without an answer")]
    Silent(#[source] Option<io::Error>),
    /// The connection failed.
    #[error("the connection failed")]
    Failed(#[source] io::Error),
    /// The answer is no HTTP/1.1.
    #[error("the upstream's answer cannot be read")]
    Malformed(#[source] Malformed),
    /// The client's request ended before its end.
    #[error("the client broke off its request")]
    Client(#[source] axum::Error),
}

/// An open connection.
pub(super) struct Line {
    stream: TcpStream,
    read: BytesMut,
    room: usize,
    out: Vec<u8>,
    written: usize,
    places: Places,
    /// Bytes of answers that only inform, in this exchange.
    interim: usize,
    /// A request on it did not come to its end.
    broken: bool,
}

/// A request's body on its way.
pub(super) struct Upload {
    body: Body,
    length: Length,
    /// Of a large piece, what is not written yet.
    data: Bytes,
    state: Going,
}

/// How far a body has gone.
enum Going {
    /// The client waits to be told to go on.
    Waits(Pin<Box<Sleep>>),
    /// Pieces follow.
    On,
    /// All of it is in what is to be written.
    Ended,
}

impl Upload {
    /// Of a request with these headers.
    pub(super) fn of(body: Body, headers: &HeaderMap) -> Self {
        let length = match body.size_hint().exact() {
            _ if body.is_end_stream() => Length::None,
            Some(bytes) => Length::Exact(bytes),
            None => Length::Chunked,
        };
        let expects =
            || headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let state = match length {
            Length::None => Going::Ended,
            _ if expects() => Going::Waits(Box::pin(tokio::time::sleep(WAIT))),
            _ => Going::On,
        };
        Self { body, length, data: Bytes::new(), state }
    }

    /// Whether there is no body at all: the request can be sent once more.
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self.length, Length::None)
    }

    /// Of a request that is sent otherwise.
    fn none() -> Self {
        Self { body: Body::empty(), length: Length::None, data: Bytes::new(), state: Going::Ended }
    }

    /// Whether all of it is on its way.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, Going::Ended) && self.data.is_empty()
    }
}

impl Line {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
            room: READ,
            out: Vec::new(),
            written: 0,
            places: Places::new(),
            interim: 0,
            broken: false,
        }
    }

    /// Whether an idle connection can be used: the upstream has neither closed it nor said anything unasked.
    pub(super) fn is_open(&self) -> bool {
        let mut byte = [0];
        self.read.is_empty()
            && matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a request's head and what there is of its body, until the head of the answer is there.
    pub(super) async fn exchange(
        &mut self,
        request: &Parts,
        host: &HeaderValue,
        upload: &mut Upload,
    ) -> Result<Head, Broken> {
        self.begin();
        let target = request.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        write_head(&mut self.out, &request.method, target, host, &request.headers, upload.length);
        self.head(&request.method, upload).await
    }

    /// Begins another exchange.
    pub(super) fn begin(&mut self) {
        self.out.clear();
        self.written = 0;
        self.interim = 0;
    }

    /// The head of the answer, while what there is of the request is sent.
    pub(super) async fn head(&mut self, method: &Method, upload: &mut Upload) -> Result<Head, Broken> {
        poll_fn(|cx| self.poll_head(cx, method, upload)).await
    }

    /// The rest of a request that is still to be sent.
    pub(super) fn owe(&mut self, rest: &[u8]) -> Upload {
        self.out.extend_from_slice(rest);
        Upload::none()
    }

    /// Whether there is something to send.
    pub(super) fn owes(&self) -> bool {
        self.written < self.out.len()
    }

    /// Sends a request that is all there, until the head of an answer is; `None` when the deadline went off.
    pub(super) fn poll_whole(
        &mut self,
        cx: &mut Context<'_>,
        told: &[u8],
        sent: &mut usize,
        method: &Method,
        deadline: &mut Deadline,
    ) -> Poll<Option<Result<Seen, Broken>>> {
        let mut failed = None;
        while *sent < told.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &told[*sent..]) {
                Poll::Ready(Ok(count)) => *sent += count,
                // An upstream that refuses a request says why, and closes.
                Poll::Ready(Err(error)) => {
                    failed = Some(error);
                    break;
                }
                Poll::Pending => break,
            }
        }
        loop {
            let broken = match self.poll_read(cx) {
                Poll::Ready(Ok(0)) if !self.read.is_empty() => Broken::Failed(ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Ok(0)) => Broken::Silent(failed),
                Poll::Ready(Err(error)) if self.read.is_empty() => Broken::Silent(Some(error)),
                Poll::Ready(Err(error)) => Broken::Failed(error),
                Poll::Ready(Ok(_)) => match look(&self.read, *method == Method::HEAD, &mut self.places) {
                    Seen::Part => continue,
                    seen => return Poll::Ready(Some(Ok(seen))),
                },
                Poll::Pending => {
                    let Some(error) = failed else {
                        ready!(deadline.poll(cx));
                        return Poll::Ready(None);
                    };
                    Broken::Failed(error)
                }
            };
            return Poll::Ready(Some(Err(broken)));
        }
    }

    /// What was read, and where headers lie in it.
    pub(super) fn seen(&self) -> (&[u8], &Places) {
        (&self.read, &self.places)
    }

    /// What was read is done with, up to here.
    pub(super) fn pass_over(&mut self, count: usize) {
        self.read.advance(count.min(self.read.len()));
    }

    /// A request of which not all was sent leaves its connection useless.
    pub(super) const fn note_unsent(&mut self, unsent: bool) {
        self.broken |= unsent;
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, method: &Method, upload: &mut Upload) -> Poll<Result<Head, Broken>> {
        loop {
            let sent = self.poll_upload(cx, upload);
            // Even where sending failed: an upstream that refuses a body says why, and closes.
            let failed = match sent {
                Poll::Ready(Err(Broken::Client(error))) => return Poll::Ready(Err(Broken::Client(error))),
                Poll::Ready(Err(error)) => Some(error),
                Poll::Ready(Ok(())) | Poll::Pending => None,
            };
            let read = self.poll_read(cx);
            if !self.read.is_empty() {
                let told_to_go_on = take_head(&mut self.read, &mut self.places, &mut self.interim, method);
                let told_to_go_on = told_to_go_on.map_err(Broken::Malformed)?;
                match told_to_go_on {
                    Ok(head) => return Poll::Ready(Ok(head)),
                    Err(told) if told.go_on && matches!(upload.state, Going::Waits(_)) => {
                        upload.state = Going::On;
                        continue;
                    }
                    Err(_) => {}
                }
            }
            match read {
                Poll::Ready(Ok(0)) if self.read.is_empty() => {
                    return Poll::Ready(Err(failed.unwrap_or(Broken::Silent(None))));
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Broken::Failed(ErrorKind::UnexpectedEof.into()))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) if self.read.is_empty() => {
                    return Poll::Ready(Err(Broken::Silent(Some(error))));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Failed(error))),
                Poll::Pending => match failed {
                    Some(error) => return Poll::Ready(Err(error)),
                    None => return Poll::Pending,
                },
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(self.room);
        let free = self.read.capacity() - self.read.len();
        let count = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read))?;
        if count == free {
            self.room = (self.room * 2).min(MOST_READ);
        }
        Poll::Ready(Ok(count))
    }

    /// Sends what is to be sent; ready when that is all.
    fn poll_upload(&mut self, cx: &mut Context<'_>, upload: &mut Upload) -> Poll<Result<(), Broken>> {
        loop {
            while self.written < self.out.len() {
                let rest = &self.out[self.written..];
                self.written += ready!(Pin::new(&mut self.stream).poll_write(cx, rest)).map_err(Broken::Failed)?;
            }
            self.out.clear();
            self.written = 0;
            while !upload.data.is_empty() {
                let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &upload.data)).map_err(Broken::Failed)?;
                upload.data.advance(count);
                if upload.data.is_empty() && upload.length == Length::Chunked {
                    self.out.extend_from_slice(b"\r\n");
                }
            }
            if !self.out.is_empty() {
                continue;
            }
            match &mut upload.state {
                Going::Ended => return Poll::Ready(Ok(())),
                Going::Waits(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    upload.state = Going::On;
                }
                Going::On => match ready!(Pin::new(&mut upload.body).poll_frame(cx)) {
                    None => {
                        if upload.length == Length::Chunked {
                            self.out.extend_from_slice(b"0\r\n\r\n");
                        }
                        upload.state = Going::Ended;
                    }
                    // Trailers of a request stay here: nobody reads them, and they could say what the gateway alone says.
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            self.put(data, upload);
                        }
                    }
                    Some(Err(error)) => return Poll::Ready(Err(Broken::Client(error))),
                },
            }
        }
    }

    fn put(&mut self, data: Bytes, upload: &mut Upload) {
        if data.is_empty() {
            return;
        }
        let chunked = upload.length == Length::Chunked;
        if chunked {
            // Writing to a Vec cannot fail.
            let _ = write!(self.out, "{:x}\r\n", data.len());
        }
        if data.len() > SMALL {
            upload.data = data;
            return;
        }
        self.out.extend_from_slice(&data);
        if chunked {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// The next piece of an answer's body; the rest of the request's is sent meanwhile.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        framing: &mut Framing,
        upload: &mut Option<Upload>,
    ) -> Poll<Result<Next, Broken>> {
        if let Some(rest) = upload
            && let Poll::Ready(sent) = self.poll_upload(cx, rest)
        {
            // The answer says what became of a request that could not be sent whole.
            self.broken |= sent.is_err();
            *upload = None;
        }
        loop {
            match framing.take(&mut self.read).map_err(Broken::Malformed)? {
                Next::Read => {}
                next => return Poll::Ready(Ok(next)),
            }
            if ready!(self.poll_read(cx)).map_err(Broken::Failed)? == 0 {
                return Poll::Ready(match framing {
                    Framing::Close => Ok(Next::End(None)),
                    _ => Err(Broken::Failed(ErrorKind::UnexpectedEof.into())),
                });
            }
        }
    }

    /// Whether nothing is left of an exchange.
    pub(super) fn is_clean(&self, upload: Option<&Upload>) -> bool {
        !self.broken && self.read.is_empty() && self.out.is_empty() && upload.is_none_or(Upload::is_done)
    }
}
