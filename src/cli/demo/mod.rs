//! `tollgate demo`: the whole journey over real HTTP, on an embedded store in a fresh temporary folder.

mod client;
mod journey;
mod print;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Failure, run_to_the_end};
use crate::{
    app::{App, Deps, Listeners},
    kernel::{Rng as _, Secret, SystemClock, SystemRng},
    settings::{self, Flags, Settings, Sources},
    shutdown::signalled,
    telemetry,
};
use client::Client;
use print::Printer;

const SETTINGS: &str = include_str!("../../../config/demo.toml");
/// Everybody's password in the demo, but the administrator's.
const PASSWORD: &str = "violet-Harbour-42-lamps";
const ADMIN_PASSWORD: &str = "copper-Lantern-17-tides";

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct DemoArgs {
    /// End after the journey; the exit status says whether every step succeeded
    #[arg(long)]
    exit: bool,
}

pub(super) fn run(args: DemoArgs) -> Result<(), Failure> {
    telemetry::start_quiet(settings::log_filter().as_deref());
    let data = DataFolder::new().map_err(|error| Failure::setup(&error))?;
    run_to_the_end(demo(args.exit, &data))
}

async fn demo(exit: bool, data: &DataFolder) -> Result<(), Failure> {
    // From here on a signal leaves no folder behind.
    let signalled = signalled(None);
    let (settings, listener) = settings(data).await?;
    let address = settings.server.listen;
    let deps = Deps { clock: Arc::new(SystemClock), rng: Arc::new(SystemRng) };
    let app = App::build(settings, deps).await.map_err(|error| Failure::setup(&error))?;
    let end = CancellationToken::new();
    let stop = async {
        tokio::select! {
            () = end.cancelled() => {}
            () = signalled => {}
        }
    };
    let journey = async {
        let mut printer = Printer::new();
        let client = Client::new(address);
        let done = journey::run(&client, &mut printer, data).await;
        match &done {
            Ok(()) => printer.success("every step did what it should"),
            Err(broken) => printer.failure(&format!("the journey stopped: {broken}")),
        }
        if exit {
            end.cancel();
        } else {
            printer.still_serving(&format!("http://{address}"));
        }
        done
    };
    let (served, journey) = tokio::join!(app.run(Listeners { public: listener, admin: None }, stop), journey);
    served.map_err(|error| Failure { status: 1, ..Failure::setup(&error) })?;
    journey.map_err(|broken| Failure { message: format!("the demo failed: {broken}"), status: 1 })
}

/// The demo's settings, on its own port or, when that is taken, on a free one.
async fn settings(data: &DataFolder) -> Result<(Settings, TcpListener), Failure> {
    let load = |listen: Option<String>| {
        let flags = Flags { data: Some(data.path.display().to_string()), listen, ..Flags::default() };
        let env = vec![("TOLLGATE_ADMIN_PASSWORD".to_owned(), ADMIN_PASSWORD.to_owned())];
        let file = Some(("config/demo.toml".to_owned(), SETTINGS.to_owned()));
        Settings::load(&Sources { file, env, flags })
            .map_err(|faults| Failure { message: faults.to_string(), status: 2 })
    };
    let settings = load(None)?;
    if let Ok(listener) = TcpListener::bind(settings.server.listen).await {
        return Ok((settings, listener));
    }
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let failed = |error: std::io::Error| Failure { message: format!("no port is free: {error}"), status: 2 };
    let listener = TcpListener::bind(free).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((load(Some(address.to_string()))?, listener))
}

/// A fresh temporary folder, removed at the end.
struct DataFolder {
    path: PathBuf,
}

impl DataFolder {
    fn new() -> std::io::Result<Self> {
        let mut random = [0; 8];
        SystemRng.fill(&mut random);
        let path = std::env::temp_dir().join(format!("tollgate-demo-{:016x}", u64::from_be_bytes(random)));
        std::fs::create_dir(&path)?;
        Ok(Self { path })
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}

fn password() -> Secret {
    Secret::new(PASSWORD.to_owned())
}
