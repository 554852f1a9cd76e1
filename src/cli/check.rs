//! `tollgate check`: validates settings.

use super::Failure;
use crate::settings::{Flags, Settings};

pub(super) fn run(flags: Flags) -> Result<(), Failure> {
    let settings = Settings::from_process(flags)
        .map_err(|faults| Failure { message: format!("settings:\n{faults}"), status: 2 })?;
    let routes = settings.gateway.routes.len();
    let plural = if routes == 1 { "" } else { "s" };
    eprintln!("settings are valid: {routes} route{plural}, listening on {}", settings.server.listen);
    Ok(())
}
