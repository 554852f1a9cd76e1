//! Opaque tokens: their issuer is asked, seldom, and believed for a while. And answers that outlast their token.

use std::time::Duration;

use axum::{body::Body, http::Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use tollgate::kernel::Clock as _;
use tower::ServiceExt as _;

use super::foreign::echo;
use crate::support::{
    app::TestApp,
    issuer::{Issuer, Key},
};

async fn scene() -> (Issuer, TestApp) {
    let issuer = Issuer::start(&[]).await;
    let more = format!(
        "on_unknown_tenant = \"create\"\nintrospection_endpoint = \"{}/introspect\"\nintrospection_client_id = \"gate\"\n\
         introspection_client_secret = \"s&cret\"",
        issuer.origin
    );
    let app = TestApp::with(&issuer.settings(&more)).await;
    (issuer, app)
}

fn active(issuer: &Issuer, now: i64) -> Value {
    let mut claims = issuer.claims("org_1", now);
    claims["active"] = true.into();
    claims
}

#[tokio::test]
async fn an_opaque_token_is_asked_about_once_a_minute_and_dies_within_it() {
    let (issuer, app) = scene().await;
    let now = app.clock.now().as_secs();
    issuer.set_active("opaque+token/1", Some(active(&issuer, now)));
    let call = || {
        let request = Request::get("/sample/echo").header("authorization", "Bearer opaque+token/1");
        request.body(Body::empty()).unwrap()
    };
    for reply in app.send_together((0..20).map(|_| call()).collect()).await {
        assert_eq!(reply.expect(200).text("/headers/x-user-id"), "user|1");
    }
    assert_eq!(issuer.asked(), 1);
    app.clock.advance_secs(59);
    echo(&app, "opaque+token/1").await.expect(200);
    assert_eq!(issuer.asked(), 1);
    // Taken back: that is seen when the minute is over, and then for ten seconds nobody is asked.
    issuer.set_active("opaque+token/1", None);
    app.clock.advance_secs(1);
    for _ in 0..5 {
        echo(&app, "opaque+token/1").await.refuses(401, &[]);
    }
    assert_eq!(issuer.asked(), 2);
    app.clock.advance_secs(10);
    echo(&app, "opaque+token/1").await.refuses(401, &[]);
    assert_eq!(issuer.asked(), 3);
}

#[tokio::test]
async fn what_an_introspection_says_is_held_to_what_a_token_must_say() {
    let (issuer, app) = scene().await;
    let now = app.clock.now().as_secs();
    let good = active(&issuer, now);
    for (name, member, value, status) in [
        ("as it is", "x", Value::Null, 200),
        ("not active", "active", json!(false), 401),
        ("active as text", "active", json!("true"), 401),
        ("another issuer's", "iss", json!("https://other.example"), 401),
        ("no issuer", "iss", Value::Null, 200),
        ("another audience", "aud", json!("another"), 401),
        ("no audience", "aud", Value::Null, 401),
        ("expired", "exp", json!(now), 401),
        ("without an end", "exp", Value::Null, 200),
        ("without a tenant", "org", Value::Null, 401),
        ("an ID token's", "token_use", json!("id"), 401),
    ] {
        let mut claims = good.clone();
        claims[member] = value;
        let token = format!("opaque-{}", name.replace(' ', "-"));
        issuer.set_active(&token, Some(claims));
        let reply = echo(&app, &token).await;
        assert_eq!(reply.status, status, "{name}: {}", reply.body);
    }
    // What is no token at all, or one of our own secrets, is nobody else's business.
    let asked = issuer.asked();
    for token in ["tollgate_portal_x", "a b", "a\"b"] {
        echo(&app, token).await.expect(401);
    }
    assert_eq!(issuer.asked(), asked);
    issuer.set_down(true);
    echo(&app, "opaque-unheard-of").await.refuses(503, &[]);
    echo(&app, "opaque-as-it-is").await.expect(200);
}

/// A stream of events, each far apart, after its first event.
async fn stream(app: &TestApp, token: &str) -> Body {
    let request = Request::get("/sample/stream?events=100&interval_ms=10000");
    let request = request.header("authorization", format!("Bearer {token}")).body(Body::empty()).unwrap();
    let response = app.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    body
}

/// The stream's end, which must come before the next event would.
async fn ends(mut body: Body) {
    let end = timeout(Duration::from_secs(6), body.frame()).await.expect("the stream goes on");
    assert!(end.is_none_or(|frame| frame.is_err()));
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let key = Key::es256("one");
    let issuer = Issuer::start(&[&key]).await;
    let app = TestApp::with(&issuer.settings("algorithms = [\"ES256\"]\non_unknown_tenant = \"create\"")).await;
    let mut claims = issuer.claims("org_1", app.clock.now().as_secs());
    claims["exp"] = json!(app.clock.now().as_secs() + 1);
    let body = stream(&app, &key.token(&claims)).await;
    app.clock.advance_secs(1);
    ends(body).await;
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_withdrawn_or_its_key_is_gone() {
    let key = Key::es256("one");
    let issuer = Issuer::start(&[&key]).await;
    let app = TestApp::with(&issuer.settings("algorithms = [\"ES256\"]\non_unknown_tenant = \"create\"")).await;
    let tenant = app.tenant("Acme", "standard").await;
    let (owner, admin) = (app.owner_of("Acme").await, app.admin().await);
    let mut body = stream(&app, &owner.token).await;
    // Armed by whoever waits for the next event.
    let waiting = tokio::select! {
        biased;
        _ = body.frame() => panic!("the next event is far away"),
        () = tokio::task::yield_now() => body,
    };
    let sessions = admin.get(&format!("/admin/v1/sessions?tenant_id={tenant}")).await.expect(200);
    admin.delete(&format!("/admin/v1/sessions/{}", sessions.text("/items/0/session_id"))).await.expect(204);
    ends(waiting).await;

    let body = stream(&app, &key.token(&issuer.claims("org_1", app.clock.now().as_secs()))).await;
    issuer.publish(&[]);
    let admin = app.admin().await;
    let id = admin.get("/admin/v1/issuers").await.expect(200).text("/items/0/issuer_id");
    admin.post(&format!("/admin/v1/issuers/{id}/refresh"), Value::Null).await.expect(200);
    ends(body).await;
}
