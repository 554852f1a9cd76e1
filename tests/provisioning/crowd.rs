//! Many tenants come and go: afterwards nothing of theirs is left. `TOLLGATE_TEST_TENANTS=1000` for a thousand.

use axum::http::Method;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::postgres::{Client, cluster};
use crate::support::{actors::Actor, app::TestApp};

/// At a time.
const AT_ONCE: usize = 8;

fn how_many() -> usize {
    #[expect(clippy::disallowed_methods, reason = "tests read their own switch")]
    let asked = std::env::var("TOLLGATE_TEST_TENANTS");
    asked.ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

async fn come_and_go(admin: &Actor<'_>, number: usize) {
    let tier = ["standard", "premium", "bridged", "free"][number % 4];
    let body = json!({
        "email": format!("owner@crowd-{number}.example"), "customer_name": format!("Crowd {number}"),
        "billing_address": "1 Main Street", "tier": tier,
    });
    let registration = admin.post("/admin/v1/registrations", body).await;
    assert!([201, 202].contains(&registration.status.as_u16()), "{}", registration.body);
    let (id, path) =
        (registration.text("/tenant_id"), format!("/admin/v1/registrations/{}", registration.text("/registration_id")));
    while admin.get(&path).await.expect(200).text("/status") == "running" {}
    assert_eq!(admin.get(&path).await.expect(200).text("/status"), "active");
    let client = Client::of(admin, &id).await;
    let insert = format!("INSERT INTO items (tenant_id, key, value) VALUES ('{id}', 'a', 'b')");
    let mut own = super::postgres::connect(&client.url).await;
    sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&mut own).await.unwrap();
    let gone = admin.app.call(Method::DELETE, &format!("/admin/v1/tenants/{id}"), &admin.token, Value::Null).await;
    assert!(gone.status.is_success(), "{number}: {}", gone.body);
    admin.get(&format!("/admin/v1/tenants/{id}/infrastructure")).await.expect(404);
}

#[tokio::test]
async fn of_tenants_that_came_and_went_no_database_role_row_or_file_is_left() {
    let Some(cluster) = cluster().await else { return };
    let app = TestApp::with(&cluster.settings("crowd")).await;
    let admin = app.admin().await;
    let bridged = json!({"isolation": "bridge", "currency": "USD", "base": "0.00", "effective": "now"});
    admin.put("/admin/v1/plans/bridged", bridged).await.expect(200);
    let all = |path: &str| {
        let path = app.folder.path().join(path);
        std::fs::read_dir(path).map_or_else(|_| Vec::new(), |found| found.map(|one| one.unwrap().file_name()).collect())
    };
    let count = how_many();
    let done: Vec<()> =
        stream::iter(0..count).map(|number| come_and_go(&admin, number)).buffer_unordered(AT_ONCE).collect().await;
    assert_eq!(done.len(), count);
    assert_eq!(cluster.all_of("crowd").await, ["database crowd_pool_default", "role crowd_pool_default"]);
    assert_eq!(cluster.look("crowd_pool_default", "SELECT count(*)::text FROM items").await, ["0"]);
    let granted = "SELECT count(*)::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE g.rolname LIKE 'crowd%'";
    assert_eq!(cluster.look("postgres", granted).await, ["0"]);
    let sessions =
        "SELECT count(*)::text FROM pg_stat_activity WHERE usename LIKE 'crowd%' OR datname LIKE 'crowd\\_%\\_%\\_%'";
    assert_eq!(cluster.look("postgres", sessions).await, ["0"]);
    let pools = admin.get("/admin/v1/infrastructure/pools").await.expect(200);
    let empty = json!({"items": [{"pool": "default", "driver": "postgres", "capacity": null, "taken": 0}]});
    assert_eq!(pools.body, empty);
    let files: Vec<std::ffi::OsString> = all("infrastructure");
    assert!(files.is_empty(), "{files:?}");
    let url = format!("sqlite://{}", app.folder.path().join("tollgate.db").display());
    let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
    let mut store = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for table in ["infrastructure", "infrastructure_places", "infrastructure_leftovers", "provisioning_requests"] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let rows: i64 = sqlx::query_scalar(sql).fetch_one(&mut store).await.unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}
