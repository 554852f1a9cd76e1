//! A tenant that changes its tier takes its rows along; what cannot be taken along stays where it is.

use serde_json::json;

use super::postgres::{Client, cluster};
use crate::support::app::TestApp;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS lines (
        tenant_id uuid NOT NULL, line_id bigint GENERATED ALWAYS AS IDENTITY, order_id bigint NOT NULL,
        price numeric NOT NULL, twice numeric GENERATED ALWAYS AS (price * 2) STORED, note text, PRIMARY KEY (line_id)
    );
    CREATE TABLE IF NOT EXISTS orders (
        tenant_id uuid NOT NULL, \"Order\" bigint PRIMARY KEY, made timestamptz, parts text[]
    );
    DO $$ BEGIN
        ALTER TABLE lines ADD CONSTRAINT of_order FOREIGN KEY (order_id) REFERENCES orders;
    EXCEPTION WHEN duplicate_object THEN NULL; END $$;
    CREATE TABLE IF NOT EXISTS countries (code text PRIMARY KEY);";

#[tokio::test]
async fn rows_go_along_from_the_pool_to_a_silo_and_back_and_nobody_elses() {
    let Some(cluster) = cluster().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("schema.sql");
    std::fs::write(&schema, SCHEMA).unwrap();
    let settings = format!("{}schema = \"{}\"\n", cluster.settings("move"), schema.display());
    let app = TestApp::with(&settings).await;
    let admin = app.admin().await;
    let (mover, stayer) = (app.tenant("Mover", "standard").await, app.tenant("Stayer", "standard").await);
    let (first, other) = (Client::of(&admin, &mover).await, Client::of(&admin, &stayer).await);
    let fill = |id: &str, from: u32| {
        format!(
            "INSERT INTO orders VALUES ('{id}', {from}, '2026-01-01', '{{\"a,b\",c}}'), ('{id}', {from} + 1, NULL, NULL);
             INSERT INTO lines (tenant_id, order_id, price, note)
                SELECT '{id}', {from}, n / 3.0, CASE WHEN n % 2 = 0 THEN E'tab\\there\\nand \\\\N' END
                FROM generate_series(1, 1000) n"
        )
    };
    first.psql(&fill(&mover, 1)).unwrap();
    other.psql(&fill(&stayer, 100)).unwrap();
    // Of all that can be written: a row's number, too.
    let sum = "SELECT count(*), md5(string_agg(l::text, '|' ORDER BY line_id)) FROM lines l";
    let (own, others) = (first.psql(sum).unwrap(), other.psql(sum).unwrap());
    assert!(own.starts_with("1000|"), "{own}");
    let path = format!("/admin/v1/tenants/{mover}");
    admin.post(&format!("{path}/tier"), json!({"tier": "premium"})).await.expect(200);
    assert!(first.psql("SELECT 1").is_err(), "the old place is gone");
    let second = Client::of(&admin, &mover).await;
    assert_eq!(second.psql(sum).unwrap(), own);
    assert_eq!(second.psql("SELECT count(*) FROM orders").unwrap(), "2");
    assert_eq!(cluster.look("move_pool_default", "SELECT count(*)::text FROM lines").await, ["1000"]);
    second.psql("UPDATE lines SET note = 'changed' WHERE line_id % 10 = 0").unwrap();
    let own = second.psql(sum).unwrap();
    admin.post(&format!("{path}/tier"), json!({"tier": "standard"})).await.expect(200);
    let third = Client::of(&admin, &mover).await;
    assert_eq!(third.psql(sum).unwrap(), own);
    assert_eq!(other.psql(sum).unwrap(), others);
    let left = cluster.all_of("move").await;
    assert_eq!(left.iter().filter(|name| name.contains("_s_")).count(), 0, "{left:?}");
    // What has no tenant is nobody's.
    assert!(third.psql("SELECT * FROM countries").unwrap_err().contains("permission denied"));
}

#[tokio::test]
async fn rows_that_another_driver_cannot_take_hold_the_tenant_where_it_is() {
    let Some(cluster) = cluster().await else { return };
    let settings =
        cluster.settings("stay").replace("driver = \"postgres\"", "driver = \"postgres\"\nsilo = \"sqlite\"");
    let app = TestApp::with(&settings).await;
    let admin = app.admin().await;
    let id = app.tenant("Acme", "standard").await;
    let client = Client::of(&admin, &id).await;
    client.psql(&format!("INSERT INTO items (tenant_id, key, value) VALUES ('{id}', 'k', 'v')")).unwrap();
    let path = format!("/admin/v1/tenants/{id}");
    let refused = admin.post(&format!("{path}/tier"), json!({"tier": "premium"})).await.expect(409);
    assert!(refused.text("/detail").contains("1 rows with the postgres driver"), "{}", refused.body);
    assert_eq!(client.psql("SELECT key FROM items"), Ok("k".to_owned()));
    assert_eq!(admin.get(&path).await.expect(200).text("/tier"), "standard");
    client.psql("DELETE FROM items").unwrap();
    admin.post(&format!("{path}/tier"), json!({"tier": "premium"})).await.expect(200);
    let place = admin.get(&format!("{path}/infrastructure")).await.expect(200);
    assert_eq!((place.text("/driver"), place.text("/credentials")), ("sqlite".into(), "none".into()));
    admin.post(&format!("{path}/infrastructure/credentials"), json!(null)).await.refuses(409, &[]);
}
