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

use hyper::service::service_fn;
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

use super::{Config, Connection};
use crate::tls::{self, Acceptor};

/// The connections of a thread.
pub(super) struct Serving {
    /// For plain connections.
    plain: Arc<auto::Builder<TokioExecutor>>,
    /// For those over TLS, by the protocol that was agreed on, whatever the first bytes look like.
    secure: Arc<Secure>,
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
struct End {
    come: AtomicBool,
    notify: Arc<Notify>,
}

impl Serving {
    pub(super) fn new(builder: auto::Builder<TokioExecutor>, config: &Config) -> Self {
        let one = builder.clone().http1_only();
        let secure = Secure { one: one.clone(), two: builder.clone().http2_only() };
        Self {
            plain: Arc::new(if config.h2c { builder } else { one }),
            secure: Arc::new(secure),
            tls: config.tls.clone(),
            patience: config.header_read_timeout,
            tasks: JoinSet::new(),
            end: Arc::default(),
            young: VecDeque::new(),
        }
    }

    /// Serves a connection, which gives its permit back when it ends.
    pub(super) fn serve(&mut self, stream: TcpStream, connection: Connection, permit: Option<OwnedSemaphorePermit>) {
        while self.tasks.try_join_next().is_some() {}
        let connection = Arc::new(connection);
        let young = Arc::clone(&connection);
        let end = Arc::clone(&self.end);
        let handle = match &self.tls {
            None => {
                let plain = Arc::clone(&self.plain);
                self.tasks.spawn(async move {
                    let _permit = permit;
                    run(&plain, stream, connection, end).await;
                })
            }
            Some(tls) => {
                let (tls, secure) = (tls.clone(), Arc::clone(&self.secure));
                self.tasks.spawn(async move {
                    let _permit = permit;
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let builder = if tls::is_http2(&stream) { &secure.two } else { &secure.one };
                    run(builder, stream, connection, end).await;
                })
            }
        };
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

    /// Lets every connection finish its request, or cuts it.
    pub(super) async fn finish(mut self, cut: &CancellationToken) {
        self.end.come.store(true, Ordering::Release);
        self.end.notify.notify_waiters();
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

/// How connections over TLS are served.
struct Secure {
    one: auto::Builder<TokioExecutor>,
    two: auto::Builder<TokioExecutor>,
}

async fn run<I>(builder: &auto::Builder<TokioExecutor>, stream: I, connection: Arc<Connection>, end: Arc<End>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let connection = Arc::clone(&connection);
        async move { connection.answer(request).await }
    });
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    let ended = Arc::clone(&end.notify).notified_owned();
    // A client that breaks off is no event of ours.
    drop(UntilTheEnd { served, ended, end, state: State::New }.await);
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

impl<S, I> Graceful for auto::UpgradeableConnection<'static, I, S, TokioExecutor>
where
    S: hyper::service::Service<axum::http::Request<hyper::body::Incoming>, Response = axum::response::Response>
        + 'static,
    S::Future: Send + 'static,
    S::Error: Into<axum::BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    fn tell(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
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
        if *this.state != State::Told && this.end.come.load(Ordering::Acquire) {
            *this.state = State::Told;
            this.served.as_mut().tell();
        }
        this.served.poll(cx)
    }
}
