//! Logs: to standard error; `TOLLGATE_LOG`, which the settings read, chooses what (the syntax of `RUST_LOG`). No line per request, no tokens, emails
//! or bodies.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What is logged when nothing else is said.
const DEFAULT: &str = "info,sqlx=warn,hyper=warn";

/// What a command that speaks to a person logs.
const QUIET: &str = "error";

/// Starts logging for the server; a second call changes nothing.
pub fn start(filter: Option<&str>) {
    start_with(filter, DEFAULT);
}

/// Starts logging for a command that speaks to a person.
pub fn start_quiet(filter: Option<&str>) {
    start_with(filter, QUIET);
}

fn start_with(filter: Option<&str>, default: &str) {
    let filter = filter.and_then(|filter| EnvFilter::try_new(filter).ok()).unwrap_or_else(|| EnvFilter::new(default));
    let colour = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    // A log that cannot be written is no reason to panic: the disk may be full.
    drop(builder.with_target(false).log_internal_errors(false).try_init());
}
