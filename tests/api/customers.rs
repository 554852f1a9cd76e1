//! What customers may use, in OpenMeter's shapes: features of the plan, and meters up to their quotas.

use serde_json::{Value, json};

use crate::support::{actors::Actor, app::TestApp};

/// A plan of a tier that has everything this file looks at.
async fn plan(admin: &Actor<'_>, tier: &str, features: Value, quotas: Value) {
    let plan = json!({"isolation": "pool", "currency": "USD", "base": "0.00", "features": features, "quotas": quotas,
        "effective": "now"});
    admin.put(&format!("/admin/v1/plans/{tier}"), plan).await.expect(200);
}

fn quota(meter: &str, limit: &str, period: &str, mode: &str) -> Value {
    json!({"meter": meter, "limit": limit, "period": period, "mode": mode})
}

async fn send(admin: &Actor<'_>, subject: &str, id: &str, tokens: &str, time: &str) {
    let event = json!({"specversion": "1.0", "id": id, "source": "test", "type": "prompt", "subject": subject,
        "time": time, "data": {"tokens": tokens}});
    admin.post("/api/v1/events", event).await.expect(204);
}

async fn tokens_meter(admin: &Actor<'_>) {
    let body = json!({"slug": "tokens", "eventType": "prompt", "aggregation": "SUM", "valueProperty": "$.tokens"});
    admin.post("/api/v1/meters", body).await.expect(201);
}

#[tokio::test]
async fn access_is_the_plans_features_and_quotas() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    tokens_meter(&admin).await;
    let quotas = json!([quota("tokens", "10.5", "day", "hard"), quota("compute", "1000", "month", "soft")]);
    plan(&admin, "standard", json!(["reports"]), quotas).await;
    let acme = app.tenant("Acme", "standard").await;
    send(&admin, &acme, "1", "4.25", "2026-11-10T11:00:00Z").await;
    // Yesterday's is of another period.
    send(&admin, &acme, "2", "100", "2026-11-09T23:59:00Z").await;
    let access = admin.get(&format!("/api/v1/customers/{acme}/access")).await.expect(200);
    assert_eq!(
        access.body.to_string(),
        concat!(
            r#"{"entitlements":{"compute":{"hasAccess":true,"balance":1000,"usage":0,"overage":0,"#,
            r#""totalAvailableGrantAmount":1000},"reports":{"hasAccess":true},"#,
            r#""tokens":{"hasAccess":true,"balance":6.25,"usage":4.25,"overage":0,"totalAvailableGrantAmount":10.5}}}"#
        )
    );
    app.clock.advance_secs(1_800);
    let admin = app.admin().await;
    send(&admin, &acme, "3", "10", "2026-11-10T12:20:00Z").await;
    let value = admin.get(&format!("/api/v2/customers/{acme}/entitlements/tokens/value")).await.expect(200);
    let spent = json!({"hasAccess": false, "balance": 0, "usage": 14.25, "overage": 3.75,
        "totalAvailableGrantAmount": 10.5});
    assert_eq!(value.body.to_string(), spent.to_string());
    let before = format!("/api/v2/customers/{acme}/entitlements/tokens/value?time=2026-11-10T12:15:00Z");
    assert_eq!(admin.get(&before).await.expect(200).text("/usage"), "4.25");
    let first = admin.get(&format!("/api/v1/customers/{acme}/entitlements/tokens/value")).await.expect(200);
    assert_eq!(first.body, value.body, "the first version of their API says the same");
}

