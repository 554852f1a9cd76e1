//! A change of tier: what it says before and after, who may not change what another changes, and what becomes of one that fails.

use axum::{extract::FromRef as _, http::Method};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tollgate::onboarding::Onboarding;

use super::postgres::{Client, cluster, connect};
use crate::support::{actors::Actor, app::TestApp};

fn onboarding(app: &TestApp) -> Onboarding {
    Onboarding::from_ref(app.app.state())
}

/// Writes rows at a place of the sqlite driver.
async fn put(app: &TestApp, file: &str, tenant: &str, keys: &[&str]) {
    let file = app.folder.path().join("infrastructure").join(file);
    let mut db = SqliteConnectOptions::new().filename(file).foreign_keys(true).connect().await.unwrap();
    for key in keys {
        let put = sqlx::query("INSERT INTO items (tenant_id, key, value) VALUES ($1, $2, x'00')");
        put.bind(tenant.parse::<uuid::Uuid>().unwrap()).bind(*key).execute(&mut db).await.unwrap();
    }
    db.close().await.unwrap();
}

async fn changes(admin: &Actor<'_>, path: &str) -> Vec<Value> {
    let mut page = admin.get(&format!("{path}/tier-changes")).await.expect(200).body;
    let Value::Array(items) = page["items"].take() else { panic!("{page}") };
    items
}

