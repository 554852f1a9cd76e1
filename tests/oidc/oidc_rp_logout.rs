//! `OpenID` Connect RP-Initiated Logout 1.0.

use axum::http::{Method, header};
use serde_json::json;

use crate::{
    browser::{Browser, encoded, form_of, location, param},
    relying_party::{Client, Fields, acme, opens, owner, refused},
    support::app::{Reply, TestApp},
};

const BYE: &str = "https://app.example/bye?from=shop";

async fn shop(app: &TestApp) -> Client<'_> {
    Client::web_with(app, json!({"post_logout_redirect_uris": [BYE]})).await
}

fn logout(fields: Fields<'_>) -> String {
    format!("/oauth2/logout?{}", encoded(fields))
}

/// A browser, and what a client got in it.
async fn signed_in<'a>(client: &Client<'a>) -> (Browser<'a>, Reply) {
    let browser = Browser::signed_in(client.app, &owner()).await;
    let code = client.code(&browser, &[]).await;
    let tokens = client.redeem(&code).await.expect(200);
    (browser, tokens)
}

async fn assert_over(client: &Client<'_>, browser: &Browser<'_>, tokens: &Reply) {
    assert!(!browser.has_cookie());
    assert_eq!(location(&browser.get(&client.request(&[])).await).path(), "/login");
    assert!(!opens(client.app, &tokens.text("/access_token")).await);
    refused(&client.refresh(&tokens.text("/refresh_token"), &[]).await, 400, "invalid_grant");
}

/// "OpenID Providers MUST support the use of the HTTP GET and POST methods [...] at the Logout Endpoint."
#[tokio::test]
async fn oidc_rp_logout_2_a_sign_out_by_get_and_by_post_ends_everything() {
    let app = acme().await;
    let (client, other) = (shop(&app).await, shop(&app).await);
    for method in [Method::GET, Method::POST] {
        let (browser, tokens) = signed_in(&client).await;
        let code = other.code(&browser, &[]).await;
        let elsewhere = other.redeem(&code).await.expect(200);
        let (untouched, of_untouched) = signed_in(&client).await;
        let id_token = tokens.text("/id_token");
        let fields = [("id_token_hint", &*id_token), ("post_logout_redirect_uri", BYE), ("state", "s t&")];
        let reply = if method == Method::GET {
            browser.get(&logout(&fields)).await
        } else {
            let cross = [("origin", "https://app.example"), ("sec-fetch-site", "cross-site")];
            browser.request(Method::POST, "/oauth2/logout", Some(encoded(&fields)), &cross).await
        };
        let target = location(&reply);
        assert!(target.as_str().starts_with(BYE), "{target}");
        assert_eq!(param(&target, "state").unwrap(), "s t&");
        assert_over(&client, &browser, &tokens).await;
        assert!(!opens(&app, &elsewhere.text("/access_token")).await, "what another client got in this browser");
        assert!(untouched.has_cookie() && opens(&app, &of_untouched.text("/access_token")).await, "another browser");
    }
}

/// "the OP SHOULD accept ID Tokens when the RP identified by the ID Token's aud claim and/or sid claim has a current session or
/// had a recent session at the OP, even when the exp time has passed."
#[tokio::test]
async fn oidc_rp_logout_2_an_expired_hint_will_do() {
    let app = acme().await;
    let client = shop(&app).await;
    let (browser, tokens) = signed_in(&client).await;
    app.clock.advance_secs(3_600);
    browser.get(&logout(&[("id_token_hint", &tokens.text("/id_token"))])).await.expect(200);
    assert_over(&client, &browser, &tokens).await;
}

/// "At the Logout Endpoint, the OP SHOULD ask the End-User whether to log out of the OP as well. [...] the OP MUST ask the
/// End-User this question if an id_token_hint was not provided or if the supplied ID Token does not belong to the current OP
/// session".
#[tokio::test]
async fn oidc_rp_logout_2_without_a_hint_of_their_own_a_person_is_asked() {
    let app = acme().await;
    let member = json!({"email": "ann@acme.example", "role": "member", "password": crate::support::actors::PASSWORD});
    app.owner_of("Acme").await.post("/v1/users", member).await.expect(201);
    let client = shop(&app).await;
    let (browser, tokens) = signed_in(&client).await;
    let ann = Browser::signed_in(&app, "ann@acme.example").await;
    let code = client.code(&ann, &[]).await;
    let of_ann = client.redeem(&code).await.expect(200).text("/id_token");
    for fields in
        [&[][..], &[("client_id", &*client.id), ("post_logout_redirect_uri", BYE)], &[("id_token_hint", &*of_ann)]]
    {
        let page = browser.get(&logout(fields)).await.expect(200);
        let form = form_of(&page);
        browser.submit(&form, Some(("decision", "stay"))).await.expect(200);
        assert!(browser.has_cookie() && opens(&app, &tokens.text("/access_token")).await, "{fields:?}");
    }
    let page = browser.get(&logout(&[("client_id", &client.id), ("post_logout_redirect_uri", BYE)])).await.expect(200);
    let reply = browser.submit(&form_of(&page), Some(("decision", "sign_out"))).await;
    assert_eq!(location(&reply).as_str(), BYE);
    assert_over(&client, &browser, &tokens).await;
}

