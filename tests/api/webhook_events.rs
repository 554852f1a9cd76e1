//! Which events are told, with what, to whom.

use serde_json::{Value, json};
use tollgate::onboarding::{Rig, Rigged, StepName};

use super::{
    admission::{set_quotas, tell_crossings},
    invoices::{at, close, invoices},
    webhook_deliveries::{ALLOWED, hook, tell},
};
use crate::support::{
    actors::{PASSWORD, email_of, registration},
    app::TestApp,
    receiver::{Call, Receiver},
};

/// Names and tenants of what came, in order.
fn told(calls: &[Call]) -> Vec<(String, String)> {
    calls.iter().map(|call| (call.kind(), call.tenant())).collect()
}

/// What is told of a tenant that comes, changes its tier, is suspended for a while, loses a member and goes.
const LIFE: [&str; 12] = [
    "tenant.created",
    "user.created",
    "tenant.activated",
    "user.created",
    "tenant.tier_changed",
    "tenant.suspended",
    "tenant.activated",
    "user.removed",
    "tenant.offboarding",
    "invoice.drafted",
    "invoice.finalized",
    "tenant.deleted",
];

#[tokio::test]
async fn the_platform_hears_of_a_tenants_life_in_order() {
    let (app, receiver) = (TestApp::with(ALLOWED).await, Receiver::start());
    let admin = app.admin().await;
    hook(&admin, "/admin/v1/webhooks", &receiver, &["*"]).await;
    let id = app.tenant("Acme", "free").await;
    let owner = app.owner_of("Acme").await;
    let second = json!({"email": "second@acme.example", "role": "member", "password": PASSWORD});
    let second = owner.post("/v1/users", second).await.expect(201).text("/user_id");
    let of_tenant = format!("/admin/v1/tenants/{id}");
    admin.post(&format!("{of_tenant}/tier"), json!({"tier": "standard", "dry_run": true})).await.expect(200);
    admin.post(&format!("{of_tenant}/tier"), json!({"tier": "standard"})).await.expect(200);
    admin.patch(&of_tenant, json!({"customer_name": "Acme Works"})).await.expect(200);
    for _ in 0..2 {
        admin.post(&format!("{of_tenant}/suspend"), Value::Null).await.expect(200);
    }
    admin.post(&format!("{of_tenant}/activate"), Value::Null).await.expect(200);
    admin.delete(&format!("{of_tenant}/users/{second}")).await.expect(204);
    admin.delete(&of_tenant).await.expect(200);
    tell(&app).await;
    let calls = receiver.calls();
    let names: Vec<String> = calls.iter().map(Call::kind).collect();
    assert_eq!(names, LIFE);
    assert!(calls.iter().all(|call| call.tenant() == id));
    let of = |place: usize| calls[place].json()["data"].take();
    let tenant = |name: &str, tier: &str, status: &str| json!({"tenant_id": id, "customer_name": name, "external_id": null, "tier": tier, "status": status});
    assert_eq!(of(0), tenant("Acme", "free", "provisioning"));
    let activated = |name: &str, tier: &str, from: &str| {
        let mut data = tenant(name, tier, "active");
        data["previous_status"] = json!(from);
        data
    };
    assert_eq!(of(2), activated("Acme", "free", "provisioning"));
    assert_eq!(of(3), json!({"tenant_id": id, "user_id": second, "role": "member"}));
    let mut moved = tenant("Acme", "standard", "active");
    moved["previous_tier"] = json!("free");
    assert_eq!(of(4), moved);
    assert_eq!(of(5), tenant("Acme Works", "standard", "suspended"));
    assert_eq!(of(6), activated("Acme Works", "standard", "suspended"));
    assert_eq!(of(7), json!({"tenant_id": id, "user_id": second}));
    assert_eq!(of(8), tenant("Acme Works", "standard", "offboarding"));
    assert_eq!(of(11), tenant("Acme Works", "standard", "deleted"));
    assert!(calls.iter().all(|call| !call.body.contains('@')), "no emails");
    // The outbox has the same, with their places.
    let events = admin.get(&format!("/admin/v1/events?tenant_id={id}&limit=500")).await.expect(200).body;
    let mut events = events["items"].as_array().unwrap().clone();
    events.sort_by_key(|event| event["sequence"].as_i64());
    let outbox: Vec<_> =
        events.iter().map(|event| (event["sequence"].as_i64().unwrap(), event["name"].clone())).collect();
    let expected: Vec<_> = (1..).zip(names.iter().map(|name| json!(name))).collect();
    assert_eq!(outbox, expected);
    for (event, call) in events.iter().zip(&calls) {
        assert_eq!((&event["event_id"], &event["data"]), (&json!(call.id()), &call.json()["data"]));
    }
    let created = admin.get("/admin/v1/events?name=tenant.created").await.expect(200).body;
    assert_eq!(created["items"].as_array().unwrap().len(), 1);
    admin.get("/admin/v1/events?name=tenant.exploded").await.refuses(422, &["name"]);
    admin.get("/admin/v1/events?tenant_id=x").await.refuses(422, &["tenant_id"]);
}

