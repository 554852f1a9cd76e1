//! RFC 8628, OAuth 2.0 Device Authorization Grant.

use axum::http::{Method, header};
use serde_json::json;

use crate::{
    browser::{Browser, encoded, form_of, text},
    relying_party::{Client, DEVICE, acme, assert_stored_nowhere, opens, owner, refused},
    support::{
        actors::{PASSWORD, email_of, registration},
        app::{Reply, TestApp},
    },
};

const PATH: &str = "/oauth2/device_authorization";

async fn television(app: &TestApp) -> Client<'_> {
    let metadata = json!({
        "client_name": "Television",
        "grant_types": [DEVICE, "refresh_token"],
        "token_endpoint_auth_method": "none",
        "id_token_signed_response_alg": "ES256",
    });
    Client::register(app, metadata).await
}

async fn start(client: &Client<'_>) -> Reply {
    client.post(PATH, &[("scope", "openid usage:read offline_access")]).await.expect(200)
}

async fn poll(client: &Client<'_>, started: &Reply) -> Reply {
    client.token(&[("grant_type", DEVICE), ("device_code", &started.text("/device_code"))]).await
}

/// Enters a code; the next page.
async fn enter(browser: &Browser<'_>, code: &str) -> Reply {
    let page = browser.get("/device").await.expect(200);
    browser.submit(&form_of(&page).with("user_code", code), None).await
}

async fn decide(browser: &Browser<'_>, started: &Reply, decision: &str) -> Reply {
    let page = enter(browser, &started.text("/user_code")).await.expect(200);
    browser.submit(&form_of(&page), Some(("decision", decision))).await
}

/// "the authorization server generates a unique device verification code and an end-user code [...] and includes them in the
/// HTTP response body using the "application/json" format with a 200 (OK) status code."
#[tokio::test]
async fn rfc8628_3_2_a_device_gets_two_codes_and_where_to_enter_one() {
    let app = acme().await;
    let client = television(&app).await;
    let started = start(&client).await;
    assert_stored_nowhere(&started.headers);
    assert_eq!(started.text("/verification_uri"), "http://127.0.0.1:8080/device");
    let code = started.text("/user_code");
    assert_eq!(started.text("/verification_uri_complete"), format!("http://127.0.0.1:8080/device?user_code={code}"));
    assert_eq!((started.text("/expires_in"), started.text("/interval")), ("600".into(), "5".into()));
    assert!(
        code.len() == 9 && code.bytes().all(|byte| byte == b'-' || b"BCDFGHJKLMNPQRSTVWXZ".contains(&byte)),
        "{code}"
    );
    let again = start(&client).await;
    assert!(again.text("/user_code") != code && again.text("/device_code") != started.text("/device_code"));
}

/// "The client authentication requirements of Section 3.2.1 of RFC6749 apply to requests on this endpoint."
#[tokio::test]
async fn rfc8628_3_1_a_device_says_which_client_it_is_and_has_the_grant() {
    let app = acme().await;
    refused(&crate::relying_party::post(&app, PATH, &[], None).await, 401, "invalid_client");
    let without = Client::web(&app).await;
    refused(&without.post(PATH, &[]).await, 400, "unauthorized_client");
    let reply = television(&app).await.post(PATH, &[("scope", "tollgate:admin")]).await;
    refused(&reply, 400, "invalid_scope");
}

/// "After the user approves, the client's next poll returns tokens": section 3.5, "Upon success, the token endpoint returns
/// Access Token Response defined in Section 5.1 of RFC6749".
#[tokio::test]
async fn rfc8628_3_5_after_the_person_said_yes_the_device_has_its_tokens_once() {
    let app = acme().await;
    let client = television(&app).await;
    let started = start(&client).await;
    refused(&poll(&client, &started).await, 400, "authorization_pending");
    let browser = Browser::signed_in(&app, &owner()).await;
    let page = enter(&browser, &started.text("/user_code").to_lowercase().replace('-', " ")).await.expect(200);
    for shown in ["Television", "know who you are", "see your organization's usage", "stay signed in for you"] {
        assert!(text(&page).contains(shown), "{shown}: {}", text(&page));
    }
    refused(&poll(&client, &started).await, 400, "slow_down");
    browser.submit(&form_of(&page), Some(("decision", "allow"))).await.expect(200);
    app.clock.advance_secs(10);
    let tokens = poll(&client, &started).await.expect(200);
    assert!(opens(&app, &tokens.text("/access_token")).await);
    assert!(tokens.body["id_token"].is_string());
    client.refresh(&tokens.text("/refresh_token"), &[]).await.expect(200);
    refused(&poll(&client, &started).await, 400, "invalid_grant");
    // The code is used up for people, too.
    enter(&browser, &started.text("/user_code")).await.expect(400);
}

