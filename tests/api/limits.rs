//! Quotas and rates: what is refused, what the caller is told, and that nothing refused is billed.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::{
    gateway::{get, used},
    ledger::record_units,
    upstream::Upstream,
};
use crate::support::app::{Reply, TestApp};

async fn set_quotas(app: &TestApp, tenant: &str, quotas: Value) {
    app.admin().await.put(&format!("/admin/v1/tenants/{tenant}/quotas"), quotas).await.expect(200);
}

fn quota(meter: &str, limit: &str, period: &str) -> Value {
    json!({"meter": meter, "limit": limit, "period": period, "mode": "hard"})
}

/// Refused by a quota or a rate.
#[track_caller]
fn over_quota(reply: Reply) -> Reply {
    let reply = reply.refuses(429, &[]);
    assert_eq!(reply.text("/type"), "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert!(reply.headers.contains_key(header::RETRY_AFTER));
    reply
}

#[tokio::test]
async fn a_used_up_quota_says_what_it_was_and_when_it_starts_anew() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    set_quotas(&app, &tenant, json!([quota("apis", "3", "day")])).await;
    let owner = app.owner_of("Acme").await;
    for remaining in [2, 1, 0] {
        let reply = owner.get("/sample/hello").await.expect(200);
        let expected = format!("\"apis-day\";r={remaining};t=43200, ");
        assert!(reply.headers["ratelimit"].to_str().unwrap().starts_with(&expected));
    }
    for _ in 0..2 {
        let refused = over_quota(owner.get("/sample/hello").await);
        // At noon the UTC day has twelve hours left.
        assert_eq!(refused.headers[header::RETRY_AFTER], "43200");
        assert_eq!(refused.headers["ratelimit"], "\"apis-day\";r=0;t=43200");
        assert_eq!(refused.headers["ratelimit-policy"], "\"apis-day\";q=3;w=86400");
    }
    assert_eq!(used(&owner, "apis").await, "3", "what was refused is not billed");
    app.clock.set("2026-11-11T00:00:00Z".parse().unwrap());
    let owner = app.owner_of("Acme").await;
    owner.get("/sample/hello").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_calls_cannot_overrun_a_hard_quota() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "premium").await;
    set_quotas(&app, &tenant, json!([quota("apis", "20", "hour")])).await;
    let owner = app.owner_of("Acme").await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let authorization = format!("Bearer {}", owner.token);
        let request = Request::get("/sample/hello").header(header::AUTHORIZATION, authorization);
        calls.spawn(app.router.clone().oneshot(request.body(Body::empty()).unwrap()));
    }
    let statuses: Vec<StatusCode> = calls.join_all().await.into_iter().map(|reply| reply.unwrap().status()).collect();
    let passed = statuses.iter().filter(|status| status.is_success()).count();
    assert_eq!((passed, statuses.len()), (20, 100));
    assert!(statuses.iter().all(|status| [200, 429].contains(&status.as_u16())));
    assert_eq!(used(&owner, "apis").await, "20");
}

#[tokio::test]
async fn what_is_not_billed_is_given_back_to_the_quota() {
    let upstream = Upstream::start().await;
    let app = TestApp::with(&upstream.settings("[\"apis\"]")).await;
    let tenant = app.tenant("Acme", "standard").await;
    set_quotas(&app, &tenant, json!([quota("apis", "1", "month")])).await;
    let owner = app.owner_of("Acme").await;
    for _ in 0..3 {
        get(&owner, "/up/x", &[("x-answer", "500")]).await.expect(500);
    }
    get(&owner, "/up/x", &[]).await.expect(200);
    over_quota(get(&owner, "/up/x", &[]).await);
    assert_eq!(used(&owner, "apis").await, "1");
}

#[tokio::test]
async fn a_quota_of_reported_usage_lets_in_while_anything_is_left() {
    let upstream = Upstream::start().await;
    let app = TestApp::with(&upstream.settings("[\"apis\", \"memory\"]")).await;
    let tenant = app.tenant("Acme", "standard").await;
    set_quotas(&app, &tenant, json!([quota("memory", "10", "day")])).await;
    let owner = app.owner_of("Acme").await;
    for _ in 0..2 {
        get(&owner, "/up/x", &[("answer-tollgate-usage", "memory=5.5")]).await.expect(200);
    }
    over_quota(get(&owner, "/up/x", &[]).await);
    assert_eq!(used(&owner, "memory").await, "11");
}

