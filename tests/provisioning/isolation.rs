//! A tenant's credentials open its own rows and nobody else's, tried with PostgreSQL's own client, by whatever a role can say.

use serde_json::{Value, json};

use super::postgres::{Client, Cluster, cluster};
use crate::support::app::TestApp;

/// Two silo tenants and two of the pool, each with a row of its own.
struct Tenants {
    app: TestApp,
    ids: Vec<String>,
    clients: Vec<Client>,
}

const PREFIX: &str = "iso";

async fn tenants(cluster: &Cluster) -> Tenants {
    let app = TestApp::with(&cluster.settings(PREFIX)).await;
    let (mut ids, mut clients) = (Vec::new(), Vec::new());
    for (name, tier) in [("Acme", "premium"), ("Globex", "premium"), ("Initech", "standard"), ("Umbrella", "free")] {
        let id = app.tenant(name, tier).await;
        let client = Client::of(&app.admin().await, &id).await;
        let insert = format!("INSERT INTO items (tenant_id, key, value) VALUES ('{id}', 'of {name}', 'x')");
        client.psql(&insert).unwrap();
        assert_eq!(client.psql("SELECT key FROM items"), Ok(format!("of {name}")));
        ids.push(id);
        clients.push(client);
    }
    Tenants { app, ids, clients }
}

#[tokio::test]
async fn a_tenants_credentials_open_its_own_rows_and_nobody_elses() {
    let Some(cluster) = cluster().await else { return };
    let Tenants { ids, clients, .. } = Box::pin(tenants(cluster)).await;
    // As statistics are gathered of any table that is in use.
    cluster.run(&clients[2].database, "ANALYZE items").await;
    for (attacker, own) in clients.iter().zip(&ids) {
        for (victim, id) in clients.iter().zip(&ids).filter(|(victim, _)| victim.user != attacker.user) {
            let (role, database) = (&victim.user, &victim.database);
            // What a role may say, and what comes of it: nothing of the other's.
            for sql in [
                format!("SELECT count(*) FROM items WHERE tenant_id <> '{own}'"),
                format!("SET app.tenant = '{id}'; SELECT count(*) FROM items WHERE tenant_id <> '{own}'"),
                format!("BEGIN; SET LOCAL app.tenant = '{id}'; SELECT count(*) FROM items WHERE tenant_id = '{id}'"),
                format!(
                    "SELECT count(*) FROM items WHERE tenant_id = '{id}' OR key IS NOT NULL AND tenant_id = '{id}'"
                ),
                format!(
                    "WITH gone AS (DELETE FROM items WHERE tenant_id = '{id}' RETURNING 1) SELECT count(*) FROM gone"
                ),
                format!(
                    "WITH new AS (UPDATE items SET key = 'x' WHERE tenant_id = '{id}' RETURNING 1) SELECT count(*) FROM new"
                ),
                format!(
                    "SELECT count(*) FROM pg_stats WHERE tablename = 'items' AND most_common_vals::text LIKE '%{id}%'"
                ),
            ] {
                assert_eq!(attacker.psql(&sql), Ok("0".to_owned()), "{} of {}: {sql}", attacker.user, role);
            }
            for sql in [
                format!("SET ROLE {role}"),
                format!("SET SESSION AUTHORIZATION {role}"),
                format!("GRANT {role} TO CURRENT_USER"),
                format!("ALTER ROLE {role} PASSWORD 'x'"),
                format!("DROP DATABASE {database}"),
                "SELECT rolpassword FROM pg_authid".to_owned(),
                "SELECT pg_read_file('/etc/passwd')".to_owned(),
                "COPY items TO PROGRAM 'cat'".to_owned(),
                "ALTER ROLE CURRENT_USER BYPASSRLS".to_owned(),
                "ALTER ROLE CURRENT_USER CREATEROLE".to_owned(),
                "CREATE ROLE another".to_owned(),
                "CREATE DATABASE another".to_owned(),
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'provisioner'; SET ROLE tollgate".to_owned(),
            ] {
                let refused = attacker.psql(&sql).expect_err(&sql);
                assert!(refused.contains("ERROR"), "{sql}: {refused}");
            }
            if *database != attacker.database {
                let refused = attacker.psql_in(database, "SELECT 1").unwrap_err();
                assert!(refused.contains("permission denied for database"), "{refused}");
            }
        }
    }
    for (client, id) in clients.iter().zip(&ids) {
        assert_eq!(client.psql("SELECT tenant_id FROM items"), Ok(id.clone()), "nothing was changed");
    }
}

