//! `OpenID` Connect Core 1.0.

use axum::http::{Method, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tollgate::{identity::Identity, kernel::Clock as _};

use crate::{
    browser::{Browser, ISSUER, encoded, form_of, location, param, text},
    relying_party::{CALLBACK, Client, acme, claims, error_in, owner, part},
    support::{
        actors::PASSWORD,
        app::{Reply, TestApp},
    },
};

/// Where a request leads that must not show anything.
async fn silent(client: &Client<'_>, browser: &Browser<'_>, more: &[(&str, &str)]) -> url::Url {
    let mut fields = vec![("prompt", "none")];
    fields.extend(more);
    location(&browser.get(&client.request(&fields)).await)
}

/// Signs in on the page that an answer leads to, and goes back.
async fn sign_in_and_back(browser: &Browser<'_>, reply: &Reply) -> Reply {
    let target = location(reply);
    assert_eq!(target.path(), "/login");
    let page = browser.get(&format!("/login?{}", target.query().unwrap())).await.expect(200);
    let back = browser.submit_sign_in(&page, &owner()).await;
    browser.get(back.headers[header::LOCATION].to_str().unwrap()).await
}

async fn userinfo(app: &TestApp, tokens: &Reply) -> Value {
    app.call(Method::GET, "/oauth2/userinfo", &tokens.text("/access_token"), Value::Null).await.expect(200).body
}

/// "iss, sub, aud, exp, iat: REQUIRED"; "auth_time: When a "max_age" request is made [...] then this Claim is REQUIRED"; "nonce:
/// If present in the Authentication Request, Authorization Servers MUST include a nonce Claim".
#[tokio::test]
async fn oidc_core_2_an_id_token_has_its_claims() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let signed_in_at = app.clock.now().as_secs();
    app.clock.advance_secs(30);
    let code = client.code(&browser, &[("nonce", "n-0S6_WzA2Mj ü"), ("max_age", "60")]).await;
    let tokens = client.redeem(&code).await.expect(200);
    let id_token = claims(&tokens, "id_token");
    assert_eq!(part(&tokens.text("/id_token"), 0)["alg"], "ES256");
    assert_eq!((&id_token["iss"], &id_token["aud"]), (&ISSUER.into(), &client.id.as_str().into()));
    assert_eq!(id_token["sub"], claims(&tokens, "access_token")["sub"]);
    assert_eq!(id_token["auth_time"], signed_in_at);
    assert_eq!((&id_token["iat"], &id_token["exp"]), (&(signed_in_at + 30).into(), &(signed_in_at + 630).into()));
    assert_eq!(id_token["nonce"], "n-0S6_WzA2Mj ü");
    assert!(id_token.get("azp").is_none(), "one audience, and it is the client");
    let plain = client.tokens(&[]).await;
    assert!(claims(&plain, "id_token").get("nonce").is_none());
}

/// "at_hash: Access Token hash value. Its value is the base64url encoding of the left-most half of the hash".
#[tokio::test]
async fn oidc_core_3_1_3_6_an_id_token_is_bound_to_its_access_token() {
    let app = acme().await;
    let tokens = Client::web(&app).await.tokens(&[]).await;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, tokens.text("/access_token").as_bytes());
    assert_eq!(claims(&tokens, "id_token")["at_hash"], URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));
}

/// "If the openid scope value is not present, the behavior is entirely unspecified": it is OAuth, without an ID token.
#[tokio::test]
async fn oidc_core_3_1_2_1_without_openid_there_is_no_id_token() {
    let app = acme().await;
    let tokens = Client::web(&app).await.tokens(&[("scope", "usage:read")]).await;
    assert!(tokens.body.get("id_token").is_none());
}

/// "redirect_uri: REQUIRED."
#[tokio::test]
async fn oidc_core_3_1_2_1_the_redirect_uri_must_be_said() {
    let app = acme().await;
    let client = Client::web(&app).await;
    Browser::new(&app).get(&client.request(&[("redirect_uri", "")])).await.expect(400);
}

