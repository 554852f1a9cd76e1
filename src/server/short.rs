//! A connection over HTTP/1.1 as long as its requests go the gateway's short way (`gateway::short`): they are read, and what
//! they are answered is written, as bytes. The first that goes another way is left to hyper, with all that follow it.

use std::{
    future::poll_fn,
    pin::Pin,
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
    gateway::short::{Beginning, Client, Deadline, Ending},
    web::BrokenOff,
};

/// Room for what is read at once.
const READ: usize = 4 * 1024;
/// What a client may send ahead while it is answered.
const AHEAD: usize = 64 * 1024;
/// What is written is sent when it is so much.
const MOST_OUT: usize = 16 * 1024;
/// A buffer that grew beyond this is not kept.
const KEPT: usize = 64 * 1024;
/// A body is waited for this long, so that it goes with its head.
const BODY_PATIENCE: Duration = Duration::from_millis(100);
/// A head that is longer is hyper's to refuse.
const LONGEST_HEAD: usize = super::MAX_HEAD_BYTES;

/// The connection.
struct Short<I> {
    io: I,
    read: BytesMut,
    out: Vec<u8>,
    deadline: Deadline,
    end: Arc<End>,
    date: Date,
}

/// Serves a connection; gives it back, with what was read, when its next request goes another way. A request's head may take
/// as long as the patience.
pub(super) async fn serve<I>(
    io: I,
    connection: Arc<Connection>,
    patience: Duration,
    end: Arc<End>,
) -> Option<(I, BytesMut)>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = Client::new(connection.arrival.clone());
    let deadline = Deadline::after(patience);
    let (read, out, date) = (BytesMut::new(), Vec::new(), Date::default());
    let mut own = Short { io, read, out, deadline, end, date };
    loop {
        let answered = match connection.front.begin(&mut own.read, &mut client).await {
            Beginning::Part(length) => {
                if length.is_some() {
                    own.deadline.set(own.deadline.due().min(Instant::now() + BODY_PATIENCE));
                }
                match own.read_more(length).await {
                    More::Here => continue,
                    // Whoever sends a body slowly sends it to the upstream, and is held to a rate.
                    More::Late if length.is_some() => return Some((own.io, own.read)),
                    More::Late | More::Over => return None,
                }
            }
            Beginning::Other => return Some((own.io, own.read)),
            Beginning::Refused(response) => {
                connection.begun.store(true, Ordering::Relaxed);
                own.give(*response, false).await
            }
            Beginning::Call(call) => {
                connection.begun.store(true, Ordering::Relaxed);
                let is_head = call.is_head();
                let Short { out, deadline, date, end, .. } = &mut own;
                let add =
                    |out: &mut Vec<u8>, has_date: bool| add_to_head(out, (!has_date).then_some(date), end.has_come());
                match call.answer(&client, out, deadline, add).await {
                    Ending::Written(at) => own.give_written().await.map(|()| Instant::from_std(at)),
                    Ending::Response(response) => own.give(response, is_head).await,
                }
            }
        };
        let Ok(answered) = answered else { return None };
        own.deadline.set(answered + patience);
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
    /// Reads until there is something to look at: all of a request of this length, or the end of a line.
    async fn read_more(&mut self, length: Option<usize>) -> More {
        let looked = self.read.len();
        poll_fn(|cx| {
            loop {
                if self.end.has_come() && self.read.is_empty() {
                    return Poll::Ready(More::Over);
                }
                self.read.reserve(READ);
                match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.read) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(More::Over),
                    Poll::Ready(Ok(_)) => {
                        let is_enough = match length {
                            Some(length) => self.read.len() >= length,
                            None => self.read[looked..].contains(&b'\n') || self.read.len() >= LONGEST_HEAD,
                        };
                        if is_enough {
                            return Poll::Ready(More::Here);
                        }
                    }
                    Poll::Pending => {
                        ready!(self.deadline.poll(cx));
                        return Poll::Ready(More::Late);
                    }
                }
            }
        })
        .await
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
            self.close().await?
        }
        Ok(Instant::now())
    }

    async fn give_body(&mut self, body: &mut Body, length: Length) -> Result<(), Over> {
        loop {
            match poll_fn(|cx| self.poll_frame(cx, body)).await {
                Step::Frame(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        length.put(&mut self.out, &data);
                    }
                    if self.out.len() >= MOST_OUT {
                        self.flush().await?;
                    }
                }
                Step::Frame(None) => {
                    length.end(&mut self.out);
                    return Ok(());
                }
                Step::Flush => self.flush().await?,
                // What was sent ends here, before its end, so that nobody takes it for the whole.
                Step::Frame(Some(Err(_))) | Step::Gone => return Err(Over),
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
        while self.read.len() < AHEAD {
            self.read.reserve(READ);
            if let Ok(0) | Err(_) = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.read)) {
                return Poll::Ready(Step::Gone);
            }
        }
        Poll::Pending
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let written = self.io.write_all(&self.out).await;
        self.out.clear();
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        written.and(self.io.flush().await).map_err(|_| Over)
    }

    async fn close(&mut self) -> Result<(), Over> {
        drop(self.io.shutdown().await);
        Err(Over)
    }
}

/// What comes next of a body.
enum Step {
    Frame(Option<Result<Frame<Bytes>, axum::Error>>),
    Flush,
    /// The client is gone.
    Gone,
}
