//! What is over is forgotten, and what is not stays: no table of sign-ins grows without bound.

use axum::extract::FromRef as _;
use serde_json::json;
use tollgate::identity::Identity;

use crate::{
    browser::Browser,
    relying_party::{Client, acme, owner},
    support::{actors::PASSWORD, app::TestApp},
};

const DAY_S: i64 = 86_400;

async fn tidy(app: &TestApp) {
    Identity::from_ref(app.app.state()).tidy().await.unwrap();
}

/// How many rows a table of the store has.
async fn rows(app: &TestApp, table: &str) -> i64 {
    let url = format!("sqlite://{}", app.folder.path().join("tollgate.db").display());
    let mut store = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query_scalar(sql).fetch_one(&mut store).await.unwrap()
}

async fn rows_of_sign_ins(app: &TestApp) -> (i64, i64) {
    (rows(app, "sessions").await, rows(app, "refresh_tokens").await)
}

#[tokio::test]
async fn sign_ins_that_are_over_are_forgotten_with_their_tokens() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let (kept, ended) = (client.tokens(&[]).await, client.tokens(&[]).await);
    let mut token = kept.text("/refresh_token");
    for _ in 0..3 {
        token = client.refresh(&token, &[]).await.expect(200).text("/refresh_token");
    }
    client.post("/oauth2/revoke", &[("token", &ended.text("/refresh_token"))]).await.expect(200);
    // The administrator signed in for each client and tenant.
    let (sessions, tokens) = rows_of_sign_ins(&app).await;
    tidy(&app).await;
    assert_eq!(rows_of_sign_ins(&app).await, (sessions, tokens), "its access token may still be alive");
    app.clock.advance_secs(700);
    tidy(&app).await;
    assert_eq!(rows_of_sign_ins(&app).await, (sessions - 1, tokens - 1));
    token = client.refresh(&token, &[]).await.expect(200).text("/refresh_token");

    app.clock.advance_secs(29 * DAY_S);
    tidy(&app).await;
    token = client.refresh(&token, &[]).await.expect(200).text("/refresh_token");
    app.clock.advance_secs(2 * DAY_S);
    tidy(&app).await;
    // One session goes on, with the tokens that were given for it lately; the rest has nobody any more.
    assert_eq!(rows_of_sign_ins(&app).await, (1, 1));
    client.refresh(&token, &[]).await.expect(200);
    app.clock.advance_secs(31 * DAY_S);
    tidy(&app).await;
    assert_eq!(rows_of_sign_ins(&app).await, (0, 0));
}

#[tokio::test]
async fn a_session_whose_client_is_still_to_be_told_is_kept_until_then() {
    let app = acme().await;
    let client = Client::web_with(&app, json!({"backchannel_logout_uri": "https://app.example/logout"})).await;
    let tokens = client.tokens(&[]).await;
    client.post("/oauth2/revoke", &[("token", &tokens.text("/refresh_token"))]).await.expect(200);
    app.clock.advance_secs(40 * DAY_S);
    tidy(&app).await;
    assert_eq!(rows(&app, "sessions").await, 1);
    let identity = Identity::from_ref(app.app.state());
    let due = identity.logouts_due().await.unwrap();
    assert!(identity.claim_logout(&due[0]).await.unwrap());
    identity.logout_told(&due[0]).await.unwrap();
    tidy(&app).await;
    assert_eq!(rows(&app, "sessions").await, 0);
}

#[tokio::test]
async fn consents_go_with_their_client_and_with_their_person() {
    let app = acme().await;
    let (first, second) = (Client::web(&app).await, Client::web(&app).await);
    let ann = json!({"email": "ann@acme.example", "password": PASSWORD});
    let ann = app.owner_of("Acme").await.post("/v1/users", ann).await.expect(201).text("/user_id");
    let browsers = [Browser::signed_in(&app, &owner()).await, Browser::signed_in(&app, "ann@acme.example").await];
    for browser in &browsers {
        first.code(browser, &[]).await;
        second.code(browser, &[]).await;
    }
    assert_eq!(rows(&app, "consents").await, 4);
    app.admin().await.delete(&format!("/admin/v1/clients/{}", first.id)).await.expect(204);
    tidy(&app).await;
    assert_eq!(rows(&app, "consents").await, 2);
    app.owner_of("Acme").await.delete(&format!("/v1/users/{ann}")).await.expect(204);
    assert_eq!(rows(&app, "consents").await, 1);
    // Nobody is asked again for what is kept.
    let target = second.authorize(&browsers[0], &[]).await;
    assert!(target.as_str().contains("code="), "{target}");
}

#[tokio::test]
async fn the_audit_is_kept_as_long_as_settings_say_and_no_longer() {
    let app = TestApp::with("[identity]\naudit_days = 30\n").await;
    app.tenant("Acme", "standard").await;
    let first = rows(&app, "audit").await;
    assert!(first > 2, "{first}");
    app.clock.advance_secs(29 * DAY_S);
    app.owner_of("Acme").await;
    tidy(&app).await;
    assert_eq!(rows(&app, "audit").await, first + 1);
    app.clock.advance_secs(DAY_S + 1);
    tidy(&app).await;
    assert_eq!(rows(&app, "audit").await, 1);
}
