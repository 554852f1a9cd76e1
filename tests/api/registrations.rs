//! Registrations as a saga: what fails is tried again or taken back, what is interrupted is taken up by one, and many who come at
//! once make one tenant.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};
use tollgate::onboarding::{Onboarding, Rig, Rigged, StepName};

use crate::support::{
    actors::{Actor, PASSWORD, email_of, registration},
    app::TestApp,
};

const REGISTRATIONS: &str = "/admin/v1/registrations";

/// The same on the embedded store and, where it is installed, on PostgreSQL.
macro_rules! on_each_engine {
    ($(async fn $name:ident($app:ident: TestApp, $settings:expr) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn run($app: TestApp) $body

            #[tokio::test]
            async fn sqlite() {
                run(TestApp::with($settings).await).await;
            }

            #[tokio::test]
            async fn postgres() {
                let Some(app) = TestApp::on_postgres_with($settings).await else { return };
                run(app).await;
            }
        }
    )*};
}

fn onboarding(app: &TestApp) -> Onboarding {
    axum::extract::FromRef::from_ref(app.app.state())
}

fn fails(step: StepName, lasting: bool, left: Option<u32>) -> Rig {
    Rig { fails: Some(Rigged { step, lasting, left }), halt_at: None }
}

fn halts(point: &str) -> Rig {
    Rig { halt_at: Some(point.parse().unwrap()), fails: None }
}

/// Name and status of each step.
fn steps(registration: &Value) -> Vec<(String, String)> {
    let text = |step: &Value, member: &str| step[member].as_str().unwrap().to_owned();
    registration["steps"].as_array().unwrap().iter().map(|step| (text(step, "name"), text(step, "status"))).collect()
}

fn statuses(registration: &Value) -> Vec<String> {
    steps(registration).into_iter().map(|(_, status)| status).collect()
}

async fn all(admin: &Actor<'_>, list: &str) -> Vec<Value> {
    admin.get(&format!("/admin/v1/{list}")).await.expect(200).body["items"].as_array().unwrap().clone()
}

/// The names of what was told of a tenant, in order.
async fn told(admin: &Actor<'_>, tenant: &str) -> Vec<String> {
    let mut events = all(admin, &format!("events?tenant_id={tenant}&limit=500")).await;
    events.sort_by_key(|event| event["sequence"].as_i64());
    events.iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect()
}

/// Nothing of a tenant is left but its tombstone.
async fn is_taken_back(admin: &Actor<'_>, tenant: &str) {
    let path = format!("/admin/v1/tenants/{tenant}");
    assert_eq!(admin.get(&path).await.expect(200).text("/status"), "deleted");
    admin.get(&format!("{path}/infrastructure")).await.refuses(404, &[]);
    assert_eq!(all(admin, &format!("tenants/{tenant}/users")).await, Vec::<Value>::new());
    let account = admin.get(&format!("{path}/billing-account")).await;
    assert!(account.status == 404 || account.text("/status") == "closed", "{}", account.body);
}

#[tokio::test]
async fn the_steps_are_named_in_order_with_their_times() {
    let app = TestApp::new().await;
    let made = app.admin().await.post(REGISTRATIONS, registration("Acme", "premium")).await.expect(201).body;
    let names = ["tenant", "user", "billing_account", "provisioning", "activation"];
    assert_eq!(steps(&made), names.map(|name| (name.to_owned(), "done".to_owned())));
    for step in made["steps"].as_array().unwrap() {
        assert_eq!(
            (&step["attempts"], step["error"].is_null(), step["next_try_at"].is_null()),
            (&json!(1), true, true)
        );
        assert!(step["started_at"].is_string() && step["ended_at"].is_string(), "{step}");
    }
}

