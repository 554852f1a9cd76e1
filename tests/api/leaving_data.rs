//! What is left of tenants that leave: their export while it is kept, and nothing about people once that was erased.

use std::{path::Path, process::Command};

use axum::{
    body::Body,
    http::{HeaderMap, Request, header},
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _, SqliteConnection};
use tollgate::{
    identity::verify_document,
    verification::{Against, verify_invoice},
};

use super::{
    events,
    invoices::{at, close, invoices},
    leaving::{delete, onboarding},
    ledger::record_units,
};
use crate::support::{
    actors::{Actor, PASSWORD, email_of},
    app::TestApp,
    archive::Archive,
    audit::Audit,
};

/// The export of a tenant, and the head of the answer.
async fn export(admin: &Actor<'_>, tenant: &str) -> (HeaderMap, Vec<u8>) {
    let request = Request::get(format!("/admin/v1/tenants/{tenant}/export"))
        .header(header::AUTHORIZATION, format!("Bearer {}", admin.token));
    let request = request.body(Body::empty()).unwrap();
    let answer = tower::ServiceExt::oneshot(admin.app.router.clone(), request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let (head, body) = answer.into_parts();
    (head.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

/// Whether Python and `unzip`, where they are found, read an archive as well.
fn others_read(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export.zip");
    std::fs::write(&file, bytes).unwrap();
    let program =
        "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; print(len(z.namelist()))";
    for (name, arguments) in [("python3", vec!["-c", program]), ("unzip", vec!["-tq"])] {
        match Command::new(name).args(arguments).arg(&file).output() {
            Ok(output) => assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}

const SECOND: &str = "ann@people.example";

/// A tenant with people, usage, an invoice, a webhook and secrets, and beside it another one.
async fn lived(app: &TestApp) -> (String, String, Vec<String>) {
    let tenant = app.tenant("Acme", "premium").await;
    let other = app.tenant("Globex", "standard").await;
    let owner = app.owner_of("Acme").await;
    owner.post("/v1/users", json!({"email": SECOND, "role": "member", "password": PASSWORD})).await.expect(201);
    owner.patch("/v1/me", json!({"name": "Adalovelace Byron"})).await.expect(200);
    let client = owner.post("/v1/clients", json!({"client_name": "robot"})).await.expect(201);
    let hook = json!({"url": "https://hooks.example/in?token=sesame", "events": ["*"]});
    let hook = owner.post("/v1/webhooks", hook).await.expect(201);
    record_units(app, &tenant, &[("apis", 40)]);
    record_units(app, &other, &[("apis", 77)]);
    at(app, "2026-12-01T01:00:00Z");
    close(app).await;
    let secrets = [client.text("/client_secret"), hook.text("/secret"), "sesame".into(), owner.token];
    (tenant, other, secrets.to_vec())
}

#[tokio::test]
async fn an_export_has_all_of_a_tenant_and_nothing_that_lets_anybody_in_or_is_anothers() {
    let app = TestApp::with("[webhooks]\nallow_private = true\n").await;
    let (tenant, other, secrets) = lived(&app).await;
    let admin = app.admin().await;
    let mut audit = Audit::of(&app).await;
    let (head, bytes) = export(&admin, &tenant).await;
    assert_eq!(head[header::CONTENT_TYPE], "application/zip");
    assert_eq!(head[header::CONTENT_DISPOSITION], format!("attachment; filename=\"tenant-{tenant}.zip\""));
    assert_eq!(audit.actions().await, ["tenant.exported"]);
    others_read(&bytes);
    let archive = Archive::read(&bytes);
    let number = invoices(&app, &tenant).await[0]["number"].as_str().unwrap().to_owned();
    let invoice = format!("invoices/{number}.json");
    let mut names = vec![
        "audit.json",
        "events.json",
        "infrastructure.json",
        "invoices.json",
        &invoice,
        "manifest.json",
        "tenant.json",
        "usage.json",
        "users.json",
        "webhooks.json",
    ];
    names.sort_unstable();
    assert_eq!(archive.names(), names);
    assert_eq!(archive.json("tenant.json")["customer_name"], "Acme");
    let users = archive.json("users.json");
    let mut emails: Vec<&str> = users.as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap()).collect();
    emails.sort_unstable();
    assert_eq!(emails, [SECOND, &email_of("Acme")]);
    let day = json!({"meter": "apis", "day": "2026-11-10", "group": {"route": "sample"}, "records": 1, "total": "40",
        "low": "40", "high": "40"});
    let usage = archive.json("usage.json");
    let apis: Vec<&Value> = usage.as_array().unwrap().iter().filter(|day| day["meter"] == "apis").collect();
    assert_eq!((apis.len(), &apis[0]["total"], &apis[0]["day"]), (1, &day["total"], &day["day"]));
    assert_eq!(archive.json("webhooks.json")[0]["url"], "https://hooks.example/in");
    let place = &archive.json("infrastructure.json")[0];
    assert_eq!((&place["isolation"], &place["driver"]), (&json!("silo"), &json!("sqlite")));
    let checked = verify_invoice(&archive.0[&invoice], Against::default());
    assert_eq!(checked.refusal, None, "{:?}", checked.lines);

    for secret in secrets.iter().map(String::as_str).chain(["$argon2", PASSWORD, "password_hash", "secret_hash"]) {
        assert!(!archive.has(secret), "{secret}");
    }
    for theirs in [&other, "Globex", "globex"] {
        assert!(!archive.has(theirs), "{theirs}");
    }
    // The kept one has the last invoice as well, and is the same after the tenant is gone.
    delete(&admin, &tenant).await.expect(200);
    let (_, first) = export(&app.admin().await, &tenant).await;
    assert_eq!(export(&app.admin().await, &tenant).await.1, first);
    let archive = Archive::read(&first);
    assert_eq!(archive.json("invoices.json").as_array().unwrap().len(), 2);
    assert_eq!(archive.json("tenant.json")["status"], "offboarding");
    assert_eq!(archive.json("users.json"), users);
    for name in archive.names().into_iter().filter(|name| name.starts_with("invoices/")) {
        assert_eq!(verify_invoice(&archive.0[name], Against::default()).refusal, None, "{name}");
    }
    for secret in &secrets {
        assert!(!archive.has(secret), "{secret}");
    }
}

#[tokio::test]
async fn an_export_is_kept_for_its_time_and_no_longer() {
    let app = TestApp::with("[offboarding]\nexport_retention_days = 2\n").await;
    let tenant = app.tenant("Acme", "standard").await;
    let path = format!("/admin/v1/tenants/{tenant}/export");
    delete(&app.admin().await, &tenant).await.expect(200);
    let (_, bytes) = export(&app.admin().await, &tenant).await;
    assert_eq!(Archive::read(&bytes).json("tenant.json")["tenant_id"], json!(tenant));
    at(&app, "2026-11-12T11:59:59Z");
    assert_eq!(onboarding(&app).forget_exports().await.unwrap(), 0);
    export(&app.admin().await, &tenant).await;
    at(&app, "2026-11-12T12:00:00Z");
    assert_eq!(onboarding(&app).forget_exports().await.unwrap(), 1);
    let gone = app.admin().await.get(&path).await.refuses(410, &[]);
    assert_eq!(gone.text("/type"), "/docs/problems#gone");
    assert!(gone.text("/detail").contains("was kept until 2026-11-12T12:00:00Z"), "{}", gone.body);
    assert_eq!(onboarding(&app).forget_exports().await.unwrap(), 0);
}

#[tokio::test]
async fn no_export_is_kept_where_the_settings_say_so_and_none_of_nobody() {
    let app = TestApp::with("[offboarding]\nexport_retention_days = 0\n").await;
    let tenant = app.tenant("Acme", "standard").await;
    export(&app.admin().await, &tenant).await;
    let admin = app.admin().await;
    delete(&admin, &tenant).await.expect(200);
    admin.get(&format!("/admin/v1/tenants/{tenant}/export")).await.refuses(410, &[]);
    let nobody = "01900000-0000-7000-8000-000000000000";
    for what in ["export", "offboarding", "erasure"] {
        admin.get(&format!("/admin/v1/tenants/{nobody}/{what}")).await.refuses(404, &[]);
    }
    for what in ["erase", "offboarding/retry"] {
        admin.post(&format!("/admin/v1/tenants/{nobody}/{what}"), Value::Null).await.refuses(404, &[]);
    }
}

#[tokio::test]
async fn an_export_of_many_events_and_groups_has_each_once() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    events::meter(&app.admin().await, "tokens", "SUM").await;
    let owner = app.owner_of("Acme").await;
    // More than two pages of rows.
    for batch in 0..5_u32 {
        let all = (0..500).map(|place| {
            let id = format!("{}", batch * 500 + place);
            let mut event = events::event(&id, &tenant, 2);
            event["data"]["model"] = json!(format!("model-{id}"));
            event
        });
        events::post(&owner, Value::Array(all.collect())).await.expect(204);
    }
    let (_, bytes) = export(&app.admin().await, &tenant).await;
    let archive = Archive::read(&bytes);
    let usage = archive.json("usage.json");
    let tokens: Vec<&Value> = usage.as_array().unwrap().iter().filter(|day| day["meter"] == "tokens").collect();
    let groups: std::collections::BTreeSet<&str> =
        tokens.iter().filter_map(|day| day["group"]["model"].as_str()).collect();
    assert_eq!((tokens.len(), groups.len()), (2_500, 2_500));
    assert!(tokens.iter().all(|day| day["total"] == "2"));
    assert_eq!(archive.json("events.json"), json!([{"type": "prompt", "events": 2_500, "voided": 0}]));
    assert!(bytes.len() < 200_000, "{}: it is packed", bytes.len());
}

/// Files below a folder that have a text in them.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if std::fs::read(&path)
            .unwrap()
            .windows(text.len())
            .any(|part| part.eq_ignore_ascii_case(text.as_bytes()))
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// A tenant that left, with all kinds of traces of its people, and what of them must not be found any more. One of them is
/// in another tenant, too.
async fn left_with_traces(app: &TestApp) -> (String, [&'static str; 4]) {
    let tenant = app.tenant("Acme", "premium").await;
    let (owner, admin) = (app.owner_of("Acme").await, app.admin().await);
    owner.patch("/v1/me", json!({"name": "Adalovelace Byron"})).await.expect(200);
    owner.post("/v1/users", json!({"email": SECOND, "role": "member", "password": PASSWORD})).await.expect(201);
    app.tenant("Globex", "standard").await;
    let both = json!({"email": SECOND, "role": "member", "allow_membership": true});
    let globex = admin.get("/admin/v1/tenants?customer_name=Globex").await.expect(200).text("/items/0/tenant_id");
    admin.post(&format!("/admin/v1/tenants/{globex}/users"), both).await.expect(201);
    owner.post("/v1/invitations", json!({"email": "carl@invited.example"})).await.expect(201);
    owner.post("/v1/clients", json!({"client_name": "Adalovelace robot"})).await.expect(201);
    record_units(app, &tenant, &[("apis", 40)]);
    delete(&app.admin().await, &tenant).await.expect(200);
    (tenant, ["owner@acme.example", "Adalovelace", "carl@invited.example", "$argon2id-of-nobody"])
}

async fn is_certified(app: &TestApp, tenant: &str) -> Value {
    let (admin, path) = (app.admin().await, format!("/admin/v1/tenants/{tenant}"));
    let mut audit = Audit::of(app).await;
    admin.get(&format!("{path}/erasure")).await.refuses(404, &[]);
    let erased = admin.post(&format!("{path}/erase"), Value::Null).await.expect(200).body;
    assert_eq!(audit.actions().await, ["tenant.erased"]);
    let (certificate, signature) = (&erased["certificate"], &erased["signature"]);
    let jws = signature["jws"].as_str().unwrap();
    let signed = verify_document(jws, &signature["jwk"], "tollgate-erasure+jws").unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&signed).unwrap(), *certificate);
    let keys = app.anon().get("/.well-known/jwks.json").await.expect(200).body;
    assert!(keys["keys"].as_array().unwrap().iter().any(|key| key["kid"] == signature["thumbprint"]), "{keys}");
    assert_eq!((&certificate["tenant_id"], &certificate["format"]), (&json!(tenant), &json!("tollgate-erasure/1")));
    assert!(certificate["asked_by"].as_str().unwrap().starts_with("admin:"));
    for kind in ["people", "sessions", "registrations", "letters", "outbox", "audit_entries", "kept_exports", "clients"]
    {
        assert!(certificate["erased"][kind].as_u64().is_some_and(|rows| rows > 0), "{kind}: {certificate:#}");
    }
    assert!(certificate["kept"].as_array().unwrap().iter().any(|kept| kept["what"] == "invoices"));
    // Asked twice, it is the same.
    app.clock.advance_secs(60);
    assert_eq!(admin.post(&format!("{path}/erase"), Value::Null).await.expect(200).body, erased);
    assert_eq!(admin.get(&format!("{path}/erasure")).await.expect(200).body, erased);
    admin.get(&format!("{path}/export")).await.refuses(410, &[]);
    // Who is elsewhere, too, stays there, and so does what tax law asks for.
    app.signed_in(SECOND, PASSWORD).await.get("/v1/me").await.expect(200);
    let invoice = invoices(app, tenant).await.pop().unwrap();
    assert_eq!(invoice["customer"]["billing_address"], "1 Main Street");
    let tombstone = admin.get(&path).await.expect(200);
    assert_eq!((tombstone.text("/status"), tombstone.text("/customer_name")), ("deleted".into(), "erased".into()));
    erased
}

#[tokio::test]
async fn what_is_about_people_is_in_no_file_after_an_erasure() {
    let app = TestApp::with("[identity]\nverify_email = false\n").await;
    let living = app.tenant("Initech", "standard").await;
    let refused = app.admin().await.post(&format!("/admin/v1/tenants/{living}/erase"), Value::Null).await;
    refused.refuses(409, &[]);
    let file = app.folder.path().join("tollgate.db");
    let address = format!("sqlite:{}", file.display());
    let (tenant, mut traces) = left_with_traces(&app).await;
    let mut store = SqliteConnection::connect(&address).await.unwrap();
    assert_ne!(files_with(app.folder.path(), traces[0]), [""; 0], "it can be found");
    let hash: Option<String> =
        sqlx::query_scalar("SELECT intent FROM registrations LIMIT 1").fetch_one(&mut store).await.unwrap();
    assert_eq!(hash, None, "a registration that has ended keeps no hash");
    traces[3] = "Acme";
    is_certified(&app, &tenant).await;
    // As docs/offboarding.md has it.
    for statement in ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        sqlx::query(statement).execute(&mut store).await.unwrap();
    }
    for trace in &traces[..3] {
        let letters = |path: &String| !path.contains("/mail/");
        let found: Vec<_> = files_with(app.folder.path(), trace).into_iter().filter(letters).collect();
        assert_eq!(found, [""; 0], "{trace}");
    }
    // The customer's name is on its invoices alone.
    let rows = sqlx::query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'");
    for row in rows.fetch_all(&mut store).await.unwrap() {
        let table: String = row.get(0);
        let rows =
            sqlx::query(sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(&mut store).await.unwrap();
        let has = rows.iter().any(|row| {
            (0..row.len()).any(|place| row.try_get::<String, _>(place).is_ok_and(|text| text.contains(traces[3])))
        });
        assert!(!has || ["invoices", "invoice_evidence"].contains(&table.as_str()), "{table}");
    }
    let doctor = app.admin().await.get("/admin/v1/audit/export").await.expect(200);
    assert!(doctor.body.as_str().unwrap().contains("tenant.erased"));
}

#[tokio::test]
async fn what_is_about_people_is_in_no_row_after_an_erasure_on_postgres() {
    let Some(app) = TestApp::on_postgres().await else { return };
    let (tenant, traces) = left_with_traces(&app).await;
    is_certified(&app, &tenant).await;
    let mut store = PgConnection::connect(app.database().unwrap()).await.unwrap();
    let tables = sqlx::query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'");
    for row in tables.fetch_all(&mut store).await.unwrap() {
        let table: String = row.get(0);
        for trace in &traces[..3] {
            let sql = format!("SELECT COUNT(*) FROM {table} t WHERE t::text ILIKE $1");
            let query = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).bind(format!("%{trace}%"));
            assert_eq!(query.fetch_one(&mut store).await.unwrap(), 0, "{table} has {trace}");
        }
    }
}
