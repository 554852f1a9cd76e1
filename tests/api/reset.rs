//! A new password by a link, or with the old one; who is signed out by it.

use serde_json::{Value, json};

use super::{
    mail::{letters_to, token_of_newest},
    pages::Browser,
};
use crate::support::{
    actors::{PASSWORD, email_of},
    app::{Reply, TestApp},
};

const NEW: &str = "amber-Quarry-58-winds";

async fn login(app: &TestApp, password: &str) -> Reply {
    app.anon().post("/v1/login", json!({"email": email_of("Acme"), "password": password})).await
}

/// The actions of the audit about somebody, by their names.
pub async fn actions_about(app: &TestApp, subject: &str) -> Vec<String> {
    let page = app.admin().await.get(&format!("/admin/v1/audit?limit=500&subject={subject}")).await.expect(200);
    let action = |entry: &Value| entry["action"].as_str().unwrap().to_owned();
    let mut actions: Vec<_> = page.body["items"].as_array().unwrap().iter().map(action).collect();
    actions.sort_unstable();
    actions
}

#[tokio::test]
async fn a_link_sets_a_new_password_once_and_ends_every_sign_in() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let email = email_of("Acme");
    let before = login(&app, PASSWORD).await.expect(200);
    let mut signed_in = Browser::new(&app);
    signed_in.sign_in(&email, PASSWORD, "").await;
    let mut browser = Browser::new(&app);
    browser.fill("/reset", &[("email", &email)]).await.expect(200);
    let token = token_of_newest(&app, &email).await;
    let page = browser.open(&format!("/reset?token={token}")).await.expect(200);
    assert!(page.body.as_str().unwrap().contains("autocomplete=\"new-password\""));

    // A password that is refused does not use the link up.
    let weak = browser.fill("/reset", &[("token", &token), ("password", "password1234")]).await.expect(422);
    assert!(weak.body.as_str().unwrap().contains("role=\"alert\""));
    browser.fill("/reset", &[("token", &token), ("password", NEW)]).await.expect(200);
    browser.fill("/reset", &[("token", &token), ("password", "other-Quarry-58-winds")]).await.expect(410);
    browser.open(&format!("/reset?token={token}")).await.expect(410);

    login(&app, PASSWORD).await.refuses(401, &[]);
    let owner = crate::support::actors::Actor { app: &app, token: before.text("/access_token") };
    owner.get("/v1/me").await.refuses(401, &[]);
    let refresh = [("grant_type", "refresh_token"), ("refresh_token", &before.text("/refresh_token"))];
    super::oauth::refuses(&super::oauth::token(&app, &refresh).await, 400, "invalid_grant");
    signed_in.open("/account").await.expect(303);
    app.clock.advance_secs(1);
    let me = app.signed_in(&email, NEW).await.get("/v1/me").await.expect(200);
    let told = letters_to(&app, &email).await;
    assert!(told.iter().any(|(subject, _)| subject == "Your password was changed"), "{told:?}");
    let actions = actions_about(&app, &me.text("/user/user_id")).await;
    assert!(actions.contains(&"password.reset".to_owned()), "{actions:?}");
}

#[tokio::test]
async fn of_many_uses_of_one_link_one_counts() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    Browser::new(&app).fill("/reset", &[("email", &email_of("Acme"))]).await.expect(200);
    let token = token_of_newest(&app, &email_of("Acme")).await;
    let tries = (0..8).map(|n| {
        let (app, token) = (&app, &token);
        async move {
            let fields = [("token", token.as_str()), ("password", &format!("{NEW}-{n}"))];
            Browser::new(app).fill("/reset", &fields).await.status.as_u16()
        }
    });
    let mut statuses = futures_util::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 410, 410, 410, 410, 410, 410, 410]);
}

#[tokio::test]
async fn a_link_works_for_an_hour_and_the_newest_alone() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let (mut browser, email) = (Browser::new(&app), email_of("Acme"));
    browser.fill("/reset", &[("email", &email)]).await.expect(200);
    let first = token_of_newest(&app, &email).await;
    app.clock.advance_secs(1);
    browser.fill("/reset", &[("email", &email)]).await.expect(200);
    let second = token_of_newest(&app, &email).await;
    assert_ne!(first, second);
    browser.fill("/reset", &[("token", &first), ("password", NEW)]).await.expect(410);
    app.clock.advance_secs(3_599);
    browser.open(&format!("/reset?token={second}")).await.expect(200);
    app.clock.advance_secs(1);
    browser.fill("/reset", &[("token", &second), ("password", NEW)]).await.expect(410);
    for token in ["", "x", &"x".repeat(5_000)] {
        browser.fill("/reset", &[("token", token), ("password", NEW), ("email", "")]).await.refuses_page(token);
    }
}

trait RefusesPage {
    fn refuses_page(self, what: &str);
}

impl RefusesPage for Reply {
    #[track_caller]
    fn refuses_page(self, what: &str) {
        assert!([410, 422].contains(&self.status.as_u16()), "{what}: {} {}", self.status, self.body);
    }
}

