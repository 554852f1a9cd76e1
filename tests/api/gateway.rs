//! What passes the gateway and what does not: headers, paths, states of tenants, failing upstreams.

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use serde_json::{Value, json};

use super::{oauth::robot, upstream::Upstream};
use crate::support::{
    actors::{Actor, PASSWORD},
    app::{Reply, TestApp},
};

/// A call with headers of the client's choosing.
pub async fn call(who: &Actor<'_>, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    request = request.header(header::AUTHORIZATION, format!("Bearer {}", who.token));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    who.app.send(request.body(Body::empty()).unwrap()).await
}

pub async fn get(who: &Actor<'_>, path: &str, headers: &[(&str, &str)]) -> Reply {
    call(who, Method::GET, path, headers).await
}

/// What a tenant has used of a meter this month.
pub async fn used(who: &Actor<'_>, meter: &str) -> String {
    let usage = who.get(&format!("/v1/usage?meter={meter}")).await.expect(200);
    usage.body.pointer("/data/0/value").map_or("0".into(), |value| value.as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_upstream_sees_who_calls_whatever_the_client_says() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let user = app.admin().await.get(&format!("/admin/v1/tenants/{tenant}/users")).await.text("/items/0/user_id");
    let forged = [
        ("X-Tenant-Id", "forged"),
        ("X-Tenant-Id", "forged twice"),
        ("x_tenant_id", "forged"),
        ("X.Tenant.Id", "forged"),
        ("x-tenant_id", "forged"),
        ("X-Tenant-Tier", "premium"),
        ("X_TENANT_TIER", "premium"),
        ("X-User-Id", "forged"),
        ("x.user_id", "forged"),
        ("X-Request-Id", "forged"),
        ("Tollgate-Usage", "compute=0"),
        ("tollgate_anything", "forged"),
        ("X-Mine", "kept"),
    ];
    let seen = get(&owner, "/sample/echo?a=1&b=%2F", &forged).await.expect(200);
    let headers = seen.body["headers"].as_object().unwrap();
    assert_eq!(headers["x-tenant-id"], tenant.as_str());
    assert_eq!(headers["x-tenant-tier"], "standard");
    assert_eq!(headers["x-user-id"], user.as_str());
    assert_eq!(headers["x-request-id"].as_str().unwrap().len(), 36);
    let mut names: Vec<&str> = headers.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["traceparent", "x-mine", "x-request-id", "x-tenant-id", "x-tenant-tier", "x-user-id"]);
    // Behind a machine client is no user, whoever it says is.
    let seen_of_robot = get(&robot(&owner).await, "/sample/echo", &forged).await.expect(200);
    assert_eq!(seen_of_robot.text("/headers/x-tenant-id"), tenant);
    assert!(seen_of_robot.body.pointer("/headers/x-user-id").is_none());
    assert_eq!((seen.text("/path"), seen.text("/query")), ("/sample/echo".into(), "a=1&b=%2F".into()));
}

#[tokio::test]
async fn a_client_cannot_have_the_true_identity_dropped_on_the_way() {
    let upstream = Upstream::start().await;
    let app = TestApp::with(&upstream.settings("[\"apis\"]")).await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let hop = "close, X-Tenant-Id, x-user-id, X-Tenant-Tier, traceparent, X-Request-Id, x-hop";
    for path in ["/up/x", "/sample/echo"] {
        let seen = get(&owner, path, &[("Connection", hop), ("X-Hop", "1"), ("X-Mine", "1")]).await.expect(200);
        let seen = seen.body.to_string();
        for name in ["x-tenant-id", "x-tenant-tier", "x-user-id", "x-request-id", "traceparent", "x-mine"] {
            assert!(seen.contains(name), "{path}: no {name} in {seen}");
        }
        assert!(!seen.contains("x-hop"), "{path}: {seen}");
    }
}

