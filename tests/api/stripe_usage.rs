//! Usage as meter events: each hour once, what comes late as another event, what is taken back cancelled or outweighed.

use serde_json::{Value, json};

use super::{
    events::{event, post},
    ledger::record_units,
    stripe::{later, look, overview, push, push_all, scene},
};
use crate::support::{
    app::TestApp,
    stripe::{Fault, StripeDouble},
};

const METERS: &str = "meters = [{ meter = \"apis\", event = \"api_calls\" }]";
const TOKENS: &str = "meters = [{ meter = \"tokens\", event = \"tokens_used\", times = 10 }]\n\
    [[metering.meters]]\nkey = \"tokens\"\nevent_type = \"prompt\"\naggregation = \"sum\"\nvalue_property = \"$.tokens\"\n";
const HOUR_S: i64 = 3_600;

/// An hour goes by, and what was used is looked at and sent.
async fn hour(app: &TestApp, double: &StripeDouble) {
    later(app, double, HOUR_S + 300);
    look(app).await;
    push_all(app, double).await;
}

fn sums(double: &StripeDouble) -> Vec<i64> {
    let mut by_hour = std::collections::BTreeMap::new();
    for (at, value) in double.usage() {
        *by_hour.entry(at / HOUR_S).or_insert(0) += value;
    }
    by_hour.into_values().collect()
}

async fn told() -> (TestApp, StripeDouble, String) {
    let (app, double) = scene("meter_events", METERS).await;
    let tenant = app.tenant("Acme", "standard").await;
    look(&app).await;
    push_all(&app, &double).await;
    (app, double, tenant)
}

#[tokio::test]
async fn an_hour_is_sent_once_it_is_over_and_what_comes_late_as_another_event() {
    let (app, double, tenant) = told().await;
    record_units(&app, &tenant, &[("apis", 7)]);
    later(&app, &double, 60);
    look(&app).await;
    assert_eq!(push(&app).await, 0, "the hour runs");
    hour(&app, &double).await;
    assert_eq!(double.usage(), [("2026-11-10T12:00:00Z".parse::<tollgate::kernel::Timestamp>().unwrap().as_secs(), 7)]);
    hour(&app, &double).await;
    assert_eq!(sums(&double), [7], "and is not sent again");
    // Another node had more of it to count.
    app.clock.advance_secs(-2 * HOUR_S);
    record_units(&app, &tenant, &[("apis", 5)]);
    app.clock.advance_secs(2 * HOUR_S);
    hour(&app, &double).await;
    assert_eq!(double.usage().len(), 2);
    assert_eq!(double.usage().iter().map(|(_, value)| value).sum::<i64>(), 12);
    let app = app.restarted().await;
    hour(&app, &double).await;
    assert_eq!(double.usage().len(), 2, "after a restart, too");
}

#[tokio::test]
async fn an_event_that_stripe_has_already_counts_as_sent() {
    let (app, double, tenant) = told().await;
    record_units(&app, &tenant, &[("apis", 7)]);
    double.fail("POST /v1/billing/meter_events", Fault::After);
    double.fail("POST /v1/billing/meter_events", Fault::Broken);
    hour(&app, &double).await;
    assert_eq!(double.usage().len(), 1);
    // Its key is forgotten, and it is still known by its identifier.
    record_units(&app, &tenant, &[("apis", 1)]);
    double.fail("POST /v1/billing/meter_events", Fault::After);
    later(&app, &double, HOUR_S + 300);
    look(&app).await;
    push(&app).await;
    double.forget_keys();
    push_all(&app, &double).await;
    assert_eq!(sums(&double), [7, 1]);
}

#[tokio::test]
async fn whether_stripe_has_an_event_is_not_guessed_after_a_day() {
    let (app, double, tenant) = told().await;
    record_units(&app, &tenant, &[("apis", 7)]);
    later(&app, &double, HOUR_S + 300);
    look(&app).await;
    double.fail("POST /v1/billing/meter_events", Fault::After);
    push(&app).await;
    later(&app, &double, 24 * HOUR_S);
    push(&app).await;
    let next = overview(&app).await["items"][0]["next"].clone();
    assert!(next["error"].as_str().unwrap().contains("may have it or not"), "{next}");
    assert_eq!(double.usage().len(), 1);
    let skip = json!({"tenant_id": tenant, "skip": true});
    app.admin().await.post("/admin/v1/stripe/retry", skip).await.expect(202);
    push_all(&app, &double).await;
    assert_eq!(sums(&double), [7]);
}

