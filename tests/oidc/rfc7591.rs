//! RFC 7591, OAuth 2.0 Dynamic Client Registration.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    relying_party::{CALLBACK, Client, acme, assert_stored_nowhere, refused},
    support::app::{Reply, TestApp},
};

const ADMIN: &str = "/admin/v1/clients/initial-access-tokens";

async fn initial_token(app: &TestApp, body: Value) -> Reply {
    app.admin().await.post(ADMIN, body).await.expect(201)
}

async fn register(app: &TestApp, token: &str, body: &Value) -> Reply {
    let mut request = Request::post("/oauth2/register").header(header::CONTENT_TYPE, "application/json");
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    app.send(request.body(Body::from(body.to_string())).unwrap()).await
}

fn minimal() -> Value {
    json!({"redirect_uris": [CALLBACK]})
}

/// "the registration endpoint MAY be an OAuth 2.0 protected resource and it accepts an initial access token": here it must be.
#[tokio::test]
async fn rfc7591_3_nobody_registers_without_an_initial_access_token() {
    let app = acme().await;
    let none = register(&app, "", &minimal()).await.expect(401);
    assert_eq!(none.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"tollgate\"");
    for token in ["made-up", &app.admin().await.token] {
        refused(&register(&app, token, &minimal()).await, 401, "invalid_token");
    }
}

/// An initial access token lets in as many as it says, until it expires or is deleted.
#[tokio::test]
async fn rfc7591_3_an_initial_access_token_has_uses_and_a_life() {
    let app = acme().await;
    let once = initial_token(&app, json!({})).await.text("/initial_access_token");
    refused(&register(&app, &once, &json!({})).await, 400, "invalid_redirect_uri");
    register(&app, &once, &minimal()).await.expect(201);
    refused(&register(&app, &once, &minimal()).await, 401, "invalid_token");
    let twice = initial_token(&app, json!({"uses": 2, "expires_in_s": 60})).await;
    let token = twice.text("/initial_access_token");
    register(&app, &token, &minimal()).await.expect(201);
    app.clock.advance_secs(60);
    refused(&register(&app, &token, &minimal()).await, 401, "invalid_token");
    let deleted = initial_token(&app, json!({"uses": 9})).await;
    let admin = app.admin().await;
    admin.delete(&format!("{ADMIN}/{}", deleted.text("/token_id"))).await.expect(204);
    refused(&register(&app, &deleted.text("/initial_access_token"), &minimal()).await, 401, "invalid_token");
    admin
        .post(ADMIN, json!({"uses": 0, "expires_in_s": 0, "tenant_id": "x"}))
        .await
        .refuses(422, &["tenant_id", "uses", "expires_in_s"]);
    admin.post(ADMIN, json!({"tenant_id": "01900000-0000-7000-8000-000000000000"})).await.refuses(404, &[]);
}

/// Ten at once with a token for three: three are let in.
#[tokio::test]
async fn rfc7591_3_uses_are_counted_under_concurrency() {
    let app = acme().await;
    let token = initial_token(&app, json!({"uses": 3})).await.text("/initial_access_token");
    let body = minimal();
    let replies = futures_util::future::join_all((0..10).map(|_| register(&app, &token, &body))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 3);
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        refused(reply, 401, "invalid_token");
    }
}

