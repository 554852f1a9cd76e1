//! What a route counts, by unit expressions, and that bills and the doctor agree with it.

use axum::{
    body::Body,
    extract::FromRef as _,
    http::{Request, header},
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tollgate::{
    metering::{journal::Folder, reconcile::reconcile},
    store::Store,
};
use tower::ServiceExt as _;

use super::{
    events::{event, post},
    gateway::{get, used},
    upstream::Upstream,
};
use crate::support::{actors::Actor, app::TestApp};

/// A meter of events that routes count, too.
const TOKENS: &str = r#"
[[metering.meters]]
key = "tokens"
event_type = "prompt"
aggregation = "sum"
value_property = "$.tokens"
group_by = { model = "$.model" }
"#;

async fn app_with(upstream: &Upstream, route: &str) -> TestApp {
    let app = TestApp::with(&format!("{}{TOKENS}", upstream.route(route))).await;
    app.tenant("Acme", "standard").await;
    app
}

/// What an answer is to be like.
type Headers = &'static [(&'static str, &'static str)];

async fn unread(app: &TestApp) -> Value {
    app.admin().await.get("/admin/v1/metering/health").await.expect(200).body["unread"].take()
}

/// Journal, ledger, events and totals agree.
async fn all_agrees(app: &TestApp) {
    let folder = Folder::open(app.folder.path().join("journal")).unwrap();
    let report = reconcile(&Store::from_ref(app.app.state()), &folder).await.unwrap();
    assert!(report.differences.is_empty(), "{:#?}", report.differences);
}

#[tokio::test]
async fn each_unit_expression_counts_what_it_says() {
    let upstream = Upstream::start().await;
    let route = r#"meters = [
        { meter = "apis", value = "request_bytes" },
        { meter = "memory", value = "header:X-Cost" },
        { meter = "egress_bytes", value = "response_bytes" },
        { meter = "ingress_bytes", value = "count" },
        { meter = "compute", value = "milliseconds" },
        { meter = "tokens", value = "json:/usage/total_tokens" },
    ]"#;
    let app = app_with(&upstream, route).await;
    let owner = app.owner_of("Acme").await;
    let body = r#"{"usage": {"total_tokens": 21.5}}"#;
    let request = Request::post("/up/x")
        .header(header::AUTHORIZATION, format!("Bearer {}", owner.token))
        .header("x-body", body)
        .header("answer-x-cost", "0.125")
        .header("answer-tollgate-usage", "compute=1000000, memory=7");
    let reply = app.send(request.body(Body::from("12345")).unwrap()).await.expect(200);
    assert_eq!(reply.headers["x-cost"], "0.125", "the client sees it, too");
    for (meter, value) in [("apis", "5"), ("memory", "0.125"), ("ingress_bytes", "1"), ("tokens", "21.5")] {
        assert_eq!(used(&owner, meter).await, value, "{meter}");
    }
    assert_eq!(used(&owner, "egress_bytes").await, body.len().to_string());
    let worked: f64 = used(&owner, "compute").await.parse().unwrap();
    assert!(worked > 0.0 && worked < 60_000.0, "measured, not reported: {worked}");
    assert_eq!(unread(&app).await, json!([]));
    all_agrees(&app).await;
}

