//! Events in the words of AWS's SaaS Builder Toolkit, as an application plane that was written for it hears them.

use axum::extract::FromRef as _;
use serde_json::{Value, json};
use tollgate::onboarding::{Onboarding, Rig, Rigged, StepName};

use super::webhook_deliveries::{ALLOWED, is_signed, tell};
use crate::support::{
    actors::{PASSWORD, registration},
    app::TestApp,
    receiver::{Call, Receiver},
};

async fn hook(app: &TestApp, receiver: &Receiver, format: &str) -> Value {
    let body = json!({"url": receiver.url(), "events": ["*"], "format": format});
    app.admin().await.post("/admin/v1/webhooks", body).await.expect(201).body
}

fn words(calls: &[Call]) -> Vec<String> {
    calls.iter().map(|call| call.json()["detail-type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_tenants_life_is_told_in_the_toolkits_words() {
    let (app, receiver) = (TestApp::with(ALLOWED).await, Receiver::start());
    let made = hook(&app, &receiver, "sbt").await;
    let admin = app.admin().await;
    let detail =
        |id: &str, status: &str| json!({"tenantId": id, "tenantName": "Acme", "tier": "free", "tenantStatus": status});
    // What is told of each deed: words, who says them in the toolkit, and the detail.
    let (control, application) = ("controlPlaneEventSource", "applicationPlaneEventSource");
    let heard = async |expected: &[(&str, &str, Value)]| {
        tell(&app).await;
        let calls = receiver.calls();
        let told: Vec<(Value, Value, Value)> = calls
            .iter()
            .map(|call| {
                let mut body = call.json();
                (body["detail-type"].take(), body["source"].take(), body["detail"].take())
            })
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(word, source, detail)| (json!(word), json!(source), detail.clone())).collect();
        assert_eq!(told, expected);
        calls
    };
    let id = app.tenant("Acme", "free").await;
    let users = admin.get(&format!("/admin/v1/tenants/{id}/users")).await.expect(200).body;
    let owner = users["items"][0]["user_id"].clone();
    let user = |user: &Value, role: &str| json!({"tenantId": id, "userId": user, "userRole": role});
    let calls = heard(&[
        ("onboardingRequest", control, detail(&id, "provisioning")),
        ("tenantUserCreated", application, user(&owner, "owner")),
        ("provisionSuccess", application, detail(&id, "active")),
        ("onboardingSuccess", application, detail(&id, "active")),
    ])
    .await;
    let of_tenant = format!("/admin/v1/tenants/{id}");
    let second = json!({"email": "second@acme.example", "role": "member", "password": PASSWORD});
    let second = app.owner_of("Acme").await.post("/v1/users", second).await.expect(201).body["user_id"].clone();
    heard(&[("tenantUserCreated", application, user(&second, "member"))]).await;
    admin.delete(&format!("{of_tenant}/users/{}", second.as_str().unwrap())).await.expect(204);
    heard(&[("tenantUserDeleted", application, json!({"tenantId": id, "userId": second}))]).await;
    admin.post(&format!("{of_tenant}/suspend"), Value::Null).await.expect(200);
    heard(&[
        ("deactivateRequest", control, detail(&id, "suspended")),
        ("deactivateSuccess", application, detail(&id, "suspended")),
    ])
    .await;
    admin.post(&format!("{of_tenant}/activate"), Value::Null).await.expect(200);
    heard(&[
        ("activateRequest", control, detail(&id, "active")),
        ("activateSuccess", application, detail(&id, "active")),
    ])
    .await;
    // It has no words for another tier.
    admin.post(&format!("{of_tenant}/tier"), json!({"tier": "standard"})).await.expect(200);
    heard(&[]).await;
    admin.post(&format!("{of_tenant}/tier"), json!({"tier": "free"})).await.expect(200);
    admin.delete(&of_tenant).await.expect(200);
    heard(&[
        ("offboardingRequest", control, detail(&id, "offboarding")),
        ("deprovisionSuccess", application, detail(&id, "deleted")),
        ("offboardingSuccess", application, detail(&id, "deleted")),
    ])
    .await;
    // Told again, it is the same messages under the same ids, and nothing of what has no words.
    let path = format!("/admin/v1/webhooks/{}", made["webhook_id"].as_str().unwrap());
    admin.post(&format!("{path}/replay"), json!({})).await.expect(202);
    tell(&app).await;
    let again = receiver.calls();
    assert_eq!(again.len(), 13);
    assert_eq!(again[..4].iter().map(Call::id).collect::<Vec<_>>(), calls.iter().map(Call::id).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_envelope_is_eventbridges_and_signed_as_any_other_call() {
    let (app, receiver) = (TestApp::with(ALLOWED).await, Receiver::start());
    let made = hook(&app, &receiver, "sbt").await;
    let path = format!("/admin/v1/webhooks/{}", made["webhook_id"].as_str().unwrap());
    let read = app.admin().await.get(&path).await.expect(200);
    assert_eq!((&made["format"], &read.body["format"]), (&json!("sbt"), &json!("sbt")));
    app.tenant("Acme", "free").await;
    tell(&app).await;
    let calls = receiver.calls();
    assert_eq!(calls.len(), 4);
    for call in &calls {
        let mut body = call.json();
        assert_eq!(body["id"], call.id());
        for other in ["id", "detail-type", "source", "detail"] {
            assert!(body.as_object_mut().unwrap().remove(other).is_some(), "no {other}: {}", call.body);
        }
        let rest = json!({"version": "0", "account": "000000000000", "time": "2026-11-10T12:00:00Z", "region": "", "resources": []});
        assert_eq!(body, rest);
        assert!(is_signed(call, made["secret"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn a_registration_that_fails_is_a_failure_of_both() {
    let (app, receiver) = (TestApp::with(ALLOWED).await, Receiver::start());
    hook(&app, &receiver, "sbt_aws").await;
    let fails = Rigged { step: StepName::Provisioning, lasting: false, left: None };
    Onboarding::from_ref(app.app.state()).points().rig(Rig { fails: Some(fails), halt_at: None });
    app.admin().await.post("/admin/v1/registrations", registration("Acme", "free")).await;
    tell(&app).await;
    let told = words(&receiver.calls());
    assert!(
        told.starts_with(&["sbt_aws_onboardingRequest".to_owned(), "sbt_aws_tenantUserCreated".to_owned()]),
        "{told:?}"
    );
    assert_eq!(told[2..], ["sbt_aws_provisionFailure", "sbt_aws_onboardingFailure"]);
}

#[tokio::test]
async fn of_two_messages_for_one_event_both_are_told_again_when_the_second_is_not_taken() {
    let (app, receiver) = (TestApp::with(ALLOWED).await, Receiver::start());
    let id = app.tenant("Acme", "free").await;
    hook(&app, &receiver, "sbt").await;
    receiver.answers(&["204", "500"]);
    app.admin().await.post(&format!("/admin/v1/tenants/{id}/suspend"), Value::Null).await.expect(200);
    assert_eq!(tell(&app).await, 0);
    let first = receiver.calls();
    assert_eq!(words(&first), ["deactivateRequest", "deactivateSuccess"]);
    app.clock.advance_secs(10);
    assert_eq!(tell(&app).await, 1);
    let again = receiver.calls();
    let ids = |calls: &[Call]| calls.iter().map(|call| (call.id(), call.body.clone())).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&first));
}

#[tokio::test]
async fn a_format_that_does_not_exist_or_has_nothing_to_say_is_refused() {
    let app = TestApp::with(ALLOWED).await;
    app.tenant("Acme", "free").await;
    let (admin, owner) = (app.admin().await, app.owner_of("Acme").await);
    let body =
        |format: &str, events: &[&str]| json!({"url": "http://127.0.0.1:9/", "events": events, "format": format});
    for (who, path) in [(&admin, "/admin/v1/webhooks"), (&owner, "/v1/webhooks")] {
        for format in ["", "SBT", "cloudevents"] {
            who.post(path, body(format, &["*"])).await.refuses(422, &["format"]);
        }
        who.post(path, json!({"url": "http://127.0.0.1:9/", "events": ["*"], "format": 7}))
            .await
            .refuses(422, &["format"]);
        who.post(path, body("sbt", &["invoice.paid", "usage.threshold"])).await.refuses(422, &["events"]);
        let made = who.post(path, body("sbt_aws", &["invoice.paid", "tenant.suspended"])).await.expect(201);
        assert_eq!(made.body["format"], "sbt_aws");
        let path = format!("{path}/{}", made.text("/webhook_id"));
        who.patch(&path, json!({"format": "standard"})).await.expect(422);
    }
}
