//! Logs: to standard error, `TOLLGATE_LOG` chooses what (the syntax of `RUST_LOG`). No line per request, no tokens, emails
//! or bodies.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What is logged when nothing else is said.
const DEFAULT: &str = "info,sqlx=warn,hyper=warn";

/// What a command that speaks to a person logs.
const QUIET: &str = "error";

/// Starts logging for the server; a second call changes nothing.
pub fn start() {
    start_with(DEFAULT);
}

/// Starts logging for a command that speaks to a person.
pub fn start_quiet() {
    start_with(QUIET);
}

fn start_with(default: &str) {
    let filter = EnvFilter::try_from_env("TOLLGATE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let colour = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    drop(builder.with_target(false).try_init());
}
