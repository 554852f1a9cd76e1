//! What of a request is metered, and that it is metered once, however the request ends.

use axum::{
    body::Body,
    extract::FromRef as _,
    http::{Method, Request, header},
};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use serde_json::json;
use tollgate::metering::Metering;
use tower::ServiceExt as _;

use super::{
    gateway::{call, get, used},
    upstream::Upstream,
};
use crate::support::{actors::Actor, app::TestApp};

const ALL: &str = "[\"apis\", \"compute\", \"memory\", \"egress_bytes\", \"ingress_bytes\"]";

async fn app_with(upstream: &Upstream, meters: &str) -> TestApp {
    let app = TestApp::with(&upstream.settings(meters)).await;
    app.tenant("Acme", "standard").await;
    app
}

fn request(who: &Actor<'_>, path: &str) -> Request<Body> {
    let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {}", who.token));
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn every_meter_of_a_route_counts() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let reply = owner.post("/sample/compute", json!({"work": 100})).await.expect(200);
    assert!(!reply.headers.contains_key("tollgate-usage"), "the client is not told");
    // The sample reports a millisecond for ten units of work, and a megabyte-second for a hundred.
    let sent = json!({"work": 100}).to_string().len().to_string();
    let answered = reply.headers[header::CONTENT_LENGTH].to_str().unwrap();
    for (meter, value) in
        [("apis", "1"), ("compute", "10"), ("memory", "1"), ("ingress_bytes", &sent), ("egress_bytes", answered)]
    {
        assert_eq!(used(&owner, meter).await, value, "{meter}");
    }
}

#[tokio::test]
async fn a_meter_that_the_route_does_not_name_stays_at_zero() {
    let upstream = Upstream::start().await;
    let app = app_with(&upstream, "[\"memory\"]").await;
    let owner = app.owner_of("Acme").await;
    get(&owner, "/up/x", &[("answer-tollgate-usage", "compute=5, memory=7")]).await.expect(200);
    for (meter, value) in [("apis", "0"), ("compute", "0"), ("egress_bytes", "0"), ("memory", "7")] {
        assert_eq!(used(&owner, meter).await, value, "{meter}");
    }
}

#[tokio::test]
async fn only_the_upstreams_own_failures_cost_nothing() {
    let upstream = Upstream::start().await;
    let app = app_with(&upstream, ALL).await;
    let owner = app.owner_of("Acme").await;
    for status in ["500", "502", "503"] {
        let headers = [("x-answer", status), ("answer-tollgate-usage", "memory=9")];
        let reply = get(&owner, "/up/x", &headers).await.expect(status.parse().unwrap());
        assert!(!reply.headers.contains_key("tollgate-usage"));
    }
    for meter in ["apis", "memory", "egress_bytes"] {
        assert_eq!(used(&owner, meter).await, "0", "{meter}");
    }
    for (status, billed) in [("404", "1"), ("400", "2"), ("302", "3"), ("204", "4")] {
        get(&owner, "/up/x", &[("x-answer", status)]).await.expect(status.parse().unwrap());
        assert_eq!(used(&owner, "apis").await, billed);
    }
}

#[tokio::test]
async fn a_usage_report_is_read_as_rfc_9651_says() {
    let upstream = Upstream::start().await;
    let app = app_with(&upstream, ALL).await;
    let owner = app.owner_of("Acme").await;
    let reports = [
        (&["memory=3.125"][..], "3.125"),
        (&["compute=1, memory=2;unit=mb"], "2"),
        (&["memory=1, memory=4"], "4"),
        // A dictionary may come in several lines (section 4.2).
        (&["compute=1", "memory=5"], "5"),
        (&["apis=1000, egress_bytes=1, memory=1"], "1"),
        (&["memory"], "0"),
        (&["memory=-1"], "0"),
        (&["memory=\"7\""], "0"),
        (&["memory=1e3"], "0"),
        (&["memory=999999999999999"], "0"),
        (&["memory=7, ="], "0"),
        (&["", "memory=7 8"], "0"),
        (&["unknown=7"], "0"),
    ];
    let mut before = 0.0;
    for (calls, (lines, value)) in (1..).zip(reports) {
        let headers: Vec<_> = lines.iter().map(|line| ("answer-tollgate-usage", *line)).collect();
        let reply = get(&owner, "/up/x", &headers).await.expect(200);
        assert!(!reply.headers.contains_key("tollgate-usage"), "{lines:?}");
        let now: f64 = used(&owner, "memory").await.parse().unwrap();
        // Multiples of an eighth: exact in binary.
        assert_eq!((now - before).to_string(), value, "{lines:?}");
        assert_eq!(
            used(&owner, "apis").await,
            calls.to_string(),
            "the request itself is counted, whatever is reported"
        );
        before = now;
    }
}