fn names(steps: &Value) -> Vec<(&str, &str)> {
    steps.as_array().unwrap().iter().map(|s| (s["name"].as_str().unwrap(), s["status"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_changes_nothing_and_the_change_does_it() {
    let app = TestApp::new().await;
    let id = app.tenant("Acme", "standard").await;
    let path = format!("/admin/v1/tenants/{id}");
    put(&app, "pool.db", &id, &["a", "b", "c"]).await;
    app.clock.advance_secs(3_600);
    let admin = app.admin().await;
    let before = admin.get(&path).await.body;
    let dry = admin.post(&format!("{path}/tier"), json!({"tier": "premium", "dry_run": true})).await.expect(200);
    let planned: Vec<_> =
        ["reserve", "provision", "copy", "switch", "drain", "release"].map(|name| (name, "planned")).into();
    assert_eq!(names(&dry.body["steps"]), planned);
    assert_eq!(dry.body["rows"], 3);
    assert_eq!(
        (dry.text("/infrastructure/action"), dry.text("/infrastructure/isolation")),
        ("move".into(), "silo".into())
    );
    assert!(dry.body["steps"][1]["does"][0].as_str().unwrap().contains("silo/"), "{}", dry.body);
    let money = &dry.body["money"];
    assert_eq!((money["unchanged"].as_str(), money["currency"].as_str()), (Some("30.00"), Some("USD")));
    assert_eq!(money["switched_at"], "2026-11-10T13:00:00Z");
    let parts = money["parts"].as_array().unwrap();
    assert_eq!((parts[0]["tier"].as_str(), parts[1]["tier"].as_str()), (Some("standard"), Some("premium")));
    assert_eq!((&parts[0]["to"], &parts[1]["from"]), (&money["switched_at"], &money["switched_at"]));
    assert_eq!(admin.get(&path).await.body, before);
    assert!(changes(&admin, &path).await.is_empty());
    assert!(!app.folder.path().join(format!("infrastructure/silo/{id}.db")).exists());

    let moved = admin.post(&format!("{path}/tier"), json!({"tier": "premium"})).await.expect(200);
    assert_eq!((moved.text("/change"), moved.text("/status")), ("done".into(), "active".into()));
    assert_eq!((&moved.body["rows"], &moved.body["money"]), (&json!(3), money));
    let done: Vec<_> = planned.into_iter().map(|(name, _)| (name, "done")).collect();
    assert_eq!(names(&moved.body["steps"]), done);
    let listed = changes(&admin, &path).await;
    assert_eq!((listed.len(), &listed[0]["change_id"]), (1, &moved.body["change_id"]));
    assert_eq!((&listed[0]["rows"], &listed[0]["switched_at"]), (&json!(3), &json!("2026-11-10T13:00:00Z")));
    assert_eq!(admin.get(&format!("{path}/bill")).await.body["total"], money["changed"]);
    // The same once more is no change; and one that moves nothing has one step.
    let again = admin.post(&format!("{path}/tier"), json!({"tier": "premium"})).await.expect(200);
    assert_eq!((again.text("/infrastructure/action"), &again.body["change_id"]), ("keep".into(), &Value::Null));
    admin.post(&format!("{path}/tier"), json!({"tier": "standard"})).await.expect(200);
    let kept = admin.post(&format!("{path}/tier"), json!({"tier": "free"})).await.expect(200);
    assert_eq!(names(&kept.body["steps"]), [("switch", "done")]);
    assert_eq!(kept.text("/infrastructure/action"), "keep");
    admin.get("/admin/v1/tenants/00000000-0000-7000-8000-000000000000/tier-changes").await.refuses(404, &[]);
}

#[tokio::test]
async fn of_changes_at_once_one_is_made_and_the_same_asked_again_is_the_same() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let id = app.tenant("Acme", "standard").await;
    let path = format!("/admin/v1/tenants/{id}");
    let ask = async |tier: &str| admin.post(&format!("{path}/tier"), json!({"tier": tier})).await;
    let points = onboarding(&app).points().changes.clone();
    for halt in ["copy:begun", "release:begun"] {
        assert!(points.halt_at(Some(halt.into())));
        let first = ask("premium");
        let others = async {
            let running = loop {
                let listed = changes(&admin, &path).await;
                if let Some(running) = listed.into_iter().find(|one| one["status"] == "running")
                    && running["steps"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|step| halt.starts_with(step["name"].as_str().unwrap()) && step["status"] == "running")
                {
                    break running;
                }
                tokio::task::yield_now().await;
            };
            let same = ask("premium").await.expect(202);
            assert_eq!(same.body["change_id"], running["change_id"]);
            ask("free").await.refuses(409, &[]);
            let dry = admin.post(&format!("{path}/tier"), json!({"tier": "free", "dry_run": true})).await;
            dry.refuses(409, &[]);
            points.halt_at(None);
            running
        };
        let (first, running) = tokio::join!(first, others);
        assert_eq!(first.expect(200).body["change_id"], running["change_id"]);
        ask("standard").await.expect(200);
    }
    let all = futures_util::future::join_all((0..8).map(|_| ask("premium"))).await;
    let ids: std::collections::BTreeSet<_> =
        all.iter().filter_map(|one| one.body["change_id"].as_str()).map(str::to_owned).collect();
    assert!(
        all.iter().all(|one| one.status == 200 || one.status == 202),
        "{:?}",
        all.iter().map(|one| &one.body).collect::<Vec<_>>()
    );
    assert_eq!(ids.len(), 1);
    assert_eq!(changes(&admin, &path).await.len(), 5);
}

#[tokio::test]
async fn what_somebody_wrote_to_the_old_place_meanwhile_is_kept_until_somebody_has_looked() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let id = app.tenant("Acme", "standard").await;
    let path = format!("/admin/v1/tenants/{id}");
    put(&app, "pool.db", &id, &["a"]).await;
    let points = onboarding(&app).points().changes.clone();
    points.halt_at(Some("release:begun".into()));
    let tier = format!("{path}/tier");
    let change = admin.post(&tier, json!({"tier": "premium"}));
    let stray = async {
        while changes(&admin, &path).await.iter().all(|one| one["steps"][5]["status"] != "running") {
            tokio::task::yield_now().await;
        }
        put(&app, "pool.db", &id, &["stray"]).await;
        points.halt_at(None);
    };
    let (change, ()) = tokio::join!(change, stray);
    let change = change.expect(200);
    assert_eq!(
        (change.text("/change"), change.text("/tier"), change.text("/status")),
        ("kept".into(), "premium".into(), "active".into())
    );
    assert!(change.text("/steps/5/error").contains("2 rows are there, others than the 1"), "{}", change.body);
    // Nobody is put over it.
    admin.post(&format!("{path}/tier"), json!({"tier": "standard"})).await.refuses(409, &[]);
    assert_eq!(admin.get(&path).await.text("/tier"), "premium");
    let release = format!("{path}/tier-changes/{}/release", change.text("/change_id"));
    admin.post(&release, json!({})).await.refuses(409, &[]);
    let released = admin.post(&release, json!({"discard": true})).await.expect(200);
    assert_eq!((released.text("/status"), released.text("/steps/5/status")), ("done".into(), "done".into()));
    admin.post(&release, json!({"discard": true})).await.refuses(409, &[]);
    let noted = admin.get("/admin/v1/audit?action=tenant.place_released").await.expect(200);
    assert_eq!(noted.text("/items/0/action"), "tenant.place_released");
    assert!(noted.text("/items/0/detail").contains("whatever is there"), "{}", noted.body);
    let nobody = format!("{path}/tier-changes/{id}/release");
    admin.post(&nobody, json!({"discard": true})).await.refuses(404, &[]);
    admin.post(&format!("{path}/tier"), json!({"tier": "standard"})).await.expect(200);
}

#[tokio::test]
async fn a_change_whose_driver_is_down_is_taken_back_and_the_tier_kept() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let id = app.tenant("Acme", "standard").await;
    let path = format!("/admin/v1/tenants/{id}");
    put(&app, "pool.db", &id, &["a"]).await;
    // Where silos would be is a file.
    let silos = app.folder.path().join("infrastructure/silo");
    std::fs::write(&silos, "").unwrap();
    admin.post(&format!("{path}/tier"), json!({"tier": "premium"})).await.refuses(503, &[]);
    let tenant = admin.get(&path).await.expect(200);
    assert_eq!((tenant.text("/tier"), tenant.text("/status")), ("standard".into(), "active".into()));
    let listed = changes(&admin, &path).await;
    assert_eq!(listed[0]["status"], "undone");
    assert_eq!(names(&listed[0]["steps"])[..2], [("reserve", "undone"), ("provision", "failed")]);
    assert!(listed[0]["steps"][1]["error"].as_str().unwrap().contains("the sqlite driver failed to make a place"));
    std::fs::remove_file(&silos).unwrap();
    let moved = admin.post(&format!("{path}/tier"), json!({"tier": "premium"})).await.expect(200);
    assert_eq!(moved.body["rows"], 1);
}

#[tokio::test]
async fn a_tenant_that_is_taken_out_while_it_moves_leaves_nothing() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    for (name, halt) in [("Acme", "provision:begun"), ("Globex", "copy:begun"), ("Initech", "drain:begun")] {
        let id = app.tenant(name, "standard").await;
        let path = format!("/admin/v1/tenants/{id}");
        let points = onboarding(&app).points().changes.clone();
        points.halt_at(Some(halt.into()));
        let tier = format!("{path}/tier");
        let change = admin.post(&tier, json!({"tier": "premium"}));
        let step = halt.split(':').next().unwrap();
        let taken_out = async {
            while !changes(&admin, &path).await.iter().any(|one| names(&one["steps"]).contains(&(step, "running"))) {
                tokio::task::yield_now().await;
            }
            admin.delete(&path).await.expect(200);
            points.halt_at(None);
        };
        let (_, ()) = tokio::join!(change, taken_out);
        assert_eq!(admin.get(&path).await.text("/status"), "deleted");
        let silo = app.folder.path().join(format!("infrastructure/silo/{id}.db"));
        assert!(!silo.exists(), "{name}");
        assert_ne!(changes(&admin, &path).await[0]["status"], "running");
        assert_eq!(onboarding(&app).resume_changes().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn rows_that_somebody_writes_to_an_old_place_on_postgres_are_kept_and_its_role_is_locked() {
    let Some(cluster) = cluster().await else { return };
    let app = TestApp::with(&cluster.settings("moved")).await;
    let admin = app.admin().await;
    let id = app.tenant("Acme", "standard").await;
    let path = format!("/admin/v1/tenants/{id}");
    for (tier, back) in [("premium", "standard"), ("standard", "premium")] {
        if tier == "standard" {
            admin.post(&format!("{path}/tier"), json!({"tier": back})).await.expect(200);
        }
        let old = Client::of(&admin, &id).await;
        let points = onboarding(&app).points().changes.clone();
        points.halt_at(Some("release:begun".into()));
        let asked = format!("{path}/tier");
        let change = admin.post(&asked, json!({"tier": tier}));
        let stray = async {
            while changes(&admin, &path).await.iter().all(|one| !names(&one["steps"]).contains(&("release", "running")))
            {
                tokio::task::yield_now().await;
            }
            old.psql(&format!("INSERT INTO items (tenant_id, key, value) VALUES ('{id}', 'stray', 'x')")).unwrap();
            points.halt_at(None);
        };
        let (change, ()) = tokio::join!(change, stray);
        let change = change.expect(200);
        assert_eq!(change.text("/change"), "kept", "{}", change.body);
        assert!(old.psql("SELECT 1").is_err(), "nobody writes there any more");
        let address = format!("{}/{}", cluster.superuser.rsplit_once('/').unwrap().0, old.database);
        let mut db = connect(&address).await;
        let sql = "SELECT count(*) FROM items WHERE key = 'stray'";
        assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut db).await.unwrap(), 1);
        // Taken back by hand, it is as it was carried along.
        sqlx::query("DELETE FROM items").execute(&mut db).await.unwrap();
        db.close().await.unwrap();
        let release = format!("{path}/tier-changes/{}/release", change.text("/change_id"));
        admin.post(&release, json!({})).await.expect(200);
        if tier == "premium" {
            admin.post(&format!("{path}/tier"), json!({"tier": back})).await.expect(200);
        }
    }
    let left = cluster.all_of("moved").await;
    assert_eq!(left.iter().filter(|name| name.contains("_s_")).count(), 0, "{left:?}");
}

#[tokio::test]
async fn bad_requests_are_refused_field_by_field() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let id = app.tenant("Acme", "standard").await;
    let path = format!("/admin/v1/tenants/{id}");
    admin.get(&format!("{path}/tier-changes?limit=0")).await.refuses(422, &["limit"]);
    admin.post(&format!("{path}/tier-changes/{id}/release"), json!({"keep": 1})).await.refuses(422, &["keep"]);
    let nothing = app.call(Method::GET, &format!("{path}/tier-changes"), "", Value::Null).await;
    assert_eq!(nothing.status, 401);
}
