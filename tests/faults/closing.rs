//! Killed at the embedded store's calls while a month is closed: whoever starts next ends what was begun, every tenant has one
//! invoice, numbers have no gap, and others hear of each invoice once.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::{
    scene::{agrees, all, copy_all, say, start},
    server::Server,
    strace::{started_with, usable},
    support::{
        actors::{PASSWORD, email_of, registration},
        app::{ADMIN_EMAIL, ADMIN_PASSWORD},
    },
};

const TENANTS: [&str; 4] = ["Acme", "Beta", "Gamma", "Delta"];
/// Closed at the start and then not for long; the lab's clock says when a month is over.
const SETTINGS: &str = "[lab]\nenabled = true\n[identity]\npublished_algs = [\"ES256\"]\naccess_token_ttl_s = 86400\n\
    [billing]\nclose_every_s = 3600\n\
    [[gateway.routes]]\npath = \"/sample/\"\nupstream = \"builtin:sample\"\n";
/// The store writes its log and its pages, and syncs both: at how many of them it is killed, and in a sample.
const CALLS: [(&str, u64, u64); 2] = [("pwrite64", 11, 29), ("fsync", 1, 2)];

fn admin(server: &Server) -> String {
    server.token(ADMIN_EMAIL, ADMIN_PASSWORD)
}

fn turn(server: &Server, to: &str) {
    let turned = server.call("POST", "/admin/v1/lab/clock", &admin(server), &json!({"set": to, "freeze": true}));
    assert_eq!(turned.status, 200, "{}", turned.body);
}

/// A data folder with a month of several tenants that is over and not closed.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("faults.toml"), SETTINGS).unwrap();
    let server = start(folder.path());
    turn(&server, "2026-10-20T12:00:00Z");
    for tenant in TENANTS {
        let made = server.call("POST", "/admin/v1/registrations", &admin(&server), &registration(tenant, "standard"));
        assert_eq!(made.status, 201, "{}", made.body);
        let token = server.token(&email_of(tenant), PASSWORD);
        assert_eq!(server.get("/sample/hello", &token).status, 200);
    }
    turn(&server, "2026-11-01T02:00:00Z");
    assert_eq!(invoices(&server, &admin(&server)), Some(vec![]), "not before the next start");
    server.signal("TERM");
    assert!(server.ended().success());
    folder
}

fn items(server: &Server, path: &str, token: &str) -> Option<Vec<Value>> {
    let answer = server.try_call("GET", path, token, &Value::Null)?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["items"].as_array().cloned()
}

fn invoices(server: &Server, token: &str) -> Option<Vec<Value>> {
    items(server, "/admin/v1/invoices?limit=100", token)
}

/// Waits until every tenant has an invoice with a number; `None` when the server dies before.
fn closed(server: &Server) -> Option<Vec<Value>> {
    let login = json!({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD});
    let login = server.try_call("POST", "/v1/login", "", &login)?;
    let token = login.json()["access_token"].as_str().unwrap().to_owned();
    loop {
        let found = invoices(server, &token)?;
        if found.iter().filter(|invoice| invoice["number"].is_string()).count() >= TENANTS.len() {
            return Some(found);
        }
    }
}

fn compare(place: &Path, what: &str) {
    let server = start(place);
    let found = closed(&server).unwrap_or_else(|| panic!("{what}: the server ended"));
    let of = |name: &str| found.iter().map(|invoice| invoice[name].to_string()).collect::<BTreeSet<_>>();
    assert_eq!((found.len(), of("tenant_id").len()), (TENANTS.len(), TENANTS.len()), "{what}: {found:?}");
    let numbers: BTreeSet<_> = (1..=TENANTS.len()).map(|serial| format!("\"INV-{serial:06}\"")).collect();
    assert_eq!(of("number"), numbers, "{what}");
    assert_eq!(of("total").len(), 1, "{what}: all used the same: {found:?}");
    let heard = items(&server, "/admin/v1/events?name=invoice.finalized&limit=100", &admin(&server)).unwrap();
    assert_eq!(heard.len(), TENANTS.len(), "{what}: {heard:?}");
    drop(server);
    agrees(place, what);
}

/// Kills at the n-th call, from the first instruction on; `false` when all was done before.
fn killed_at(scene: &Path, call: &str, n: u64) -> bool {
    let copy = tempfile::tempdir().unwrap();
    copy_all(scene, copy.path());
    let started = started_with(copy.path(), call, &format!("signal=KILL:when={n}"));
    let died = match started {
        None => true,
        Some(server) => {
            let died = closed(&server).is_none();
            if !died {
                server.stop_child();
            }
            server.ended();
            died
        }
    };
    compare(copy.path(), &format!("{call} {n}"));
    died
}

#[test]
fn no_kill_while_a_month_is_closed_loses_or_doubles_an_invoice() {
    if !usable() {
        return;
    }
    let scene = prepared();
    for (call, every, sample) in CALLS {
        let (next, kills, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let step = if all() { every } else { sample };
        let lane = || {
            while !over.load(Ordering::Relaxed) {
                let n = 1 + step * next.fetch_add(1, Ordering::Relaxed);
                if killed_at(scene.path(), call, n) {
                    kills.fetch_add(1, Ordering::Relaxed);
                } else {
                    over.store(true, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(lane);
            scope.spawn(lane);
        });
        let kills = kills.into_inner();
        assert!(kills >= 2, "{call}: {kills} kills");
        say(&format!("closing a month, {call}: {kills} kills, every tenant has one invoice"));
    }
}