#[tokio::test]
async fn an_ai_service_is_metered_by_tokens_from_its_json_and_from_the_last_event() {
    let upstream = Upstream::start().await;
    let app =
        app_with(&upstream, r#"meters = ["apis", { meter = "tokens", value = "json:/usage/total_tokens" }]"#).await;
    let owner = app.owner_of("Acme").await;
    let json = [("x-body", r#"{"choices": [{"usage": {"total_tokens": 9}}], "usage": {"total_tokens": 30}}"#)];
    get(&owner, "/up/chat", &json).await.expect(200);
    assert_eq!(used(&owner, "tokens").await, "30");
    let events = "data: {\"usage\": null}||data: {\"usage\": {\"total_tokens\": 4}}||data: {\"choices\": [], \"usage\": \
                  {\"total_tokens\": 12}}||data: [DONE]||";
    let stream = [("x-body", events), ("answer-content-type", "text/event-stream")];
    let reply = get(&owner, "/up/chat", &stream).await.expect(200);
    assert_eq!(reply.body, events.replace('|', "\n"), "it passes as it is");
    assert_eq!([used(&owner, "tokens").await, used(&owner, "apis").await], ["42", "2"]);
    // Events of the same meter add to it, and both have groups of their own.
    let tenant = owner.get("/v1/me").await.text("/tenant/tenant_id");
    post(&app.admin().await, event("1", &tenant, 8)).await.expect(204);
    assert_eq!(used(&owner, "tokens").await, "50");
    let by_route = owner.get("/v1/usage?meter=tokens&group_by=route").await.expect(200).body;
    let groups =
        by_route["data"].as_array().unwrap().iter().map(|window| (&window["group"]["route"], &window["value"]));
    let groups: Vec<_> = groups.collect();
    assert!(groups.contains(&(&json!("/up/"), &json!("42"))) && groups.len() == 2, "{by_route}");
    all_agrees(&app).await;
    // After a restart it is all there; without the route the meter may go.
    let route = "meters = [\"apis\"]";
    let settings = format!("{}{TOKENS}", upstream.route(route));
    app.admin().await.delete("/api/v1/meters/tokens").await.refuses(409, &[]);
    let app = app.restarted_with(&settings).await.unwrap();
    assert_eq!(used(&app.owner_of("Acme").await, "tokens").await, "50");
    all_agrees(&app).await;
    app.admin().await.delete("/api/v1/meters/tokens").await.expect(204);
    all_agrees(&app).await;
}

#[tokio::test]
async fn tokens_are_billed_to_the_last_digit() {
    let upstream = Upstream::start().await;
    let app = app_with(&upstream, r#"meters = [{ meter = "tokens", value = "json:/n" }]"#).await;
    let admin = app.admin().await;
    let mut plan = admin.get("/admin/v1/plans/standard").await.expect(200).body;
    plan["effective"] = json!("now");
    plan["prices"] = json!([{"meter": "tokens", "model": "per_unit", "unit": "0.002"}]);
    admin.put("/admin/v1/plans/standard", plan).await.expect(200);
    let owner = app.owner_of("Acme").await;
    for n in ["100.25", "0.75", "0", "1e3"] {
        get(&owner, "/up/x", &[("x-body", &format!("{{\"n\": {n}}}"))]).await.expect(200);
    }
    let bill = owner.get("/v1/bill").await.expect(200).body;
    let line = bill["lines"].as_array().unwrap().iter().find(|line| line["meter"] == "tokens").unwrap();
    assert_eq!(
        (&line["quantity"], &line["unrounded"], &line["amount"]),
        (&json!("1101"), &json!("2.202"), &json!("2.20"))
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_not_counted() {
    let upstream = Upstream::start().await;
    let route =
        r#"meters = ["apis", { meter = "tokens", value = "json:/n" }, { meter = "memory", value = "header:x-cost" }]"#;
    let app = app_with(&upstream, route).await;
    let owner = app.owner_of("Acme").await;
    let answers: [(Headers, Option<&str>, &str); 7] = [
        (&[("x-body", "{}")], Some("there is nothing where the quantity should be"), "0"),
        (&[("x-body", r#"{"n": "many"}"#)], Some("what is there is no number"), "0"),
        (
            &[("x-body", r#"{"n": 0.0001}"#)],
            Some("the number has too many digits, or more than three behind the point"),
            "0",
        ),
        (&[("x-body", r#"{"n": -5}"#)], Some("the number is below zero or too large"), "0"),
        (&[("x-body", r#"{"n": 5}"#), ("answer-content-encoding", "gzip")], Some("the body is encoded"), "0"),
        (&[("x-empty", "1")], Some("the answer ended before it was there"), "0"),
        (&[("x-body", r#"{"n": 5}"#)], None, "5"),
    ];
    let mut count = 0;
    for (headers, why, used_now) in answers {
        let mut headers = headers.to_vec();
        headers.push(("answer-x-cost", "1"));
        get(&owner, "/up/x", &headers).await.expect(200);
        count += u64::from(why.is_some());
        let told = unread(&app).await;
        let told = &told[0];
        assert_eq!(
            (&told["route"], &told["meter"], &told["requests"]),
            (&json!("/up/"), &json!("tokens"), &json!(count))
        );
        if let Some(why) = why {
            assert_eq!((&told["last_error"], &told["last_at"]), (&json!(why), &json!(crate::support::app::NOW)));
        }
        assert_eq!(used(&owner, "tokens").await, used_now);
    }
    assert_eq!([used(&owner, "apis").await, used(&owner, "memory").await], ["7", "7"], "the others count");
    get(&owner, "/up/x", &[("x-body", r#"{"n": 5}"#)]).await.expect(200);
    assert_eq!(unread(&app).await.as_array().unwrap().len(), 2);
    assert_eq!(app.admin().await.get("/admin/v1/metering/health").await.body["status"], "ok", "metering works");
}

#[tokio::test]
async fn the_upstream_is_asked_for_all_of_the_body_as_it_is() {
    let upstream = Upstream::start().await;
    let plain = "[[gateway.routes]]\npath = \"/plain/\"\nupstream = \"own\"\n";
    let app = app_with(&upstream, &format!("meters = [{{ meter = \"tokens\", value = \"json:/n\" }}]\n{plain}")).await;
    let owner = app.owner_of("Acme").await;
    let asked = [("accept-encoding", "gzip, br"), ("range", "bytes=0-3"), ("if-range", "\"x\"")];
    let seen = get(&owner, "/up/x", &asked).await.expect(200).text("");
    assert!(seen.contains("accept-encoding") && !seen.contains("range"), "{seen}");
    let seen = get(&owner, "/plain/x", &asked).await.expect(200).text("");
    assert!(seen.contains("accept-encoding") && seen.contains("if-range"), "{seen}");
}

#[tokio::test]
async fn a_stream_that_is_broken_off_counts_what_it_said_by_then() {
    let upstream = Upstream::start().await;
    let app = app_with(&upstream, r#"meters = ["apis", { meter = "tokens", value = "json:/n" }]"#).await;
    let owner = app.owner_of("Acme").await;
    let request = |body: &str| {
        let request = Request::get("/up/x").header(header::AUTHORIZATION, format!("Bearer {}", owner.token));
        let request = request.header("x-body", body).header("answer-content-type", "text/event-stream");
        app.router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let mut body = request("data: {\"n\": 3}||data: {\"n\": 5}||").await.unwrap().into_body();
    let mut seen = String::new();
    while !seen.contains("\n\n") {
        seen.push_str(std::str::from_utf8(&body.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap());
    }
    drop(body);
    let counted = used(&owner, "tokens").await;
    assert!(
        if seen.contains('5') { ["3", "5"].contains(&&*counted) } else { counted == "3" },
        "{counted} after {seen}"
    );
    drop(request("data: {\"n\": 3}||").await.unwrap());
    assert_eq!([used(&owner, "tokens").await, used(&owner, "apis").await], [counted, "2".into()]);
    assert_eq!(unread(&app).await[0]["last_error"], "the answer ended before it was there");
}

#[tokio::test]
async fn a_route_says_which_statuses_are_billed() {
    let upstream = Upstream::start().await;
    let route = "billed = [\"2xx\", \"404\", \"500-502\"]\nmeters = [\"apis\", \"egress_bytes\"]";
    let app = app_with(&upstream, route).await;
    let tenant = owner_tenant(&app).await;
    let quotas = json!([{"meter": "apis", "limit": "5", "period": "day", "mode": "hard"}]);
    app.admin().await.put(&format!("/admin/v1/tenants/{tenant}/quotas"), quotas).await.expect(200);
    let owner = app.owner_of("Acme").await;
    let statuses = [(200, 1), (302, 1), (400, 1), (404, 2), (503, 2), (502, 3), (204, 4), (499, 4), (500, 5)];
    for (status, billed) in statuses {
        let text = status.to_string();
        get(&owner, "/up/x", &[("x-answer", &text)]).await.expect(status);
        assert_eq!(used(&owner, "apis").await, billed.to_string(), "{status}");
    }
    get(&owner, "/up/x", &[("x-answer", "400")]).await.refuses(429, &[]);
}

async fn owner_tenant(app: &TestApp) -> String {
    app.owner_of("Acme").await.get("/v1/me").await.text("/tenant/tenant_id")
}

#[tokio::test]
async fn a_quota_of_tokens_holds_what_the_route_says_and_settles_what_was_used() {
    let upstream = Upstream::start().await;
    let app = app_with(&upstream, r#"meters = [{ meter = "tokens", value = "json:/n", hold = 40 }]"#).await;
    let tenant = owner_tenant(&app).await;
    let quotas = json!([{"meter": "tokens", "limit": "100", "period": "month", "mode": "hard"}]);
    app.admin().await.put(&format!("/admin/v1/tenants/{tenant}/quotas"), quotas).await.expect(200);
    let owner: Actor<'_> = app.owner_of("Acme").await;
    let ask = async |n: u32| get(&owner, "/up/x", &[("x-body", &format!("{{\"n\": {n}}}"))]).await;
    for n in [10, 30, 25] {
        ask(n).await.expect(200);
    }
    let refused = ask(1).await.refuses(429, &[]);
    assert_eq!(refused.body["violated-policies"], json!(["tokens-month"]));
    assert_eq!(refused.headers["ratelimit"], "\"tokens-month\";r=35;t=1771200");
    assert_eq!(refused.headers["ratelimit-policy"], "\"tokens-month\";q=100;w=2592000;qu=\"tokens\"");
    assert_eq!(used(&owner, "tokens").await, "65");
    // On routes that count no tokens the quota does not matter.
    owner.get("/sample/hello").await.expect(200);
    let app = app.restarted().await;
    let owner = app.owner_of("Acme").await;
    get(&owner, "/up/x", &[("x-body", "{\"n\": 1}")]).await.refuses(429, &[]);
}

#[tokio::test]
async fn a_route_that_counts_a_meter_that_is_not_there_keeps_the_server_from_starting() {
    let app = TestApp::new().await;
    let folder = std::sync::Arc::clone(&app.folder);
    let route = |meter: &str| {
        let meters = format!("[\"apis\", {{ meter = \"{meter}\", value = \"json:/n\" }}]");
        format!("[[gateway.routes]]\npath = \"/sample/\"\nupstream = \"builtin:sample\"\nmeters = {meters}\n")
    };
    let meter = json!({"slug": "largest", "eventType": "x", "aggregation": "MAX", "valueProperty": "$.n"});
    app.admin().await.post("/api/v1/meters", meter).await.expect(201);
    let refused = app.restarted_with(&route("largest")).await.err().unwrap().to_string();
    assert_eq!(refused, "a route counts the meter largest, and it is no sum");
    let app = TestApp::new().await;
    let refused = app.restarted_with(&route("tokens")).await.err().unwrap().to_string();
    assert!(refused.starts_with("a route counts the meter tokens, and there is no such meter"), "{refused}");
    drop(folder);
    // One that the API made is as good as one of the settings.
    let app = TestApp::new().await;
    let meter = json!({"slug": "tokens", "eventType": "x", "aggregation": "SUM", "valueProperty": "$.n"});
    app.admin().await.post("/api/v1/meters", meter).await.expect(201);
    app.restarted_with(&route("tokens")).await.unwrap();
}
