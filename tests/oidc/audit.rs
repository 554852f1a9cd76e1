//! What people say to clients, and what clients do, is in the audit.

use serde_json::json;

use crate::{
    browser::{Browser, form_of, location},
    relying_party::{Client, DEVICE, EXCHANGE, acme, owner, post, refused},
    support::{
        actors::{email_of, registration},
        audit::Audit,
    },
};

#[tokio::test]
async fn consent_given_and_refused_is_noted_and_once() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let mut audit = Audit::of(&app).await;
    let page = browser.visit(&client.request(&[])).await.expect(200);
    location(&browser.submit(&form_of(&page), Some(("decision", "deny"))).await);
    let entry = audit.entries().await.remove(0);
    assert_eq!((&entry["action"], &entry["subject"]), (&json!("consent.denied"), &json!(client.id)));
    assert!(entry["actor"].as_str().unwrap().starts_with("user:"), "{entry}");
    let code = client.code(&browser, &[]).await;
    let entry = audit.entries().await.remove(0);
    assert_eq!((&entry["action"], &entry["subject"]), (&json!("consent.given"), &json!(client.id)));
    assert_eq!(entry["detail"], "openid usage:read offline_access");
    assert!(entry["tenant_id"].is_string());
    // Nobody is asked again.
    client.code(&browser, &[]).await;
    assert!(audit.actions().await.is_empty());

    // A code that is used twice.
    client.redeem(&code).await.expect(200);
    assert!(audit.actions().await.is_empty());
    refused(&client.redeem(&code).await, 400, "invalid_grant");
    assert_eq!(audit.actions().await, ["session.stolen"]);
}

#[tokio::test]
async fn what_a_person_says_to_a_device_is_noted() {
    let app = acme().await;
    let metadata = json!({"grant_types": [DEVICE], "token_endpoint_auth_method": "none"});
    let client = Client::register(&app, metadata).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let mut audit = Audit::of(&app).await;
    let enter = async |code: &str| {
        let page = browser.get("/device").await.expect(200);
        browser.submit(&form_of(&page).with("user_code", code), None).await
    };
    for (decision, noted) in [("allow", "device.allowed"), ("deny", "device.denied")] {
        let started = client.post("/oauth2/device_authorization", &[]).await.expect(200);
        let page = enter(&started.text("/user_code")).await.expect(200);
        browser.submit(&form_of(&page), Some(("decision", decision))).await.expect(200);
        let entry = audit.entries().await.remove(0);
        assert_eq!((&entry["action"], &entry["subject"]), (&json!(noted), &json!(client.id)));
    }
    for _ in 0..30 {
        enter("BBBB-BBBB").await;
    }
    assert_eq!(audit.actions().await, ["device.throttled"]);
}

#[tokio::test]
async fn the_switch_of_a_tenant_is_noted() {
    let app = acme().await;
    let from = app.owner_of("Acme").await;
    let mut second = registration("Globex", "free");
    second["email"] = email_of("Acme").into();
    second["allow_membership"] = true.into();
    let to = app.admin().await.post("/admin/v1/registrations", second).await.expect(201).text("/tenant_id");
    let mut audit = Audit::of(&app).await;
    let fields = [
        ("grant_type", EXCHANGE),
        ("subject_token", &from.token),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("tenant", &to),
    ];
    post(&app, "/oauth2/token", &fields, None).await.expect(200);
    let entry = audit.entries().await.remove(0);
    assert_eq!((&entry["action"], &entry["tenant_id"]), (&json!("session.switched"), &json!(to)));
    let before = crate::relying_party::part(&from.token, 1)["sid"].as_str().unwrap().to_owned();
    assert_eq!(entry["detail"], format!("from {before}"));
}

#[tokio::test]
async fn what_clients_withdraw_is_noted_once() {
    let app = acme().await;
    let (client, machine) = (Client::web(&app).await, Client::machine(&app).await);
    let (first, second) = (client.tokens(&[]).await, client.tokens(&[]).await);
    let of_machine = machine.token(&[("grant_type", "client_credentials")]).await.expect(200);
    let direct = app.owner_of("Acme").await.token;
    let mut audit = Audit::of(&app).await;
    let mut revoke = async |client: &Client<'_>, token: &str| {
        for _ in 0..3 {
            client.post("/oauth2/revoke", &[("token", token)]).await.expect(200);
        }
        audit.entries().await
    };
    for token in [first.text("/access_token"), second.text("/refresh_token")] {
        assert!(revoke(&machine, &token).await.is_empty(), "another client's");
        let entries = revoke(&client, &token).await;
        assert_eq!((entries.len(), &entries[0]["action"]), (1, &json!("session.revoked")));
        assert_eq!(entries[0]["actor"], format!("client:{}", client.id));
    }
    let entries = revoke(&machine, &of_machine.text("/access_token")).await;
    assert_eq!((entries.len(), &entries[0]["action"]), (1, &json!("token.revoked")));
    post(&app, "/oauth2/revoke", &[("client_id", "tollgate"), ("token", &direct)], None).await.expect(200);
    let entries = audit.entries().await;
    assert_eq!((entries.len(), &entries[0]["action"]), (1, &json!("session.revoked")));
    assert!(entries[0]["actor"].as_str().unwrap().starts_with("user:"));

    // A sign-out that a client hints at, from where nobody is signed in.
    let tokens = client.tokens(&[]).await;
    audit.actions().await;
    let uri = format!("/oauth2/logout?id_token_hint={}", tokens.text("/id_token"));
    Browser::new(&app).get(&uri).await;
    Browser::new(&app).get(&uri).await;
    assert_eq!(audit.actions().await, ["session.revoked"]);
}

#[tokio::test]
async fn what_lets_clients_register_is_noted() {
    let app = acme().await;
    let admin = app.admin().await;
    let mut audit = Audit::of(&app).await;
    let made = admin.post("/admin/v1/clients/initial-access-tokens", json!({"uses": 2})).await.expect(201);
    assert_eq!(audit.actions().await, ["initial_token.made"]);
    let body = json!({"redirect_uris": ["https://app.example/cb"]});
    app.call(axum::http::Method::POST, "/oauth2/register", &made.text("/initial_access_token"), body).await.expect(201);
    assert_eq!(audit.actions().await, ["client.made"]);
    let path = format!("/admin/v1/clients/initial-access-tokens/{}", made.text("/token_id"));
    admin.delete(&path).await.expect(204);
    let entry = audit.entries().await.remove(0);
    assert_eq!((&entry["action"], &entry["subject"]), (&json!("initial_token.deleted"), &made.body["token_id"]));
    assert!(!entry.to_string().contains(&made.text("/initial_access_token")));
}
