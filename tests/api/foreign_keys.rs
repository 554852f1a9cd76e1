//! Keys of foreign issuers: fetched seldom, together and in time, believed for as long as the settings say.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tollgate::kernel::Clock as _;

use super::foreign::echo;
use crate::support::{
    app::TestApp,
    issuer::{Issuer, Key},
};

/// An app that makes the tenants of an issuer, and the time.
async fn scene(issuer: &Issuer, more: &str) -> (TestApp, i64) {
    let app = TestApp::with(&issuer.settings(&format!("on_unknown_tenant = \"create\"\n{more}"))).await;
    let now = app.clock.now().as_secs();
    (app, now)
}

fn call(token: &str) -> Request<Body> {
    let request = Request::get("/sample/hello").header("authorization", format!("Bearer {token}"));
    request.body(Body::empty()).unwrap()
}

/// Tokens that differ by `jti`.
fn tokens(key: &Key, issuer: &Issuer, now: i64, count: usize) -> Vec<String> {
    let token = |n: usize| {
        // Each tenant stays within its rate.
        let mut claims = issuer.claims(&format!("org_{}", n % 20), now);
        claims["jti"] = format!("{}-{n}", key.jwk["kid"]).into();
        key.token(&claims)
    };
    (0..count).map(token).collect()
}

#[tokio::test]
async fn keys_are_rotated_under_load_without_a_refusal() {
    let (one, two) = (Key::es256("one"), Key::es256("two"));
    let issuer = Issuer::start(&[&one]).await;
    let (app, now) = scene(&issuer, "algorithms = [\"ES256\"]").await;
    let before = tokens(&one, &issuer, now, 40);
    for reply in app.send_together(before.iter().map(|token| call(token)).collect()).await {
        reply.expect(200);
    }
    assert_eq!(issuer.fetches(), 1, "once for all who wait");
    // The new key signs from one moment to the next; the old one is still published, as whoever rotates does it.
    issuer.publish(&[&two, &one]);
    let after = tokens(&two, &issuer, now, 40);
    let mixed = before.iter().zip(&after).flat_map(|(old, new)| [call(old), call(new), call(new)]);
    for reply in app.send_together(mixed.collect()).await {
        reply.expect(200);
    }
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn five_hundred_random_keys_cause_two_fetches_in_thirty_seconds_and_hurt_nobody() {
    let key = Key::es256("one");
    let issuer = Issuer::start(&[&key]).await;
    let (app, now) = scene(&issuer, "algorithms = [\"ES256\"]").await;
    let good = key.token(&issuer.claims("org_1", now));
    app.send(call(&good)).await.expect(200);
    let random: Vec<String> =
        (0..500).map(|n| key.with("kid", format!("random-{n}").into()).token(&issuer.claims("org_1", now))).collect();
    for chunk in random.chunks(100) {
        for reply in app.send_together(chunk.iter().map(|token| call(token)).collect()).await {
            reply.refuses(401, &[]);
        }
        app.send(call(&good)).await.expect(200);
    }
    assert_eq!(issuer.fetches(), 2);
    app.clock.advance_secs(29);
    app.send(call(&random[0])).await.expect(401);
    assert_eq!(issuer.fetches(), 2);
    app.clock.advance_secs(1);
    app.send(call(&random[0])).await.expect(401);
    assert_eq!(issuer.fetches(), 3);
}

#[tokio::test]
async fn a_removed_key_is_dead_when_its_lifetime_is_over_and_at_once_when_that_is_seen() {
    let (one, two) = (Key::rs256("one"), Key::rs256("two"));
    let issuer = Issuer::start(&[&one, &two]).await;
    let (app, now) = scene(&issuer, "keys_lifetime_s = 60").await;
    let (old, new) = (one.token(&issuer.claims("org_1", now)), two.token(&issuer.claims("org_1", now)));
    for token in [&old, &new] {
        echo(&app, token).await.expect(200);
    }
    issuer.publish(&[&two]);
    app.clock.advance_secs(59);
    echo(&app, &old).await.expect(200);
    app.clock.advance_secs(1);
    // Remembered, and refused: the lifetime is over, so the set is asked for.
    echo(&app, &old).await.refuses(401, &[]);
    echo(&app, &new).await.expect(200);
    assert_eq!(issuer.fetches(), 2);

    // Another key under the name of the last is another key.
    let other = Key::rs256("two");
    issuer.publish(&[&other]);
    let admin = app.admin().await;
    let id = admin.get("/admin/v1/issuers").await.expect(200).text("/items/0/issuer_id");
    admin.post(&format!("/admin/v1/issuers/{id}/refresh"), Value::Null).await.expect(200);
    echo(&app, &new).await.refuses(401, &[]);
    echo(&app, &other.token(&issuer.claims("org_1", now))).await.expect(200);
}

#[tokio::test]
async fn known_keys_go_on_while_the_issuer_is_down_and_no_longer_than_the_settings_say() {
    let (one, two) = (Key::es256("one"), Key::es256("two"));
    let issuer = Issuer::start(&[&one]).await;
    let (app, now) = scene(&issuer, "algorithms = [\"ES256\"]\nkeys_lifetime_s = 60\nkeys_stale_s = 120").await;
    let token = |key: &Key| {
        let mut claims = issuer.claims("org_1", now);
        claims["exp"] = json!(now + 10_000);
        key.token(&claims)
    };
    let known = token(&one);
    echo(&app, &known).await.expect(200);
    issuer.set_down(true);
    for (advance, status) in [(59, 200), (1, 200), (60, 200), (59, 200), (1, 503), (300, 503)] {
        app.clock.advance_secs(advance);
        let reply = echo(&app, &known).await.expect(status);
        assert_eq!(reply.headers.contains_key("retry-after"), status == 503);
    }
    // A key that nobody has seen is not refused for good while nobody can be asked.
    echo(&app, &token(&two)).await.expect(503);
    let admin = app.admin().await;
    let listed = admin.get("/admin/v1/issuers").await.expect(200);
    assert!(listed.text("/items/0/error").contains("503"), "{}", listed.body);
    issuer.set_down(false);
    app.clock.advance_secs(30);
    echo(&app, &known).await.expect(200);
}

#[tokio::test]
async fn a_set_that_is_none_changes_nothing_and_is_told_to_the_administrator() {
    let key = Key::es256("one");
    let issuer = Issuer::start(&[&key]).await;
    let (app, now) = scene(&issuer, "algorithms = [\"ES256\"]").await;
    let token = key.token(&issuer.claims("org_1", now));
    echo(&app, &token).await.expect(200);
    let admin = app.admin().await;
    let id = admin.get("/admin/v1/issuers").await.expect(200).text("/items/0/issuer_id");
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(600 * 1024));
    for document in ["", "<html>", "[]", "{\"keys\":{}}", "{\"keys\":[],\"keys\":[]}", &large] {
        issuer.publish_instead(document);
        let state = admin.post(&format!("/admin/v1/issuers/{id}/refresh"), Value::Null).await.expect(200);
        assert!(state.body["error"].is_string(), "{document}: {}", state.body);
        assert_eq!(state.text("/keys/0/kid"), "one");
        echo(&app, &token).await.expect(200);
    }
    // An issuer that has no keys has none.
    issuer.publish_instead("{\"keys\":[]}");
    let state = admin.post(&format!("/admin/v1/issuers/{id}/refresh"), Value::Null).await.expect(200);
    assert!(state.body["error"].is_null() && state.body["keys"] == json!([]), "{}", state.body);
    echo(&app, &token).await.expect(401);
}

