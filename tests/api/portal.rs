//! Portal tokens: one tenant's usage for a while, and nothing else.

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::{
    actors::Actor,
    app::{Reply, TestApp},
};

async fn scene(app: &TestApp) -> (String, String) {
    let admin = app.admin().await;
    let acme = app.tenant("Acme", "standard").await;
    app.clock.advance_secs(1);
    let bolt = app.tenant("Bolt", "standard").await;
    for slug in ["tokens", "prompts"] {
        let body = json!({"slug": slug, "eventType": "prompt", "aggregation": "SUM", "valueProperty": "$.tokens",
            "groupBy": {"model": "$.model"}});
        admin.post("/api/v1/meters", body).await.expect(201);
    }
    let event = |id: &str, subject: &str, tokens: i64| {
        json!({"specversion": "1.0", "id": id, "source": "test", "type": "prompt", "subject": subject,
            "data": {"tokens": tokens, "model": "large"}})
    };
    let events = json!([event("1", &acme, 3), event("2", &bolt, 500)]);
    admin.post("/api/v1/events", events).await.expect(204);
    (acme, bolt)
}

async fn token(by: &Actor<'_>, body: Value) -> Reply {
    by.post("/api/v1/portal/tokens", body).await
}

async fn holder<'a>(app: &'a TestApp, by: &Actor<'_>, body: Value) -> Actor<'a> {
    Actor { app, token: token(by, body).await.expect(200).text("/token") }
}

const QUERY: &str = "/api/v1/portal/meters/tokens/query";

#[tokio::test]
async fn a_portal_token_shows_its_subjects_usage_and_nobody_elses() {
    let app = TestApp::new().await;
    let (acme, bolt) = scene(&app).await;
    let admin = app.admin().await;
    admin.patch(&format!("/admin/v1/tenants/{acme}"), json!({"external_id": "acme-inc"})).await.expect(200);
    let made = token(&admin, json!({"subject": "acme-inc"})).await.expect(200);
    assert_eq!(made.headers["cache-control"], "no-store");
    assert_eq!(made.text("/subject"), "acme-inc");
    assert_eq!((made.text("/createdAt"), made.text("/expired")), ("2026-11-10T12:00:01Z".into(), "false".into()));
    assert_eq!(made.text("/expiresAt"), "2026-11-10T13:00:01Z", "an hour, when nobody says how long");
    let portal = Actor { app: &app, token: made.text("/token") };
    let rows = |reply: Reply| -> Vec<(String, String)> {
        let rows = reply.body["data"].as_array().unwrap();
        rows.iter().map(|row| (row["subject"].to_string(), row["value"].to_string())).collect()
    };
    for query in ["", "?subject=acme-inc", "?groupBy=model&windowSize=DAY&from=2026-11-10T00:00:00Z"] {
        let reply = portal.get(&format!("{QUERY}{query}")).await.expect(200);
        assert_eq!(rows(reply), [("\"acme-inc\"".to_owned(), "3".to_owned())], "{query}");
    }
    portal.get(&format!("{QUERY}?subject={bolt}")).await.refuses(403, &[]);
    portal.get(&format!("{QUERY}?filterCustomerId={bolt}")).await.refuses(403, &[]);
    portal.get(&format!("{QUERY}?windowSize=WEEK")).await.refuses(400, &["windowSize"]);
    portal.get("/api/v1/portal/meters/nothing/query").await.refuses(404, &[]);
}

#[tokio::test]
async fn a_portal_token_opens_nothing_else() {
    let app = TestApp::new().await;
    let (acme, _) = scene(&app).await;
    let portal = holder(&app, &app.admin().await, json!({"subject": acme})).await;
    portal.get(QUERY).await.expect(200);
    for path in [
        "/sample/hello",
        "/v1/me",
        "/v1/usage",
        "/api/v1/meters",
        "/api/v1/meters/tokens/query",
        "/api/v1/events",
        "/admin/v1/tenants",
        "/oauth2/userinfo",
    ] {
        assert_eq!(portal.get(path).await.status, 401, "{path}");
    }
    let event = json!({"specversion": "1.0", "id": "9", "source": "test", "type": "prompt", "subject": acme});
    portal.post("/api/v1/events", event).await.refuses(401, &[]);
    token(&portal, json!({"subject": acme})).await.refuses(401, &[]);
    // And nothing else opens the portal.
    app.owner_of("Acme").await.get(QUERY).await.refuses(401, &[]);
    app.admin().await.get(QUERY).await.refuses(401, &[]);
    app.anon().get(QUERY).await.refuses(401, &[]);
}

#[tokio::test]
async fn a_portal_token_may_be_bound_to_meters() {
    let app = TestApp::new().await;
    let (acme, _) = scene(&app).await;
    let admin = app.admin().await;
    let made = token(&admin, json!({"subject": acme, "allowedMeterSlugs": ["tokens"]})).await.expect(200);
    assert_eq!(made.body["allowedMeterSlugs"], json!(["tokens"]));
    let portal = Actor { app: &app, token: made.text("/token") };
    portal.get(QUERY).await.expect(200);
    portal.get("/api/v1/portal/meters/prompts/query").await.refuses(403, &[]);
    // An id names the meter elsewhere; here it must not lead round the list.
    let id = admin.get("/api/v1/meters/prompts").await.expect(200).text("/id");
    portal.get(&format!("/api/v1/portal/meters/{id}/query")).await.refuses(403, &[]);
}

