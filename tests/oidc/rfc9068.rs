//! RFC 9068, JWT Profile for OAuth 2.0 Access Tokens.

use std::collections::BTreeSet;

use crate::{
    browser::ISSUER,
    relying_party::{Client, acme, claims, opens, part},
};

/// "JWT access tokens MUST include this media type in the "typ" header parameter": at+jwt. "The data structure MUST be signed."
#[tokio::test]
async fn rfc9068_2_1_the_header_says_what_it_is() {
    let app = acme().await;
    let token = Client::web(&app).await.tokens(&[]).await.text("/access_token");
    let header = part(&token, 0);
    assert_eq!((&header["typ"], &header["alg"]), (&"at+jwt".into(), &"ES256".into()));
    let jwks = app.anon().get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(header["kid"], jwks.body["keys"][0]["kid"]);
}

/// "iss, exp, aud, sub, client_id, iat, jti: REQUIRED"; "scope" where it was asked for; and ours.
#[tokio::test]
async fn rfc9068_2_2_every_claim_is_there() {
    let app = acme().await;
    let tokens = Client::web(&app).await.tokens(&[]).await;
    let claims = claims(&tokens, "access_token");
    let names: BTreeSet<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["aud", "client_id", "exp", "iat", "iss", "jti", "roles", "scope", "sid", "sub", "tenant_id"];
    assert_eq!(names, BTreeSet::from(expected));
    assert_eq!((&claims["iss"], &claims["aud"]), (&ISSUER.into(), &ISSUER.into()));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    assert_eq!(claims["scope"], "openid usage:read offline_access");
}

/// "In cases of access tokens obtained through grants where no resource owner is involved, such as the client credentials
/// grant, the value of "sub" SHOULD correspond to an identifier the authorization server uses to indicate the client."
#[tokio::test]
async fn rfc9068_2_2_a_machine_is_its_own_subject() {
    let app = acme().await;
    let client = Client::machine(&app).await;
    let token = claims(&client.token(&[("grant_type", "client_credentials")]).await.expect(200), "access_token");
    assert_eq!((&token["sub"], &token["client_id"]), (&client.id.as_str().into(), &client.id.as_str().into()));
    assert!(token.get("sid").is_none() && token.get("roles").is_none());
}

/// "If the request does not include a "resource" parameter, the authorization server MUST use a default resource indicator in
/// the "aud" claim": RFC 8707 is not offered, so that every token is for this server.
#[tokio::test]
async fn rfc9068_3_a_resource_changes_no_audience() {
    let app = acme().await;
    let tokens = Client::web(&app).await.tokens(&[("resource", "https://api.example/")]).await;
    assert_eq!(claims(&tokens, "access_token")["aud"], ISSUER);
    assert!(opens(&app, &tokens.text("/access_token")).await);
}

/// "the resource server MUST verify that the "typ" header value is "at+jwt" or "application/at+jwt" and reject tokens carrying
/// any other value": an ID token is no access token.
#[tokio::test]
async fn rfc9068_4_an_id_token_opens_nothing() {
    let app = acme().await;
    let tokens = Client::web(&app).await.tokens(&[]).await;
    assert!(opens(&app, &tokens.text("/access_token")).await);
    assert!(!opens(&app, &tokens.text("/id_token")).await);
    assert!(!opens(&app, &tokens.text("/refresh_token")).await);
}
