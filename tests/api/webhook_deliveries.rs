//! How events are told: signed, in order, again after failures, and not where settings do not allow it.

use std::time::Duration;

use aws_lc_rs::hmac;
use axum::extract::FromRef as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tollgate::{
    deliveries::tell_once,
    outbound::{Outbound, Reach},
    store::{Scope, Store},
    webhooks::Webhooks,
};

use crate::support::{
    actors::Actor,
    app::{Reply, TestApp},
    audit::Audit,
    receiver::{Call, Receiver},
};

/// Receivers of tests are on this machine.
pub const ALLOWED: &str = "[webhooks]\nallow_private = true\n";

/// Makes a webhook.
pub async fn hook(who: &Actor<'_>, path: &str, receiver: &Receiver, events: &[&str]) -> Reply {
    who.post(path, json!({"url": receiver.url(), "events": events})).await.expect(201)
}

/// Tells everybody of what is due; how many events were taken.
pub async fn tell(app: &TestApp) -> usize {
    tell_once(&Webhooks::from_ref(app.app.state()), &Outbound::new(Reach::Private)).await.unwrap()
}

/// A platform's webhook for a receiver, and a tenant that things happen to.
struct Scene {
    app: TestApp,
    receiver: Receiver,
    tenant: String,
    /// Its path.
    hook: String,
    secret: String,
}

impl Scene {
    async fn new() -> Self {
        Self::of(TestApp::with(ALLOWED).await).await
    }

    async fn of(app: TestApp) -> Self {
        let receiver = Receiver::start();
        let tenant = app.tenant("Acme", "standard").await;
        let made = hook(&app.admin().await, "/admin/v1/webhooks", &receiver, &["*"]).await;
        let hook = format!("/admin/v1/webhooks/{}", made.text("/webhook_id"));
        let secret = made.text("/secret");
        Self { app, receiver, tenant, hook, secret }
    }

    /// Something happens: it is suspended, activated, suspended, …
    async fn happens(&self, what: &str) {
        self.happens_to(&self.tenant, what).await;
    }

    async fn happens_to(&self, tenant: &str, what: &str) {
        self.app.admin().await.post(&format!("/admin/v1/tenants/{tenant}/{what}"), Value::Null).await.expect(200);
    }

    async fn tell(&self) -> usize {
        tell(&self.app).await
    }

    fn later(&self, seconds: i64) {
        self.app.clock.advance_secs(seconds);
    }

    async fn read(&self) -> Value {
        self.app.admin().await.get(&self.hook).await.expect(200).body
    }

    /// Tries, the first first.
    async fn attempts(&self) -> Vec<Value> {
        let page = self.app.admin().await.get(&format!("{}/attempts?limit=500", self.hook)).await.expect(200).body;
        let mut items = page["items"].as_array().unwrap().clone();
        items.sort_by_key(|attempt| (attempt["at"].to_string(), attempt["attempt"].as_i64()));
        items
    }
}

/// The signatures of a call that a secret made, worked out anew.
pub fn is_signed(call: &Call, secret: &str) -> bool {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let content = format!("{}.{}.{}", call.header("webhook-id"), call.header("webhook-timestamp"), call.body);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), content.as_bytes());
    let ours = format!("v1,{}", STANDARD.encode(tag));
    call.header("webhook-signature").split(' ').any(|own| own == ours)
}

