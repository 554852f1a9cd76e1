//! Drift: what goes away or stops working behind the server's back is noticed, mended where nothing is lost by it, and said.

use std::{fs, path::PathBuf};

use axum::extract::FromRef as _;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use tollgate::{
    kernel::{Isolation, SystemRng, TenantId},
    provisioning::{Leftover, Place, Reconciler, model::KeptPlace},
    store::{Scope, Store},
    tenants::{Status, Tenant},
};

use super::{
    postgres::{Client, cluster},
    proxy::Proxy,
};
use crate::support::{actors::Actor, app::TestApp};

const JOB: Scope = Scope::Job("test");
/// Tokens live as long as a test, whose clock goes on.
const LASTING: &str = "[identity]\naccess_token_ttl_s = 3600\n";

/// Moves the clock on and takes a step; how many tenants were looked at.
pub async fn step(app: &TestApp, secs: i64) -> usize {
    use tollgate::kernel::Clock as _;
    app.clock.set(app.clock.now().plus_secs(secs));
    Reconciler::from_ref(app.app.state()).step().await.unwrap()
}

/// The kinds of drift of a tenant, in a state.
pub async fn drift(admin: &Actor<'_>, tenant: &str, state: &str) -> Vec<String> {
    let list = admin.get(&format!("/admin/v1/drift?tenant_id={tenant}&state={state}&limit=500")).await.expect(200);
    let kinds = list.body["items"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap().to_owned());
    let mut kinds: Vec<String> = kinds.collect();
    // Of one instant they come in no order.
    kinds.sort();
    kinds
}

/// Why a tenant is unavailable, if it is.
pub async fn unavailable(admin: &Actor<'_>, tenant: &str) -> Option<String> {
    let seen = admin.get(&format!("/admin/v1/tenants/{tenant}")).await.expect(200);
    seen.body["unavailable"]["reason"].as_str().map(str::to_owned)
}

async fn state_of(admin: &Actor<'_>, tenant: &str) -> String {
    let path = format!("/admin/v1/tenants/{tenant}/infrastructure/verify");
    admin.post(&path, Value::Null).await.expect(200).text("/state")
}

/// Names of a tenant's events, in order, and the actions of its audit by the reconciler.
async fn told(admin: &Actor<'_>, tenant: &str) -> (Vec<String>, Vec<String>) {
    let events = admin.get(&format!("/admin/v1/events?tenant_id={tenant}&limit=500")).await.expect(200).body;
    let mut events = events["items"].as_array().unwrap().clone();
    events.sort_by_key(|event| event["sequence"].as_i64());
    let names = events.iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect();
    let entries = admin.get(&format!("/admin/v1/audit?tenant_id={tenant}&limit=500")).await.expect(200).body;
    let entries = entries["items"].as_array().unwrap().iter();
    let ours = entries.filter(|entry| entry["actor"] == "job:reconciler");
    let mut acts: Vec<String> = ours.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
    acts.sort();
    (names, acts)
}

fn silo_file(app: &TestApp, tenant: &str) -> PathBuf {
    app.folder.path().join(format!("infrastructure/silo/{tenant}.db"))
}

async fn put_row(file: &std::path::Path, tenant: &str) {
    let mut db = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    let id: TenantId = tenant.parse().unwrap();
    let sql = "INSERT INTO items (tenant_id, key, value) VALUES ($1, 'note', x'00')";
    sqlx::query(sql).bind(id.as_uuid()).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

fn remove(file: &std::path::Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        drop(fs::remove_file(PathBuf::from(name)));
    }
}

/// The same on the embedded store and, where it is installed, on PostgreSQL.
macro_rules! on_each_engine {
    ($(async fn $name:ident($app:ident: TestApp, $settings:expr) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn run($app: TestApp) $body

            #[tokio::test]
            async fn sqlite() {
                run(TestApp::with($settings).await).await;
            }

            #[tokio::test]
            async fn postgres() {
                if let Some(app) = TestApp::on_postgres_with($settings).await {
                    run(app).await;
                }
            }
        }
    )*};
}