/// "The server responds with an HTTP 201 Created status code" with "client_id", "client_secret" and, if that was issued,
/// "client_secret_expires_at"; "the authorization server MUST return all registered metadata about this client".
#[tokio::test]
async fn rfc7591_3_2_1_everything_that_was_registered_comes_back() {
    let app = acme().await;
    let token = initial_token(&app, json!({})).await.text("/initial_access_token");
    let metadata = json!({
        "client_name": "Every field",
        "redirect_uris": [CALLBACK, "http://127.0.0.1/cb", "com.example.app:/cb"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_post",
        "scope": "openid usage:read",
        "id_token_signed_response_alg": "ES256",
        "post_logout_redirect_uris": ["https://app.example/bye"],
        "backchannel_logout_uri": "https://app.example/logout",
        "backchannel_logout_session_required": true,
        "require_pushed_authorization_requests": true,
        "default_max_age": 3600,
        "client_uri": "https://app.example/",
        "logo_uri": "https://app.example/logo.png",
        "policy_uri": "https://app.example/privacy",
        "tos_uri": "https://app.example/terms",
        "contacts": ["ops@app.example"],
    });
    let reply = register(&app, &token, &metadata).await.expect(201);
    assert_stored_nowhere(&reply.headers);
    for (name, value) in metadata.as_object().unwrap() {
        assert_eq!(&reply.body[name], value, "{name}");
    }
    assert!(reply.body["client_secret"].is_string() && reply.body["client_id"].is_string());
    assert_eq!(reply.body["client_secret_expires_at"], 0);
    assert!(reply.body["client_id_issued_at"].is_i64());
    let listed = app.admin().await.get("/admin/v1/clients").await.expect(200);
    assert_eq!(listed.text("/items/0/client_name"), "Every field");
    assert!(listed.body.pointer("/items/0/client_secret").is_none());
}

/// "grant_types: If omitted, the default behavior is that the client will use only the "authorization_code" Grant Type.";
/// "token_endpoint_auth_method: If unspecified or omitted, the default is "client_secret_basic"."
#[tokio::test]
async fn rfc7591_2_what_is_left_out_has_its_default() {
    let app = acme().await;
    let token = initial_token(&app, json!({"uses": 2})).await.text("/initial_access_token");
    let reply = register(&app, &token, &minimal()).await.expect(201);
    assert_eq!(reply.body["grant_types"], json!(["authorization_code"]));
    assert_eq!(reply.body["response_types"], json!(["code"]));
    assert_eq!(reply.body["token_endpoint_auth_method"], "client_secret_basic");
    let public = json!({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"});
    let public = register(&app, &token, &public).await.expect(201);
    assert!(public.body.get("client_secret").is_none() && public.body.get("client_secret_expires_at").is_none());
}

/// "The authorization server MUST ignore any client metadata sent by the client that it does not understand": and what only an
/// administrator may say.
#[tokio::test]
async fn rfc7591_2_unknown_metadata_are_ignored() {
    let app = acme().await;
    let tenant = app.tenant("Globex", "free").await;
    let token = initial_token(&app, json!({})).await.text("/initial_access_token");
    let body = json!({
        "redirect_uris": [CALLBACK],
        "application_type": "web",
        "software_id": "x",
        "client_name#fr": "Boutique",
        "client_id": "mine",
        "client_secret": "mine",
        "tenant_id": tenant,
        "skip_consent": true,
    });
    let reply = register(&app, &token, &body).await.expect(201);
    assert!(reply.body["client_id"] != "mine" && reply.body["client_secret"] != "mine");
    assert_eq!(reply.body["skip_consent"], false);
    assert!(reply.body.get("tenant_id").is_none() && reply.body.get("software_id").is_none());
}

/// "invalid_redirect_uri: The value of one or more redirection URIs is invalid."
#[tokio::test]
async fn rfc7591_3_2_2_a_bad_redirect_uri_is_refused() {
    let app = acme().await;
    let token = initial_token(&app, json!({})).await.text("/initial_access_token");
    for bad in [
        "",
        "/cb",
        "app.example/cb",
        "http://app.example/cb",
        "https://app.example/cb#x",
        "https://user:secret@app.example/cb",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://app.example/cb\n",
        "https://app.example/\u{0}",
        "https://exämple.example/",
        "http://127.0.0.1.evil.example/",
    ] {
        refused(&register(&app, &token, &json!({"redirect_uris": [bad]})).await, 400, "invalid_redirect_uri");
    }
    refused(&register(&app, &token, &json!({"redirect_uris": []})).await, 400, "invalid_redirect_uri");
    register(&app, &token, &minimal()).await.expect(201);
}

/// "invalid_client_metadata: The value of one of the client metadata fields is invalid".
#[tokio::test]
async fn rfc7591_3_2_2_bad_metadata_are_refused() {
    let app = acme().await;
    let token = initial_token(&app, json!({})).await.text("/initial_access_token");
    for (name, value) in [
        ("grant_types", json!(["implicit"])),
        ("grant_types", json!("authorization_code")),
        ("response_types", json!(["token"])),
        ("token_endpoint_auth_method", json!("private_key_jwt")),
        ("scope", json!("tollgate:admin")),
        ("scope", json!("openid  email")),
        ("id_token_signed_response_alg", json!("none")),
        ("id_token_signed_response_alg", json!("HS256")),
        ("post_logout_redirect_uris", json!(["http://app.example/"])),
        ("backchannel_logout_uri", json!("http://app.example/logout")),
        ("backchannel_logout_uri", json!("https://app.example/logout#x")),
        ("default_max_age", json!(-1)),
        ("client_uri", json!("http://app.example/")),
        ("logo_uri", json!("javascript:alert(1)")),
        ("contacts", json!(["x".repeat(201)])),
        ("client_name", json!("a\u{0}b")),
        ("client_name", json!("x".repeat(201))),
    ] {
        let mut body = minimal();
        body[name] = value.clone();
        let reply = register(&app, &token, &body).await;
        refused(&reply, 400, "invalid_client_metadata");
        assert!(reply.text("/error_description").contains(name) || !value.is_array(), "{name}: {}", reply.body);
    }
    for body in [json!([]), json!("x"), json!({"redirect_uris": [CALLBACK], "grant_types": ["client_credentials"]})] {
        refused(&register(&app, &token, &body).await, 400, "invalid_client_metadata");
    }
}

/// "unapproved_software_statement: The software statement presented is not approved for use by this authorization server."
#[tokio::test]
async fn rfc7591_3_2_2_no_software_statement_is_approved() {
    let app = acme().await;
    let token = initial_token(&app, json!({})).await.text("/initial_access_token");
    let mut body = minimal();
    body["software_statement"] = "a.b.c".into();
    refused(&register(&app, &token, &body).await, 400, "unapproved_software_statement");
}

/// A token that is bound to a tenant lets in that tenant's clients, and what was registered works.
#[tokio::test]
async fn rfc7591_3_a_registered_client_works_and_is_its_tenants() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    app.tenant("Globex", "standard").await;
    let token = initial_token(&app, json!({"tenant_id": tenant})).await.text("/initial_access_token");
    let body = json!({"redirect_uris": [CALLBACK], "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        "id_token_signed_response_alg": "ES256"});
    let made = register(&app, &token, &body).await.expect(201);
    assert_eq!(made.text("/tenant_id"), tenant);
    let client = Client { app: &app, id: made.text("/client_id"), secret: Some(made.text("/client_secret")) };
    client.token(&[("grant_type", "client_credentials"), ("scope", "usage:read")]).await.expect(200);
    client.tokens(&[]).await;
    let stranger = Browser::signed_in(&app, &crate::support::actors::email_of("Globex")).await;
    let target = crate::browser::location(&stranger.visit(&client.request(&[])).await);
    assert_eq!(crate::relying_party::error_in(&target), "access_denied");
}

/// While its tenant is suspended an initial access token lets nobody in, and there are none for one that is gone.
#[tokio::test]
async fn rfc7591_3_an_initial_access_token_is_worth_what_its_tenant_is() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let token = initial_token(&app, json!({"tenant_id": tenant, "uses": 9})).await.text("/initial_access_token");
    let admin = app.admin().await;
    admin.post(&format!("/admin/v1/tenants/{tenant}/suspend"), Value::Null).await.expect(200);
    refused(&register(&app, &token, &minimal()).await, 401, "invalid_token");
    admin.post(&format!("/admin/v1/tenants/{tenant}/activate"), Value::Null).await.expect(200);
    register(&app, &token, &minimal()).await.expect(201);
    admin.delete(&format!("/admin/v1/tenants/{tenant}")).await;
    refused(&register(&app, &token, &minimal()).await, 401, "invalid_token");
    admin.post(ADMIN, json!({"tenant_id": tenant})).await.refuses(403, &[]);
}
