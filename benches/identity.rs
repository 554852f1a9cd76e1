//! What do tokens and sign-ins cost through the real binary, and how much memory does it take with 100,000 users?
//!
//! A closed loop over loopback, bounded in connections and time; the server is a process of its own, so that its CPU time
//! is its alone. Sign-ins are compared with argon2id alone, by CPU time, in the same run.

#![expect(clippy::unwrap_used, reason = "a bench shows what failed by where it panics")]
#![expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a table of rates is what this is for")]

#[path = "../tests/process/server.rs"]
mod server;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    hint::black_box,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use argon2::{Argon2, PasswordHasher as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use server::Server;
use support::{
    actors::{PASSWORD, email_of, registration},
    app::{ADMIN_EMAIL, ADMIN_PASSWORD},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tollgate::{
    kernel::{Clock as _, Email, SystemClock, SystemRng, TenantId, UserId},
    store::{Scope, Store},
    users::{Membership, MembershipStatus, Role, User},
};

const TENANTS: usize = 100;
/// Users that are in the store and do nothing.
const USERS: usize = 100_000;
const TIME: Duration = Duration::from_secs(8);
const WARM_UP: Duration = Duration::from_secs(1);

/// What one run of the loop gave.
struct Load {
    requests: u64,
    seconds: f64,
    micros: Histogram<u64>,
}

/// Sends requests one after the other on each connection; all must be answered with 200.
#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
async fn load(address: &str, requests: &Arc<Vec<String>>, connections: usize, time: Duration) -> Load {
    let started = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..connections {
        let (address, requests) = (address.to_owned(), Arc::clone(requests));
        workers.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut micros = Histogram::<u64>::new(3).unwrap();
            let mut buffer = Vec::with_capacity(8_192);
            for turn in (worker..).step_by(connections + 1) {
                if started.elapsed() >= time {
                    break;
                }
                let before = Instant::now();
                stream.write_all(requests[turn % requests.len()].as_bytes()).await.unwrap();
                read_ok(&mut stream, &mut buffer).await;
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

async fn read_ok(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    buffer.clear();
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(buffer));
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if buffer.len() >= end + 4 + length.parse::<usize>().unwrap() {
                return;
            }
        }
        assert!(stream.read_buf(buffer).await.unwrap() > 0, "the connection broke");
    }
}

fn request(path: &str, kind: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {kind}\r\n{more}content-length: {length}\r\n\r\n{body}"
    )
}

/// Tenants with an owner and a machine client each: requests for tokens, and sign-ins.
fn onboard(server: &Server) -> (Vec<String>, Vec<String>, Vec<TenantId>) {
    let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
    let field = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    let (mut tokens, mut sign_ins, mut tenants) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..TENANTS {
        let name = format!("Customer {number}");
        let made = server.call("POST", "/admin/v1/registrations", &admin, &registration(&name, "standard"));
        let tenant = field(&made.json(), "tenant_id");
        let client = server.call("POST", "/admin/v1/clients", &admin, &json!({"tenant_id": tenant})).json();
        let basic = STANDARD.encode([field(&client, "client_id"), field(&client, "client_secret")].join(":"));
        let basic = format!("authorization: Basic {basic}\r\n");
        let form = "application/x-www-form-urlencoded";
        tokens.push(request("/oauth2/token", form, &basic, "grant_type=client_credentials"));
        let body = json!({"email": email_of(&name), "password": PASSWORD}).to_string();
        sign_ins.push(request("/v1/login", "application/json", "", &body));
        tenants.push(tenant.parse().unwrap());
    }
    (tokens, sign_ins, tenants)
}

/// Puts many users into the store of a server that is stopped.
async fn fill(data: &std::path::Path, tenants: &[TenantId]) {
    let store = Store::open_sqlite(&data.join("tollgate.db")).await.unwrap();
    let (clock, rng) = (SystemClock, SystemRng);
    let mut tx = store.begin(Scope::Job("bench")).await.unwrap();
    for number in 0..USERS {
        let now = clock.now();
        let email: Email = format!("user{number}@bulk.example").parse().unwrap();
        let user = User {
            id: UserId::generate(now, &rng),
            email,
            email_verified_at: None,
            name: None,
            platform_admin: false,
            created_at: now,
            updated_at: now,
        };
        assert!(tx.user_insert(&user).await.unwrap());
        let membership = Membership {
            tenant_id: tenants[number % tenants.len()],
            user_id: user.id,
            role: Role::Member,
            status: MembershipStatus::Active,
            created_at: now,
        };
        tx.membership_insert(&membership).await.unwrap();
    }
    tx.commit().await.unwrap();
    store.close().await;
}

/// User and system time of a process in microseconds (proc(5)).
fn cpu_micros(pid: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    // A tick is 10 ms on every Linux that Rust runs on.
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum::<u64>() * 10_000
}

/// Memory of a process by its name in `/proc/<pid>/status`, in KiB.
fn memory(server: &Server, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().nth(1)?.parse().ok()).unwrap()
}

/// CPU time of argon2id alone, in microseconds a hash.
fn argon2_alone() -> f64 {
    let params = argon2::Params::new(19_456, 2, 1, None).unwrap();
    let hasher = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let before = cpu_micros("self");
    let count = 100;
    for _ in 0..count {
        black_box(hasher.hash_password_with_salt(black_box(PASSWORD.as_bytes()), &[7; 16]).unwrap());
    }
    (cpu_micros("self") - before) as f64 / f64::from(count)
}

/// Whether the load is asked for: `cargo test --benches` gives no `--bench`, and `-- --list` or `-- --test` mean otherwise.
fn wanted() -> bool {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    if has("--list") {
        println!("identity: benchmark");
    }
    has("--bench") && !has("--test") && !has("--list")
}

fn main() -> ExitCode {
    if !wanted() {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let (tokens, sign_ins, tenants) = onboard(&server);
    server.signal("TERM");
    assert!(server.ended().success());
    runtime.block_on(fill(folder.path(), &tenants));
    let server = Server::start(folder.path(), &[]);
    println!("resident after the start, with {USERS} users: {} KiB\n", memory(&server, "VmRSS"));

    println!("| what | count | per second | p50 µs | p99 µs | server CPU µs each |");
    println!("|---|---|---|---|---|---|");
    let pid = server.pid().to_string();
    let run = |name: &str, requests: Vec<String>, connections| {
        let requests = Arc::new(requests);
        runtime.block_on(load(&server.address, &requests, connections, WARM_UP));
        let before = cpu_micros(&pid);
        let load = runtime.block_on(load(&server.address, &requests, connections, TIME));
        let cpu = (cpu_micros(&pid) - before) as f64 / load.requests as f64;
        let (rate, at) = (load.requests as f64 / load.seconds, |quantile| load.micros.value_at_quantile(quantile));
        println!("| {name} | {} | {rate:.0} | {} | {} | {cpu:.1} |", load.requests, at(0.5), at(0.99));
        cpu
    };
    run("client credentials, 64 connections", tokens, 64);
    let alone = argon2_alone();
    let sign_in = run("sign-ins, 4 connections", sign_ins, 4);
    println!("\nargon2id alone: {alone:.0} µs; sign-ins reach {:.0} % of it", 100.0 * alone / sign_in);
    println!("resident after all: {} KiB, peak {} KiB", memory(&server, "VmRSS"), memory(&server, "VmHWM"));
    server.signal("TERM");
    ExitCode::from(u8::from(!server.ended().success()))
}
