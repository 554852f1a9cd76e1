//! Tiers are changed back and forth while calls go on through the gateway: none fails, no row is lost or there twice, and the bill
//! adds up. The upstream asks for every call where the tenant is, and writes and reads there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use axum::{Router, body::Body, extract::State, http::StatusCode, response::IntoResponse as _, routing::any};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use super::postgres::{Cluster, cluster, connect};
use crate::{
    server::{Server, tollgate},
    support::{
        actors::{PASSWORD, email_of, registration},
        app::{ADMIN_EMAIL, ADMIN_PASSWORD},
    },
};

/// Clients that call all the time.
const CLIENTS: usize = 4;
/// The lab's clock goes on by so much, so that a change has a part of the bill of its own.
const BETWEEN_S: u64 = 61;
/// So many times: a bill of more parts takes long to work out.
const PARTS: usize = 60;

/// Where a tenant's rows are.
#[derive(Clone)]
enum Rows {
    Sqlite(PathBuf),
    Postgres(&'static Cluster),
}

impl Rows {
    /// Runs a statement at a place, of which `$1` is the tenant and `$2` a key: how many rows it found.
    async fn run(&self, place: &Value, tenant: &str, key: &str, what: What) -> Result<Vec<String>, sqlx::Error> {
        let location = place["location"].as_str().unwrap();
        let location = location.split('#').next().unwrap();
        let tenant: uuid::Uuid = tenant.parse().unwrap();
        match self {
            Self::Sqlite(folder) => {
                let options = SqliteConnectOptions::new().filename(folder.join(location)).foreign_keys(true);
                let mut db = options.busy_timeout(std::time::Duration::from_secs(20)).connect().await?;
                let sql = AssertSqlSafe(what.sql().replace("'\\x00'", "x'00'"));
                let query = sqlx::query_scalar(sql).bind(tenant);
                let found = query.bind(key.to_owned()).fetch_all(&mut db).await?;
                db.close().await?;
                Ok(found)
            }
            Self::Postgres(cluster) => {
                let address = format!("{}/{location}", cluster.superuser.rsplit_once('/').unwrap().0);
                let mut db = sqlx::postgres::PgConnection::connect(&address).await?;
                let query = sqlx::query_scalar(what.sql()).bind(tenant);
                let found = query.bind(key.to_owned()).fetch_all(&mut db).await?;
                db.close().await?;
                Ok(found)
            }
        }
    }
}

#[derive(Clone, Copy)]
enum What {
    Put,
    Has,
    All,
}

impl What {
    const fn sql(self) -> &'static str {
        match self {
            Self::Put => "INSERT INTO items (tenant_id, key, value) VALUES ($1, $2, '\\x00') RETURNING key",
            Self::Has => "SELECT key FROM items WHERE tenant_id = $1 AND key = $2",
            Self::All => "SELECT key FROM items WHERE tenant_id = $1 AND key <> $2 ORDER BY key",
        }
    }
}

/// What the upstream works with.
struct World {
    rows: Rows,
    server: OnceLock<Server>,
    admin: OnceLock<String>,
}

impl World {
    fn server(&self) -> &Server {
        self.server.get().unwrap()
    }

    fn place_of(&self, tenant: &str) -> Value {
        let path = format!("/admin/v1/tenants/{tenant}/infrastructure");
        let place = self.server().get(&path, self.admin.get().unwrap());
        assert_eq!(place.status, 200, "{}", place.body);
        place.json()
    }
}

/// `/product/put/<key>` and `/product/has/<key>`.
async fn answer(State(world): State<Arc<World>>, request: axum::http::Request<Body>) -> axum::response::Response {
    let tenant = request.headers()["x-tenant-id"].to_str().unwrap().to_owned();
    let path = request.uri().path().to_owned();
    let (what, key) = path.trim_start_matches("/product/").split_once('/').unwrap();
    let what = if what == "put" { What::Put } else { What::Has };
    let (own, id) = (Arc::clone(&world), tenant.clone());
    let place = tokio::task::spawn_blocking(move || own.place_of(&id)).await.unwrap();
    match world.rows.run(&place, &tenant, key, what).await {
        Ok(found) if found == [key] => StatusCode::OK.into_response(),
        Ok(found) => (StatusCode::NOT_FOUND, format!("{found:?} at {place}")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error} at {place}")).into_response(),
    }
}

/// How many changes: `TOLLGATE_TEST_CHANGES`.
#[expect(clippy::disallowed_methods, reason = "a test reads its own switch")]
fn changes() -> usize {
    std::env::var("TOLLGATE_TEST_CHANGES").map_or(60, |text| text.parse().unwrap())
}

