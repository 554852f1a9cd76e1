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

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_when_it_was_last_set_to() {
        let begun = Instant::now();
        let mut deadline = Deadline::after(Duration::from_secs(10));
        deadline.set(begun + Duration::from_secs(30));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 30);
        deadline.set(begun + Duration::from_secs(60));
        deadline.set(begun + Duration::from_secs(40));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 40);
    }
}