#[tokio::test]
async fn a_soft_quota_refuses_nothing() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    set_quotas(&app, &tenant, json!([{"meter": "apis", "limit": "1", "period": "day", "mode": "soft"}])).await;
    let owner = app.owner_of("Acme").await;
    for _ in 0..3 {
        owner.get("/sample/hello").await.expect(200);
    }
    assert_eq!(used(&owner, "apis").await, "3");
}

#[tokio::test]
async fn a_quota_is_not_forgotten_by_a_restart() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    set_quotas(&app, &tenant, json!([quota("apis", "2", "month")])).await;
    for _ in 0..2 {
        app.owner_of("Acme").await.get("/sample/hello").await.expect(200);
    }
    let app = app.restarted().await;
    over_quota(app.owner_of("Acme").await.get("/sample/hello").await);
}

#[tokio::test]
async fn after_a_change_of_tier_the_whole_periods_usage_counts() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "free").await;
    record_units(&app, &tenant, &[("apis", 1_000)]);
    // Usage that no call of this process made is known from the start on.
    let app = app.restarted().await;
    let owner = app.owner_of("Acme").await;
    over_quota(owner.get("/sample/hello").await);
    let tier = format!("/admin/v1/tenants/{tenant}/tier");
    let admin = app.admin().await;
    admin.post(&tier, json!({"tier": "standard"})).await.expect(200);
    owner.get("/sample/hello").await.expect(200);
    admin.post(&tier, json!({"tier": "free"})).await.expect(200);
    over_quota(owner.get("/sample/hello").await);
}

#[tokio::test]
async fn a_quota_that_comes_back_knows_what_was_used_meanwhile() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    set_quotas(&app, &tenant, json!([quota("apis", "3", "day")])).await;
    owner.get("/sample/hello").await.expect(200);
    // By the hour for a while, and the day is nobody's concern.
    set_quotas(&app, &tenant, json!([quota("apis", "100", "hour")])).await;
    for _ in 0..2 {
        owner.get("/sample/hello").await.expect(200);
    }
    set_quotas(&app, &tenant, json!([quota("apis", "3", "day")])).await;
    over_quota(owner.get("/sample/hello").await);
    // An empty list ends the override: the plan's 100,000 a day hold again.
    set_quotas(&app, &tenant, json!([])).await;
    let reply = owner.get("/sample/hello").await.expect(200);
    assert!(reply.headers["ratelimit"].to_str().unwrap().starts_with("\"apis-day\";r=99996;"));
}

#[tokio::test]
async fn two_quotas_of_one_meter_and_period_count_each_for_itself() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let warning = json!({"meter": "apis", "limit": "1", "period": "day", "mode": "soft"});
    let owner = app.owner_of("Acme").await;
    for _ in 0..3 {
        // Setting them anew keeps what was counted.
        set_quotas(&app, &tenant, json!([warning, quota("apis", "3", "day")])).await;
        owner.get("/sample/hello").await.expect(200);
    }
    over_quota(owner.get("/sample/hello").await);
    assert_eq!(used(&owner, "apis").await, "3");
}

#[tokio::test]
async fn a_rate_holds_after_the_burst_and_costs_no_quota() {
    let app = TestApp::new().await;
    app.tenant("Acme", "free").await;
    let owner = app.owner_of("Acme").await;
    for _ in 0..50 {
        owner.get("/sample/hello").await.expect(200);
    }
    for _ in 0..3 {
        let refused = over_quota(owner.get("/sample/hello").await);
        assert_eq!(refused.text("/detail"), "more than 10 requests in 1 s");
        assert_eq!(refused.headers[header::RETRY_AFTER], "1");
        assert!(refused.headers["ratelimit"].to_str().unwrap().ends_with("\"rate\";r=0;t=1"));
        assert!(refused.headers["ratelimit-policy"].to_str().unwrap().ends_with("\"rate\";q=10;w=1"));
    }
    app.clock.advance_secs(1);
    for _ in 0..10 {
        owner.get("/sample/hello").await.expect(200);
    }
    owner.get("/sample/hello").await.refuses(429, &[]);
    assert_eq!(used(&owner, "apis").await, "60");
    app.clock.advance_secs(1);
    let reply = owner.get("/sample/hello").await.expect(200);
    assert!(reply.headers["ratelimit"].to_str().unwrap().starts_with("\"apis-day\";r=939;"));
}

#[tokio::test]
async fn one_tenants_limits_are_not_anothers() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    app.tenant("Globex", "standard").await;
    set_quotas(&app, &tenant, json!([quota("apis", "0", "day")])).await;
    over_quota(app.owner_of("Acme").await.get("/sample/hello").await);
    app.owner_of("Globex").await.get("/sample/hello").await.expect(200);
}
