//! Logs: to standard error, `TOLLGATE_LOG` chooses what (the syntax of `RUST_LOG`). No line per request, no tokens, emails
//! or bodies.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What is logged when nothing else is said.
const DEFAULT: &str = "info,sqlx=warn,hyper=warn";

/// Starts logging; a second call changes nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env("TOLLGATE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let colour = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    drop(builder.with_target(false).try_init());
}