#[tokio::test]
async fn the_administrator_sees_issuers_and_which_of_their_keys_are_good() {
    let good = Key::es256("good");
    let bad = [
        (Key::es256("for encryption").with("use", "enc".into()), "is not for signatures"),
        (Key::es256("for signing").with("key_ops", json!(["sign"])), "is not for checking signatures"),
        (Key::rs256("of another algorithm"), "has an algorithm that is not accepted"),
        (Key::es256("of another curve").with("crv", "P-384".into()), "is on another curve than its algorithm's"),
        (Key::es256("without a point").with("y", Value::Null), "has no coordinates of its curve"),
        (Key::es256("off the curve").with("y", good.jwk["y"].clone()), "is no key"),
        (Key::es256("private").with("d", "AAAA".into()), "is not public"),
        (Key::es256("good"), "has the id of another"),
        (Key::rs256("without a type").with("kty", Value::Null), "has no kty"),
        (
            Key::rs256("small").with("n", "3q2-7w".into()).with("alg", Value::Null),
            "is of another type than its algorithm's",
        ),
    ];
    let all: Vec<&Key> = std::iter::once(&good).chain(bad.iter().map(|(key, _)| key)).collect();
    let issuer = Issuer::start(&all).await;
    let (app, now) = scene(&issuer, "algorithms = [\"ES256\"]").await;
    echo(&app, &good.token(&issuer.claims("org_1", now))).await.expect(200);
    let listed = app.admin().await.get("/admin/v1/issuers").await.expect(200);
    let state = &listed.body["items"][0];
    assert_eq!(state["issuer"], issuer.origin.as_str());
    assert_eq!(state["jwks_uri"], format!("{}/jwks", issuer.origin));
    assert_eq!(state["keys"], json!([{"kid": "good", "alg": "ES256"}]));
    assert_eq!(state["fetched_at"], "2026-11-10T12:00:00Z");
    assert_eq!(state["good_until"], "2026-11-10T12:05:00Z");
    let unused: Vec<(&str, &str)> = state["unused_keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["kid"].as_str().unwrap(), key["why"].as_str().unwrap()))
        .collect();
    for (key, why) in &bad {
        let kid = key.jwk["kid"].as_str().unwrap();
        // The one of another type is not looked at closer than that.
        assert!(
            unused.iter().any(|(own, said)| *own == kid && (said == why || kid == "without a type")),
            "{kid}: {unused:?}"
        );
    }
    app.admin().await.post("/admin/v1/issuers/0000/refresh", Value::Null).await.refuses(404, &[]);
}

#[tokio::test]
async fn a_document_of_another_issuer_gives_no_keys() {
    let key = Key::es256("one");
    let issuer = Issuer::start(&[&key]).await;
    // The same host under another name: its discovery names another issuer.
    let other = issuer.origin.replace("127.0.0.1", "localhost");
    let settings = format!(
        "[[identity.issuers]]\nissuer = \"{other}\"\nalgorithms = [\"ES256\"]\naudience = [\"api\"]\ntenant_claim = \"org\"\n\
         on_unknown_tenant = \"create\"\n"
    );
    let app = TestApp::with(&settings).await;
    let mut claims = issuer.claims("org_1", app.clock.now().as_secs());
    claims["iss"] = other.into();
    echo(&app, &key.token(&claims)).await.expect(503);
    assert_eq!(issuer.fetches(), 0);
    let listed = app.admin().await.get("/admin/v1/issuers").await.expect(200);
    assert!(listed.text("/items/0/error").contains("another issuer's"), "{}", listed.body);
}
