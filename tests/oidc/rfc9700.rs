//! RFC 9700, Best Current Practice for OAuth 2.0 Security.

use serde_json::json;

use crate::{
    browser::{Browser, location, param},
    relying_party::{CHALLENGE, Client, acme, error_in, opens, owner, refused},
};

/// "authorization servers MUST utilize exact string matching except for port numbers in "localhost" redirection URIs of native
/// apps" (here by address, as RFC 8252 section 8.3 advises).
#[tokio::test]
async fn rfc9700_2_1_redirect_uris_are_compared_as_text() {
    let app = acme().await;
    let registered = json!({"redirect_uris": ["https://app.example/cb", "http://127.0.0.1/cb", "http://[::1]:1/cb"]});
    let client = Client::web_with(&app, registered).await;
    let browser = Browser::new(&app);
    for (given, good) in [
        ("https://app.example/cb", true),
        ("http://127.0.0.1:4711/cb", true),
        ("http://[::1]:65535/cb", true),
        ("https://app.example:443/cb", false),
        ("https://APP.example/cb", false),
        ("https://app.example/CB", false),
        ("https://app.example/cb#fragment", false),
        ("https://app.example/cb/../cb", false),
        ("https://app.example/%63b", false),
        ("https://app.example/cb\u{200b}", false),
        ("https://app.exаmple/cb", false),
        ("https://app.example@evil.example/cb", false),
        ("https://evil.example/https://app.example/cb", false),
        ("https://app.example.evil.example/cb", false),
        ("https://app.example\\.evil.example/cb", false),
        ("http://127.0.0.1:80@evil.example/cb", false),
        ("http://127.0.0.1:4711/x/../cb", false),
        ("http://127.0.0.2/cb", false),
        ("http://localhost/cb", false),
        ("//app.example/cb", false),
        (" https://app.example/cb", false),
    ] {
        let reply = browser.get(&client.request(&[("redirect_uri", given)])).await;
        assert_eq!(reply.status, if good { 303 } else { 400 }, "{given}");
    }
}

/// "authorization servers MUST ensure that if there was no "code_challenge" in the authorization request, a request to the token
/// endpoint containing a "code_verifier" is rejected."
#[tokio::test]
async fn rfc9700_4_8_2_a_verifier_without_a_challenge_is_refused() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let none = [("code_challenge", ""), ("code_challenge_method", "")];
    let code = client.code(&browser, &none).await;
    refused(&client.redeem(&code).await, 400, "invalid_grant");
    client.redeem_with(&code, &[("code_verifier", "")]).await.expect(200);
}

/// "Authorization servers MUST mitigate PKCE downgrade attacks": a code whose request had a challenge needs the verifier.
#[tokio::test]
async fn rfc9700_2_1_1_a_challenge_cannot_be_taken_back() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let code = client.code(&browser, &[]).await;
    refused(&client.redeem_with(&code, &[("code_verifier", "")]).await, 400, "invalid_grant");
}

/// "The implicit grant [...] clients SHOULD NOT use"; "The resource owner password credentials grant MUST NOT be used."
#[tokio::test]
async fn rfc9700_2_1_2_neither_implicit_nor_password() {
    let app = acme().await;
    let client = Client::web(&app).await;
    for response_type in ["token", "id_token", "id_token token", "code token"] {
        let target = location(&Browser::new(&app).get(&client.request(&[("response_type", response_type)])).await);
        assert_eq!(error_in(&target), "unsupported_response_type");
    }
    let password = [("grant_type", "password"), ("username", &*owner()), ("password", "x")];
    refused(&client.token(&password).await, 400, "unsupported_grant_type");
}

/// "refresh token rotation: [...] If a refresh token is compromised and subsequently used by both the attacker and the
/// legitimate client, one of them will present an invalidated refresh token, which will inform the authorization server of the
/// breach. The authorization server [...] will revoke the active refresh token."
#[tokio::test]
async fn rfc9700_4_14_2_reuse_of_a_refresh_token_ends_its_family() {
    let app = acme().await;
    for client in [Client::web(&app).await, Client::public(&app).await] {
        let first = client.tokens(&[]).await;
        let second = client.refresh(&first.text("/refresh_token"), &[]).await.expect(200);
        app.clock.advance_secs(10);
        let race = client.refresh(&first.text("/refresh_token"), &[]).await.expect(200);
        app.clock.advance_secs(1);
        refused(&client.refresh(&first.text("/refresh_token"), &[]).await, 400, "invalid_grant");
        for tokens in [&first, &second, &race] {
            assert!(!opens(&app, &tokens.text("/access_token")).await);
            refused(&client.refresh(&tokens.text("/refresh_token"), &[]).await, 400, "invalid_grant");
        }
    }
}

/// "Authorization servers MUST prevent clickjacking attacks": CSP level 2 and, for old browsers, X-Frame-Options.
#[tokio::test]
async fn rfc9700_4_16_no_page_is_framed() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    for path in [&*client.request(&[]), "/login", "/device", "/oauth2/logout", "/oauth2/authorize"] {
        let page = browser.get(path).await;
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(page.headers["x-frame-options"], "DENY");
        assert_eq!(page.headers["referrer-policy"], "same-origin");
    }
}

/// "Authorization servers MUST NOT use HTTP 307 redirects": section 4.12, 303 is.
#[tokio::test]
async fn rfc9700_4_12_redirections_are_303() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::new(&app);
    assert_eq!(browser.get(&client.request(&[])).await.status, 303);
    let page = browser.get("/login").await.expect(200);
    assert_eq!(browser.submit_sign_in(&page, &owner()).await.status, 303);
}

/// RFC 8252 section 8.6, RFC 6749 section 10.2: without a secret, and with an answer that any program of the machine could
/// take, a person is asked each time.
#[tokio::test]
async fn rfc9700_4_15_a_client_whose_identity_is_not_assured_is_allowed_anew_each_time() {
    let app = acme().await;
    let native = Client::web_with(
        &app,
        json!({"token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/cb", "https://app.example/cb"]}),
    )
    .await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let loopback = [("redirect_uri", "http://127.0.0.1:4711/cb"), ("code_challenge", CHALLENGE)];
    native.code(&browser, &loopback).await;
    browser.get(&native.request(&loopback)).await.expect(200);
    let silent = [loopback[0], loopback[1], ("prompt", "none")];
    assert_eq!(error_in(&location(&browser.get(&native.request(&silent)).await)), "consent_required");
    // By https the answer goes to its own address: once is enough.
    assert!(param(&location(&browser.get(&native.request(&[])).await), "code").is_some());
}