/// A client's calls: each writes a row and reads the one before.
fn call_on(world: &World, token: &str, client: usize, (stop, calls): (&AtomicBool, &AtomicU64)) -> BTreeSet<String> {
    let mut put = BTreeSet::new();
    let mut last: Option<String> = None;
    for number in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let key = format!("{client}-{number}");
        for (what, key) in [Some(("put", key.clone())), last.take().map(|last| ("has", last))].into_iter().flatten() {
            let called = world.server().get(&format!("/product/{what}/{key}"), token);
            assert_eq!(called.status, 200, "{what} {key}: {} {}", called.head, called.body);
            calls.fetch_add(1, Ordering::AcqRel);
        }
        put.insert(key.clone());
        last = Some(key);
    }
    put
}

/// Plans that differ in isolation and price and limit nobody.
fn put_plans(server: &Server, admin: &str) {
    for (tier, base) in [("standard", "30"), ("premium", "3000")] {
        let path = format!("/admin/v1/plans/{tier}");
        let mut plan = server.get(&path, admin).json();
        for limit in ["rate_limit", "max_concurrency"] {
            plan[limit] = Value::Null;
        }
        plan["quotas"] = json!([]);
        plan["base"] = base.into();
        plan["prices"] = json!([{"meter": "apis", "model": "per_unit", "unit": "0.001"}]);
        plan["effective"] = "now".into();
        let put = server.call("PUT", &path, admin, &json!(plan));
        assert_eq!(put.status, 200, "{}", put.body);
    }
}

async fn back_and_forth(rows: Rows, data: &Path, provisioning: &str) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let world = Arc::new(World { rows: rows.clone(), server: OnceLock::new(), admin: OnceLock::new() });
    let router = Router::new().fallback(any(answer)).with_state(Arc::clone(&world));
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let config = data.join("tollgate.toml");
    let settings = format!(
        "{provisioning}\n[[gateway.upstreams]]\nname = \"product\"\ntargets = [\"http://{upstream}\"]\n\
         [[gateway.routes]]\npath = \"/product/\"\nupstream = \"product\"\n\
         [identity]\naccess_token_ttl_s = 86400\npublished_algs = [\"ES256\"]\n"
    );
    std::fs::write(&config, settings).unwrap();
    let (own, folder) = (Arc::clone(&world), data.to_owned());
    let made = tokio::task::spawn_blocking(move || moved(&own, &folder, &config)).await.unwrap();
    let (tenant, keys) = made;
    let (own, id) = (Arc::clone(&world), tenant.clone());
    let place = tokio::task::spawn_blocking(move || own.place_of(&id)).await.unwrap();
    let found = rows.run(&place, &tenant, "", What::All).await.unwrap();
    let found: BTreeSet<String> = found.into_iter().collect();
    assert_eq!(found.len(), keys.len());
    assert!(found == keys, "other rows than were written");
}

/// The tenant, and the keys of its rows.
fn moved(world: &World, data: &Path, config: &Path) -> (String, BTreeSet<String>) {
    let mut command = tollgate();
    command.args(["serve", "--lab", "--listen", "127.0.0.1:0", "--config"]).arg(config).arg("--data").arg(data);
    let server = world.server.get_or_init(|| Server::run(&mut command));
    let clock = |admin: &str, turn: Value| {
        let turned = server.call("POST", "/admin/v1/lab/clock", admin, &turn);
        assert_eq!(turned.status, 200, "{}", turned.body);
    };
    // So that no period ends meanwhile, and the plans are those of all of it.
    clock(&server.token(ADMIN_EMAIL, ADMIN_PASSWORD), json!({"set": "2031-05-01T00:00:00Z"}));
    let admin = world.admin.get_or_init(|| server.token(ADMIN_EMAIL, ADMIN_PASSWORD)).as_str();
    put_plans(server, admin);
    clock(admin, json!({"advance_s": BETWEEN_S}));
    let made = server.call("POST", "/admin/v1/registrations", admin, &registration("Acme", "standard"));
    assert_eq!(made.status, 201, "{}", made.body);
    let tenant = made.json()["tenant_id"].as_str().unwrap().to_owned();
    let token = server.token(&email_of("Acme"), PASSWORD);
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let path = format!("/admin/v1/tenants/{tenant}");
    let keys = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (token, shared) = (token.as_str(), (&stop, &calls));
                scope.spawn(move || call_on(world, token, client, shared))
            })
            .collect();
        let ended = StopAtEnd(&stop);
        for change in 0..changes() {
            if change % changes().div_ceil(PARTS) == 0 {
                clock(admin, json!({"advance_s": BETWEEN_S}));
            }
            let tier = if change % 2 == 0 { "premium" } else { "standard" };
            // Somebody calls between any two changes.
            let before = calls.load(Ordering::Acquire);
            while calls.load(Ordering::Acquire) == before && clients.iter().all(|client| !client.is_finished()) {
                std::thread::yield_now();
            }
            change_to(server, admin, &path, tier);
        }
        drop(ended);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<BTreeSet<String>>()
    });
    let listed = all_changes(server, admin, &path);
    assert_eq!(listed.len(), changes());
    for one in &listed {
        assert_eq!((one["status"].as_str(), one["steps"].as_array().unwrap().len()), (Some("done"), 6), "{one}");
    }
    let tries: i64 = listed.iter().map(|one| one["steps"][3]["attempts"].as_i64().unwrap()).sum();
    let calls = calls.into_inner();
    drop(std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("{} changes, {calls} calls, {} rows, {tries} switches tried\n", changes(), keys.len()),
    ));
    while server.used(&token) != calls {
        std::thread::yield_now();
    }
    adds_up(&server.get(&format!("{path}/bill"), admin).json(), calls, &listed);
    (tenant, keys)
}

