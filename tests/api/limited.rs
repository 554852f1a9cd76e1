//! `billing.overdue = "limit"`: who does not pay is held to the limits of a lower tier, through the gateway, until they pay.

use serde_json::{Value, json};

use super::{
    invoices::{at, close, invoices, plan_of},
    upstream::Upstream,
};
use crate::support::{
    app::{Reply, TestApp},
    audit::Audit,
};

const LIMITS: &str = "[billing]\noverdue = \"limit\"\noverdue_tier = \"arrears\"\npayment_terms_days = 10\n";

/// A tenant of `standard` whose first invoice is due on December 11 at one; who is limited may call three times a day.
async fn owing(app: &TestApp) -> (String, Value) {
    let quotas = json!([{"meter": "apis", "limit": "3", "period": "day", "mode": "soft"}]);
    plan_of(app, "arrears", json!({"base": "90.00", "quotas": quotas})).await;
    let tenant = app.tenant("Acme", "standard").await;
    at(app, "2026-12-01T01:00:00Z");
    close(app).await;
    let invoice = invoices(app, &tenant).await.remove(0);
    (tenant, invoice)
}

async fn call(app: &TestApp) -> Reply {
    app.owner_of("Acme").await.get("/sample/hello").await
}

async fn pay(app: &TestApp, invoice: &Value, amount: &str) {
    let path = format!("/admin/v1/invoices/{}/payments", invoice["invoice_id"].as_str().unwrap());
    let payment = json!({"amount": amount, "currency": "USD", "reference": amount});
    app.admin().await.post(&path, payment).await.expect(201);
}