#[tokio::test]
async fn a_day_without_any_connection_leaves_no_doubt() {
    let (app, double, tenant) = told().await;
    record_units(&app, &tenant, &[("apis", 7)]);
    later(&app, &double, HOUR_S + 300);
    look(&app).await;
    // Nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = double.settings("meter_events", METERS).replace(&double.port.to_string(), &port.to_string());
    let app = app.restarted_with(&nowhere).await.unwrap();
    for _ in 0..3 {
        assert_eq!(push(&app).await, 0);
        later(&app, &double, 12 * HOUR_S);
    }
    let next = overview(&app).await["items"][0]["next"].clone();
    assert!(next["attempts"] == 3 && next["parked_at"].is_null(), "{next}");
    let app = app.restarted_with(&double.settings("meter_events", METERS)).await.unwrap();
    push_all(&app, &double).await;
    assert_eq!(sums(&double), [7]);
}

async fn taken_back(after_s: i64) -> (TestApp, StripeDouble) {
    let (app, double) = scene("meter_events", TOKENS).await;
    let tenant = app.tenant("Acme", "standard").await;
    look(&app).await;
    post(&app.owner_of("Acme").await, json!([event("1", &tenant, "2.5"), event("2", &tenant, "0.75")]))
        .await
        .expect(204);
    hour(&app, &double).await;
    assert_eq!(sums(&double), [33], "32.5 tenths are 33");
    later(&app, &double, after_s);
    app.admin().await.post("/admin/v1/usage/2/void", Value::Null).await.expect(200);
    double.fail("POST /v1/billing", Fault::After);
    hour(&app, &double).await;
    (app, double)
}

#[tokio::test]
async fn what_is_taken_back_within_a_day_is_cancelled_and_the_rest_sent_anew() {
    let (app, double) = taken_back(0).await;
    assert_eq!(double.usage().iter().map(|(_, value)| *value).collect::<Vec<_>>(), [25]);
    app.admin().await.post("/admin/v1/usage/1/void", Value::Null).await.expect(200);
    hour(&app, &double).await;
    assert!(double.usage().is_empty());
}

#[tokio::test]
async fn what_is_taken_back_later_is_outweighed_by_an_event_below_zero() {
    let (_app, double) = taken_back(30 * HOUR_S).await;
    assert_eq!(double.usage().iter().map(|(_, value)| *value).collect::<Vec<_>>(), [33, -8]);
}

#[tokio::test]
async fn usage_of_before_stripe_was_set_up_is_not_sent() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    record_units(&app, &tenant, &[("apis", 100)]);
    app.clock.advance_secs(2 * HOUR_S);
    let double = StripeDouble::start(0);
    let app = app.restarted_with(&double.settings("meter_events", METERS)).await.unwrap();
    look(&app).await;
    record_units(&app, &tenant, &[("apis", 3)]);
    hour(&app, &double).await;
    assert_eq!(sums(&double), [3]);
}

#[tokio::test]
async fn only_meters_that_add_up_can_be_sent() {
    let settings = |meter: &str| {
        let double = "[billing.stripe]\nsecret_key = \"sk\"\nmode = \"meter_events\"\n";
        let meters = "[[metering.meters]]\nkey = \"peak\"\nevent_type = \"p\"\naggregation = \"max\"\nvalue_property = \"$.n\"\n";
        format!("{double}meters = [{{ meter = \"{meter}\", event = \"e\" }}]\n{meters}")
    };
    for (meter, why) in [("peak", "only sum and count"), ("nothing", "there is no meter nothing")] {
        let refused = TestApp::new().await.restarted_with(&settings(meter)).await.err().unwrap().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}
