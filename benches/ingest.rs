//! How many events a second are taken in, each answered after its commit: in batches of 100, and as single posts from 64
//! connections, on the embedded store? And does it cost more when they are of more tenants?
//!
//! `TENANTS` says of how many (`1`), as a list, such as `10,1000,100000`; each post has one tenant's events, with its own
//! token, and the next post is another tenant's. `SECONDS` is the time of a row. The server is a process of its own on a file
//! system that syncs; ends with status 1 when an event that was answered is not counted, or is counted twice.

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
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{cpu_micros, list, memory_kib, setting, wanted};
use crowd::Member;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use server::Server;
use support::app::{ADMIN_EMAIL, ADMIN_PASSWORD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What one run gave.
struct Load {
    events: u64,
    seconds: f64,
    micros: Histogram<u64>,
}

/// When a run ends.
#[derive(Clone, Copy)]
struct Until {
    time: Duration,
    /// The number of an event.
    number: u64,
}

/// How the events come.
#[derive(Clone, Copy)]
struct Posts {
    name: &'static str,
    connections: usize,
    batch: u64,
}

/// A tenant's token is verified at its first post, and the rows of its month are made.
const FIRST: Posts = Posts { name: "first posts, 64 connections", connections: 64, batch: 1 };
const POSTS: [Posts; 2] = [
    Posts { name: "batches of 100, 8 connections", connections: 8, batch: 100 },
    Posts { name: "single, 64 connections", connections: 64, batch: 1 },
];

/// A post of a tenant's events, the first of which has this number.
fn request(member: &Member, first: u64, batch: u64) -> String {
    let Member { id, token } = member;
    let event = |n: u64| {
        format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{n}\",\"source\":\"bench\",\"type\":\"prompt\",\"subject\":\"{id}\",\
             \"data\":{{\"tokens\":{},\"model\":\"large\"}}}}",
            n % 1_000
        )
    };
    let events: Vec<String> = (first..first + batch).map(event).collect();
    let body = format!("[{}]", events.join(","));
    format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
async fn load(address: &str, members: &Arc<Vec<Member>>, posts: Posts, next: &Arc<AtomicU64>, until: Until) -> Load {
    let started = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..posts.connections {
        let (address, members, next) = (address.to_owned(), Arc::clone(members), Arc::clone(next));
        workers.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut micros, mut buffer) = (Histogram::<u64>::new(3).unwrap(), Vec::with_capacity(1_024));
            while started.elapsed() < until.time && next.load(Ordering::Relaxed) < until.number {
                let first = next.fetch_add(posts.batch, Ordering::Relaxed);
                let turn = usize::try_from(first / posts.batch).unwrap();
                let request = request(&members[turn % members.len()], first, posts.batch);
                let before = Instant::now();
                stream.write_all(request.as_bytes()).await.unwrap();
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
    Load { events: micros.len() * posts.batch, seconds: started.elapsed().as_secs_f64(), micros }
}

/// Runs both kinds of posts against a server of its own; whether every event was counted once.
fn measure(runtime: &tokio::runtime::Runtime, tenants: usize, time: Duration) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (data, settings) = (folder.path().join("data"), folder.path().join("bench.toml"));
    std::fs::write(&settings, crowd::SETTINGS).unwrap();
    let members = Arc::new(runtime.block_on(crowd::make(&data, crowd::SETTINGS, tenants)));
    let server = Server::start(&data, &["--config", settings.to_str().unwrap()]);
    let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
    let meter =
        json!({"slug": "tokens", "eventType": "prompt", "aggregation": "COUNT", "groupBy": {"model": "$.model"}});
    assert_eq!(server.call("POST", "/api/v1/meters", &admin, &meter).status, 201);
    let next = Arc::new(AtomicU64::new(0));
    let mut sent = 0;
    let every_tenant = Until { time: Duration::from_mins(10), number: u64::try_from(tenants).unwrap() };
    let timed = Until { time, number: u64::MAX };
    for (posts, until) in [(FIRST, every_tenant), (POSTS[0], timed), (POSTS[1], timed)] {
        let before = cpu_micros(server.pid());
        let load = runtime.block_on(load(&server.address, &members, posts, &next, until));
        let cpu = (cpu_micros(server.pid()) - before) as f64 / load.events as f64;
        let (rate, at) = (load.events as f64 / load.seconds, |quantile| load.micros.value_at_quantile(quantile));
        println!(
            "| {} | {tenants} | {} | {rate:.0} | {} | {} | {cpu:.2} | {} |",
            posts.name,
            load.events,
            at(0.5),
            at(0.99),
            memory_kib(server.pid(), "VmHWM")
        );
        sent += load.events;
    }
    let answer = server.get("/api/v1/meters/tokens/query", &admin).json();
    let counted: u64 =
        answer["data"].as_array().unwrap().iter().map(|row: &Value| row["value"].as_u64().unwrap()).sum();
    server.signal("TERM");
    let good = counted == sent && server.ended().success();
    if !good {
        println!("events answered: {sent}; counted: {counted}");
    }
    good
}

fn main() -> ExitCode {
    if !wanted("ingest") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let time = Duration::from_secs(setting("SECONDS", 8));
    println!("| posts | tenants | events | events/s | p50 µs | p99 µs | server CPU µs/event | peak KiB |");
    println!("|---|---|---|---|---|---|---|---|");
    let good =
        list("TENANTS", 1).into_iter().map(|tenants| measure(&runtime, tenants, time)).fold(true, |all, one| all & one);
    println!("\nevents lost or doubled: {}", if good { "none" } else { "some" });
    ExitCode::from(u8::from(!good))
}
