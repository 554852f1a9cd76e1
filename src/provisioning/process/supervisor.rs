//! Sees to one tenant's process, from its first start until nobody wants it any more.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Command, Stdio},
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Shared, State, health::is_well, remains::MARK};
use crate::{kernel::TenantId, provisioning::group::Group};

/// A process that ends is started again after this; twice as long each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Whoever ran so long begins with the first wait again.
const STEADY: Duration = Duration::from_mins(1);
/// While it starts it is asked this often whether it is well.
const STARTING: Duration = Duration::from_millis(50);
/// So many bad answers one after the other end a process.
const BAD_ANSWERS: u32 = 3;
/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Says that it is over, however it ends.
struct Over(watch::Sender<State>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.send_replace(State::Over);
    }
}

/// How a process's life ended.
enum End {
    /// It was to end.
    Stopped,
    /// It is to be started again.
    Died(String),
}

/// Runs until it is stopped. `port` is one that it had before.
pub(super) async fn see_to(
    shared: Arc<Shared>,
    tenant: TenantId,
    port: Option<u16>,
    state: watch::Sender<State>,
    stop: CancellationToken,
) {
    let over = Over(state);
    let mut known = port;
    let mut wait = FIRST_WAIT;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let why = match shared.live(tenant, &mut known, &over.0, &stop).await {
            End::Stopped => break,
            End::Died(why) => why,
        };
        if began.elapsed() >= STEADY {
            wait = FIRST_WAIT;
        }
        tracing::warn!(tenant_id = %tenant, why, again_in_ms = wait.as_millis(), "a tenant's process is down");
        over.0.send_replace(State::Down(why));
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            break;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
        over.0.send_replace(State::Starting);
    }
    if let Err(error) = shared.remains.forget(tenant) {
        tracing::warn!(tenant_id = %tenant, %error, "what is noted of a process could not be forgotten");
    }
}

impl Shared {
    /// One life of a process.
    async fn live(
        &self,
        tenant: TenantId,
        known: &mut Option<u16>,
        state: &watch::Sender<State>,
        stop: &CancellationToken,
    ) -> End {
        let Some(port) = self.free_port(tenant, *known) else {
            return End::Died("no port of the range is free".to_owned());
        };
        let mut group = match Group::start(&mut self.command(tenant, port)) {
            Ok(group) => group,
            Err(error) => return End::Died(format!("it cannot be started: {error}")),
        };
        if let Err(error) = self.remains.note(tenant, group.pid()) {
            return End::Died(format!("it cannot be noted: {error}"));
        }
        let until = Instant::now() + self.config.start;
        while !is_well(port, &self.config.health).await {
            if Instant::now() >= until {
                drop(group.end(self.config.grace).await);
                return End::Died(format!("it did not answer {} with a 2xx in time", self.config.health));
            }
            tokio::select! {
                ended = group.ended() => return died(ended),
                () = stop.cancelled() => return self.end(group).await,
                () = tokio::time::sleep(STARTING) => {}
            }
        }
        state.send_replace(State::Up(port));
        *known = Some(port);
        // Requests find it from now on, also where it is not where it was.
        self.observer.tenant_changed(tenant);
        let mut bad = 0;
        while bad < BAD_ANSWERS {
            tokio::select! {
                ended = group.ended() => return died(ended),
                () = stop.cancelled() => return self.end(group).await,
                () = tokio::time::sleep(self.config.interval) => {}
            }
            bad = if is_well(port, &self.config.health).await { 0 } else { bad + 1 };
        }
        drop(group.end(self.config.grace).await);
        End::Died(format!("it did not answer {} with a 2xx for {bad} times", self.config.health))
    }

    async fn end(&self, mut group: Group) -> End {
        if let Err(error) = group.end(self.config.grace).await {
            tracing::warn!(%error, "a process could not be waited for");
        }
        End::Stopped
    }

    fn command(&self, tenant: TenantId, port: u16) -> Command {
        let (tenant, port) = (tenant.to_string(), port.to_string());
        let filled = |text: &String| text.replace("{port}", &port).replace("{tenant_id}", &tenant);
        let mut words = self.config.command.iter().map(filled);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env_clear().env("PATH", PATH).current_dir("/");
        command.envs(self.config.env.iter().map(|(name, value)| (name, filled(value))));
        command.env("PORT", &port).env("TENANT_ID", &tenant).env(MARK, self.remains.mark());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// The port that it had, or the first of the range that nobody has.
    fn free_port(&self, tenant: TenantId, known: Option<u16>) -> Option<u16> {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.or_else(|| ports.get(&tenant).copied()).filter(|port| self.config.ports.contains(port));
        let fits = |port: &u16| {
            !ports.iter().any(|(other, taken)| taken == port && *other != tenant)
                && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
        };
        let port = known.into_iter().chain(self.config.ports.clone()).find(fits)?;
        ports.insert(tenant, port);
        Some(port)
    }
}

fn died(ended: std::io::Result<std::process::ExitStatus>) -> End {
    End::Died(
        ended.map_or_else(
            |error| format!("it cannot be waited for: {error}"),
            |status| format!("it ended with {status}"),
        ),
    )
}
