//! RFC 9207, OAuth 2.0 Authorization Server Issuer Identification.

use crate::{
    browser::{Browser, ISSUER, form_of, location, param},
    relying_party::{Client, acme, owner},
};

/// "the authorization server MUST indicate its identity by including the "iss" parameter in authorization responses, [...]
/// including error responses."
#[tokio::test]
async fn rfc9207_2_every_answer_says_who_gives_it() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let nobody = Browser::new(&app);
    let mut answers = Vec::new();
    for bad in [
        ("response_type", "token"),
        ("scope", "x"),
        ("prompt", "none"),
        ("code_challenge_method", "plain"),
        ("request", "x"),
    ] {
        answers.push(location(&nobody.get(&client.request(&[bad])).await));
    }
    let browser = Browser::signed_in(&app, &owner()).await;
    answers.push(location(&browser.get(&client.request(&[("prompt", "none")])).await));
    answers.push(client.authorize(&browser, &[]).await);
    let page = browser.get(&client.request(&[("prompt", "consent")])).await.expect(200);
    answers.push(location(&browser.submit(&form_of(&page), Some(("decision", "deny"))).await));
    for answer in answers {
        assert_eq!(param(&answer, "iss").unwrap(), ISSUER, "{answer}");
        assert_eq!(answer.query_pairs().filter(|(name, _)| name == "iss").count(), 1);
    }
}

/// "This value MUST be the authorization server's "issuer" as in its metadata."
#[tokio::test]
async fn rfc9207_2_it_is_the_issuer_of_discovery_and_of_tokens() {
    let app = acme().await;
    let tokens = Client::web(&app).await.tokens(&[]).await;
    let discovery = app.anon().get("/.well-known/openid-configuration").await.expect(200);
    assert_eq!(discovery.text("/issuer"), ISSUER);
    for name in ["access_token", "id_token"] {
        assert_eq!(crate::relying_party::claims(&tokens, name)["iss"], ISSUER);
    }
}