#[tokio::test]
async fn hop_by_hop_headers_end_at_the_gateway_both_ways() {
    let upstream = Upstream::start().await;
    let app = TestApp::with(&upstream.settings("[\"apis\"]")).await;
    app.tenant("Acme", "standard").await;
    let sent = [
        ("Connection", "x-hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "gzip"),
        ("Proxy-Authorization", "Basic x"),
        ("Upgrade", "websocket"),
        ("Answer-Connection", "x-back"),
        ("Answer-X-Back", "1"),
        ("Answer-Keep-Alive", "timeout=5"),
        ("Answer-X-Kept", "1"),
    ];
    let reply = get(&app.owner_of("Acme").await, "/up/x", &sent).await.expect(200);
    let seen = reply.text("");
    for name in ["connection", "x-hop", "keep-alive", "te", "proxy-authorization", "upgrade", "authorization"] {
        assert!(!seen.split(' ').any(|other| other == name), "{name} in {seen}");
    }
    for name in ["connection", "x-back", "keep-alive"] {
        assert!(!reply.headers.contains_key(name), "{name}");
    }
    assert_eq!(reply.headers["x-kept"], "1");
}

#[tokio::test]
async fn the_clients_token_goes_no_further_unless_the_route_asks() {
    let settings = "[[gateway.routes]]\npath = \"/sample/echo\"\nupstream = \"builtin:sample\"\nforward_token = true\n\
                    [[gateway.routes]]\npath = \"/sample/\"\nupstream = \"builtin:sample\"\n";
    for (settings, forwarded) in [("", false), (settings, true)] {
        let app = TestApp::with(settings).await;
        app.tenant("Acme", "standard").await;
        let seen = app.owner_of("Acme").await.get("/sample/echo").await.expect(200);
        assert_eq!(seen.body.pointer("/headers/authorization").is_some(), forwarded);
    }
}

#[tokio::test]
async fn a_trace_goes_on_and_a_broken_one_begins_anew() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let seen = |reply: Reply| reply.text("/headers/traceparent");
    assert_eq!(seen(get(&owner, "/sample/echo", &[("traceparent", trace)]).await), trace);
    assert_ne!(seen(get(&owner, "/sample/echo", &[("traceparent", "00-1-2-3")]).await), "00-1-2-3");
}

#[tokio::test]
async fn paths_that_two_programs_read_differently_are_refused_and_not_metered() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    for path in [
        "/sample/../admin/v1/tenants",
        "/sample/./hello",
        "/sample/%2e%2e/hello",
        "/sample/.%2E/hello",
        "/sample%2fhello",
        "/sample/%2Fhello",
        "/sample/%5chello",
        "//sample/hello",
        "/sample//hello",
        "/sample/hello;a=1",
        "/sample/hello%00",
        "/sample/%252e%252e/hello",
    ] {
        owner.get(path).await.refuses(400, &[]);
    }
    owner.get("/nowhere").await.refuses(404, &[]);
    owner.get("/sampler/hello").await.refuses(404, &[]);
    app.anon().get("/sample/../x").await.refuses(400, &[]);
    assert_eq!(used(&owner, "apis").await, "0");
    owner.get("/sample/hello?path=/../a//b;c%2f%00").await.expect(200);
    assert_eq!(used(&owner, "apis").await, "1");
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_from_the_next_request_on() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let (owner, admin) = (app.owner_of("Acme").await, app.admin().await);
    owner.get("/sample/hello").await.expect(200);
    admin.post(&format!("/admin/v1/tenants/{tenant}/suspend"), Value::Null).await.expect(200);
    let refused = owner.get("/sample/hello").await.refuses(403, &[]);
    assert_eq!(refused.text("/type"), "/docs/problems#tenant-not-active");
    admin.post(&format!("/admin/v1/tenants/{tenant}/activate"), Value::Null).await.expect(200);
    owner.get("/sample/hello").await.expect(200);
    assert_eq!(used(&owner, "apis").await, "2");
    admin.delete(&format!("/admin/v1/tenants/{tenant}")).await.expect(200);
    owner.get("/sample/hello").await.refuses(401, &[]);
}

