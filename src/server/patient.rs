//! A connection whose client must take what it asked for: one that reads nothing for a minute holds an upstream's connection, a
//! tenant's slot and room in the journal for nothing, and outlives its token. It counts among the server's connections until its
//! socket is closed, also when a tunnel has it by then.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::Sleep,
};

/// A client may take nothing for this long.
const PATIENCE: Duration = Duration::from_mins(1);

/// The connection.
pub(super) struct Patient<I> {
    inner: I,
    patience: Duration,
    /// It takes nothing: until when that may be.
    waits: Option<Pin<Box<Sleep>>>,
    /// Its place among the server's connections.
    _place: Option<OwnedSemaphorePermit>,
}

impl<I: AsyncWrite + Unpin> Patient<I> {
    pub(super) const fn new(inner: I, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { inner, patience: PATIENCE, waits: None, _place: place }
    }

    fn unless_stuck<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let patience = self.patience;
        let waits = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(waits.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.unless_stuck(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.unless_stuck(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_let_go_and_one_that_takes_little_is_not() {
        let (near, mut far) = tokio::io::duplex(8);
        let mut near = Patient { patience: Duration::from_millis(500), ..Patient::new(near, None) };
        let slow = async {
            let mut byte = [0];
            for _ in 0..16 {
                drop(tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await);
                far.read_exact(&mut byte).await.unwrap();
            }
            far
        };
        let (written, _far) = tokio::join!(near.write_all(&[0; 24]), slow);
        written.unwrap();
        let stuck = near.write_all(&[0; 24]).await.unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
    }
}