on_each_engine! {
    async fn a_step_that_fails_is_tried_again_at_its_time_and_not_before(app: TestApp, "") {
        let (admin, onboarding) = (app.admin().await, onboarding(&app));
        onboarding.points().rig(fails(StepName::Provisioning, false, Some(2)));
        let made = admin.post(REGISTRATIONS, registration("Acme", "premium")).await.expect(201);
        let (id, tenant) = (made.text("/registration_id"), made.text("/tenant_id"));
        assert_eq!(made.text("/status"), "failed");
        assert_eq!(statuses(&made.body), ["done", "done", "done", "failed", "pending"]);
        assert_eq!(made.text("/steps/3/error"), "the lab lets the step provisioning fail");
        let next: tollgate::kernel::Timestamp = made.text("/steps/3/next_try_at").parse().unwrap();
        let wait = next.micros_since(made.text("/updated_at").parse().unwrap());
        assert!((1_000_000..=2_000_000).contains(&wait), "{wait}");
        let failed = admin.get(&format!("/admin/v1/tenants/{tenant}")).await.expect(200);
        assert_eq!((failed.text("/status"), failed.text("/failure/step")), ("failed".into(), "provisioning".into()));
        assert_eq!(failed.text("/failure/retryable"), "true");
        app.signed_in_is_refused(&email_of("Acme")).await;

        assert_eq!(onboarding.resume_due().await.unwrap(), 0, "not yet");
        app.clock.advance_secs(2);
        assert_eq!(onboarding.resume_due().await.unwrap(), 1);
        let again = admin.get(&format!("{REGISTRATIONS}/{id}")).await.expect(200);
        assert_eq!((again.text("/status"), again.text("/steps/3/attempts")), ("failed".into(), "2".into()));
        app.clock.advance_secs(4);
        assert_eq!(onboarding.resume_due().await.unwrap(), 1);
        let active = admin.get(&format!("{REGISTRATIONS}/{id}")).await.expect(200);
        assert_eq!((active.text("/status"), active.text("/steps/3/attempts")), ("active".into(), "3".into()));
        app.owner_of("Acme").await.get("/v1/me").await.expect(200);
        assert_eq!(told(&admin, &tenant).await, ["tenant.created", "user.created", "tenant.failed", "tenant.activated"]);
        assert_eq!(onboarding.resume_due().await.unwrap(), 0, "it has ended");
    }

    async fn what_fails_for_good_is_refused_and_taken_back_whichever_step_it_is(app: TestApp, "") {
        let (admin, onboarding) = (app.admin().await, onboarding(&app));
        for (place, step) in StepName::ALL.iter().enumerate() {
            // Ids of one instant come in no order.
            app.clock.advance_secs(1);
            onboarding.points().rig(fails(*step, true, Some(1)));
            admin.post(REGISTRATIONS, registration("Acme", "premium")).await.refuses(409, &[]);
            let last = all(&admin, "registrations?limit=500").await.pop().unwrap();
            assert_eq!(last["status"], "compensated", "{last}");
            let expected: Vec<&str> = (0..StepName::ALL.len()).map(|at| if at > place { "pending" } else { "undone" }).collect();
            assert_eq!(statuses(&last), expected);
            assert!(last["steps"][place]["error"].is_string(), "why stays: {last}");
            assert_eq!(last["undoing"], Value::Null);
            if place > 0 {
                is_taken_back(&admin, last["tenant_id"].as_str().unwrap()).await;
            }
        }
        // The name and the email are free, for another tenant.
        let id = app.tenant("Acme", "premium").await;
        let before = all(&admin, "tenants?status=deleted").await;
        assert!(before.iter().all(|gone| gone["tenant_id"] != json!(id)));
        app.owner_of("Acme").await.get("/v1/me").await.expect(200);
        let gone = before[0]["tenant_id"].as_str().unwrap();
        let last_words = told(&admin, gone).await.pop();
        assert_eq!(last_words.as_deref(), Some("tenant.deleted"));
    }

    async fn what_fails_too_often_is_taken_back(app: TestApp, "[onboarding]\nmax_attempts = 3\nretry_most_s = 5\n") {
        let (admin, onboarding) = (app.admin().await, onboarding(&app));
        onboarding.points().rig(fails(StepName::Provisioning, false, None));
        let made = admin.post(REGISTRATIONS, registration("Acme", "premium")).await.expect(201);
        for _ in 0..2 {
            app.clock.advance_secs(5);
            assert_eq!(onboarding.resume_due().await.unwrap(), 1);
        }
        let id = made.text("/registration_id");
        let ended = admin.get(&format!("{REGISTRATIONS}/{id}")).await.expect(200);
        assert_eq!((ended.text("/status"), ended.text("/steps/3/attempts")), ("compensated".into(), "3".into()));
        is_taken_back(&admin, &made.text("/tenant_id")).await;
        assert_eq!(
            told(&admin, &made.text("/tenant_id")).await,
            ["tenant.created", "user.created", "tenant.failed", "tenant.offboarding", "tenant.deleted"]
        );
        admin.post(&format!("{REGISTRATIONS}/{id}/retry"), Value::Null).await.refuses(409, &[]);
        onboarding.points().rig(Rig::default());
        assert_ne!(app.tenant("Acme", "premium").await, made.text("/tenant_id"), "the name is free, for another id");
    }

    async fn who_came_into_a_tenant_meanwhile_keeps_it(app: TestApp, "") {
        let (admin, onboarding) = (app.admin().await, onboarding(&app));
        onboarding.points().rig(fails(StepName::Provisioning, false, Some(1)));
        let founder = admin.post(REGISTRATIONS, registration("Acme", "free")).await.expect(201);
        let mut body = registration("Acme", "free");
        body["email"] = json!("second@acme.example");
        let second = admin.post(REGISTRATIONS, body).await.expect(201);
        assert_eq!((second.text("/status"), second.text("/tenant_id")), ("active".into(), founder.text("/tenant_id")));
        onboarding.points().rig(fails(StepName::Activation, true, Some(1)));
        let retry = format!("{REGISTRATIONS}/{}/retry", founder.text("/registration_id"));
        admin.post(&retry, Value::Null).await.refuses(409, &[]);
        let tenant = format!("/admin/v1/tenants/{}", founder.text("/tenant_id"));
        assert_eq!(admin.get(&tenant).await.expect(200).text("/status"), "active");
        assert_eq!(admin.get(&format!("{tenant}/billing-account")).await.expect(200).text("/status"), "open");
        admin.get(&format!("{tenant}/infrastructure")).await.expect(200);
        let users = admin.get(&format!("{tenant}/users")).await.expect(200);
        assert_eq!(users.body["items"].as_array().unwrap().len(), 1, "{}", users.body);
        let left = (users.text("/items/0/email"), users.text("/items/0/role"));
        assert_eq!(left, ("second@acme.example".into(), "owner".into()), "somebody owns it");
    }

    async fn fifty_sign_ups_at_once_under_one_name_make_one_tenant(app: TestApp, "[identity]\nhash_concurrency = 8\n") {
        let body = |number: usize| json!({
            "email": format!("person{number}@people.example"), "password": PASSWORD, "customer_name": "Acme",
            "billing_address": "1 Main Street",
        });
        let request = |number: usize| {
            let request = Request::post("/v1/signup").header(header::CONTENT_TYPE, "application/json");
            request.body(Body::from(body(number).to_string())).unwrap()
        };
        let replies = app.send_together((0..50).map(request).collect()).await;
        let count = |status: u16| replies.iter().filter(|reply| reply.status == status).count();
        assert_eq!((count(201), count(409)), (1, 49));
        let refused = replies.iter().find(|reply| reply.status == 409).unwrap();
        assert!(refused.text("/detail").contains("ask its administrator for an invitation"), "{}", refused.body);
        let admin = app.admin().await;
        let tenants = all(&admin, "tenants?limit=500").await;
        assert_eq!((tenants.len(), &tenants[0]["status"]), (1, &json!("active")));
        let id = tenants[0]["tenant_id"].as_str().unwrap().to_owned();
        assert_eq!(all(&admin, &format!("tenants/{id}/users?limit=500")).await.len(), 1);
        let registrations = all(&admin, "registrations?limit=500").await;
        assert_eq!(registrations.iter().filter(|made| made["status"] == "active").count(), 1);
        assert!(registrations.iter().all(|made| made["status"] == "active" || made["status"] == "compensated"));
        // Nobody who was refused is left behind: their emails are free.
        let loser = replies.iter().position(|reply| reply.status == 409);
        let replies = app.send_together(vec![request(loser.unwrap())]).await;
        assert_eq!(replies[0].status, 409, "{}", replies[0].body);
        assert!(replies[0].text("/detail").contains("customer name"), "not the email: {}", replies[0].body);
    }

    async fn fifty_registrations_at_once_under_one_name_make_one_tenant_with_one_owner(app: TestApp, "") {
        let token = app.admin().await.token;
        let request = |number: usize| {
            let mut body = registration("Acme", "premium");
            body["email"] = json!(format!("person{number}@people.example"));
            body.as_object_mut().unwrap().remove("password");
            let request = Request::post(REGISTRATIONS).header(header::CONTENT_TYPE, "application/json");
            request.header(header::AUTHORIZATION, format!("Bearer {token}")).body(Body::from(body.to_string())).unwrap()
        };
        let replies = app.send_together((0..50).map(request).collect()).await;
        let admin = app.admin().await;
        for reply in &replies {
            // On a slow machine some go on behind their answer.
            assert!([201, 202].contains(&reply.status.as_u16()), "{}", reply.body);
            let path = format!("{REGISTRATIONS}/{}", reply.text("/registration_id"));
            while admin.get(&path).await.expect(200).text("/status") == "running" {}
            assert_eq!(admin.get(&path).await.expect(200).text("/status"), "active");
        }
        let tenants = all(&admin, "tenants?limit=500").await;
        assert_eq!((tenants.len(), &tenants[0]["status"]), (1, &json!("active")));
        assert!(replies.iter().all(|reply| reply.body["tenant_id"] == tenants[0]["tenant_id"]));
        let id = tenants[0]["tenant_id"].as_str().unwrap().to_owned();
        let users = all(&admin, &format!("tenants/{id}/users?limit=500")).await;
        assert_eq!(users.len(), 50);
        assert_eq!(users.iter().filter(|user| user["role"] == "owner").count(), 1);
        admin.get(&format!("/admin/v1/tenants/{id}/infrastructure")).await.expect(200);
        assert_eq!(admin.get(&format!("/admin/v1/tenants/{id}/billing-account")).await.text("/status"), "open");
        assert_eq!(told(&admin, &id).await.iter().filter(|name| *name == "tenant.created").count(), 1);
    }
}