/// "none: The Authorization Server MUST NOT display any authentication or consent user interface pages. An error is returned
/// if an End-User is not already authenticated or the Client does not have pre-configured consent".
#[tokio::test]
async fn oidc_core_3_1_2_1_prompt_none_shows_nothing() {
    let app = acme().await;
    let client = Client::web(&app).await;
    assert_eq!(error_in(&silent(&client, &Browser::new(&app), &[]).await), "login_required");
    let browser = Browser::signed_in(&app, &owner()).await;
    assert_eq!(error_in(&silent(&client, &browser, &[]).await), "consent_required");
    client.code(&browser, &[]).await;
    let target = silent(&client, &browser, &[]).await;
    client.redeem(&param(&target, "code").unwrap()).await.expect(200);
    // "If this parameter contains none with any other value, an error is returned."
    for bad in ["none login", "login none", "nonsense", "login nonsense"] {
        let target = location(&browser.get(&client.request(&[("prompt", bad)])).await);
        assert_eq!(error_in(&target), "invalid_request", "{bad}");
    }
}

/// "login: The Authorization Server SHOULD prompt the End-User for reauthentication."
#[tokio::test]
async fn oidc_core_3_1_2_1_prompt_login_asks_for_the_password_again_and_once() {
    let app = acme().await;
    let client = Client::web(&app).await;
    for prompt in ["login", "select_account"] {
        let browser = Browser::signed_in(&app, &owner()).await;
        client.code(&browser, &[]).await;
        app.clock.advance_secs(5);
        let reply = browser.get(&client.request(&[("prompt", prompt)])).await;
        // Going back without signing in is no way round it.
        let back = param(&location(&reply), "return_to").unwrap();
        assert_eq!(location(&browser.get(&back).await).path(), "/login");
        let target = browser.allow(sign_in_and_back(&browser, &reply).await).await;
        let tokens = client.redeem(&param(&target, "code").unwrap()).await.expect(200);
        assert_eq!(claims(&tokens, "id_token")["auth_time"], app.clock.now().as_secs());
        // The proof of that sign-in serves no other request, and not for ever.
        let forged = back.replace("af0ifjsldkj", "another");
        app.clock.advance_secs(1);
        assert_eq!(location(&browser.get(&forged).await).path(), "/login");
        app.clock.advance_secs(1_800);
        assert_eq!(location(&browser.get(&back).await).path(), "/login");
    }
}

/// "consent: The Authorization Server SHOULD prompt the End-User for consent before returning information to the Client."
#[tokio::test]
async fn oidc_core_3_1_2_1_prompt_consent_asks_again() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    client.code(&browser, &[]).await;
    assert_eq!(browser.get(&client.request(&[])).await.status, 303, "allowed before");
    let page = browser.get(&client.request(&[("prompt", "consent")])).await.expect(200);
    assert!(text(&page).contains("Web shop"));
    let target = location(&browser.submit(&form_of(&page), Some(("decision", "allow"))).await);
    client.redeem(&param(&target, "code").unwrap()).await.expect(200);
}

/// "max_age: If the elapsed time is greater than this value, the OP MUST attempt to actively re-authenticate the End-User."
#[tokio::test]
async fn oidc_core_3_1_2_1_max_age_bounds_the_age_of_a_sign_in() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    client.code(&browser, &[]).await;
    app.clock.advance_secs(60);
    assert!(param(&silent(&client, &browser, &[("max_age", "60")]).await, "code").is_some());
    assert_eq!(error_in(&silent(&client, &browser, &[("max_age", "59")]).await), "login_required");
    let reply = browser.get(&client.request(&[("max_age", "0")])).await;
    let target = browser.allow(sign_in_and_back(&browser, &reply).await).await;
    let tokens = client.redeem(&param(&target, "code").unwrap()).await.expect(200);
    assert_eq!(claims(&tokens, "id_token")["auth_time"], app.clock.now().as_secs());
    for bad in ["-1", "soon", "1.5", "99999999999999999999"] {
        let target = location(&browser.get(&client.request(&[("max_age", bad)])).await);
        assert_eq!(error_in(&target), "invalid_request", "{bad}");
    }
}

