//! `tollgate check`: validates settings.

use super::Failure;
use crate::settings::{Flags, Settings};

pub(super) fn run(flags: Flags) -> Result<(), Failure> {
    let settings = Settings::from_process(flags)
        .map_err(|faults| Failure { message: format!("settings:\n{faults}"), status: 2 })?;
    eprintln!("settings are valid: {} routes, listening on {}", settings.gateway.routes.len(), settings.server.listen);
    Ok(())
}