impl TestApp {
    async fn signed_in_is_refused(&self, email: &str) {
        let login = json!({"email": email, "password": PASSWORD});
        self.anon().post("/v1/login", login).await.refuses(403, &[]);
    }
}

#[tokio::test]
async fn an_administrator_has_it_tried_again_without_waiting() {
    let app = TestApp::new().await;
    let (admin, onboarding) = (app.admin().await, onboarding(&app));
    onboarding.points().rig(fails(StepName::BillingAccount, false, Some(1)));
    let made = admin.post(REGISTRATIONS, registration("Acme", "free")).await.expect(201);
    assert_eq!(statuses(&made.body), ["done", "done", "failed", "pending", "pending"]);
    let retry = format!("{REGISTRATIONS}/{}/retry", made.text("/registration_id"));
    let retried = admin.post(&retry, Value::Null).await.expect(200);
    assert_eq!((retried.text("/status"), retried.text("/steps/2/attempts")), ("active".into(), "2".into()));
    admin.post(&retry, Value::Null).await.refuses(409, &[]);
    let unknown = "018f0000-0000-7000-8000-000000000001";
    admin.post(&format!("{REGISTRATIONS}/{unknown}/retry"), Value::Null).await.refuses(404, &[]);
}

#[tokio::test]
async fn who_joined_a_tenant_in_use_is_not_thrown_out_when_its_infrastructure_does_not_answer() {
    let app = TestApp::with("[onboarding]\nmax_attempts = 1\n").await;
    let (admin, onboarding) = (app.admin().await, onboarding(&app));
    let id = app.tenant("Acme", "free").await;
    onboarding.points().rig(fails(StepName::Provisioning, false, Some(1)));
    let mut body = registration("Acme", "free");
    body["email"] = json!("second@acme.example");
    let joined = admin.post(REGISTRATIONS, body).await.expect(201);
    assert_eq!((joined.text("/status"), &joined.body["steps"][3]["next_try_at"]), ("failed".into(), &Value::Null));
    app.clock.advance_secs(86_400);
    assert_eq!(onboarding.resume_due().await.unwrap(), 0, "somebody has to say so");
    let admin = app.admin().await;
    assert_eq!(admin.get(&format!("/admin/v1/tenants/{id}")).await.text("/status"), "active");
    assert_eq!(all(&admin, &format!("tenants/{id}/users")).await.len(), 2);
    let retry = format!("{REGISTRATIONS}/{}/retry", joined.text("/registration_id"));
    assert_eq!(admin.post(&retry, Value::Null).await.expect(200).text("/status"), "active");
}

