//! Webhooks as resources: who may make them, what is refused, what is noted, and that a secret is shown once.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use super::webhook_deliveries::ALLOWED;
use crate::support::{
    actors::{Actor, PASSWORD},
    app::TestApp,
    audit::Audit,
};

const URL: &str = "https://hooks.acme.example/tollgate?token=7";

fn all() -> Value {
    json!({"url": URL, "events": ["*"]})
}

#[tokio::test]
async fn a_webhook_is_made_read_changed_and_deleted_and_each_is_noted() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let mut audit = Audit::of(&app).await;
    audit.actions().await;
    let made = owner.post("/v1/webhooks", all()).await.expect(201).body;
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    let id = made["webhook_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/webhooks/{id}");
    let mut shown = made.clone();
    shown.as_object_mut().unwrap().remove("secret");
    let expected = json!({
        "webhook_id": id, "tenant_id": tenant, "url": URL, "events": ["*"], "format": "standard", "enabled": true,
        "disabled_at": null, "disabled_reason": null, "failing_since": null, "failures": 0, "created_at": "2026-11-10T12:00:00Z",
    });
    assert_eq!(shown, expected);
    assert_eq!(owner.get(&path).await.expect(200).body, expected, "and the secret is not shown again");
    assert_eq!(owner.get("/v1/webhooks").await.expect(200).body["items"], json!([expected]));
    let change = json!({"events": ["user.created", "tenant.suspended", "user.created"], "url": "https://b.example/"});
    let changed = owner.patch(&path, change).await.expect(200).body;
    assert_eq!(changed["events"], json!(["tenant.suspended", "user.created"]));
    assert_eq!(owner.get(&path).await.expect(200).body, changed);
    assert_eq!(owner.patch(&path, json!({})).await.expect(200).body, changed);
    let off = owner.patch(&path, json!({"enabled": false})).await.expect(200).body;
    assert_eq!((&off["enabled"], &off["disabled_reason"]), (&json!(false), &json!("asked")));
    owner.patch(&path, json!({"enabled": true})).await.expect(200);
    owner.post(&format!("{path}/secret"), json!({})).await.expect(201);
    owner.post(&format!("{path}/replay"), json!({})).await.expect(202);
    owner.delete(&path).await.expect(204);
    owner.delete(&path).await.refuses(404, &[]);
    owner.get(&path).await.refuses(404, &[]);
    let entries = audit.entries().await;
    let mut actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    actions.sort_unstable();
    let expected = [
        "webhook.changed",
        "webhook.changed",
        "webhook.changed",
        "webhook.deleted",
        "webhook.made",
        "webhook.replayed",
        "webhook.secret_renewed",
    ];
    assert_eq!(actions, expected);
    for entry in &entries {
        assert_eq!((&entry["subject"], &entry["tenant_id"]), (&json!(id), &json!(tenant)));
        assert!(!entry.to_string().contains("token=7") && !entry.to_string().contains("whsec_"), "{entry}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_named_and_makes_nothing() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let events = |names: Value| json!({"url": URL, "events": names});
    let url = |text: Value| json!({"url": text, "events": ["*"]});
    let many: Vec<&str> = vec!["user.created"; 101];
    for (body, fields) in [
        (json!({}), &["url", "events"][..]),
        (url(json!("")), &["url"]),
        (url(json!("hooks.example")), &["url"]),
        (url(json!("http://hooks.example/")), &["url"]),
        (url(json!("ftp://hooks.example/")), &["url"]),
        (url(json!("https://user:secret@hooks.example/")), &["url"]),
        (url(json!("https://hooks.example/#part")), &["url"]),
        (url(json!(format!("https://hooks.example/{}", "x".repeat(2_000)))), &["url"]),
        (url(json!(7)), &["url"]),
        (url(Value::Null), &["url"]),
        (events(json!([])), &["events"]),
        (events(json!(many)), &["events"]),
        (events(json!("*")), &["events"]),
        (events(json!(["*", "user.created"])), &["events[0]"]),
        (events(json!(["user.created", "tenant.exploded"])), &["events[1]"]),
        (events(json!(["USER.CREATED"])), &["events[0]"]),
        (json!({"url": URL, "events": ["*"], "secret": "whsec_mine"}), &["secret"]),
    ] {
        admin.post("/admin/v1/webhooks", body.clone()).await.refuses(422, fields);
    }
    let refused = admin.post("/admin/v1/webhooks", events(json!(["tenant.exploded"]))).await;
    let told = refused.text("/errors/0/detail");
    assert!(
        told.contains("tenant.exploded") && told.contains("tenant.created") && told.contains("usage.threshold"),
        "{told}"
    );
    assert_eq!(admin.get("/admin/v1/webhooks").await.expect(200).body["items"], json!([]));
    let id = admin.post("/admin/v1/webhooks", all()).await.expect(201).text("/webhook_id");
    let path = format!("/admin/v1/webhooks/{id}");
    for (body, field) in [
        (json!({"url": "http://a.example/"}), "url"),
        (json!({"events": []}), "events"),
        (json!({"events": ["x"]}), "events[0]"),
        (json!({"enabled": "no"}), "enabled"),
        (json!({"tenant_id": null}), "tenant_id"),
    ] {
        admin.patch(&path, body).await.refuses(422, &[field]);
    }
    admin.get(&format!("{path}/attempts?event_id=x")).await.refuses(422, &["event_id"]);
    admin.get(&format!("{path}/attempts?limit=0")).await.refuses(422, &["limit"]);
    assert_eq!(admin.get(&path).await.expect(200).body["events"], json!(["*"]));
}

#[tokio::test]
async fn owners_and_admins_of_a_tenant_may_and_others_may_not() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    for (role, status) in [("admin", 201), ("member", 403)] {
        let email = format!("{role}@acme.example");
        owner.post("/v1/users", json!({"email": email, "role": role, "password": PASSWORD})).await.expect(201);
        let who = app.signed_in(&email, PASSWORD).await;
        assert_eq!(who.post("/v1/webhooks", all()).await.status, status, "{role}");
        assert_eq!(who.get("/v1/webhooks").await.status, if status == 201 { 200 } else { 403 }, "{role}");
    }
    let client = owner.post("/v1/clients", json!({"client_name": "robot"})).await.expect(201);
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        client.text("/client_id"),
        client.text("/client_secret")
    );
    let request = Request::post("/oauth2/token").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let token = app.send(request.body(Body::from(form)).unwrap()).await.expect(200).text("/access_token");
    Actor { app: &app, token }.post("/v1/webhooks", all()).await.refuses(403, &[]);
    // The administrator sees everybody's, and one tenant's by its id.
    let admin = app.admin().await;
    admin.post("/admin/v1/webhooks", all()).await.expect(201);
    let count = async |path: &str| admin.get(path).await.expect(200).body["items"].as_array().unwrap().len();
    assert_eq!(count("/admin/v1/webhooks").await, 2);
    let tenant = owner.get("/v1/webhooks").await.text("/items/0/tenant_id");
    assert_eq!(count(&format!("/admin/v1/webhooks?tenant_id={tenant}")).await, 1);
    assert_eq!(owner.get("/v1/webhooks").await.body["items"].as_array().unwrap().len(), 1, "not the platform's");
}

