//! A registration killed at every place of its way, forward and back: it ends in use or taken back, with one tenant, one account
//! and one place for its data, and whoever got no answer asks again and has one.

use std::{collections::BTreeSet, path::Path, time::Instant};

use serde_json::{Value, json};

use super::{
    customer::admin,
    server::{PATIENCE, Server, tollgate},
};
use crate::support::{
    actors::{PASSWORD, email_of, registration},
    postgres,
};

const RIG: &str = "/admin/v1/lab/registrations";

pub fn start(data: &Path, more: &[&str]) -> Server {
    let mut command = tollgate();
    command.args(["serve", "--lab", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
    // An RSA key takes longer to make than the rest of this test.
    command.env("TOLLGATE_IDENTITY__PUBLISHED_ALGS", r#"["ES256"]"#);
    // Another node would wait this long for one that died.
    command.env("TOLLGATE_ONBOARDING__LEASE_S", "1").env("TOLLGATE_ONBOARDING__RETRY_FIRST_S", "1");
    Server::run(&mut command)
}

fn list(server: &Server, token: &str, path: &str) -> Vec<Value> {
    let page = server.get(&format!("/admin/v1/{path}"), token).json();
    assert!(page["next_cursor"].is_null(), "more than one page");
    page["items"].as_array().unwrap().clone()
}

fn of_customer(all: Vec<Value>, name: &str) -> Vec<Value> {
    all.into_iter().filter(|one| one["customer_name"] == name).collect()
}

/// Waits until every registration of a customer has ended.
#[expect(clippy::disallowed_methods, reason = "a stopwatch, so that a test that hangs fails")]
fn ended(server: &Server, token: &str, name: &str) -> Vec<Value> {
    let since = Instant::now();
    loop {
        let found = of_customer(list(server, token, "registrations?limit=500"), name);
        if found.iter().all(|one| ["active", "compensated"].contains(&one["status"].as_str().unwrap())) {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "it does not end: {found:#?}");
    }
}

/// What a tenant has, or that it has nothing.
fn is_whole_or_gone(server: &Server, token: &str, made: &Value, at: &str) {
    let path = format!("/admin/v1/tenants/{}", made["tenant_id"].as_str().unwrap());
    let tenant = server.get(&path, token);
    let account = server.get(&format!("{path}/billing-account"), token);
    let place = server.get(&format!("{path}/infrastructure"), token);
    let users = server.get(&format!("{path}/users"), token);
    if made["status"] == "active" {
        assert_eq!(tenant.json()["status"], "active", "{at}");
        assert_eq!((account.json()["status"].as_str(), place.status), (Some("open"), 200), "{at}");
        assert_eq!(users.json()["items"].as_array().unwrap().len(), 1, "{at}");
        server.token(&email_of(made["customer_name"].as_str().unwrap()), PASSWORD);
    } else {
        assert!(tenant.status == 404 || tenant.json()["status"] == "deleted", "{at}: {}", tenant.body);
        assert!(account.status == 404 || account.json()["status"] == "closed", "{at}: {}", account.body);
        assert_eq!(place.status, 404, "{at}: {}", place.body);
        assert!(users.status == 404 || users.json()["items"] == json!([]), "{at}: {}", users.body);
    }
}

/// How a registration goes that comes by a place, and how it ends.
fn ways(point: &str) -> Vec<(Value, &'static str)> {
    let good = (json!({"halt_at": point}), "active");
    let back = (json!({"halt_at": point, "fail": "activation", "lasting": true}), "compensated");
    let again = (json!({"halt_at": point, "fail": "activation", "times": 1}), "active");
    match point {
        "failure:written" => vec![back, again],
        // That it failed was not written, and the next server lets nothing fail.
        "failure:begun" | "failure:acted" => vec![(back.0, "active"), again],
        _ if point.starts_with("undo_") => vec![back],
        _ => vec![good],
    }
}

/// Whether all places are asked for, not a sample.
#[expect(clippy::disallowed_methods, reason = "a test reads its own switch")]
pub fn all() -> bool {
    std::env::var("TOLLGATE_FAULTS").is_ok_and(|which| which == "all")
}

/// Without `TOLLGATE_FAULTS=all`, every so many-th place from the first one on.
pub const SAMPLE: usize = 5;

fn killed_everywhere(data: &Path, more: &[&str], first: usize) {
    let mut server = start(data, more);
    let mut token = admin(&server);
    let points = server.get(RIG, &token).json()["points"].as_array().unwrap().clone();
    let points: Vec<&str> = points.iter().map(|point| point.as_str().unwrap()).collect();
    let mut names = Vec::new();
    let sample = points.iter().skip(if all() { 0 } else { first }).step_by(if all() { 1 } else { SAMPLE });
    for (point, (rig, end)) in sample.flat_map(|point| ways(point).into_iter().map(move |way| (*point, way))) {
        let name = format!("Customer {}", names.len());
        let body = registration(&name, if names.len().is_multiple_of(2) { "premium" } else { "free" });
        let rigged = server.call("POST", RIG, &token, &rig);
        assert_eq!(rigged.status, 200, "{}", rigged.body);
        std::thread::scope(|scope| {
            let call = scope.spawn(|| server.try_call("POST", "/admin/v1/registrations", &token, &body));
            assert!(server.line_with("the lab halts a registration").contains(point));
            server.signal("KILL");
            // On a slow machine the answer comes before it is done: that it runs.
            let answer = call.join().unwrap();
            assert!(answer.is_none_or(|answer| answer.status == 202), "{point}: it was answered");
        });
        assert_eq!(server.ended().code(), None);

        server = start(data, more);
        token = admin(&server);
        let found = ended(&server, &token, &name);
        // What was not written for good is not there at all.
        let expected = if ["accept:begun", "accept:acted"].contains(&point) { vec![] } else { vec![end] };
        let statuses: Vec<&str> = found.iter().map(|one| one["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, expected, "{point}: {found:#?}");
        for made in &found {
            is_whole_or_gone(&server, &token, made, point);
        }
        // Whoever got no answer asks again.
        let again = server.call("POST", "/admin/v1/registrations", &token, &body);
        // On a slow machine it goes on behind its answer.
        assert!([201, 202].contains(&again.status), "{point}: {}", again.body);
        let id = again.json()["registration_id"].take();
        let again = ended(&server, &token, &name).into_iter().find(|one| one["registration_id"] == id).unwrap();
        assert_eq!(again["status"], "active", "{point}: {again}");
        is_whole_or_gone(&server, &token, &again, point);
        if let [made] = &found[..] {
            assert_eq!(made["tenant_id"] == again["tenant_id"], end == "active", "{point}");
        }
        names.push(name);
    }
    let tenants = list(&server, &token, "tenants?limit=500");
    let of: BTreeSet<&str> = tenants.iter().map(|tenant| tenant["customer_name"].as_str().unwrap()).collect();
    assert_eq!((tenants.len(), of.len()), (names.len(), names.len()), "one tenant each");
    // A file for each silo, and none that is nobody's.
    let silos = tenants.iter().filter(|tenant| tenant["tier"] == "premium");
    let silos: BTreeSet<String> = silos.map(|tenant| tenant["tenant_id"].as_str().unwrap().to_owned()).collect();
    let files = std::fs::read_dir(data.join("infrastructure/silo")).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.map(|name| name.split('.').next().unwrap().to_owned()).collect();
    assert_eq!(files, silos);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let doctor = tollgate().arg("doctor").args(more).arg("--data").arg(data).output().unwrap();
    assert_eq!(doctor.status.code(), Some(0), "{}", String::from_utf8_lossy(&doctor.stderr));
}

#[test]
fn a_registration_killed_anywhere_ends_in_use_or_taken_back() {
    killed_everywhere(tempfile::tempdir().unwrap().path(), &[], 0);
}

#[tokio::test]
async fn a_registration_killed_anywhere_ends_in_use_or_taken_back_on_postgres() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database().await;
    let test = move || killed_everywhere(tempfile::tempdir().unwrap().path(), &["--database-url", &database], 3);
    tokio::task::spawn_blocking(test).await.unwrap();
}