#[tokio::test]
async fn nothing_is_made_where_there_is_no_room_for_it() {
    let app = TestApp::new().await;
    std::fs::write(app.folder.path().join("infrastructure"), "").unwrap();
    let admin = app.admin().await;
    admin.post(REGISTRATIONS, registration("Acme", "free")).await.refuses(503, &[]);
    for list in ["tenants", "registrations", "events"] {
        assert_eq!(all(&admin, list).await, Vec::<Value>::new(), "{list}");
    }
}

#[tokio::test]
async fn a_tenant_that_is_taken_out_takes_its_registrations_from_whoever_has_them() {
    let app = TestApp::new().await;
    let (admin, onboarding) = (app.admin().await, onboarding(&app));
    onboarding.points().rig(fails(StepName::Activation, false, Some(1)));
    let made = admin.post(REGISTRATIONS, registration("Acme", "premium")).await.expect(201);
    assert_eq!(made.text("/status"), "failed");
    let tenant = made.text("/tenant_id");
    admin.delete(&format!("/admin/v1/tenants/{tenant}")).await.expect(200);
    is_taken_back(&admin, &tenant).await;
    app.clock.advance_secs(600);
    assert_eq!(onboarding.resume_due().await.unwrap(), 0);
    let path = format!("{REGISTRATIONS}/{}", made.text("/registration_id"));
    let admin = app.admin().await;
    let ended = admin.get(&path).await.expect(200);
    assert_eq!(ended.text("/status"), "compensated");
    admin.post(&format!("{path}/retry"), Value::Null).await.refuses(409, &[]);
}

