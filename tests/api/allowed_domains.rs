//! Joining a tenant by the domain of a verified email: who may allow it, and who comes in by it.

use serde_json::{Value, json};

use super::mail::{letters_to, token_of_newest};
use crate::support::{
    actors::{Actor, PASSWORD, email_of},
    app::TestApp,
};

const VERIFIED: &str = "[identity]\nverify_email = true";
const DOMAINS: &str = "/v1/users/allowed-domains";
const OWNER: &str = "ann@acme.example";
const NOTED: &str = "allowed_domains.changed";

fn sign_up(name: &str, email: &str) -> Value {
    json!({"email": email, "password": PASSWORD, "customer_name": name, "billing_address": "1 Main Street"})
}

/// Signs up and follows the link of the letter.
async fn signed_up(app: &TestApp, name: &str, email: &str) -> crate::support::app::Reply {
    app.anon().post("/v1/signup", sign_up(name, email)).await.expect(202);
    let token = token_of_newest(app, email).await;
    app.anon().post("/v1/signup/verify", json!({"token": token})).await
}

/// Acme, whose owner's email is verified.
async fn acme(app: &TestApp) -> Actor<'_> {
    signed_up(app, "Acme", OWNER).await.expect(201);
    app.signed_in(OWNER, PASSWORD).await
}

async fn allow(owner: &Actor<'_>, domains: &[&str]) -> crate::support::app::Reply {
    owner.put(DOMAINS, json!({"allowed_domains": domains})).await
}

#[tokio::test]
async fn people_of_an_allowed_domain_join_as_members_once_their_email_is_verified() {
    let app = TestApp::with(VERIFIED).await;
    let owner = acme(&app).await;
    assert_eq!(owner.get(DOMAINS).await.expect(200).body, json!({"allowed_domains": []}));
    let set = allow(&owner, &["ACME.example", "acme.example"]).await.expect(200);
    assert_eq!(set.body, json!({"allowed_domains": ["acme.example"]}));
    let joined = signed_up(&app, "Acme", "bob@Acme.Example").await.expect(201);
    assert_eq!(joined.text("/status"), "active");
    let me = app.signed_in("bob@acme.example", PASSWORD).await.get("/v1/me").await.expect(200);
    assert_eq!((me.text("/user/role"), me.text("/tenant/customer_name")), ("member".into(), "Acme".into()));
    // A member decides nothing of this.
    let bob = app.signed_in("bob@acme.example", PASSWORD).await;
    bob.get(DOMAINS).await.refuses(403, &[]);
    allow(&bob, &["acme.example"]).await.refuses(403, &[]);
    let noted = app.admin().await.get(&format!("/admin/v1/audit?action={NOTED}")).await.body;
    assert_eq!(noted["items"][0]["detail"], "acme.example");
}

#[tokio::test]
async fn who_is_of_another_domain_learns_by_mail_alone_to_ask_for_an_invitation() {
    let app = TestApp::with(VERIFIED).await;
    let owner = acme(&app).await;
    allow(&owner, &["acme.example"]).await.expect(200);
    for email in ["eve@evil.example", "eve@mail.acme.example", "eve@notacme.example", "eve@acme.example.evil.example"] {
        let asked = app.anon().post("/v1/signup", sign_up("Acme", email)).await.expect(202);
        let of_nobody = app.anon().post("/v1/signup", sign_up("Nobody", "new@other.example")).await.expect(202);
        assert_eq!(asked.text("/status"), of_nobody.text("/status"), "no stranger learns which names there are");
        let letters = letters_to(&app, email).await;
        assert_eq!(letters[0].0, "Ask for an invitation");
        assert!(letters[0].1.contains("ask its administrator for an invitation") && !letters[0].1.contains("token="));
    }
    let users = owner.get("/v1/users").await.expect(200);
    assert_eq!(users.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_link_lets_in_only_whom_the_tenant_lets_in_when_it_is_followed() {
    let app = TestApp::with(VERIFIED).await;
    let owner = acme(&app).await;
    allow(&owner, &["acme.example"]).await.expect(200);
    app.anon().post("/v1/signup", sign_up("Acme", "bob@acme.example")).await.expect(202);
    let token = token_of_newest(&app, "bob@acme.example").await;
    allow(&owner, &[]).await.expect(200);
    let refused = app.anon().post("/v1/signup/verify", json!({"token": token})).await.refuses(409, &[]);
    assert!(refused.text("/detail").contains("ask its administrator for an invitation"));
    allow(&owner, &["acme.example"]).await.expect(200);
    // Nor when the owner whose email it was is not one any more.
    let second = json!({"email": "boss@elsewhere.example", "role": "owner", "password": PASSWORD});
    owner.post("/v1/users", second).await.expect(201);
    let id = owner.get("/v1/me").await.expect(200);
    let (tenant, user) = (id.text("/tenant/tenant_id"), id.text("/user/user_id"));
    let path = format!("/admin/v1/tenants/{tenant}/users/{user}");
    app.admin().await.post(&format!("{path}/disable"), Value::Null).await.expect(200);
    app.anon().post("/v1/signup/verify", json!({"token": token})).await.refuses(409, &[]);
    app.admin().await.post(&format!("{path}/enable"), Value::Null).await.expect(200);
    app.anon().post("/v1/signup/verify", json!({"token": token})).await.expect(201);
}

#[tokio::test]
async fn a_domain_is_allowed_only_by_an_owner_who_reads_mail_there() {
    let app = TestApp::with(VERIFIED).await;
    let owner = acme(&app).await;
    for refused in ["evil.example", "example", "mail.acme.example"] {
        assert_eq!(allow(&owner, &[refused]).await.status, 422, "{refused}");
    }
    signed_up(&app, "Globex", "gus@gmail.com").await.expect(201);
    let gus = app.signed_in("gus@gmail.com", PASSWORD).await;
    let refused = allow(&gus, &["gmail.com"]).await.refuses(422, &["allowed_domains"]);
    assert!(refused.text("/detail").contains("anybody"), "{}", refused.body);
    // An administrator's registration verifies no email.
    app.tenant("Initech", "free").await;
    let unverified = app.owner_of("Initech").await;
    let domain = email_of("Initech").split('@').next_back().unwrap().to_owned();
    allow(&unverified, &[&domain]).await.refuses(422, &["allowed_domains"]);
    // Bad input.
    allow(&owner, &["", "acme.example", "@", "a b.example", "-a.example"])
        .await
        .refuses(422, &["allowed_domains[0]", "allowed_domains[2]", "allowed_domains[3]", "allowed_domains[4]"]);
    let long = format!("{}.example", "x".repeat(64));
    allow(&owner, &[&long]).await.refuses(422, &["allowed_domains[0]"]);
    allow(&owner, &["acme.example"; 21]).await.refuses(422, &["allowed_domains"]);
    for body in [json!({}), json!({"allowed_domains": "acme.example"}), json!({"allowed_domains": [7]}), json!([])] {
        assert!(owner.put(DOMAINS, body.clone()).await.status.is_client_error(), "{body}");
    }
    assert_eq!(owner.get(DOMAINS).await.expect(200).body, json!({"allowed_domains": []}));
}

#[tokio::test]
async fn without_verified_emails_nobody_joins_by_a_domain() {
    let app = TestApp::with(VERIFIED).await;
    let owner = acme(&app).await;
    allow(&owner, &["acme.example"]).await.expect(200);
    let app = app.restarted_with("[identity]\nverify_email = false").await.unwrap();
    app.anon().post("/v1/signup", sign_up("Acme", "bob@acme.example")).await.refuses(409, &[]);
}
