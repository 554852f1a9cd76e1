//! `[provisioning]`: who makes infrastructure of which kind, in which pools, and how each driver does it.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Uri;

use super::read::Reader;
use crate::{
    kernel::Secret,
    outbound::Reach,
    provisioning::{ExecConfig, Pool, PostgresConfig, ProcessConfig, ReconcileConfig, WebhookConfig},
};

/// The drivers there are.
const DRIVERS: [&str; 6] = ["sqlite", "postgres", "process", "exec", "webhook", "none"];
/// What a program of the operator's may take, in seconds.
const EXEC_TIMEOUT_S: i64 = 300;
/// What it may say, in bytes.
const EXEC_OUTPUT: i64 = 65_536;
/// How long a callback may take, in seconds.
const CALLBACK_TIMEOUT_S: i64 = 600;
/// So often a request is sent that is not taken.
const WEBHOOK_ATTEMPTS: i64 = 5;
/// How long a tenant's process may take until it is well, and to end when it is told to, in seconds.
const START_TIMEOUT_S: i64 = 30;
const STOP_GRACE_S: i64 = 10;
/// How often a process is asked whether it is well, in seconds.
const HEALTH_INTERVAL_S: i64 = 5;
/// How long calls of a tenant that moves may wait, in milliseconds, and how long streams of before it moved may go on, in seconds.
const HOLD_MS: i64 = 5_000;
const DRAIN_S: i64 = 30;

/// A round by all tenants begins this often, in seconds.
const RECONCILE_EVERY_S: i64 = 60;

/// `[provisioning]`
#[derive(Debug, Clone)]
pub struct ProvisioningSettings {
    /// The driver of each kind of isolation, in the order of [`crate::kernel::Isolation::ALL`].
    pub drivers: [String; 3],
    /// `reconcile_every_s` and `repair`
    pub reconcile: ReconcileConfig,
    /// `hold_ms` and `drain_s`: how long calls of a tenant that moves wait, and its streams go on, at most.
    pub waits: (Duration, Duration),
    /// `[[provisioning.pools]]`
    pub pools: Vec<Pool>,
    /// `[provisioning.postgres]`
    pub postgres: Option<PostgresConfig>,
    /// `[provisioning.process]`
    pub process: Option<ProcessConfig>,
    /// `[provisioning.exec]`
    pub exec: Option<ExecConfig>,
    /// `[provisioning.webhook]`, and whom it may call.
    pub webhook: Option<(WebhookConfig, Reach)>,
}

impl ProvisioningSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let all = reader.choice("provisioning.driver", "sqlite", &DRIVERS);
        let default = all.as_deref().unwrap_or("sqlite");
        let of = |reader: &mut Reader, kind: &str| reader.choice(&format!("provisioning.{kind}"), default, &DRIVERS);
        let drivers = [of(reader, "pool"), of(reader, "bridge"), of(reader, "silo")];
        let every_s = reader.number("provisioning.reconcile_every_s", RECONCILE_EVERY_S, 0, 86_400);
        let repair = reader.switch("provisioning.repair", true);
        let hold = reader.number("provisioning.hold_ms", HOLD_MS, 1, 60_000);
        let drain = reader.number("provisioning.drain_s", DRAIN_S, 0, 3_600);
        let pools = read_pools(reader);
        let postgres = part(reader, "postgres", read_postgres);
        let process = part(reader, "process", read_process);
        let exec = part(reader, "exec", read_exec);
        let webhook = part(reader, "webhook", read_webhook);
        let [Some(pool), Some(bridge), Some(silo)] = drivers else { return None };
        let drivers = [pool, bridge, silo];
        for (name, there) in [
            ("postgres", postgres.is_some()),
            ("process", process.is_some()),
            ("exec", exec.is_some()),
            ("webhook", webhook.is_some()),
        ] {
            if drivers.iter().any(|driver| driver == name) && !there && !is_faulty(reader, name) {
                reader.fault(&format!("provisioning.{name}"), "is required by the driver of that name");
            }
        }
        if drivers[..2].iter().any(|driver| driver == "process") {
            reader
                .fault("provisioning.process", "makes places for silo only: what is shared has no process of its own");
        }
        all?;
        let reconcile = ReconcileConfig { every_s: every_s?, repair: repair? };
        let waits = (Duration::from_millis(hold?.unsigned_abs()), Duration::from_secs(drain?.unsigned_abs()));
        Some(Self { drivers, reconcile, waits, pools, postgres, process, exec, webhook })
    }
}

/// Whether something of a driver's settings is wrong already.
fn is_faulty(reader: &Reader, driver: &str) -> bool {
    reader.faulty().iter().any(|path| path.starts_with(&format!("provisioning.{driver}")))
}

fn part<T>(reader: &mut Reader, driver: &str, read: impl Fn(&mut Reader) -> Option<T>) -> Option<T> {
    let path = format!("provisioning.{driver}");
    let mut table = reader.table(&path)?;
    let read = read(&mut table);
    reader.finish_item(&path, table);
    read
}