#[tokio::test]
async fn a_tenants_webhook_hears_of_that_tenant_and_of_what_it_asked_for() {
    let (app, own, some, foreign) =
        (TestApp::with(ALLOWED).await, Receiver::start(), Receiver::start(), Receiver::start());
    let (acme, globex) = (app.tenant("Acme", "standard").await, app.tenant("Globex", "standard").await);
    hook(&app.owner_of("Acme").await, "/v1/webhooks", &own, &["*"]).await;
    hook(&app.owner_of("Acme").await, "/v1/webhooks", &some, &["tenant.activated", "user.created"]).await;
    hook(&app.owner_of("Globex").await, "/v1/webhooks", &foreign, &["*"]).await;
    let admin = app.admin().await;
    for id in [&acme, &globex] {
        admin.post(&format!("/admin/v1/tenants/{id}/suspend"), Value::Null).await.expect(200);
        admin.post(&format!("/admin/v1/tenants/{id}/activate"), Value::Null).await.expect(200);
    }
    app.tenant("Umbrella", "free").await;
    tell(&app).await;
    let pairs =
        |names: &[&str], id: &str| names.iter().map(|name| ((*name).to_owned(), id.to_owned())).collect::<Vec<_>>();
    let both = ["tenant.suspended", "tenant.activated"];
    assert_eq!(told(&own.calls()), pairs(&both, &acme));
    assert_eq!(told(&some.calls()), pairs(&both[1..], &acme));
    assert_eq!(told(&foreign.calls()), pairs(&both, &globex));
    // Nor does it get anything else by asking again for all there is.
    let webhooks = app.owner_of("Globex").await.get("/v1/webhooks").await.expect(200);
    let path = format!("/v1/webhooks/{}/replay", webhooks.text("/items/0/webhook_id"));
    app.owner_of("Globex").await.post(&path, json!({})).await.expect(202);
    tell(&app).await;
    let again = foreign.calls();
    assert_eq!(again.len(), 5, "{again:?}");
    assert!(again.iter().all(|call| call.tenant() == globex));
}

#[tokio::test]
async fn the_platform_hears_of_a_tenant_whose_making_failed_once_and_of_its_end() {
    let settings = format!("{ALLOWED}\n[onboarding]\nmax_attempts = 3\n");
    let (app, receiver) = (TestApp::with(&settings).await, Receiver::start());
    let admin = app.admin().await;
    hook(&admin, "/admin/v1/webhooks", &receiver, &["tenant.failed", "tenant.deleted"]).await;
    let onboarding: tollgate::onboarding::Onboarding = axum::extract::FromRef::from_ref(app.app.state());
    let fails = Rigged { step: StepName::Provisioning, lasting: false, left: None };
    onboarding.points().rig(Rig { fails: Some(fails), halt_at: None });
    let made = admin.post("/admin/v1/registrations", registration("Acme", "free")).await.expect(201);
    for _ in 0..2 {
        app.clock.advance_secs(60);
        assert_eq!(onboarding.resume_due().await.unwrap(), 1);
    }
    tell(&app).await;
    let id = made.text("/tenant_id");
    let calls = receiver.calls();
    assert_eq!(told(&calls), ["tenant.failed", "tenant.deleted"].map(|name| (name.to_owned(), id.clone())));
    assert_eq!(calls[0].json()["data"]["status"], "failed");
}

