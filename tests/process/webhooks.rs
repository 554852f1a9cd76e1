//! Events are told by whoever comes after: the process dies between a change and its delivery, and in the middle of one.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use super::{
    customer::{admin, customer},
    server::{Server, tollgate},
};
use crate::support::{postgres, receiver::Receiver};

/// A laboratory, for its clock; with receivers on this machine.
fn serve(data: &Path, more: &[&str]) -> Command {
    let mut command = tollgate();
    command.args(["serve", "--lab", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
    // An RSA key takes longer to make than the rest of this test.
    command.env("TOLLGATE_IDENTITY__PUBLISHED_ALGS", r#"["ES256"]"#);
    command.env("TOLLGATE_WEBHOOKS__ALLOW_PRIVATE", "true");
    command
}

/// A change of Acme's, which is in the outbox once it is answered; the event's id.
fn change(server: &Server, what: &str) -> String {
    let admin = admin(server);
    let tenants = server.get("/admin/v1/tenants?customer_name=Acme", &admin).json();
    let id = tenants["items"][0]["tenant_id"].as_str().unwrap();
    assert_eq!(server.call("POST", &format!("/admin/v1/tenants/{id}/{what}"), &admin, &Value::Null).status, 200);
    let events = server.get(&format!("/admin/v1/events?tenant_id={id}&limit=500"), &admin).json();
    let newest = events["items"].as_array().unwrap().iter().max_by_key(|event| event["sequence"].as_i64()).unwrap();
    newest["event_id"].as_str().unwrap().to_owned()
}

fn killed_before_and_within_a_delivery(data: &Path, more: &[&str]) {
    let receiver = Receiver::start();
    let server = Server::run(&mut serve(data, more));
    customer(&server);
    let hook = json!({"url": receiver.url(), "events": ["*"]});
    assert_eq!(server.call("POST", "/admin/v1/webhooks", &admin(&server), &hook).status, 201);

    // It hears of it, and does not answer; meanwhile more happens, which waits for that.
    receiver.answers(&[""]);
    let first = change(&server, "suspend");
    let call = receiver.wait_for(1).remove(0);
    assert_eq!((call.id(), call.kind()), (first.clone(), "tenant.suspended".to_owned()));
    let second = change(&server, "activate");
    server.signal("KILL");
    assert_eq!(server.ended().code(), None);
    assert!(receiver.calls().is_empty());

    // The call that was broken off is made again when its time is over, and the other one after it.
    let server = Server::run(&mut serve(data, more));
    let turned = server.call("POST", "/admin/v1/lab/clock", &admin(&server), &json!({"advance_s": 30}));
    assert_eq!(turned.status, 200, "{}", turned.body);
    let ids: Vec<String> = receiver.wait_for(2).iter().map(crate::support::receiver::Call::id).collect();
    assert_eq!(ids, [first, second]);

    // A server that runs tells at once.
    let third = change(&server, "suspend");
    assert_eq!(receiver.wait_for(1)[0].id(), third);

    // One that is to end hears the answer before it does: nothing is told twice.
    receiver.answers(&["slowly"]);
    let fourth = change(&server, "activate");
    assert_eq!(receiver.wait_for(1)[0].id(), fourth);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let server = Server::run(&mut serve(data, more));
    let turned = server.call("POST", "/admin/v1/lab/clock", &admin(&server), &json!({"advance_s": 30}));
    assert_eq!(turned.status, 200, "{}", turned.body);
    let fifth = change(&server, "suspend");
    assert_eq!(receiver.wait_for(1)[0].id(), fifth);
}

#[test]
fn an_event_outlives_the_process_that_was_killed_before_it_was_taken() {
    killed_before_and_within_a_delivery(tempfile::tempdir().unwrap().path(), &[]);
}

#[tokio::test]
async fn an_event_outlives_the_process_that_was_killed_before_it_was_taken_on_postgres() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database().await;
    let test = move || {
        killed_before_and_within_a_delivery(tempfile::tempdir().unwrap().path(), &["--database-url", &database]);
    };
    tokio::task::spawn_blocking(test).await.unwrap();
}
