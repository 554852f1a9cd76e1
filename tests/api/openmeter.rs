//! What OpenMeter's SDKs rely on beyond the counting itself: names, statuses, filters, lists. The SDKs themselves are in
//! tests/clients.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use crate::support::{
    actors::Actor,
    app::{Reply, TestApp},
};

fn event(id: &str, subject: &str, tokens: i64, model: &str, time: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "test", "type": "prompt", "subject": subject, "time": time,
        "data": {"tokens": tokens, "model": model}})
}

/// Two tenants with events of yesterday and today; `acme` is called `acme-inc` outside.
async fn scene(app: &TestApp) -> (String, String) {
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    app.clock.advance_secs(1);
    let bolt = app.tenant("Bolt", "standard").await;
    admin.patch(&format!("/admin/v1/tenants/{acme}"), json!({"external_id": "acme-inc"})).await.expect(200);
    let meter = json!({"slug": "tokens", "eventType": "prompt", "aggregation": "SUM", "valueProperty": "$.tokens",
        "groupBy": {"model": "$.model"}});
    admin.post("/api/v1/meters", meter).await.expect(201);
    let events = json!([
        event("1", &acme, 1, "large", "2026-11-09T10:00:00Z"),
        event("2", "acme-inc", 10, "small", "2026-11-10T10:00:00Z"),
        event("3", &bolt, 100, "it's \"new\"", "2026-11-10T11:00:00Z"),
    ]);
    admin.post("/api/v1/events", events).await.expect(204);
    (acme, bolt)
}

/// The rows of an answer: subject and value.
fn rows(reply: &Reply) -> Vec<(String, String)> {
    let row = |row: &Value| (row["subject"].as_str().unwrap_or("-").to_owned(), row["value"].to_string());
    reply.body["data"].as_array().unwrap().iter().map(row).collect()
}

async fn query(actor: &Actor<'_>, query: &str) -> Vec<(String, String)> {
    rows(&actor.get(&format!("/api/v1/meters/tokens/query{query}")).await.expect(200))
}

fn row(subject: &str, value: &str) -> (String, String) {
    (subject.to_owned(), value.to_owned())
}

#[tokio::test]
async fn whoever_names_subjects_has_them_apart_once_each_and_by_the_names_given() {
    let app = TestApp::new().await;
    let (acme, bolt) = scene(&app).await;
    let admin = app.admin().await;
    assert_eq!(query(&admin, "").await, [row("-", "111")]);
    assert_eq!(query(&admin, "?subject=acme-inc").await, [row("acme-inc", "11")]);
    assert_eq!(query(&admin, &format!("?subject=acme-inc&subject={acme}")).await, [row("acme-inc", "11")]);
    let both = format!("?subject={bolt}&subject={acme}");
    assert_eq!(query(&admin, &both).await, [row(&acme, "11"), row(&bolt, "100")]);
    assert_eq!(query(&admin, &format!("?filterCustomerId={bolt}")).await, [row(&bolt, "100")]);
    assert_eq!(query(&admin, &format!("{both}&filterCustomerId={bolt}")).await, [row(&bolt, "100")]);
    assert_eq!(query(&admin, &format!("?subject={acme}&filterCustomerId={bolt}")).await, []);
    let reply = admin.get("/api/v1/meters/tokens/query?subject=acme-inc&windowSize=day").await.expect(200);
    assert_eq!((reply.text("/data/0/customerId"), reply.text("/windowSize")), (acme, "DAY".to_owned()));
    admin.get("/api/v1/meters/tokens/query?subject=nobody").await.refuses(400, &["subject"]);
}

