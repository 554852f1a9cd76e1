//! Events from outside, meters, and queries in OpenMeter's shapes.

use axum::{
    body::Body,
    http::{Request, header},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::support::{
    actors::Actor,
    app::{Reply, TestApp},
};

pub fn event(id: &str, subject: &str, tokens: impl Into<Value>) -> Value {
    let tokens: Value = tokens.into();
    json!({"specversion": "1.0", "id": id, "source": "test", "type": "prompt", "subject": subject,
        "data": {"tokens": tokens, "model": "large"}})
}

async fn post_as(actor: &Actor<'_>, content_type: &str, body: &Value, prefer: &str) -> Reply {
    let request = Request::post("/api/v1/events")
        .header(header::AUTHORIZATION, format!("Bearer {}", actor.token))
        .header(header::CONTENT_TYPE, content_type)
        .header("prefer", prefer)
        .body(Body::from(body.to_string()));
    actor.app.send(request.unwrap()).await
}

pub async fn post(actor: &Actor<'_>, body: Value) -> Reply {
    post_as(actor, "application/json", &body, "").await
}

pub async fn meter(admin: &Actor<'_>, slug: &str, aggregation: &str) {
    let mut body = json!({"slug": slug, "eventType": "prompt", "aggregation": aggregation,
        "groupBy": {"model": "$.model"}});
    if aggregation != "COUNT" {
        body["valueProperty"] = "$.tokens".into();
    }
    admin.post("/api/v1/meters", body).await.expect(201);
}

/// The values of a query's answer, as they are written.
pub async fn values(actor: &Actor<'_>, path: &str) -> Vec<String> {
    let reply = actor.get(&format!("/api/v1/meters/{path}")).await.expect(200);
    reply.body["data"].as_array().unwrap().iter().map(|row| row["value"].to_string()).collect()
}

async fn counted_once(app: &TestApp) {
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    meter(&admin, "tokens", "SUM").await;
    let first = event("1", &acme, 0.1);
    post(&owner, first.clone()).await.expect(204);
    post(&owner, first.clone()).await.expect(204);
    post(&owner, json!([event("2", &acme, "0.2"), event("3", &acme, 1e1), first])).await.expect(204);
    assert_eq!(values(&owner, "tokens/query").await, ["10.3"], "each once, exactly");

    let conflict = post(&owner, json!([event("4", &acme, 5), event("1", &acme, 7)])).await;
    assert!(conflict.body["kept_digest"] != conflict.body["sent_digest"]);
    conflict.refuses(409, &[]);
    assert_eq!(values(&owner, "tokens/query").await, ["10.3"], "all of a batch or nothing");
    let listed = owner.get("/api/v1/events").await.expect(200);
    assert_eq!(listed.body.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn an_event_counts_once_and_a_batch_whole_or_not_at_all() {
    counted_once(&TestApp::new().await).await;
}

#[tokio::test]
async fn an_event_counts_once_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(counted_once(&app)).await;
}

#[tokio::test]
async fn every_aggregation_is_exact() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    let names = ["SUM", "COUNT", "UNIQUE_COUNT", "AVG", "MIN", "MAX", "LATEST", "P50", "P90", "WEIGHTED_SUM"];
    for name in names {
        meter(&admin, &name.to_lowercase(), name).await;
    }
    // Ten seconds apart, the last one ten seconds ago.
    for (n, tokens) in ["3", "1", "4", "1"].into_iter().enumerate() {
        let mut event = event(&n.to_string(), &acme, tokens);
        event["time"] = format!("2026-11-10T11:59:{}0Z", n + 2).into();
        post(&admin, event).await.expect(204);
    }
    let expected = ["9", "4", "3", "2.25", "1", "4", "1", "1", "4", "90"];
    for (name, expected) in names.into_iter().zip(expected) {
        assert_eq!(values(&admin, &format!("{}/query", name.to_lowercase())).await, [expected], "{name}");
    }
}

#[tokio::test]
async fn a_value_is_held_until_the_next_one_of_its_own_tenant_and_group() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let (acme, bolt) = (app.tenant("Acme", "standard").await, app.tenant("Bolt", "standard").await);
    meter(&admin, "held", "WEIGHTED_SUM").await;
    // 3 for 40 s, 4 for 30 s, 5 for 20 s: none ends another.
    for (n, (tenant, model, tokens)) in
        [(&acme, "large", 3), (&bolt, "large", 4), (&acme, "small", 5)].iter().enumerate()
    {
        let mut event = event(&n.to_string(), tenant, *tokens);
        event["time"] = format!("2026-11-10T11:59:{}0Z", n + 2).into();
        event["data"]["model"] = (*model).into();
        post(&admin, event).await.expect(204);
    }
    assert_eq!(values(&admin, "held/query").await, ["340"]);
    assert_eq!(values(&admin, "held/query?groupBy=model").await, ["240", "100"]);
    assert_eq!(values(&admin, &format!("held/query?subject={acme}")).await, ["220"]);
}

