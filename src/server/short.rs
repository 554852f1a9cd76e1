//! A connection over HTTP/1.1 as long as its requests go the gateway's short way (`gateway::short`): they are read, and what
//! they are answered is written, as bytes. The first that goes another way is left to hyper, with all that follow it.

use std::{
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody as _},
    http::header,
    response::Response,
};
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::Instant,
};
use tokio_util::io::poll_read_buf;

use super::{
    Connection,
    serving::End,
    writing::{Date, Length, add_to_head, write_head},
};
use crate::{
    gateway::short::{Beginning, Call, Client, Deadline, Ending},
    web::BrokenOff,
};

/// Room for what is read at once.
const READ: usize = 4 * 1024;
/// What a client may send ahead while it is answered.
const AHEAD: usize = 64 * 1024;
/// What is written is sent when it is so much.
const MOST_OUT: usize = 16 * 1024;
/// A buffer that grew beyond this is not kept.
const KEPT: usize = 16 * 1024;
/// A body is waited for this long, so that it goes with its head.
const BODY_PATIENCE: Duration = Duration::from_millis(100);
/// A head that is longer is hyper's to refuse.
const LONGEST_HEAD: usize = super::MAX_HEAD_BYTES;

/// The connection.
struct Short<I> {
    /// Closed, and its place given back, when the client left.
    io: Option<I>,
    read: BytesMut,
    /// More was read at once than is usual.
    grown: bool,
    out: Vec<u8>,
    end: Arc<End>,
    date: Date,
}

/// A connection that goes on another way.
pub(super) struct Rest<I> {
    pub(super) io: I,
    /// What was read of its next request.
    pub(super) read: BytesMut,
    /// It has had answers over HTTP/1.1.
    pub(super) answered: bool,
}

/// Serves a connection; gives it back when its next request goes another way. A request's head may take as long as the
/// patience.
pub(super) async fn serve<I>(io: I, connection: Arc<Connection>, patience: Duration, end: Arc<End>) -> Option<Rest<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = Client::new(connection.arrival.clone());
    let mut deadline = Deadline::after(patience);
    let mut own =
        Short { io: Some(io), read: BytesMut::new(), grown: false, out: Vec::new(), end, date: Date::default() };
    let mut answered = false;
    loop {
        let given = match connection.front.begin(&mut own.read, &mut client).await {
            Beginning::Part(length) => {
                if length.is_some() {
                    deadline.set(deadline.due().min(Instant::now() + BODY_PATIENCE));
                }
                match own.read_more(length, &mut deadline).await {
                    More::Here => continue,
                    // Whoever sends a body slowly sends it to the upstream, and is held to a rate.
                    More::Late if length.is_some() => return own.rest(answered),
                    More::Late | More::Over => return None,
                }
            }
            Beginning::Other => return own.rest(answered),
            Beginning::Refused { response, is_head } => {
                connection.begun.store(true, Ordering::Relaxed);
                own.give(*response, is_head).await
            }
            Beginning::Call(call) => {
                connection.begun.store(true, Ordering::Relaxed);
                let is_head = call.is_head();
                match own.answer(call, &client, &mut deadline).await {
                    Ending::Written(at) => own.give_written().await.map(|()| Instant::from_std(at)),
                    Ending::Response(response) => own.give(response, is_head).await,
                }
            }
        };
        deadline.set(given.ok()? + patience);
        answered = true;
        own.keep_little();
        client.keep_at_most(KEPT);
    }
}

/// What came of reading on.
enum More {
    Here,
    /// The deadline went off.
    Late,
    /// The client closed, or the server ends.
    Over,
}

/// The connection is of no use any more.
struct Over;

impl<I: AsyncRead + AsyncWrite + Unpin> Short<I> {
    fn rest(self, answered: bool) -> Option<Rest<I>> {
        Some(Rest { io: self.io?, read: self.read, answered })
    }

