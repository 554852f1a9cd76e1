//! Which route a request takes, and whom it lets in: hosts, methods, roles, features of the tier.

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use serde_json::{Value, json};

use super::{
    gateway::{call, get, used},
    oauth::robot,
};
use crate::support::{
    actors::{Actor, PASSWORD},
    app::TestApp,
};

/// Routes to the sample's echo, told apart by the meters that they count.
const ROUTES: &str = r#"
[[gateway.routes]]
path = "/sample/"
upstream = "builtin:sample"

[[gateway.routes]]
path = "/sample/"
host = "*.example.com"
upstream = "builtin:sample"
meters = ["egress_bytes"]

[[gateway.routes]]
path = "/sample/echo"
host = "api.example.com"
methods = ["PUT"]
upstream = "builtin:sample"
meters = [{ meter = "memory", value = "count" }]

[[gateway.routes]]
path = "/sample/hello"
methods = ["GET"]
upstream = "builtin:sample"
"#;

#[tokio::test]
async fn a_request_takes_the_route_of_its_prefix_host_and_method() {
    let app = TestApp::with(ROUTES).await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    call(&owner, Method::PUT, "/sample/echo", &[("host", "API.example.com:443")]).await.expect(200);
    assert_eq!([used(&owner, "memory").await, used(&owner, "apis").await], ["1", "0"]);
    call(&owner, Method::POST, "/sample/echo", &[("host", "api.example.com")]).await.expect(200);
    assert_eq!([used(&owner, "memory").await, used(&owner, "apis").await], ["1", "0"]);
    assert_ne!(used(&owner, "egress_bytes").await, "0");
    call(&owner, Method::PUT, "/sample/echo", &[("host", "example.com")]).await.expect(200);
    assert_eq!([used(&owner, "memory").await, used(&owner, "apis").await], ["1", "1"]);
    // A shorter prefix takes other methods; where none does, the answer says which there are.
    call(&owner, Method::POST, "/sample/hello", &[]).await.expect(405);
    let narrow =
        "[[gateway.routes]]\npath = \"/sample/echo\"\nmethods = [\"GET\", \"HEAD\"]\nupstream = \"builtin:sample\"\n";
    let app = app.restarted_with(narrow).await.unwrap();
    let owner = app.owner_of("Acme").await;
    get(&owner, "/sample/echo", &[]).await.expect(200);
    let refused = call(&owner, Method::DELETE, "/sample/echo", &[]).await.refuses(405, &[]);
    assert_eq!(refused.headers[header::ALLOW], "GET, HEAD");
    call(&owner, Method::DELETE, "/sample/hello", &[]).await.refuses(404, &[]);
}

const GUARDED: &str = r#"
[[gateway.routes]]
path = "/sample/"
upstream = "builtin:sample"
roles = ["admin", "owner"]
features = ["reports", "audit"]
"#;

#[tokio::test]
async fn a_route_asks_for_roles_and_for_features_of_the_tier() {
    let app = TestApp::with(GUARDED).await;
    let tenant = app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let refused = owner.get("/sample/hello").await.refuses(403, &[]);
    assert_eq!(refused.text("/type"), "/docs/problems#feature-not-in-tier");
    assert_eq!(
        (refused.text("/feature"), refused.text("/detail")),
        ("audit".into(), "the tier standard does not have the feature audit".into())
    );
    let tier = format!("/admin/v1/tenants/{tenant}/tier");
    app.admin().await.post(&tier, json!({"tier": "premium"})).await.expect(200);
    owner.get("/sample/hello").await.expect(200);
    assert_eq!(owner.get("/v1/quota").await.body["features"], json!(["reports", "audit", "priority_support"]));
    for (role, status) in [("member", 403), ("admin", 200)] {
        let email = format!("{role}@acme.example");
        owner.post("/v1/users", json!({"email": email, "role": role, "password": PASSWORD})).await.expect(201);
        let reply = app.signed_in(&email, PASSWORD).await.get("/sample/hello").await.expect(status);
        if status == 403 {
            assert_eq!(reply.refuses(403, &[]).text("/detail"), "needs a user with the role admin or owner");
        }
    }
    robot(&owner).await.get("/sample/hello").await.refuses(403, &[]);
    assert_eq!(used(&owner, "apis").await, "2", "what was refused is not billed");
}

#[tokio::test]
async fn a_users_next_call_is_refused_when_they_are_disabled_or_removed() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let (admin, owner) = (app.admin().await, app.owner_of("Acme").await);
    let people = format!("/admin/v1/tenants/{tenant}/users");
    let add = async |name: &str| {
        let email = format!("{name}@acme.example");
        let user = json!({"email": email, "role": "member", "password": PASSWORD});
        let user = owner.post("/v1/users", user).await.expect(201).text("/user_id");
        (app.signed_in(&email, PASSWORD).await, format!("{people}/{user}"))
    };
    let ((ann, ann_path), (bea, bea_path)) = (add("ann").await, add("bea").await);
    for user in [&ann, &bea, &owner] {
        user.get("/sample/hello").await.expect(200);
    }
    admin.post(&format!("{ann_path}/disable"), Value::Null).await.expect(200);
    ann.get("/sample/hello").await.refuses(401, &[]);
    bea.get("/sample/hello").await.expect(200);
    admin.delete(&bea_path).await.expect(204);
    bea.get("/sample/hello").await.refuses(401, &[]);
    owner.get("/sample/hello").await.expect(200);
    assert_eq!(used(&owner, "apis").await, "5");
}

/// A request with a body, whose length is said or not.
fn upload(who: &Actor<'_>, path: &str, bytes: usize, said: bool) -> Request<Body> {
    let request = Request::post(path).header(header::AUTHORIZATION, format!("Bearer {}", who.token));
    let chunks = vec![Ok::<_, std::convert::Infallible>("x".repeat(bytes / 2)), Ok("x".repeat(bytes - bytes / 2))];
    let request = if said { request.header(header::CONTENT_LENGTH, bytes) } else { request };
    request.body(Body::from_stream(futures_util::stream::iter(chunks))).unwrap()
}

#[tokio::test]
async fn a_body_above_the_routes_limit_is_refused_before_and_while_it_comes_and_charges_nothing() {
    let upstream = super::upstream::Upstream::start().await;
    let public = "body_limit = 10\n[[gateway.routes]]\npath = \"/public/\"\nupstream = \"own\"\npublic = true\nbody_limit = 10\n";
    let app = TestApp::with(&upstream.route(public)).await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    for path in ["/up/x", "/public/x"] {
        for said in [true, false] {
            app.send(upload(&owner, path, 10, said)).await.expect(200);
            let refused = app.send(upload(&owner, path, 11, said)).await.refuses(413, &[]);
            assert_eq!(refused.text("/type"), "/docs/problems#too-large");
            assert_eq!(
                (refused.text("/detail"), refused.text("/instance")),
                ("the body is larger than 10 bytes".into(), path.into())
            );
        }
    }
    assert_eq!(used(&owner, "apis").await, "2");
    let quota = owner.get("/v1/quota").await.body;
    assert_eq!(quota.pointer("/quotas/0/used").unwrap(), "2", "{quota}");
    let reply = owner.get("/sample/hello").await.expect(200);
    assert!(
        reply.headers["ratelimit"].to_str().unwrap().ends_with("\"rate\";r=497;t=1"),
        "refusals take nothing of the rate"
    );
}
