//! How many events a second are taken in, each answered after its commit: in batches of 100, and as single posts from 64
//! connections, on the embedded store?
//!
//! The server is a process of its own on a file system that syncs; ends with status 1 when an event that was answered is
//! not counted, or is counted twice.

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
use serde_json::json;
use server::Server;
use support::{
    actors::registration,
    app::{ADMIN_EMAIL, ADMIN_PASSWORD},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const TIME: Duration = Duration::from_secs(8);

/// What one run gave.
struct Load {
    events: u64,
    seconds: f64,
    micros: Histogram<u64>,
}

/// Posts batches of so many events over so many connections.
#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
async fn load(address: &str, token: &str, tenant: &str, connections: usize, batch: u64, next: &Arc<AtomicU64>) -> Load {
    let started = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (address, token, tenant, next) =
            (address.to_owned(), token.to_owned(), tenant.to_owned(), Arc::clone(next));
        workers.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut micros, mut buffer) = (Histogram::<u64>::new(3).unwrap(), Vec::with_capacity(1_024));
            while started.elapsed() < TIME {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                let event = |n: u64| {
                    format!(
                        "{{\"specversion\":\"1.0\",\"id\":\"{n}\",\"source\":\"bench\",\"type\":\"prompt\",\
                         \"subject\":\"{tenant}\",\"data\":{{\"tokens\":{},\"model\":\"large\"}}}}",
                        n % 1_000
                    )
                };
                let events: Vec<String> = (first..first + batch).map(event).collect();
                let body = format!("[{}]", events.join(","));
                let head = format!(
                    "POST /api/v1/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\
                     content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let before = Instant::now();
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                buffer.clear();
                // 204 has no body: its head is all of it.
                while !buffer.ends_with(b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0);
                }
                assert!(buffer.starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&buffer));
                micros.record(u64::try_from(before.elapsed().as_micros()).unwrap()).unwrap();
            }
            micros
        });
    }
    let mut micros = Histogram::<u64>::new(3).unwrap();
    while let Some(worker) = workers.join_next().await {
        micros.add(worker.unwrap()).unwrap();
    }
    Load { events: micros.len() * batch, seconds: started.elapsed().as_secs_f64(), micros }
}

/// User and system time of a process in microseconds (proc(5)); a tick is 10 ms.
fn cpu_micros(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum::<u64>() * 10_000
}

fn main() -> ExitCode {
    // `cargo test --benches` and the like only want to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
    let mut body = registration("Acme", "standard");
    body.as_object_mut().unwrap().remove("password");
    let tenant = server.call("POST", "/admin/v1/registrations", &admin, &body).json();
    let tenant = tenant["tenant_id"].as_str().unwrap().to_owned();
    let meter =
        json!({"slug": "tokens", "eventType": "prompt", "aggregation": "COUNT", "groupBy": {"model": "$.model"}});
    assert_eq!(server.call("POST", "/api/v1/meters", &admin, &meter).status, 201);

    println!("| posts | events | events/s | p50 µs | p99 µs | server CPU µs/event |");
    println!("|---|---|---|---|---|---|");
    let next = Arc::new(AtomicU64::new(0));
    let mut sent = 0;
    for (name, connections, batch) in [("batches of 100, 8 connections", 8, 100), ("single, 64 connections", 64, 1)] {
        let before = cpu_micros(server.pid());
        let load = runtime.block_on(load(&server.address, &admin, &tenant, connections, batch, &next));
        let cpu = (cpu_micros(server.pid()) - before) as f64 / load.events as f64;
        let (rate, at) = (load.events as f64 / load.seconds, |quantile| load.micros.value_at_quantile(quantile));
        println!("| {name} | {} | {rate:.0} | {} | {} | {cpu:.1} |", load.events, at(0.5), at(0.99));
        sent += load.events;
    }
    let counted = server.get("/api/v1/meters/tokens/query", &admin).json();
    let counted: u64 = counted["data"][0]["value"].to_string().parse().unwrap();
    println!("\nevents answered: {sent}; counted: {counted}");
    server.signal("TERM");
    ExitCode::from(u8::from(counted != sent || !server.ended().success()))
}