/// "slow_down: A variant of "authorization_pending", the authorization request is still pending and polling should continue,
/// but the interval MUST be increased by 5 seconds for this and all subsequent requests."
#[tokio::test]
async fn rfc8628_3_5_whoever_asks_too_often_must_wait_five_seconds_longer_each_time() {
    let app = acme().await;
    let client = television(&app).await;
    let started = start(&client).await;
    refused(&poll(&client, &started).await, 400, "authorization_pending");
    for (wait_s, answer) in [
        (4, "slow_down"),
        (9, "slow_down"),
        (15, "authorization_pending"),
        (15, "authorization_pending"),
        (14, "slow_down"),
        (20, "authorization_pending"),
    ] {
        app.clock.advance_secs(wait_s);
        refused(&poll(&client, &started).await, 400, answer);
    }
}

/// "access_denied: The authorization request was denied."
#[tokio::test]
async fn rfc8628_3_5_a_person_says_no() {
    let app = acme().await;
    let client = television(&app).await;
    let started = start(&client).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    decide(&browser, &started, "deny").await.expect(200);
    refused(&poll(&client, &started).await, 400, "access_denied");
}

/// "expired_token: The "device_code" has expired, and the device authorization session has concluded."
#[tokio::test]
async fn rfc8628_3_5_a_device_waits_ten_minutes() {
    let app = acme().await;
    let client = television(&app).await;
    let (pending, allowed) = (start(&client).await, start(&client).await);
    let browser = Browser::signed_in(&app, &owner()).await;
    decide(&browser, &allowed, "allow").await.expect(200);
    app.clock.advance_secs(600);
    for started in [&pending, &allowed] {
        refused(&poll(&client, started).await, 400, "expired_token");
    }
    enter(&browser, &pending.text("/user_code")).await.expect(400);
    refused(&client.token(&[("grant_type", DEVICE), ("device_code", "made-up")]).await, 400, "invalid_grant");
}

/// "device_code [...] bound to the client": section 3.4, "client_id REQUIRED if the client is not authenticating".
#[tokio::test]
async fn rfc8628_3_4_a_device_code_is_its_clients_alone() {
    let app = acme().await;
    let (own, other) = (television(&app).await, television(&app).await);
    let started = start(&own).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    decide(&browser, &started, "allow").await.expect(200);
    refused(&poll(&other, &started).await, 400, "invalid_grant");
    poll(&own, &started).await.expect(200);
}

/// "the authorization server prompts the user to enter [...] after the user is authenticated": nobody enters a code unnamed.
#[tokio::test]
async fn rfc8628_3_3_a_person_signs_in_before_they_enter_a_code() {
    let app = acme().await;
    let client = television(&app).await;
    let started = start(&client).await;
    let browser = Browser::new(&app);
    let complete = started.text("/verification_uri_complete");
    let path = complete.strip_prefix("http://127.0.0.1:8080").unwrap();
    let sign_in = browser.visit(path).await.expect(200);
    let back = browser.submit_sign_in(&sign_in, &owner()).await;
    let page = browser.get(back.headers[header::LOCATION].to_str().unwrap()).await.expect(200);
    // "It is RECOMMENDED to inform the user [...] and to confirm": the code is filled in, and not taken yet.
    assert_eq!(form_of(&page).value("user_code").unwrap(), started.text("/user_code"));
    refused(&poll(&client, &started).await, 400, "authorization_pending");
    let page = browser.submit(&form_of(&page), None).await.expect(200);
    browser.submit(&form_of(&page), Some(("decision", "allow"))).await.expect(200);
    app.clock.advance_secs(5);
    poll(&client, &started).await.expect(200);
}

/// "the server SHOULD ensure that [...] the user code cannot be guessed": section 5.1, "rate-limit user code attempts".
#[tokio::test]
async fn rfc8628_5_1_guesses_are_counted() {
    let app = acme().await;
    let client = television(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    for _ in 0..10 {
        enter(&browser, "BBBB-BBBB").await.expect(400);
    }
    let started = start(&client).await;
    let refused = enter(&browser, &started.text("/user_code")).await.expect(429);
    assert_eq!(refused.headers[header::RETRY_AFTER], "600");
    app.clock.advance_secs(601);
    let started = start(&client).await;
    enter(&browser, &started.text("/user_code")).await.expect(200);
}

/// Section 5.1 again, with all of them at once: no more than one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn rfc8628_5_1_guesses_that_are_made_at_once_are_counted_one_by_one() {
    let app = acme().await;
    let client = television(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let token = form_of(&browser.get("/device").await.expect(200)).value("form_token").unwrap().to_owned();
    let guesses = (0..30).map(|_| {
        let form = encoded(&[("user_code", "BCDF-GHJK"), ("form_token", &token)]);
        browser.request(Method::POST, "/device", Some(form), &[])
    });
    let answers = futures_util::future::join_all(guesses).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(400), count(429)), (10, 20));
    let started = start(&client).await;
    enter(&browser, &started.text("/user_code")).await.expect(429);
}

