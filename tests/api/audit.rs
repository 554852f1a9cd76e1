//! The audit has an entry for each act, made with it, and does not grow without bound by who is turned away.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};
use tollgate::{
    onboarding::{Rig, Rigged, StepName},
    web::extract::Peer,
};

use super::{
    mail::token_of_newest,
    pages::Browser,
    second_factor::{Authenticator, FINISH, OPTIONS, code, enrol, enrol_passkey},
};
use crate::support::{
    actors::{Actor, PASSWORD, email_of, registration},
    app::TestApp,
    audit::Audit,
};

const NEW: &str = "amber-Quarry-58-winds";
const ANN: &str = "ann@elsewhere.example";
/// The administrator, who looks a letter up.
const ADMIN: &str = "sign_in.succeeded";
const AT_LOCALHOST: &str = "[server]\nissuer = \"http://localhost:8080\"\n";

#[tokio::test]
async fn each_act_of_somebody_who_signs_in_is_noted() {
    let app = TestApp::with(AT_LOCALHOST).await;
    app.tenant("Acme", "standard").await;
    let email = email_of("Acme");
    let mut audit = Audit::of(&app).await;
    let login = async |more: Value| {
        let mut body = json!({"email": email, "password": PASSWORD});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        app.anon().post("/v1/login", body).await
    };
    login(json!({"password": "wrong"})).await.refuses(401, &[]);
    assert_eq!(audit.actions().await, ["sign_in.failed"]);
    let owner = Actor { app: &app, token: login(json!({})).await.expect(200).text("/access_token") };
    let entry = audit.entries().await.remove(0);
    assert_eq!(
        (&entry["action"], &entry["actor"]),
        (&json!("sign_in.succeeded"), &json!(format!("user:{}", entry["subject"].as_str().unwrap())))
    );
    let mut browser = Browser::new(&app);
    browser.sign_in(&email, PASSWORD, "").await;
    assert_eq!(audit.actions().await, ["sign_in.succeeded"]);

    // A second factor: a code that is wrong, then the right one.
    let (secret, recovery) = enrol(&app, &mut browser).await;
    assert_eq!(audit.actions().await, ["factor.added", "factor.failed"]);
    let mut authenticator = Authenticator::new();
    enrol_passkey(&mut browser, &mut authenticator).await.expect(200);
    assert_eq!(audit.actions().await, ["factor.added"]);
    app.clock.advance_secs(60);
    login(json!({})).await.refuses(401, &[]);
    let entry = audit.entries().await.remove(0);
    assert_eq!(entry["action"], "sign_in.factor_owed", "the password was right: its owner wants to know");
    let mut other = Browser::new(&app);
    other.sign_in(&email, PASSWORD, "").await;
    assert_eq!(audit.actions().await, ["sign_in.factor_owed"]);
    let options = other.post_json(OPTIONS, &Value::Null).await.expect(200).body;
    other.post_json(FINISH, &authenticator.sign(&options)).await.expect(200);
    assert_eq!(audit.actions().await, ["sign_in.succeeded"]);
    login(json!({"otp": "000000"})).await.refuses(401, &[]);
    assert_eq!(audit.actions().await, ["factor.failed"]);
    login(json!({"otp": code(&app, &secret, 0)})).await.expect(200);
    assert_eq!(audit.actions().await, ["sign_in.succeeded"]);
    login(json!({"otp": recovery[0]})).await.expect(200);
    assert_eq!(audit.actions().await, ["factor.recovery_code_used", "sign_in.succeeded"]);
    let form_token = browser.form_token("/account/factors").await;
    for (act, noted) in [("renew_recovery_codes", "factor.recovery_codes_renewed"), ("remove_totp", "factor.removed")] {
        browser.fill("/account/factors", &[("form_token", &form_token), ("act", act)]).await;
        assert_eq!(audit.actions().await, [noted]);
    }

    // What is their own.
    browser.fill("/account", &[("form_token", &form_token), ("name", "Ada")]).await.expect(303);
    owner.patch("/v1/me", json!({"name": "Ada L."})).await.expect(200);
    assert_eq!(audit.actions().await, ["user.renamed", "user.renamed"]);
    let sessions = owner.get("/v1/me/sessions").await.expect(200).body;
    let sessions = sessions["items"].as_array().unwrap().clone();
    let last = sessions.iter().find(|session| session["current"] == false).unwrap()["session_id"].as_str().unwrap();
    owner.delete(&format!("/v1/me/sessions/{last}")).await.expect(204);
    let entry = audit.entries().await.remove(0);
    assert_eq!((&entry["action"], &entry["subject"]), (&json!("session.revoked"), &json!(last)));
    let of_other = other.form_token("/account").await;
    other.fill("/account/sign-out", &[("form_token", &of_other)]).await.expect(303);
    assert_eq!(audit.actions().await, ["sign_out"]);
    let change = json!({"current_password": PASSWORD, "new_password": NEW});
    owner.post("/v1/me/password", change).await.expect(204);
    let actions = audit.actions().await;
    assert!(actions.starts_with(&["password.changed".to_owned()]), "{actions:?}");
    assert!(actions[1..].iter().all(|action| action == "session.revoked"), "the others ended: {actions:?}");
}