#[tokio::test]
async fn what_is_yet_to_come_is_held_for_no_time_and_ends_nothing_yet() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    meter(&admin, "held", "WEIGHTED_SUM").await;
    for (id, time, tokens) in [("1", "2026-11-10T11:59:50Z", 2), ("2", "2026-11-10T12:04:50Z", 1_000)] {
        let mut event = event(id, &acme, tokens);
        event["time"] = time.into();
        post(&admin, event).await.expect(204);
    }
    assert_eq!(values(&admin, "held/query").await, ["20"]);
    app.clock.advance_secs(300);
    // 2 for 300 s, and 1,000 for the ten since.
    assert_eq!(values(&admin, "held/query").await, ["10600"]);
}

#[tokio::test]
async fn a_value_that_is_held_from_before_is_found_without_the_events_before() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    meter(&admin, "held", "WEIGHTED_SUM").await;
    let times = ["2026-10-20T10:00:00Z", "2026-10-31T23:58:00Z", "2026-11-10T11:00:00Z"];
    for (n, time) in times.into_iter().enumerate() {
        let mut event = event(&n.to_string(), &acme, n + 1);
        event["time"] = time.into();
        post(&admin, event).await.expect(204);
    }
    let query = "held/query?from=2026-11-10T10:00:00Z&to=2026-11-10T12:00:00Z";
    assert_eq!(values(&admin, query).await, ["18000"], "2 for an hour, 3 for another");
    let url = format!("sqlite:{}", app.folder.path().join("tollgate.db").display());
    let mut store = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("DELETE FROM events WHERE id IN ('0', '1')").execute(&mut store).await.unwrap();
    assert_eq!(values(&admin, query).await, ["18000"]);
}

#[tokio::test]
async fn events_that_are_wrong_are_named_by_index_and_field() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    meter(&admin, "tokens", "SUM").await;
    let mut bad = event("1", &acme, 1);
    bad["specversion"] = "0.3".into();
    bad["time"] = "2026-01-01T00:00:00Z".into();
    post(&admin, json!([event("0", &acme, 1), bad])).await.refuses(400, &["[1].time", "[1].specversion"]);
    post(&admin, event("1", "nobody", 1)).await.refuses(400, &["subject"]);
    post(&admin, event("1", &acme, "many")).await.refuses(400, &["data"]);
    post(&admin, json!([])).await.refuses(400, &["body"]);
    post_as(&admin, "text/plain", &json!({}), "").await.refuses(415, &[]);
    post_as(&admin, "application/cloudevents+json", &json!([event("1", &acme, 1)]), "").await.refuses(400, &["body"]);
    let many: Vec<Value> = (0..1_001).map(|n| event(&n.to_string(), &acme, 1)).collect();
    post(&admin, many.into()).await.refuses(400, &["body"]);
    assert_eq!(values(&admin, "tokens/query").await, Vec::<String>::new(), "nothing was taken");
}

#[tokio::test]
async fn a_tenants_token_speaks_for_itself_alone() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    // Answers are in order of the tenants' ids, which begin with their time.
    app.clock.advance_secs(1);
    let bolt = app.tenant("Bolt", "free").await;
    meter(&admin, "tokens", "SUM").await;
    let owner = app.owner_of("Acme").await;
    post(&owner, event("1", &bolt, 1)).await.refuses(403, &[]);
    post(&owner, event("1", "nobody", 1)).await.refuses(403, &[]);
    post(&admin, json!([event("1", &acme, 1), event("1", &bolt, 2)])).await.expect(204);
    assert_eq!(values(&owner, "tokens/query").await, ["1"]);
    assert_eq!(values(&owner, "tokens/query?groupBy=subject").await, ["1"]);
    owner.get(&format!("/api/v1/meters/tokens/query?subject={bolt}")).await.refuses(403, &[]);
    assert_eq!(values(&admin, "tokens/query").await, ["3"]);
    assert_eq!(values(&admin, "tokens/query?groupBy=subject").await, ["1", "2"]);
    assert_eq!(values(&admin, &format!("tokens/query?subject={bolt}")).await, ["2"]);
    owner.post("/api/v1/meters", json!({})).await.refuses(403, &[]);
}

