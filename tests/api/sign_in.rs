//! Signing in, refreshing, and ending sign-ins.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use super::oauth::{refuses, token};
use crate::support::{
    actors::{Actor, PASSWORD, email_of, registration},
    app::{Reply, TestApp},
};

async fn login(app: &TestApp, email: &str, password: &str) -> Reply {
    app.anon().post("/v1/login", json!({"email": email, "password": password})).await
}

async fn login_to(app: &TestApp, email: &str, tenant: &str) -> Reply {
    app.anon().post("/v1/login", json!({"email": email, "password": PASSWORD, "tenant_id": tenant})).await
}

async fn refresh(app: &TestApp, refresh_token: &str) -> Reply {
    token(app, &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
}

fn bearer<'a>(app: &'a TestApp, reply: &Reply) -> Actor<'a> {
    Actor { app, token: reply.text("/access_token") }
}

/// Suspends, activates, … a tenant.
async fn tell(app: &TestApp, tenant: &str, verb: &str) {
    app.admin().await.post(&format!("/admin/v1/tenants/{tenant}/{verb}"), Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_sign_in_names_its_tenant_and_what_it_may() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let reply = login(&app, "OWNER@Acme.example", PASSWORD).await.expect(200);
    assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
    let names: Vec<&String> = reply.body.as_object().unwrap().keys().collect();
    assert_eq!(names, ["access_token", "token_type", "expires_in", "refresh_token", "scope", "tenant_id"]);
    assert_eq!((reply.text("/token_type"), reply.text("/expires_in")), ("Bearer".into(), "600".into()));
    assert_eq!(
        (reply.text("/tenant_id"), reply.text("/scope")),
        (tenant, "usage:read usage:write offline_access".into())
    );

    let users = "/v1/users";
    let member = json!({"email": "member@acme.example", "role": "member", "password": PASSWORD});
    bearer(&app, &reply).post(users, member).await.expect(201);
    let member = login(&app, "member@acme.example", PASSWORD).await.expect(200);
    assert_eq!(member.text("/scope"), "usage:read offline_access");
    bearer(&app, &member).get(users).await.refuses(403, &[]);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_email_are_one_answer() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let other = app.tenant("Other", "standard").await;
    let wrong = login(&app, &email_of("Acme"), "not-the-password").await.refuses(401, &[]);
    let unknown = login(&app, "nobody@acme.example", PASSWORD).await.refuses(401, &[]);
    let foreign = login_to(&app, &email_of("Acme"), &other).await.refuses(401, &[]);
    assert_eq!((&wrong.body, &wrong.headers), (&unknown.body, &unknown.headers));
    assert_eq!((&wrong.body, &wrong.headers), (&foreign.body, &foreign.headers));
    assert!(wrong.headers.contains_key(header::WWW_AUTHENTICATE), "RFC 9110 section 15.5.2");
}

#[tokio::test]
async fn a_user_of_several_tenants_chooses_one_after_the_password_was_right() {
    let app = TestApp::new().await;
    let first = app.tenant("Acme", "standard").await;
    let mut second = registration("Globex", "free");
    second["email"] = email_of("Acme").into();
    second["allow_membership"] = true.into();
    app.clock.advance_secs(1);
    let admin = app.admin().await;
    let second = admin.post("/admin/v1/registrations", second).await.expect(201).text("/tenant_id");

    let wrong = login(&app, &email_of("Acme"), "not-the-password").await.refuses(401, &[]);
    assert!(wrong.body.get("tenants").is_none());
    let choice = login(&app, &email_of("Acme"), PASSWORD).await.refuses(409, &[]);
    let expected =
        json!([{"tenant_id": first, "customer_name": "Acme"}, {"tenant_id": second, "customer_name": "Globex"}]);
    assert_eq!(choice.body["tenants"], expected);
    for tenant in [&first, &second] {
        let reply = login_to(&app, &email_of("Acme"), tenant).await.expect(200);
        assert_eq!(bearer(&app, &reply).get("/sample/hello").await.expect(200).text("/tenant_id"), *tenant);
        assert_eq!(refresh(&app, &reply.text("/refresh_token")).await.expect(200).text("/tenant_id"), *tenant);
    }
    // A tenant that cannot be entered is no choice.
    tell(&app, &first, "suspend").await;
    assert_eq!(login(&app, &email_of("Acme"), PASSWORD).await.expect(200).text("/tenant_id"), second);
    login_to(&app, &email_of("Acme"), &first).await.refuses(403, &[]);
}

#[tokio::test]
async fn a_suspended_tenant_cannot_sign_in_or_refresh_a_token() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let before = login(&app, &email_of("Acme"), PASSWORD).await.expect(200);
    tell(&app, &tenant, "suspend").await;
    let refused = login(&app, &email_of("Acme"), PASSWORD).await.refuses(403, &[]);
    assert_eq!(refused.text("/type"), "/docs/problems#tenant-not-active");
    login(&app, &email_of("Acme"), "not-the-password").await.refuses(401, &[]);
    refuses(&refresh(&app, &before.text("/refresh_token")).await, 400, "invalid_grant");
    tell(&app, &tenant, "activate").await;
    refresh(&app, &before.text("/refresh_token")).await.expect(200);
    login(&app, &email_of("Acme"), PASSWORD).await.expect(200);
}

