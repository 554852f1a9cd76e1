//! Input that is refused: which field, why, and that nothing has changed.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use crate::support::{
    actors::{PASSWORD, registration},
    app::{Reply, TestApp},
};

/// Everything that a refused call could have changed.
async fn everything(app: &TestApp) -> Vec<Value> {
    let admin = app.admin().await;
    let mut all = Vec::new();
    for path in ["tenants?limit=500", "registrations?limit=500", "plans/free", "clients?limit=500"] {
        all.push(admin.get(&format!("/admin/v1/{path}")).await.expect(200).body);
    }
    all
}

/// A POST with a body and content type as they are.
async fn post_raw(app: &TestApp, token: &str, path: &str, content_type: &str, body: impl Into<Body>) -> Reply {
    let mut request = Request::post(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    if !content_type.is_empty() {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    app.send(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn a_registration_names_every_field_that_is_wrong() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let before = everything(&app).await;
    let long = "x".repeat(10_240);
    let cases: &[(&str, Value)] = &[
        ("tier", "gold".into()),
        ("tier", "".into()),
        ("tier", 3.into()),
        ("customer_name", "".into()),
        ("customer_name", "   ".into()),
        ("customer_name", long.as_str().into()),
        ("customer_name", "nul\u{0}byte".into()),
        ("customer_name", "line\nbreak".into()),
        ("email", "nobody".into()),
        ("email", "a b@c.example".into()),
        ("email", format!("{long}@c.example").into()),
        ("email", Value::Null),
        ("password", "password".into()),
        ("password", "short".into()),
        ("password", "Acme12345".into()),
        ("billing_address", "".into()),
        ("billing_address", long.as_str().into()),
        ("billing_address", 7.into()),
        ("external_id", "".into()),
        ("surprise", 1.into()),
    ];
    for (field, value) in cases {
        let mut body = registration("Acme", "free");
        body[*field] = value.clone();
        let reply = admin.post("/admin/v1/registrations", body).await;
        let shown = value.to_string().chars().take(40).collect::<String>();
        assert_eq!(reply.status.as_u16(), 422, "{field} = {shown}: {}", reply.body);
        let named = reply.text("/errors/0/field");
        assert!(named == *field || named.starts_with(&format!("{field}.")), "{field} = {shown}: {}", reply.body);
    }
    let several = json!({"email": "nobody", "customer_name": "", "tier": "GOLD", "password": PASSWORD});
    let reply = admin.post("/admin/v1/registrations", several).await;
    reply.refuses(422, &["email", "customer_name", "billing_address", "tier"]);
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_by_what_is_wrong_with_them() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let before = everything(&app).await;
    let path = "/admin/v1/registrations";
    let valid = registration("Acme", "free").to_string();
    let post = |content_type: &'static str, body: String| post_raw(&app, &admin.token, path, content_type, body);
    post("application/json", "{".into()).await.refuses(400, &[]);
    post("application/json", String::new()).await.refuses(400, &[]);
    post("application/json", format!("{valid} x")).await.refuses(400, &[]);
    post("text/plain", valid.clone()).await.refuses(415, &[]);
    post("", valid.clone()).await.refuses(415, &[]);
    post("application/json", "x".repeat(1024 * 1024 + 1)).await.refuses(413, &[]);
    let deep = "[".repeat(100_000);
    assert_eq!(post("application/json", deep).await.status.as_u16(), 422);
    assert_eq!(post("application/json", "[]".into()).await.status.as_u16(), 422);
    assert_eq!(everything(&app).await, before);
    post("application/json; charset=utf-8", valid).await.expect(201);
}

#[tokio::test]
async fn every_admin_body_refuses_a_field_it_does_not_know() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let id = app.tenant("Acme", "free").await;
    let tenant = format!("/admin/v1/tenants/{id}");
    let before = everything(&app).await;
    let strange = json!({"surprise": true});
    for path in ["/admin/v1/registrations", "/admin/v1/clients", "/admin/v1/rate"] {
        let reply = admin.post(path, strange.clone()).await;
        assert!(reply.body.to_string().contains("surprise"), "{path}: {}", reply.body);
        assert_eq!(reply.status.as_u16(), 422, "{path}");
    }
    admin.post(&format!("{tenant}/tier"), strange.clone()).await.refuses(422, &["surprise"]);
    admin.post(&format!("{tenant}/users"), strange.clone()).await.refuses(422, &["surprise"]);
    admin.patch(&tenant, strange.clone()).await.refuses(422, &["surprise"]);
    admin.put("/admin/v1/plans/free", strange).await.refuses(422, &["surprise"]);
    assert_eq!(everything(&app).await, before);
}

#[tokio::test]
async fn queries_are_checked_like_bodies() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let usage = format!("/admin/v1/tenants/{}/usage", app.tenant("Acme", "free").await);
    let cases = [
        (format!("{usage}?meter=apis&from=2026-11-02T00:00:00Z&to=2026-11-02T00:00:00Z"), "from"),
        (format!("{usage}?meter=apis&from=2026-11-03T00:00:00Z&to=2026-11-02T00:00:00Z"), "from"),
        (format!("{usage}?meter=apis&from=yesterday"), "from"),
        (format!("{usage}?meter=nope"), "meter"),
        (format!("{usage}?meter=apis&window=week"), "window"),
        (format!("{usage}?meter=apis&surprise=1"), "surprise"),
        ("/admin/v1/tenants?limit=0".into(), "limit"),
        ("/admin/v1/tenants?limit=501".into(), "limit"),
        ("/admin/v1/tenants?limit=many".into(), "limit"),
        ("/admin/v1/tenants?cursor=x".into(), "cursor"),
        ("/admin/v1/tenants?status=asleep".into(), "status"),
    ];
    for (path, field) in cases {
        let reply = admin.get(&path).await;
        assert_eq!(reply.status.as_u16(), 422, "{path}: {}", reply.body);
        assert!(reply.body["errors"].to_string().contains(field), "{path}: {}", reply.body);
    }
}

#[tokio::test]
async fn what_does_not_exist_is_a_problem_document_too() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    admin.get("/admin/v1/tenants/none").await.refuses(404, &[]);
    admin.get("/admin/v1/registrations/0190a0a0-0000-7000-8000-000000000000").await.refuses(404, &[]);
    admin.get("/admin/v1/plans/gold").await.refuses(404, &[]);
    admin.delete("/admin/v1/registrations").await.refuses(405, &[]);
}
