//! Guesses are slowed down, nobody is locked out, and unknown users cost what known ones do.

use axum::{
    body::Body,
    extract::FromRef as _,
    http::{Request, header},
};
use serde_json::{Value, json};
use tollgate::{identity::Identity, web::extract::Peer};

use super::pages::Browser;
use crate::support::{
    actors::{PASSWORD, email_of, registration},
    app::{Reply, TestApp},
};

/// The identity service of an app.
pub fn identity(app: &TestApp) -> Identity {
    Identity::from_ref(app.app.state())
}

/// A sign-in from an address; whatever it says of forwarding is its own invention.
async fn login_from(app: &TestApp, address: &str, forwarded: &str, email: &str, password: &str) -> Reply {
    let body = json!({"email": email, "password": password});
    let mut request = Request::post("/v1/login")
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-forwarded-for", forwarded)
        .header("forwarded", format!("for={forwarded}"))
        .body(Body::from(body.to_string()))
        .unwrap();
    request.extensions_mut().insert(Peer(address.parse().unwrap()));
    app.send(request).await
}

#[tokio::test]
async fn guesses_are_slowed_down_by_who_really_sends_them_and_the_owner_gets_in() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let email = email_of("Acme");
    for email in [&*email, "nobody@acme.example"] {
        for n in 0..10 {
            login_from(&app, "192.0.2.1", &format!("198.51.100.{n}"), email, "wrong").await.refuses(401, &[]);
        }
    }
    // Known or not, right or wrong: the same answer.
    let known = login_from(&app, "192.0.2.1", "198.51.100.99", &email, PASSWORD).await.refuses(429, &[]);
    let unknown = login_from(&app, "192.0.2.1", "198.51.100.99", "nobody@acme.example", PASSWORD).await;
    assert_eq!(known.text("/type"), "/docs/problems#too-many-tries");
    assert_eq!(known.headers[header::RETRY_AFTER], "1");
    assert_eq!((&known.body, &known.headers), (&unknown.body, &unknown.headers));
    // From another address at once, and from this one after the wait.
    login_from(&app, "192.0.2.2", "", &email, PASSWORD).await.expect(200);
    app.clock.advance_secs(1);
    login_from(&app, "192.0.2.1", "", &email, "wrong").await.refuses(401, &[]);
    assert_eq!(login_from(&app, "192.0.2.1", "", &email, PASSWORD).await.refuses(429, &[]).headers["retry-after"], "2");
    app.clock.advance_secs(2);
    login_from(&app, "192.0.2.1", "", &email, PASSWORD).await.expect(200);
    login_from(&app, "192.0.2.1", "", &email, "wrong").await.refuses(401, &[]);
    login_from(&app, "192.0.2.1", "", &email, PASSWORD).await.expect(200);
}

#[tokio::test]
async fn many_guesses_at_once_are_not_free() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let email = email_of("Acme");
    let tries = (0..40).map(|_| login_from(&app, "192.0.2.1", "", &email, "wrong"));
    let replies = futures_util::future::join_all(tries).await;
    let guessed = replies.iter().filter(|reply| reply.status == 401).count();
    // Two are hashed at once.
    assert!((10..=12).contains(&guessed), "{guessed}");
}

#[tokio::test]
async fn a_browser_that_is_known_is_not_slowed_down_by_strangers_behind_the_same_address() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let email = email_of("Acme");
    let mut known = Browser::new(&app);
    known.sign_in(&email, PASSWORD, "").await;
    for _ in 0..10 {
        Browser::new(&app).fill("/login", &[("email", &email), ("password", "wrong")]).await.expect(401);
    }
    let page = Browser::new(&app).fill("/login", &[("email", &email), ("password", PASSWORD)]).await.expect(429);
    assert!(page.headers.contains_key(header::RETRY_AFTER));
    known.sign_in(&email, PASSWORD, "").await;
    // As somebody else it is a stranger.
    app.tenant("Globex", "standard").await;
    for _ in 0..10 {
        known.fill("/login", &[("email", &email_of("Globex")), ("password", "wrong")]).await.expect(401);
    }
    known.fill("/login", &[("email", &email_of("Globex")), ("password", PASSWORD)]).await.expect(429);
}

#[tokio::test]
async fn the_switch_for_tests_lets_every_guess_through() {
    let app = TestApp::with("[lab]\nenabled = true\n[identity]\nlogin_throttle = false").await;
    app.tenant("Acme", "standard").await;
    for _ in 0..15 {
        login_from(&app, "192.0.2.1", "", &email_of("Acme"), "wrong").await.refuses(401, &[]);
    }
    login_from(&app, "192.0.2.1", "", &email_of("Acme"), PASSWORD).await.expect(200);
}