/// Lets the clients end also where the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn change_to(server: &Server, admin: &str, path: &str, tier: &str) {
    loop {
        let moved = server.call("POST", &format!("{path}/tier"), admin, &json!({"tier": tier}));
        let answer = moved.json();
        match (moved.status, answer["change"].as_str()) {
            (200, Some("done") | None) => return assert_eq!(answer["tier"], tier),
            (202, Some("running")) => std::thread::yield_now(),
            _ => panic!("{}", moved.body),
        }
    }
}

fn all_changes(server: &Server, admin: &str, path: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("{path}/tier-changes?limit=100{cursor}"), admin).json();
        all.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// The parts of the bill are all of the period, each call is in one, and the total is what they come to.
fn adds_up(bill: &Value, calls: u64, listed: &[Value]) {
    let lines = bill["lines"].as_array().unwrap();
    let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    let cents = |amount: &str| amount.replace('.', "").parse::<i64>().unwrap();
    let sum: i64 = lines.iter().map(|line| cents(&text(line, "amount"))).sum();
    assert_eq!(sum, cents(bill["total"].as_str().unwrap()));
    let used = lines.iter().filter(|line| line["meter"] == "apis");
    let used: u64 = used.map(|line| text(line, "quantity").parse::<u64>().unwrap()).sum();
    assert_eq!(used, calls);
    // A part for each minute at whose end the tier was another than before it, and the one before the first.
    let mut expected: Vec<(String, &str)> = vec![(bill["period"]["from"].as_str().unwrap().to_owned(), "standard")];
    let mut minutes: BTreeMap<String, &str> = BTreeMap::new();
    for change in listed {
        let minute = format!("{}:00Z", &change["switched_at"].as_str().unwrap()[..16]);
        minutes.insert(minute, change["to_tier"].as_str().unwrap());
    }
    for (minute, tier) in minutes {
        if expected.last().is_some_and(|(_, before)| *before != tier) {
            expected.push((minute, tier));
        }
    }
    let bases = lines.iter().filter(|line| line["kind"] == "base");
    let found: Vec<_> =
        bases.clone().map(|base| (text(&base["period"], "from"), base["tier"].as_str().unwrap())).collect();
    assert_eq!(found, expected);
    let ends: Vec<String> = bases.map(|base| text(&base["period"], "to")).collect();
    assert_eq!(ends[..ends.len() - 1], found[1..].iter().map(|(from, _)| from.clone()).collect::<Vec<_>>());
    assert_eq!(bill["period"]["to"], json!(ends.last()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiers_change_back_and_forth_under_load_and_no_call_fails_and_no_row_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("infrastructure");
    back_and_forth(Rows::Sqlite(folder.clone()), data.path(), "").await;
    // Of the last place that the tenant left nothing is there.
    let silos = std::fs::read_dir(folder.join("silo")).unwrap().count();
    assert_eq!(silos > 0, changes() % 2 == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiers_change_back_and_forth_under_load_on_postgres() {
    let Some(cluster) = cluster().await else { return };
    let data = tempfile::tempdir().unwrap();
    back_and_forth(Rows::Postgres(cluster), data.path(), &cluster.settings("load")).await;
    let left = cluster.all_of("load").await;
    assert_eq!(left.iter().filter(|name| name.contains("_s_")).count(), 2 * (changes() % 2), "{left:?}");
    let mut pool = connect(&format!("{}/load_pool_default", cluster.superuser.rsplit_once('/').unwrap().0)).await;
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe("SELECT count(*) FROM items")).fetch_one(&mut pool).await.unwrap();
    assert_eq!(rows == 0, changes() % 2 == 1);
}