#[tokio::test]
async fn a_disabled_user_is_out_at_once() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let admin = app.admin().await;
    let users = format!("/admin/v1/tenants/{tenant}/users");
    let body = json!({"email": "ann@acme.example", "role": "admin", "password": PASSWORD});
    let user = admin.post(&users, body).await.expect(201).text("/user_id");
    let ann = login(&app, "ann@acme.example", PASSWORD).await.expect(200);
    bearer(&app, &ann).get("/sample/hello").await.expect(200);

    admin.post(&format!("{users}/{user}/disable"), Value::Null).await.expect(200);
    bearer(&app, &ann).get("/sample/hello").await.refuses(401, &[]);
    refuses(&refresh(&app, &ann.text("/refresh_token")).await, 400, "invalid_grant");
    login(&app, "ann@acme.example", PASSWORD).await.refuses(403, &[]);
    login(&app, "ann@acme.example", "not-the-password").await.refuses(401, &[]);

    admin.post(&format!("{users}/{user}/enable"), Value::Null).await.expect(200);
    app.clock.advance_secs(1);
    let back = login(&app, "ann@acme.example", PASSWORD).await.expect(200);
    bearer(&app, &back).get("/sample/hello").await.expect(200);
    bearer(&app, &ann).get("/sample/hello").await.refuses(401, &[]);
}

#[tokio::test]
async fn a_user_who_was_taken_out_is_out_at_once() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let body = json!({"email": "ann@acme.example", "password": PASSWORD});
    let user = owner.post("/v1/users", body).await.expect(201).text("/user_id");
    let ann = login(&app, "ann@acme.example", PASSWORD).await.expect(200);
    owner.delete(&format!("/v1/users/{user}")).await.expect(204);
    bearer(&app, &ann).get("/sample/hello").await.refuses(401, &[]);
    refuses(&refresh(&app, &ann.text("/refresh_token")).await, 400, "invalid_grant");
    login(&app, "ann@acme.example", PASSWORD).await.refuses(401, &[]);
}

#[tokio::test]
async fn the_users_of_a_deleted_tenant_are_nobody() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let before = login(&app, &email_of("Acme"), PASSWORD).await.expect(200);
    let unknown = login(&app, "nobody@acme.example", PASSWORD).await;
    app.admin().await.delete(&format!("/admin/v1/tenants/{tenant}")).await.expect(200);
    let deleted = login(&app, &email_of("Acme"), PASSWORD).await.refuses(401, &[]);
    assert_eq!(deleted.body, unknown.body);
    login_to(&app, &email_of("Acme"), &tenant).await.refuses(401, &[]);
    bearer(&app, &before).get("/sample/hello").await.refuses(401, &[]);
    bearer(&app, &before).get("/v1/usage").await.refuses(401, &[]);
    refuses(&refresh(&app, &before.text("/refresh_token")).await, 400, "invalid_grant");
}

#[tokio::test]
async fn a_faulty_sign_in_says_which_field_and_why() {
    let app = TestApp::new().await;
    let anon = app.anon();
    let cases = [
        (json!({}), &["email", "password"][..]),
        (json!({"email": "no-at-sign", "password": "x"}), &["email"]),
        (json!({"email": "a@b.example", "password": "x", "tenant_id": "7"}), &["tenant_id"]),
        (json!({"email": "a@b.example", "password": "x", "passwort": "x"}), &["passwort"]),
        (json!({"email": 7, "password": "x"}), &["email"]),
    ];
    for (body, fields) in cases {
        anon.post("/v1/login", body).await.refuses(422, fields);
    }
    anon.get("/v1/login").await.refuses(405, &[]);
    let raw = |content_type, body: String| {
        let request = Request::post("/v1/login").header(header::CONTENT_TYPE, content_type);
        app.send(request.body(Body::from(body)).unwrap())
    };
    raw("application/json", "{\"email\":".into()).await.refuses(400, &[]);
    raw("text/plain", "{}".into()).await.refuses(415, &[]);
    raw("application/json", format!("\"{}\"", "x".repeat(1024 * 1024))).await.refuses(413, &[]);
}

#[tokio::test]
async fn an_access_token_lives_to_the_second() {
    let app = TestApp::with("[identity]\naccess_token_ttl_s = 60").await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    app.clock.advance_secs(59);
    owner.get("/sample/hello").await.expect(200);
    app.clock.advance_secs(1);
    let dead = owner.get("/sample/hello").await.refuses(401, &[]);
    assert!(dead.headers[header::WWW_AUTHENTICATE].to_str().unwrap().contains("expired"));
    owner.get("/v1/usage").await.refuses(401, &[]);
}

