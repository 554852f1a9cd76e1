//! One thread with a runtime of its own for each core: a connection stays where it was accepted, and so does what it asks
//! of upstreams. Nothing on the way of a call through the gateway wakes another core.

use std::{cell::Cell, io, thread};

use tokio::{
    runtime::Builder,
    sync::oneshot,
    task::{JoinSet, LocalSet},
};

use super::{Config, Listener, serve};
use crate::shutdown::Shutdown;

thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(0) };
}

/// How many workers there are when nobody says: one for each core that this process may use.
pub fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The number of the worker whose thread this is, from 1; 0 on any other thread.
pub fn current() -> usize {
    WORKER.get()
}

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
        WORKER.set(number);
        // Dropped with everything that it ran, also by a panic.
        let _ended = ended;
        let Ok(runtime) = Builder::new_current_thread().enable_all().build() else {
            tracing::error!(number, "a worker has no runtime and serves nothing");
            return;
        };
        LocalSet::new().block_on(&runtime, async move {
            let mut serving = JoinSet::new();
            for (listener, front) in listeners {
                serving.spawn_local(serve(listener, front, config.clone(), inner.clone()));
            }
            while serving.join_next().await.is_some() {}
        });
    };
    thread::Builder::new().name(format!("worker-{number}")).spawn(work)?;
    shutdown.tasks.spawn(async move { drop(end.await) });
    Ok(())
}