#[tokio::test]
async fn in_a_pool_a_role_owns_nothing_makes_nothing_and_cannot_lift_what_holds_it() {
    let Some(cluster) = cluster().await else { return };
    let app = TestApp::with(&cluster.settings("nothing")).await;
    let (own, other) = (app.tenant("Initech", "standard").await, app.tenant("Umbrella", "free").await);
    let (client, victim) = (Client::of(&app.admin().await, &own).await, Client::of(&app.admin().await, &other).await);
    victim.psql(&format!("INSERT INTO items (tenant_id, key, value) VALUES ('{other}', 'k', 'x')")).unwrap();
    for sql in [
        "ALTER TABLE items DISABLE ROW LEVEL SECURITY".to_owned(),
        "ALTER TABLE items NO FORCE ROW LEVEL SECURITY".to_owned(),
        "DROP POLICY tollgate_tenant ON items".to_owned(),
        "CREATE POLICY mine ON items USING (true)".to_owned(),
        "CREATE OR REPLACE FUNCTION tollgate.tenant() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'".to_owned(),
        "SET row_security = off; SELECT count(*) FROM items".to_owned(),
        "TRUNCATE items".to_owned(),
        "CREATE TABLE mine (a int)".to_owned(),
        "CREATE TEMP TABLE mine (a int)".to_owned(),
        "CREATE SCHEMA mine".to_owned(),
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'".to_owned(),
        format!("INSERT INTO items (tenant_id, key, value) VALUES ('{other}', 'forged', 'x')"),
        format!("INSERT INTO items (tenant_id, key, value) VALUES ('{other}', 'k', 'x') ON CONFLICT DO NOTHING"),
    ] {
        let refused = client.psql(&sql).expect_err(&sql);
        assert!(refused.contains("ERROR"), "{sql}: {refused}");
    }
    // The group that it is in may read rows; whose is said by who logged in.
    let as_group = format!("SET ROLE {}; SET app.tenant = '{other}'; SELECT count(*) FROM items", client.database);
    assert_eq!(client.psql(&as_group), Ok("0".to_owned()));
    let possessions = "SELECT count(*) FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
        WHERE d.deptype = 'o' AND r.rolname LIKE 'nothing\\_p\\_%'";
    assert_eq!(cluster.look("postgres", &possessions.replace("count(*)", "count(*)::text")).await, ["0"]);
    // Nor does whoever owns the tables see past it: it says whose rows it means.
    let owner = cluster.provisioner.replace("/postgres", &format!("/{}", client.database));
    let mut owner = super::postgres::connect(&owner).await;
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM items").fetch_one(&mut owner).await.unwrap();
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn an_application_of_the_pool_names_its_tenant_for_each_transaction() {
    let Some(cluster) = cluster().await else { return };
    let app = TestApp::with(&cluster.settings("shared")).await;
    let admin = app.admin().await;
    let mut ids = Vec::new();
    for name in ["Initech", "Umbrella"] {
        let id = app.tenant(name, "standard").await;
        let client = Client::of(&admin, &id).await;
        client.psql(&format!("INSERT INTO items (tenant_id, key, value) VALUES ('{id}', '{name}', 'x')")).unwrap();
        ids.push(id);
    }
    cluster
        .run("postgres", "CREATE ROLE shared_app LOGIN PASSWORD 'app'; GRANT shared_pool_default TO shared_app")
        .await;
    let url = cluster
        .provisioner
        .replace("provisioner:provision", "shared_app:app")
        .replace("/postgres", "/shared_pool_default");
    let pooled = Client { url, user: "shared_app".into(), database: "shared_pool_default".into() };
    assert_eq!(pooled.psql("SELECT count(*) FROM items"), Ok("0".to_owned()), "nobody was named");
    for (id, name) in ids.iter().zip(["Initech", "Umbrella"]) {
        let sql = format!("BEGIN; SET LOCAL app.tenant = '{id}'; SELECT key FROM items");
        assert_eq!(pooled.psql(&sql), Ok(name.to_owned()));
        let sql = format!("BEGIN; SET LOCAL app.tenant = '{id}'; COMMIT; SELECT count(*) FROM items");
        assert_eq!(pooled.psql(&sql), Ok("0".to_owned()), "it was for the transaction");
    }
    cluster.run("postgres", "DROP ROLE shared_app").await;
}

#[tokio::test]
async fn credentials_are_shown_once_and_rotated_ones_are_the_only_ones_that_open() {
    let Some(cluster) = cluster().await else { return };
    let Tenants { app, ids, clients } = Box::pin(tenants_once(cluster)).await;
    let admin = app.admin().await;
    for (id, before) in ids.iter().zip(&clients) {
        let path = format!("/admin/v1/tenants/{id}/infrastructure");
        let place = admin.get(&path).await.expect(200);
        assert_eq!((place.text("/credentials"), place.text("/driver")), ("read".into(), "postgres".into()));
        assert!(!place.body.to_string().contains("password"), "{}", place.body);
        admin.post(&format!("{path}/credentials"), Value::Null).await.refuses(409, &[]);
        let after = admin.post(&format!("{path}/credentials/rotate"), Value::Null).await.expect(200);
        let after = Client::from(&after.body["credentials"]);
        assert_eq!(after.psql("SELECT 1"), Ok("1".to_owned()));
        let refused = before.psql("SELECT 1").unwrap_err();
        assert!(refused.contains("password authentication failed"), "{refused}");
        admin.post(&format!("{path}/credentials"), Value::Null).await.refuses(409, &[]);
        assert_eq!(
            admin.post(&format!("{path}/verify"), Value::Null).await.expect(200).body,
            json!({"state": "present"})
        );
    }
    for (action, times) in [("infrastructure.credentials_read", 2), ("infrastructure.credentials_rotated", 2)] {
        let noted = admin.get(&format!("/admin/v1/audit?action={action}")).await.expect(200).body;
        assert_eq!(noted["items"].as_array().unwrap().len(), times, "{action}");
    }
    // Nothing of them is in the clear in the store.
    let store = std::fs::read(app.folder.path().join("tollgate.db")).unwrap();
    let logged = std::fs::read(app.folder.path().join("tollgate.db-wal")).unwrap_or_default();
    for client in &clients {
        let password = client.url.split(':').nth(2).unwrap().split('@').next().unwrap().as_bytes();
        assert!(![&store, &logged].iter().any(|bytes| bytes.windows(password.len()).any(|part| part == password)));
    }
    // A tenant's own people have no part in it, nor is a tenant that is none.
    let owner = app.owner_of("Acme").await;
    owner
        .post(&format!("/admin/v1/tenants/{}/infrastructure/credentials", ids[0]), Value::Null)
        .await
        .refuses(403, &[]);
    let unknown = "/admin/v1/tenants/01900000-0000-7000-8000-000000000000/infrastructure/credentials";
    admin.post(unknown, Value::Null).await.refuses(404, &[]);
    admin.post(&format!("{unknown}/rotate"), Value::Null).await.refuses(404, &[]);
}

async fn tenants_once(cluster: &Cluster) -> Tenants {
    let app = TestApp::with(&cluster.settings("once")).await;
    let (mut ids, mut clients) = (Vec::new(), Vec::new());
    for (name, tier) in [("Acme", "premium"), ("Initech", "standard")] {
        let id = app.tenant(name, tier).await;
        clients.push(Client::of(&app.admin().await, &id).await);
        ids.push(id);
    }
    Tenants { app, ids, clients }
}

#[tokio::test]
async fn of_many_who_rotate_at_once_one_has_the_password_that_opens() {
    let Some(cluster) = cluster().await else { return };
    let app = TestApp::with(&cluster.settings("turns")).await;
    let id = app.tenant("Initech", "standard").await;
    let admin = app.admin().await;
    let request = || {
        axum::http::Request::post(format!("/admin/v1/tenants/{id}/infrastructure/credentials/rotate"))
            .header("authorization", format!("Bearer {}", admin.token))
            .body(axum::body::Body::empty())
            .unwrap()
    };
    let replies = app.send_together((0..6).map(|_| request()).collect()).await;
    let (shown, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert!(refused.iter().all(|reply| reply.status == 409));
    let opens =
        |reply: &&&crate::support::app::Reply| Client::from(&reply.body["credentials"]).psql("SELECT 1").is_ok();
    assert_eq!(shown.iter().filter(opens).count(), 1);
}

#[tokio::test]
async fn of_two_who_ask_for_credentials_at_once_one_sees_them() {
    let Some(cluster) = cluster().await else { return };
    let app = TestApp::with(&cluster.settings("race")).await;
    let id = app.tenant("Initech", "standard").await;
    let admin = app.admin().await;
    let request = || {
        axum::http::Request::post(format!("/admin/v1/tenants/{id}/infrastructure/credentials"))
            .header("authorization", format!("Bearer {}", admin.token))
            .body(axum::body::Body::empty())
            .unwrap()
    };
    let replies = app.send_together((0..8).map(|_| request()).collect()).await;
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409]);
}