#[tokio::test]
async fn a_change_that_is_refused_or_rolled_back_is_not_told() {
    let (app, receiver) = (TestApp::with(ALLOWED).await, Receiver::start());
    let id = app.tenant("Acme", "standard").await;
    let admin = app.admin().await;
    hook(&admin, "/admin/v1/webhooks", &receiver, &["*"]).await;
    let taken = json!({"email": email_of("Acme"), "customer_name": "Globex", "billing_address": "x", "tier": "free"});
    // That the email is elsewhere is found before anything is made.
    admin.post("/admin/v1/registrations", taken).await.refuses(409, &[]);
    admin.post(&format!("/admin/v1/tenants/{id}/tier"), json!({"tier": "gold"})).await.refuses(422, &["tier"]);
    admin.post(&format!("/admin/v1/tenants/{id}/activate"), Value::Null).await.expect(200);
    tell(&app).await;
    assert_eq!(told(&receiver.calls()), []);
    let events = admin.get("/admin/v1/events").await.expect(200).body;
    assert_eq!(events["items"].as_array().unwrap().len(), 3, "{events}");
}

#[tokio::test]
async fn a_soft_quota_that_is_exceeded_is_told_once() {
    let (app, receiver) = (TestApp::with(ALLOWED).await, Receiver::start());
    let id = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    hook(&owner, "/v1/webhooks", &receiver, &["usage.threshold"]).await;
    set_quotas(&app, &id, json!([{"meter": "apis", "limit": "2", "period": "day", "mode": "soft"}])).await;
    for _ in 0..4 {
        owner.get("/sample/hello").await.expect(200);
        tell_crossings(&app).await;
    }
    tell(&app).await;
    let calls = receiver.calls();
    let [call] = &calls[..] else { panic!("{calls:?}") };
    let period = json!({"from": "2026-11-10T00:00:00Z", "to": "2026-11-11T00:00:00Z"});
    let data = json!({"tenant_id": id, "meter": "apis", "used": "3", "limit": "2", "unit": "day", "period": period});
    assert_eq!(call.json()["data"], data);
}

#[tokio::test]
async fn the_others_hear_that_a_webhook_was_switched_off() {
    let (app, dead, alive) = (TestApp::with(ALLOWED).await, Receiver::start(), Receiver::start());
    let id = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let gone = hook(&owner, "/v1/webhooks", &dead, &["*"]).await.text("/webhook_id");
    hook(&owner, "/v1/webhooks", &alive, &["webhook.disabled"]).await;
    dead.answers(&["410"]);
    app.admin().await.post(&format!("/admin/v1/tenants/{id}/suspend"), Value::Null).await.expect(200);
    tell(&app).await;
    tell(&app).await;
    let calls = alive.calls();
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(call.json()["data"], json!({"webhook_id": gone, "tenant_id": id, "reason": "gone"}));
    assert_eq!(dead.calls().len(), 1, "and it hears nothing more itself");
}

#[tokio::test]
async fn a_tenant_that_is_taken_out_leaves_no_webhook_behind() {
    let (app, receiver) = (TestApp::with(ALLOWED).await, Receiver::start());
    let id = app.tenant("Acme", "standard").await;
    hook(&app.owner_of("Acme").await, "/v1/webhooks", &receiver, &["*"]).await;
    let admin = app.admin().await;
    admin.delete(&format!("/admin/v1/tenants/{id}")).await.expect(200);
    assert_eq!(admin.get("/admin/v1/webhooks").await.expect(200).body["items"], json!([]));
    tell(&app).await;
    assert_eq!(told(&receiver.calls()), []);
}

