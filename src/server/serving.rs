//! A thread's connections: each a task of its own that looks at nothing but its connection. What they have in common, the end
//! of the server and the patience for one that says nothing, is looked after here once for all of them.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    BoxError,
    http::{HeaderValue, Request, Version, header},
    response::Response,
};
use bytes::BytesMut;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Notify, OwnedSemaphorePermit, futures::OwnedNotified},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Builders, Config, Connection,
    patient::Patient,
    rewound::Rewound,
    short::{self, Rest},
};
use crate::tls::{self, Acceptor};

/// The connections of a thread.
pub(super) struct Serving {
    builders: Arc<Builders>,
    /// Plain connections may begin with HTTP/2.
    h2c: bool,
    tls: Option<Acceptor>,
    patience: Duration,
    tasks: JoinSet<()>,
    end: Arc<End>,
    /// Those that may not have begun a request yet, and when each is to have begun: all have the same patience. hyper's own
    /// timer starts when it knows the protocol, which a client need never tell.
    young: VecDeque<(Instant, Arc<Connection>, AbortHandle)>,
}

/// Whether connections are to end with the request that they have.
#[derive(Default)]
pub(super) struct End {
    come: AtomicBool,
    notify: Arc<Notify>,
}

impl End {
    pub(super) fn has_come(&self) -> bool {
        self.come.load(Ordering::Acquire)
    }
}

impl Serving {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            builders: Arc::new(Builders::new(config)),
            h2c: config.h2c,
            tls: config.tls.clone(),
            patience: config.header_read_timeout,
            tasks: JoinSet::new(),
            end: Arc::default(),
            young: VecDeque::new(),
        }
    }

    /// Serves a connection, which gives its place back when its socket is closed.
    pub(super) fn serve(&mut self, stream: TcpStream, connection: Connection, place: Option<OwnedSemaphorePermit>) {
        while self.tasks.try_join_next().is_some() {}
        let connection = Arc::new(connection);
        let young = Arc::clone(&connection);
        // Those that have begun, or are gone, need nobody's patience any more.
        while let Some((_, connection, handle)) = self.young.front() {
            if !connection.begun.load(Ordering::Relaxed) && !handle.is_finished() {
                break;
            }
            self.young.pop_front();
        }
        let (end, builders, tls, h2c) = (Arc::clone(&self.end), Arc::clone(&self.builders), self.tls.clone(), self.h2c);
        let handle = self.tasks.spawn(async move {
            match tls {
                None if h2c => builders.serve((stream, place), connection, end, Speaks::Either).await,
                None => builders.serve((stream, place), connection, end, Speaks::One).await,
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    // What was agreed on, whatever the first bytes look like.
                    let speaks = if tls::is_http2(&stream) { Speaks::Two } else { Speaks::One };
                    builders.serve((stream, place), connection, end, speaks).await;
                }
            }
        });
        self.young.push_back((Instant::now() + self.patience, young, handle));
    }

    /// Ends connections that have not begun a request in time. Resolves after one was looked at; never when there is none.
    pub(super) async fn end_stalled(&mut self) {
        let Some((due, ..)) = self.young.front() else { return pending().await };
        tokio::time::sleep_until(*due).await;
        if let Some((_, connection, handle)) = self.young.pop_front()
            && !connection.begun.load(Ordering::Relaxed)
        {
            handle.abort();
        }
    }

    /// Has every connection end with the request that it has begun.
    pub(super) fn end(&self) {
        self.end.come.store(true, Ordering::Release);
        self.end.notify.notify_waiters();
    }

    /// Waits for those that were told to end, or cuts them.
    pub(super) async fn finish(mut self, cut: &CancellationToken) {
        loop {
            let next = tokio::select! {
                ended = self.tasks.join_next() => ended,
                () = cut.cancelled() => return self.tasks.shutdown().await,
            };
            if next.is_none() {
                return;
            }
        }
    }
}