async fn limited(app: TestApp) {
    let (tenant, invoice) = owing(&app).await;
    at(&app, "2026-12-11T00:59:59Z");
    assert_eq!(close(&app).await.limited, 0);
    for _ in 0..3 {
        call(&app).await.expect(200);
    }
    let own = app.owner_of("Acme").await.get("/v1/quota").await.expect(200).body;
    assert_eq!((&own["quotas"][0]["limit"], &own["limited_to"]), (&json!("100000"), &Value::Null));
    at(&app, "2026-12-11T01:00:00Z");
    let mut audit = Audit::of(&app).await;
    let closed = close(&app).await;
    assert_eq!((closed.overdue, closed.limited, closed.suspended), (1, 1, 0));
    assert_eq!(close(&app).await.limited, 0, "once");
    assert_eq!(audit.actions().await.iter().filter(|action| *action == "tenant.limited").count(), 1);
    // The three calls of before count: it is over the limit, which is hard, at once.
    let refused = call(&app).await.refuses(429, &[]);
    assert_eq!(refused.text("/limited_to"), "arrears");
    let owner = app.owner_of("Acme").await;
    let me = owner.get("/v1/me").await.expect(200).body;
    let expected = json!({"because": "overdue", "since": "2026-12-11T01:00:00Z", "limits_of": "arrears"});
    assert_eq!((&me["limited"], &me["tenant"]["status"]), (&expected, &json!("active")));
    let quota = owner.get("/v1/quota").await.expect(200).body;
    let shown = ["limit", "mode", "remaining"].map(|name| quota["quotas"][0][name].as_str().unwrap());
    assert_eq!(
        (shown, &quota["limited_to"], &quota["tier"]),
        (["3", "hard", "0"], &json!("arrears"), &json!("standard"))
    );
    let access =
        app.admin().await.get(&format!("/api/v2/customers/{tenant}/entitlements/apis/value")).await.expect(200);
    assert_eq!(access.body["hasAccess"], json!(false));
    // Another process finds it so, and the next day has three again.
    let app = app.restarted().await;
    call(&app).await.refuses(429, &[]);
    at(&app, "2026-12-12T00:00:00Z");
    for _ in 0..3 {
        call(&app).await.expect(200);
    }
    call(&app).await.refuses(429, &[]);
    // Some of it is not all of it; all of it is, at once.
    pay(&app, &invoice, "29.99").await;
    call(&app).await.refuses(429, &[]);
    pay(&app, &invoice, "0.01").await;
    call(&app).await.expect(200);
    let owner = app.owner_of("Acme").await;
    assert!(owner.get("/v1/me").await.expect(200).body["limited"].is_null());
    assert_eq!(owner.get("/v1/quota").await.expect(200).body["quotas"][0]["limit"], "100000");
    let told = app.admin().await.get(&format!("/admin/v1/events?tenant_id={tenant}&limit=500")).await.expect(200).body;
    let mut told: Vec<(i64, Value, Value)> = told["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["name"].as_str().unwrap().contains("limit"))
        .map(|event| (event["sequence"].as_i64().unwrap(), event["name"].clone(), event["data"].clone()))
        .collect();
    told.sort_by_key(|(sequence, ..)| *sequence);
    let of =
        |place: usize| (told[place].1.as_str().unwrap(), &told[place].2["limits_of"], &told[place].2["invoice_id"]);
    assert_eq!(of(0), ("tenant.limited", &json!("arrears"), &invoice["invoice_id"]));
    assert_eq!((of(1), told.len()), (("tenant.limit_lifted", &json!("arrears"), &Value::Null), 2));
}

#[tokio::test]
async fn who_does_not_pay_is_held_to_a_limit_through_the_gateway_and_a_restart_until_they_pay() {
    Box::pin(limited(TestApp::with(LIMITS).await)).await;
}

#[tokio::test]
async fn who_does_not_pay_is_held_to_a_limit_through_the_gateway_and_a_restart_until_they_pay_on_postgresql() {
    let Some(app) = TestApp::on_postgres_with(LIMITS).await else { return };
    Box::pin(limited(app)).await;
}

#[tokio::test]
async fn an_administrator_lifts_a_limit_once_for_its_invoice_and_a_void_lifts_it_too() {
    let app = TestApp::with(LIMITS).await;
    let (tenant, _) = owing(&app).await;
    at(&app, "2026-12-11T01:00:00Z");
    assert_eq!(close(&app).await.limited, 1);
    let limit = format!("/admin/v1/tenants/{tenant}/limit");
    for _ in 0..2 {
        app.admin().await.delete(&limit).await.expect(204);
    }
    assert_eq!(close(&app).await.limited, 0, "not again for the same invoice");
    for _ in 0..5 {
        call(&app).await.expect(200);
    }
    let noted = app.admin().await.get(&format!("/admin/v1/audit?tenant_id={tenant}&action=tenant.limit_lifted")).await;
    assert_eq!(noted.expect(200).body["items"].as_array().unwrap().len(), 1);
    // The next one limits it again, and both must be settled.
    at(&app, "2027-01-01T01:00:00Z");
    close(&app).await;
    at(&app, "2027-01-11T01:00:00Z");
    assert_eq!(close(&app).await.limited, 1);
    for invoice in invoices(&app, &tenant).await.iter().take(2) {
        let me = app.owner_of("Acme").await.get("/v1/me").await.expect(200).body;
        assert_eq!(me["limited"]["limits_of"], "arrears");
        let path = format!("/admin/v1/invoices/{}/void", invoice["invoice_id"].as_str().unwrap());
        app.admin().await.post(&path, json!({"reason": "waived"})).await.expect(200);
    }
    assert!(app.owner_of("Acme").await.get("/v1/me").await.expect(200).body["limited"].is_null());
    let unknown = "/admin/v1/tenants/01900000-0000-7000-8000-000000000000/limit";
    app.admin().await.delete(unknown).await.refuses(404, &[]);
}

#[tokio::test]
async fn without_a_tier_in_the_settings_it_is_the_one_with_the_lowest_base_and_never_more_than_ones_own() {
    let upstream = Upstream::start().await;
    let settings =
        format!("[billing]\noverdue = \"limit\"\npayment_terms_days = 0\n{}", upstream.settings("[\"apis\"]"));
    let app = TestApp::with(&settings).await;
    let tenant = app.tenant("Acme", "standard").await;
    let own = json!([{"meter": "apis", "limit": "7", "period": "day", "mode": "hard"},
        {"meter": "compute", "limit": "9", "period": "hour", "mode": "soft"}]);
    app.admin().await.put(&format!("/admin/v1/tenants/{tenant}/quotas"), own).await.expect(200);
    at(&app, "2026-12-01T01:00:00Z");
    assert_eq!(close(&app).await.limited, 1);
    let quota = app.owner_of("Acme").await.get("/v1/quota").await.expect(200).body;
    let limits: Vec<_> = quota["quotas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|quota| ["meter", "limit", "mode"].map(|name| quota[name].as_str().unwrap().to_owned()).join(" "))
        .collect();
    assert_eq!(limits, ["apis 7 hard", "compute 9 soft"]);
    assert_eq!((&quota["limited_to"], &quota["rate_limit"]["requests"]), (&json!("free"), &json!(10)));
}

#[tokio::test]
async fn without_a_tier_in_the_settings_it_is_one_in_the_currency_that_the_tenant_owes_in() {
    let app = TestApp::with("[billing]\noverdue = \"limit\"\npayment_terms_days = 0").await;
    for (tier, base) in [("tokyo", "3000"), ("kyoto", "2900")] {
        plan_of(&app, tier, json!({"currency": "JPY", "base": base, "prices": []})).await;
    }
    app.tenant("Acme", "tokyo").await;
    at(&app, "2026-12-01T01:00:00Z");
    assert_eq!(close(&app).await.limited, 1);
    // 2,900 yen are less than 3,000, and no cents.
    let quota = app.owner_of("Acme").await.get("/v1/quota").await.expect(200).body;
    assert_eq!(quota["limited_to"], "kyoto");
}
