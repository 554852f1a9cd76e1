//! Events that are taken back or amended: what counts then, what is known when it is sent again, what is kept.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::events::{event, meter, post, values};
use crate::support::{
    actors::Actor,
    app::{Reply, TestApp},
};

const NAMES: [&str; 8] = ["sum", "count", "unique_count", "avg", "min", "max", "latest", "p50"];

async fn meters(admin: &Actor<'_>, names: &[&str]) {
    for name in names {
        meter(admin, name, &name.to_uppercase()).await;
    }
}

async fn amend(admin: &Actor<'_>, id: &str, body: Value) -> Reply {
    admin.post(&format!("/admin/v1/usage/{id}/amend"), body).await
}

/// Asserts what each meter says of all there is.
async fn says(admin: &Actor<'_>, expected: [&str; 8]) {
    for (name, expected) in NAMES.into_iter().zip(expected) {
        assert_eq!(values(admin, &format!("{name}/query?windowSize=MONTH")).await, [expected], "{name}");
    }
}

#[tokio::test]
async fn what_is_taken_back_counts_no_more() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    for name in ["SUM", "COUNT", "MAX", "LATEST"] {
        meter(&admin, &name.to_lowercase(), name).await;
    }
    post(&admin, json!([event("1", &acme, 3), event("2", &acme, 9)])).await.expect(204);
    let voided = admin.post("/admin/v1/usage/2/void", json!({"reason": "sent by mistake"})).await.expect(200);
    assert_eq!(voided.text("/event_id"), "2");
    for (name, expected) in [("sum", "3"), ("count", "1"), ("max", "3"), ("latest", "3")] {
        assert_eq!(values(&admin, &format!("{name}/query")).await, [expected], "{name}");
    }
    admin.post("/admin/v1/usage/2/void", Value::Null).await.refuses(409, &[]);
    admin.post("/admin/v1/usage/7/void", Value::Null).await.refuses(404, &[]);
    // The same event again is known, and stays taken back.
    post(&admin, event("2", &acme, 9)).await.expect(204);
    assert_eq!(values(&admin, "sum/query").await, ["3"]);
}

#[tokio::test]
async fn an_amended_event_counts_with_its_new_content_under_every_aggregation() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    meters(&admin, &NAMES).await;
    post(&admin, json!([event("1", &acme, 3), event("2", &acme, 9), event("3", &acme, 9)])).await.expect(204);
    says(&admin, ["21", "3", "2", "7", "3", "9", "9", "9"]).await;
    let new = json!({"data": {"tokens": "0.5", "model": "small"}, "reason": "misread"});
    let amended = amend(&admin, "3", new.clone()).await.expect(200);
    assert_eq!(amended.body["changed"], true);
    assert_eq!(amended.text("/event/data/tokens"), "0.5");
    says(&admin, ["12.5", "3", "3", "4.1666666666666666666666666667", "0.5", "9", "0.5", "3"]).await;
    assert_eq!(values(&admin, "sum/query?groupBy=model").await, ["12", "0.5"]);

    assert_eq!(amend(&admin, "3", new).await.expect(200).body["changed"], false, "the same again changes nothing");
    says(&admin, ["12.5", "3", "3", "4.1666666666666666666666666667", "0.5", "9", "0.5", "3"]).await;
    let again = json!({"data": {"tokens": 12, "model": "large"}, "time": "2026-11-10T11:59:00.000000001Z"});
    amend(&admin, "3", again).await.expect(200);
    says(&admin, ["24", "3", "3", "8", "3", "12", "9", "9"]).await;
    // Minutes tell that the time changed, too.
    assert_eq!(values(&admin, "sum/query?windowSize=MINUTE&from=2026-11-10T00:00:00Z").await, ["12", "12"]);

    admin.post("/admin/v1/usage/3/void", json!({"reason": "after all"})).await.expect(200);
    says(&admin, ["12", "2", "2", "6", "3", "9", "9", "3"]).await;
    amend(&admin, "3", json!({"data": {"tokens": 1}})).await.refuses(409, &[]);
}

