//! The `webhook` driver: a signed call, a signed callback, in our words and in those of AWS's SaaS Builder Toolkit.

use std::sync::Arc;

use axum::{body::Body, http::Request};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tollgate::kernel::{
    Clock as _,
    signature::{Signed, is_signed, sign},
};

use crate::support::{
    actors::registration,
    app::{Reply, TestApp},
    receiver::{Call, Receiver},
};

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr";

async fn app(receiver: &Receiver, more: &str) -> Arc<TestApp> {
    let url = receiver.url();
    Arc::new(
        TestApp::with(&format!(
            "[provisioning]\nsilo = \"webhook\"\n[provisioning.webhook]\nurl = \"{url}\"\nsecret = \"whsec_{SECRET}\"\n\
             allow_private = true\n{more}"
        ))
        .await,
    )
}

fn key() -> Vec<u8> {
    STANDARD.decode(SECRET).unwrap()
}

/// A callback, signed now.
async fn call_back(app: &TestApp, body: &Value) -> Reply {
    let (body, at) = (body.to_string(), app.clock.now());
    let signature = sign(&key(), &Signed { id: "msg_1", at, body: &body });
    call_back_with(app, &body, ("msg_1", &at.as_secs().to_string(), &signature)).await
}

async fn call_back_with(app: &TestApp, body: &str, (id, at, signature): (&str, &str, &str)) -> Reply {
    let request = Request::post("/v1/provisioning/callback")
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", at)
        .header("webhook-signature", signature);
    app.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

/// A call that came, whose signature is ours.
async fn asked(receiver: &Arc<Receiver>, app: &TestApp) -> Call {
    let own = Arc::clone(receiver);
    let call = tokio::task::spawn_blocking(move || own.wait_for(1).remove(0)).await.unwrap();
    let at = call.header("webhook-timestamp").parse::<i64>().unwrap();
    let at = tollgate::kernel::Timestamp::from_secs(at).unwrap();
    let signed = Signed { id: &call.id(), at, body: &call.body };
    assert!(is_signed(&key(), &signed, call.header("webhook-signature"), app.clock.now()));
    call
}

/// A registration on its way.
fn register(app: &Arc<TestApp>, name: &'static str) -> tokio::task::JoinSet<Reply> {
    let (own, mut tasks) = (Arc::clone(app), tokio::task::JoinSet::new());
    tasks.spawn(async move { own.admin().await.post("/admin/v1/registrations", registration(name, "premium")).await });
    tasks
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_asked_for_and_made_and_asked_away_again() {
    let receiver = Arc::new(Receiver::start());
    let app = app(&receiver, "").await;
    let mut registering = register(&app, "Acme");
    let call = asked(&receiver, &app).await.json();
    assert_eq!((call["type"].as_str(), call["data"]["isolation"].as_str()), (Some("provisioning.apply"), Some("silo")));
    assert!(call["data"]["callback_url"].as_str().unwrap().ends_with("/v1/provisioning/callback"), "{call}");
    let request = &call["data"]["request_id"];
    let answer = json!({"type": "provisioning.succeeded", "data": {"request_id": request, "location": "eu-west/7",
        "upstream": "http://127.0.0.1:9", "credentials": {"token": "t-1"}}});
    call_back(&app, &answer).await.expect(204);
    let done = registering.join_next().await.unwrap().unwrap().expect(201);
    assert_eq!(done.text("/status"), "active");
    let path = format!("/admin/v1/tenants/{}", done.text("/tenant_id"));
    let admin = app.admin().await;
    let place = admin.get(&format!("{path}/infrastructure")).await.expect(200);
    assert_eq!((place.text("/location"), place.text("/upstream")), ("eu-west/7".into(), "http://127.0.0.1:9".into()));
    let shown = admin.post(&format!("{path}/infrastructure/credentials"), Value::Null).await.expect(200);
    assert_eq!(shown.body["credentials"], json!({"token": "t-1"}));
    // What was answered is of no use again.
    call_back(&app, &answer).await.refuses(401, &[]);
    let own = Arc::clone(&app);
    let mut leaving = tokio::task::JoinSet::new();
    leaving.spawn(async move { own.admin().await.delete(&path).await });
    let call = asked(&receiver, &app).await.json();
    assert_eq!(
        (call["type"].as_str(), call["data"]["location"].as_str()),
        (Some("provisioning.destroy"), Some("eu-west/7"))
    );
    let answer = json!({"type": "provisioning.succeeded", "data": {"request_id": call["data"]["request_id"]}});
    call_back(&app, &answer).await.expect(204);
    leaving.join_next().await.unwrap().unwrap().expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_plane_of_the_saas_builder_toolkit_is_understood() {
    for (name, config) in [("provisionSuccess", false), ("sbt_aws_provisionSuccess", true)] {
        let receiver = Arc::new(Receiver::start());
        let app = app(&receiver, "").await;
        let mut registering = register(&app, "Acme");
        let call = asked(&receiver, &app).await.json();
        assert_eq!(
            (call["source"].as_str(), call["detail-type"].as_str()),
            (Some("controlPlaneEventSource"), Some("sbt_aws_onboardingRequest"))
        );
        let made = json!({"location": "stack-7"});
        let output = if config { json!({"tenantConfig": made.to_string()}) } else { json!({"tenantData": made}) };
        // One names the request, the other the tenant.
        let about = if config { "tenantId" } else { "tenantRegistrationId" };
        let mut detail = json!({"jobOutput": output});
        detail[about] = call["detail"][about].clone();
        call_back(&app, &json!({"source": "applicationPlaneEventSource", "detail-type": name, "detail": detail}))
            .await
            .expect(204);
        let done = registering.join_next().await.unwrap().unwrap().expect(201);
        let path = format!("/admin/v1/tenants/{}/infrastructure", done.text("/tenant_id"));
        assert_eq!(app.admin().await.get(&path).await.expect(200).text("/location"), "stack-7");
    }
    let receiver = Arc::new(Receiver::start());
    let app = app(&receiver, "").await;
    let mut registering = register(&app, "Acme");
    let call = asked(&receiver, &app).await.json();
    let detail = json!({"tenantRegistrationId": call["detail"]["tenantRegistrationId"], "jobOutput": {"tenantStatus": "no account left"}});
    call_back(&app, &json!({"detail-type": "provisionFailure", "detail": detail})).await.expect(204);
    let failed = registering.join_next().await.unwrap().unwrap();
    assert_eq!(failed.text("/status"), "failed");
    // Asked again, it is asked under another id.
    let own = Arc::clone(&app);
    let again = format!("/admin/v1/registrations/{}/retry", failed.text("/registration_id"));
    registering.spawn(async move { own.admin().await.post(&again, Value::Null).await });
    let second = asked(&receiver, &app).await.json();
    assert_ne!(second["data"]["request_id"], call["data"]["request_id"]);
    let detail = json!({"tenantRegistrationId": second["detail"]["tenantRegistrationId"], "jobOutput": {}});
    call_back(&app, &json!({"detail-type": "provisionSuccess", "detail": detail})).await.expect(204);
    assert_eq!(registering.join_next().await.unwrap().unwrap().text("/status"), "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_taken_is_made_again_and_one_without_a_callback_is_asked_again_under_its_id() {
    let receiver = Arc::new(Receiver::start());
    receiver.answers(&["503", "500"]);
    let app = app(&receiver, "timeout_s = 1\nattempts = 3").await;
    let failed = app.admin().await.post("/admin/v1/registrations", registration("Acme", "premium")).await;
    assert_eq!(failed.text("/status"), "failed", "{}", failed.body);
    let calls = receiver.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| call.id() == calls[0].id() && call.body.contains(&call.id())));
    // The callback comes when nobody waits any more: the next try has it.
    let answer = json!({"type": "provisioning.succeeded", "data": {"request_id": calls[0].id(), "location": "late"}});
    call_back(&app, &answer).await.expect(204);
    call_back(&app, &answer).await.expect(204);
    let again = format!("/admin/v1/registrations/{}/retry", failed.text("/registration_id"));
    let done = app.admin().await.post(&again, Value::Null).await;
    assert_eq!(done.text("/status"), "active", "{}", done.body);
    assert!(receiver.calls().is_empty(), "it was not asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_is_not_signed_or_is_about_nothing_changes_nothing() {
    let receiver = Arc::new(Receiver::start());
    let app = app(&receiver, "").await;
    let mut registering = register(&app, "Acme");
    let call = asked(&receiver, &app).await.json();
    let answer =
        json!({"type": "provisioning.succeeded", "data": {"request_id": call["data"]["request_id"]}}).to_string();
    let now = app.clock.now();
    let signed =
        |key: &[u8], id: &str, at: tollgate::kernel::Timestamp, body: &str| sign(key, &Signed { id, at, body });
    let own = signed(&key(), "a", now, &answer);
    let old = now.plus_secs(-301);
    for (body, (id, at, signature)) in [
        (&answer, ("a", now.as_secs().to_string(), String::new())),
        (&answer, ("b", now.as_secs().to_string(), own.clone())),
        (&answer, ("a", (now.as_secs() + 1).to_string(), own.clone())),
        (&answer, ("a", "yesterday".to_owned(), own.clone())),
        (&answer, ("a", old.as_secs().to_string(), signed(&key(), "a", old, &answer))),
        (&answer, ("a", now.as_secs().to_string(), signed(&[7; 32], "a", now, &answer))),
        (&answer.replace("succeeded", "failed"), ("a", now.as_secs().to_string(), own.clone())),
    ] {
        call_back_with(&app, body, (id, &at, &signature)).await.refuses(401, &[]);
    }
    let tenant = call["data"]["tenant_id"].clone();
    for (body, status) in [
        (
            json!({"type": "provisioning.succeeded", "data": {"request_id": "01900000-0000-7000-8000-000000000000"}}),
            401,
        ),
        (json!({"detail-type": "deprovisionSuccess", "detail": {"tenantId": tenant}}), 401),
        (json!({"type": "provisioning.done", "data": {"request_id": call["data"]["request_id"]}}), 400),
        (json!({"type": "provisioning.succeeded", "data": {}}), 400),
        (
            json!({"type": "provisioning.succeeded", "data": {"request_id": call["data"]["request_id"], "upstream": "x"}}),
            400,
        ),
        (json!([]), 400),
    ] {
        assert_eq!(call_back(&app, &body).await.status, status, "{body}");
    }
    call_back(&app, &serde_json::from_str(&answer).unwrap()).await.expect(204);
    assert_eq!(registering.join_next().await.unwrap().unwrap().text("/status"), "active");
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_not_called() {
    let receiver = Receiver::start();
    let url = receiver.url().replace("http://127.0.0.1", "https://localhost");
    let app = TestApp::with(&format!(
        "[provisioning]\nsilo = \"webhook\"\n[provisioning.webhook]\nurl = \"{url}\"\nsecret = \"whsec_{SECRET}\"\nattempts = 1"
    ))
    .await;
    let failed = app.admin().await.post("/admin/v1/registrations", registration("Acme", "premium")).await;
    assert_eq!(failed.text("/status"), "failed", "{}", failed.body);
    assert!(receiver.calls().is_empty());
}
