//! Secrets that work once, used by many at once, on both engines.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::json;

use crate::{
    browser::{Browser, Form, encoded, form_of},
    relying_party::{CALLBACK, Client, DEVICE, Fields, VERIFIER, opens, owner, refused},
    support::app::{Reply, TestApp},
};

/// A server on each engine that is there, with Acme in it.
async fn engines() -> Vec<TestApp> {
    let apps = [Some(TestApp::new().await), TestApp::on_postgres().await];
    let apps: Vec<TestApp> = apps.into_iter().flatten().collect();
    for app in &apps {
        app.tenant("Acme", "standard").await;
    }
    apps
}

/// The same request of a client, many times at once.
async fn at_once(client: &Client<'_>, times: usize, path: &str, fields: Fields<'_>) -> Vec<Reply> {
    let request = || {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::AUTHORIZATION, client.basic().unwrap());
        request.body(Body::from(encoded(fields))).unwrap()
    };
    client.app.send_together((0..times).map(|_| request()).collect()).await
}

/// RFC 6749 section 4.1.2: "The client MUST NOT use the authorization code more than once."
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_redemptions_of_one_code_give_one_token_and_that_is_dead() {
    for app in engines().await {
        let client = Client::web(&app).await;
        let browser = Browser::signed_in(&app, &owner()).await;
        let code = client.code(&browser, &[]).await;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        let replies = at_once(&client, 50, "/oauth2/token", &fields).await;
        let (good, bad): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 200);
        assert_eq!(good.len(), 1);
        for reply in &bad {
            refused(reply, 400, "invalid_grant");
        }
        assert!(!opens(&app, &good[0].text("/access_token")).await);
        refused(&client.refresh(&good[0].text("/refresh_token"), &[]).await, 400, "invalid_grant");
    }
}

/// RFC 9700 section 4.14.2, with the grace of the settings: requests of one client that cross are no theft.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_refreshes_of_one_token_are_one_family_and_nobody_is_signed_out() {
    for app in engines().await {
        let client = Client::web(&app).await;
        let tokens = client.tokens(&[]).await;
        let sid = crate::relying_party::claims(&tokens, "access_token")["sid"].clone();
        let refresh = tokens.text("/refresh_token");
        let fields = [("grant_type", "refresh_token"), ("refresh_token", &*refresh)];
        let replies = at_once(&client, 20, "/oauth2/token", &fields).await;
        for reply in replies {
            let reply = reply.expect(200);
            assert_eq!(crate::relying_party::claims(&reply, "access_token")["sid"], sid);
            assert!(opens(&app, &reply.text("/access_token")).await);
            client.refresh(&reply.text("/refresh_token"), &[]).await.expect(200);
        }
        let sessions = app.admin().await.get("/admin/v1/sessions?limit=500").await.expect(200);
        let of_client = |session: &&serde_json::Value| session["scope"].as_str().unwrap().contains("openid");
        assert_eq!(sessions.body["items"].as_array().unwrap().iter().filter(of_client).count(), 1);
    }
}

/// RFC 8628 section 3.5: a device has its tokens once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_polls_of_one_device_give_one_token() {
    for app in engines().await {
        let client = Client::web_with(&app, json!({"grant_types": [DEVICE]})).await;
        let started = client.post("/oauth2/device_authorization", &[]).await.expect(200);
        let browser = Browser::signed_in(&app, &owner()).await;
        let page = browser.get(&format!("/device?user_code={}", started.text("/user_code"))).await;
        let page = browser.submit(&form_of(&page), None).await;
        browser.submit(&form_of(&page), Some(("decision", "allow"))).await.expect(200);
        let fields = [("grant_type", DEVICE), ("device_code", &*started.text("/device_code"))];
        let replies = at_once(&client, 10, "/oauth2/token", &fields).await;
        assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
        for reply in replies.iter().filter(|reply| reply.status != 200) {
            refused(reply, 400, "invalid_grant");
        }
    }
}

/// RFC 9126 section 7.3: a pushed request is taken once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_visits_by_one_pushed_request_are_one_request() {
    for app in engines().await {
        let client = Client::web(&app).await;
        let pushed = [("response_type", "code"), ("redirect_uri", CALLBACK)];
        let name = client.post("/oauth2/par", &pushed).await.expect(201).text("/request_uri");
        let query = encoded(&[("client_id", &*client.id), ("request_uri", &*name)]);
        let request = || Request::get(format!("/oauth2/authorize?{query}")).body(Body::empty()).unwrap();
        let replies = app.send_together((0..10).map(|_| request()).collect()).await;
        assert_eq!(replies.iter().filter(|reply| reply.status == 303).count(), 1);
        assert_eq!(replies.iter().filter(|reply| reply.status == 400).count(), 9);
    }
}

/// The rest of the protocol runs on `PostgreSQL`, too: a push, a sign-in, a switch, a sign-out.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_whole_sign_in_and_out_runs_on_both_engines() {
    for app in engines().await {
        let client = Client::web_with(&app, json!({"backchannel_logout_uri": "https://app.example/logout"})).await;
        let token = app.admin().await.post("/admin/v1/clients/initial-access-tokens", json!({})).await.expect(201);
        let token = token.text("/initial_access_token");
        let body = json!({"redirect_uris": [CALLBACK]});
        let registered = app.call(axum::http::Method::POST, "/oauth2/register", &token, body).await;
        registered.expect(201);
        let browser = Browser::signed_in(&app, &owner()).await;
        let code = client.code(&browser, &[("nonce", "n")]).await;
        let tokens = client.redeem(&code).await.expect(200);
        let tokens = client.refresh(&tokens.text("/refresh_token"), &[]).await.expect(200);
        assert_eq!(client.introspect(&tokens.text("/access_token")).await["active"], true);
        for _ in 0..11 {
            let page = browser.get("/device?user_code=BBBBBBBB").await;
            browser.submit(&form_of(&page), None).await;
        }
        let hint = tokens.text("/id_token");
        browser.get(&format!("/oauth2/logout?id_token_hint={hint}")).await.expect(200);
        assert_eq!(client.introspect(&tokens.text("/access_token")).await["active"], false);
        let identity: tollgate::identity::Identity = axum::extract::FromRef::from_ref(app.app.state());
        let due = identity.logouts_due().await.unwrap();
        assert_eq!(due.len(), 1);
        assert!(identity.claim_logout(&due[0]).await.unwrap());
        assert!(!identity.claim_logout(&due[0]).await.unwrap(), "another node has it");
        identity.logout_told(&due[0]).await.unwrap();
        app.clock.advance_secs(100_000);
        assert!(identity.logouts_due().await.unwrap().is_empty());
        identity.tidy().await.unwrap();
    }
}

/// A code that is redeemed while its browser signs out gives nothing, or a session that is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_code_that_is_redeemed_while_its_browser_signs_out_does_not_outlive_it() {
    for app in engines().await {
        let client = Client::web(&app).await;
        for _ in 0..20 {
            let browser = Browser::signed_in(&app, &owner()).await;
            let code = client.code(&browser, &[]).await;
            let sign_out = form_of(&browser.get("/account").await);
            let sign_out = Form { action: "/account/sign-out".into(), ..sign_out };
            let (redeemed, left) = tokio::join!(client.redeem(&code), browser.submit(&sign_out, None));
            assert_eq!(left.status, 303);
            if redeemed.status == 200 {
                assert!(!opens(&app, &redeemed.text("/access_token")).await);
            } else {
                refused(&redeemed, 400, "invalid_grant");
            }
        }
    }
}