#[tokio::test]
async fn what_the_gateway_counts_is_in_the_balance_at_once() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    plan(&admin, "standard", json!([]), json!([quota("apis", "2", "day", "hard")])).await;
    let acme = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let balance = async || {
        let value = admin.get(&format!("/api/v2/customers/{acme}/entitlements/apis/value")).await.expect(200);
        (value.text("/hasAccess"), value.text("/balance"))
    };
    assert_eq!(balance().await, ("true".into(), "2".into()));
    owner.get("/sample/hello").await.expect(200);
    assert_eq!(balance().await, ("true".into(), "1".into()));
    owner.get("/sample/hello").await.expect(200);
    assert_eq!(balance().await, ("false".into(), "0".into()));
    owner.get("/sample/hello").await.expect(429);
    // Quotas of the tenant's own take the place of the plan's.
    let own = json!([quota("apis", "5", "day", "hard")]);
    admin.put(&format!("/admin/v1/tenants/{acme}/quotas"), own).await.expect(200);
    assert_eq!(balance().await, ("true".into(), "3".into()));
}

#[tokio::test]
async fn features_of_other_tiers_are_refused_and_unknown_ones_are_not_there() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    plan(&admin, "premium", json!(["reports", "exports"]), json!([quota("memory", "1", "day", "hard")])).await;
    let acme = app.tenant("Acme", "free").await;
    let value =
        async |feature: &str| admin.get(&format!("/api/v2/customers/{acme}/entitlements/{feature}/value")).await;
    assert_eq!(value("exports").await.expect(200).body, json!({"hasAccess": false}));
    assert_eq!(value("memory").await.expect(200).body, json!({"hasAccess": true}), "without a limit here");
    value("teleporter").await.refuses(404, &[]);
    let at = format!("/api/v2/customers/{acme}/entitlements/exports/value?time=yesterday");
    admin.get(&at).await.refuses(400, &["time"]);
    for time in ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9998-12-31T23:59:59Z", "2027-01-01T00:00:00Z"] {
        let at = format!("/api/v2/customers/{acme}/entitlements/apis/value?time={time}");
        assert_eq!(admin.get(&at).await.expect(200).text("/usage"), "0", "{time}");
    }
    // The tier decides, from the change on.
    admin.post(&format!("/admin/v1/tenants/{acme}/tier"), json!({"tier": "premium"})).await.expect(200);
    assert_eq!(value("exports").await.expect(200).body, json!({"hasAccess": true}));
    app.clock.advance_secs(60);
    let before = format!("/api/v2/customers/{acme}/entitlements/exports/value?time=2026-11-10T11:59:59Z");
    assert_eq!(app.admin().await.get(&before).await.expect(200).body, json!({"hasAccess": false}));
}

#[tokio::test]
async fn a_customer_is_a_tenant_and_sees_itself_alone() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    admin.patch(&format!("/admin/v1/tenants/{acme}"), json!({"external_id": "acme-inc"})).await.expect(200);
    app.tenant("Bolt", "standard").await;
    let (owner, stranger) = (app.owner_of("Acme").await, app.owner_of("Bolt").await);
    for name in [acme.as_str(), "acme-inc"] {
        for path in [
            format!("/api/v1/customers/{name}/access"),
            format!("/api/v2/customers/{name}/entitlements/reports/value"),
            format!("/api/v1/customers/{name}/entitlements/reports/value"),
        ] {
            admin.get(&path).await.expect(200);
            owner.get(&path).await.expect(200);
            stranger.get(&path).await.refuses(404, &[]);
            app.anon().get(&path).await.refuses(401, &[]);
        }
    }
    admin.get("/api/v1/customers/nobody/access").await.refuses(404, &[]);
}

#[tokio::test]
async fn whoever_is_suspended_has_access_to_nothing_and_whoever_is_gone_is_nobody() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    admin.post(&format!("/admin/v1/tenants/{acme}/suspend"), Value::Null).await.expect(200);
    let access = admin.get(&format!("/api/v1/customers/{acme}/access")).await.expect(200);
    let entitlements = access.body["entitlements"].as_object().unwrap();
    assert!(entitlements.contains_key("reports") && entitlements.contains_key("apis"));
    assert!(entitlements.values().all(|own| own["hasAccess"] == false), "{}", access.body);
    admin.delete(&format!("/admin/v1/tenants/{acme}")).await.expect(200);
    admin.get(&format!("/api/v1/customers/{acme}/access")).await.refuses(404, &[]);
}
