//! The `process` driver: a process of the tenant's own, which answers the tenant's requests. It is started from a template, given
//! a port, asked whether it is well, started again when it ends or is not well, and ended when the tenant goes.
//!
//! Processes end with this one. What is left when this one is killed is found at the next start and killed then, before
//! anything else is started: by files with process ids and start times, and by a mark in the environment.

mod health;
mod remains;
mod supervisor;

use std::{
    collections::HashMap,
    io,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Error,
    driver::{Driver, Work},
    model::{Finding, Made, Place},
};
use crate::kernel::{Isolation, Rng, TenantId, TenantObserver};
use remains::Remains;

/// `[provisioning.process]`
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// The program, by its whole path, and its arguments; `{port}` and `{tenant_id}` are filled in.
    pub command: Vec<String>,
    /// Its environment, besides `PORT` and `TENANT_ID`; it has nothing of ours.
    pub env: Vec<(String, String)>,
    /// Ports it may be given, on 127.0.0.1.
    pub ports: RangeInclusive<u16>,
    /// A path that it answers with a 2xx when it is well.
    pub health: String,
    /// How long it may take to be well after its start.
    pub start: Duration,
    /// How long it may take to end when it is told to.
    pub grace: Duration,
    /// How often it is asked whether it is well.
    pub interval: Duration,
}

/// Runs processes.
#[derive(Clone)]
pub struct ProcessDriver {
    shared: Arc<Shared>,
}

struct Shared {
    config: ProcessConfig,
    remains: Remains,
    /// Where supervisors run, whichever thread asks for one.
    runtime: Handle,
    tasks: TaskTracker,
    running: Mutex<HashMap<TenantId, Running>>,
    /// Which port is whose.
    ports: Mutex<HashMap<TenantId, u16>>,
    observer: Arc<dyn TenantObserver>,
}

/// A process that is seen to.
#[derive(Clone)]
struct Running {
    state: watch::Receiver<State>,
    stop: CancellationToken,
}

/// How a process fares.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It is on its way, for the first time or again.
    Starting,
    /// It is well, at a port.
    Up(u16),
    /// It ended, or was not well, and is started again after a while.
    Down(String),
    /// It is not seen to any more.
    Over,
}

/// A process that cannot be had.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the process was not well within {} seconds: {why}", .patience.as_secs())]
    NotWell { patience: Duration, why: String },
    #[error("a process is for a silo; what tenants share has none of its own")]
    Shared,
    #[error("what is noted of processes cannot be written")]
    Notes(#[from] io::Error),
}

impl ProcessDriver {
    /// The name in settings and in the store.
    pub const NAME: &'static str = "process";