fn keyed(token: &str, key: &str, body: &Value) -> Request<Body> {
    let request = Request::post(REGISTRATIONS).header(header::CONTENT_TYPE, "application/json");
    let request = request.header(header::AUTHORIZATION, format!("Bearer {token}")).header("idempotency-key", key);
    request.body(Body::from(body.to_string())).unwrap()
}

/// Sends a request that gets no answer: its registration halts at a place.
async fn halted(app: &TestApp, request: Request<Body>, point: &str) {
    let onboarding = onboarding(app);
    onboarding.points().rig(halts(point));
    let router = app.router.clone();
    let mut sent = Box::pin(tower::ServiceExt::oneshot(router, request));
    let registrations = async || all(&app.admin().await, "registrations").await;
    loop {
        tokio::select! {
            answer = &mut sent => panic!("it does not halt: {answer:?}"),
            found = registrations() => {
                let step = point.split(':').next().unwrap();
                let at = |made: &Value| steps(made).contains(&(step.to_owned(), "running".to_owned()));
                if found.iter().any(at) {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn the_same_key_is_the_same_registration_also_after_a_crash_before_the_answer() {
    let app = TestApp::new().await;
    let token = app.admin().await.token;
    let body = registration("Acme", "free");
    halted(&app, keyed(&token, "k", &body), "user:begun").await;
    let app = app.restarted().await;
    let admin = app.admin().await;
    let made = all(&admin, "registrations").await.remove(0);
    assert_eq!((&made["status"], &made["steps"][1]["attempts"]), (&json!("active"), &json!(2)), "resumed by the start");
    // The claim of the process that died is free after two minutes.
    app.send(keyed(&token, "k", &body)).await.refuses(409, &[]);
    app.clock.advance_secs(121);
    let again = app.send(keyed(&token, "k", &body)).await.expect(201);
    assert_eq!(again.body["registration_id"], made["registration_id"]);
    let replayed = app.send(keyed(&token, "k", &body)).await.expect(201);
    assert_eq!((&replayed.body, &replayed.headers["idempotency-replayed"]), (&again.body, &"true".parse().unwrap()));
    app.send(keyed(&token, "k", &registration("Globex", "free"))).await.refuses(409, &[]);
    assert_eq!(all(&admin, "registrations").await.len(), 1);
    // The key is another's a day later.
    app.clock.advance_secs(86_401);
    let token = app.admin().await.token;
    let another = app.send(keyed(&token, "k", &body)).await.expect(201);
    assert_ne!(another.body["registration_id"], made["registration_id"]);
    assert_eq!(another.body["tenant_id"], made["tenant_id"]);
}

#[tokio::test]
async fn two_nodes_that_find_the_same_registration_go_on_with_it_once() {
    let Some(app) = TestApp::on_postgres_with("[onboarding]\nlease_s = 30\n").await else { return };
    let token = app.admin().await.token;
    let body = registration("Acme", "premium");
    let first = onboarding(&app);
    let (dead, router) = (first.points().clone(), app.router.clone());
    dead.rig(halts("provisioning:begun"));
    let request = Request::post(REGISTRATIONS).header(header::CONTENT_TYPE, "application/json");
    let request =
        request.header(header::AUTHORIZATION, format!("Bearer {token}")).body(Body::from(body.to_string())).unwrap();
    let mut answers = tokio::task::JoinSet::new();
    answers.spawn(tower::ServiceExt::oneshot(router, request));
    let (other, another) = (app.beside().await, app.beside().await);
    let (second, third) = (onboarding(&other), onboarding(&another));
    let admin = other.admin().await;
    while all(&admin, "registrations").await.iter().all(|made| made["steps"][3]["status"] != "running") {
        tokio::task::yield_now().await;
    }
    assert_eq!(second.resume_due().await.unwrap(), 0, "somebody has it");
    app.clock.advance_secs(31);
    let (one, two) = tokio::join!(second.resume_due(), third.resume_due());
    assert_eq!(one.unwrap() + two.unwrap(), 1);
    let made = all(&admin, "registrations").await.remove(0);
    assert_eq!((&made["status"], &made["steps"][3]["attempts"]), (&json!("active"), &json!(2)));
    // The one that was thought dead comes to, and finds that it is not its own any more.
    dead.rig(Rig::default());
    answers.join_next().await.unwrap().unwrap().unwrap();
    let after = all(&admin, "registrations").await.remove(0);
    assert_eq!(after, made, "nothing was done twice");
    let tenant = made["tenant_id"].as_str().unwrap();
    assert_eq!(told(&admin, tenant).await, ["tenant.created", "user.created", "tenant.activated"]);
}

#[tokio::test]
async fn a_tenant_that_does_not_answer_is_no_suspended_one_and_can_be_both() {
    let app = TestApp::new().await;
    let id = app.tenant("Acme", "free").await;
    let (admin, owner) = (app.admin().await, app.owner_of("Acme").await);
    let path = format!("/admin/v1/tenants/{id}");
    let tenants: tollgate::tenants::Tenants = axum::extract::FromRef::from_ref(app.app.state());
    let (scope, tenant) = (tollgate::store::Scope::Job("test"), id.parse().unwrap());
    owner.get("/sample/hello").await.expect(200);
    tenants
        .note_unavailable(scope, tollgate::kernel::Actor::Job("test"), tenant, "its database does not answer".into())
        .await
        .unwrap();
    let refused = owner.get("/sample/hello").await.refuses(503, &[]);
    assert_eq!(refused.headers["retry-after"], "5");
    owner.get("/v1/usage?meter=apis").await.expect(200);
    let seen = admin.get(&path).await.expect(200);
    assert_eq!(
        (seen.text("/status"), seen.text("/unavailable/reason")),
        ("active".into(), "its database does not answer".into())
    );
    admin.post(&format!("{path}/suspend"), Value::Null).await.expect(200);
    owner.get("/sample/hello").await.refuses(403, &[]);
    let both = admin.get(&path).await.expect(200);
    assert_eq!((both.text("/status"), both.body["unavailable"].is_object()), ("suspended".into(), true));
    admin.post(&format!("{path}/activate"), Value::Null).await.expect(200);
    owner.get("/sample/hello").await.refuses(503, &[]);
    tenants.note_available(scope, tollgate::kernel::Actor::Job("test"), tenant).await.unwrap();
    owner.get("/sample/hello").await.expect(200);
    assert!(admin.get(&path).await.body["unavailable"].is_null());
}
