//! Sign-ins as their owner sees and ends them, and who stops working on the next request.

use serde_json::{Value, json};

use super::pages::{Browser, between};
use crate::support::{
    actors::{PASSWORD, email_of},
    app::TestApp,
};

#[tokio::test]
async fn a_person_sees_their_sign_ins_and_ends_one_or_all_others() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let first = app.owner_of("Acme").await;
    app.clock.advance_secs(1);
    let second = app.owner_of("Acme").await;
    app.clock.advance_secs(1);
    let third = app.owner_of("Acme").await;
    let list = third.get("/v1/me/sessions").await.expect(200).body;
    let current: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["current"].clone()).collect();
    assert_eq!(current, [false, false, true]);
    assert_eq!(list["items"][0]["amr"], json!(["pwd"]));
    assert_eq!(list["items"][0]["created_at"], crate::support::app::NOW);

    let id = list["items"][0]["session_id"].as_str().unwrap();
    third.delete(&format!("/v1/me/sessions/{id}")).await.expect(204);
    first.get("/v1/me").await.refuses(401, &[]);
    third.delete(&format!("/v1/me/sessions/{id}")).await.refuses(404, &[]);
    second.get("/v1/me").await.expect(200);
    third.delete("/v1/me/sessions").await.expect(204);
    second.get("/v1/me").await.refuses(401, &[]);
    third.get("/v1/me").await.expect(200);
    assert_eq!(third.get("/v1/me/sessions").await.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_ends_the_sign_in_of_a_colleague_by_their_own_token() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    owner.post("/v1/users", json!({"email": "ann@acme.example", "password": PASSWORD})).await.expect(201);
    let ann = app.signed_in("ann@acme.example", PASSWORD).await;
    let of_owner = owner.get("/v1/me/sessions").await.text("/items/0/session_id");
    ann.delete(&format!("/v1/me/sessions/{of_owner}")).await.refuses(404, &[]);
    owner.get("/v1/me").await.expect(200);
}

#[tokio::test]
async fn the_account_page_lists_sign_ins_and_ends_them() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let (mut browser, mut other) = (Browser::new(&app), Browser::new(&app));
    assert_eq!(browser.sign_in(&email_of("Acme"), PASSWORD, "/account").await, "/account");
    other.sign_in(&email_of("Acme"), PASSWORD, "").await;
    let page = browser.open("/account").await.expect(200);
    let html = page.body.as_str().unwrap();
    let token = between(html, "name=\"form_token\" value=\"", "\"");
    let id = between(html, "name=\"session_id\" value=\"", "\"");
    browser.fill("/account/sessions", &[("form_token", token), ("session_id", id)]).await.expect(303);
    owner.get("/v1/me").await.refuses(401, &[]);
    other.open("/account").await.expect(200);
    browser.fill("/account/sessions", &[("form_token", token), ("session_id", "others")]).await.expect(303);
    other.open("/account").await.expect(303);
    browser.open("/account").await.expect(200);
    browser.fill("/account/sign-out", &[("form_token", token)]).await.expect(303);
    browser.open("/account").await.expect(303);
}

#[tokio::test]
async fn a_suspended_tenant_stops_at_its_own_routes_too() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let robot = super::oauth::robot(&owner).await;
    let calls =
        ["/v1/me", "/v1/usage?meter=apis", "/v1/bill", "/v1/users", "/v1/clients", "/v1/me/sessions", "/api/v1/meters"];
    for path in calls {
        owner.get(path).await.expect(200);
    }
    let tell = async |verb: &str| {
        app.admin().await.post(&format!("/admin/v1/tenants/{tenant}/{verb}"), Value::Null).await.expect(200);
    };
    tell("suspend").await;
    for path in calls {
        let refused = owner.get(path).await.refuses(403, &[]);
        assert_eq!(refused.text("/type"), "/docs/problems#tenant-not-active", "{path}");
    }
    robot.get("/v1/usage?meter=apis").await.refuses(403, &[]);
    owner.get("/sample/hello").await.refuses(403, &[]);
    // It holds over a restart, too, and ends when the tenant is activated.
    tell("activate").await;
    for path in calls {
        owner.get(path).await.expect(200);
    }
    let audit = app.admin().await.get(&format!("/admin/v1/audit?subject={tenant}")).await.expect(200);
    let mut actions: Vec<_> =
        audit.body["items"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    // The clock stands still: their order is not told.
    actions.sort_by_key(ToString::to_string);
    assert_eq!(actions, ["tenant.activated", "tenant.registered", "tenant.suspended"]);
    assert!(audit.body["items"][0]["actor"].as_str().unwrap().starts_with("admin:"));
}