#[tokio::test]
async fn a_tenants_token_takes_nothing_off_what_it_is_billed_for() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    meter(&admin, "tokens", "SUM").await;
    meter(&admin, "lowest", "MIN").await;
    post(&admin, event("1", &acme, 5)).await.expect(204);
    let owner = app.owner_of("Acme").await;
    let refused = post(&owner, json!([event("2", &acme, 1), event("3", &acme, -5)])).await.refuses(403, &[]);
    assert!(refused.text("/detail").starts_with("[1].data: tokens is a sum"), "{}", refused.body);
    assert_eq!(values(&admin, "tokens/query").await, ["5"]);
    // What is no sum is what it is, and the platform corrects what it counted.
    admin.delete("/api/v1/meters/lowest").await.expect(204);
    post(&admin, event("4", &acme, -2)).await.expect(204);
    assert_eq!(values(&admin, "tokens/query").await, ["3"]);
}

#[tokio::test]
async fn an_external_id_is_a_subject_too_and_groups_are_filtered_in_three_forms() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    admin.patch(&format!("/admin/v1/tenants/{acme}"), json!({"external_id": "acme-inc"})).await.expect(200);
    meter(&admin, "tokens", "SUM").await;
    let mut small = event("2", "acme-inc", 5);
    small["data"]["model"] = "small".into();
    post(&admin, json!([event("1", &acme, 1), small])).await.expect(204);
    assert_eq!(values(&admin, "tokens/query?groupBy=model").await, ["1", "5"]);
    for filter in [
        "filterGroupBy[model]=small",
        "filterGroupBy=%7B%22model%22:%22small%22%7D",
        "filterGroupBy=%7B%27model%27:%20[%27small%27]%7D",
    ] {
        assert_eq!(values(&admin, &format!("tokens/query?{filter}")).await, ["5"], "{filter}");
    }
    let groups = admin.get("/api/v1/meters/tokens/group-by/model/values").await.expect(200);
    assert_eq!(groups.body, json!(["large", "small"]));
    assert_eq!(admin.get("/api/v1/meters/tokens/subjects").await.expect(200).body, json!([acme]));
    let body = json!({"groupBy": ["model"], "filterGroupBy": {"model": ["large"]}, "windowSize": "DAY"});
    let reply = admin.post("/api/v1/meters/tokens/query", body).await.expect(200);
    assert_eq!(reply.text("/data/0/windowStart"), "2026-11-10T00:00:00Z");
    assert_eq!(reply.body["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_comes_as_csv_when_asked_for() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    meter(&admin, "tokens", "SUM").await;
    let mut formula = event("1", &acme, 5);
    formula["data"]["model"] = "=1+1,\"x\"".into();
    post(&admin, formula).await.expect(204);
    let request = Request::get("/api/v1/meters/tokens/query?groupBy=model&windowSize=MONTH&from=2026-11-01T00:00:00Z")
        .header(header::AUTHORIZATION, format!("Bearer {}", admin.token))
        .header(header::ACCEPT, "text/csv")
        .body(Body::empty());
    let reply = app.send(request.unwrap()).await.expect(200);
    assert_eq!(reply.headers[header::CONTENT_TYPE], "text/csv; charset=utf-8");
    let text = reply.body.as_str().unwrap();
    assert!(text.starts_with("window_start,window_end,subject,model,value\r\n2026-11-01T00:00:00Z,"), "{text}");
    assert!(text.contains("\"'=1+1,\"\"x\"\"\",5"), "{text}");
}

#[tokio::test]
async fn a_meter_made_later_counts_what_was_there_and_one_removed_counts_nothing() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    post(&admin, json!([event("1", &acme, 1), event("2", &acme, 2)])).await.expect(204);
    meter(&admin, "tokens", "SUM").await;
    post(&admin, event("3", &acme, 4)).await.expect(204);
    assert_eq!(values(&admin, "tokens/query").await, ["7"]);
    admin.delete("/api/v1/meters/tokens").await.expect(204);
    admin.get("/api/v1/meters/tokens/query").await.refuses(404, &[]);
    meter(&admin, "tokens", "MAX").await;
    assert_eq!(values(&admin, "tokens/query").await, ["4"]);
    admin.delete("/api/v1/meters/apis").await.refuses(409, &[]);
}

#[tokio::test]
async fn totals_outlive_the_process_and_go_on() {
    let app = TestApp::new().await;
    let acme = app.tenant("Acme", "free").await;
    meter(&app.admin().await, "tokens", "SUM").await;
    post(&app.admin().await, event("1", &acme, 1)).await.expect(204);
    let app = app.restarted().await;
    post(&app.admin().await, json!([event("1", &acme, 1), event("2", &acme, 2)])).await.expect(204);
    assert_eq!(values(&app.admin().await, "tokens/query").await, ["3"]);
}

