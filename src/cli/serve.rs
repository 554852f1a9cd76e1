//! `tollgate serve`: the server.

use std::sync::Arc;

use super::{Failure, run_to_the_end};
use crate::{
    app::{App, Deps},
    kernel::{SystemClock, SystemRng},
    settings::{self, Flags, Settings},
    shutdown::signalled,
    telemetry,
};

pub(super) fn run(flags: Flags) -> Result<(), Failure> {
    let settings = Settings::from_process(flags)
        .map_err(|faults| Failure { message: format!("settings:\n{faults}"), status: 2 })?;
    telemetry::start(settings::log_filter().as_deref());
    run_to_the_end(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let admin = settings.admin.email.clone();
    let deps = Deps { clock: Arc::new(SystemClock), rng: Arc::new(SystemRng) };
    let mut app = App::build(settings, deps).await.map_err(|error| Failure::setup(&error))?;
    // Before anything else can fail: it is shown this once, and nowhere kept.
    if let Some(password) = app.take_made_up_password() {
        eprintln!("platform administrator: {admin}  password: {}", password.expose());
    }
    let listeners = app.listen().await.map_err(|error| Failure::setup(&error))?;
    let stop = signalled(Some(app.reload()));
    let address = listeners.public.local_addr().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(address, "listening");
    app.run(listeners, stop).await.map_err(|error| Failure { status: 1, ..Failure::setup(&error) })
}