#[tokio::test]
async fn a_tenant_that_was_suspended_stays_so_over_a_restart() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let token = app.owner_of("Acme").await.token;
    app.admin().await.post(&format!("/admin/v1/tenants/{tenant}/suspend"), Value::Null).await.expect(200);
    let app = app.restarted().await;
    let owner = crate::support::actors::Actor { app: &app, token };
    owner.get("/v1/me").await.refuses(403, &[]);
}

#[tokio::test]
async fn what_people_and_administrators_do_is_noted() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let (admin, owner) = (app.admin().await, app.owner_of("Acme").await);
    let user = json!({"email": "ann@acme.example", "password": PASSWORD});
    let user = owner.post("/v1/users", user).await.expect(201).text("/user_id");
    let client = owner.post("/v1/clients", json!({"client_name": "robot"})).await.expect(201).text("/client_id");
    owner.delete(&format!("/v1/clients/{client}")).await.expect(204);
    for verb in ["disable", "enable"] {
        admin.post(&format!("/admin/v1/tenants/{tenant}/users/{user}/{verb}"), Value::Null).await.expect(200);
    }
    owner.delete(&format!("/v1/users/{user}")).await.expect(204);
    admin.post("/admin/v1/keys/rotate", Value::Null).await.expect(201);
    let about = async |subject: &str| super::reset::actions_about(&app, subject).await;
    assert_eq!(about(&user).await, ["user.added", "user.disabled", "user.enabled", "user.removed"]);
    assert_eq!(about(&client).await, ["client.deleted", "client.made"]);
    let keys = admin.get("/admin/v1/audit?action=key.made").await.expect(200);
    assert_eq!(keys.body["items"].as_array().unwrap().len(), 1);

    // A failure is noted, and an email that nobody has is not written down.
    for email in ["nobody@acme.example", &email_of("Acme")] {
        let wrong = json!({"email": email, "password": "wrong"});
        app.anon().post("/v1/login", wrong).await.refuses(401, &[]);
    }
    let failed = admin.get("/admin/v1/audit?action=sign_in.failed").await.expect(200).body;
    assert_eq!(failed["items"].as_array().unwrap().len(), 2);
    // Of one instant, so in either order.
    let mut subjects = failed["items"].as_array().unwrap().iter().map(|item| item["subject"].as_str().unwrap());
    assert!(subjects.any(|subject| subject.starts_with("email:")), "{failed}");
    assert!(!failed.to_string().contains("nobody@"), "{failed}");
}

#[tokio::test]
async fn a_person_says_what_they_are_called_and_takes_it_back() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let named = owner.patch("/v1/me", json!({"name": " Ada Løvelace "})).await.expect(200);
    assert_eq!((named.text("/name"), &named.body["email_verified"]), ("Ada Løvelace".into(), &json!(false)));
    // What is not there is not changed.
    assert_eq!(owner.patch("/v1/me", json!({})).await.expect(200).text("/name"), "Ada Løvelace");
    for wrong in [json!(" "), json!("a\u{0}b"), json!("x".repeat(201)), json!(7), json!({})] {
        owner.patch("/v1/me", json!({"name": wrong})).await.refuses(422, &["name"]);
    }
    owner.patch("/v1/me", json!({"role": "owner"})).await.refuses(422, &["role"]);
    assert_eq!(owner.get("/v1/me").await.text("/user/name"), "Ada Løvelace");
    assert_eq!(owner.patch("/v1/me", json!({"name": ""})).await.expect(200).body["name"], Value::Null);
}

#[tokio::test]
async fn a_machine_has_no_name_to_change() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let robot = super::oauth::robot(&app.owner_of("Acme").await).await;
    robot.patch("/v1/me", json!({"name": "Robby"})).await.refuses(403, &[]);
}

#[tokio::test]
async fn a_withdrawn_token_stays_so_when_a_restart_shortens_the_life_of_tokens() {
    let tidy = async |app: &TestApp| super::throttle::identity(app).tidy().await.unwrap();
    let app = TestApp::with("[identity]\naccess_token_ttl_s = 3600\n").await;
    app.tenant("Acme", "standard").await;
    let key = super::oauth::published(&app).await;
    app.admin().await.post("/admin/v1/keys/rotate?wait_s=1", Value::Null).await.expect(201);
    let (ended, kept) = (app.owner_of("Acme").await.token, app.owner_of("Acme").await.token);
    super::oauth::revoke(&app, &ended).await;
    let app = app.restarted_with("[identity]\naccess_token_ttl_s = 60\n").await.unwrap();
    let calls = async |app: &TestApp, token: &str| {
        let actor = crate::support::actors::Actor { app, token: token.to_owned() };
        (actor.get("/sample/hello").await.status.as_u16(), actor.get("/v1/me").await.status.as_u16())
    };
    for wait_s in [0, 95, 3_400] {
        app.clock.advance_secs(wait_s);
        tidy(&app).await;
        assert_eq!((calls(&app, &ended).await, calls(&app, &kept).await), ((401, 401), (200, 200)), "{wait_s}");
        // What signed them is still published, for those who verify elsewhere.
        assert!(super::oauth::published(&app).await.contains(&key[0]));
    }
    // The same after one more start, which reads the withdrawal from the store.
    let app = app.restarted().await;
    tidy(&app).await;
    assert_eq!(calls(&app, &ended).await, (401, 401));
    // When the last of them has expired, both are forgotten, and from then on today's settings count.
    app.clock.advance_secs(200);
    tidy(&app).await;
    assert_eq!(calls(&app, &kept).await, (401, 401));
    assert!(!super::oauth::published(&app).await.contains(&key[0]));
    let withdrawn = withdrawals(&app).await;
    assert_eq!(withdrawn, 0);
    super::oauth::revoke(&app, &app.owner_of("Acme").await.token).await;
    assert_eq!(withdrawals(&app).await, 1);
    app.clock.advance_secs(95);
    tidy(&app).await;
    assert_eq!(withdrawals(&app).await, 0);
}

