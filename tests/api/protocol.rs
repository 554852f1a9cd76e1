//! What all routes share: idempotency keys, paging, the description of the API.

use axum::{
    body::Body,
    http::{Request, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::support::{
    actors::{Actor, PASSWORD, email_of, registration},
    app::{Reply, TestApp},
};

async fn post_keyed(actor: &Actor<'_>, path: &str, key: &str, body: &Value) -> Reply {
    let mut request =
        Request::post(path).header("idempotency-key", key).header(header::CONTENT_TYPE, "application/json");
    if !actor.token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", actor.token));
    }
    actor.app.send(request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn the_same_key_and_body_get_the_first_answer_again() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let id = app.tenant("Acme", "free").await;
    let body = json!({"tenant_id": id, "client_name": "robot"});
    let first = post_keyed(&admin, "/admin/v1/clients", "k1", &body).await.expect(201);
    let second = post_keyed(&admin, "/admin/v1/clients", "k1", &body).await.expect(201);
    assert_eq!(first.body, second.body, "the secret too");
    let clients = admin.get("/admin/v1/clients").await.expect(200);
    assert_eq!(clients.body["items"].as_array().unwrap().len(), 1);

    let other = json!({"tenant_id": id, "client_name": "another"});
    post_keyed(&admin, "/admin/v1/clients", "k1", &other).await.refuses(409, &[]);
    let third = post_keyed(&admin, "/admin/v1/clients", "k2", &body).await.expect(201);
    assert_ne!(first.text("/client_id"), third.text("/client_id"));
}

#[tokio::test]
async fn a_key_belongs_to_its_caller() {
    let app = TestApp::new().await;
    app.tenant("Acme", "free").await;
    app.tenant("Bolt", "free").await;
    let (acme, bolt) = (app.owner_of("Acme").await, app.owner_of("Bolt").await);
    let body = json!({"client_name": "robot"});
    let one = post_keyed(&acme, "/v1/clients", "k", &body).await.expect(201);
    let two = post_keyed(&bolt, "/v1/clients", "k", &body).await.expect(201);
    assert_ne!(one.text("/client_id"), two.text("/client_id"));
    assert_ne!(one.text("/tenant_id"), two.text("/tenant_id"));
}

#[tokio::test]
async fn a_key_is_no_way_round_a_suspension_or_a_narrower_token() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let id = app.tenant("Acme", "free").await;
    let owner = app.owner_of("Acme").await;
    let body = json!({"client_name": "robot"});
    post_keyed(&owner, "/v1/clients", "k", &body).await.expect(201);
    let login = json!({"email": email_of("Acme"), "password": PASSWORD});
    let refresh = app.anon().post("/v1/login", login).await.expect(200).text("/refresh_token");
    let form = format!("grant_type=refresh_token&refresh_token={refresh}&scope=usage:read");
    let request = Request::post("/oauth2/token").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let narrow = app.send(request.body(Body::from(form)).unwrap()).await.expect(200).text("/access_token");
    let again = post_keyed(&Actor { app: &app, token: narrow }, "/v1/clients", "k", &body).await;
    assert!(!again.headers.contains_key("idempotency-replayed"), "{}", again.body);
    admin.post(&format!("/admin/v1/tenants/{id}/suspend"), Value::Null).await.expect(200);
    post_keyed(&owner, "/v1/clients", "k", &body).await.refuses(403, &[]);
}

#[tokio::test]
async fn a_refusal_is_kept_under_its_key_and_a_bad_key_is_refused() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let body = registration("Acme", "gold");
    let first = post_keyed(&admin, "/admin/v1/registrations", "k", &body).await;
    let second = post_keyed(&admin, "/admin/v1/registrations", "k", &body).await;
    assert_eq!((first.status.as_u16(), first.body), (422, second.body));
    let long = "k".repeat(256);
    for bad in ["", long.as_str()] {
        post_keyed(&admin, "/admin/v1/registrations", bad, &body).await.refuses(422, &["Idempotency-Key"]);
    }
}