#[tokio::test]
async fn many_at_once_share_commits_and_count_each_once() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    meter(&admin, "tokens", "COUNT").await;
    let posts = (0..200).map(|n| post(&admin, event(&(n % 50).to_string(), &acme, 1)));
    for reply in futures_util::future::join_all(posts).await {
        reply.expect(204);
    }
    assert_eq!(values(&admin, "tokens/query").await, ["50"]);
}

#[tokio::test]
async fn no_value_makes_a_total_that_others_cannot_be_added_to() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    meter(&admin, "tokens", "SUM").await;
    meter(&admin, "held", "WEIGHTED_SUM").await;
    let long = ["9999999999999999999999999999", "1234567890123456", "-1234567890123456", "0.1234567891"];
    for (n, tokens) in long.into_iter().enumerate() {
        let one = event(&n.to_string(), &acme, tokens);
        let refused = post(&owner, one.clone()).await;
        assert!(refused.body.to_string().contains("more than 15 digits before the point or 9 after it"));
        refused.refuses(400, &["data"]);
        post(&owner, json!([event("fine", &acme, 1), one])).await.refuses(400, &["[1].data"]);
    }
    let longest = "999999999999999.999999999";
    for (id, time, tokens) in [("a", "11:58:00.000000001", longest), ("b", "11:59:30", "0.000000001")] {
        let mut event = event(id, &acme, tokens);
        event["time"] = format!("2026-11-10T{time}Z").into();
        post(&owner, event).await.expect(204);
    }
    admin.post("/admin/v1/usage/b/amend", json!({"data": {"tokens": "1".repeat(16)}})).await.refuses(400, &["data"]);
    assert_eq!(values(&admin, "tokens/query").await, ["1000000000000000"]);
    // 90 s less a nanosecond, to 28 digits.
    assert_eq!(values(&admin, "held/query").await, ["89999999998999999.99999994"]);
    // Whatever its digits, it counts in no meter that is made later either.
    let mut other = event("later", &acme, "9999999999999999999999999999");
    other["type"] = "other".into();
    post(&owner, other).await.expect(204);
    let later = json!({"slug": "later", "eventType": "other", "aggregation": "SUM", "valueProperty": "$.tokens"});
    admin.post("/api/v1/meters", later).await.expect(201);
    assert_eq!(values(&admin, "later/query").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_nul_in_a_name_is_refused_on_either_engine() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    post(&admin, event("a\0b", &acme, 1)).await.refuses(400, &["id"]);
    post(&admin, event(&"i".repeat(513), &acme, 1)).await.refuses(400, &["id"]);
    post(&admin, event(&"i".repeat(512), &acme, 1)).await.expect(204);
}

#[tokio::test]
async fn the_outcome_of_each_event_is_told_on_request() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    post(&admin, event("1", &acme, 1)).await.expect(204);
    let batch = json!([event("1", &acme, 1), event("2", &acme, 2)]);
    let reply =
        post_as(&admin, "application/cloudevents-batch+json; charset=utf-8", &batch, "return=representation").await;
    let outcomes: Vec<String> = (0..2).map(|n| reply.text(&format!("/{n}/outcome"))).collect();
    assert_eq!(outcomes, ["known", "counted"]);
}

#[tokio::test]
async fn events_wait_for_a_commit_up_to_a_bound_and_what_waited_is_taken() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    meter(&admin, "tokens", "COUNT").await;
    // Somebody holds the store's only writer.
    let url = format!("sqlite:{}", app.folder.path().join("tollgate.db").display());
    let mut store = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut store).await.unwrap();
    let one = |n: usize| {
        let mut event = event(&n.to_string(), &acme, 1);
        event["data"]["text"] = "x".repeat((1 << 20) - 4_096).into();
        post(&admin, event)
    };
    let mut waiting: FuturesUnordered<_> = (0..40).map(one).collect();
    let refused = waiting.next().await.unwrap();
    assert_eq!(refused.headers[header::RETRY_AFTER], "1");
    refused.refuses(503, &[]);
    sqlx::query("ROLLBACK").execute(&mut store).await.unwrap();
    let replies: Vec<Reply> = waiting.collect().await;
    let taken = replies.iter().filter(|reply| reply.status == 204).count();
    assert!(replies.iter().all(|reply| [204, 503].contains(&reply.status.as_u16())));
    assert!((30..40).contains(&taken), "{taken}");
    assert_eq!(values(&admin, "tokens/query").await, [taken.to_string()]);
    post(&admin, event("more", &acme, 1)).await.expect(204);
}