#[tokio::test]
async fn a_stream_is_metered_once_when_it_was_read_to_the_end() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let stream = request(&owner, "/sample/stream?events=3&interval_ms=0");
    let response = app.router.clone().oneshot(stream).await.unwrap();
    assert_eq!(used(&owner, "apis").await, "0", "it runs");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(used(&owner, "apis").await, "1");
    assert_eq!(used(&owner, "egress_bytes").await, body.len().to_string());
}

#[tokio::test]
async fn a_stream_is_metered_once_when_it_was_broken_off() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let stream = || app.router.clone().oneshot(request(&owner, "/sample/stream?events=3&interval_ms=0"));
    let mut body = stream().await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    drop(body);
    assert_eq!(used(&owner, "apis").await, "1");
    assert_eq!(used(&owner, "egress_bytes").await, first.len().to_string(), "no more than was sent");
    drop(stream().await.unwrap());
    assert_eq!(used(&owner, "apis").await, "2", "not a byte was read, but the upstream did its work");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_billed_once_by_what_it_would_have_been() {
    let upstream = Upstream::start().await;
    let app = app_with(&upstream, "[\"apis\"]").await;
    let owner = app.owner_of("Acme").await;
    get(&owner, "/up/x", &[]).await.expect(200);
    // Polled once, it is on its way to the upstream; then it is dropped.
    assert!(app.router.clone().oneshot(request(&owner, "/up/x")).now_or_never().is_none());
    while used(&owner, "apis").await == "1" {
        tokio::task::yield_now().await;
    }
    let reply = get(&owner, "/up/x", &[]).await.expect(200);
    let left = reply.headers["ratelimit"].to_str().unwrap();
    assert!(left.starts_with("\"apis-day\";r=99997;"), "the quota knows of it: {left}");
    assert_eq!(used(&owner, "apis").await, "3");
}

#[tokio::test]
async fn an_answer_that_the_upstream_breaks_off_is_metered_once_and_not_whole() {
    let upstream = Upstream::breaking_off().await;
    let app = app_with(&upstream, ALL).await;
    let owner = app.owner_of("Acme").await;
    let response = app.router.clone().oneshot(request(&owner, "/up/x")).await.unwrap();
    assert!(response.into_body().collect().await.is_err(), "the client sees that it is not whole");
    assert_eq!(used(&owner, "apis").await, "1");
    assert_eq!(used(&owner, "egress_bytes").await, "3");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_forwarded() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    Metering::from_ref(app.app.state()).close().await.unwrap();
    let refused = owner.get("/sample/hello").await.refuses(503, &[]);
    assert_eq!(refused.text("/type"), "/docs/problems#usage-cannot-be-recorded");
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn answers_without_a_body_are_metered() {
    let upstream = Upstream::start().await;
    let app = app_with(&upstream, ALL).await;
    let owner = app.owner_of("Acme").await;
    call(&owner, Method::HEAD, "/up/x", &[]).await.expect(200);
    call(&owner, Method::HEAD, "/sample/hello", &[]).await.expect(200);
    get(&owner, "/up/x", &[("x-empty", "1")]).await.expect(200);
    get(&owner, "/up/x", &[("x-answer", "204"), ("answer-tollgate-usage", "memory=2")]).await.expect(204);
    assert_eq!(used(&owner, "apis").await, "4");
    assert_eq!(used(&owner, "memory").await, "2");
    assert_eq!(used(&owner, "egress_bytes").await, "0");
}

#[tokio::test]
async fn a_durable_route_counts_alike() {
    let durable = "[[gateway.routes]]\npath = \"/sample/\"\nupstream = \"builtin:sample\"\ndurability = \"durable\"\n";
    let app = TestApp::with(durable).await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let hello = owner.get("/sample/hello").await.expect(200);
    assert_eq!(hello.text("/message"), "hello", "the answer is whole");
    call(&owner, Method::HEAD, "/sample/hello", &[]).await.expect(200);
    owner.get("/sample/stream?events=2&interval_ms=0").await.expect(200);
    assert_eq!(used(&owner, "apis").await, "3");
}