#[tokio::test]
async fn concurrent_posts_with_one_key_make_one_thing() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let body = registration("Acme", "free");
    let post = || post_keyed(&admin, "/admin/v1/registrations", "k", &body);
    let replies = tokio::join!(post(), post(), post(), post());
    for reply in [replies.0, replies.1, replies.2, replies.3] {
        assert!([201, 202, 409].contains(&reply.status.as_u16()), "{}", reply.body);
    }
    let registrations = admin.get("/admin/v1/registrations").await.expect(200);
    assert_eq!(registrations.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn sign_up_honours_a_key_without_a_token() {
    let app = TestApp::new().await;
    let body = json!({"email": "a@b.example", "password": PASSWORD, "customer_name": "B", "billing_address": "1 Way"});
    let first = post_keyed(&app.anon(), "/v1/signup", "k", &body).await.expect(201);
    let second = post_keyed(&app.anon(), "/v1/signup", "k", &body).await.expect(201);
    assert_eq!(first.body, second.body);
}

#[tokio::test]
async fn pages_hold_everything_once_and_in_order() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let mut made = Vec::new();
    for number in 0..7 {
        app.clock.advance_secs(1);
        let mut body = registration(&format!("Customer {number}"), "free");
        body.as_object_mut().unwrap().remove("password");
        made.push(admin.post("/admin/v1/registrations", body).await.expect(201).text("/tenant_id"));
    }
    let (mut seen, mut path) = (Vec::new(), "/admin/v1/tenants?limit=3".to_owned());
    for _ in 0..3 {
        let page = admin.get(&path).await.expect(200);
        let items = page.body["items"].as_array().unwrap().clone();
        seen.extend(items.iter().map(|item| item["tenant_id"].as_str().unwrap().to_owned()));
        match page.body["next_cursor"].as_str() {
            Some(cursor) => path = format!("/admin/v1/tenants?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, made);
    assert_eq!(made.len(), 7);
}

#[tokio::test]
async fn tenants_are_found_by_name_tier_and_state() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    app.tenant("Bolt", "free").await;
    admin.post(&format!("/admin/v1/tenants/{acme}/suspend"), Value::Null).await.expect(200);
    for query in ["customer_name=Acme", "tier=standard", "status=suspended", "status=suspended&tier=standard"] {
        let found = admin.get(&format!("/admin/v1/tenants?{query}")).await.expect(200);
        assert_eq!(found.body["items"].as_array().unwrap().len(), 1, "{query}");
        assert_eq!(found.text("/items/0/tenant_id"), acme, "{query}");
    }
    let none = admin.get("/admin/v1/tenants?customer_name=Nobody").await.expect(200);
    assert_eq!(none.body, json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn the_reference_page_fetches_nothing_from_outside() {
    let app = TestApp::new().await;
    let page = app.anon().get("/docs").await.expect(200);
    let html = page.body.as_str().unwrap();
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "//cdn"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("/openapi.json"));
}

#[tokio::test]
async fn the_reference_pages_run_their_own_script_and_nobody_frames_them() {
    let app = TestApp::new().await;
    for (path, scripts) in [("/docs", 1), ("/docs/problems", 0)] {
        let page = app.anon().get(path).await.expect(200);
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"), "{policy}");
        assert_eq!(page.headers["x-frame-options"], "DENY");
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
        let named = policy.split(';').find_map(|part| part.trim().strip_prefix("script-src ")).unwrap();
        let html = page.body.as_str().unwrap();
        let script = html.split("<script>").nth(1).map(|rest| rest.split("</script>").next().unwrap());
        let digest = script.map(|text| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()));
        let hash = digest.map(|digest| format!("'sha256-{}'", STANDARD.encode(digest)));
        assert_eq!((html.matches("<script").count(), named), (scripts, hash.as_deref().unwrap_or("'none'")));
        assert!(!html.contains(" style=") && !html.contains(" onclick="));
    }
}

#[tokio::test]
async fn the_callers_view_says_who_they_are_and_what_is_left() {
    let app = TestApp::new().await;
    let id = app.tenant("Acme", "free").await;
    let owner = app.owner_of("Acme").await;
    let me = owner.get("/v1/me").await.expect(200);
    assert_eq!(me.text("/tenant/tenant_id"), id);
    assert_eq!(me.text("/user/email"), email_of("Acme"));
    let limit = |quota: &Reply, field: &str| quota.text(&format!("/quotas/0/{field}")).parse::<u64>().unwrap();
    let before = owner.get("/v1/quota").await.expect(200);
    owner.get("/sample/hello").await.expect(200);
    let after = owner.get("/v1/quota").await.expect(200);
    assert_eq!((limit(&before, "used"), limit(&after, "used")), (0, 1));
    assert_eq!(limit(&after, "remaining"), limit(&after, "limit") - 1);
    app.anon().get("/v1/quota").await.refuses(401, &[]);
    app.admin().await.get("/v1/me").await.refuses(403, &[]);
}

#[tokio::test]
async fn a_refusal_looks_like_this() {
    let app = TestApp::new().await;
    let reply = app.admin().await.post("/admin/v1/registrations", json!({"tier": "gold"})).await;
    insta::assert_snapshot!(serde_json::to_string_pretty(&reply.body).unwrap(), @r#"
    {
      "type": "/docs/problems#invalid-input",
      "title": "Invalid input",
      "status": 422,
      "detail": "3 fields were refused",
      "instance": "/admin/v1/registrations",
      "errors": [
        {
          "field": "email",
          "detail": "is required"
        },
        {
          "field": "customer_name",
          "detail": "is required"
        },
        {
          "field": "billing_address",
          "detail": "is required"
        }
      ]
    }
    "#);
}