async fn withdrawals(app: &TestApp) -> usize {
    let store: tollgate::store::Store = axum::extract::FromRef::from_ref(app.app.state());
    let mut tx = store.read(tollgate::store::Scope::Job("test")).await.unwrap();
    tx.revocations().await.unwrap().len()
}

/// A browser that signs in from an address.
async fn browser_from<'a>(app: &'a TestApp, address: &str) -> Browser<'a> {
    let mut browser = Browser::new(app);
    browser.address = Some(address.parse().unwrap());
    browser.sign_in(&email_of("Acme"), PASSWORD, "").await;
    browser
}

#[tokio::test]
async fn a_person_sees_a_browser_that_is_not_theirs_and_ends_it_alone() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let mut own = browser_from(&app, "192.0.2.1").await;
    let alone = own.open("/account").await.expect(200);
    assert!(alone.body.as_str().unwrap().contains("Nothing else is signed in."));
    app.clock.advance_secs(60);
    let mut thief = browser_from(&app, "2001:db8::7").await;
    app.clock.advance_secs(120);
    thief.open("/account").await.expect(200);
    let page = own.open("/account").await.expect(200);
    let html = page.body.as_str().unwrap();
    assert!(!html.contains("Nothing else is signed in.") && !html.contains(">192.0.2.1<"), "{html}");
    let row = between(html, ">2001:db8::7<", "</tr>");
    assert!(row.contains("2026-11-10T12:01:00Z") && row.contains("2026-11-10T12:03:00Z"), "{row}");
    let id = between(row, "name=\"browser_id\" value=\"", "\"");
    let token = between(row, "name=\"form_token\" value=\"", "\"");
    own.fill("/account/sessions", &[("form_token", token), ("browser_id", id)]).await.expect(303);
    thief.open("/account").await.expect(303);
    let page = own.open("/account").await.expect(200);
    assert!(page.body.as_str().unwrap().contains("Nothing else is signed in."));
    // Twice, and what is no id, changes nothing.
    for id in [id, "x"] {
        own.fill("/account/sessions", &[("form_token", token), ("browser_id", id)]).await.expect(303);
    }
    own.open("/account").await.expect(200);
}

#[tokio::test]
async fn browsers_are_listed_and_ended_by_their_owners_token_alone() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    assert_eq!(owner.get("/v1/me/browsers").await.expect(200).body["items"], json!([]));
    let mut browser = browser_from(&app, "192.0.2.1").await;
    let listed = owner.get("/v1/me/browsers").await.expect(200);
    assert_eq!((listed.text("/items/0/address"), listed.text("/items/0/amr/0")), ("192.0.2.1".into(), "pwd".into()));
    assert_eq!(listed.text("/items/0/last_used_at"), crate::support::app::NOW);
    let path = format!("/v1/me/browsers/{}", listed.text("/items/0/browser_id"));
    // A colleague, a machine, nobody.
    owner.post("/v1/users", json!({"email": "ann@acme.example", "password": PASSWORD})).await.expect(201);
    app.signed_in("ann@acme.example", PASSWORD).await.delete(&path).await.refuses(404, &[]);
    super::oauth::robot(&owner).await.delete(&path).await.refuses(403, &[]);
    owner.delete("/v1/me/browsers/x").await.refuses(404, &[]);
    browser.open("/account").await.expect(200);
    owner.delete(&path).await.expect(204);
    browser.open("/account").await.expect(303);
    owner.delete(&path).await.refuses(404, &[]);
    // One that is over is not shown.
    browser_from(&app, "192.0.2.1").await;
    app.clock.advance_secs(13 * 3_600);
    let owner = app.owner_of("Acme").await;
    assert_eq!(owner.get("/v1/me/browsers").await.expect(200).body["items"], json!([]));
}