#[tokio::test]
async fn whatever_an_amended_event_ever_said_is_known_and_nothing_else() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    meters(&admin, &["sum"]).await;
    let said = |tokens: i64| {
        let mut event = event("1", &acme, tokens);
        event["time"] = "2026-11-10T11:00:00Z".into();
        event
    };
    post(&admin, said(1)).await.expect(204);
    for tokens in [2, 3] {
        amend(&admin, "1", json!({"data": {"tokens": tokens, "model": "large"}})).await.expect(200);
    }
    for tokens in [1, 2, 3] {
        post(&admin, said(tokens)).await.expect(204);
        post(&admin, json!([said(tokens), said(tokens)])).await.expect(204);
    }
    assert_eq!(values(&admin, "sum/query").await, ["3"], "nothing came back");
    let conflict = post(&admin, said(4)).await;
    assert_ne!(conflict.body["kept_digest"], conflict.body["sent_digest"]);
    conflict.refuses(409, &[]);
    post(&admin, json!([event("2", &acme, 5), said(4)])).await.refuses(409, &[]);
    // Back to what it said first.
    amend(&admin, "1", json!({"data": {"tokens": 1, "model": "large"}})).await.expect(200);
    assert_eq!(values(&admin, "sum/query").await, ["1"]);
    let app = app.restarted().await;
    let admin = app.admin().await;
    for tokens in [1, 2, 3] {
        post(&admin, said(tokens)).await.expect(204);
    }
    admin.post("/admin/v1/usage/1/void", Value::Null).await.expect(200);
    post(&admin, said(2)).await.expect(204);
    assert_eq!(values(&admin, "sum/query").await, Vec::<String>::new());
}

#[tokio::test]
async fn an_events_history_says_who_did_what_and_why_in_order() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "free").await;
    post(&admin, event("a/b c", &acme, 1)).await.expect(204);
    for (tokens, reason) in [(2, "first"), (3, "second")] {
        let body = json!({"data": {"tokens": tokens}, "reason": reason});
        amend(&admin, "a%2Fb%20c", body).await.expect(200);
    }
    admin.post("/admin/v1/usage/a%2Fb%20c/void", json!({"reason": "third"})).await.expect(200);
    let history = admin.get("/admin/v1/usage/a%2Fb%20c/history").await.expect(200);
    assert_eq!(history.text("/event/data/tokens"), "3");
    assert_eq!(history.text("/voided_at"), crate::support::app::NOW);
    let items: Vec<_> = history.body["items"].as_array().unwrap().iter().collect();
    let shown: Vec<_> = items
        .iter()
        .map(|item| format!("{} {} {}", item["action"], item["reason"], item["before"]["data"]["tokens"]))
        .collect();
    assert_eq!(shown, ["\"amended\" \"first\" 1", "\"amended\" \"second\" 2", "\"voided\" \"third\" null"]);
    assert!(items.iter().all(|item| item["corrected_by"].as_str().is_some_and(|by| by.len() == 36)), "{items:?}");
    admin.get("/admin/v1/usage/nothing/history").await.refuses(404, &[]);
}

#[tokio::test]
async fn an_amendment_that_is_wrong_is_refused_by_field_and_changes_nothing() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    let (acme, bolt) = (app.tenant("Acme", "free").await, app.tenant("Bolt", "free").await);
    meters(&admin, &["sum"]).await;
    post(&admin, json!([event("1", &acme, 1), event("2", &acme, 1), event("2", &bolt, 2)])).await.expect(204);
    amend(&admin, "1", json!({})).await.refuses(422, &["data"]);
    amend(&admin, "1", json!({"data": [1]})).await.refuses(422, &["data"]);
    amend(&admin, "1", json!({"data": {}, "type": "other"})).await.refuses(422, &["type"]);
    amend(&admin, "1", json!({"data": {"tokens": "many"}})).await.refuses(400, &["data"]);
    amend(&admin, "1", json!({"data": {"tokens": 1}, "reason": "x".repeat(1_001)})).await.refuses(422, &["reason"]);
    for time in ["noon", "2026-10-01T00:00:00Z", "2026-11-10T12:06:00Z"] {
        amend(&admin, "1", json!({"time": time})).await.refuses(422, &["time"]);
    }
    amend(&admin, "7", json!({"data": {"tokens": 1}})).await.refuses(404, &[]);
    amend(&admin, "2", json!({"data": {"tokens": 9}})).await.refuses(409, &[]);
    admin.post(&format!("/admin/v1/usage/2/amend?tenant_id={bolt}"), json!({})).await.refuses(422, &["data"]);
    assert_eq!(values(&admin, "sum/query").await, ["4"]);
    let of_bolt = format!("/admin/v1/usage/2/amend?tenant_id={bolt}&source=test");
    admin.post(&of_bolt, json!({"data": {"tokens": 9}})).await.expect(200);
    assert_eq!(values(&admin, &format!("sum/query?subject={bolt}")).await, ["9"]);
    assert_eq!(values(&admin, "sum/query").await, ["11"]);
}

