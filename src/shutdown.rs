//! The way down: one token that says "stop", one tracker that knows what still runs.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tasks and the signal that ends them; cheap to clone.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// Fires when the server is to stop.
    pub stop: CancellationToken,
    /// Fires at the drain's deadline: connections that still run are broken off.
    pub cut: CancellationToken,
    /// Work that a drain waits for.
    pub tasks: TaskTracker,
}

/// Takes signals from the call on, before anybody waits: whoever is told that a server listens may stop it at once.
/// Resolves on SIGTERM or SIGINT. A SIGHUP ends nothing: settings are read once, at the start.
pub fn signalled() -> impl Future<Output = ()> {
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
                _ = hangup.recv() => tracing::warn!("settings are not read again; restart to change them"),
            }
        }
    }
}