#[tokio::test]
async fn a_portal_token_ends_in_its_time_and_with_its_tenant() {
    let app = TestApp::new().await;
    let (acme, _) = scene(&app).await;
    let admin = app.admin().await;
    let short = holder(&app, &admin, json!({"subject": acme, "expiresAt": "2026-11-10T12:01:00Z"})).await;
    let long = holder(&app, &admin, json!({"subject": acme, "expiresAt": "2026-11-11T12:00:00Z"})).await;
    app.clock.advance_secs(58);
    short.get(QUERY).await.expect(200);
    app.clock.advance_secs(1);
    short.get(QUERY).await.refuses(401, &[]);
    long.get(QUERY).await.expect(200);

    admin.post("/admin/v1/keys/rotate", json!({})).await.expect(201);
    long.get(QUERY).await.expect(200);
    let kept = long.token;
    let app = app.restarted().await;
    let long = Actor { app: &app, token: kept };
    long.get(QUERY).await.expect(200);

    let admin = app.admin().await;
    admin.post(&format!("/admin/v1/tenants/{acme}/suspend"), Value::Null).await.expect(200);
    long.get(QUERY).await.refuses(403, &[]);
    token(&admin, json!({"subject": acme})).await.refuses(403, &[]);
    admin.post(&format!("/admin/v1/tenants/{acme}/activate"), Value::Null).await.expect(200);
    long.get(QUERY).await.expect(200);
    admin.delete(&format!("/admin/v1/tenants/{acme}")).await.expect(200);
    long.get(QUERY).await.refuses(401, &[]);
    token(&admin, json!({"subject": acme})).await.refuses(400, &["subject"]);
}

#[tokio::test]
async fn an_altered_or_made_up_portal_token_is_refused() {
    let app = TestApp::new().await;
    let (acme, bolt) = scene(&app).await;
    let good = holder(&app, &app.admin().await, json!({"subject": acme})).await.token;
    // Another installation's key.
    let other = TestApp::new().await;
    let theirs = other.tenant("Acme", "standard").await;
    let foreign = holder(&other, &other.admin().await, json!({"subject": theirs})).await.token;
    let (content, tag) = good.rsplit_once('.').unwrap();
    let (prefix, encoded) = content.split_at("tollgate_portal_".len());
    let said = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap();
    assert!(said.contains(&acme));
    let swapped = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(said.replace(&acme, &bolt)));
    let long = "x".repeat(10_000);
    for bad in [
        foreign.as_str(),
        &format!("{swapped}.{tag}"),
        &format!("{content}."),
        &format!("{content}.{}", &tag[..20]),
        content,
        &good["tollgate_portal_".len()..],
        "tollgate_portal_.",
        &long,
    ] {
        Actor { app: &app, token: bad.to_owned() }.get(QUERY).await.refuses(401, &[]);
    }
    Actor { app: &app, token: good }.get(QUERY).await.expect(200);
}

#[tokio::test]
async fn a_portal_token_is_made_by_who_may_read_the_usage() {
    let app = TestApp::new().await;
    let (acme, bolt) = scene(&app).await;
    let owner = app.owner_of("Acme").await;
    holder(&app, &owner, json!({"subject": acme})).await.get(QUERY).await.expect(200);
    token(&owner, json!({"subject": bolt})).await.refuses(403, &[]);
    token(&app.anon(), json!({"subject": acme})).await.refuses(401, &[]);
    let admin = app.admin().await;
    for (body, field) in [
        (json!({}), "subject"),
        (json!({"subject": "nobody"}), "subject"),
        (json!({"subject": 7}), "subject"),
        (json!({"subject": acme, "expiresAt": "soon"}), "expiresAt"),
        (json!({"subject": acme, "expiresAt": "2026-11-10T12:00:01Z"}), "expiresAt"),
        (json!({"subject": acme, "expiresAt": "2026-11-11T12:00:02Z"}), "expiresAt"),
        (json!({"subject": acme, "allowedMeterSlugs": []}), "allowedMeterSlugs"),
        (json!({"subject": acme, "allowedMeterSlugs": ["nothing"]}), "allowedMeterSlugs"),
        (json!({"subject": acme, "allowedMeterSlugs": vec!["tokens"; 51]}), "allowedMeterSlugs"),
    ] {
        token(&admin, body).await.refuses(400, &[field]);
    }
}

#[tokio::test]
async fn a_page_of_any_origin_may_show_a_portal_and_ask_for_nothing_else() {
    let app = TestApp::new().await;
    let (acme, _) = scene(&app).await;
    let portal = holder(&app, &app.admin().await, json!({"subject": acme})).await;
    let asked = async |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path).header(header::ORIGIN, "https://shop.example");
        let request = request.header(header::ACCESS_CONTROL_REQUEST_METHOD, "GET");
        let request = request.header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization");
        let request = request.header(header::AUTHORIZATION, format!("Bearer {}", portal.token));
        let headers = app.send(request.body(Body::empty()).unwrap()).await.headers;
        let text = |name| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        (text(header::ACCESS_CONTROL_ALLOW_ORIGIN), text(header::ACCESS_CONTROL_ALLOW_HEADERS))
    };
    let (origin, headers) = asked(Method::OPTIONS, QUERY).await;
    assert_eq!((origin.as_str(), headers.contains("authorization")), ("*", true));
    assert_eq!(asked(Method::GET, QUERY).await.0, "*");
    for path in ["/api/v1/meters/tokens/query", "/api/v1/portal/tokens", "/api/v1/meters"] {
        assert_eq!(asked(Method::OPTIONS, path).await.0, "", "{path}");
        assert_eq!(asked(Method::GET, path).await.0, "", "{path}");
    }
}
