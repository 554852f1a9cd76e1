//! What does a request through the real binary cost under load, and is every one of them counted?
//!
//! A closed loop over loopback, bounded in connections, time and count. `TENANTS` says with the tokens of how many tenants
//! (`1000`), as a list, such as `10,1000,100000`: each call is another tenant's than the one before, and each number has a
//! server of its own. `SECONDS` is the time of a row. The server is a process of its own, so that its CPU time is its alone.
//! The same loop straight to the upstream, before and after, is the reference: where the two differ, the machine changed
//! under the run and its rates say little. Ends with status 1 when an answered call was not counted, or was counted twice.

#![expect(clippy::unwrap_used, reason = "a bench shows what failed by where it panics")]
#![expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a table of rates is what this is for")]

#[path = "common/mod.rs"]
mod common;
#[path = "common/crowd.rs"]
mod crowd;
#[path = "../tests/process/server.rs"]
mod server;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    collections::HashMap,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Connection, cpu_micros, list, memory_kib, read_answer, setting, wanted};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use server::Server;
use support::app::{ADMIN_EMAIL, ADMIN_PASSWORD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const CONNECTIONS: usize = 64;
/// Each of the two looks at the upstream alone.
const REFERENCE: Duration = Duration::from_secs(4);
const MOST: u64 = 2_000_000;

struct Tenant {
    id: String,
    token: String,
    answered: AtomicU64,
}

/// What one run of the loop gave.
struct Load {
    requests: u64,
    seconds: f64,
    micros: Histogram<u64>,
}

/// An upstream that answers every request at once.
async fn upstream(listener: TcpListener) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        connections.spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            let mut have = 0;
            while let Ok(read @ 1..) = stream.read(&mut buffer[have..]).await {
                have += read;
                while let Some(end) = buffer[..have].windows(4).position(|four| four == b"\r\n\r\n") {
                    buffer.copy_within(end + 4..have, 0);
                    have -= end + 4;
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
async fn load(address: &str, path: &str, tenants: &Arc<Vec<Tenant>>, time: Duration, most: u64) -> Load {
    let started = Instant::now();
    let sent = Arc::new(AtomicU64::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (address, path, tenants, sent) =
            (address.to_owned(), path.to_owned(), Arc::clone(tenants), Arc::clone(&sent));
        workers.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut micros = Histogram::<u64>::new(3).unwrap();
            let mut buffer = Vec::with_capacity(4_096);
            while started.elapsed() < time {
                let turn = sent.fetch_add(1, Ordering::Relaxed);
                if turn >= most {
                    break;
                }
                let tenant = &tenants[usize::try_from(turn).unwrap() % tenants.len()];
                let request =
                    format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\n\r\n", tenant.token);
                let before = Instant::now();
                stream.write_all(request.as_bytes()).await.unwrap();
                let status = read_answer(&mut stream, &mut buffer).await;
                assert_eq!(status, Some(200), "{}", String::from_utf8_lossy(&buffer));
                tenant.answered.fetch_add(1, Ordering::Relaxed);
                micros.record(u64::try_from(before.elapsed().as_micros()).unwrap()).unwrap();
            }
            micros
        });
    }
    let mut micros = Histogram::<u64>::new(3).unwrap();
    while let Some(worker) = workers.join_next().await {
        micros.add(worker.unwrap()).unwrap();
    }
    Load { requests: micros.len(), seconds: started.elapsed().as_secs_f64(), micros }
}

/// A plan that refuses nobody here, and counts against a quota all the same.
fn generous(server: &Server, admin: &str) {
    let mut plan = server.get("/admin/v1/plans/standard", admin).json();
    for field in ["version", "effective_from", "rate_limit"] {
        plan.as_object_mut().unwrap().remove(field);
    }
    plan["quotas"] = json!([{"meter": "apis", "limit": "1000000000", "period": "day", "mode": "hard"}]);
    plan["effective"] = "now".into();
    assert_eq!(server.call("PUT", "/admin/v1/plans/standard", admin, &plan).status, 200);
}

fn report(name: &str, tenants: usize, load: &Load, cpu_micros: Option<u64>) {
    let rate = load.requests as f64 / load.seconds;
    let cpu = cpu_micros.map_or("-".to_owned(), |micros| format!("{:.1}", micros as f64 / load.requests as f64));
    let at = |quantile| load.micros.value_at_quantile(quantile);
    println!("| {name} | {tenants} | {} | {rate:.0} | {} | {} | {cpu} |", load.requests, at(0.5), at(0.99));
}

/// Calls that were answered and not counted, or counted twice.
fn lost(server: &Server, tenants: &[Tenant]) -> u64 {
    let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
    // What is not counted yet is counted first, which takes a while where there are many tenants.
    let mut connection = Connection::to(&server.address);
    let usage: Value =
        serde_json::from_slice(connection.get("/api/v1/meters/apis/query?groupBy=subject", &admin)).unwrap();
    let row = |row: &Value| (row["subject"].as_str().unwrap().to_owned(), row["value"].as_u64().unwrap());
    let mut counted: HashMap<String, u64> = usage["data"].as_array().unwrap().iter().map(row).collect();
    let difference = |tenant: &Tenant| {
        let counted = counted.remove(&tenant.id).unwrap_or(0);
        tenant.answered.load(Ordering::Relaxed).abs_diff(counted)
    };
    tenants.iter().map(difference).sum()
}

/// Runs the loop against a server of its own; whether every call was counted once.
fn measure(runtime: &tokio::runtime::Runtime, target: &str, count: usize, time: Duration) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (data, settings) = (folder.path().join("data"), folder.path().join("bench.toml"));
    let text = format!(
        "{}[[gateway.upstreams]]\nname = \"bench\"\ntargets = [\"http://{target}\"]\n\
         [[gateway.routes]]\npath = \"/bench/\"\nupstream = \"bench\"\n",
        crowd::SETTINGS
    );
    std::fs::write(&settings, &text).unwrap();
    let members = runtime.block_on(crowd::make(&data, &text, count));
    let new = |member: crowd::Member| Tenant { id: member.id, token: member.token, answered: AtomicU64::new(0) };
    let tenants = Arc::new(members.into_iter().map(new).collect());
    let server = Server::start(&data, &["--config", settings.to_str().unwrap()]);
    generous(&server, &server.token(ADMIN_EMAIL, ADMIN_PASSWORD));
    // The first call of a tenant loads its facts.
    let first = u64::try_from(count).unwrap();
    let runs = [
        ("first calls", "/sample/hello", Duration::from_mins(10), first),
        ("sample", "/sample/hello", time, MOST),
        ("proxied", "/bench/", time, MOST),
    ];
    for (name, path, time, most) in runs {
        let before = cpu_micros(server.pid());
        let load = runtime.block_on(load(&server.address, path, &tenants, time, most));
        report(name, count, &load, Some(cpu_micros(server.pid()) - before));
    }
    let (lost, peak) = (lost(&server, &tenants), memory_kib(server.pid(), "VmHWM"));
    server.signal("TERM");
    let good = lost == 0 && server.ended().success();
    println!("| {count} tenants: usage lost or doubled {lost}, peak memory of the server {peak} KiB | | | | | | |");
    good
}

fn main() -> ExitCode {
    if !wanted("gateway_load") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let target = listener.local_addr().unwrap().to_string();
    runtime.spawn(upstream(listener));
    let time = Duration::from_secs(setting("SECONDS", 8));
    println!("| path | tenants | requests | requests/s | p50 µs | p99 µs | server CPU µs/request |");
    println!("|---|---|---|---|---|---|---|");
    let nobody = Tenant { id: String::new(), token: "0".repeat(700), answered: AtomicU64::new(0) };
    let nobody = Arc::new(vec![nobody]);
    let reference = |name| {
        report(name, 1, &runtime.block_on(load(&target, "/bench/", &nobody, REFERENCE, MOST)), None);
    };
    reference("upstream alone, before");
    let run = |tenants| measure(&runtime, &target, tenants, time);
    let good = list("TENANTS", 1_000).into_iter().map(run).fold(true, |all, one| all & one);
    reference("upstream alone, after");
    ExitCode::from(u8::from(!good))
}