/// What a tenant's adjustments say, one a line.
async fn adjustments(admin: &Actor<'_>, tenant: &str) -> Vec<String> {
    let list = admin.get(&format!("/admin/v1/tenants/{tenant}/adjustments")).await.expect(200);
    let line = |item: &Value| {
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {} {}", text("meter"), text("month"), item["count"], text("quantity"))
    };
    list.body["items"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test]
async fn what_comes_late_is_an_adjustment_once_its_month_is_closed() {
    let app = TestApp::new().await;
    let acme = app.tenant("Acme", "free").await;
    let admin = app.admin().await;
    meters(&admin, &["sum"]).await;
    let at = |id: &str, tokens: i64, time: &str| {
        let mut event = event(id, &acme, tokens);
        event["time"] = time.into();
        event
    };
    let november = "sum/query?windowSize=DAY&from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z";
    post(&admin, at("1", 1, "2026-11-09T12:00:00Z")).await.expect(204);
    // An hour after its end the month is closed, and not before.
    app.clock.set("2026-12-01T00:59:59Z".parse().unwrap());
    let admin = app.admin().await;
    post(&admin, at("2", 2, "2026-11-30T12:00:00Z")).await.expect(204);
    amend(&admin, "1", json!({"data": {"tokens": 5}})).await.expect(200);
    assert_eq!(adjustments(&admin, &acme).await, Vec::<String>::new());
    assert_eq!(values(&admin, november).await, ["5", "2"]);

    app.clock.set("2026-12-01T01:00:00Z".parse().unwrap());
    let admin = app.admin().await;
    post(&admin, json!([at("3", 4, "2026-11-30T12:00:30Z"), at("4", 8, "2026-12-01T00:30:00Z")])).await.expect(204);
    assert_eq!(values(&admin, november).await, ["5", "6"], "a query shows it where it belongs");
    app.clock.advance_secs(1);
    amend(&admin, "3", json!({"data": {"tokens": "3.5", "model": "large"}})).await.expect(200);
    app.clock.advance_secs(1);
    amend(&admin, "4", json!({"time": "2026-11-30T12:00:00Z"})).await.expect(200);
    app.clock.advance_secs(1);
    admin.post("/admin/v1/usage/1/void", Value::Null).await.expect(200);
    assert_eq!(values(&admin, november).await, ["13.5"]);
    let month = "2026-11-01T00:00:00Z";
    let expected = [(1, "4"), (0, "-0.5"), (1, "8"), (-1, "-5")];
    assert_eq!(adjustments(&admin, &acme).await, expected.map(|(n, sum)| format!("sum {month} {n} {sum}")));
    let page = admin.get(&format!("/admin/v1/tenants/{acme}/adjustments?limit=3")).await.expect(200);
    let rest = format!("/admin/v1/tenants/{acme}/adjustments?cursor={}", page.text("/next_cursor"));
    assert_eq!(admin.get(&rest).await.expect(200).body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn calls_that_a_stopped_node_counts_after_their_month_was_closed_are_adjustments() {
    let app = TestApp::new().await;
    let acme = app.tenant("Acme", "free").await;
    let call = async |app: &TestApp| drop(app.owner_of("Acme").await.get("/sample/hello").await.expect(200));
    app.clock.set("2026-11-30T23:59:58Z".parse().unwrap());
    call(&app).await;
    // Nothing was counted when it stopped. It is back within the hour, and stops again.
    app.clock.set("2026-12-01T00:59:59Z".parse().unwrap());
    let app = app.restarted().await;
    let usage = format!("/admin/v1/tenants/{acme}/usage?from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z");
    let of_november = async |app: &TestApp| app.admin().await.get(&usage).await.expect(200).text("/data/0/value");
    assert_eq!(of_november(&app).await, "1");
    assert_eq!(adjustments(&app.admin().await, &acme).await, Vec::<String>::new(), "the month was open");

    app.clock.set("2026-11-30T23:59:59Z".parse().unwrap());
    call(&app).await;
    call(&app).await;
    app.clock.set("2026-12-02T08:00:00Z".parse().unwrap());
    let app = app.restarted().await;
    assert_eq!(of_november(&app).await, "3", "it counts where it belongs");
    let noted = adjustments(&app.admin().await, &acme).await;
    let apis = noted.iter().filter_map(|line| line.strip_prefix("apis 2026-11-01T00:00:00Z "));
    // In one row or two: as they are read back.
    let calls: u32 = apis.map(|line| line.split(' ').next().unwrap().parse::<u32>().unwrap()).sum();
    assert_eq!(calls, 2, "{noted:?}");
    let app = app.restarted().await;
    assert_eq!(adjustments(&app.admin().await, &acme).await, noted, "once");
}

/// Amendments, deliveries and takings back of the same few events, all at once; then everything must agree.
async fn all_at_once(nodes: &[&TestApp]) {
    let admin = nodes[0].admin().await;
    let acme = nodes[0].tenant("Acme", "free").await;
    let events: Vec<Value> = (0..6).map(|n| event(&n.to_string(), &acme, n)).collect();
    post(&admin, events.clone().into()).await.expect(204);
    let mut everybody = Vec::new();
    for node in nodes {
        everybody.push(Actor { app: node, token: admin.token.clone() });
    }
    let (mut amends, mut sends, mut voids) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..8 {
        for n in 0..6 {
            let who = &everybody[(round + n) % everybody.len()];
            let data = json!({"tokens": 100 * (round + 1) + n, "model": "large"});
            amends.push(async move { amend(who, &n.to_string(), json!({"data": data})).await });
            sends.push(post(who, events[n].clone()));
            if n % 2 == 0 && round > 5 {
                voids.push(async move { who.post(&format!("/admin/v1/usage/{n}/void"), Value::Null).await });
            }
        }
    }
    let (amends, sends, voids) = tokio::join!(join_all(amends), join_all(sends), join_all(voids));
    assert!(sends.iter().all(|reply| reply.status == 204), "the first content stays known");
    assert!(amends.iter().all(|reply| [200, 409].contains(&reply.status.as_u16())));
    assert_eq!(voids.iter().filter(|reply| reply.status == 200).count(), 3, "each is taken back once");
    let mut left = Vec::new();
    for n in 0..6 {
        let history = admin.get(&format!("/admin/v1/usage/{n}/history")).await.expect(200);
        let changes = history.body["items"].as_array().unwrap().len();
        let voided = usize::from(!history.body["voided_at"].is_null());
        let done = amends.iter().filter(|reply| reply.status == 200 && reply.text("/event_id") == n.to_string());
        assert_eq!(changes, done.filter(|reply| reply.body["changed"] == true).count() + voided);
        if voided == 0 {
            left.push(history.text("/event/data/tokens").parse::<i64>().unwrap());
        }
    }
    assert_eq!(left.len(), 3);
    for (name, value) in [("sum", left.iter().sum()), ("count", 3), ("max", *left.iter().max().unwrap())] {
        assert_eq!(values(&admin, &format!("{name}/query")).await, [value.to_string()], "{name}");
    }
}

const AT_ONCE: [&str; 3] = ["sum", "count", "max"];

#[tokio::test]
async fn corrections_and_deliveries_at_once_leave_every_total_right() {
    let app = TestApp::new().await;
    meters(&app.admin().await, &AT_ONCE).await;
    all_at_once(&[&app]).await;
}

#[tokio::test]
async fn corrections_and_deliveries_by_two_nodes_on_postgresql_leave_every_total_right() {
    let Some(app) = TestApp::on_postgres().await else { return };
    meters(&app.admin().await, &AT_ONCE).await;
    // A node learns of meters when it starts.
    let other = Box::pin(app.beside()).await;
    Box::pin(all_at_once(&[&app, &other])).await;
}
