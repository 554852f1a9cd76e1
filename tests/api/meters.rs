//! Meters that settings define, and meters that come and go.

use std::{future::poll_fn, pin::pin, task::Poll};

use serde_json::{Value, json};

use super::{
    events::{event, post, values},
    invoices::{at, close, invoices, lines, plan_of},
};
use crate::support::{actors::Actor, app::TestApp};

const TOKENS: &str = r#"
[[metering.meters]]
key = "tokens"
event_type = "prompt"
aggregation = "sum"
value_property = "$.tokens"
group_by = { model = "$.model" }
"#;

#[tokio::test]
async fn a_meter_of_the_settings_is_made_at_the_start_and_counts_what_was_there() {
    let app = TestApp::new().await;
    let acme = app.tenant("Acme", "free").await;
    post(&app.admin().await, json!([event("1", &acme, 1), event("2", &acme, 2)])).await.expect(204);
    let app = app.restarted_with(TOKENS).await.unwrap();
    post(&app.admin().await, event("3", &acme, 4)).await.expect(204);
    assert_eq!(values(&app.admin().await, "tokens/query?groupBy=model").await, ["7"]);
    // The same again is nothing, and neither is a file that has it no more.
    let app = app.restarted().await.restarted_with("").await.unwrap();
    post(&app.admin().await, event("4", &acme, 8)).await.expect(204);
    assert_eq!(values(&app.admin().await, "tokens/query").await, ["15"]);
}

#[tokio::test]
async fn what_people_call_a_meter_changes_and_what_it_counts_does_not() {
    let app = TestApp::with(TOKENS).await;
    let named = format!("{TOKENS}name = \"Tokens\"\ndescription = \"of prompts\"\n");
    let app = app.restarted_with(&named).await.unwrap();
    let meter = app.admin().await.get("/api/v1/meters/tokens").await.expect(200);
    assert_eq!((meter.text("/name"), meter.text("/description")), ("Tokens".into(), "of prompts".into()));
    // What the settings do not say stays as it is.
    let app = app.restarted_with(TOKENS).await.unwrap();
    assert_eq!(app.admin().await.get("/api/v1/meters/tokens").await.expect(200).text("/name"), "Tokens");
    let folder = std::sync::Arc::clone(&app.folder);
    let changed = TOKENS.replace("\"sum\"", "\"max\"").replace("$.model", "$.kind");
    let refused = app.restarted_with(&changed).await.err().unwrap().to_string();
    assert!(refused.contains("tokens: aggregation is max, not sum, group_by is"), "{refused}");
    assert_eq!(refused.lines().count(), 1);
    drop(folder);
}

#[tokio::test]
async fn nodes_that_start_at_once_make_a_meter_once() {
    let Some(first) = TestApp::on_postgres().await else { return };
    let acme = first.tenant("Acme", "free").await;
    post(&first.admin().await, event("1", &acme, 3)).await.expect(204);
    let start = || Box::pin(first.beside_with(TOKENS));
    let (one, two, three) = tokio::join!(start(), start(), start());
    for app in [one, two, three] {
        assert_eq!(values(&app.unwrap().admin().await, "tokens/query").await, ["3"]);
    }
}

/// Does work until it was polled so often, and gives it up then.
async fn for_polls<F: Future>(polls: usize, work: F) -> Option<F::Output> {
    let (mut work, mut left) = (pin!(work), polls);
    let polled = poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(context).map(Some)
    });
    polled.await
}

/// A meter of a type of event of its own.
fn meter_of(name: &str) -> Value {
    json!({"slug": name, "eventType": name, "aggregation": "SUM", "valueProperty": "$.tokens"})
}

/// One event of that type.
async fn used(admin: &Actor<'_>, tenant: &str, kind: &str, id: &str) {
    let mut event = event(&format!("{kind}-{id}"), tenant, 1);
    event["type"] = kind.into();
    post(admin, event).await.expect(204);
}

