//! kill -9, again and again: nothing that was answered is lost, nothing is counted twice, nothing is left half made.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::Value;

use super::{
    client::{Client, head},
    customer::{admin, customer, owner},
    server::{Server, tollgate},
};
use crate::support::{
    actors::{PASSWORD, email_of, registration},
    postgres,
};

/// Calls of every kind on four connections until the server is gone, which it is after `enough` answers.
fn calls_until_killed(server: &Server, token: &str, enough: u64, sent: &AtomicU64, answered: &AtomicU64) {
    let before = answered.load(Ordering::Relaxed);
    let calls = [
        // This one is answered when the disk has its record.
        head("GET", "/sample/hello", token, ""),
        head("GET", "/sample/echo", token, ""),
        head("GET", "/sample/stream?events=2&interval_ms=0", token, ""),
        head("POST", "/sample/echo", token, "content-length: 4\r\n") + "body",
    ];
    let client = |call: &str| {
        let mut client = Client::connect(server);
        loop {
            sent.fetch_add(1, Ordering::Relaxed);
            let Some(answer) = client.try_send(call).and_then(Client::try_answer) else { return };
            assert_eq!(answer.status, 200, "{}", answer.body);
            if answered.fetch_add(1, Ordering::Relaxed) - before == enough {
                server.signal("KILL");
            }
        }
    };
    std::thread::scope(|scope| {
        for call in &calls {
            scope.spawn(|| client(call));
        }
    });
}

fn killed_again_and_again(data: &Path, more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("tollgate.toml");
    let durable =
        "[[gateway.routes]]\npath = \"/sample/hello\"\nupstream = \"builtin:sample\"\ndurability = \"durable\"\n";
    let sample = "[[gateway.routes]]\npath = \"/sample/\"\nupstream = \"builtin:sample\"\n";
    std::fs::write(&settings, format!("{sample}{durable}")).unwrap();
    let more = [more, &["--config", settings.to_str().unwrap()]].concat();

    let (sent, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut server = Server::start(data, &more);
    let mut token = customer(&server);
    for enough in [60, 120, 180] {
        calls_until_killed(&server, &token, enough, &sent, &answered);
        assert_eq!(server.ended().code(), None);
        server = Server::start(data, &more);
        token = owner(&server);
        let (sent, answered) = (sent.load(Ordering::Relaxed), answered.load(Ordering::Relaxed));
        let counted = server.used(&token);
        assert!(answered <= counted && counted <= sent, "{answered} answered, {counted} counted, {sent} sent");
    }
    let counted = server.used(&token);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let again = Server::start(data, &more);
    assert_eq!(again.used(&owner(&again)), counted, "a start without calls counts nothing again");
    let doctor = tollgate().arg("doctor").args(&more).arg("--data").arg(data).output().unwrap();
    assert_eq!(doctor.status.code(), Some(0), "{}", String::from_utf8_lossy(&doctor.stderr));
}

#[test]
fn no_answer_is_lost_and_none_counted_twice_over_several_kills() {
    killed_again_and_again(tempfile::tempdir().unwrap().path(), &[]);
}

#[tokio::test]
async fn no_answer_is_lost_and_none_counted_twice_over_several_kills_on_postgres() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database().await;
    let test = move || killed_again_and_again(tempfile::tempdir().unwrap().path(), &["--database-url", &database]);
    tokio::task::spawn_blocking(test).await.unwrap();
}

/// Every tenant by its name.
fn tenants(server: &Server, admin: &str) -> BTreeMap<String, Value> {
    let list = server.get("/admin/v1/tenants?limit=200", admin).json();
    let items = list["items"].as_array().unwrap().iter();
    items.map(|tenant| (tenant["customer_name"].as_str().unwrap().to_owned(), tenant.clone())).collect()
}

#[test]
fn a_kill_amid_registrations_leaves_no_half_tenant() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let token = admin(&server);
    let tier = |number: u64| ["premium", "standard", "free"][usize::try_from(number % 3).unwrap()];
    let name = |number: u64| format!("Customer {number}");
    let (next, answered) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let register = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let body = registration(&name(number), tier(number));
            let Some(answer) = server.try_call("POST", "/admin/v1/registrations", &token, &body) else { return };
            assert_eq!(answer.status, 201, "{}", answer.body);
            let mut answered = answered.lock().unwrap();
            answered.insert(number, answer.json()["tenant_id"].clone());
            if answered.len() == 8 {
                server.signal("KILL");
            }
        }
    };
    std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(register))));
    assert_eq!(server.ended().code(), None);

    let again = Server::start(data.path(), &[]);
    let found = tenants(&again, &token);
    let (next, answered) = (next.into_inner(), answered.into_inner().unwrap());
    for (number, id) in &answered {
        assert_eq!(&found[&name(*number)]["tenant_id"], id, "an answered registration stays");
    }
    // Whoever got no answer asks again, and finds one whole tenant.
    for number in 0..next {
        let made = again.call("POST", "/admin/v1/registrations", &token, &registration(&name(number), tier(number)));
        assert_eq!(made.status, 201, "{}", made.body);
        again.token(&email_of(&name(number)), PASSWORD);
    }
    let found = tenants(&again, &token);
    assert_eq!(found.len() as u64, next, "{:?}", found.keys());
    for (name, tenant) in &found {
        assert_eq!(tenant["status"], "active", "{name}");
        let path = format!("/admin/v1/tenants/{}", tenant["tenant_id"].as_str().unwrap());
        let place = again.get(&format!("{path}/infrastructure"), &token).json();
        assert_eq!(place["isolation"] == "silo", tenant["tier"] == "premium", "{name}: {place}");
        assert_eq!(again.get(&format!("{path}/billing-account"), &token).json()["status"], "open", "{name}");
    }
    // A file for each silo, and none that is nobody's.
    let silos = found.values().filter(|tenant| tenant["tier"] == "premium");
    let silos: BTreeSet<String> = silos.map(|tenant| tenant["tenant_id"].as_str().unwrap().to_owned()).collect();
    let files = std::fs::read_dir(data.path().join("infrastructure/silo")).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.map(|name| name.split('.').next().unwrap().to_owned()).collect();
    assert_eq!(files, silos);
}
