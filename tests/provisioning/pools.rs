//! Pools have room for so many tenants, and the least filled one gets the next.

use axum::{
    body::Body,
    extract::FromRef as _,
    http::{Request, header},
};
use serde_json::{Value, json};
use tollgate::{kernel::Isolation, provisioning::Provisioning};

use crate::support::{actors::registration, app::TestApp};

const POOLS: &str = "
[[provisioning.pools]]
name = \"north\"
capacity = 2

[[provisioning.pools]]
name = \"south\"
capacity = 4
";

async fn taken(app: &TestApp) -> Vec<(String, i64)> {
    let pools = app.admin().await.get("/admin/v1/infrastructure/pools").await.expect(200).body;
    let one = |pool: &Value| (pool["pool"].as_str().unwrap().to_owned(), pool["taken"].as_i64().unwrap());
    pools["items"].as_array().unwrap().iter().map(one).collect()
}

fn of(north: i64, south: i64) -> Vec<(String, i64)> {
    vec![("north".to_owned(), north), ("south".to_owned(), south)]
}

#[tokio::test]
async fn the_least_filled_pool_is_next_a_full_one_is_not_and_a_place_that_goes_is_free_again() {
    let app = TestApp::with(POOLS).await;
    let provisioning = Provisioning::from_ref(app.app.state());
    let admin = app.admin().await;
    let mut ids = Vec::new();
    for (number, expected) in [(1, of(1, 0)), (2, of(1, 1)), (3, of(1, 2)), (4, of(2, 2)), (5, of(2, 3)), (6, of(2, 4))]
    {
        provisioning.preflight(Isolation::Pool).await.unwrap();
        ids.push(app.tenant(&format!("Tenant {number}"), "standard").await);
        assert_eq!(taken(&app).await, expected, "{number}");
    }
    let refused = provisioning.preflight(Isolation::Pool).await.unwrap_err();
    assert_eq!(refused.to_string(), "no pool of the sqlite driver has room for another tenant");
    // A place of one's own is in no pool.
    provisioning.preflight(Isolation::Silo).await.unwrap();
    app.tenant("Siloed", "premium").await;
    assert_eq!(taken(&app).await, of(2, 4));
    let failed = admin.post("/admin/v1/registrations", registration("Tenant 7", "standard")).await;
    assert!(failed.body.to_string().contains("has room for another tenant"), "{}", failed.body);
    let place = admin.get(&format!("/admin/v1/tenants/{}/infrastructure", ids[0])).await.expect(200);
    assert_eq!(place.text("/pool"), "north");
    assert!(place.text("/location").starts_with("pools/north.db#"), "{}", place.body);
    admin.delete(&format!("/admin/v1/tenants/{}", ids[0])).await.expect(200);
    assert_eq!(taken(&app).await, of(1, 4));
    provisioning.preflight(Isolation::Pool).await.unwrap();
}

#[tokio::test]
async fn twenty_who_come_at_once_never_overfill_a_pool() {
    let Some(app) = TestApp::on_postgres_with(POOLS).await else { return };
    let token = app.admin().await.token;
    let request = |number: u32| {
        Request::post("/admin/v1/registrations")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(
                json!({"email": format!("a@t{number}.example"), "customer_name": format!("T {number}"),
                    "billing_address": "1 Main Street", "tier": "standard"})
                .to_string(),
            ))
            .unwrap()
    };
    let replies = app.send_together((0..20).map(request).collect()).await;
    let active = replies.iter().filter(|reply| reply.body["status"] == "active").count();
    assert_eq!((active, taken(&app).await), (6, of(2, 4)));
}

#[tokio::test]
async fn what_is_gone_is_found_missing_and_made_again() {
    let app = TestApp::new().await;
    let id = app.tenant("Acme", "premium").await;
    let path = format!("/admin/v1/tenants/{id}/infrastructure");
    let admin = app.admin().await;
    let state = async || admin.post(&format!("{path}/verify"), Value::Null).await.expect(200).text("/state");
    assert_eq!(state().await, "present");
    std::fs::remove_file(app.folder.path().join(format!("infrastructure/silo/{id}.db"))).unwrap();
    assert_eq!(state().await, "absent");
    assert_eq!(admin.post(&format!("{path}/repair"), Value::Null).await.expect(200).text("/state"), "present");
    assert_eq!(state().await, "present");
}

#[tokio::test]
async fn a_plan_may_ask_for_a_bridge() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let plan = json!({"isolation": "bridge", "currency": "USD", "base": "0.00", "effective": "now"});
    admin.put("/admin/v1/plans/bridged", plan).await.expect(200);
    let id = app.tenant("Acme", "bridged").await;
    let path = format!("/admin/v1/tenants/{id}");
    let place = admin.get(&format!("{path}/infrastructure")).await.expect(200);
    assert_eq!((place.text("/isolation"), place.text("/location")), ("bridge".into(), format!("bridge/{id}.db")));
    for tier in ["premium", "bridged", "free", "bridged"] {
        admin.post(&format!("{path}/tier"), json!({"tier": tier})).await.expect(200);
    }
    assert!(app.folder.path().join(format!("infrastructure/bridge/{id}.db")).exists());
    let silos = std::fs::read_dir(app.folder.path().join("infrastructure/silo")).unwrap();
    assert_eq!(silos.count(), 0, "what was left was taken down");
    let wrong = json!({"isolation": "moat", "currency": "USD", "base": "0.00"});
    admin.put("/admin/v1/plans/odd", wrong).await.expect(422);
}