#[tokio::test]
async fn an_unknown_email_gets_the_same_answer_the_same_work_and_no_letter() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let hashes = || tollgate::identity::Identity::password_hashes(&super::throttle::identity(&app));
    let before = hashes();
    let known = Browser::new(&app).fill("/reset", &[("email", &email_of("Acme"))]).await.expect(200);
    let unknown = Browser::new(&app).fill("/reset", &[("email", "nobody@acme.example")]).await.expect(200);
    assert_eq!((&known.body, &known.headers), (&unknown.body, &unknown.headers));
    assert_eq!(hashes(), before);
    assert!(letters_to(&app, "nobody@acme.example").await.is_empty());
}

#[tokio::test]
async fn a_person_who_never_had_a_password_gets_one() {
    let app = TestApp::new().await;
    let mut registration = crate::support::actors::registration("Acme", "free");
    registration.as_object_mut().unwrap().remove("password");
    app.admin().await.post("/admin/v1/registrations", registration).await.expect(201);
    login(&app, PASSWORD).await.refuses(401, &[]);
    let mut browser = Browser::new(&app);
    browser.fill("/reset", &[("email", &email_of("Acme"))]).await.expect(200);
    let token = token_of_newest(&app, &email_of("Acme")).await;
    browser.fill("/reset", &[("token", &token), ("password", NEW)]).await.expect(200);
    app.clock.advance_secs(1);
    login(&app, NEW).await.expect(200);
}

#[tokio::test]
async fn a_password_is_changed_with_the_old_one_and_ends_the_other_sign_ins() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let (owner, other) = (app.owner_of("Acme").await, app.owner_of("Acme").await);
    let change = |old: &str, new: &str| json!({"current_password": old, "new_password": new});
    owner.post("/v1/me/password", change("wrong", NEW)).await.refuses(401, &[]);
    owner.post("/v1/me/password", change(PASSWORD, "password1234")).await.refuses(422, &["new_password"]);
    owner.post("/v1/me/password", json!({})).await.refuses(422, &["current_password", "new_password"]);
    other.get("/v1/me").await.expect(200);
    owner.post("/v1/me/password", change(PASSWORD, NEW)).await.expect(204);
    owner.get("/v1/me").await.expect(200);
    other.get("/v1/me").await.refuses(401, &[]);
    login(&app, PASSWORD).await.refuses(401, &[]);

    // And on the page.
    let mut browser = Browser::new(&app);
    browser.sign_in(&email_of("Acme"), NEW, "").await;
    let token = browser.form_token("/account/password").await;
    let fields = [("form_token", &*token), ("current_password", NEW), ("new_password", PASSWORD)];
    browser.fill("/account/password", &fields).await.expect(200);
    browser.fill("/account/password", &fields).await.expect(401);
    browser.open("/account").await.expect(200);
    owner.get("/v1/me").await.refuses(401, &[]);
    login(&app, PASSWORD).await.expect(200);
}

#[tokio::test]
async fn a_letter_from_before_a_password_was_changed_sets_none() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let email = email_of("Acme");
    let mut browser = Browser::new(&app);
    browser.fill("/reset", &[("email", &email)]).await.expect(200);
    let token = token_of_newest(&app, &email).await;
    let change = json!({"current_password": PASSWORD, "new_password": NEW});
    app.owner_of("Acme").await.post("/v1/me/password", change).await.expect(204);
    browser.open(&format!("/reset?token={token}")).await.expect(410);
    browser.fill("/reset", &[("token", &token), ("password", "other-Quarry-58-winds")]).await.expect(410);
    login(&app, NEW).await.expect(200);
}

#[tokio::test]
async fn a_machine_has_no_password() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let robot = super::oauth::robot(&app.owner_of("Acme").await).await;
    for path in ["/v1/me/sessions", "/v1/me/password"] {
        let reply = if path.ends_with("sessions") {
            robot.get(path).await
        } else {
            robot.post(path, json!({"current_password": "x", "new_password": "y"})).await
        };
        reply.refuses(403, &[]);
    }
    let _: Value = robot.get("/v1/me").await.expect(200).body;
}

#[tokio::test]
async fn a_letter_goes_to_the_address_that_is_known_and_to_no_other_that_looks_like_it() {
    let app = TestApp::new().await;
    app.tenant("Kilo", "standard").await;
    let known = email_of("Kilo");
    // U+212A folds to `k`, but whoever has that address is somebody else.
    let [loud, foreign] = [known.to_uppercase(), known.replace('k', "\u{212A}")];
    for typed in [&loud, &foreign] {
        Browser::new(&app).fill("/reset", &[("email", typed)]).await.expect(200);
    }
    assert_eq!(letters_to(&app, &known).await.len(), 1);
    assert_eq!(letters_to(&app, &loud).await.len() + letters_to(&app, &foreign).await.len(), 0);
}
