//! Arguments, settings, `App::build`, run; no logic.

use std::process::ExitCode;

/// Gives memory back: of argon2's 19 MiB a hash, the system's own keeps some for each thread. It is faster, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tollgate::cli::run()
}