#[tokio::test]
async fn who_asks_for_a_new_password_is_noted_known_or_not() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let email = email_of("Acme");
    let mut audit = Audit::of(&app).await;
    let mut anybody = Browser::new(&app);
    anybody.fill("/reset", &[("email", &email)]).await.expect(200);
    anybody.fill("/reset", &[("email", "nobody@acme.example")]).await.expect(200);
    let asked = audit.entries().await;
    assert!(asked.iter().all(|entry| entry["action"] == "password.reset_asked") && asked.len() == 2, "{asked:?}");
    assert!(asked.iter().any(|entry| entry["subject"].as_str().unwrap().starts_with("email:")));
    let token = token_of_newest(&app, &email).await;
    anybody.fill("/reset", &[("token", &token), ("password", PASSWORD)]).await.expect(200);
    assert_eq!(audit.actions().await, ["email.verified", "password.reset", ADMIN]);
}

#[tokio::test]
async fn each_act_about_tenants_and_their_people_is_noted() {
    let app = TestApp::with("[identity]\nverify_email = true\n").await;
    let mut audit = Audit::of(&app).await;
    let admin = app.admin().await;
    audit.actions().await;
    let made = admin.post("/admin/v1/registrations", registration("Acme", "standard")).await.expect(201);
    let tenant = made.text("/tenant_id");
    let entries = audit.entries().await;
    let about = |action: &str| entries.iter().find(|entry| entry["action"] == action).unwrap().clone();
    assert_eq!((entries.len(), &about("tenant.registered")["subject"]), (2, &made.body["tenant_id"]));
    assert_eq!(about("user.added")["subject"], made.body["user_id"]);
    assert!(about("user.added")["actor"].as_str().unwrap().starts_with("admin:"));
    // Twice makes nothing twice.
    admin.post("/admin/v1/registrations", registration("Acme", "standard")).await.expect(201);
    assert!(audit.actions().await.is_empty());

    let path = format!("/admin/v1/tenants/{tenant}");
    admin.patch(&path, json!({"customer_name": "Acme Inc"})).await.expect(200);
    assert_eq!(audit.actions().await, ["tenant.changed"]);
    admin.patch(&path, json!({"billing_address": "2 Side Street"})).await.expect(200);
    assert_eq!(audit.actions().await, ["billing_address.changed"]);
    let quota = json!([{"meter": "apis", "limit": "7", "period": "day", "mode": "hard"}]);
    admin.put(&format!("{path}/quotas"), quota).await.expect(200);
    let entry = audit.entries().await.remove(0);
    assert!(entry["action"] == "quotas.changed" && entry["detail"].as_str().unwrap().contains("apis"), "{entry}");
    admin.post(&format!("{path}/tier"), json!({"tier": "premium"})).await.expect(200);
    assert_eq!(audit.actions().await, ["tenant.tier_asked", "tenant.tier_changed"]);
    for (verb, noted) in [("suspend", "tenant.suspended"), ("activate", "tenant.activated")] {
        admin.post(&format!("{path}/{verb}"), Value::Null).await.expect(200);
        assert_eq!(audit.actions().await, [noted]);
    }

    let owner = app.owner_of("Acme").await;
    audit.actions().await;
    let invited = owner.post("/v1/invitations", json!({"email": ANN})).await.expect(201).text("/invitation_id");
    assert_eq!(audit.actions().await, ["invitation.made"]);
    owner.delete(&format!("/v1/invitations/{invited}")).await.expect(204);
    assert_eq!(audit.actions().await, ["invitation.revoked"]);
    // Of one instant no letter is the newest.
    app.clock.advance_secs(1);
    owner.post("/v1/invitations", json!({"email": ANN})).await.expect(201);
    let token = token_of_newest(&app, ANN).await;
    let user = app.anon().post(&format!("/v1/invitations/{token}"), json!({"password": PASSWORD})).await.expect(201);
    let user = user.text("/user_id");
    assert_eq!(audit.actions().await, ["email.verified", "invitation.accepted", "invitation.made", ADMIN]);
    for verb in ["disable", "enable"] {
        admin.post(&format!("{path}/users/{user}/{verb}"), Value::Null).await.expect(200);
    }
    owner.delete(&format!("/v1/users/{user}/factors")).await.expect(204);
    owner.delete(&format!("/v1/users/{user}")).await.expect(204);
    assert_eq!(audit.actions().await, ["factor.reset", "user.disabled", "user.enabled", "user.removed"]);
    let client = owner.post("/v1/clients", json!({"client_name": "robot"})).await.expect(201).text("/client_id");
    owner.delete(&format!("/v1/clients/{client}")).await.expect(204);
    assert_eq!(audit.actions().await, ["client.deleted", "client.made"]);
    admin.post("/admin/v1/keys/rotate", Value::Null).await.expect(201);
    assert_eq!(audit.actions().await, ["key.made"]);
    admin.delete(&path).await.expect(200);
    assert_eq!(audit.actions().await, ["invoice.finalized", "tenant.offboarded"]);

    // Somebody without letters: those of one millisecond are in no order.
    let bea = "bea@globex.example";
    let sign_up = json!({"email": bea, "password": PASSWORD, "customer_name": "Globex", "billing_address": "1 Main"});
    app.anon().post("/v1/signup", sign_up).await.expect(202);
    let asked = audit.entries().await.remove(0);
    assert_eq!((&asked["action"], &asked["actor"]), (&json!("sign_up.asked"), &json!("anonymous")));
    assert!(!asked.to_string().contains(bea), "nobody has it yet: {asked}");
    let token = token_of_newest(&app, bea).await;
    app.anon().post("/v1/signup/verify", json!({"token": token})).await.expect(201);
    assert_eq!(audit.actions().await, ["email.verified", ADMIN, "tenant.registered", "user.added"]);
}

