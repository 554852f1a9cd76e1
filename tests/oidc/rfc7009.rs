//! RFC 7009, Token Revocation.

use serde_json::json;

use crate::{
    relying_party::{Client, acme, opens, owner, post, refused},
    support::actors::PASSWORD,
};

/// "the authorization server [...] verifies whether the token was issued to the client making the revocation request. If this
/// validation fails, the request is refused": here it does nothing, and says no more than of an unknown token.
#[tokio::test]
async fn rfc7009_2_1_a_client_withdraws_its_own_tokens_alone() {
    let app = acme().await;
    let (own, other) = (Client::web(&app).await, Client::web(&app).await);
    let tokens = own.tokens(&[]).await;
    for name in ["access_token", "refresh_token"] {
        other.post("/oauth2/revoke", &[("token", &tokens.text(&format!("/{name}")))]).await.expect(200);
    }
    assert!(opens(&app, &tokens.text("/access_token")).await);
    own.refresh(&tokens.text("/refresh_token"), &[]).await.expect(200);
}

/// "If the particular token is a refresh token and the authorization server supports the revocation of access tokens, then the
/// authorization server SHOULD also invalidate all access tokens based on the same authorization grant."
#[tokio::test]
async fn rfc7009_2_1_with_a_refresh_token_its_access_tokens_die() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let first = client.tokens(&[]).await;
    let second = client.refresh(&first.text("/refresh_token"), &[]).await.expect(200);
    client.post("/oauth2/revoke", &[("token", &second.text("/refresh_token"))]).await.expect(200);
    for tokens in [&first, &second] {
        assert!(!opens(&app, &tokens.text("/access_token")).await);
        refused(&client.refresh(&tokens.text("/refresh_token"), &[]).await, 400, "invalid_grant");
    }
}

/// "If the token passed to the request is an access token, the server MAY revoke the respective refresh token as well."
#[tokio::test]
async fn rfc7009_2_1_with_an_access_token_its_session_ends() {
    let app = acme().await;
    let client = Client::public(&app).await;
    let tokens = client.tokens(&[]).await;
    client.post("/oauth2/revoke", &[("token", &tokens.text("/access_token"))]).await.expect(200);
    assert!(!opens(&app, &tokens.text("/access_token")).await);
    refused(&client.refresh(&tokens.text("/refresh_token"), &[]).await, 400, "invalid_grant");
}

/// A machine's token has no session: it alone dies.
#[tokio::test]
async fn rfc7009_2_1_a_machines_token_dies_alone() {
    let app = acme().await;
    let client = Client::machine(&app).await;
    let token = async || client.token(&[("grant_type", "client_credentials")]).await.expect(200).text("/access_token");
    let (one, two) = (token().await, token().await);
    client.post("/oauth2/revoke", &[("token", &one)]).await.expect(200);
    assert!(!opens(&app, &one).await && opens(&app, &two).await);
}

/// "invalid tokens do not cause an error response since the client cannot handle such an error in a reasonable way."
#[tokio::test]
async fn rfc7009_2_2_an_unknown_token_is_as_good_as_withdrawn() {
    let app = acme().await;
    let client = Client::web(&app).await;
    for token in ["garbage", "a.b.c", "é"] {
        let reply =
            client.post("/oauth2/revoke", &[("token", token), ("token_type_hint", "nonsense")]).await.expect(200);
        assert_eq!(reply.body, "");
    }
    refused(&client.post("/oauth2/revoke", &[]).await, 400, "invalid_request");
}

/// "The authorization server first validates the client credentials (in case of a confidential client)".
#[tokio::test]
async fn rfc7009_2_1_nobody_withdraws_without_saying_who_they_are() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let token = client.tokens(&[]).await.text("/access_token");
    refused(&post(&app, "/oauth2/revoke", &[("token", &token)], None).await, 401, "invalid_client");
    let named = [("token", &*token), ("client_id", &*client.id)];
    refused(&post(&app, "/oauth2/revoke", &named, None).await, 401, "invalid_client");
    assert!(opens(&app, &token).await);
}

/// Our own client is a public one: who signed in with us directly signs out so.
#[tokio::test]
async fn rfc7009_2_1_a_direct_sign_in_ends_by_its_refresh_token() {
    let app = acme().await;
    let login = app.anon().post("/v1/login", json!({"email": owner(), "password": PASSWORD})).await.expect(200);
    let fields = [("token", &*login.text("/refresh_token")), ("client_id", "tollgate")];
    post(&app, "/oauth2/revoke", &fields, None).await.expect(200);
    assert!(!opens(&app, &login.text("/access_token")).await);
}