#[tokio::test]
async fn an_invoices_life_is_told_in_order() {
    let (app, receiver) = (TestApp::with(ALLOWED).await, Receiver::start());
    hook(&app.admin().await, "/admin/v1/webhooks", &receiver, &["*"]).await;
    let tenant = app.tenant("Acme", "standard").await;
    for time in ["2026-12-01T00:00:00Z", "2026-12-01T01:00:00Z", "2026-12-15T01:00:00Z"] {
        at(&app, time);
        close(&app).await;
    }
    let november = invoices(&app, &tenant).await.remove(0);
    let path = format!("/admin/v1/invoices/{}", november["invoice_id"].as_str().unwrap());
    let payment = json!({"amount": "30.00", "currency": "USD", "reference": "wire"});
    app.admin().await.post(&format!("{path}/payments"), payment).await.expect(201);
    at(&app, "2027-01-01T01:00:00Z");
    close(&app).await;
    let december = invoices(&app, &tenant).await.remove(1);
    let path = format!("/admin/v1/invoices/{}", december["invoice_id"].as_str().unwrap());
    app.admin().await.post(&format!("{path}/void"), json!({"reason": "a gift"})).await.expect(200);
    tell(&app).await;
    let calls: Vec<_> = receiver.calls().into_iter().filter(|call| call.kind().starts_with("invoice.")).collect();
    let names: Vec<String> = calls.iter().map(Call::kind).collect();
    let expected = [
        "invoice.drafted",
        "invoice.finalized",
        "invoice.overdue",
        "invoice.paid",
        "invoice.drafted",
        "invoice.finalized",
        "invoice.voided",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        calls[2].json()["data"],
        json!({
            "invoice_id": november["invoice_id"],
            "tenant_id": tenant,
            "status": "overdue",
            "number": "INV-000001",
            "period": november["period"],
            "total": "30.00",
            "amount_due": "30.00",
            "currency": "USD",
            "due_at": "2026-12-15T01:00:00Z",
        })
    );
}

#[tokio::test]
async fn a_limit_and_its_end_are_told() {
    let app = TestApp::with("[billing]\noverdue = \"limit\"\npayment_terms_days = 0\n").await;
    let tenant = app.tenant("Acme", "standard").await;
    app.clock.set("2026-12-01T01:00:00Z".parse().unwrap());
    super::invoices::close(&app).await;
    app.admin().await.delete(&format!("/admin/v1/tenants/{tenant}/limit")).await.expect(204);
    for name in ["tenant.limited", "tenant.limit_lifted"] {
        let told = app.admin().await.get(&format!("/admin/v1/events?tenant_id={tenant}&name={name}")).await.expect(200);
        assert_eq!(told.text("/items/0/data/limits_of"), "free");
    }
}

#[tokio::test]
async fn a_tenant_whose_infrastructure_does_not_work_is_told_of_with_a_reason_and_again_when_it_does() {
    let (app, receiver) =
        (TestApp::with(&format!("{ALLOWED}[provisioning]\nrepair = false\n")).await, Receiver::start());
    let admin = app.admin().await;
    let id = app.tenant("Acme", "premium").await;
    hook(&admin, "/admin/v1/webhooks", &receiver, &["tenant.unavailable", "tenant.available"]).await;
    let file = app.folder.path().join(format!("infrastructure/silo/{id}.db"));
    let away = file.with_extension("away");
    std::fs::rename(&file, &away).unwrap();
    let reconcile = format!("/admin/v1/tenants/{id}/reconcile");
    for _ in 0..3 {
        admin.post(&reconcile, Value::Null).await.expect(200);
    }
    std::fs::rename(&away, &file).unwrap();
    admin.post(&reconcile, Value::Null).await.expect(200);
    tell(&app).await;
    let calls = receiver.calls();
    let names: Vec<String> = calls.iter().map(Call::kind).collect();
    assert_eq!(names, ["tenant.unavailable", "tenant.available"]);
    let data = calls[0].json()["data"].take();
    assert_eq!((&data["status"], &data["reason"]), (&json!("active"), &json!("its infrastructure is not there")));
    assert_eq!(calls[1].json()["data"]["reason"], Value::Null);
}
