//! What does a request through the real binary cost under load, and is every one of them counted?
//!
//! A closed loop over loopback with the tokens of 1,000 tenants: bounded in connections, time and count. The server is a
//! process of its own, so that its CPU time is its alone. The same loop straight to the upstream, before and after, is the
//! reference: where the two differ, the machine changed under the run and its rates say little.
//! Ends with status 1 when an answered call was not counted, or was counted twice.

#![expect(clippy::unwrap_used, reason = "a bench shows what failed by where it panics")]
#![expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a table of rates is what this is for")]

#[path = "../tests/process/server.rs"]
mod server;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use server::Server;
use support::{
    actors::registration,
    app::{ADMIN_EMAIL, ADMIN_PASSWORD},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const TENANTS: usize = 1_000;
const CONNECTIONS: usize = 64;
const TIME: Duration = Duration::from_secs(8);
/// Each of the two looks at the upstream alone.
const REFERENCE: Duration = Duration::from_secs(4);
/// Enough for the first call of every tenant, which loads its facts.
const WARM_UP: Duration = Duration::from_secs(2);
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

/// Reads one answer; its status, or `None` when the connection broke.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<u16> {
    buffer.clear();
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = std::str::from_utf8(&buffer[..end]).ok()?.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())?;
            if buffer.len() >= end + 4 + length {
                return head.split(' ').nth(1)?.parse().ok();
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
async fn load(address: &str, path: &str, tenants: &Arc<Vec<Tenant>>, time: Duration) -> Load {
    let started = Instant::now();
    let sent = Arc::new(AtomicU64::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..CONNECTIONS {
        let (address, path, tenants, sent) =
            (address.to_owned(), path.to_owned(), Arc::clone(tenants), Arc::clone(&sent));
        workers.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut micros = Histogram::<u64>::new(3).unwrap();
            let mut buffer = Vec::with_capacity(4_096);
            let mut turn = worker;
            while started.elapsed() < time && sent.fetch_add(1, Ordering::Relaxed) < MOST {
                let tenant = &tenants[turn % TENANTS];
                turn += CONNECTIONS + 1;
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

/// Tenants with a machine client each, whose tokens cost no password hashing.
fn onboard(server: &Server) -> Vec<Tenant> {
    let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
    let mut plan = server.get("/admin/v1/plans/standard", &admin).json();
    for field in ["version", "effective_from", "rate_limit"] {
        plan.as_object_mut().unwrap().remove(field);
    }
    plan["quotas"] = json!([{"meter": "apis", "limit": "1000000000", "period": "day", "mode": "hard"}]);
    plan["effective"] = "now".into();
    assert_eq!(server.call("PUT", "/admin/v1/plans/standard", &admin, &plan).status, 200);
    let field = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    let one = |number: usize| {
        let mut body = registration(&format!("Customer {number}"), "standard");
        body.as_object_mut().unwrap().remove("password");
        let id = field(&server.call("POST", "/admin/v1/registrations", &admin, &body).json(), "tenant_id");
        let client = server.call("POST", "/admin/v1/clients", &admin, &json!({"tenant_id": id})).json();
        let basic = [field(&client, "client_id"), field(&client, "client_secret")].join(":");
        let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, basic);
        let form = "grant_type=client_credentials";
        let request = format!(
            "POST /oauth2/token HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Basic {basic}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        );
        let answer = String::from_utf8(server.raw(request.as_bytes())).unwrap();
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        Tenant { id, token: field(&body, "access_token"), answered: AtomicU64::new(0) }
    };
    (0..TENANTS).map(one).collect()
}

/// User and system time of a process in microseconds, and its peak memory in KiB (proc(5)).
fn cost(pid: u32) -> (u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    // A tick is 10 ms on every Linux that Rust runs on.
    (ticks * 10_000, peak.unwrap_or(0))
}

fn report(name: &str, load: &Load, cpu_micros: Option<u64>) {
    let rate = load.requests as f64 / load.seconds;
    let cpu = cpu_micros.map_or("-".to_owned(), |micros| format!("{:.1}", micros as f64 / load.requests as f64));
    let at = |quantile| load.micros.value_at_quantile(quantile);
    println!("| {name} | {} | {rate:.0} | {} | {} | {cpu} |", load.requests, at(0.5), at(0.99));
}

fn lost(server: &Server, tenants: &[Tenant]) -> i64 {
    let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
    let difference = |tenant: &Tenant| {
        let usage = server.get(&format!("/admin/v1/tenants/{}/usage?meter=apis", tenant.id), &admin).json();
        let counted = usage["data"][0]["value"].as_str().map_or(0, |value| value.parse::<i64>().unwrap());
        i64::try_from(tenant.answered.load(Ordering::Relaxed)).unwrap() - counted
    };
    tenants.iter().map(|tenant| difference(tenant).abs()).sum()
}

/// Whether the load is asked for: `cargo test --benches` gives no `--bench`, and `cargo bench -- --list` or `-- --test`
/// gives it with a flag that means otherwise.
fn wanted() -> bool {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    if has("--list") {
        println!("gateway_load: benchmark");
    }
    has("--bench") && !has("--test") && !has("--list")
}

fn main() -> ExitCode {
    if !wanted() {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let target = listener.local_addr().unwrap().to_string();
    runtime.spawn(upstream(listener));
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("bench.toml");
    let text = format!(
        "[[gateway.upstreams]]\nname = \"bench\"\ntargets = [\"http://{target}\"]\n\
         [[gateway.routes]]\npath = \"/bench/\"\nupstream = \"bench\"\n"
    );
    std::fs::write(&settings, text).unwrap();
    let server = Server::start(&folder.path().join("data"), &["--config", settings.to_str().unwrap()]);
    let tenants = Arc::new(onboard(&server));

    println!("| path | requests | requests/s | p50 µs | p99 µs | server CPU µs/request |");
    println!("|---|---|---|---|---|---|");
    let straight = Arc::new(
        tenants
            .iter()
            .map(|t| Tenant { id: String::new(), token: t.token.clone(), answered: AtomicU64::new(0) })
            .collect(),
    );
    let reference = |name| report(name, &runtime.block_on(load(&target, "/bench/", &straight, REFERENCE)), None);
    reference("upstream alone, before");
    let runs =
        [("first calls", "/sample/hello", WARM_UP), ("sample", "/sample/hello", TIME), ("proxied", "/bench/", TIME)];
    for (name, path, time) in runs {
        let (before, _) = cost(server.pid());
        let load = runtime.block_on(load(&server.address, path, &tenants, time));
        let (after, _) = cost(server.pid());
        report(name, &load, Some(after - before));
    }
    reference("upstream alone, after");
    let lost = lost(&server, &tenants);
    println!(
        "\nusage lost or doubled: {lost}; peak memory of the server: {} KiB; tenants: {TENANTS}",
        cost(server.pid()).1
    );
    server.signal("TERM");
    ExitCode::from(u8::from(lost != 0 || !server.ended().success()))
}