#[tokio::test]
async fn what_becomes_of_a_registration_that_fails_is_noted() {
    let app = TestApp::new().await;
    let mut audit = Audit::of(&app).await;
    let admin = app.admin().await;
    let onboarding: tollgate::onboarding::Onboarding = axum::extract::FromRef::from_ref(app.app.state());
    let step = StepName::Activation;
    let fails = |lasting| Rig { fails: Some(Rigged { step, lasting, left: Some(1) }), halt_at: None };
    onboarding.points().rig(fails(false));
    let made = admin.post("/admin/v1/registrations", registration("Acme", "free")).await.expect(201);
    assert_eq!(audit.actions().await, ["registration.failed", ADMIN, "tenant.registered", "user.added"]);
    onboarding.points().rig(fails(true));
    let id = made.text("/registration_id");
    admin.post(&format!("/admin/v1/registrations/{id}/retry"), Value::Null).await.expect(409);
    let noted = audit.entries().await;
    let mut acts: Vec<_> = noted.iter().map(|entry| (entry["action"].as_str().unwrap(), &entry["subject"])).collect();
    acts.sort_by_key(|(action, _)| *action);
    let of = |action| (action, &made.body["registration_id"]);
    assert_eq!(acts, [of("registration.compensated"), of("registration.failed"), of("registration.retried")]);
}

#[tokio::test]
async fn a_change_of_tier_that_fails_is_noted_with_what_stays() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    // Where the infrastructure of the tier would be made is a file.
    std::fs::remove_dir_all(app.folder.path().join("infrastructure")).ok();
    std::fs::write(app.folder.path().join("infrastructure"), "").unwrap();
    let mut audit = Audit::of(&app).await;
    let path = format!("/admin/v1/tenants/{tenant}/tier");
    assert!(app.admin().await.post(&path, json!({"tier": "premium"})).await.status.is_server_error());
    assert_eq!(audit.actions().await, ["sign_in.succeeded", "tenant.tier_asked", "tenant.tier_kept"]);
}