/// Section 5.4, "Remote Phishing": a decision comes from our own page, made for this browser.
#[tokio::test]
async fn rfc8628_5_4_a_decision_cannot_be_sent_from_another_site() {
    let app = acme().await;
    let client = television(&app).await;
    let started = start(&client).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let other = Browser::signed_in(&app, &owner()).await;
    let form = form_of(&enter(&browser, &started.text("/user_code")).await);
    let fields = |token: &str| {
        encoded(&[("user_code", &*started.text("/user_code")), ("decision", "allow"), ("form_token", token)])
    };
    let token = form.value("form_token").unwrap();
    let cross = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    browser.request(Method::POST, "/device", Some(fields(token)), &cross).await.expect(403);
    browser.request(Method::POST, "/device", Some(fields("")), &[]).await.expect(403);
    other.request(Method::POST, "/device", Some(fields(token)), &[]).await.expect(403);
    refused(&poll(&client, &started).await, 400, "authorization_pending");
}

/// A person of several tenants says for which.
#[tokio::test]
async fn rfc8628_3_3_a_person_of_several_tenants_chooses_one() {
    let app = acme().await;
    let mut second = registration("Globex", "free");
    second["email"] = email_of("Acme").into();
    second["allow_membership"] = true.into();
    let globex = app.admin().await.post("/admin/v1/registrations", second).await.expect(201).text("/tenant_id");
    let client = television(&app).await;
    let started = start(&client).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let form = form_of(&enter(&browser, &started.text("/user_code")).await);
    assert_eq!(form.choices[0].1.len(), 2);
    let stranger = form.with("tenant", "01900000-0000-7000-8000-000000000000");
    browser.submit(&stranger, Some(("decision", "allow"))).await.expect(400);
    browser.submit(&form.with("tenant", &globex), Some(("decision", "allow"))).await.expect(200);
    assert_eq!(poll(&client, &started).await.expect(200).text("/tenant_id"), globex);
}

/// Section 5.5 (and RFC 9700 section 4.14.2, after "a change of the user's password"): who is signed out everywhere has no
/// device that is signed in a moment later.
#[tokio::test]
async fn rfc8628_5_5_a_device_that_was_allowed_before_everybody_was_signed_out_gets_nothing() {
    let app = acme().await;
    let client = television(&app).await;
    let new = "amber-Meadow-19-kites";
    for how in ["password", "others", "account"] {
        let started = start(&client).await;
        let browser = Browser::signed_in(&app, &owner()).await;
        decide(&browser, &started, "allow").await.expect(200);
        let actor = app.owner_of("Acme").await;
        match how {
            "others" => drop(actor.delete("/v1/me/sessions").await.expect(204)),
            "account" => {
                let page = browser.get("/account/password").await.expect(200);
                let form = form_of(&page).with("current_password", PASSWORD).with("new_password", new);
                browser.submit(&form, None).await.expect(200);
            }
            _ => {
                let change = |old: &str, new: &str| json!({"current_password": old, "new_password": new});
                actor.post("/v1/me/password", change(PASSWORD, new)).await.expect(204);
                actor.post("/v1/me/password", change(new, PASSWORD)).await.expect(204);
            }
        }
        refused(&poll(&client, &started).await, 400, "access_denied");
    }
}

/// The same by a letter: "you are signed out everywhere".
#[tokio::test]
async fn rfc8628_5_5_a_device_that_was_allowed_before_a_password_was_reset_gets_nothing() {
    let app = acme().await;
    let client = television(&app).await;
    let started = start(&client).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    decide(&browser, &started, "allow").await.expect(200);
    let page = browser.get("/reset").await.expect(200);
    browser.submit(&form_of(&page).with("email", &owner()), None).await.expect(200);
    let mails = app.admin().await.get("/admin/v1/mails").await.expect(200);
    let link = mails.text("/items/0/text").split_once("/reset?token=").unwrap().1.to_owned();
    let page = browser.get(&format!("/reset?token={}", link.split_whitespace().next().unwrap())).await.expect(200);
    browser.submit(&form_of(&page).with("password", "amber-Meadow-19-kites"), None).await.expect(200);
    refused(&poll(&client, &started).await, 400, "access_denied");
}
