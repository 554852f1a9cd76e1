//! Invitations to a tenant, and sign-ups whose email is verified first.

use serde_json::{Value, json};

use super::{
    mail::{letters_to, token_of_newest},
    pages::Browser,
    reset::actions_about,
};
use crate::support::{
    actors::{Actor, PASSWORD, email_of},
    app::TestApp,
};

const ANN: &str = "ann@elsewhere.example";

async fn invite(owner: &Actor<'_>, email: &str, role: &str) -> String {
    let reply = owner.post("/v1/invitations", json!({"email": email, "role": role})).await.expect(201);
    assert!(!reply.body.to_string().contains("token"), "the link is for who is invited");
    reply.text("/invitation_id")
}

fn accept(token: &str) -> String {
    format!("/v1/invitations/{token}")
}

#[tokio::test]
async fn somebody_new_accepts_once_and_belongs() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let id = invite(&owner, ANN, "admin").await;
    let token = token_of_newest(&app, ANN).await;
    let offer = app.anon().get(&accept(&token)).await.expect(200);
    assert_eq!((offer.text("/customer_name"), offer.text("/role")), ("Acme".into(), "admin".into()));
    assert_eq!(offer.body["account_exists"], false);

    app.anon().post(&accept(&token), json!({})).await.refuses(422, &["password"]);
    app.anon().post(&accept(&token), json!({"password": "password1234"})).await.refuses(422, &["password"]);
    let member = app.anon().post(&accept(&token), json!({"password": PASSWORD})).await.expect(201);
    assert_eq!((member.text("/tenant_id"), member.text("/role")), (tenant, "admin".into()));
    app.anon().post(&accept(&token), json!({"password": PASSWORD})).await.refuses(404, &[]);
    app.anon().get(&accept(&token)).await.refuses(404, &[]);
    app.signed_in(ANN, PASSWORD).await.get("/v1/users").await.expect(200);
    assert_eq!(actions_about(&app, &id).await, ["invitation.accepted", "invitation.made"]);
    owner.post("/v1/invitations", json!({"email": ANN})).await.refuses(409, &[]);
}

