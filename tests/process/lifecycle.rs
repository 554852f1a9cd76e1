//! Coming up, draining, being killed, coming up again.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    customer::customer,
    server::{Server, tollgate},
};
use crate::support::{
    actors::{PASSWORD, email_of},
    postgres,
};

#[test]
fn a_drain_finishes_what_runs_and_refuses_what_comes() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    assert_eq!(server.get("/readyz", "").status, 200);
    let token = customer(&server);
    let mut running = server.connect();
    let head = format!("POST /sample/echo HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n");
    running.write_all(format!("{head}content-length: 4\r\nexpect: 100-continue\r\n\r\n").as_bytes()).unwrap();
    // The server has the request: it asks for the body.
    let mut asked = [0; 25];
    running.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");

    server.signal("TERM");
    server.line_with("draining");
    running.write_all(b"body").unwrap();
    let mut answer = String::new();
    running.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let address = server.address.clone();
    assert_eq!(server.ended().code(), Some(0));
    assert!(std::net::TcpStream::connect(address).is_err());

    let again = Server::start(data.path(), &[]);
    let token = again.token(&email_of("Acme"), PASSWORD);
    assert_eq!(again.used(&token), 1, "the last request before the end was counted");
}

#[test]
fn an_interrupt_drains_as_well_and_a_hangup_ends_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    server.signal("HUP");
    server.line_with("settings were read again");
    assert_eq!(server.get("/healthz", "").status, 200);
    server.signal("INT");
    assert_eq!(server.ended().code(), Some(0));
}

/// Kills a server under concurrent calls and counts afterwards: answered ≤ counted ≤ sent.
fn killed_under_load(data: &Path, more: &[&str]) {
    let server = Server::start(data, more);
    let token = customer(&server);
    let keys = server.get("/.well-known/jwks.json", "").body;
    let (sent, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    sent.fetch_add(1, Ordering::Relaxed);
                    match server.try_call("GET", "/sample/hello", &token, &serde_json::Value::Null) {
                        Some(answer) => {
                            assert_eq!(answer.status, 200, "{}", answer.body);
                            if answered.fetch_add(1, Ordering::Relaxed) == 150 {
                                server.signal("KILL");
                            }
                        }
                        None => return,
                    }
                }
            });
        }
    });
    assert_eq!(server.ended().code(), None);

    let again = Server::start(data, more);
    let token = again.token(&email_of("Acme"), PASSWORD);
    let (sent, answered, counted) = (sent.into_inner(), answered.into_inner(), again.used(&token));
    assert!(answered <= counted && counted <= sent, "{answered} answered, {counted} counted, {sent} sent");
    assert_eq!(again.get("/.well-known/jwks.json", "").body, keys, "tokens survive a restart");
}

#[test]
fn every_answered_call_is_counted_after_a_kill() {
    killed_under_load(tempfile::tempdir().unwrap().path(), &[]);
}

#[tokio::test]
async fn every_answered_call_is_counted_after_a_kill_on_postgres() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database().await;
    tokio::task::spawn_blocking(move || {
        killed_under_load(tempfile::tempdir().unwrap().path(), &["--database-url", &database]);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_doctor_agrees_beside_a_running_server_and_finds_a_changed_digit() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let token = customer(&server);
    for _ in 0..5 {
        assert_eq!(server.get("/sample/hello", &token).status, 200);
    }
    assert_eq!(server.used(&token), 5);
    let doctor = || tollgate().args(["doctor", "--data"]).arg(data.path()).output().unwrap();
    let healthy = doctor();
    let text = String::from_utf8(healthy.stderr).unwrap();
    assert_eq!(healthy.status.code(), Some(0), "{text}");
    assert!(text.contains("all agrees"), "{text}");
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));

    let url = format!("sqlite:{}", data.path().join("tollgate.db").display());
    let mut store = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let edit = "UPDATE usage_totals SET total = '6' WHERE meter = 'apis' AND unit = 3";
    sqlx::query(edit).execute(&mut store).await.unwrap();
    sqlx::Connection::close(store).await.unwrap();
    let sick = doctor();
    let text = String::from_utf8(sick.stderr).unwrap();
    assert_eq!(sick.status.code(), Some(1), "{text}");
    assert!(text.contains("apis") && text.contains("have 5 in 5 records") && text.contains("has 6"), "{text}");

    let nowhere = tollgate().args(["doctor", "--data", "/nowhere"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
}