#[tokio::test]
async fn whoever_cannot_sign_in_costs_one_hash_and_gets_one_answer() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let mut without = registration("Globex", "free");
    without.as_object_mut().unwrap().remove("password");
    let admin = app.admin().await;
    admin.post("/admin/v1/registrations", without).await.expect(201);
    let suspended = app.tenant("Initech", "free").await;
    admin.post(&format!("/admin/v1/tenants/{suspended}/suspend"), Value::Null).await.expect(200);
    let disabled = app.tenant("Umbrella", "free").await;
    let body = json!({"email": "ann@umbrella.example", "password": PASSWORD});
    let users = format!("/admin/v1/tenants/{disabled}/users");
    let ann = admin.post(&users, body).await.expect(201).text("/user_id");
    admin.post(&format!("{users}/{ann}/disable"), Value::Null).await.expect(200);
    // The hash of nobody is made within the first check that needs it.
    login_from(&app, "192.0.2.9", "", "first@acme.example", "wrong").await.refuses(401, &[]);

    let mut answers = Vec::new();
    let emails =
        ["nobody@acme.example", &email_of("Acme"), &email_of("Globex"), &email_of("Initech"), "ann@umbrella.example"];
    for email in emails {
        for by_page in [false, true] {
            let before = identity(&app).password_hashes();
            let mut reply = if by_page {
                let fields = [("email", email), ("password", "wrong"), ("return_to", "")];
                let mut reply = Browser::new(&app).fill("/login", &fields).await.expect(401);
                reply.body = reply.body.as_str().unwrap().replace(email, "").into();
                reply
            } else {
                login_from(&app, "192.0.2.1", "", email, "wrong").await.refuses(401, &[])
            };
            assert_eq!(identity(&app).password_hashes() - before, 1, "{email}");
            // The page has the email that was typed in it.
            reply.headers.remove(header::CONTENT_LENGTH);
            answers.push((by_page, reply.body, reply.headers));
        }
    }
    for by_page in [false, true] {
        let mut of_kind = answers.iter().filter(|(kind, ..)| *kind == by_page);
        let first = of_kind.next().unwrap();
        assert!(of_kind.all(|other| other == first));
    }
}

#[tokio::test]
async fn letters_that_anybody_can_ask_for_are_slowed_down_for_known_and_unknown_alike() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    for email in [&*email_of("Acme"), "nobody@acme.example"] {
        for _ in 0..5 {
            Browser::new(&app).fill("/reset", &[("email", email)]).await.expect(200);
        }
        Browser::new(&app).fill("/reset", &[("email", email)]).await.expect(429);
    }
}

/// A sign-up from an address.
async fn sign_up_from(app: &TestApp, address: &str, tier: &str) -> Reply {
    let body = json!({"email": "ann@acme.example", "password": PASSWORD, "customer_name": "Acme", "tier": tier,
        "billing_address": "1 Main Street"});
    let mut request = Request::post("/v1/signup")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    request.extensions_mut().insert(Peer(address.parse().unwrap()));
    app.send(request).await
}

#[tokio::test]
async fn sign_ups_from_one_address_have_to_wait_also_where_emails_are_not_verified() {
    let app = TestApp::with("[identity]\nverify_email = false").await;
    sign_up_from(&app, "192.0.2.1", "free").await.expect(201);
    let mut tries = 0;
    let refused = loop {
        let reply = sign_up_from(&app, "192.0.2.1", "free").await;
        if reply.status != 409 || tries == 200 {
            break reply;
        }
        tries += 1;
    };
    refused.refuses(429, &[]);
    assert!(tries >= 50, "{tries}");
    sign_up_from(&app, "192.0.2.2", "free").await.refuses(409, &[]);
    let audit = app.admin().await.get("/admin/v1/audit?action=sign_up.throttled").await.expect(200);
    assert_eq!(audit.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(audit.body["items"][0]["action"], "sign_up.throttled");
}

#[tokio::test]
async fn only_tiers_that_are_open_to_sign_up_are_signed_up_to() {
    let app = TestApp::with("[identity]\nverify_email = false\nsignup_tiers = [\"free\"]").await;
    sign_up_from(&app, "192.0.2.1", "premium").await.refuses(403, &[]);
    sign_up_from(&app, "192.0.2.1", "free").await.expect(201);
    app.tenant("Bolt", "premium").await;
}
