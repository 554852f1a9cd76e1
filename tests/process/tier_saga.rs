//! A change of tier killed at every place of its way, forward and back: the tenant is on one tier, at one place, with its rows.

use std::{path::Path, time::Instant};

use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use super::{
    customer::admin,
    saga::{SAMPLE, all, start},
    server::{PATIENCE, Server, tollgate},
};
use crate::support::{actors::registration, postgres};

const RIG: &str = "/admin/v1/lab/tier-changes";

/// Does something with the items of a tenant in a file of the sqlite driver: the keys that are there then, in order; none
/// where there is no file.
fn items(data: &Path, file: &str, tenant: &str, put: &[&str]) -> Vec<String> {
    let file = data.join("infrastructure").join(file);
    if !file.exists() {
        return Vec::new();
    }
    let tenant: uuid::Uuid = tenant.parse().unwrap();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut db = SqliteConnectOptions::new().filename(file).foreign_keys(true).connect().await.unwrap();
        for key in put {
            let put = sqlx::query("INSERT INTO items (tenant_id, key, value) VALUES ($1, $2, x'00')");
            put.bind(tenant).bind(*key).execute(&mut db).await.unwrap();
        }
        let all = sqlx::query_scalar("SELECT key FROM items WHERE tenant_id = $1 ORDER BY key").bind(tenant);
        let found = all.fetch_all(&mut db).await.unwrap();
        db.close().await.unwrap();
        found
    })
}

/// Waits until every change of a tenant has ended.
#[expect(clippy::disallowed_methods, reason = "a stopwatch, so that a test that hangs fails")]
fn ended(server: &Server, token: &str, path: &str) -> Vec<Value> {
    let since = Instant::now();
    loop {
        let listed = server.get(&format!("{path}/tier-changes"), token).json();
        let listed = listed["items"].as_array().unwrap().clone();
        if listed.iter().all(|one| one["status"] != "running") {
            return listed;
        }
        assert!(since.elapsed() < PATIENCE, "it does not end: {listed:#?}");
    }
}

/// The tenant is on a tier, where its tier has it, and nowhere else.
fn is_whole(server: &Server, token: &str, (data, tenant, tier): (&Path, &str, &str), at: &str) {
    let path = format!("/admin/v1/tenants/{tenant}");
    let found = server.get(&path, token).json();
    assert_eq!((found["tier"].as_str(), found["status"].as_str()), (Some(tier), Some("active")), "{at}");
    let place = server.get(&format!("{path}/infrastructure"), token).json();
    let (used, other) = ("pool.db".to_owned(), format!("silo/{tenant}.db"));
    let (used, other) = if tier == "premium" { (other, used) } else { (used, other) };
    assert!(place["location"].as_str().unwrap().starts_with(&used), "{at}: {place}");
    assert_eq!(items(data, &used, tenant, &[]), ["a", "b"], "{at}");
    assert!(items(data, &other, tenant, &[]).is_empty(), "{at}");
    assert!(tier == "premium" || !data.join("infrastructure").join(&other).exists(), "{at}");
    let tiers: Vec<Value> = server.get(&format!("{path}/bill"), token).json()["lines"].as_array().unwrap().clone();
    assert!(tiers.iter().any(|line| line["tier"] == tier), "{at}: {tiers:#?}");
}

fn killed_everywhere(data: &Path, more: &[&str], first: usize) {
    let mut server = start(data, more);
    let mut token = admin(&server);
    let points = server.get(RIG, &token).json()["points"].as_array().unwrap().clone();
    let sample = points.iter().skip(if all() { 0 } else { first }).step_by(if all() { 1 } else { SAMPLE });
    for (number, point) in sample.map(|point| point.as_str().unwrap()).enumerate() {
        let name = format!("Mover {number}");
        let made = server.call("POST", "/admin/v1/registrations", &token, &registration(&name, "standard"));
        // On a slow machine it goes on behind its answer.
        assert!([201, 202].contains(&made.status), "{}", made.body);
        let tenant = made.json()["tenant_id"].as_str().unwrap().to_owned();
        while server.get(&format!("/admin/v1/tenants/{tenant}"), &token).json()["status"] != "active" {}
        assert_eq!(items(data, "pool.db", &tenant, &["a", "b"]).len(), 2);
        let path = format!("/admin/v1/tenants/{tenant}");
        let goes_back = point.starts_with("failure:") || point.starts_with("undo:");
        // Where the tenant's file would be is a folder.
        let file = data.join(format!("infrastructure/silo/{tenant}.db"));
        if goes_back {
            std::fs::create_dir_all(&file).unwrap();
        }
        let rigged = server.call("POST", RIG, &token, &json!({"halt_at": point}));
        assert_eq!(rigged.status, 200, "{}", rigged.body);
        let body = json!({"tier": "premium"});
        std::thread::scope(|scope| {
            let call = scope.spawn(|| server.try_call("POST", &format!("{path}/tier"), &token, &body));
            assert!(server.line_with("the lab halts a change of tier").contains(point));
            server.signal("KILL");
            // On a slow machine the answer comes before it is done: that it runs.
            let answer = call.join().unwrap();
            assert!(answer.is_none_or(|answer| answer.status == 202), "{point}: it was answered");
        });
        assert_eq!(server.ended().code(), None);

        server = start(data, more);
        token = admin(&server);
        let listed = ended(&server, &token, &path);
        // What was not written for good is not there at all.
        let unwritten = ["accept:begun", "accept:acted"].contains(&point);
        let expected: &[&str] = if unwritten {
            &[]
        } else if goes_back {
            &["undone"]
        } else {
            &["done"]
        };
        let statuses: Vec<&str> = listed.iter().map(|one| one["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, expected, "{point}: {listed:#?}");
        if goes_back {
            std::fs::remove_dir(&file).unwrap();
        }
        let tier = if goes_back || unwritten { "standard" } else { "premium" };
        is_whole(&server, &token, (data, &tenant, tier), point);
        // Whoever got no answer asks again, and then for the way back.
        for tier in ["premium", "standard"] {
            let again = server.call("POST", &format!("{path}/tier"), &token, &json!({"tier": tier}));
            assert!([200, 202].contains(&again.status), "{point}: {}", again.body);
            ended(&server, &token, &path);
            is_whole(&server, &token, (data, &tenant, tier), point);
        }
    }
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let doctor = tollgate().arg("doctor").args(more).arg("--data").arg(data).output().unwrap();
    assert_eq!(doctor.status.code(), Some(0), "{}", String::from_utf8_lossy(&doctor.stderr));
}

#[test]
fn a_change_of_tier_killed_anywhere_is_made_or_taken_back() {
    killed_everywhere(tempfile::tempdir().unwrap().path(), &[], 0);
}

#[tokio::test]
async fn a_change_of_tier_killed_anywhere_is_made_or_taken_back_on_postgres() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database().await;
    let test = move || killed_everywhere(tempfile::tempdir().unwrap().path(), &["--database-url", &database], 3);
    tokio::task::spawn_blocking(test).await.unwrap();
}