#[tokio::test]
async fn another_tier_holds_from_the_next_request_on() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "free").await;
    let (owner, admin) = (app.owner_of("Acme").await, app.admin().await);
    let first = owner.get("/sample/hello").await.expect(200);
    assert_eq!(first.text("/tier"), "free");
    assert_eq!(first.headers["ratelimit-policy"], "\"apis-day\";q=1000;w=86400, \"rate\";q=10;w=1");
    admin.post(&format!("/admin/v1/tenants/{tenant}/tier"), json!({"tier": "standard"})).await.expect(200);
    let second = owner.get("/sample/hello").await.expect(200);
    assert_eq!(second.text("/tier"), "standard");
    assert_eq!(second.headers["ratelimit-policy"], "\"apis-day\";q=100000;w=86400, \"rate\";q=100;w=1");
    // 12 hours of the day are left, and the first call counts against the new quota too.
    assert!(second.headers["ratelimit"].to_str().unwrap().starts_with("\"apis-day\";r=99998;t=43200, "));
}

#[tokio::test]
async fn an_upstream_that_is_down_is_502_and_costs_nothing() {
    let app = TestApp::with(&Upstream::nobody()).await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let reply = owner.get("/up/x").await.refuses(502, &[]);
    assert_eq!(reply.text("/instance"), "/up/x");
    assert_eq!(used(&owner, "apis").await, "0");
}

#[tokio::test]
async fn a_request_goes_to_the_route_that_fits_it_best() {
    let upstream = Upstream::start().await;
    let routes = "[[gateway.routes]]\npath = \"/up/deep/\"\nupstream = \"own\"\nstrip_prefix = \"/up/deep\"\n\
                  [[gateway.routes]]\npath = \"/up/\"\nmethods = [\"PUT\"]\nupstream = \"own\"\nscopes = [\"usage:write\"]\n\
                  [[gateway.routes]]\npath = \"/up/\"\nhost = \"other.example\"\nupstream = \"own\"\nstrip_prefix = \"/up\"\n";
    let app = TestApp::with(&(upstream.settings("[\"apis\"]") + routes)).await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let seen = |reply: Reply| reply.expect(200).headers["seen-path"].to_str().unwrap().to_owned();
    assert_eq!(seen(get(&owner, "/up/deeper?q=%20", &[]).await), "/up/deeper?q=%20");
    assert_eq!(seen(get(&owner, "/up/deep/x?q=1", &[]).await), "/x?q=1");
    assert_eq!(seen(get(&owner, "/up/deep", &[]).await), "/");
    assert_eq!(seen(get(&owner, "/up/x", &[("Host", "OTHER.example:8080")]).await), "/x");
    assert_eq!(seen(get(&owner, "/up/x", &[("Host", "another.example")]).await), "/up/x");

    let member = json!({"email": "member@acme.example", "role": "member", "password": PASSWORD});
    owner.post("/v1/users", member).await.expect(201);
    let member = app.signed_in("member@acme.example", PASSWORD).await;
    assert_eq!(seen(get(&member, "/up/x", &[]).await), "/up/x");
    let refused = call(&member, Method::PUT, "/up/x", &[]).await.refuses(403, &[]);
    let expected = "Bearer realm=\"tollgate\", error=\"insufficient_scope\", scope=\"usage:write\"";
    assert_eq!(refused.headers[header::WWW_AUTHENTICATE], expected);
    call(&owner, Method::PUT, "/up/x", &[]).await.expect(200);
}

#[tokio::test]
async fn a_public_route_needs_no_token_and_believes_no_header() {
    let upstream = Upstream::start().await;
    let app = TestApp::with(&upstream.settings("[\"apis\"]")).await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let forged = [("X-Tenant-Id", "forged"), ("x_user_id", "forged"), ("Answer-Tollgate-Usage", "compute=5")];
    let reply = get(&owner, "/public/x", &forged).await.expect(200);
    for name in ["x-tenant-id", "x_user_id", "x-user-id", "x-tenant-tier", "authorization"] {
        assert!(!reply.text("").split(' ').any(|other| other == name), "{name} in {}", reply.body);
    }
    assert!(!reply.headers.contains_key("tollgate-usage"));
    app.anon().get("/public/x").await.expect(200);
    app.anon().get("/up/x").await.refuses(401, &[]);
    assert_eq!(used(&owner, "apis").await, "0");
}
