//! RFC 7662, Token Introspection.

use serde_json::json;

use crate::{
    relying_party::{Client, acme, claims, post, refused},
    support::{actors::Actor, app::TestApp},
};

const PATH: &str = "/oauth2/introspect";

/// "To prevent token scanning attacks, the endpoint MUST also require some form of authorization to access this endpoint."
#[tokio::test]
async fn rfc7662_2_1_nothing_is_said_before_the_caller_is_known() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let token = client.tokens(&[]).await.text("/access_token");
    refused(&post(&app, PATH, &[("token", &token)], None).await, 401, "invalid_client");
    refused(&post(&app, PATH, &[("token", &token), ("client_id", &client.id)], None).await, 401, "invalid_client");
    refused(&post(&app, PATH, &[("token", &token)], Some(&format!("Bearer {token}"))).await, 401, "invalid_client");
    refused(&post(&app, PATH, &[], None).await, 401, "invalid_client");
    let public = Client::public(&app).await;
    refused(&public.post(PATH, &[("token", &token)]).await, 401, "invalid_client");
    refused(&client.post(PATH, &[]).await, 400, "invalid_request");
}

/// "active: REQUIRED. Boolean indicator of whether or not the presented token is currently active." and the optional members.
#[tokio::test]
async fn rfc7662_2_2_an_active_token_is_described() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let tokens = client.tokens(&[]).await;
    let token = claims(&tokens, "access_token");
    let known = client.introspect(&tokens.text("/access_token")).await;
    for name in ["iss", "sub", "aud", "client_id", "iat", "exp", "jti", "scope", "tenant_id", "sid"] {
        assert_eq!(known[name], token[name], "{name}");
    }
    assert_eq!((&known["active"], &known["token_type"]), (&json!(true), &json!("Bearer")));
    let refresh = client.introspect(&tokens.text("/refresh_token")).await;
    assert_eq!((&refresh["active"], &refresh["sub"]), (&json!(true), &token["sub"]));
}

/// "If the introspection call is properly authorized but the token is not active, does not exist on this server, or the
/// protected resource is not allowed to introspect this particular token [...] SHOULD NOT include any additional information."
#[tokio::test]
async fn rfc7662_2_2_of_any_other_token_nothing_is_said_but_that() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let tokens = client.tokens(&[]).await;
    let inactive = json!({"active": false});
    for token in ["garbage", &tokens.text("/id_token"), "a.b.c"] {
        assert_eq!(client.introspect(token).await, inactive, "{token}");
    }
    let used = tokens.text("/refresh_token");
    client.refresh(&used, &[]).await.expect(200);
    assert_eq!(client.introspect(&used).await, inactive, "a used refresh token");
    app.clock.advance_secs(600);
    assert_eq!(client.introspect(&tokens.text("/access_token")).await, inactive, "an expired token");
}

/// The same: another tenant's token is not active for a tenant's client, and the platform's client sees all.
#[tokio::test]
async fn rfc7662_2_2_a_tenants_client_sees_its_tenants_tokens_alone() {
    let app = acme().await;
    app.tenant("Globex", "standard").await;
    let (of_acme, of_platform) = (Client::machine(&app).await, Client::web(&app).await);
    let (acme, globex) = (app.owner_of("Acme").await.token, app.owner_of("Globex").await.token);
    assert_eq!(of_acme.introspect(&acme).await["active"], true);
    assert_eq!(of_acme.introspect(&globex).await, json!({"active": false}));
    assert_eq!(of_platform.introspect(&globex).await["active"], true);
}

/// A token is active while what it speaks for is.
#[tokio::test]
async fn rfc7662_2_2_a_token_of_an_ended_session_or_a_suspended_tenant_is_not_active() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let client = Client::web(&app).await;
    let admin: Actor<'_> = app.admin().await;
    let (one, two) = (client.tokens(&[]).await.text("/access_token"), client.tokens(&[]).await.text("/access_token"));
    let sid = crate::relying_party::part(&one, 1)["sid"].as_str().unwrap().to_owned();
    admin.delete(&format!("/admin/v1/sessions/{sid}")).await.expect(204);
    assert_eq!(client.introspect(&one).await, json!({"active": false}));
    assert_eq!(client.introspect(&two).await["active"], true);
    admin.post(&format!("/admin/v1/tenants/{tenant}/suspend"), serde_json::Value::Null).await.expect(200);
    assert_eq!(client.introspect(&two).await, json!({"active": false}));
}
