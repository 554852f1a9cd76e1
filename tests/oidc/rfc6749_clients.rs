//! RFC 6749: how clients authenticate, and what they get by themselves.

use axum::http::header;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::relying_party::{Client, acme, post, refused};

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

/// "The client identifier is encoded using the 'application/x-www-form-urlencoded' encoding algorithm [...] and the encoded
/// value is used as the username."
#[tokio::test]
async fn rfc6749_2_3_1_id_and_secret_are_form_encoded_in_basic() {
    let app = acme().await;
    let client = Client::machine(&app).await;
    let secret = client.secret.clone().unwrap();
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    let all_escaped = basic(&escaped(&client.id), &escaped(&secret));
    post(&app, "/oauth2/token", &[GRANT], Some(&all_escaped)).await.expect(200);
    for wrong in [basic(&client.id, &format!("{secret}&x")), basic(&format!("{}&x", client.id), &secret)] {
        refused(&post(&app, "/oauth2/token", &[GRANT], Some(&wrong)).await, 401, "invalid_client");
    }
}

/// "The authorization server MUST support the HTTP Basic authentication scheme"; "MAY support including the client
/// credentials in the request-body".
#[tokio::test]
async fn rfc6749_2_3_1_basic_and_the_body_both_work_where_no_method_was_registered() {
    let app = acme().await;
    let client = Client::machine(&app).await;
    let in_body = [GRANT, ("client_id", &*client.id), ("client_secret", client.secret.as_deref().unwrap())];
    post(&app, "/oauth2/token", &in_body, None).await.expect(200);
    client.token(&[GRANT]).await.expect(200);
}

/// RFC 7591 section 2: `token_endpoint_auth_method` is the "requested authentication method for the token endpoint". Who
/// registered one is let in by no other.
#[tokio::test]
async fn rfc6749_2_3_a_registered_method_is_the_only_one() {
    let app = acme().await;
    let owner = app.owner_of("Acme").await;
    for method in ["client_secret_basic", "client_secret_post"] {
        let made = owner.post("/v1/clients", json!({"token_endpoint_auth_method": method})).await.expect(201);
        assert_eq!(made.text("/token_endpoint_auth_method"), method);
        let (id, secret) = (made.text("/client_id"), made.text("/client_secret"));
        let by_basic = post(&app, "/oauth2/token", &[GRANT], Some(&basic(&id, &secret))).await;
        let in_body = [GRANT, ("client_id", &*id), ("client_secret", &*secret)];
        let by_body = post(&app, "/oauth2/token", &in_body, None).await;
        let (good, bad) = if method == "client_secret_basic" { (by_basic, by_body) } else { (by_body, by_basic) };
        good.expect(200);
        refused(&bad, 401, "invalid_client");
    }
}

/// "The client MUST NOT use more than one authentication method in each request."
#[tokio::test]
async fn rfc6749_2_3_two_ways_at_once_are_refused() {
    let app = acme().await;
    let client = Client::machine(&app).await;
    let secret = client.secret.clone().unwrap();
    refused(&client.token(&[GRANT, ("client_secret", &secret)]).await, 400, "invalid_request");
    refused(&client.token(&[GRANT, ("client_id", "another")]).await, 400, "invalid_request");
    client.token(&[GRANT, ("client_id", &client.id)]).await.expect(200);
}

/// "If the client attempted to authenticate via the "Authorization" request header field, the authorization server MUST
/// respond with an HTTP 401 (Unauthorized) status code and include the "WWW-Authenticate" response header field matching
/// the authentication scheme used by the client."
#[tokio::test]
async fn rfc6749_5_2_a_wrong_secret_gets_401_and_a_challenge_at_every_endpoint() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let wrong = basic(&client.id, "wrong");
    for path in ["token", "introspect", "revoke", "par", "device_authorization"] {
        let fields = [GRANT, ("token", "x")];
        let reply = post(&app, &format!("/oauth2/{path}"), &fields, Some(&wrong)).await;
        refused(&reply, 401, "invalid_client");
        assert_eq!(reply.headers[header::WWW_AUTHENTICATE], "Basic realm=\"tollgate\"", "{path}");
    }
}

/// "unsupported_grant_type", "invalid_request", "invalid_client", in this order of what is looked at.
#[tokio::test]
async fn rfc6749_5_2_each_error_has_its_code() {
    let app = acme().await;
    let client = Client::machine(&app).await;
    refused(&client.token(&[]).await, 400, "invalid_request");
    for grant in ["password", "implicit", "urn:ietf:params:oauth:grant-type:jwt-bearer"] {
        refused(&client.token(&[("grant_type", grant)]).await, 400, "unsupported_grant_type");
    }
    refused(&client.token(&[("grant_type", "authorization_code")]).await, 400, "invalid_request");
    refused(&client.token(&[("grant_type", "authorization_code"), ("code", "x")]).await, 400, "unauthorized_client");
    refused(&post(&app, "/oauth2/token", &[GRANT], None).await, 401, "invalid_client");
}

/// "The client credentials grant type MUST only be used by confidential clients." and "A refresh token SHOULD NOT be
/// included."
#[tokio::test]
async fn rfc6749_4_4_machines_have_secrets_and_no_refresh_tokens() {
    let app = acme().await;
    let client = Client::machine(&app).await;
    let reply = client.token(&[GRANT]).await.expect(200);
    assert!(reply.body.get("refresh_token").is_none() && reply.body.get("id_token").is_none());
    let body = json!({"grant_types": ["client_credentials"], "token_endpoint_auth_method": "none"});
    app.owner_of("Acme").await.post("/v1/clients", body).await.refuses(422, &["grant_types"]);
    refused(&Client::public(&app).await.token(&[GRANT]).await, 400, "unauthorized_client");
}

/// A NUL is in no grammar of RFC 6749 appendix A, and one of the stores does not take it.
#[tokio::test]
async fn rfc6749_a_a_nul_is_in_no_parameter() {
    let app = acme().await;
    let client = Client::web(&app).await;
    for path in ["token", "introspect", "revoke", "par"] {
        let reply = client.post(&format!("/oauth2/{path}"), &[("token", "a\0b"), GRANT]).await;
        refused(&reply, 400, "invalid_request");
    }
    let browser = crate::browser::Browser::new(&app);
    browser.get(&client.request(&[("nonce", "a\0b")])).await.expect(400);
}
