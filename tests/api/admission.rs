//! Who may call now: requests under way, fair share, rates of routes, soft quotas, and that a refusal charges nothing.

use axum::{
    body::Body,
    extract::FromRef as _,
    http::{Request, Response, header},
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tollgate::{
    gateway::crossings::{Teller, tell_once},
    identity::Identity,
    metering::Metering,
    store::Store,
    webhooks::Webhooks,
};
use tower::ServiceExt as _;

use super::{
    gateway::{get, used},
    upstream::Upstream,
};
use crate::support::{actors::Actor, app::TestApp, audit::Audit};

/// Tells of soft quotas that were exceeded; how many were news.
pub async fn tell_crossings(app: &TestApp) -> usize {
    let state = app.app.state();
    let teller = Teller {
        directory: app.app.gateway_parts().directory.clone(),
        store: Store::from_ref(state),
        identity: Identity::from_ref(state),
        webhooks: Webhooks::from_ref(state),
    };
    tell_once(&teller).await.unwrap()
}

pub async fn set_quotas(app: &TestApp, tenant: &str, quotas: Value) {
    app.admin().await.put(&format!("/admin/v1/tenants/{tenant}/quotas"), quotas).await.expect(200);
}

async fn change_plan(app: &TestApp, tier: &str, changes: Value) {
    let admin = app.admin().await;
    let mut plan = admin.get(&format!("/admin/v1/plans/{tier}")).await.expect(200).body;
    plan["effective"] = json!("now");
    plan.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    admin.put(&format!("/admin/v1/plans/{tier}"), plan).await.expect(200);
}

/// A stream whose body is in hand: it is under way until that is dropped or read.
async fn stream(who: &Actor<'_>, path: &str) -> Response<Body> {
    let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {}", who.token));
    who.app.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

const STREAM: &str = "/sample/stream?events=2&interval_ms=0";

/// What is left of the quota and the rate, by the headers of an answer.
fn left(reply: &crate::support::app::Reply) -> String {
    reply.headers["ratelimit"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_tenant_has_so_many_requests_under_way_and_streams_count_until_they_end() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    change_plan(&app, "standard", json!({"max_concurrency": 2})).await;
    assert_eq!(app.admin().await.get("/admin/v1/plans/standard").await.body["max_concurrency"], 2);
    let owner = app.owner_of("Acme").await;
    assert_eq!(owner.get("/v1/quota").await.body["max_concurrency"], 2);
    let first = stream(&owner, STREAM).await;
    assert!(first.headers()["ratelimit"].to_str().unwrap().ends_with(", \"concurrency\";r=1"));
    let policy = first.headers()["ratelimit-policy"].to_str().unwrap().to_owned();
    assert!(policy.ends_with("\"concurrency\";q=2;qu=\"concurrent-requests\""), "{policy}");
    let second = stream(&owner, STREAM).await;
    for _ in 0..3 {
        let refused = owner.get("/sample/hello").await.refuses(429, &[]);
        assert_eq!(refused.text("/type"), "https://iana.org/assignments/http-problem-types#quota-exceeded");
        assert_eq!(refused.body["violated-policies"], json!(["concurrency"]));
        assert_eq!(refused.headers[header::RETRY_AFTER], "1");
        assert_eq!(refused.headers["ratelimit"], "\"concurrency\";r=0");
    }
    first.into_body().collect().await.unwrap();
    owner.get("/sample/hello").await.expect(200);
    let third = stream(&owner, STREAM).await;
    owner.get("/sample/hello").await.refuses(429, &[]);
    drop(second);
    drop(third);
    let reply = owner.get("/sample/hello").await.expect(200);
    assert!(
        left(&reply).starts_with("\"apis-day\";r=99995;") && left(&reply).contains("\"rate\";r=495;"),
        "{}",
        left(&reply)
    );
    assert_eq!(used(&owner, "apis").await, "5", "the refused ones charged nothing");
}

#[tokio::test]
async fn an_answer_that_is_not_billed_is_under_way_until_it_ends_all_the_same() {
    let upstream = Upstream::start().await;
    let app = TestApp::with(&upstream.route("max_concurrency = 1")).await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let failing = Request::get("/up/x").header(header::AUTHORIZATION, format!("Bearer {}", owner.token));
    let failing = failing.header("x-answer", "500").body(Body::empty()).unwrap();
    let failing = app.router.clone().oneshot(failing).await.unwrap();
    let refused = get(&owner, "/up/x", &[]).await.refuses(429, &[]);
    assert_eq!(refused.body["violated-policies"], json!(["route-concurrency"]));
    assert_eq!(refused.headers["ratelimit-policy"], "\"route-concurrency\";q=1;qu=\"concurrent-requests\"");
    owner.get("/sample/hello").await.expect(200);
    failing.into_body().collect().await.unwrap();
    get(&owner, "/up/x", &[]).await.expect(200);
    // A client that leaves while the upstream works has its place until the upstream has answered.
    let leaving = Request::get("/up/x").header(header::AUTHORIZATION, format!("Bearer {}", owner.token));
    let leaving = app.router.clone().oneshot(leaving.body(Body::empty()).unwrap());
    assert!(futures_util::FutureExt::now_or_never(leaving).is_none());
    get(&owner, "/up/x", &[]).await.refuses(429, &[]);
    while get(&owner, "/up/x", &[("x-empty", "1")]).await.status == 429 {
        tokio::task::yield_now().await;
    }
    get(&owner, "/up/x", &[]).await.expect(200);
}

#[tokio::test]
async fn a_routes_rate_is_each_tenants_own_and_a_refusal_takes_nothing_of_the_others() {
    let upstream = Upstream::start().await;
    let app = TestApp::with(&upstream.route("rate_limit = { requests = 1, per_s = 10, burst = 2 }")).await;
    for name in ["Acme", "Globex"] {
        app.tenant(name, "standard").await;
    }
    let owner = app.owner_of("Acme").await;
    for (route, own) in [(1, 499), (0, 498)] {
        let reply = get(&owner, "/up/x", &[]).await.expect(200);
        let reset_s = if route == 1 { 10 } else { 20 };
        assert!(
            left(&reply).ends_with(&format!("\"rate\";r={own};t=1, \"route-rate\";r={route};t={reset_s}")),
            "{}",
            left(&reply)
        );
        let policy = reply.headers["ratelimit-policy"].to_str().unwrap();
        assert_eq!(policy, "\"apis-day\";q=100000;w=86400, \"rate\";q=100;w=1, \"route-rate\";q=1;w=10");
    }
    for _ in 0..3 {
        let refused = get(&owner, "/up/x", &[]).await.refuses(429, &[]);
        assert_eq!(
            (refused.text("/detail"), &refused.body["violated-policies"]),
            ("more than 1 requests in 10 s".into(), &json!(["route-rate"]))
        );
        assert_eq!(refused.headers[header::RETRY_AFTER], "10");
    }
    get(&app.owner_of("Globex").await, "/up/x", &[]).await.expect(200);
    let reply = owner.get("/sample/hello").await.expect(200);
    assert!(
        left(&reply).starts_with("\"apis-day\";r=99997;") && left(&reply).ends_with("\"rate\";r=497;t=1"),
        "{}",
        left(&reply)
    );
    app.clock.advance_secs(10);
    get(&owner, "/up/x", &[]).await.expect(200);
    get(&owner, "/up/x", &[]).await.refuses(429, &[]);
    assert_eq!(used(&owner, "apis").await, "4");
}

#[tokio::test]
async fn one_tenant_that_floods_the_node_does_not_starve_another() {
    let app = TestApp::with("[gateway]\nmax_in_flight = 50\n").await;
    for name in ["Acme", "Globex"] {
        app.tenant(name, "premium").await;
    }
    let (flood, other) = (app.owner_of("Acme").await, app.owner_of("Globex").await);
    let mut under_way = Vec::new();
    for _ in 0..100 {
        let response = stream(&flood, STREAM).await;
        if response.status() == 200 {
            under_way.push(response);
        }
    }
    assert_eq!(under_way.len(), 40, "four fifths of the node, alone");
    let refused = flood.get("/sample/hello").await.refuses(503, &[]);
    assert_eq!(refused.text("/type"), "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity");
    assert_eq!(refused.headers[header::RETRY_AFTER], "1");
    let mut others = Vec::new();
    for _ in 0..100 {
        let response = stream(&other, STREAM).await;
        if response.status() == 200 {
            others.push(response);
        }
    }
    assert_eq!(others.len(), 8, "the other has its part of what was left, and some is left still");
    // As the flood's calls end, the other gets what becomes free until both have the same.
    for _ in 0..60 {
        drop(if under_way.len() > others.len() { under_way.pop() } else { others.pop() });
        for (who, has) in [(&flood, &mut under_way), (&other, &mut others)] {
            let response = stream(who, STREAM).await;
            if response.status() == 200 {
                has.push(response);
            }
        }
    }
    assert!(
        under_way.len().abs_diff(others.len()) <= 4 && others.len() >= 20,
        "{} and {}",
        under_way.len(),
        others.len()
    );
    let (mine, theirs) = (under_way.len(), others.len());
    drop((under_way, others));
    flood.get("/sample/hello").await.expect(200);
    // What was refused was not charged: what is billed are the streams that were under way.
    let billed: usize = used(&flood, "apis").await.parse().unwrap();
    assert!(billed > mine && billed <= 40 + 60 + 1, "{billed}");
    let billed: usize = used(&other, "apis").await.parse().unwrap();
    assert!(billed >= theirs && billed <= 8 + 60, "{billed}");
    assert!(left(&flood.get("/sample/hello").await).contains("\"rate\";r=49"), "nor taken from the rate");
}

#[tokio::test]
async fn a_soft_quota_that_is_exceeded_is_flagged_and_told_once_a_period() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    set_quotas(&app, &tenant, json!([{"meter": "apis", "limit": "2", "period": "day", "mode": "soft"}])).await;
    let mut audit = Audit::of(&app).await;
    let owner = app.owner_of("Acme").await;
    audit.actions().await;
    for n in 1..=5 {
        let reply = owner.get("/sample/hello").await.expect(200);
        let flag = reply.headers.get("tollgate-quota-exceeded").map(|value| value.to_str().unwrap());
        assert_eq!(flag, (n > 2).then_some("\"apis-day\""), "call {n}");
        let quota = owner.get("/v1/quota").await.body["quotas"][0].take();
        assert_eq!((&quota["exceeded"], &quota["used"]), (&json!(n > 2), &json!(n.to_string())));
        assert_eq!(tell_crossings(&app).await, usize::from(n == 3), "call {n}");
    }
    let of_admin = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/quotas")).await.expect(200).body;
    assert_eq!(of_admin["quotas"][0]["exceeded"], true);
    let entries = audit.entries().await;
    let told: Vec<_> = entries.iter().filter(|entry| entry["action"] == "quota.exceeded").collect();
    let [entry] = told[..] else { panic!("{entries:?}") };
    assert_eq!(
        (&entry["actor"], &entry["tenant_id"], &entry["subject"]),
        (&json!("job:quotas"), &json!(tenant), &json!("apis"))
    );
    assert_eq!(entry["detail"], "3 of 2 for the day from 2026-11-10T00:00:00Z");
    // Another process finds it told; another day is another matter.
    let app = app.restarted().await;
    app.owner_of("Acme").await.get("/sample/hello").await.expect(200);
    assert_eq!(tell_crossings(&app).await, 0);
    app.clock.advance_secs(86_400);
    let owner = app.owner_of("Acme").await;
    for _ in 0..4 {
        owner.get("/sample/hello").await.expect(200);
    }
    assert_eq!(tell_crossings(&app).await, 1);
}

#[tokio::test]
async fn what_is_refused_for_one_reason_takes_nothing_of_the_other_limits() {
    let upstream = Upstream::start().await;
    let app =
        TestApp::with(&upstream.route("rate_limit = { requests = 5, per_s = 1, burst = 5 }\nmax_concurrency = 3"))
            .await;
    let tenant = app.tenant("Acme", "standard").await;
    let quota = |limit: &str| json!([{"meter": "apis", "limit": limit, "period": "day", "mode": "hard"}]);
    let owner = app.owner_of("Acme").await;
    set_quotas(&app, &tenant, quota("0")).await;
    for _ in 0..10 {
        get(&owner, "/up/x", &[]).await.refuses(429, &[]);
    }
    set_quotas(&app, &tenant, quota("100")).await;
    let reply = get(&owner, "/up/x", &[]).await.expect(200);
    let all_but_one =
        "\"apis-day\";r=99;t=43200, \"rate\";r=499;t=1, \"route-rate\";r=4;t=1, \"route-concurrency\";r=2";
    assert_eq!(left(&reply), all_but_one);
    // When usage cannot be recorded, the call is refused after it was let in.
    Metering::from_ref(app.app.state()).close().await.unwrap();
    for _ in 0..10 {
        get(&owner, "/up/x", &[]).await.refuses(503, &[]);
    }
    let quotas = owner.get("/v1/quota").await.expect(200).body;
    assert_eq!(quotas["quotas"][0]["used"], "1");
    assert_eq!(used(&owner, "apis").await, "1");
    app.admin().await.post(&format!("/admin/v1/tenants/{tenant}/suspend"), Value::Null).await.expect(200);
    get(&owner, "/up/x", &[]).await.refuses(403, &[]);
}

#[tokio::test]
async fn calls_under_way_count_against_a_quota_that_comes_meanwhile() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let under_way = [stream(&owner, STREAM).await, stream(&owner, STREAM).await];
    set_quotas(&app, &tenant, json!([{"meter": "apis", "limit": "3", "period": "hour", "mode": "hard"}])).await;
    owner.get("/sample/hello").await.expect(200);
    for response in under_way {
        response.into_body().collect().await.unwrap();
    }
    owner.get("/sample/hello").await.refuses(429, &[]);
    assert_eq!(used(&owner, "apis").await, "3");
}

#[tokio::test]
async fn a_clock_that_jumps_does_not_lock_a_tenant_out_nor_let_it_have_a_quota_twice() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    set_quotas(&app, &tenant, json!([{"meter": "apis", "limit": "3", "period": "day", "mode": "hard"}])).await;
    // A rate goes on where it was, whatever the clock says; this is about the quota.
    change_plan(&app, "standard", json!({"rate_limit": null})).await;
    let owner = app.owner_of("Acme").await;
    owner.get("/sample/hello").await.expect(200);
    let now: tollgate::kernel::Timestamp = crate::support::app::NOW.parse().unwrap();
    app.clock.set(now.plus_secs(2 * 86_400));
    let later = app.owner_of("Acme").await;
    for status in [200, 200, 200, 429] {
        later.get("/sample/hello").await.expect(status);
    }
    app.clock.set(now.plus_secs(1));
    let owner = app.owner_of("Acme").await;
    for status in [200, 200, 429] {
        owner.get("/sample/hello").await.expect(status);
    }
    app.clock.set(now.plus_secs(2 * 86_400 + 1));
    app.owner_of("Acme").await.get("/sample/hello").await.refuses(429, &[]);
}