/// Registration section 2, "default_max_age: Default Maximum Authentication Age [...] The max_age request parameter overrides
/// this default value."
#[tokio::test]
async fn oidc_core_3_1_2_1_a_client_may_have_a_max_age_of_its_own() {
    let app = acme().await;
    let client = Client::web_with(&app, json!({"default_max_age": 60})).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    client.code(&browser, &[]).await;
    app.clock.advance_secs(61);
    assert_eq!(error_in(&silent(&client, &browser, &[]).await), "login_required");
    assert!(param(&silent(&client, &browser, &[("max_age", "100")]).await, "code").is_some());
}

/// "id_token_hint: If the End-User identified by the ID Token is not already logged in [...] the Authorization Server SHOULD
/// return an error, such as login_required."
#[tokio::test]
async fn oidc_core_3_1_2_1_a_hint_says_who_is_meant() {
    let app = acme().await;
    let member = json!({"email": "ann@acme.example", "role": "member", "password": crate::support::actors::PASSWORD});
    app.owner_of("Acme").await.post("/v1/users", member).await.expect(201);
    let (client, other) = (Client::web(&app).await, Client::web(&app).await);
    let hint = client.tokens(&[]).await.text("/id_token");
    let (own, ann) = (Browser::signed_in(&app, &owner()).await, Browser::signed_in(&app, "ann@acme.example").await);
    client.code(&ann, &[]).await;
    // An expired one will do.
    app.clock.advance_secs(3_600);
    assert!(param(&silent(&client, &own, &[("id_token_hint", &hint)]).await, "code").is_some());
    assert_eq!(error_in(&silent(&client, &ann, &[("id_token_hint", &hint)]).await), "login_required");
    let foreign = other.tokens(&[]).await.text("/id_token");
    let mut forged = hint.clone();
    forged.replace_range(hint.len() - 8.., "AAAAAAAA");
    let access = client.tokens(&[]).await.text("/access_token");
    for bad in ["garbage", &foreign, &forged, &access] {
        let target = silent(&client, &own, &[("id_token_hint", bad)]).await;
        assert_eq!(error_in(&target), "invalid_request", "{bad}");
    }
}

/// "login_hint: Hint to the Authorization Server about the login identifier the End-User might use to log in".
#[tokio::test]
async fn oidc_core_3_1_2_1_a_login_hint_fills_in_the_email() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::new(&app);
    let page = browser.visit(&client.request(&[("login_hint", "ann@acme.example")])).await.expect(200);
    assert_eq!(form_of(&page).value("email").unwrap(), "ann@acme.example");
    let page = browser.visit(&client.request(&[("login_hint", "\"><script>alert(1)</script>")])).await.expect(200);
    assert!(!text(&page).contains("<script>"));
}

/// "request_not_supported", "request_uri_not_supported", "registration_not_supported".
#[tokio::test]
async fn oidc_core_3_1_2_6_what_is_not_supported_says_so() {
    let app = acme().await;
    let client = Client::web(&app).await;
    for name in ["request", "request_uri", "registration"] {
        let target = location(&Browser::new(&app).get(&client.request(&[(name, "https://x.example/")])).await);
        assert_eq!(error_in(&target), format!("{name}_not_supported"));
    }
    for bad in ["fragment", "web_message", "nonsense"] {
        let target = location(&Browser::new(&app).get(&client.request(&[("response_mode", bad)])).await);
        assert_eq!(error_in(&target), "invalid_request", "{bad}");
    }
}