on_each_engine! {
    async fn a_place_without_rows_that_is_gone_is_made_again(app: TestApp, "") {
        let id = app.tenant("Acme", "premium").await;
        let admin = app.admin().await;
        assert_eq!(step(&app, 60).await, 1);
        assert_eq!(drift(&admin, &id, "all").await, [""; 0], "nothing is wrong, and nothing is noted");
        remove(&silo_file(&app, &id));
        assert_eq!(state_of(&admin, &id).await, "absent");
        step(&app, 30).await;
        assert_eq!(state_of(&admin, &id).await, "absent", "it is not time");
        step(&app, 30).await;
        assert_eq!(state_of(&admin, &id).await, "present");
        assert_eq!(drift(&admin, &id, "open").await, [""; 0]);
        assert_eq!(drift(&admin, &id, "repaired").await, ["absent"]);
        assert_eq!(unavailable(&admin, &id).await, None);
        let (_, acts) = told(&admin, &id).await;
        assert_eq!(acts, ["infrastructure.repaired"]);
        // And at once, when somebody asks for it.
        remove(&silo_file(&app, &id));
        let path = format!("/admin/v1/tenants/{id}/reconcile");
        let look = admin.post(&path, Value::Null).await.expect(200).body;
        assert_eq!(look, json!({"tenant_id": id, "open": [], "repaired": ["absent"]}));
        let metrics = app.anon().get("/metrics").await.expect(200).body;
        let metrics = metrics.as_str().unwrap();
        assert!(metrics.contains("tollgate_reconcile_repairs_total 2") && metrics.contains("tollgate_drift_open 0"), "{metrics}");
    }

    async fn rows_that_are_gone_are_said_and_not_covered_up(app: TestApp, LASTING) {
        let id = app.tenant("Acme", "premium").await;
        let (admin, owner) = (app.admin().await, app.owner_of("Acme").await);
        let file = silo_file(&app, &id);
        put_row(&file, &id).await;
        step(&app, 60).await;
        let backup = fs::read(&file).unwrap();
        remove(&file);
        step(&app, 60).await;
        assert_eq!(drift(&admin, &id, "open").await, ["data_lost"]);
        assert_eq!(unavailable(&admin, &id).await, None, "one look is no outage");
        owner.get("/sample/hello").await.expect(200);
        assert_eq!(step(&app, 4).await, 0, "it is not time for another");
        for _ in 0..2 {
            assert_eq!(step(&app, 5).await, 1);
        }
        assert_eq!(unavailable(&admin, &id).await.as_deref(), Some("its data is not there"));
        let refused = owner.get("/sample/hello").await.refuses(503, &[]);
        assert!(refused.text("/type").ends_with("unavailable"), "{}", refused.body);
        for _ in 0..3 {
            step(&app, 300).await;
        }
        assert!(!file.exists(), "an empty place would look as if all were well");
        // From a backup: all is well by itself.
        fs::write(&file, backup).unwrap();
        step(&app, 300).await;
        assert_eq!(unavailable(&admin, &id).await, None);
        assert_eq!(drift(&admin, &id, "open").await, [""; 0]);
        app.owner_of("Acme").await.get("/sample/hello").await.expect(200);
        let (events, acts) = told(&admin, &id).await;
        assert_eq!(events[events.len() - 2..], ["tenant.unavailable", "tenant.available"]);
        assert_eq!(acts, ["tenant.available", "tenant.unavailable"]);
        // Without one, an administrator has an empty place made, and knows it.
        remove(&file);
        for secs in [300, 5, 5] {
            step(&app, secs).await;
        }
        let repaired = admin.post(&format!("/admin/v1/tenants/{id}/infrastructure/repair"), Value::Null).await.expect(200);
        assert_eq!(repaired.text("/state"), "present");
        step(&app, 300).await;
        assert_eq!((unavailable(&admin, &id).await, drift(&admin, &id, "open").await.len()), (None, 0));
        // It has no rows from then on: whatever happens to it next loses none.
        remove(&file);
        step(&app, 300).await;
        assert_eq!((state_of(&admin, &id).await.as_str(), drift(&admin, &id, "open").await.len()), ("present", 0));
    }

    async fn nothing_is_mended_where_settings_say_so(app: TestApp, "[provisioning]\nrepair = false\n") {
        let id = app.tenant("Acme", "premium").await;
        let (admin, owner) = (app.admin().await, app.owner_of("Acme").await);
        remove(&silo_file(&app, &id));
        for secs in [60, 5, 5] {
            step(&app, secs).await;
        }
        assert_eq!((state_of(&admin, &id).await.as_str(), drift(&admin, &id, "open").await), ("absent", vec!["absent".to_owned()]));
        owner.get("/sample/hello").await.refuses(503, &[]);
        let look = admin.post(&format!("/admin/v1/tenants/{id}/reconcile"), Value::Null).await.expect(200).body;
        assert_eq!((&look["repaired"], &look["open"][0]["looks"]), (&json!([]), &json!(4)));
        admin.post(&format!("/admin/v1/tenants/{id}/infrastructure/repair"), Value::Null).await.expect(200);
        step(&app, 10).await;
        assert_eq!(unavailable(&admin, &id).await, None);
    }

    async fn a_place_of_another_kind_than_the_tiers_is_said_and_not_moved(app: TestApp, "") {
        let id = app.tenant("Acme", "standard").await;
        let admin = app.admin().await;
        let mut plan = admin.get("/admin/v1/plans/standard").await.expect(200).body;
        plan["isolation"] = json!("silo");
        plan["effective"] = json!("now");
        admin.put("/admin/v1/plans/standard", plan).await.expect(200);
        step(&app, 60).await;
        let open = admin.get("/admin/v1/drift").await.expect(200).body;
        let found = &open["items"][0];
        assert_eq!((found["kind"].as_str(), found["tenant_id"].as_str()), (Some("wrong_isolation"), Some(id.as_str())));
        assert_eq!(found["detail"], "it is a pool, and its tier's is a silo");
        assert!(!silo_file(&app, &id).exists());
        assert_eq!(unavailable(&admin, &id).await, None, "it works");
        admin.post(&format!("/admin/v1/tenants/{id}/tier"), json!({"tier": "premium"})).await.expect(200);
        step(&app, 60).await;
        assert_eq!(drift(&admin, &id, "open").await, [""; 0]);
    }

    async fn what_a_tenant_left_and_what_outlived_it_is_taken_down_and_what_is_half_made_is_made(app: TestApp, "") {
        let (stays, goes) = (app.tenant("Acme", "premium").await, app.tenant("Bolt", "standard").await);
        let admin = app.admin().await;
        admin.delete(&format!("/admin/v1/tenants/{goes}")).await.expect(200);
        let files = [("bridge", &stays), ("silo", &goes)].map(|(kind, id)| app.folder.path().join(format!("infrastructure/{kind}/{id}.db")));
        for file in &files {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        let kept = |id: &str, isolation| KeptPlace {
            place: Place::new(id.parse().unwrap(), isolation, String::new()),
            driver: "sqlite".to_owned(),
            made: true,
            sealed: None,
            read_at: None,
        };
        let mut tx = Store::from_ref(app.app.state()).begin(JOB).await.unwrap();
        assert!(tx.place_insert(&kept(&stays, Isolation::Bridge)).await.unwrap());
        tx.leftover_insert(&Leftover::from(&kept(&stays, Isolation::Bridge))).await.unwrap();
        assert!(tx.place_insert(&kept(&goes, Isolation::Silo)).await.unwrap());
        let half = KeptPlace { made: false, ..kept(&stays, Isolation::Silo) };
        assert!(tx.place_update(&half).await.unwrap());
        tx.commit().await.unwrap();
        step(&app, 60).await;
        // Who leaves a place may be on the way just now, and so may who makes one.
        assert_eq!(drift(&admin, &stays, "open").await, ["half_made", "leftover"]);
        assert!(files[0].exists() && !files[1].exists());
        assert_eq!(drift(&admin, &goes, "repaired").await, ["outlived"]);
        for _ in 0..2 {
            step(&app, 5).await;
        }
        assert_eq!(drift(&admin, &stays, "open").await, [""; 0]);
        assert!(!files[0].exists() && silo_file(&app, &stays).exists());
        let infrastructure = admin.get(&format!("/admin/v1/tenants/{stays}/infrastructure")).await.expect(200).body;
        assert_eq!(infrastructure["made"], true);
        assert_eq!(unavailable(&admin, &stays).await, None);
    }

    async fn what_is_asked_for_wrongly_is_refused(app: TestApp, "") {
        let admin = app.admin().await;
        for (query, field) in [("kind=lost", "kind"), ("state=closed", "state"), ("tenant_id=acme", "tenant_id"), ("limit=0", "limit")] {
            admin.get(&format!("/admin/v1/drift?{query}")).await.refuses(422, &[field]);
        }
        let nobody = "01900000-0000-7000-8000-000000000000";
        admin.post(&format!("/admin/v1/tenants/{nobody}/reconcile"), Value::Null).await.expect(404);
        let id = app.tenant("Acme", "standard").await;
        admin.delete(&format!("/admin/v1/tenants/{id}")).await.expect(200);
        let look = admin.post(&format!("/admin/v1/tenants/{id}/reconcile"), Value::Null).await.expect(200).body;
        assert_eq!(look, json!({"tenant_id": id, "open": [], "repaired": []}));
    }
}

/// Tenants made straight in the store: to register as many takes longer than what is tried.
async fn crowd(app: &TestApp, count: usize) {
    use tollgate::kernel::Clock as _;
    let now = app.clock.now();
    let mut tx = Store::from_ref(app.app.state()).begin(JOB).await.unwrap();
    for number in 0..count {
        let tenant = Tenant {
            id: TenantId::generate(now, &SystemRng),
            customer_name: format!("Customer {number}").parse().unwrap(),
            external_id: None,
            tier: "standard".parse().unwrap(),
            status: Status::Active,
            unavailable: None,
            revision: 1,
            created_at: now,
        };
        assert!(tx.tenant_insert(&tenant).await.unwrap());
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn of_two_nodes_one_looks_at_each_tenant_and_what_is_well_costs_no_write() {
    let Some(first) = TestApp::on_postgres_with("[provisioning]\ndriver = \"none\"\n").await else { return };
    crowd(&first, 250).await;
    let second = first.beside().await;
    // Until the first round is over: they have nothing, and are given it.
    while step(&first, 0).await + step(&second, 0).await > 0 {}
    let all = first.admin().await.get("/admin/v1/drift?state=repaired&limit=500").await.expect(200).body;
    let all = all["items"].as_array().unwrap();
    assert_eq!(all.len(), 250);
    assert!(all.iter().all(|item| item["kind"] == "missing"));
    assert_eq!(step(&first, 59).await, 0, "the next round has not begun");
    let mut looked = Vec::new();
    first.clock.set("2026-11-10T12:02:00Z".parse().unwrap());
    for _ in 0..3 {
        let (one, other) = tokio::join!(step(&first, 0), step(&second, 0));
        looked.extend([one, other]);
    }
    assert_eq!(looked.iter().sum::<usize>(), 250, "{looked:?}");
    assert!(looked.iter().all(|number| *number <= 100), "{looked:?}");
    let after = first.admin().await.get("/admin/v1/drift?state=all&limit=500").await.expect(200).body;
    assert_eq!(after["items"].as_array().unwrap().len(), 250, "nothing was noted");
}

#[tokio::test]
async fn a_role_that_is_dropped_comes_back_with_its_rows_and_a_database_that_is_dropped_does_not() {
    let Some(cluster) = cluster().await else { return };
    let app = TestApp::with(&cluster.settings("drift")).await;
    let (pooled, siloed) = (app.tenant("Acme", "standard").await, app.tenant("Bolt", "premium").await);
    let admin = app.admin().await;
    for id in [&pooled, &siloed] {
        let client = Client::of(&admin, id).await;
        client.psql(&format!("INSERT INTO items VALUES ('{id}', 'note', 'x')")).unwrap();
    }
    step(&app, 60).await;
    assert_eq!(admin.get("/admin/v1/drift?state=all").await.expect(200).body["items"], json!([]));
    let role = format!("drift_p_{}", pooled.replace('-', ""));
    let silo = format!("drift_s_{}", siloed.replace('-', ""));
    cluster.run("postgres", &format!("DROP ROLE {role}; ")).await;
    cluster.run("postgres", &format!("DROP DATABASE {silo} WITH (FORCE)")).await;
    step(&app, 60).await;
    // The rows of the pool are still there; who reads them gets another password.
    assert_eq!(drift(&admin, &pooled, "repaired").await, ["absent"]);
    assert_eq!(Client::of(&admin, &pooled).await.psql("SELECT key FROM items").unwrap(), "note");
    // Those of the silo are not, and nothing says otherwise.
    assert_eq!(drift(&admin, &siloed, "open").await, ["data_lost"]);
    for _ in 0..3 {
        step(&app, 5).await;
    }
    assert_eq!(unavailable(&admin, &siloed).await.as_deref(), Some("its data is not there"));
    assert!(!cluster.all_of("drift").await.contains(&format!("database {silo}")));
    // What lets others in is closed.
    cluster.run("drift_pool_default", "ALTER TABLE items NO FORCE ROW LEVEL SECURITY").await;
    cluster.run("postgres", &format!("ALTER ROLE {role} NOLOGIN")).await;
    step(&app, 60).await;
    assert_eq!(drift(&admin, &pooled, "repaired").await, ["absent", "drifted"]);
    assert_eq!(state_of(&admin, &pooled).await, "present");
    assert_eq!(unavailable(&admin, &pooled).await, None);
}

#[tokio::test]
async fn a_server_that_is_down_for_all_is_asked_now_and_then_and_all_are_available_again_when_it_answers() {
    let Some(cluster) = cluster().await else { return };
    let proxy = Proxy::start(&cluster.provisioner);
    let settings = cluster.settings("away").replace(&cluster.provisioner, &proxy.address);
    let app = TestApp::with(&format!("{settings}{LASTING}")).await;
    let mut tenants = Vec::new();
    for number in 0..12 {
        tenants.push(app.tenant(&format!("Customer {number}"), "standard").await);
    }
    let admin = app.admin().await;
    assert_eq!(step(&app, 60).await, 12);
    proxy.refuse(true);
    let before = proxy.asked();
    for secs in [60, 5, 5] {
        assert_eq!(step(&app, secs).await, 12);
    }
    for id in &tenants {
        assert_eq!(unavailable(&admin, id).await.as_deref(), Some("its infrastructure does not answer"));
    }
    let asked = proxy.asked() - before;
    // Eight looks are under way before the first one knows; each asks twice.
    assert!(asked <= 24, "it was asked {asked} times");
    let before = proxy.asked();
    for _ in 0..20 {
        step(&app, 30).await;
    }
    let asked = proxy.asked() - before;
    assert!(asked <= 40, "one look at a time asks, twice: it was asked {asked} times");
    assert_eq!(app.owner_of("Customer 3").await.get("/sample/hello").await.status, 503);
    proxy.refuse(false);
    for _ in 0..4 {
        step(&app, 30).await;
    }
    for id in &tenants {
        assert_eq!(unavailable(&admin, id).await, None);
        let (events, _) = told(&admin, id).await;
        let told = events.iter().filter(|name| name.ends_with("available")).count();
        assert_eq!(told, 2, "once each way: {events:?}");
    }
    app.owner_of("Customer 3").await.get("/sample/hello").await.expect(200);
}
