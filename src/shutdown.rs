//! The way down: one token that says "stop", one tracker that knows what still runs.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tasks and the signal that ends them; cheap to clone.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// Fires when the server is to stop.
    pub stop: CancellationToken,
    /// Work that a drain waits for.
    pub tasks: TaskTracker,
}

/// Resolves on SIGTERM or SIGINT.
pub async fn signalled() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("signals cannot be received; the server stops only by force");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