#[tokio::test]
async fn a_webhook_is_made_once_for_one_key_and_there_is_an_end_to_how_many() {
    let app = TestApp::with(ALLOWED).await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let keyed = async |body: &Value| {
        let request = Request::post("/v1/webhooks")
            .header("idempotency-key", "once")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", owner.token));
        app.send(request.body(Body::from(body.to_string())).unwrap()).await
    };
    let first = keyed(&all()).await.expect(201).body;
    assert_eq!(keyed(&all()).await.expect(201).body, first, "the secret, too");
    keyed(&json!({"url": "http://10.0.0.1/", "events": ["*"]})).await.refuses(409, &[]);
    for _ in 1..50 {
        owner.post("/v1/webhooks", json!({"url": "http://10.0.0.1/", "events": ["*"]})).await.expect(201);
    }
    owner.post("/v1/webhooks", all()).await.refuses(409, &[]);
    let first_page = owner.get("/v1/webhooks?limit=30").await.expect(200).body;
    let cursor = first_page["next_cursor"].as_str().unwrap();
    let rest = owner.get(&format!("/v1/webhooks?limit=30&cursor={cursor}")).await.expect(200).body;
    assert_eq!(rest["items"].as_array().unwrap().len(), 20);
    // Others have their own.
    app.tenant("Globex", "standard").await;
    app.owner_of("Globex").await.post("/v1/webhooks", all()).await.expect(201);
    app.admin().await.post("/admin/v1/webhooks", all()).await.expect(201);
}