fn read_pools(reader: &mut Reader) -> Vec<Pool> {
    let mut pools: Vec<Pool> = Vec::new();
    for (prefix, mut item) in reader.tables("provisioning.pools") {
        let name = item.string(".name", "").unwrap_or_default();
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(fine) {
            item.fault(".name", "must be 1 to 32 lower-case letters, digits, `-` or `_`");
        } else if pools.iter().any(|pool| pool.name == name) {
            item.fault(".name", "is used by another pool");
        }
        let capacity = item.number(".capacity", 0, 0, i64::MAX).unwrap_or_default();
        reader.finish_item(&prefix, item);
        pools.push(Pool { name, capacity: (capacity > 0).then_some(capacity) });
    }
    if pools.is_empty() {
        pools.push(Pool { name: Pool::DEFAULT.to_owned(), capacity: None });
    }
    pools
}

fn read_postgres(table: &mut Reader) -> Option<PostgresConfig> {
    let url = table.string(".url", "")?;
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        table.fault(".url", "must begin with postgres:// or postgresql://");
    }
    let prefix = table.string(".prefix", "tg");
    let fine = |text: &str| {
        (1..=16).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.starts_with("pg_")
    };
    if prefix.as_deref().is_some_and(|text| !fine(text)) {
        table.fault(
            ".prefix",
            "must be 1 to 16 lower-case letters, digits or `_`, beginning with a letter, not with pg_",
        );
    }
    let schema = match table.optional_string(".schema") {
        None => None,
        Some(path) => match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) => {
                table.fault(".schema", &format!("{path} cannot be read: {error}"));
                None
            }
        },
    };
    Some(PostgresConfig { url: Secret::new(url), prefix: prefix?, schema })
}

fn read_process(table: &mut Reader) -> Option<ProcessConfig> {
    let command = read_command(table);
    let first = table.number(".first_port", 20_000, 1_024, 65_535);
    let last = table.number(".last_port", 29_999, 1_024, 65_535);
    let ports = ports(first?, last?);
    if ports.is_empty() {
        table.fault(".last_port", "must not be less than first_port");
    }
    let health = table.string(".health", "/")?;
    if !health.starts_with('/') || health.bytes().any(|byte| !byte.is_ascii_graphic()) {
        table.fault(".health", "must be a path such as /healthz");
    }
    let env = table.texts(".env").into_iter().collect();
    let start = secs(table, ".start_timeout_s", START_TIMEOUT_S);
    let grace = secs(table, ".stop_grace_s", STOP_GRACE_S);
    let interval = secs(table, ".health_interval_s", HEALTH_INTERVAL_S);
    Some(ProcessConfig { command: command?, env, ports, health, start: start?, grace: grace?, interval: interval? })
}

fn ports(first: i64, last: i64) -> RangeInclusive<u16> {
    // Read within bounds.
    u16::try_from(first).unwrap_or(u16::MAX)..=u16::try_from(last).unwrap_or(0)
}

fn read_exec(table: &mut Reader) -> Option<ExecConfig> {
    let command = read_command(table);
    let env = table.texts(".env").into_iter().collect();
    let timeout = secs(table, ".timeout_s", EXEC_TIMEOUT_S);
    let most = table.number(".max_output_bytes", EXEC_OUTPUT, 256, 16 * 1_024 * 1_024);
    Some(ExecConfig { command: command?, env, timeout: timeout?, most: usize::try_from(most?).unwrap_or(usize::MAX) })
}

fn read_command(table: &mut Reader) -> Option<Vec<String>> {
    let command = table.strings(".command", &[])?;
    match command.first() {
        None => {
            table.fault(".command", "must name a program, and its arguments after it");
            None
        }
        Some(program) if !PathBuf::from(program).is_absolute() => {
            table.fault(".command", "must begin with the program's whole path");
            None
        }
        Some(_) => Some(command),
    }
}

fn read_webhook(table: &mut Reader) -> Option<(WebhookConfig, Reach)> {
    let url = table.string(".url", "")?;
    let allow_private = table.switch(".allow_private", false)?;
    if let Err(why) = check_address(&url, allow_private) {
        table.fault(".url", why);
    }
    let secret = table.string(".secret", "")?;
    let key = secret.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    let key = key.filter(|key| (24..=64).contains(&key.len()));
    if key.is_none() {
        table.fault(".secret", "must be whsec_ and 24 to 64 bytes in base64");
    }
    let timeout = secs(table, ".timeout_s", CALLBACK_TIMEOUT_S);
    let attempts = table.number(".attempts", WEBHOOK_ATTEMPTS, 1, 100);
    let attempts = u32::try_from(attempts?).unwrap_or(1);
    let reach = if allow_private { Reach::Private } else { Reach::Public };
    let config = WebhookConfig { url, key: key?.into(), timeout: timeout?, attempts, callback: String::new() };
    Some((config, reach))
}

/// What a name resolves to is looked at when it is called.
fn check_address(url: &str, allow_private: bool) -> Result<(), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "is not an address such as https://provision.example.com/tollgate")?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or("names no host")?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if allow_private => {}
        _ => return Err("must be https; allow_private lets http be called, too"),
    }
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    match address {
        Ok(address) if !allow_private && !crate::kernel::network::is_public(address) => {
            Err("is not public; allow_private lets such addresses be called")
        }
        _ => Ok(()),
    }
}

fn secs(table: &mut Reader, key: &str, default: i64) -> Option<Duration> {
    let secs = table.number(key, default, 1, 86_400)?;
    Some(Duration::from_secs(u64::try_from(secs).unwrap_or(1)))
}
