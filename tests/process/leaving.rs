//! A tenant that leaves, with the server killed at every place of the way: it ends deleted, with one last invoice and one export.

use std::{path::Path, time::Instant};

use serde_json::{Value, json};

use super::{
    customer::admin,
    server::{PATIENCE, Server, tollgate},
};
use crate::support::{actors::registration, archive::Archive, postgres};

const RIG: &str = "/admin/v1/lab/registrations";
/// Without `TOLLGATE_FAULTS=all`, every so many-th place from the first one on.
const SAMPLE: usize = 4;

fn start(data: &Path, more: &[&str]) -> Server {
    let mut command = tollgate();
    command.args(["serve", "--lab", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
    // An RSA key takes longer to make than the rest of this test.
    command.env("TOLLGATE_IDENTITY__PUBLISHED_ALGS", r#"["ES256"]"#);
    // Another node would wait this long for one that died.
    command.env("TOLLGATE_ONBOARDING__LEASE_S", "1").env("TOLLGATE_ONBOARDING__RETRY_FIRST_S", "1");
    Server::run(&mut command)
}

/// Whether all places are asked for, not a sample.
#[expect(clippy::disallowed_methods, reason = "a test reads its own switch")]
fn all() -> bool {
    std::env::var("TOLLGATE_FAULTS").is_ok_and(|which| which == "all")
}

/// A tenant's export, byte for byte.
fn export(server: &Server, path: &str, token: &str) -> Vec<u8> {
    let head = format!("GET {path}/export HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    let answer = server.raw(format!("{head}authorization: Bearer {token}\r\n\r\n").as_bytes());
    let end_of = |bytes: &[u8], mark: &[u8]| bytes.windows(mark.len()).position(|part| part == mark).unwrap();
    let (head, mut rest) = answer.split_at(end_of(&answer, b"\r\n\r\n") + 4);
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let mut body = Vec::new();
    loop {
        let line = end_of(rest, b"\r\n");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
}

/// Waits until a tenant is in a state.
#[expect(clippy::disallowed_methods, reason = "a stopwatch, so that a test that hangs fails")]
fn becomes(server: &Server, token: &str, path: &str, status: &str) {
    let since = Instant::now();
    while server.get(path, token).json()["status"] != status {
        assert!(since.elapsed() < PATIENCE, "{}", server.get(&format!("{path}/offboarding"), token).body);
    }
}

/// A new tenant, in use.
fn registered(server: &Server, token: &str, body: &Value) -> String {
    let made = server.call("POST", "/admin/v1/registrations", token, body);
    // On a slow machine it goes on behind its answer.
    assert!([201, 202].contains(&made.status), "{}", made.body);
    let tenant = made.json()["tenant_id"].as_str().unwrap().to_owned();
    becomes(server, token, &format!("/admin/v1/tenants/{tenant}"), "active");
    tenant
}

fn killed_everywhere(data: &Path, more: &[&str], first: usize) {
    let mut server = start(data, more);
    let mut token = admin(&server);
    let points = server.get(RIG, &token).json()["offboarding_points"].as_array().unwrap().clone();
    assert_eq!(points.len(), 3 * 8);
    let sample = points.iter().skip(if all() { 0 } else { first }).step_by(if all() { 1 } else { SAMPLE });
    for (place, point) in sample.map(|point| point.as_str().unwrap()).enumerate() {
        let name = format!("Customer {place}");
        let body = registration(&name, if place.is_multiple_of(2) { "premium" } else { "standard" });
        let tenant = registered(&server, &token, &body);
        let path = format!("/admin/v1/tenants/{tenant}");
        assert_eq!(server.call("POST", RIG, &token, &json!({"halt_at": point})).status, 200);
        std::thread::scope(|scope| {
            let call = scope.spawn(|| server.try_call("DELETE", &path, &token, &Value::Null));
            assert!(server.line_with("the lab halts a registration").contains(point));
            server.signal("KILL");
            let answer = call.join().unwrap();
            assert!(answer.is_none_or(|answer| answer.status == 202), "{point}: it was answered");
        });
        assert_eq!(server.ended().code(), None);

        server = start(data, more);
        token = admin(&server);
        if ["leave:begun", "leave:acted"].contains(&point) {
            // What was not written for good is not there at all.
            assert_eq!(server.get(&path, &token).json()["status"], "active", "{point}");
            assert!([200, 202].contains(&server.call("DELETE", &path, &token, &Value::Null).status), "{point}");
        }
        becomes(&server, &token, &path, "deleted");
        let invoices = server.get(&format!("{path}/invoices"), &token).json()["items"].as_array().unwrap().clone();
        assert_eq!(invoices.len(), 1, "{point}: {invoices:#?}");
        assert!(invoices[0]["number"].is_string(), "{point}");
        let archive = Archive::read(&export(&server, &path, &token));
        assert_eq!(archive.json("users.json").as_array().unwrap().len(), 1, "{point}");
        assert_eq!(archive.json("invoices.json").as_array().unwrap().len(), 1, "{point}");
        assert_eq!(server.get(&format!("{path}/infrastructure"), &token).status, 404, "{point}");
        assert_eq!(server.get(&format!("{path}/users"), &token).json()["items"], json!([]), "{point}");
        let steps = server.get(&format!("{path}/offboarding"), &token).json()["steps"].as_array().unwrap().clone();
        assert!(steps.iter().all(|step| step["status"] == "done"), "{point}: {steps:#?}");
        // The name is free.
        assert_ne!(registered(&server, &token, &body), tenant, "{point}");
    }
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let doctor = tollgate().arg("doctor").args(more).arg("--data").arg(data).output().unwrap();
    assert_eq!(doctor.status.code(), Some(0), "{}", String::from_utf8_lossy(&doctor.stderr));
}

#[test]
fn a_tenant_that_leaves_is_gone_whenever_the_server_is_killed() {
    killed_everywhere(tempfile::tempdir().unwrap().path(), &[], 0);
}

#[tokio::test]
async fn a_tenant_that_leaves_is_gone_whenever_the_server_is_killed_on_postgres() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database().await;
    let test = move || killed_everywhere(tempfile::tempdir().unwrap().path(), &["--database-url", &database], 2);
    tokio::task::spawn_blocking(test).await.unwrap();
}
