//! RFC 6750, Bearer Token Usage, at the userinfo endpoint and at the gateway.

use axum::{
    body::Body,
    http::{Method, Request, header},
};

use crate::relying_party::{Client, acme, bearer, post, refused};

async fn userinfo(app: &crate::support::app::TestApp, authorization: &[&str]) -> crate::support::app::Reply {
    let mut request = Request::get("/oauth2/userinfo");
    for value in authorization {
        request = request.header(header::AUTHORIZATION, *value);
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

/// "When sending the access token in the "Authorization" request header field [...] Clients SHOULD make authenticated
/// requests with a bearer token using the "Authorization" request header field with the "Bearer" HTTP authorization scheme."
#[tokio::test]
async fn rfc6750_2_1_the_token_comes_in_the_authorization_header() {
    let app = acme().await;
    let token = Client::web(&app).await.tokens(&[]).await.text("/access_token");
    for scheme in ["Bearer", "bearer", "BEARER"] {
        userinfo(&app, &[&format!("{scheme} {token}")]).await.expect(200);
    }
}

/// "the client adds the access token to the request-body using the "access_token" parameter."
#[tokio::test]
async fn rfc6750_2_2_the_token_may_come_in_the_form_of_a_post() {
    let app = acme().await;
    let token = Client::web(&app).await.tokens(&[]).await.text("/access_token");
    post(&app, "/oauth2/userinfo", &[("access_token", &token)], None).await.expect(200);
    post(&app, "/oauth2/userinfo", &[], Some(&format!("Bearer {token}"))).await.expect(200);
    app.call(Method::POST, "/oauth2/userinfo", &token, serde_json::Value::Null).await.expect(200);
    refused(&post(&app, "/oauth2/userinfo", &[("access_token", "x")], None).await, 401, "invalid_token");
}

/// "Clients MUST NOT use more than one method to transmit the token in each request."
#[tokio::test]
async fn rfc6750_2_a_token_sent_in_two_ways_is_refused() {
    let app = acme().await;
    let token = Client::web(&app).await.tokens(&[]).await.text("/access_token");
    let both = post(&app, "/oauth2/userinfo", &[("access_token", &token)], Some(&format!("Bearer {token}"))).await;
    let header = format!("Bearer {token}");
    let twice = userinfo(&app, &[&header, &header]).await;
    let in_form = post(&app, "/oauth2/userinfo", &[("access_token", "x"), ("access_token", "y")], None).await;
    for reply in [both, twice, in_form] {
        refused(&reply, 400, "invalid_request");
        // Section 3.1: "When a request fails, the resource server responds using the appropriate HTTP status code [...] and
        // includes one of the following error codes in the response".
        let challenge = reply.headers[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.starts_with("Bearer ") && challenge.contains("error=\"invalid_request\""), "{challenge}");
    }
}

/// Section 2.3, the URI query, "SHOULD NOT be used": it is not.
#[tokio::test]
async fn rfc6750_2_3_no_token_is_taken_from_an_address() {
    let app = acme().await;
    let token = Client::web(&app).await.tokens(&[]).await.text("/access_token");
    app.anon().get(&format!("/oauth2/userinfo?access_token={token}")).await.expect(401);
    app.anon().get(&format!("/sample/hello?access_token={token}")).await.expect(401);
}

/// "If the request lacks any authentication information [...] the resource server SHOULD NOT include an error code or other
/// error information."
#[tokio::test]
async fn rfc6750_3_1_without_a_token_the_challenge_names_no_error() {
    let app = acme().await;
    for reply in [userinfo(&app, &[]).await, post(&app, "/oauth2/userinfo", &[], None).await] {
        assert_eq!(reply.status, 401);
        assert_eq!(reply.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"tollgate\"");
        assert_eq!(reply.body, "", "nothing is said of an error");
    }
}

/// "invalid_token: The access token provided is expired, revoked, malformed, or invalid for other reasons. The resource SHOULD
/// respond with the HTTP 401 (Unauthorized) status code."
#[tokio::test]
async fn rfc6750_3_1_a_bad_token_gets_401_and_says_so() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let tokens = client.tokens(&[]).await;
    client.post("/oauth2/revoke", &[("token", &tokens.text("/access_token"))]).await.expect(200);
    for token in ["garbage", &tokens.text("/access_token"), &tokens.text("/id_token"), &tokens.text("/refresh_token")] {
        let reply = userinfo(&app, &[&format!("Bearer {token}")]).await;
        refused(&reply, 401, "invalid_token");
        let challenge = reply.headers[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.starts_with("Bearer ") && challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
}

/// "insufficient_scope [...] SHOULD respond with the HTTP 403 (Forbidden) status code and MAY include the "scope" attribute."
#[tokio::test]
async fn rfc6750_3_1_too_little_scope_gets_403_and_says_which() {
    let app = acme().await;
    let tokens = Client::web(&app).await.tokens(&[("scope", "usage:read")]).await;
    let reply = userinfo(&app, &[&format!("Bearer {}", tokens.text("/access_token"))]).await;
    refused(&reply, 403, "insufficient_scope");
    let challenge = reply.headers[header::WWW_AUTHENTICATE].to_str().unwrap();
    assert!(
        challenge.contains("error=\"insufficient_scope\"") && challenge.contains("scope=\"openid\""),
        "{challenge}"
    );
}

/// What a client's token may do is its scope, and no role of its user's.
#[tokio::test]
async fn rfc6750_5_2_a_clients_token_does_not_do_what_its_users_role_could() {
    let app = acme().await;
    let tokens = Client::web(&app).await.tokens(&[]).await;
    let of_client = bearer(&app, &tokens);
    of_client.get("/v1/usage").await.expect(200);
    of_client.get("/v1/users").await.refuses(403, &[]);
    of_client.get("/v1/clients").await.refuses(403, &[]);
    app.owner_of("Acme").await.get("/v1/users").await.expect(200);
}