/// Tries at a sign-in; how many entries they made.
async fn tries(app: &TestApp, audit: &mut Audit<'_>, email: &str, address: &str, count: usize) -> Vec<String> {
    for _ in 0..count {
        let body = json!({"email": email, "password": "wrong"}).to_string();
        let request = Request::post("/v1/login").header(header::CONTENT_TYPE, "application/json");
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(Peer(address.parse().unwrap()));
        app.send(request).await;
    }
    let mut actions = audit.actions().await;
    actions.dedup();
    actions
}

#[tokio::test]
async fn who_has_to_wait_is_noted_once_and_not_each_try() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let mut audit = Audit::of(&app).await;
    for email in [&*email_of("Acme"), "nobody@acme.example"] {
        assert_eq!(tries(&app, &mut audit, email, "192.0.2.1", 10).await, ["sign_in.failed"]);
        assert_eq!(tries(&app, &mut audit, email, "192.0.2.1", 50).await, ["sign_in.throttled"], "{email}");
        let noted = app.admin().await.get("/admin/v1/audit?action=sign_in.throttled").await.body;
        let last = noted["items"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["actor"], &last["detail"]), (&json!("anonymous"), &json!("from 192.0.2.1")));
        audit.actions().await;
        assert!(tries(&app, &mut audit, email, "192.0.2.1", 50).await.is_empty(), "{email}");
        assert_eq!(audit_count(&app, &mut audit).await, if email.starts_with("owner") { 1 } else { 2 });
    }
    // When they have left off for a while, it is news again.
    app.clock.advance_secs(1_000);
    let mut audit = Audit::of(&app).await;
    let again = tries(&app, &mut audit, &email_of("Acme"), "192.0.2.1", 12).await;
    assert_eq!(again, ["sign_in.failed", "sign_in.throttled"]);
}

async fn audit_count(app: &TestApp, audit: &mut Audit<'_>) -> usize {
    let noted = app.admin().await.get("/admin/v1/audit?limit=500&action=sign_in.throttled").await.body;
    audit.actions().await;
    noted["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn guesses_at_a_factor_letters_and_clients_that_prove_nothing_are_noted_once() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let mut browser = Browser::new(&app);
    browser.sign_in(&email_of("Acme"), PASSWORD, "").await;
    enrol(&app, &mut browser).await;
    let client = app
        .admin()
        .await
        .post("/admin/v1/clients", json!({"client_name": "robot", "tenant_id": tenant}))
        .await
        .expect(201);
    let mut audit = Audit::of(&app).await;
    for _ in 0..20 {
        let body = json!({"email": email_of("Acme"), "password": PASSWORD, "otp": "000000"});
        app.anon().post("/v1/login", body).await;
    }
    let actions = audit.actions().await;
    assert_eq!(actions.iter().filter(|action| *action == "factor.throttled").count(), 1, "{actions:?}");
    assert!(actions.len() < 10, "{actions:?}");
    for _ in 0..20 {
        browser.fill("/reset", &[("email", "ann@acme.example")]).await;
    }
    let actions = audit.actions().await;
    assert_eq!(actions.iter().filter(|action| *action == "letter.throttled").count(), 1, "{actions:?}");
    assert!(actions.len() < 10, "{actions:?}");

    let id = client.text("/client_id");
    for n in 0..20 {
        let nobody = format!("0190a000-0000-7000-8000-0000000000{n:02}");
        for id in [&*id, &nobody, "no id"] {
            let fields = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", "wrong")];
            super::oauth::refuses(&super::oauth::token(&app, &fields).await, 401, "invalid_client");
        }
    }
    let refused = audit.entries().await;
    let mut subjects: Vec<_> = refused.iter().map(|entry| entry["subject"].as_str().unwrap()).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, [&*id, "unknown"]);
    assert!(refused.iter().all(|entry| entry["action"] == "client.refused"));
}

#[tokio::test]
async fn the_first_administrator_is_noted() {
    let app = TestApp::new().await;
    let made = app.admin().await.get("/admin/v1/audit?action=admin.made").await.expect(200);
    assert_eq!(
        (made.text("/items/0/action"), made.text("/items/0/actor")),
        ("admin.made".into(), "job:first-admin".into())
    );
    // It is made once.
    let app = app.restarted().await;
    let made = app.admin().await.get("/admin/v1/audit?action=admin.made").await.expect(200);
    assert_eq!(made.body["items"].as_array().unwrap().len(), 1);
}
