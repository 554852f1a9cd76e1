//! Bytes both ways after a change of protocol. They are counted as they are handed over, and whoever meters the request
//! leaves what is to be settled with the tunnel, which lets go of it once: when it ends, however it ends.

use std::{
    future::pending,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Background, target::InFlight};
use crate::kernel::Timestamp;

/// In the extensions of a 101; cheap to clone.
#[derive(Clone, Default)]
pub(in crate::gateway) struct Tunnel(Arc<Shared>);

#[derive(Default)]
struct Shared {
    ingress: AtomicU64,
    egress: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Default)]
enum Held {
    /// Nothing yet.
    #[default]
    Nothing,
    /// What is dropped at the end.
    Something(#[expect(dead_code, reason = "it is kept to be dropped")] Box<dyn Send>),
    /// It has ended; what comes now is dropped at once.
    Ended,
}

/// What a tunnel joins, and how long it may.
pub(super) struct Ends {
    pub(super) client: OnUpgrade,
    pub(super) upstream: OnUpgrade,
    pub(super) idle: Option<Duration>,
    pub(super) expires_at: Option<Timestamp>,
}

impl Tunnel {
    /// Keeps something until the tunnel ends. It is dropped then.
    pub(in crate::gateway) fn hold(&self, settle: impl Send + 'static) {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*held, Held::Ended) {
            *held = Held::Something(Box::new(settle));
        }
    }

    /// Bytes that were handed to the upstream.
    pub(in crate::gateway) fn ingress(&self) -> u64 {
        self.0.ingress.load(Ordering::Relaxed)
    }

    /// Bytes that were handed to the client.
    pub(in crate::gateway) fn egress(&self) -> u64 {
        self.0.egress.load(Ordering::Relaxed)
    }

    /// Carries bytes until either side ends, nothing comes for too long, the client's token expires, or the server stops.
    pub(super) async fn run(self, ends: Ends, background: Background, in_flight: Option<InFlight>) {
        let settle = Settle(self.clone());
        let Ends { client, upstream, idle, expires_at } = ends;
        let joined = async {
            // The client's resolves when the 101 was sent to it.
            let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
            let mut client = Counted { inner: TokioIo::new(client), written: &self.0.egress };
            let mut upstream = Counted { inner: TokioIo::new(upstream), written: &self.0.ingress };
            // An end that breaks off is no event of ours.
            drop(tokio::io::copy_bidirectional(&mut client, &mut upstream).await);
        };
        tokio::select! {
            () = joined => {}
            () = background.cut.cancelled() => {}
            () = expired(&background, expires_at) => {}
            () = self.silent(idle) => {}
        }
        drop((settle, in_flight));
    }

    /// Resolves when no byte was handed over for so long.
    async fn silent(&self, idle: Option<Duration>) {
        let Some(idle) = idle else { return pending().await };
        let mut before = (0, 0);
        loop {
            tokio::time::sleep(idle).await;
            let now = (self.ingress(), self.egress());
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// Resolves when a token has expired. Looked at now and then: the clock may be turned.
async fn expired(background: &Background, expires_at: Option<Timestamp>) {
    const LOOK: Duration = Duration::from_secs(1);
    let Some(expires_at) = expires_at else { return pending().await };
    while background.clock.now() < expires_at {
        tokio::time::sleep(LOOK).await;
    }
}

/// Lets go of what is held when the tunnel ends, and also when its task is dropped.
struct Settle(Tunnel);

impl Drop for Settle {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let ended = std::mem::replace(&mut *shared.held.lock().unwrap_or_else(PoisonError::into_inner), Held::Ended);
        drop(ended);
    }
}

/// Counts what is written.
struct Counted<'a> {
    inner: TokioIo<Upgraded>,
    written: &'a AtomicU64,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buffer))?;
        self.written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
