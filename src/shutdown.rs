//! The way down: one token that says "stop", one tracker that knows what still runs.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    gateway::upstream::Background,
    kernel::{Clock, Rng},
    reload::Reload,
};

/// Tasks and the signal that ends them; cheap to clone.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// Fires when the server is to stop.
    pub stop: CancellationToken,
    /// Fires at the drain's deadline: connections that still run are broken off.
    pub cut: CancellationToken,
    /// Work that a drain waits for.
    pub tasks: TaskTracker,
    /// What workers serve, tunnels among it. No worker ends before all of it has: others may use connections that it drives.
    pub served: TaskTracker,
}

impl Shutdown {
    /// What upstreams need of it.
    pub fn background(&self, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Background {
        let Self { stop, cut, tasks, served } = self.clone();
        Background { tasks, served, stop, cut, clock, rng }
    }
}

/// Takes signals from the call on, before anybody waits: whoever is told that a server listens may stop it at once.
/// Resolves on SIGTERM or SIGINT. A SIGHUP ends nothing: settings are read again, if there is something
/// to read.
pub fn signalled(reload: Option<Reload>) -> impl Future<Output = ()> {
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    async move {
        let [Ok(mut term), Ok(mut int), Ok(mut hangup)] = signals else {
            tracing::error!("signals cannot be received; the server stops only by force");
            return std::future::pending().await;
        };
        loop {
            tokio::select! {
                _ = term.recv() => return,
                _ = int.recv() => return,
                _ = hangup.recv() => {
                    let Some(reload) = &reload else { continue };
                    tokio::select! {
                        () = reload.logged() => {}
                        // It goes on by itself; nobody waits for it to stop.
                        _ = term.recv() => return,
                        _ = int.recv() => return,
                    }
                }
            }
        }
    }
}