#[tokio::test]
async fn a_refresh_token_works_once() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let first = login(&app, &email_of("Acme"), PASSWORD).await.expect(200);
    let second = refresh(&app, &first.text("/refresh_token")).await.expect(200);
    assert_ne!(first.text("/refresh_token"), second.text("/refresh_token"));
    assert_eq!(second.headers[header::CACHE_CONTROL], "no-store");
    bearer(&app, &second).get("/sample/hello").await.expect(200);

    // Ten seconds later it is still two requests of one client that crossed.
    app.clock.advance_secs(10);
    let raced = refresh(&app, &first.text("/refresh_token")).await.expect(200);
    bearer(&app, &raced).get("/sample/hello").await.expect(200);
    // A second more, and somebody else has it: the family ends, its access tokens with it.
    app.clock.advance_secs(1);
    refuses(&refresh(&app, &first.text("/refresh_token")).await, 400, "invalid_grant");
    for reply in [&second, &raced] {
        refuses(&refresh(&app, &reply.text("/refresh_token")).await, 400, "invalid_grant");
        bearer(&app, reply).get("/sample/hello").await.refuses(401, &[]);
    }
    app.clock.advance_secs(1);
    login(&app, &email_of("Acme"), PASSWORD).await.expect(200);
}

#[tokio::test]
async fn a_theft_is_remembered_over_a_restart() {
    let app = TestApp::with("[identity]\nrefresh_grace_s = 0").await;
    app.tenant("Acme", "standard").await;
    let first = login(&app, &email_of("Acme"), PASSWORD).await.expect(200);
    refresh(&app, &first.text("/refresh_token")).await.expect(200);
    app.clock.advance_secs(1);
    refuses(&refresh(&app, &first.text("/refresh_token")).await, 400, "invalid_grant");
    let app = app.restarted().await;
    bearer(&app, &first).get("/sample/hello").await.refuses(401, &[]);
}

#[tokio::test]
async fn a_refresh_narrows_scope_and_never_widens_it() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let reply = login(&app, &email_of("Acme"), PASSWORD).await.expect(200);
    let ask = |scope: &'static str, refresh_token: String| {
        let app = &app;
        async move {
            let fields = [("grant_type", "refresh_token"), ("refresh_token", &*refresh_token), ("scope", scope)];
            token(app, &fields).await
        }
    };
    refuses(&ask("tollgate:admin", reply.text("/refresh_token")).await, 400, "invalid_scope");
    let narrow = ask("usage:read", reply.text("/refresh_token")).await.expect(200);
    assert_eq!(narrow.text("/scope"), "usage:read");
    let whole = refresh(&app, &narrow.text("/refresh_token")).await.expect(200);
    assert_eq!(whole.text("/scope"), reply.text("/scope"), "RFC 6749 section 6: the token's own scope is as before");
}

#[tokio::test]
async fn a_refresh_token_expires() {
    let app = TestApp::with("[identity]\nrefresh_token_ttl_s = 3600").await;
    app.tenant("Acme", "standard").await;
    let reply = login(&app, &email_of("Acme"), PASSWORD).await.expect(200);
    app.clock.advance_secs(3_600);
    refuses(&refresh(&app, &reply.text("/refresh_token")).await, 400, "invalid_grant");
}

#[tokio::test]
async fn an_administrator_lists_sign_ins_and_ends_one() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let one = app.owner_of("Acme").await;
    app.clock.advance_secs(1);
    let two = login(&app, &email_of("Acme"), PASSWORD).await.expect(200);
    let admin = app.admin().await;
    let list = format!("/admin/v1/sessions?tenant_id={tenant}");
    let sessions = admin.get(&list).await.expect(200);
    assert_eq!(sessions.body["items"].as_array().unwrap().len(), 2);
    assert_eq!(sessions.text("/items/1/tenant_id"), tenant);

    let id = sessions.text("/items/1/session_id");
    admin.delete(&format!("/admin/v1/sessions/{id}")).await.expect(204);
    bearer(&app, &two).get("/sample/hello").await.refuses(401, &[]);
    refuses(&refresh(&app, &two.text("/refresh_token")).await, 400, "invalid_grant");
    one.get("/sample/hello").await.expect(200);
    assert_eq!(admin.get(&list).await.body["items"].as_array().unwrap().len(), 1);
    admin.delete(&format!("/admin/v1/sessions/{id}")).await.refuses(404, &[]);
    admin.get("/admin/v1/sessions?tenant_id=7").await.refuses(422, &["tenant_id"]);
}

#[tokio::test]
async fn concurrent_refreshes_of_one_token_end_in_one_family() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let reply = login(&app, &email_of("Acme"), PASSWORD).await.expect(200);
    let refresh_token = reply.text("/refresh_token");
    let (a, b) = tokio::join!(refresh(&app, &refresh_token), refresh(&app, &refresh_token));
    assert_ne!(a.expect(200).text("/refresh_token"), b.expect(200).text("/refresh_token"));
    let sessions = app.admin().await.get(&format!("/admin/v1/sessions?tenant_id={tenant}")).await.expect(200);
    assert_eq!(sessions.body["items"].as_array().unwrap().len(), 1);
}