#[tokio::test]
async fn a_delivery_is_a_signed_post_of_json_that_is_the_same_at_each_try() {
    let scene = Scene::new().await;
    scene.receiver.answers(&["500"]);
    scene.happens("suspend").await;
    assert_eq!(scene.tell().await, 0);
    scene.later(7);
    assert_eq!(scene.tell().await, 1);
    let calls = scene.receiver.calls();
    let [first, second] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(first.line, "POST /hook");
    assert_eq!(first.header("content-type"), "application/json");
    assert_eq!((first.id(), &first.body), (second.id(), &second.body));
    let at = |call: &Call| call.header("webhook-timestamp").parse::<i64>().unwrap();
    assert_eq!(at(second) - at(first), 7, "the instant of the try");
    for call in &calls {
        assert!(is_signed(call, &scene.secret));
        assert_eq!(call.json()["timestamp"], "2026-11-10T12:00:00Z");
    }
    assert!(!is_signed(&Call { body: first.body.replace("suspended", "activated"), ..first.clone() }, &scene.secret));
    let attempts = scene.attempts().await;
    let seen: Vec<_> =
        attempts.iter().map(|own| (&own["attempt"], &own["status"], &own["outcome"], &own["event_id"])).collect();
    let id = json!(first.id());
    let expected = [(json!(1), json!(500), json!("failed")), (json!(2), json!(204), json!("delivered"))];
    let expected: Vec<_> = expected.iter().map(|(number, status, outcome)| (number, status, outcome, &id)).collect();
    assert_eq!(seen, expected);
    assert_eq!((&attempts[0]["name"], &attempts[1]["next_try_at"]), (&json!("tenant.suspended"), &Value::Null));
    assert!(attempts[0]["error"].as_str().unwrap().contains("500"), "{attempts:?}");
    let of_event =
        scene.app.admin().await.get(&format!("{}/attempts?event_id={}", scene.hook, first.id())).await.expect(200);
    assert_eq!(of_event.body["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_failure_is_tried_again_by_the_schedule_and_given_up_after_the_tenth() {
    let scene = Scene::new().await;
    scene.receiver.always("500");
    scene.happens("suspend").await;
    for wait_s in [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400] {
        scene.tell().await;
        assert_eq!(scene.receiver.calls().len(), 1, "before {wait_s}");
        scene.later(wait_s - 1);
        scene.tell().await;
        assert_eq!(scene.receiver.calls().len(), 0, "not before {wait_s}");
        // The lot makes it longer by a fifth at most.
        scene.later(wait_s / 5 + 2);
    }
    scene.happens("activate").await;
    scene.tell().await;
    let last = scene.attempts().await.pop().unwrap();
    assert_eq!(
        (&last["attempt"], &last["outcome"], &last["next_try_at"]),
        (&json!(10), &json!("given_up"), &Value::Null)
    );
    assert_eq!(scene.receiver.calls().len(), 1);
    // What came after it has its turn now.
    scene.receiver.always("204");
    scene.later(300);
    assert_eq!(scene.tell().await, 1);
    assert_eq!(scene.receiver.calls()[0].kind(), "tenant.activated");
}

#[tokio::test]
async fn a_later_event_of_a_tenant_waits_for_the_earlier_and_no_other_tenant_does() {
    let scene = Scene::new().await;
    scene.receiver.answers(&["503"]);
    scene.happens("suspend").await;
    scene.tell().await;
    scene.happens("activate").await;
    scene.happens("suspend").await;
    // The address is left alone for some seconds, by everybody's events.
    let other = scene.app.tenant("Globex", "free").await;
    scene.tell().await;
    let calls = scene.receiver.calls();
    assert_eq!(calls.len(), 1);
    let held = calls[0].id();
    scene.later(6);
    scene.tell().await;
    let calls = scene.receiver.calls();
    let of = |tenant: &str| calls.iter().filter(|call| call.tenant() == tenant).map(Call::kind).collect::<Vec<_>>();
    assert_eq!(of(&scene.tenant), ["tenant.suspended", "tenant.activated", "tenant.suspended"]);
    assert_eq!(calls.iter().find(|call| call.tenant() == scene.tenant).unwrap().id(), held);
    assert_eq!(of(&other), ["tenant.created", "user.created", "tenant.activated"]);
}

#[tokio::test]
async fn an_event_that_is_refused_again_and_again_holds_up_nobody_elses() {
    let scene = Scene::new().await;
    scene.receiver.answers(&["500"]);
    scene.happens("suspend").await;
    scene.tell().await;
    scene.later(6);
    scene.receiver.answers(&["500"]);
    scene.tell().await;
    assert_eq!(scene.receiver.calls().len(), 2);
    // It waits five minutes now; what else is for the address does not.
    let other = scene.app.tenant("Globex", "free").await;
    scene.later(11);
    assert_eq!(scene.tell().await, 3);
    assert!(scene.receiver.calls().iter().all(|call| call.tenant() == other));
}

#[tokio::test]
async fn another_address_gets_what_waited_for_the_old_one_without_its_waits() {
    let (scene, other) = (Scene::new().await, Receiver::start());
    scene.receiver.answers(&["503 retry-after: 3600\r\n"]);
    scene.happens("suspend").await;
    scene.tell().await;
    scene.app.tenant("Globex", "free").await;
    let moved = json!({"url": other.url()});
    let moved = scene.app.admin().await.patch(&scene.hook, moved).await.expect(200).body;
    assert_eq!((&moved["failing_since"], &moved["failures"]), (&Value::Null, &json!(0)));
    assert_eq!(scene.tell().await, 3, "what was not tried before");
    scene.later(2 * 3_600);
    assert_eq!(scene.tell().await, 1);
    assert_eq!((other.calls().len(), scene.receiver.calls().len()), (4, 1));
}

#[tokio::test]
async fn retry_after_is_waited_for_by_all_that_is_for_the_address() {
    let scene = Scene::new().await;
    scene.receiver.answers(&["429 retry-after: 900\r\n"]);
    scene.happens("suspend").await;
    scene.tell().await;
    scene.app.tenant("Globex", "free").await;
    scene.later(899);
    assert_eq!(scene.tell().await, 0);
    scene.later(1);
    assert_eq!(scene.tell().await, 3, "those of the other tenant");
    scene.later(180);
    assert_eq!(scene.tell().await, 1, "and the one that was refused, by lot a little later");
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let (scene, elsewhere) = (Scene::new().await, Receiver::start());
    scene.receiver.answers(&[&format!("307 location: {}\r\n", elsewhere.url())]);
    scene.happens("suspend").await;
    assert_eq!(scene.tell().await, 0);
    assert!(elsewhere.calls().is_empty());
    assert_eq!(scene.attempts().await[0]["status"], 307);
}

#[tokio::test]
async fn gone_switches_a_webhook_off_until_somebody_switches_it_on() {
    let scene = Scene::new().await;
    let mut audit = Audit::of(&scene.app).await;
    scene.receiver.answers(&["410"]);
    scene.happens("suspend").await;
    scene.happens("activate").await;
    scene.tell().await;
    scene.happens("suspend").await;
    scene.later(500);
    scene.tell().await;
    assert_eq!(scene.receiver.calls().len(), 1);
    let webhook = scene.read().await;
    assert_eq!((&webhook["enabled"], &webhook["disabled_reason"]), (&json!(false), &json!("gone")));
    assert_eq!(webhook["disabled_at"], "2026-11-10T12:00:00Z");
    assert!(audit.entries().await.iter().any(|entry| {
        entry["action"] == "webhook.switched_off" && entry["actor"] == "job:webhooks" && entry["detail"] == "gone"
    }));
    let admin = scene.app.admin().await;
    admin.post(&format!("{}/replay", scene.hook), json!({})).await.refuses(409, &[]);
    let on = admin.patch(&scene.hook, json!({"enabled": true})).await.expect(200);
    assert_eq!((&on.body["enabled"], &on.body["disabled_at"]), (&json!(true), &Value::Null));
    assert_eq!(scene.tell().await, 0, "what it missed is not told by itself");
    let replayed = admin.post(&format!("{}/replay", scene.hook), json!({})).await.expect(202);
    // Three of the registration, three since, and that it was switched off.
    assert_eq!(replayed.body["queued"], 7);
    assert_eq!(scene.tell().await, 7);
    let kinds: Vec<String> =
        scene.receiver.calls().iter().filter(|call| call.tenant() == scene.tenant).map(Call::kind).collect();
    assert_eq!(
        kinds,
        [
            "tenant.created",
            "user.created",
            "tenant.activated",
            "tenant.suspended",
            "tenant.activated",
            "tenant.suspended"
        ]
    );
}

#[tokio::test]
async fn days_without_a_success_switch_a_webhook_off_and_a_success_begins_them_anew() {
    let scene = Scene::of(TestApp::with(&format!("{ALLOWED}disable_after_h = 48\n")).await).await;
    let fail_for = async |hours: i64| {
        for _ in 0..hours / 6 {
            scene.later(6 * 3_600);
            scene.tell().await;
        }
    };
    scene.receiver.always("500");
    scene.happens("suspend").await;
    scene.tell().await;
    let since = scene.read().await["failing_since"].clone();
    assert_eq!(since, "2026-11-10T12:00:00Z");
    fail_for(42).await;
    scene.receiver.always("204");
    scene.later(86_400);
    assert_eq!(scene.tell().await, 1);
    let webhook = scene.read().await;
    assert_eq!((&webhook["failing_since"], &webhook["failures"]), (&Value::Null, &json!(0)));
    scene.receiver.always("500");
    scene.happens("activate").await;
    scene.tell().await;
    fail_for(42).await;
    assert_eq!(scene.read().await["enabled"], true);
    fail_for(36).await;
    let webhook = scene.read().await;
    assert_eq!((&webhook["enabled"], &webhook["disabled_reason"]), (&json!(false), &json!("failing")));
    let events = scene.app.admin().await.get("/admin/v1/events?name=webhook.disabled").await.expect(200).body;
    assert_eq!(events["items"][0]["data"]["reason"], "failing");
}

#[tokio::test]
async fn the_old_secret_signs_beside_the_new_one_for_a_day() {
    let scene = Scene::new().await;
    let admin = scene.app.admin().await;
    let path = format!("{}/secret", scene.hook);
    let renewed = admin.post(&path, json!({})).await.expect(201).text("/secret");
    assert!(renewed.starts_with("whsec_") && renewed != scene.secret);
    let call = async |what: &str| {
        scene.happens(what).await;
        scene.tell().await;
        scene.receiver.calls().remove(0)
    };
    let both = call("suspend").await;
    assert_eq!(both.header("webhook-signature").split(' ').count(), 2);
    assert!(is_signed(&both, &scene.secret) && is_signed(&both, &renewed));
    scene.later(86_400);
    let new = call("activate").await;
    assert!(!is_signed(&new, &scene.secret) && is_signed(&new, &renewed));
    // One that leaked is out at once.
    let admin = scene.app.admin().await;
    let third = admin.post(&path, json!({"keep_old_s": 0})).await.expect(201).text("/secret");
    let third_alone = call("suspend").await;
    assert!(!is_signed(&third_alone, &renewed) && is_signed(&third_alone, &third));
    // And there is an end to how many are kept.
    for _ in 0..4 {
        admin.post(&path, json!({})).await.expect(201);
    }
    admin.post(&path, json!({})).await.refuses(409, &[]);
    admin.post(&path, json!({"keep_old_s": 604_801})).await.refuses(422, &["keep_old_s"]);
    admin.post(&path, json!({"keep_old_s": 0})).await.expect(201);
}

#[tokio::test]
async fn one_event_is_told_again_by_hand_and_others_since_an_instant_in_order() {
    let scene = Scene::new().await;
    scene.receiver.always("500");
    scene.happens("suspend").await;
    scene.tell().await;
    let failed = scene.receiver.calls().remove(0).id();
    scene.receiver.always("204");
    let admin = scene.app.admin().await;
    admin.post(&format!("{}/attempts/{failed}/retry", scene.hook), Value::Null).await.expect(202);
    assert_eq!(scene.tell().await, 1, "without waiting");
    admin.post(&format!("{}/attempts/{failed}/retry", scene.hook), Value::Null).await.expect(202);
    assert_eq!(scene.tell().await, 1, "though it was taken");
    assert!(scene.receiver.calls().iter().all(|call| call.id() == failed));
    scene.later(60);
    for what in ["activate", "suspend"] {
        scene.happens(what).await;
    }
    assert_eq!(scene.tell().await, 2);
    let first_time: Vec<String> = scene.receiver.calls().iter().map(Call::id).collect();
    let since = json!({"since": "2026-11-10T12:01:00Z"});
    let queued = scene.app.admin().await.post(&format!("{}/replay", scene.hook), since).await.expect(202);
    assert_eq!(queued.body, json!({"queued": 2}));
    assert_eq!(scene.tell().await, 2);
    assert_eq!(scene.receiver.calls().iter().map(Call::id).collect::<Vec<_>>(), first_time);
    for unknown in ["nothing", "01900000-0000-7000-8000-000000000000"] {
        admin.post(&format!("{}/attempts/{unknown}/retry", scene.hook), Value::Null).await.refuses(404, &[]);
    }
    admin.post(&format!("{}/replay", scene.hook), json!({"since": "yesterday"})).await.refuses(422, &["since"]);
}

#[tokio::test]
async fn what_waits_for_a_webhook_that_is_deleted_or_off_is_not_told() {
    let scene = Scene::new().await;
    let admin = scene.app.admin().await;
    scene.happens("suspend").await;
    admin.patch(&scene.hook, json!({"enabled": false})).await.expect(200);
    scene.happens("activate").await;
    admin.patch(&scene.hook, json!({"enabled": true})).await.expect(200);
    assert_eq!(scene.tell().await, 0);
    scene.happens("suspend").await;
    admin.delete(&scene.hook).await.expect(204);
    assert_eq!(scene.tell().await, 0);
    assert!(scene.receiver.calls().is_empty());
    admin.get(&format!("{}/attempts", scene.hook)).await.refuses(404, &[]);
}

#[tokio::test]
async fn addresses_that_are_not_public_are_not_called() {
    let receiver = Receiver::start();
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let tenant = app.tenant("Acme", "free").await;
    let make = async |url: &str| admin.post("/admin/v1/webhooks", json!({"url": url, "events": ["*"]})).await;
    for url in [
        receiver.url().as_str(),
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://[::1]/",
        "https://169.254.169.254/latest",
        "https://2130706433/",
    ] {
        make(url).await.refuses(422, &["url"]);
    }
    // A name is as good as any until it is called: what it means then is what counts.
    let id = make(&format!("https://localhost:{}/", receiver.port)).await.expect(201).text("/webhook_id");
    admin.post(&format!("/admin/v1/tenants/{tenant}/suspend"), Value::Null).await.expect(200);
    tell_once(&Webhooks::from_ref(app.app.state()), &Outbound::new(Reach::Public)).await.unwrap();
    let attempts = admin.get(&format!("/admin/v1/webhooks/{id}/attempts")).await.expect(200).body;
    assert!(attempts["items"][0]["error"].as_str().unwrap().contains("not public"), "{attempts}");
    assert_eq!(attempts["items"][0]["status"], Value::Null);
    assert!(receiver.calls().is_empty());
}

#[tokio::test]
async fn somebody_who_never_answers_is_waited_for_no_longer_than_fifteen_seconds() {
    let scene = Scene::new().await;
    scene.receiver.answers(&[""]);
    scene.happens("suspend").await;
    let told = tokio::time::timeout(Duration::from_secs(25), scene.tell()).await;
    assert_eq!(told, Ok(0));
    assert!(scene.attempts().await[0]["error"].as_str().unwrap().contains("15 seconds"));
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was_under_the_same_ids() {
    let scene = Scene::new().await;
    scene.receiver.answers(&["500"]);
    scene.happens("suspend").await;
    scene.tell().await;
    let first = scene.receiver.calls().remove(0).id();
    let Scene { app, receiver, .. } = scene;
    let app = app.restarted().await;
    app.clock.advance_secs(6);
    assert_eq!(tell(&app).await, 1);
    assert_eq!(receiver.calls()[0].id(), first);
}

#[tokio::test]
async fn a_process_that_died_in_the_middle_of_a_call_leaves_it_to_others_after_a_while() {
    let scene = Scene::new().await;
    scene.happens("suspend").await;
    let webhooks = Webhooks::from_ref(scene.app.app.state());
    let webhook = webhooks.due().await.unwrap()[0];
    let delivery = webhooks.due_for(webhook).await.unwrap().remove(0);
    assert!(webhooks.claim(delivery.clone()).await.unwrap().is_some());
    assert!(webhooks.claim(delivery).await.unwrap().is_none(), "once");
    assert_eq!(scene.tell().await, 0);
    scene.later(20);
    assert_eq!(scene.tell().await, 1);
}

#[tokio::test]
async fn two_nodes_tell_of_each_event_once_and_in_order() {
    let Some(app) = TestApp::on_postgres_with(ALLOWED).await else { return };
    let scene = Scene::of(app).await;
    let beside = scene.app.beside().await;
    for what in ["suspend", "activate", "suspend", "activate"] {
        scene.happens(what).await;
    }
    let (own, other) = tokio::join!(scene.tell(), tell(&beside));
    let rest = scene.tell().await;
    assert_eq!(own + other + rest, 4);
    let kinds: Vec<String> = scene.receiver.calls().iter().map(Call::kind).collect();
    assert_eq!(kinds, ["tenant.suspended", "tenant.activated", "tenant.suspended", "tenant.activated"]);
}

#[tokio::test]
async fn changes_of_one_tenant_at_once_get_places_without_gaps() {
    let Some(app) = TestApp::on_postgres_with(ALLOWED).await else { return };
    let scene = Scene::of(app).await;
    let beside = scene.app.beside().await;
    let (here, there) = (scene.app.admin().await, beside.admin().await);
    let path = format!("/admin/v1/tenants/{}/users", scene.tenant);
    let add = |n: usize| {
        let who = if n.is_multiple_of(2) { &here } else { &there };
        who.post(&path, json!({"email": format!("u{n}@acme.example"), "role": "member"}))
    };
    for added in futures_util::future::join_all((0..16).map(add)).await {
        added.expect(201);
    }
    assert_eq!(scene.tell().await, 16);
    let events = here.get(&format!("/admin/v1/events?tenant_id={}&limit=500", scene.tenant)).await.expect(200).body;
    let mut places: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| event["sequence"].as_i64().unwrap()).collect();
    places.sort_unstable();
    assert_eq!(places, (1..=19).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_old_is_forgotten_and_what_waits_is_not() {
    let scene = Scene::new().await;
    scene.happens("suspend").await;
    assert_eq!(scene.tell().await, 1);
    scene.later(29 * 86_400);
    scene.receiver.always("500");
    scene.happens("activate").await;
    scene.tell().await;
    let webhooks = Webhooks::from_ref(scene.app.app.state());
    let names = async || {
        webhooks.tidy().await.unwrap();
        let events = scene.app.admin().await.get("/admin/v1/events?limit=500").await.expect(200).body;
        events["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names().await.len(), 5);
    scene.later(2 * 86_400);
    assert_eq!(names().await, ["tenant.activated"]);
    assert_eq!(scene.attempts().await.len(), 1);
    // It waits still, however old it is.
    scene.later(40 * 86_400);
    assert_eq!(names().await, ["tenant.activated"]);
    scene.receiver.always("204");
    assert_eq!(scene.tell().await, 1);
    scene.later(31 * 86_400);
    assert_eq!(names().await, Vec::<String>::new());
}

#[tokio::test]
async fn without_webhooks_nothing_waits() {
    let app = TestApp::with(ALLOWED).await;
    app.tenant("Acme", "free").await;
    let webhooks = Webhooks::from_ref(app.app.state());
    assert!(!webhooks.any_waiting().await.unwrap());
    assert!(webhooks.due().await.unwrap().is_empty());
    // And a commit that leaves nothing to deliver wakes nobody.
    let store = Store::from_ref(app.app.state());
    store.begin(Scope::Job("test")).await.unwrap().commit().await.unwrap();
    let woken = tokio::time::timeout(Duration::from_millis(1), store.something_to_deliver()).await;
    assert!(woken.is_err());
    hook(&app.admin().await, "/admin/v1/webhooks", &Receiver::start(), &["*"]).await;
    app.tenant("Globex", "free").await;
    store.something_to_deliver().await;
    assert!(webhooks.any_waiting().await.unwrap());
}