#[tokio::test]
async fn somebody_who_has_an_account_proves_that_it_is_theirs() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    app.tenant("Globex", "standard").await;
    let known = email_of("Globex");
    invite(&app.owner_of("Acme").await, &known, "member").await;
    let token = token_of_newest(&app, &known).await;
    assert_eq!(app.anon().get(&accept(&token)).await.expect(200).body["account_exists"], true);
    app.anon().post(&accept(&token), json!({"password": "another-Quarry-58"})).await.refuses(401, &[]);
    app.anon().post(&accept(&token), json!({"password": PASSWORD})).await.expect(201);
    let choice = app.anon().post("/v1/login", json!({"email": known, "password": PASSWORD})).await.refuses(409, &[]);
    assert_eq!(choice.body["tenants"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn of_many_who_accept_at_once_one_does() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    invite(&app.owner_of("Acme").await, ANN, "member").await;
    let token = accept(&token_of_newest(&app, ANN).await);
    let tries = (0..6).map(|n| {
        let (anon, token) = (app.anon(), &token);
        async move { anon.post(token, json!({"password": format!("{PASSWORD}-{n}")})).await.status.as_u16() }
    });
    let mut statuses = futures_util::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert!(statuses[1..].iter().all(|status| [401, 404].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn an_invitation_ends_after_seven_days_when_it_is_taken_back_and_with_a_newer_one() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let works = async |token: &str| app.anon().get(&accept(token)).await.status == 200;
    let first_id = invite(&owner, ANN, "member").await;
    let first = token_of_newest(&app, ANN).await;
    app.clock.advance_secs(1);
    let id = invite(&owner, ANN, "member").await;
    let second = token_of_newest(&app, ANN).await;
    assert_eq!((works(&first).await, works(&second).await), (false, true));
    let pending = owner.get("/v1/invitations").await.expect(200);
    assert_eq!(
        (pending.text("/items/0/invitation_id"), pending.body["items"].as_array().unwrap().len()),
        (id.clone(), 1)
    );
    owner.delete(&format!("/v1/invitations/{first_id}")).await.refuses(404, &[]);
    owner.delete(&format!("/v1/invitations/{id}")).await.expect(204);
    owner.delete(&format!("/v1/invitations/{id}")).await.refuses(404, &[]);
    assert!(!works(&second).await);
    app.clock.advance_secs(1);
    invite(&owner, ANN, "member").await;
    let third = token_of_newest(&app, ANN).await;
    app.clock.advance_secs(7 * 86_400 - 1);
    assert!(works(&third).await);
    app.clock.advance_secs(1);
    assert!(!works(&third).await);
    assert!(app.owner_of("Acme").await.get("/v1/invitations").await.body["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn who_may_invite_whom() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let (admin, owner) = (app.admin().await, app.owner_of("Acme").await);
    for (email, role) in [("boss@acme.example", "admin"), ("ann@acme.example", "member")] {
        owner.post("/v1/users", json!({"email": email, "role": role, "password": PASSWORD})).await.expect(201);
    }
    let (boss, ann) =
        (app.signed_in("boss@acme.example", PASSWORD).await, app.signed_in("ann@acme.example", PASSWORD).await);
    ann.post("/v1/invitations", json!({"email": ANN})).await.refuses(403, &[]);
    boss.post("/v1/invitations", json!({"email": ANN, "role": "owner"})).await.refuses(403, &[]);
    boss.post("/v1/invitations", json!({"email": ANN, "role": "admin"})).await.expect(201);
    owner.post("/v1/invitations", json!({"email": ANN, "role": "king"})).await.refuses(422, &["role"]);
    owner.post("/v1/invitations", json!({"email": "nobody"})).await.refuses(422, &["email"]);
    let path = format!("/admin/v1/tenants/{tenant}/invitations");
    let id = admin.post(&path, json!({"email": ANN, "role": "owner"})).await.expect(201).text("/invitation_id");
    assert_eq!(admin.get(&path).await.expect(200).body["items"].as_array().unwrap().len(), 1);
    admin.delete(&format!("{path}/{id}")).await.expect(204);
    let unknown = "/admin/v1/tenants/01900000-0000-7000-8000-000000000000/invitations";
    admin.post(unknown, json!({"email": ANN})).await.refuses(404, &[]);
}

#[tokio::test]
async fn the_invitation_page_asks_for_what_is_needed() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    invite(&owner, ANN, "member").await;
    let token = token_of_newest(&app, ANN).await;
    let mut browser = Browser::new(&app);
    let page = browser.open(&format!("/invitation?token={token}")).await.expect(200);
    assert!(page.body.as_str().unwrap().contains("new-password"));
    browser.fill("/invitation", &[("token", &token), ("password", "short")]).await.expect(422);
    browser.fill("/invitation", &[("token", &token), ("password", PASSWORD)]).await.expect(200);
    browser.fill("/invitation", &[("token", &token), ("password", PASSWORD)]).await.expect(410);
    browser.open(&format!("/invitation?token={token}")).await.expect(410);
    app.signed_in(ANN, PASSWORD).await.get("/v1/me").await.expect(200);
}

fn sign_up(name: &str, email: &str) -> Value {
    json!({"email": email, "password": PASSWORD, "customer_name": name, "billing_address": "1 Main Street"})
}

#[tokio::test]
async fn where_emails_are_verified_nothing_exists_before_the_link() {
    let app = TestApp::with("[identity]\nverify_email = true").await;
    let unverified = app.anon().post("/v1/signup", sign_up("Acme", ANN)).await.expect(202);
    assert_eq!(unverified.text("/status"), "unverified");
    app.anon().post("/v1/login", json!({"email": ANN, "password": PASSWORD})).await.refuses(401, &[]);
    assert!(app.admin().await.get("/admin/v1/tenants").await.body["items"].as_array().unwrap().is_empty());
    let token = token_of_newest(&app, ANN).await;
    let mut browser = Browser::new(&app);
    // A program that follows links changes nothing.
    browser.open(&format!("/signup/verify?token={token}")).await.expect(200);
    browser.open(&format!("/signup/verify?token={token}")).await.expect(200);
    let registration = app.anon().post("/v1/signup/verify", json!({"token": token})).await.expect(201);
    assert_eq!(registration.text("/status"), "active");
    app.anon().post("/v1/signup/verify", json!({"token": token})).await.refuses(404, &[]);
    assert_eq!(app.signed_in(ANN, PASSWORD).await.get("/v1/me").await.expect(200).text("/user/role"), "owner");
}

#[tokio::test]
async fn a_sign_up_with_a_known_email_gets_the_same_answer_and_its_owner_a_letter() {
    let app = TestApp::with("[identity]\nverify_email = true").await;
    app.tenant("Acme", "standard").await;
    let known = app.anon().post("/v1/signup", sign_up("Globex", &email_of("Acme"))).await.expect(202);
    let unknown = app.anon().post("/v1/signup", sign_up("Initech", ANN)).await.expect(202);
    let (mut one, mut other) = (known.body.clone(), unknown.body.clone());
    one["email"] = Value::Null;
    other["email"] = Value::Null;
    assert_eq!(one, other);
    assert_eq!(known.headers["content-type"], unknown.headers["content-type"]);
    let letters = letters_to(&app, &email_of("Acme")).await;
    assert_eq!(letters[0].0, "You have an account already");
    assert!(!letters[0].1.contains("token="));
    // Nor does a stranger learn which customers there are: who reads that email does, and is told whom to ask.
    let taken = app.anon().post("/v1/signup", sign_up("Acme", "zoe@elsewhere.example")).await.expect(202);
    let mut taken = taken.body.clone();
    taken["email"] = Value::Null;
    assert_eq!(taken, one);
    assert_eq!(letters_to(&app, "zoe@elsewhere.example").await[0].0, "Ask for an invitation");
}

#[tokio::test]
async fn a_link_whose_name_was_taken_meanwhile_says_so_and_a_day_ends_it() {
    let app = TestApp::with("[identity]\nverify_email = true").await;
    app.anon().post("/v1/signup", sign_up("Acme", ANN)).await.expect(202);
    let token = token_of_newest(&app, ANN).await;
    app.tenant("Acme", "standard").await;
    app.anon().post("/v1/signup/verify", json!({"token": token})).await.refuses(409, &[]);
    app.clock.advance_secs(86_400);
    app.anon().post("/v1/signup/verify", json!({"token": token})).await.refuses(404, &[]);
    app.anon().post("/v1/signup/verify", json!({})).await.refuses(422, &["token"]);
}

#[tokio::test]
async fn people_sign_up_on_the_page() {
    for verify in [false, true] {
        let app = TestApp::with(&format!("[identity]\nverify_email = {verify}")).await;
        let mut browser = Browser::new(&app);
        let mut fields = vec![
            ("customer_name", "Acme"),
            ("billing_address", "1 Main Street"),
            ("email", ANN),
            ("password", "short"),
        ];
        let page = browser.fill("/signup", &fields).await.expect(422);
        assert!(page.body.as_str().unwrap().contains("value=\"Acme\""), "what was typed stays");
        fields[3].1 = PASSWORD;
        browser.fill("/signup", &fields).await.expect(200);
        if verify {
            let token = token_of_newest(&app, ANN).await;
            browser.fill("/signup/verify", &[("token", &token)]).await.expect(200);
            browser.fill("/signup/verify", &[("token", &token)]).await.expect(410);
        }
        app.signed_in(ANN, PASSWORD).await.get("/v1/me").await.expect(200);
    }
    let app = TestApp::with("[identity]\nallow_signup = false").await;
    let fields = [("customer_name", "Acme"), ("billing_address", "1 Main"), ("email", ANN), ("password", PASSWORD)];
    Browser::new(&app).fill("/signup", &fields).await.expect(403);
}