#[tokio::test]
async fn groups_are_filtered_by_operators_too_and_unknown_ones_are_refused() {
    let app = TestApp::new().await;
    scene(&app).await;
    let admin = app.admin().await;
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let advanced = |text: &str| format!("?advancedMeterGroupByFilters={}", encoded(text));
    assert_eq!(query(&admin, &advanced(r#"{"model":{"$in":["large","small"]}}"#)).await, [row("-", "11")]);
    assert_eq!(query(&admin, &advanced(r#"{"model":{"$eq":"small"}}"#)).await, [row("-", "10")]);
    let python = format!("?filterGroupBy={}", encoded(r#"{'model': 'it\'s "new"'}"#));
    assert_eq!(query(&admin, &python).await, [row("-", "100")]);
    let both = format!("{}&filterGroupBy[model]=large", advanced(r#"{"model":{"$in":["large","small"]}}"#));
    assert_eq!(query(&admin, &both).await, [row("-", "1")]);

    let path = "/api/v1/meters/tokens/query";
    for (query, field) in [
        (advanced(r#"{"model":{"$like":"%a%"}}"#), "advancedMeterGroupByFilters.model"),
        (advanced("model"), "advancedMeterGroupByFilters"),
        ("?filterGroupBy=model".into(), "filterGroupBy"),
        ("?filterGroupBy[colour]=red".into(), "filterGroupBy"),
        ("?groupBy=colour".into(), "groupBy"),
        ("?zeroFill=perhaps".into(), "zeroFill"),
        ("?windowSize=WEEK".into(), "windowSize"),
        ("?windowTimeZone=Mars/Olympus".into(), "windowTimeZone"),
        ("?from=yesterday".into(), "from"),
        ("?from=2026-11-10T00:00:00Z&to=2026-11-09T00:00:00Z".into(), "from"),
        ("?windowSize=MINUTE&from=2020-01-01T00:00:00Z".into(), "windowSize"),
    ] {
        admin.get(&format!("{path}{query}")).await.refuses(400, &[field]);
    }
    admin.post(path, json!({"groupBy": 7})).await.refuses(400, &["groupBy"]);
    let like = json!({"advancedMeterGroupByFilters": {"model": {"$ne": "large"}}});
    admin.post(path, like).await.refuses(400, &["advancedMeterGroupByFilters.model"]);
    let post = json!({"filterGroupBy": {"model": ["large"]}, "filterCustomerId": ["acme-inc"], "zeroFill": true});
    assert_eq!(rows(&admin.post(path, post).await.expect(200)), [row("acme-inc", "1")]);
}

#[tokio::test]
async fn windows_without_usage_come_with_zero_fill_alone() {
    let app = TestApp::new().await;
    scene(&app).await;
    let admin = app.admin().await;
    let days = "?subject=acme-inc&windowSize=DAY&from=2026-11-08T00:00:00Z&to=2026-11-11T00:00:00Z";
    assert_eq!(query(&admin, days).await, [row("acme-inc", "1"), row("acme-inc", "10")]);
    let filled = query(&admin, &format!("{days}&zeroFill=true")).await;
    assert_eq!(filled, [row("acme-inc", "0"), row("acme-inc", "1"), row("acme-inc", "10")]);
    // The end is exclusive, and days are those of the zone.
    let to = "?windowSize=DAY&from=2026-11-09T00:00:00Z&to=2026-11-10T10:00:00Z";
    assert_eq!(query(&admin, to).await, [row("-", "1")]);
    let zone = "/api/v1/meters/tokens/query?windowSize=DAY&windowTimeZone=Asia/Tokyo&from=2026-11-08T15:00:00Z";
    let reply = admin.get(zone).await.expect(200);
    assert_eq!(reply.text("/data/0/windowStart"), "2026-11-08T15:00:00Z");
}

#[tokio::test]
async fn subjects_and_values_are_those_of_a_time() {
    let app = TestApp::new().await;
    let (acme, bolt) = scene(&app).await;
    let admin = app.admin().await;
    let list = async |path: &str| admin.get(&format!("/api/v1/meters/tokens/{path}")).await.expect(200).body;
    assert_eq!(list("subjects").await, json!([acme, bolt]));
    assert_eq!(list("subjects?to=2026-11-10T00:00:00Z").await, json!([acme]));
    assert_eq!(list("group-by/model/values?from=2026-11-10T10:30:00Z").await, json!(["it's \"new\""]));
    assert_eq!(app.owner_of("Bolt").await.get("/api/v1/meters/tokens/subjects").await.body, json!([bolt]));
    admin.get("/api/v1/meters/tokens/group-by/colour/values").await.refuses(404, &[]);
    admin.get("/api/v1/meters/tokens/subjects?from=then").await.refuses(400, &["from"]);
}

async fn ids_seen_by(actor: &Actor<'_>, query: &str) -> Vec<String> {
    let reply = actor.get(&format!("/api/v1/events{query}")).await.expect(200);
    reply.body.as_array().unwrap().iter().map(|own| own["event"]["id"].as_str().unwrap().to_owned()).collect()
}

async fn events_are_listed(app: &TestApp) {
    let (acme, bolt) = scene(app).await;
    let admin = app.admin().await;
    for (query, expected) in [
        (String::new(), vec!["3", "2", "1"]),
        ("?subject=acme-inc".into(), vec!["2", "1"]),
        (format!("?customerId={acme}&customerId={bolt}&limit=2"), vec!["3", "2"]),
        (format!("?customerId={bolt}&subject={acme}"), vec![]),
        ("?id=2".into(), vec!["2"]),
        ("?from=2026-11-10T00:00:00Z&to=2026-11-10T11:00:00Z".into(), vec!["2"]),
        ("?ingestedAtFrom=2026-11-10T12:00:01Z&ingestedAtTo=2026-11-10T12:00:02Z".into(), vec!["3", "2", "1"]),
        ("?ingestedAtFrom=2026-11-10T12:00:02Z".into(), vec![]),
        ("?ingestedAtTo=2026-11-10T12:00:00Z".into(), vec![]),
    ] {
        assert_eq!(ids_seen_by(&admin, &query).await, expected, "{query}");
    }
    let owner = app.owner_of("Bolt").await;
    assert_eq!(ids_seen_by(&owner, "").await, ["3"]);
    owner.get(&format!("/api/v1/events?subject={acme}")).await.refuses(403, &[]);
    owner.get(&format!("/api/v1/events?customerId={acme}")).await.refuses(403, &[]);
    admin.get("/api/v1/events?from=now&limit=many").await.refuses(400, &["from", "limit"]);
}

#[tokio::test]
async fn events_are_listed_by_whose_they_are_and_when_they_came() {
    events_are_listed(&TestApp::new().await).await;
}

#[tokio::test]
async fn events_are_listed_on_postgresql() {
    let Some(app) = TestApp::on_postgres().await else { return };
    Box::pin(events_are_listed(&app)).await;
}

#[tokio::test]
async fn a_meter_is_made_and_described_as_their_clients_do_it() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let path = "/api/v1/meters";
    // Their clients send members that are not ours, and a property with a count.
    let meter = json!({"slug": "calls", "eventType": "call", "aggregation": "COUNT", "valueProperty": "$.ignored",
        "groupBy": {"region": "$.region"}, "metadata": {"team": "x"}});
    let made = admin.post(path, meter.clone()).await.expect(201);
    assert_eq!((made.text("/name"), made.text("/aggregation")), ("calls".into(), "COUNT".into()));
    admin.post(path, meter).await.refuses(409, &[]);
    for (meter, fields) in [
        (json!({}), vec!["slug", "aggregation", "eventType"]),
        (json!({"slug": "No", "eventType": "x", "aggregation": "MEDIAN"}), vec!["slug", "aggregation"]),
        (json!({"slug": "a", "eventType": "x", "aggregation": "SUM"}), vec!["valueProperty"]),
        (json!({"slug": 1}), vec!["slug"]),
        (
            json!({"slug": "a", "eventType": "x", "aggregation": "COUNT", "eventFrom": "2026-01-01T00:00:00Z"}),
            vec!["eventFrom"],
        ),
    ] {
        admin.post(path, meter).await.refuses(400, &fields);
    }
    let described = json!({"name": "Calls", "description": "Calls by region", "groupBy": {"region": "$.region"}});
    let read = admin.put("/api/v1/meters/calls", described).await.expect(200);
    assert_eq!((read.text("/name"), read.text("/description")), ("Calls".into(), "Calls by region".into()));
    let other = json!({"groupBy": {"region": "$.zone"}});
    admin.put("/api/v1/meters/calls", other).await.refuses(400, &["groupBy"]);
    let id = made.text("/id");
    assert_eq!(admin.get(&format!("/api/v1/meters/{id}")).await.expect(200).text("/slug"), "calls");

    let all = admin.get(path).await.expect(200).body.as_array().unwrap().len();
    let count = async |page: &str| admin.get(&format!("{path}{page}")).await.expect(200).body.as_array().unwrap().len();
    assert_eq!(count("?page=1&pageSize=4").await + count("?page=2&pageSize=4").await, all);
    assert_eq!(count("?page=3&pageSize=4").await, 0, "whoever pages on comes to an end");
    admin.get("/api/v1/meters?page=0&pageSize=0").await.refuses(400, &["page", "pageSize"]);
    admin.get("/api/v1/meters?page=x").await.refuses(400, &["page"]);
}

#[tokio::test]
async fn an_answer_as_csv_is_asked_for_by_post_without_a_body_too() {
    let app = TestApp::new().await;
    scene(&app).await;
    let admin = app.admin().await;
    let request = Request::post("/api/v1/meters/tokens/query")
        .header(header::AUTHORIZATION, format!("Bearer {}", admin.token))
        .header(header::ACCEPT, "text/csv")
        .body(Body::empty());
    let reply = app.send(request.unwrap()).await.expect(200);
    assert_eq!(reply.headers[header::CONTENT_DISPOSITION], "attachment; filename=\"tokens.csv\"");
    assert!(reply.body.as_str().unwrap().ends_with(",,111\r\n"), "{}", reply.body);
    let typed = Request::post("/api/v1/meters/tokens/query")
        .header(header::AUTHORIZATION, format!("Bearer {}", admin.token))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::empty());
    app.send(typed.unwrap()).await.refuses(400, &[]);
}