/// Form Post Response Mode section 2: "the Authorization Response parameters are encoded as HTML form values that are
/// auto-submitted in the User Agent".
#[tokio::test]
async fn oidc_core_3_1_2_5_an_answer_may_come_as_a_form() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let by_form = [("response_mode", "form_post"), ("state", "\"<&>'")];
    let asked = browser.get(&client.request(&by_form)).await.expect(200);
    let page = browser.submit(&form_of(&asked), Some(("decision", "allow"))).await.expect(200);
    let form = form_of(&page);
    assert_eq!(
        (form.action.as_str(), form.value("state"), form.value("iss")),
        (CALLBACK, Some("\"<&>'"), Some(ISSUER))
    );
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self'") && policy.contains("https://app.example"), "{policy}");
    let script = app.anon().get("/console/send.js").await.expect(200);
    assert!(script.body.as_str().unwrap().contains("submit"));
    client.redeem(form.value("code").unwrap()).await.expect(200);
    let refused = browser.get(&client.request(&[by_form[0], ("scope", "x")])).await.expect(200);
    assert_eq!(form_of(&refused).value("error"), Some("invalid_scope"));
}

/// "The UserInfo Endpoint [...] returns Claims about the authenticated End-User": sub always, email by its scope. "The sub Claim
/// in the UserInfo Response MUST be verified to exactly match the sub Claim in the ID Token".
#[tokio::test]
async fn oidc_core_5_3_userinfo_says_who_the_user_is() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let tokens = client.tokens(&[("scope", "openid email")]).await;
    let known = userinfo(&app, &tokens).await;
    assert_eq!(known["sub"], claims(&tokens, "id_token")["sub"]);
    assert_eq!(known["email"], owner());
    assert!(userinfo(&app, &client.tokens(&[]).await).await.get("email").is_none(), "email was not asked for");
}

/// "profile [...] requests access to the End-User's default profile Claims", "email [...] requests access to the email and
/// email_verified Claims": each scope stands for its own, of what is known, and with an access token userinfo is where they are.
#[tokio::test]
async fn oidc_core_5_4_scopes_stand_for_claims_at_userinfo() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let of = async |scope: &str| {
        let tokens = client.tokens(&[("scope", scope)]).await;
        let mut known = userinfo(&app, &tokens).await;
        known.as_object_mut().unwrap().retain(|name, _| !["sub", "tenant_id"].contains(&name.as_str()));
        let id_token = claims(&tokens, "id_token");
        assert!(["email", "name"].iter().all(|name| id_token.get(name).is_none()), "{id_token}");
        known
    };
    assert_eq!(of("openid").await, json!({}));
    assert_eq!(of("openid email").await, json!({"email": owner(), "email_verified": false}));
    let unnamed = of("openid profile").await;
    assert!(unnamed["updated_at"].is_i64() && unnamed.as_object().unwrap().len() == 1, "{unnamed}");
    app.clock.advance_secs(100);
    let person = app.owner_of("Acme").await;
    person.patch("/v1/me", json!({"name": " Ada Lovelace "})).await.expect(200);
    let named = of("openid profile").await;
    let later = unnamed["updated_at"].as_i64().unwrap() + 100;
    assert_eq!(named, json!({"name": "Ada Lovelace", "updated_at": later}));
}

/// "True if the End-User's e-mail address has been verified; otherwise false": once its owner followed a link that was sent there.
#[tokio::test]
async fn oidc_core_5_1_an_email_is_verified_by_a_link_that_was_sent_there() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::new(&app);
    browser.request(Method::POST, "/reset", Some(encoded(&[("email", owner())])), &[]).await.expect(200);
    let mails = app.admin().await.get("/admin/v1/mails").await.expect(200).body;
    let letter = mails["items"][0]["text"].as_str().unwrap();
    let token = letter.split("token=").nth(1).unwrap().split_whitespace().next().unwrap();
    let form = encoded(&[("token", token), ("password", PASSWORD)]);
    browser.request(Method::POST, "/reset", Some(form), &[]).await.expect(200);
    app.clock.advance_secs(1);
    let tokens = client.tokens(&[("scope", "openid email")]).await;
    assert_eq!(userinfo(&app, &tokens).await["email_verified"], true);
}