    /// Reads until there is something to look at: all of a request of this length, or the end of a line.
    async fn read_more(&mut self, length: Option<usize>, deadline: &mut Deadline) -> More {
        let looked = self.read.len();
        poll_fn(|cx| {
            loop {
                let Some(io) = self.io.as_mut() else { return Poll::Ready(More::Over) };
                self.read.reserve(READ);
                match poll_read_buf(Pin::new(io), cx, &mut self.read) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(More::Over),
                    Poll::Ready(Ok(_)) => {
                        self.grown |= self.read.len() > KEPT;
                        let is_enough = match length {
                            Some(length) => self.read.len() >= length,
                            None => self.read[looked..].contains(&b'\n') || self.read.len() >= LONGEST_HEAD,
                        };
                        if is_enough {
                            return Poll::Ready(More::Here);
                        }
                    }
                    Poll::Pending if self.end.has_come() && self.read.is_empty() => return Poll::Ready(More::Over),
                    Poll::Pending => {
                        ready!(deadline.poll(cx));
                        return Poll::Ready(More::Late);
                    }
                }
            }
        })
        .await
    }

    /// Has a call answered. A client that leaves meanwhile is let go; the call goes on without it, as on the long way.
    async fn answer(&mut self, call: Box<Call>, client: &Client, deadline: &mut Deadline) -> Ending {
        let Self { io, read, grown, out, end, date } = self;
        out.clear();
        let add = |out: &mut Vec<u8>, has_date: bool| add_to_head(out, (!has_date).then_some(date), end.has_come());
        let mut answer = pin!(call.answer(client, out, deadline, add));
        poll_fn(|cx| {
            let ending = answer.as_mut().poll(cx);
            if ending.is_pending() && io.as_mut().is_some_and(|io| has_left(io, read, cx)) {
                *io = None;
            }
            *grown |= read.len() > KEPT;
            ending
        })
        .await
    }

    /// Gives back room that is seldom needed.
    fn keep_little(&mut self) {
        if self.grown && self.read.is_empty() {
            (self.read, self.grown) = (BytesMut::new(), false);
        }
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
    }

    /// Gives an answer that was written.
    async fn give_written(&mut self) -> Result<(), Over> {
        self.flush().await?;
        if self.end.has_come() { self.close().await } else { Ok(()) }
    }

    /// Gives an answer as it comes; `is_head` is whether that is its head alone.
    async fn give(&mut self, response: Response, is_head: bool) -> Result<Instant, Over> {
        if response.extensions().get::<BrokenOff>().is_some() {
            return Err(Over);
        }
        let (parts, mut body) = response.into_parts();
        let says_close = parts.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
        let is_last = says_close || self.end.has_come();
        let length = Length::of(&parts, &body, is_head);
        write_head(&mut self.out, &parts, length);
        let date = (!parts.headers.contains_key(header::DATE)).then_some(&mut self.date);
        add_to_head(&mut self.out, date, is_last);
        self.out.extend_from_slice(b"\r\n");
        if length.is_some() {
            self.give_body(&mut body, length).await?;
        }
        self.flush().await?;
        if is_last {
            self.close().await?;
        }
        Ok(Instant::now())
    }

    async fn give_body(&mut self, body: &mut Body, length: Length) -> Result<(), Over> {
        let mut given = 0;
        loop {
            match poll_fn(|cx| self.poll_frame(cx, body)).await {
                Step::Frame(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        given += data.len() as u64;
                        length.put(&mut self.out, &data);
                    }
                    if self.out.len() >= MOST_OUT {
                        self.flush().await?;
                    }
                }
                // More or less than the head says must not be taken for the next answer.
                Step::Frame(None) if length.is_kept_by(given) => {
                    length.end(&mut self.out);
                    return Ok(());
                }
                Step::Flush => self.flush().await?,
                // What was sent ends here, before its end, so that nobody takes it for the whole.
                Step::Frame(_) => {
                    self.flush().await?;
                    return Err(Over);
                }
                Step::Gone => return Err(Over),
            }
        }
    }

    /// The next piece of a body. While there is none, what was written is sent, and then the client is watched.
    fn poll_frame(&mut self, cx: &mut Context<'_>, body: &mut Body) -> Poll<Step> {
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => return Poll::Ready(Step::Frame(frame)),
            Poll::Pending if !self.out.is_empty() => return Poll::Ready(Step::Flush),
            Poll::Pending => {}
        }
        let left = self.io.as_mut().is_none_or(|io| has_left(io, &mut self.read, cx));
        self.grown |= self.read.len() > KEPT;
        if left { Poll::Ready(Step::Gone) } else { Poll::Pending }
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let Some(io) = &mut self.io else { return Err(Over) };
        let written = io.write_all(&self.out).await;
        self.out.clear();
        written.and(io.flush().await).map_err(|_| Over)
    }

    async fn close(&mut self) -> Result<(), Over> {
        if let Some(io) = &mut self.io {
            drop(io.shutdown().await);
        }
        Err(Over)
    }
}

/// Whether a client closed its side, or is gone. What it sends ahead is read, up to a bound.
fn has_left<I: AsyncRead + Unpin>(io: &mut I, read: &mut BytesMut, cx: &mut Context<'_>) -> bool {
    while read.len() < AHEAD {
        read.reserve(READ);
        match poll_read_buf(Pin::new(&mut *io), cx, read) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => return true,
            Poll::Ready(Ok(_)) => {}
        }
    }
    false
}

/// What comes next of a body.
enum Step {
    Frame(Option<Result<Frame<Bytes>, axum::Error>>),
    Flush,
    /// The client is gone.
    Gone,
}

#[cfg(test)]
mod tests {
    use http_body::SizeHint;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A body that ends before it should.
    struct Half(bool);

    impl http_body::Body for Half {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let first = !std::mem::replace(&mut self.0, true);
            Poll::Ready(first.then(|| Ok(Frame::data(Bytes::from_static(b"half")))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(9)
        }
    }

    #[tokio::test]
    async fn an_answer_that_ends_before_its_length_ends_the_connection() {
        let (near, mut far) = tokio::io::duplex(1_024);
        let (read, out) = (BytesMut::new(), Vec::new());
        let mut own = Short { io: Some(near), read, grown: false, out, end: Arc::default(), date: Date::default() };
        assert!(own.give(Response::new(Body::new(Half(false))), false).await.is_err());
        drop(own);
        let mut given = String::new();
        far.read_to_string(&mut given).await.unwrap();
        assert!(given.contains("content-length: 9\r\n") && given.ends_with("\r\n\r\nhalf"), "{given}");
    }
}