    /// Notes in `folder` what runs, and ends first what a killed server left. Whoever calls holds the data folder, so nobody
    /// else's processes are there. `observer` hears when a tenant's process is somewhere else.
    pub fn open(
        config: ProcessConfig,
        folder: PathBuf,
        rng: &dyn Rng,
        observer: Arc<dyn TenantObserver>,
    ) -> io::Result<Self> {
        let remains = Remains::open(folder, rng)?;
        let ended = remains.end_all()?;
        if ended > 0 {
            tracing::warn!(ended, "processes of a server that was killed were ended");
        }
        let shared = Shared {
            config,
            remains,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            running: Mutex::default(),
            ports: Mutex::default(),
            observer,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Tenants of whose processes a folder has notes, whoever runs them; for looking from outside. Changes nothing.
    pub fn noted_in(folder: PathBuf) -> io::Result<Vec<TenantId>> {
        Remains::at(folder).noted()
    }

    /// Ends what is noted of a tenant in a folder, where no server runs.
    pub fn end_noted(folder: PathBuf, tenant: TenantId) -> io::Result<()> {
        Remains::at(folder).end(tenant)
    }

    fn of(&self, tenant: TenantId) -> Option<Running> {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned()
    }

    /// Whoever sees to a tenant's process, and whether that is new.
    fn see_to(&self, place: &Place) -> (Running, bool) {
        let mut running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = running.get(&place.tenant_id).filter(|known| !known.stop.is_cancelled()) {
            return (known.clone(), false);
        }
        let (sender, state) = watch::channel(State::Starting);
        let new = Running { state, stop: CancellationToken::new() };
        let (shared, tenant, stop) = (Arc::clone(&self.shared), place.tenant_id, new.stop.clone());
        let port = place.upstream.as_deref().and_then(port_of);
        let work = async move { supervisor::see_to(shared, tenant, port, sender, stop).await };
        drop(self.shared.tasks.spawn_on(work, &self.shared.runtime));
        running.insert(tenant, new.clone());
        (new, true)
    }

    async fn up(&self, place: &Place) -> Result<u16, Failed> {
        if place.isolation != Isolation::Silo {
            return Err(Failed::Shared);
        }
        let (mut running, new) = self.see_to(place);
        let patience = self.shared.config.start + self.shared.config.grace;
        let well = async {
            loop {
                match running.state.borrow_and_update().clone() {
                    State::Up(port) => return Some(port),
                    // The first try of one that is new decides; one that runs already has as long as there is.
                    State::Down(_) if new => return None,
                    State::Over => return None,
                    State::Starting | State::Down(_) => {}
                }
                running.state.changed().await.ok()?;
            }
        };
        if let Ok(Some(port)) = tokio::time::timeout(patience, well).await {
            return Ok(port);
        }
        let why = match &*running.state.borrow() {
            State::Down(why) => why.clone(),
            state => format!("{state:?}").to_lowercase(),
        };
        if new {
            self.stop(place.tenant_id).await;
        }
        Err(Failed::NotWell { patience: self.shared.config.start, why })
    }

    async fn stop(&self, tenant: TenantId) {
        let Some(mut running) = self.of(tenant) else { return };
        running.stop.cancel();
        // Whoever sees to it says that it is over, or is gone.
        drop(running.state.wait_for(|state| *state == State::Over).await);
        let mut all = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&tenant).is_some_and(|known| known.stop.is_cancelled()) {
            all.remove(&tenant);
            self.shared.ports.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
        }
    }
}

fn port_of(upstream: &str) -> Option<u16> {
    upstream.parse::<http::Uri>().ok()?.port_u16()
}

fn address(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

impl Driver for ProcessDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn plan<'a>(&'a self, place: &'a Place) -> Work<'a, Vec<String>> {
        let runs = self.of(place.tenant_id).is_some();
        let program = self.shared.config.command.first().map_or("", String::as_str);
        let steps = if runs { Vec::new() } else { vec![format!("start {program} for the tenant")] };
        Box::pin(async { Ok(steps) })
    }

    fn apply<'a>(&'a self, place: &'a Place) -> Work<'a, Made> {
        Box::pin(async {
            let port = self.up(place).await.map_err(|error| of("start a process", error))?;
            Ok(Made { location: format!("127.0.0.1:{port}"), upstream: Some(address(port)), credentials: None })
        })
    }

    fn verify<'a>(&'a self, place: &'a Place) -> Work<'a, Finding> {
        let finding = match self.of(place.tenant_id).map(|running| running.state.borrow().clone()) {
            None | Some(State::Over) => Finding::Absent,
            Some(State::Up(_)) => Finding::Present,
            Some(State::Starting) => Finding::Unwell("the process is starting".to_owned()),
            Some(State::Down(why)) => Finding::Unwell(why),
        };
        Box::pin(async { Ok(finding) })
    }

    fn destroy<'a>(&'a self, place: &'a Place) -> Work<'a, ()> {
        Box::pin(async {
            self.stop(place.tenant_id).await;
            self.shared.remains.end(place.tenant_id).map_err(|error| of("end a process", error.into()))
        })
    }

    fn list(&self) -> Work<'_, Vec<Place>> {
        Box::pin(async {
            let noted = self.shared.remains.noted().map_err(|error| of("see what runs", error.into()))?;
            Ok(noted.into_iter().map(|tenant| Place::new(tenant, Isolation::Silo, String::new())).collect())
        })
    }

    fn upstream(&self, place: &Place) -> Option<String> {
        let running = self.of(place.tenant_id).map(|running| running.state.borrow().clone());
        match running {
            Some(State::Up(port)) => Some(address(port)),
            // Requests wait for nobody: until it is up again they are told that it is not.
            _ => place.upstream.clone(),
        }
    }

    fn begin(&self, places: Vec<Place>) {
        for place in places {
            drop(self.see_to(&place));
        }
    }

    fn end(&self) -> Work<'_, ()> {
        let all = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().for_each(|running| running.stop.cancel());
        drop(all);
        self.shared.tasks.close();
        Box::pin(async {
            self.shared.tasks.wait().await;
            Ok(())
        })
    }
}

fn of(verb: &'static str, source: Failed) -> Error {
    Error::of(ProcessDriver::NAME, verb, source)
}