/// "offline_access: [...] the Authorization Server MUST ensure that the prompt parameter contains consent unless other conditions
/// for processing the request permitting offline access": a person has allowed it; and without it there is no refresh token.
#[tokio::test]
async fn oidc_core_11_offline_access_brings_a_refresh_token_and_needs_consent() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let code = client.code(&browser, &[("scope", "openid")]).await;
    assert!(client.redeem(&code).await.expect(200).body.get("refresh_token").is_none());
    // What was allowed before does not cover it.
    let page = browser.get(&client.request(&[("scope", "openid offline_access")])).await.expect(200);
    assert!(text(&page).contains("stay signed in for you"));
    let target = browser.allow(page).await;
    let tokens = client.redeem(&param(&target, "code").unwrap()).await.expect(200);
    assert!(tokens.body["refresh_token"].is_string());
    // And asking for less later forgets nothing.
    client.code(&browser, &[("scope", "openid")]).await;
    assert!(param(&silent(&client, &browser, &[("scope", "openid offline_access")]).await, "code").is_some());
}

/// "its iss Claim Value MUST be the same [...], its sub [...], its auth_time Claim [...] MUST represent the time of the original
/// authentication, it SHOULD NOT have a nonce Claim".
#[tokio::test]
async fn oidc_core_12_2_the_id_token_of_a_refresh_speaks_of_the_same_sign_in() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let tokens = client.tokens(&[("nonce", "n")]).await;
    app.clock.advance_secs(100);
    let refreshed = client.refresh(&tokens.text("/refresh_token"), &[]).await.expect(200);
    let (before, after) = (claims(&tokens, "id_token"), claims(&refreshed, "id_token"));
    for name in ["iss", "sub", "aud", "auth_time", "sid", "tenant_id"] {
        assert_eq!(before[name], after[name], "{name}");
    }
    assert_eq!(after["iat"].as_i64().unwrap(), before["iat"].as_i64().unwrap() + 100);
    assert!(after.get("nonce").is_none() && after["at_hash"] != before["at_hash"]);
}

/// A client of the platform's own asks nobody; only an administrator can make one.
#[tokio::test]
async fn oidc_core_3_1_2_4_consent_is_skipped_for_clients_of_the_platform_alone() {
    let app = acme().await;
    let client = Client::web_with(&app, json!({"skip_consent": true})).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    assert!(param(&silent(&client, &browser, &[]).await, "code").is_some());
    browser.get(&client.request(&[("prompt", "consent")])).await.expect(200);
    let body = json!({"redirect_uris": [CALLBACK], "skip_consent": true});
    app.owner_of("Acme").await.post("/v1/clients", body).await.refuses(422, &["skip_consent"]);
}

/// Keys rotate under ID tokens, too: one signed before is still a hint after.
#[tokio::test]
async fn oidc_core_10_1_1_a_key_rotation_leaves_hints_valid() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let tokens = client.tokens(&[]).await;
    app.admin().await.post("/admin/v1/keys/rotate?wait_s=0", Value::Null).await.expect(201);
    app.clock.advance_secs(1);
    let identity: Identity = axum::extract::FromRef::from_ref(app.app.state());
    let hint = identity.id_token_hint(&tokens.text("/id_token")).unwrap();
    assert_eq!(hint.client.to_string(), client.id);
    let after = client.tokens(&[]).await;
    assert_ne!(part(&after.text("/id_token"), 0)["kid"], part(&tokens.text("/id_token"), 0)["kid"]);
}