/// The answer to the question comes from our own page, made for this browser.
#[tokio::test]
async fn oidc_rp_logout_2_no_other_site_answers_for_a_person() {
    let app = acme().await;
    let client = shop(&app).await;
    let (browser, tokens) = signed_in(&client).await;
    let form = form_of(&browser.get("/oauth2/logout").await.expect(200));
    let token = form.value("form_token").unwrap().to_owned();
    browser.get(&logout(&[("decision", "sign_out"), ("form_token", &token)])).await.expect(200);
    let fields = encoded(&[("decision", "sign_out"), ("form_token", &*token)]);
    let cross = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    browser.request(Method::POST, "/oauth2/logout", Some(fields), &cross).await.expect(403);
    let guessed = encoded(&[("decision", "sign_out"), ("form_token", "guess")]);
    browser.request(Method::POST, "/oauth2/logout", Some(guessed), &[]).await.expect(403);
    assert!(browser.has_cookie() && opens(&app, &tokens.text("/access_token")).await);
}

/// "the value [...] MUST have been previously registered with the OP"; "the OP MUST NOT perform post-logout redirection if the
/// post_logout_redirect_uri value supplied does not exactly match".
#[tokio::test]
async fn oidc_rp_logout_3_nobody_is_led_to_an_address_that_is_not_registered() {
    let app = acme().await;
    let client = shop(&app).await;
    let (browser, tokens) = signed_in(&client).await;
    let id_token = tokens.text("/id_token");
    for bad in [
        "https://evil.example/",
        "https://app.example/bye",
        "https://app.example/cb",
        &format!("{BYE}#x"),
        "//evil.example",
    ] {
        let fields = [("id_token_hint", &*id_token), ("post_logout_redirect_uri", bad)];
        let page = browser.get(&logout(&fields)).await.expect(400);
        assert!(page.headers.get(header::LOCATION).is_none(), "{bad}");
        browser.get(&logout(&[("post_logout_redirect_uri", bad)])).await.expect(400);
    }
    browser.get(&logout(&[("post_logout_redirect_uri", BYE)])).await.expect(400);
    assert!(browser.has_cookie());
}

/// "If both client_id and id_token_hint are included in the logout request, the OP MUST verify that the client_id value matches".
#[tokio::test]
async fn oidc_rp_logout_2_client_and_hint_must_agree() {
    let app = acme().await;
    let (client, other) = (shop(&app).await, shop(&app).await);
    let (browser, tokens) = signed_in(&client).await;
    let id_token = tokens.text("/id_token");
    browser.get(&logout(&[("id_token_hint", &id_token), ("client_id", &other.id)])).await.expect(400);
    assert!(browser.has_cookie());
    browser.get(&logout(&[("id_token_hint", &id_token), ("client_id", &client.id)])).await.expect(200);
    assert!(!browser.has_cookie());
}

/// "the OP MUST validate that it was the issuer of the ID Token": anything else is none of ours.
#[tokio::test]
async fn oidc_rp_logout_4_what_is_no_id_token_of_ours_signs_nobody_out() {
    let app = acme().await;
    let client = shop(&app).await;
    let (browser, tokens) = signed_in(&client).await;
    let id_token = tokens.text("/id_token");
    let unsigned = format!("{}.", id_token.rsplit_once('.').unwrap().0);
    for bad in ["garbage", "a.b.c", &unsigned, &tokens.text("/access_token"), &tokens.text("/refresh_token")] {
        browser.get(&logout(&[("id_token_hint", bad)])).await.expect(400);
    }
    assert!(browser.has_cookie() && opens(&app, &tokens.text("/access_token")).await);
}

/// With nobody signed in the hint's own sign-in ends, and only a hint leads on.
#[tokio::test]
async fn oidc_rp_logout_2_without_a_browser_the_hinted_sign_in_ends() {
    let app = acme().await;
    let client = shop(&app).await;
    let (_, tokens) = signed_in(&client).await;
    let nobody = Browser::new(&app);
    let by_name = [("client_id", &*client.id), ("post_logout_redirect_uri", BYE)];
    assert!(nobody.get(&logout(&by_name)).await.expect(200).headers.get(header::LOCATION).is_none());
    assert!(opens(&app, &tokens.text("/access_token")).await);
    let id_token = tokens.text("/id_token");
    let hinted = [("id_token_hint", &*id_token), ("post_logout_redirect_uri", BYE)];
    assert_eq!(location(&nobody.get(&logout(&hinted)).await).as_str(), BYE);
    assert!(!opens(&app, &tokens.text("/access_token")).await);
    refused(&client.refresh(&tokens.text("/refresh_token"), &[]).await, 400, "invalid_grant");
    // Twice is as good as once.
    assert_eq!(location(&nobody.get(&logout(&hinted)).await).as_str(), BYE);
}
