//! One thread with a runtime of its own for each core: a connection stays where it was accepted, and so does what it asks
//! of upstreams. Nothing on the way of a call through the gateway wakes another core.

use std::{io, thread};

use tokio::{runtime::Builder, sync::oneshot, task::JoinSet};

use super::{Config, Listener, serve};
use crate::{gateway::worker, shutdown::Shutdown};

/// Starts a worker that serves all of these until told to stop. What it runs ends before the shutdown's tasks do.
pub(super) fn start(
    number: usize,
    listeners: Vec<(Listener, super::Front)>,
    config: Config,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let (ended, end) = oneshot::channel::<()>();
    let inner = shutdown.clone();
    let work = move || {
        worker::begin(number);
        // Dropped with everything that it ran, also by a panic.
        let _ended = ended;
        let Ok(runtime) = Builder::new_current_thread().enable_all().build() else {
            tracing::error!(number, "a worker has no runtime and serves nothing");
            return;
        };
        runtime.block_on(async move {
            let mut serving = JoinSet::new();
            for (listener, front) in listeners {
                let served = serve(listener, front, config.clone(), inner.clone());
                serving.spawn(inner.served.track_future(served));
            }
            while serving.join_next().await.is_some() {}
            inner.served.close();
            inner.served.wait().await;
        });
    };
    thread::Builder::new().name(format!("worker-{number}")).spawn(work)?;
    shutdown.tasks.spawn(async move { drop(end.await) });
    Ok(())
}
