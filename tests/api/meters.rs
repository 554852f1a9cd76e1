//! Meters that settings define.

use serde_json::json;

use super::events::{event, post, values};
use crate::support::app::TestApp;

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