#[tokio::test]
async fn whoever_goes_away_while_a_meter_is_made_or_removed_loses_and_doubles_nothing() {
    let app = TestApp::new().await;
    let acme = app.tenant("Acme", "free").await;
    let admin = app.admin().await;
    let mut names = Vec::new();
    for polls in 1..60 {
        let (made, gone) = (format!("made_{polls}"), format!("gone_{polls}"));
        used(&admin, &acme, &made, "1").await;
        let one = for_polls(polls, admin.post("/api/v1/meters", meter_of(&made))).await;
        used(&admin, &acme, &made, "2").await;
        let again = admin.post("/api/v1/meters", meter_of(&made)).await;
        assert!([201, 409].contains(&again.status.as_u16()), "{}", again.body);
        used(&admin, &acme, &made, "3").await;
        assert_eq!(values(&admin, &format!("{made}/query")).await, ["3"], "made, after {polls} polls");

        admin.post("/api/v1/meters", meter_of(&gone)).await.expect(201);
        used(&admin, &acme, &gone, "1").await;
        used(&admin, &acme, &gone, "2").await;
        let other = for_polls(polls, admin.delete(&format!("/api/v1/meters/{gone}"))).await;
        used(&admin, &acme, &gone, "3").await;
        names.extend([made, gone]);
        if one.is_some() && other.is_some() {
            break;
        }
    }
    assert!(names.len() > 2, "both need several steps");
    let app = app.restarted().await;
    let admin = app.admin().await;
    for name in names {
        let again = admin.post("/api/v1/meters", meter_of(&name)).await;
        assert!([201, 409].contains(&again.status.as_u16()), "{}", again.body);
        assert_eq!(values(&admin, &format!("{name}/query")).await, ["3"], "{name}");
    }
}

#[tokio::test]
async fn nodes_count_by_meters_that_others_make_and_not_by_those_they_remove() {
    let Some(one) = TestApp::on_postgres().await else { return };
    let acme = one.tenant("Acme", "free").await;
    let other = Box::pin(one.beside()).await;
    let (here, there) = (one.admin().await, other.admin().await);
    here.post("/api/v1/meters", meter_of("tokens")).await.expect(201);
    used(&there, &acme, "tokens", "1").await;
    used(&here, &acme, "tokens", "2").await;
    assert_eq!(values(&here, "tokens/query").await, ["2"]);
    assert_eq!(values(&there, "tokens/query").await, ["2"], "it learned of the meter when it counted");
    // Made on this node too, as by a client that tries again elsewhere.
    there.post("/api/v1/meters", meter_of("tokens")).await.refuses(409, &[]);

    here.delete("/api/v1/meters/tokens").await.expect(204);
    used(&there, &acme, "tokens", "3").await;
    there.post("/api/v1/meters", meter_of("tokens")).await.expect(201);
    used(&here, &acme, "tokens", "4").await;
    assert_eq!(values(&here, "tokens/query").await, ["4"], "no total that was removed comes back");
    // A correction on a node that has not heard of a meter takes its event out of it all the same.
    here.post("/api/v1/meters", json!({"slug": "n", "eventType": "tokens", "aggregation": "COUNT"})).await.expect(201);
    there.post("/admin/v1/usage/tokens-1/void", json!({"reason": "test"})).await.expect(200);
    assert_eq!(values(&here, "n/query").await, ["3"]);
}

#[tokio::test]
async fn a_meter_that_any_version_of_a_plan_prices_stays_and_so_does_what_it_was_billed() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    for name in ["tokens", "pages"] {
        admin.post("/api/v1/meters", meter_of(name)).await.expect(201);
    }
    plan_of(&app, "pro", json!({"prices": [{"meter": "tokens", "model": "per_unit", "unit": "2"}]})).await;
    let acme = app.tenant("Acme", "pro").await;
    used(&admin, &acme, "tokens", "1").await;
    at(&app, "2026-12-01T02:00:00Z");
    close(&app).await;
    let issued = ["base base 1 30.00", "usage tokens 1 2.00"];
    assert_eq!(lines(&invoices(&app, &acme).await[0]), issued);
    // No longer priced, and still what November was billed by.
    plan_of(&app, "pro", json!({"prices": []})).await;
    let admin = app.admin().await;
    let refused = admin.delete("/api/v1/meters/tokens").await.refuses(409, &[]);
    let why = "tokens has a price in a version of a plan, and bills are worked out from what it counted; it cannot be removed";
    assert_eq!(refused.text("/detail"), why);
    assert_eq!(values(&admin, "tokens/query").await, ["1"]);
    admin.delete("/api/v1/meters/pages").await.expect(204);
    at(&app, "2027-01-01T02:00:00Z");
    close(&app).await;
    let found = invoices(&app, &acme).await;
    let kinds: Vec<_> = found.iter().flat_map(lines).filter(|line| line.starts_with("adjustment")).collect();
    assert_eq!((found.len(), lines(&found[0]), kinds), (2, issued.map(str::to_owned).to_vec(), Vec::new()));
}
