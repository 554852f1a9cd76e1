//! How long does a month's usage of one tenant by day take out of many stored events, on either engine?
//!
//! `EVENTS` says how many (20,000, so that a look is cheap), `ENGINE` where (`sqlite`, `postgres`; both when it is absent),
//! `DATA` a folder in which the data set is kept and used again, `QUERIES` how many. The set is written by `data.rs`; where
//! it has a million events or fewer, `tollgate doctor` reads every one of them and must agree. Then the real binary answers
//! queries of tenants by chance, and each answer must add up to what was written.

#![expect(clippy::unwrap_used, reason = "a bench shows what failed by where it panics")]
#![expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a table of times is what this is for")]

#[path = "../common/mod.rs"]
mod common;
mod data;
#[path = "../../tests/process/server.rs"]
mod server;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use common::{Connection, cpu_micros, memory_kib, setting, wanted};
use data::{DataSet, METER, TENANTS, quantity, tenant_id};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use server::{Server, tollgate};
use support::{
    app::{ADMIN_EMAIL, ADMIN_PASSWORD},
    postgres::Postgres,
};
use tollgate::{
    kernel::{Quantity, Rng as _, Secret, SeededRng},
    store::Store,
};

const MONTH: &str = "2026-10";
/// The doctor reads all events of a set of this size.
const DOCTORED: u64 = 1_000_000;

/// Where a data set is.
struct Place {
    folder: PathBuf,
    url: Option<String>,
    /// Keeps the database running.
    _postgres: Option<Postgres>,
}

impl Place {
    fn options(&self) -> Vec<&str> {
        self.url.iter().flat_map(|url| ["--database-url", url]).collect()
    }

    fn start(&self) -> Server {
        Server::start(&self.folder.join("data"), &self.options())
    }

    async fn store(&self) -> Store {
        match &self.url {
            Some(url) => Store::open_postgres(&Secret::new(url.clone()), 4).await.unwrap(),
            None => Store::open_sqlite(&self.folder.join("data/tollgate.db")).await.unwrap(),
        }
    }
}

fn place(runtime: &tokio::runtime::Runtime, engine: &str, folder: PathBuf) -> Option<Place> {
    std::fs::create_dir_all(&folder).unwrap();
    if engine == "sqlite" {
        return Some(Place { folder, url: None, _postgres: None });
    }
    let postgres = Postgres::kept(&folder.join("postgres"))?;
    let url = runtime.block_on(postgres.database_named("bench"));
    Some(Place { folder, url: Some(url), _postgres: Some(postgres) })
}

/// Every tenant's sum, of the set that is there or a new one.
#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn prepare(runtime: &tokio::runtime::Runtime, place: &Place, set: DataSet) -> Vec<i64> {
    let done = place.folder.join(format!("written-{}.json", set.events));
    if let Ok(text) = std::fs::read_to_string(&done) {
        return serde_json::from_str(&text).unwrap();
    }
    let server = place.start();
    let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
    let meter = json!({"slug": METER, "eventType": "prompt", "aggregation": "SUM", "valueProperty": "$.tokens",
        "groupBy": {"model": "$.model"}});
    assert_eq!(server.call("POST", "/api/v1/meters", &admin, &meter).status, 201);
    server.signal("TERM");
    assert!(server.ended().success());
    let started = Instant::now();
    let sums = runtime.block_on(async {
        let store = place.store().await;
        let sums = data::write(&store, place.url.as_deref(), set).await;
        store.close().await;
        sums
    });
    println!("wrote {} events in {:.0} s", set.events, started.elapsed().as_secs_f64());
    if set.events <= DOCTORED {
        let mut doctor = tollgate();
        doctor.args(["doctor", "--data"]).arg(place.folder.join("data")).args(place.options());
        let said = doctor.output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
        println!("doctor: {}", String::from_utf8_lossy(&said.stdout).trim());
    }
    std::fs::write(done, serde_json::to_string(&sums).unwrap()).unwrap();
    sums
}

/// How big a folder is, in MB.
fn megabytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => megabytes(&entry.path()) * 1_000_000,
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size).sum::<u64>() / 1_000_000
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn measure(engine: &str, place: &Place, set: DataSet, sums: &[i64]) {
    let queries: u64 = setting("QUERIES", 2_000);
    let server = place.start();
    let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
    let mut connection = Connection::to(&server.address);
    let (from, to) = (set.month.from(), set.month.to());
    let (chance, mut micros) = (SeededRng::new(set.events), Histogram::<u64>::new(3).unwrap());
    let (mut cpu, mut memory) = (0, 0);
    for query in 0..queries {
        let mut random = [0; 8];
        chance.fill(&mut random);
        let tenant = u64::from_le_bytes(random) % TENANTS;
        let path =
            format!("/admin/v1/tenants/{}/usage?meter={METER}&from={from}&to={to}&window=day", tenant_id(tenant));
        let before = Instant::now();
        let body = connection.get(&path, &admin);
        micros.record(u64::try_from(before.elapsed().as_micros()).unwrap()).unwrap();
        let answer: Value = serde_json::from_slice(body).unwrap();
        let days = answer["data"].as_array().unwrap();
        let sum = days.iter().fold(Quantity::ZERO, |sum, day| sum.add(quantity(&day["value"])).unwrap());
        assert_eq!(sum, sums[usize::try_from(tenant).unwrap()].into(), "{path}");
        // The first tenth fills the caches of connections; memory must not grow after it.
        if query == queries / 10 {
            (cpu, memory) = (cpu_micros(server.pid()), memory_kib(server.pid(), "VmRSS"));
        }
    }
    let cpu = (cpu_micros(server.pid()) - cpu) as f64 / (queries - queries / 10) as f64;
    let at = |quantile| Duration::from_micros(micros.value_at_quantile(quantile)).as_secs_f64() * 1_000.0;
    println!(
        "| {engine} | {} | {} MB | {:.2} | {:.2} | {:.2} | {cpu:.0} | {memory} → {} KiB |",
        set.events,
        megabytes(&place.folder),
        at(0.5),
        at(0.99),
        at(1.0),
        memory_kib(server.pid(), "VmRSS"),
    );
    server.signal("TERM");
    assert!(server.ended().success());
}

fn main() {
    if !wanted("usage_query") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let folder: PathBuf = setting("DATA", temporary.path().to_owned());
    let set = DataSet { events: setting("EVENTS", 20_000), month: data::month(MONTH) };
    let engine: String = setting("ENGINE", String::new());
    println!("| engine | events | data | p50 ms | p99 ms | longest ms | server CPU µs/query | memory |");
    println!("|---|---|---|---|---|---|---|---|");
    for engine in ["sqlite", "postgres"].into_iter().filter(|own| engine.is_empty() || engine == *own) {
        let Some(place) = place(&runtime, engine, folder.join(format!("{engine}-{}", set.events))) else { continue };
        let sums = prepare(&runtime, &place, set);
        measure(engine, &place, set, &sums);
    }
}
