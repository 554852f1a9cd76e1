//! One person's whole way, on both databases: verified, invited, with second factors, forgetful, signed out.

use serde_json::{Value, json};

use super::{
    mail::{mail, token_of_newest},
    pages::Browser,
    second_factor::{Authenticator, FINISH, OPTIONS, code, enrol, enrol_passkey},
};
use crate::support::{
    actors::{Actor, PASSWORD, email_of},
    app::TestApp,
};

const SETTINGS: &str = "[server]\nissuer = \"http://localhost:8080\"\n[identity]\nverify_email = true";
const ANN: &str = "ann@elsewhere.example";
const NEW: &str = "amber-Quarry-58-winds";

async fn the_whole_way(app: &TestApp) {
    let sign_up =
        json!({"email": email_of("Acme"), "password": PASSWORD, "customer_name": "Acme", "billing_address": "1 Main"});
    app.anon().post("/v1/signup", sign_up).await.expect(202);
    let token = token_of_newest(app, &email_of("Acme")).await;
    app.anon().post("/v1/signup/verify", json!({"token": token})).await.expect(201);
    app.anon().post("/v1/signup/verify", json!({"token": token})).await.refuses(404, &[]);

    let owner = app.owner_of("Acme").await;
    // The one who signed up followed a link, and so will who is invited.
    assert_eq!(owner.get("/v1/me").await.body["user"]["email_verified"], true);
    let gone = owner.post("/v1/invitations", json!({"email": "gone@acme.example"})).await.expect(201);
    owner.delete(&format!("/v1/invitations/{}", gone.text("/invitation_id"))).await.expect(204);
    owner.post("/v1/invitations", json!({"email": ANN, "role": "admin"})).await.expect(201);
    assert_eq!(owner.get("/v1/invitations").await.expect(200).body["items"].as_array().unwrap().len(), 1);
    let token = token_of_newest(app, ANN).await;
    let joined = app.anon().post(&format!("/v1/invitations/{token}"), json!({"password": PASSWORD})).await.expect(201);
    let users = owner.get("/v1/users").await.expect(200).body;
    let ann = users["items"].as_array().unwrap().iter().find(|user| user["user_id"] == joined.body["user_id"]).unwrap();
    assert_eq!(ann["email_verified"], true);

    let mut browser = Browser::new(app);
    browser.sign_in(ANN, PASSWORD, "").await;
    let (secret, recovery) = enrol(app, &mut browser).await;
    let mut authenticator = Authenticator::new();
    enrol_passkey(&mut browser, &mut authenticator).await.expect(200);
    app.clock.advance_secs(60);
    let login = |otp: &str| json!({"email": ANN, "password": PASSWORD, "otp": otp});
    let ann = app.anon().post("/v1/login", login(&code(app, &secret, 0))).await.expect(200);
    app.anon().post("/v1/login", login(&code(app, &secret, 0))).await.refuses(401, &[]);
    app.anon().post("/v1/login", login(&recovery[0])).await.expect(200);
    app.anon().post("/v1/login", login(&recovery[0])).await.refuses(401, &[]);
    let mut by_passkey = Browser::new(app);
    by_passkey.sign_in(ANN, PASSWORD, "").await;
    let options = by_passkey.post_json(OPTIONS, &Value::Null).await.expect(200).body;
    by_passkey.post_json(FINISH, &authenticator.sign(&options)).await.expect(200);
    by_passkey.open("/account").await.expect(200);

    let ann = Actor { app, token: ann.text("/access_token") };
    assert_eq!(ann.get("/v1/me/sessions").await.expect(200).body["items"].as_array().unwrap().len(), 2);
    ann.delete("/v1/me/sessions").await.expect(204);
    by_passkey.open("/account").await.expect(303);
    ann.post("/v1/me/password", json!({"current_password": PASSWORD, "new_password": NEW})).await.expect(204);

    browser.fill("/reset", &[("email", ANN)]).await.expect(200);
    browser.fill("/reset", &[("email", "nobody@elsewhere.example")]).await.expect(200);
    let token = token_of_newest(app, ANN).await;
    browser.fill("/reset", &[("token", &token), ("password", PASSWORD)]).await.expect(200);
    browser.fill("/reset", &[("token", &token), ("password", PASSWORD)]).await.expect(410);
    ann.get("/v1/me").await.refuses(401, &[]);

    let users = owner.get("/v1/users").await.expect(200).body;
    let user = users["items"].as_array().unwrap().iter().find(|user| user["email"] == ANN).unwrap();
    let user = user["user_id"].as_str().unwrap().to_owned();
    owner.delete(&format!("/v1/users/{user}/factors")).await.expect(204);
    app.clock.advance_secs(1);
    app.signed_in(ANN, PASSWORD).await.get("/v1/me").await.expect(200);
    app.anon().post("/v1/login", json!({"email": ANN, "password": "wrong"})).await.refuses(401, &[]);
    let letters = app.admin().await.get("/admin/v1/mails?limit=500").await.body["items"].as_array().unwrap().len();
    assert_eq!(mail(app).deliver_due().await.unwrap(), letters);
    owner.delete(&format!("/v1/users/{user}")).await.expect(204);
    let state: tollgate::identity::Identity = super::throttle::identity(app);
    state.tidy().await.unwrap();
    let tenant = owner.get("/v1/me").await.expect(200).text("/tenant/tenant_id");
    app.admin().await.delete(&format!("/admin/v1/tenants/{tenant}")).await.expect(200);
}

#[tokio::test]
async fn a_persons_whole_way_on_the_embedded_store() {
    the_whole_way(&TestApp::with(SETTINGS).await).await;
}

#[tokio::test]
async fn a_persons_whole_way_on_postgresql() {
    if let Some(app) = TestApp::on_postgres_with(SETTINGS).await {
        the_whole_way(&app).await;
    }
}
