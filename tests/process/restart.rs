//! What a restart keeps, and what two nodes on one database share.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    client::Client,
    customer::{admin, customer, owner},
    server::{Server, tollgate},
};
use crate::support::{
    actors::{PASSWORD, email_of, registration},
    postgres,
};

/// Everything that the platform and its customer see, but for times of asking.
fn seen(server: &Server, admin: &str, owner: &str) -> Vec<(String, Value)> {
    let tenants = server.get("/admin/v1/tenants", admin).json();
    let tenant = tenants["items"][0]["tenant_id"].as_str().unwrap().to_owned();
    let below = ["", "/users", "/infrastructure", "/billing-account", "/usage?meter=apis", "/usage?meter=compute"];
    let admins = below.map(|path| (format!("/admin/v1/tenants/{tenant}{path}"), admin));
    let more = ["/admin/v1/registrations", "/admin/v1/plans", "/admin/v1/tenants"].map(|path| (path.to_owned(), admin));
    let own = ["/v1/me", "/v1/usage?meter=apis", "/v1/bill"].map(|path| (path.to_owned(), owner));
    let anyones = ["/.well-known/jwks.json", "/.well-known/openid-configuration"].map(|path| (path.to_owned(), ""));
    let all = admins.into_iter().chain(more).chain(own).chain(anyones);
    all.map(|(path, token)| {
        let answer = server.get(&path, token);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        (path, answer.json())
    })
    .collect()
}

fn kept_over_a_restart(data: &Path, more: &[&str]) {
    let server = Server::start(data, more);
    let admin = admin(&server);
    let token = customer(&server);
    let suspended = server.call("POST", "/admin/v1/registrations", &admin, &registration("Late", "free")).json();
    let suspended = suspended["tenant_id"].as_str().unwrap().to_owned();
    let late = server.token(&email_of("Late"), PASSWORD);
    server.call("POST", &format!("/admin/v1/tenants/{suspended}/suspend"), &admin, &Value::Null);
    let login = json!({"email": email_of("Acme"), "password": PASSWORD});
    let session = server.call("POST", "/v1/login", "", &login).json();
    for _ in 0..3 {
        assert_eq!(server.get("/sample/hello", &token).status, 200);
    }
    assert_eq!(server.call("POST", "/sample/compute", &token, &json!({"work": 50})).status, 200);
    let before = seen(&server, &admin, &token);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));

    let again = Server::start(data, more);
    for (before, after) in before.iter().zip(seen(&again, &admin, &token)) {
        assert_eq!(before, &after);
    }
    assert_eq!(again.used(&token), 4);
    assert_eq!(again.get("/sample/hello", &token).status, 200, "a token outlives the process that issued it");
    assert_eq!(again.used(&token), 5);
    assert_eq!(again.get("/sample/hello", &late).status, 403, "the suspended tenant stays suspended");
    let refresh = format!("grant_type=refresh_token&refresh_token={}", session["refresh_token"].as_str().unwrap());
    assert_eq!(again.form("/oauth2/token", &refresh).status, 200, "so does a session");
}

#[test]
fn a_restart_keeps_tenants_tokens_sessions_keys_usage_and_bills() {
    kept_over_a_restart(tempfile::tempdir().unwrap().path(), &[]);
}

#[tokio::test]
async fn a_restart_keeps_tenants_tokens_sessions_keys_usage_and_bills_on_postgres() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database().await;
    let test = move || kept_over_a_restart(tempfile::tempdir().unwrap().path(), &["--database-url", &database]);
    tokio::task::spawn_blocking(test).await.unwrap();
}

/// Nodes share the database and the key file; each has its own journal.
fn two_nodes(database: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let more = ["--database-url", database];
    let one = Server::start(&first, &more);
    std::fs::create_dir(&second).unwrap();
    std::fs::copy(first.join("identity.key"), second.join("identity.key")).unwrap();
    let two = Server::start(&second, &more);
    let token = customer(&one);
    for _ in 0..3 {
        assert_eq!(one.get("/sample/hello", &token).status, 200);
        assert_eq!(two.get("/sample/hello", &token).status, 200, "the other node's token is as good");
    }
    for node in [one, two] {
        node.signal("TERM");
        assert_eq!(node.ended().code(), Some(0));
    }
    let again = Server::start(&second, &more);
    assert_eq!(again.used(&owner(&again)), 6, "what both counted");
}

#[tokio::test]
async fn two_nodes_on_one_database_take_each_others_tokens_and_count_together() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database().await;
    tokio::task::spawn_blocking(move || two_nodes(&database)).await.unwrap();
}

#[test]
fn a_ledger_that_is_older_than_the_journal_is_refused_until_the_loss_is_accepted() {
    const CALLS: u64 = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let (data, older) = (folder.path().join("data"), folder.path().join("older.db"));
    let start = |more: &[&str]| {
        let mut command = tollgate();
        // Small segments, which are soon counted and gone.
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data).args(more);
        command.env("TOLLGATE_METERING__SEGMENT_BYTES", "262144");
        command
    };
    let stopped = |server: Server| {
        server.signal("TERM");
        assert_eq!(server.ended().code(), Some(0));
    };
    let calls = |server: &Server, token: &str| {
        let mut client = Client::connect(server);
        for _ in 0..CALLS {
            assert_eq!(client.get("/sample/hello", token).status, 200);
        }
    };
    let server = Server::run(&mut start(&[]));
    let token = customer(&server);
    calls(&server, &token);
    // In the middle of this process's journal, as a backup would be taken.
    assert_eq!(server.used(&token), CALLS);
    let copied = |name: &str| std::fs::copy(data.join(name), folder.path().join(format!("older{}", &name[8..])));
    copied("tollgate.db").unwrap();
    copied("tollgate.db-wal").unwrap();
    calls(&server, &token);
    calls(&server, &token);
    assert_eq!(server.used(&token), 3 * CALLS);
    stopped(server);

    std::fs::rename(&older, data.join("tollgate.db")).unwrap();
    std::fs::rename(folder.path().join("older.db-wal"), data.join("tollgate.db-wal")).unwrap();
    let refused = start(&[]).output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(text.contains("the ledger is older than the journal") && text.contains("--accept-loss"), "{text}");
    let server = Server::run(&mut start(&["--accept-loss"]));
    let counted = server.used(&token);
    assert!((CALLS..3 * CALLS).contains(&counted), "{counted}");
    assert_eq!(server.get("/sample/hello", &token).status, 200);
    assert_eq!(server.used(&token), counted + 1);
}
