//! Arguments, settings, `App::build`, run; no logic.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate::cli::run()
}