/// What a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    One,
    Two,
    /// Whichever it begins with.
    Either,
}

impl Builders {
    /// Serves a connection. A client that breaks off is no event of ours.
    async fn serve<I>(
        &self,
        (stream, place): (I, Option<OwnedSemaphorePermit>),
        connection: Arc<Connection>,
        end: Arc<End>,
        mut speaks: Speaks,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut stream, mut read) = (Patient::new(stream, place), BytesMut::new());
        if speaks != Speaks::Two {
            let short = short::serve(stream, Arc::clone(&connection), self.patience, Arc::clone(&end));
            match until_the_end(Box::pin(short), Arc::clone(&end)).await {
                Some(Rest { io, read: next, answered }) => {
                    (stream, read) = (io, next);
                    // Behind a proxy, another client of the same connection would be answered in another protocol.
                    if answered {
                        speaks = Speaks::One;
                    }
                }
                None => return,
            }
        }
        let io = TokioIo::new(Rewound::new(stream, read));
        let ends = Arc::clone(&end);
        let service = service_fn(move |request: Request<Incoming>| {
            let (connection, end) = (Arc::clone(&connection), Arc::clone(&ends));
            async move {
                let closes = request.version() == Version::HTTP_11;
                let mut answered = connection.answer(request).await;
                // Also where all of it came and was answered before hyper is told.
                if let Ok(response) = &mut answered
                    && closes
                    && end.has_come()
                {
                    response.headers_mut().entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
                }
                answered
            }
        });
        match speaks {
            Speaks::One => drop(until_the_end(self.one.serve_connection(io, service).with_upgrades(), end).await),
            Speaks::Two => drop(until_the_end(self.two.serve_connection(io, service), end).await),
            Speaks::Either => {
                let served = self.either.serve_connection_with_upgrades(io, service).into_owned();
                drop(until_the_end(served, end).await);
            }
        }
    }
}

fn until_the_end<C: Graceful>(served: C, end: Arc<End>) -> UntilTheEnd<C> {
    let ended = Arc::clone(&end.notify).notified_owned();
    UntilTheEnd { served, ended, end, state: State::New }
}

#[derive(PartialEq, Eq)]
enum State {
    New,
    /// Woken when the end comes.
    Waits,
    /// Told that this request is the last.
    Told,
}

pin_project! {
    struct UntilTheEnd<C> {
        #[pin]
        served: C,
        #[pin]
        ended: OwnedNotified,
        end: Arc<End>,
        state: State,
    }
}

/// What can be told to end with the request that it has.
trait Graceful: Future {
    fn tell(self: Pin<&mut Self>);
}

macro_rules! graceful {
    ($($connection:ty),*) => {$(
        impl<S, I> Graceful for $connection
        where
            S: hyper::service::Service<Request<Incoming>, Response = Response> + 'static,
            S::Future: Send + 'static,
            S::Error: Into<BoxError>,
            I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
        {
            fn tell(self: Pin<&mut Self>) {
                self.graceful_shutdown();
            }
        }
    )*};
}
graceful!(
    auto::UpgradeableConnection<'static, I, S, TokioExecutor>,
    http1::UpgradeableConnection<I, S>,
    http2::Connection<I, S, TokioExecutor>
);

/// It looks for itself, when it is woken.
impl<F: Future> Graceful for Pin<Box<F>> {
    fn tell(self: Pin<&mut Self>) {}
}

impl<C: Graceful> Future for UntilTheEnd<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let mut this = self.project();
        if *this.state == State::New {
            // Once: the task's waker stays the same.
            if this.ended.poll(cx).is_pending() {
                *this.state = State::Waits;
            }
        }
        if *this.state == State::Told || !this.end.has_come() {
            return this.served.poll(cx);
        }
        // First it sees what was sent before: of a request that has begun it waits for the rest.
        if let Poll::Ready(done) = this.served.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        *this.state = State::Told;
        this.served.as_mut().tell();
        this.served.poll(cx)
    }
}
