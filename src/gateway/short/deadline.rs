//! A timer for a connection, which is set again only when it went off: most of what it is set for is over long before.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// The timer.
pub struct Deadline {
    due: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Deadline {
    /// Goes off after so long.
    pub fn after(patience: Duration) -> Self {
        let due = Instant::now() + patience;
        Self { due, sleep: Box::pin(tokio::time::sleep_until(due)) }
    }

    /// Goes off then instead.
    pub fn set(&mut self, due: Instant) {
        self.due = due;
        if due < self.sleep.deadline() {
            self.sleep.as_mut().reset(due);
        }
    }

    /// When it goes off.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Whether it has gone off.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.sleep.deadline() >= self.due {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn it_goes_off_when_it_was_last_set_to() {
        let begun = Instant::now();
        let mut deadline = Deadline::after(Duration::from_millis(10));
        let later = begun + Duration::from_millis(60);
        deadline.set(later);
        poll_fn(|cx| deadline.poll(cx)).await;
        assert!(Instant::now() >= later);
        let (soon, never) = (Instant::now() + Duration::from_millis(10), Instant::now() + Duration::from_hours(1));
        deadline.set(never);
        deadline.set(soon);
        poll_fn(|cx| deadline.poll(cx)).await;
        assert!((soon..never).contains(&Instant::now()));
    }
}
