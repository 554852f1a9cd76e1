//! Every operation of the description is guarded: nobody without a token, no tenant in the administration, no tenant at
//! another's things. A new route is held to it by being described; what is public is written out here.

use axum::http::Method;
use serde_json::{Value, json};

use super::invoices::{close, invoices};
use crate::support::{
    actors::{PASSWORD, email_of},
    app::TestApp,
};

/// Operations that need no token. This list only shrinks.
const PUBLIC: &[&str] = &[
    "GET /.well-known/jwks.json",
    "GET /.well-known/oauth-authorization-server",
    "GET /.well-known/openid-configuration",
    // Pages of people, who prove who they are by a cookie or are about to; without one they lead to the sign-in.
    "GET /account",
    "GET /account/factors",
    "GET /account/password",
    "GET /device",
    "GET /invitation",
    "GET /login",
    "GET /login/factor",
    "GET /oauth2/authorize",
    "GET /oauth2/logout",
    // Answers in the shape of RFC 6750, which tests/oidc holds.
    "GET /oauth2/userinfo",
    "GET /reset",
    "GET /signup",
    "GET /signup/verify",
    // Whoever has the link of a letter is who it was sent to.
    "GET /v1/invitations/{token}",
    "POST /account",
    "POST /account/factors",
    "POST /account/factors/passkey",
    "POST /account/factors/passkey/options",
    "POST /account/password",
    "POST /account/sessions",
    "POST /account/sign-out",
    "POST /device",
    "POST /invitation",
    "POST /login",
    "POST /login/factor",
    "POST /login/factor/passkey",
    "POST /login/factor/passkey/options",
    "POST /oauth2/authorize",
    // Clients authenticate by secret, sign-ins by password, and a sign-up makes somebody new.
    "POST /oauth2/device_authorization",
    "POST /oauth2/introspect",
    "POST /oauth2/logout",
    "POST /oauth2/par",
    "POST /oauth2/register",
    "POST /oauth2/revoke",
    "POST /oauth2/token",
    "POST /oauth2/userinfo",
    "POST /reset",
    "POST /signup",
    "POST /signup/verify",
    "POST /v1/invitations/{token}",
    "POST /v1/login",
    // Signed, with a secret that settings name.
    "POST /v1/provisioning/callback",
    "POST /v1/signup",
    "POST /v1/signup/verify",
    // Whoever tells of payments signs it.
    "POST /webhooks/payments",
    "POST /webhooks/stripe",
];

/// Every operation, as method and path.
async fn operations(app: &TestApp) -> Vec<(Method, String)> {
    let description = app.anon().get("/openapi.json").await.expect(200).body;
    let mut found = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|name| *name != "parameters") {
            found.push((method.to_uppercase().parse().unwrap(), path.clone()));
        }
    }
    assert!(found.len() > 35, "{} operations", found.len());
    found
}

/// A path with its parameters filled in.
fn filled(path: &str, ids: &[(&str, String)]) -> String {
    let mut filled = path.to_owned();
    for (name, id) in ids {
        filled = filled.replace(&format!("{{{name}}}"), id);
    }
    assert!(!filled.contains('{'), "{path} has a parameter that this test has no example of");
    filled
}

/// An example of everything that has an id, all of one tenant's.
async fn things_of(app: &TestApp, name: &str) -> Vec<(&'static str, String)> {
    let tenant_id = app.tenant(name, "standard").await;
    // A month later it has an invoice.
    app.clock.set("2026-12-01T02:00:00Z".parse().unwrap());
    close(app).await;
    let invoice = invoices(app, &tenant_id).await[0]["invoice_id"].as_str().unwrap().to_owned();
    let (admin, owner) = (app.admin().await, app.owner_of(name).await);
    let note = json!({"reason": "an outage", "lines": [{"line": 1, "amount": "1.00"}]});
    let note = admin.post(&format!("/admin/v1/invoices/{invoice}/credit-notes"), note).await.expect(201);
    let coupon = json!({"name": "Welcome", "percent_off": "10"});
    let coupon = admin.post(&format!("/admin/v1/tenants/{tenant_id}/coupons"), coupon).await.expect(201);
    let client = owner.post("/v1/clients", json!({"client_name": "robot"})).await.expect(201);
    let member = json!({"email": format!("second-{}", email_of(name)), "role": "member", "password": PASSWORD});
    let user = owner.post("/v1/users", member).await.expect(201);
    let guest = json!({"email": format!("guest-{}", email_of(name))});
    let invitation = owner.post("/v1/invitations", guest).await.expect(201).text("/invitation_id");
    let hook = json!({"url": "https://hooks.example/", "events": ["*"]});
    let webhook = owner.post("/v1/webhooks", hook).await.expect(201).text("/webhook_id");
    let sessions = admin.get(&format!("/admin/v1/sessions?tenant_id={tenant_id}")).await.expect(200);
    let registrations = admin.get("/admin/v1/registrations").await.expect(200);
    let tenant_of_customer = tenant_id.clone();
    vec![
        ("tenant_id", tenant_id),
        ("client_id", client.text("/client_id")),
        ("user_id", user.text("/user_id")),
        ("issuer_id", "nobody".into()),
        ("browser_id", "01900000-0000-7000-8000-000000000000".into()),
        ("session_id", sessions.text("/items/0/session_id")),
        ("registration_id", registrations.text("/items/0/registration_id")),
        ("change_id", "01900000-0000-7000-8000-000000000000".into()),
        ("token_id", "01900000-0000-7000-8000-000000000000".into()),
        ("token", invitation.clone()),
        ("invitation_id", invitation),
        ("tier", "standard".into()),
        ("event_id", "nothing".into()),
        ("webhook_id", webhook),
        ("invoice_id", invoice),
        ("line", "1".into()),
        ("credit_note_id", note.text("/credit_note_id")),
        ("coupon_id", coupon.text("/coupon_id")),
        ("id_or_slug", "apis".into()),
        ("key", "route".into()),
        ("customer_id_or_key", tenant_of_customer),
        ("feature", "reports".into()),
        ("meter_slug", "apis".into()),
    ]
}

#[tokio::test]
async fn nothing_answers_without_a_token_but_what_is_public() {
    let app = TestApp::new().await;
    let things = things_of(&app, "Acme").await;
    let mut public = Vec::new();
    for (method, path) in operations(&app).await {
        let reply = app.call(method.clone(), &filled(&path, &things), "", Value::Null).await;
        if PUBLIC.contains(&&*format!("{method} {path}")) {
            public.push(format!("{method} {path}"));
            continue;
        }
        assert_eq!(reply.status, 401, "{method} {path}: {}", reply.body);
        assert!(reply.headers.contains_key("www-authenticate"), "{method} {path}");
        reply.refuses(401, &[]);
    }
    public.sort_unstable();
    assert_eq!(public, PUBLIC, "what is not there any more comes off the list");
}

#[tokio::test]
async fn the_description_says_what_needs_a_token() {
    let app = TestApp::new().await;
    let description = app.anon().get("/openapi.json").await.expect(200).body;
    assert_eq!(description["security"], json!([{"bearer": []}]));
    for (method, path) in operations(&app).await {
        let operation = &description["paths"][&path][method.as_str().to_lowercase()];
        let named = format!("{method} {path}");
        let open = operation["security"] == json!([]);
        assert_eq!(open, PUBLIC.contains(&&*named) && path != "/oauth2/userinfo", "{named}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(open || ["401", "403"].iter().all(|status| answers.contains_key(*status)), "{named}");
    }
}

#[tokio::test]
async fn a_tenant_has_no_part_in_the_administration() {
    let app = TestApp::new().await;
    let things = things_of(&app, "Acme").await;
    let owner = app.owner_of("Acme").await;
    let mut count = 0;
    for (method, path) in operations(&app).await.into_iter().filter(|(_, path)| path.starts_with("/admin/")) {
        let reply = app.call(method.clone(), &filled(&path, &things), &owner.token, json!({})).await;
        assert_eq!(reply.status, 403, "{method} {path}: {}", reply.body);
        reply.refuses(403, &[]);
        count += 1;
    }
    assert!(count > 25, "{count} operations");
    // Nothing of it happened.
    app.admin().await.get(&filled("/admin/v1/tenants/{tenant_id}", &things)).await.expect(200);
    app.owner_of("Acme").await.get("/sample/hello").await.expect(200);
}

#[tokio::test]
async fn a_listener_of_its_own_takes_the_administration_off_the_public_one() {
    let app = TestApp::with("[server]\nadmin_listen = \"127.0.0.1:0\"").await;
    let admin = app.admin().await;
    let names = [
        "tenant_id",
        "client_id",
        "user_id",
        "session_id",
        "issuer_id",
        "registration_id",
        "change_id",
        "tier",
        "event_id",
        "token_id",
        "invitation_id",
        "webhook_id",
        "invoice_id",
        "line",
        "credit_note_id",
        "coupon_id",
    ];
    let ids = names.map(|name| (name, "x".into()));
    for (method, path) in operations(&app).await.into_iter().filter(|(_, path)| path.starts_with("/admin/")) {
        let reply = app.call(method.clone(), &filled(&path, &ids), &admin.token, Value::Null).await;
        assert_eq!(reply.status, 404, "{method} {path}: {}", reply.body);
    }
}

#[tokio::test]
async fn another_tenants_things_are_not_there() {
    let app = TestApp::new().await;
    let things = things_of(&app, "Acme").await;
    app.tenant("Globex", "standard").await;
    let stranger = app.owner_of("Globex").await;
    // Meters are the platform's; whose usage a token sees of them is tested with the usage API.
    // A portal takes tokens of its own alone.
    let elsewhere = ["/admin/", "/api/v1/meters/", "/api/v1/portal/"];
    let own =
        |(_, path): &(Method, String)| path.contains('{') && !elsewhere.iter().any(|start| path.starts_with(start));
    let theirs: Vec<_> = operations(&app).await.into_iter().filter(own).collect();
    assert!(theirs.len() >= 2);
    for (method, path) in &theirs {
        let reply = app.call(method.clone(), &filled(path, &things), &stranger.token, json!({})).await;
        assert_eq!(reply.status, 404, "{method} {path}: {}", reply.body);
        let unknown: Vec<_> =
            things.iter().map(|(name, _)| (*name, "01900000-0000-7000-8000-000000000000".into())).collect();
        let nothing = app.call(method.clone(), &filled(path, &unknown), &stranger.token, json!({})).await;
        assert_eq!(nothing.body["type"], reply.body["type"], "{method} {path}: as if it had never been");
        reply.refuses(404, &[]);
    }
    // The owner still finds them.
    let owner = app.owner_of("Acme").await;
    assert_eq!(owner.get("/v1/users").await.body["items"].as_array().unwrap().len(), 2);
    assert_eq!(owner.get("/v1/clients").await.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_404_for_the_administrator_too() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    for unknown in ["01900000-0000-7000-8000-000000000000", "not-an-id"] {
        let names = [
            "tenant_id",
            "client_id",
            "user_id",
            "session_id",
            "registration_id",
            "change_id",
            "tier",
            "event_id",
            "token_id",
            "invitation_id",
            "webhook_id",
            "invoice_id",
            "line",
            "credit_note_id",
            "coupon_id",
        ];
        let ids = names.map(|name| (name, unknown.to_owned()));
        let one = |(method, path): &(Method, String)| {
            // These read no body, so that what they miss is the thing itself.
            path.starts_with("/admin/") && path.contains('{') && [Method::GET, Method::DELETE].contains(method)
        };
        for (method, path) in operations(&app).await.into_iter().filter(one) {
            let reply = app.call(method.clone(), &filled(&path, &ids), &admin.token, Value::Null).await;
            assert_eq!(reply.status, 404, "{method} {path}: {}", reply.body);
        }
    }
}

/// Some answers are secrets that are shown once, and all are somebody's.
#[tokio::test]
async fn no_cache_keeps_what_the_api_answers() {
    let app = TestApp::new().await;
    let things = things_of(&app, "Acme").await;
    let (admin, owner) = (app.admin().await, app.owner_of("Acme").await);
    let mut secrets = Vec::new();
    for (actor, path, body) in [
        (&admin, "/admin/v1/clients", json!({"client_name": "robot", "tenant_id": things[0].1})),
        (&owner, "/v1/clients", json!({"client_name": "robot"})),
        (&admin, "/admin/v1/clients/initial-access-tokens", json!({})),
    ] {
        secrets.push(actor.post(path, body).await.expect(201));
    }
    secrets.push(admin.get("/admin/v1/mails").await.expect(200));
    for (method, path) in operations(&app).await {
        if ["/v1/", "/admin/v1/", "/api/v1/"].iter().any(|prefix| path.starts_with(prefix)) {
            let token = if path.starts_with("/admin/") { &admin.token } else { &owner.token };
            let (token, body) = if method == Method::GET { (token.as_str(), Value::Null) } else { ("", json!({})) };
            secrets.push(app.call(method, &filled(&path, &things), token, body).await);
        }
    }
    assert!(secrets.len() > 60, "{}", secrets.len());
    for reply in secrets {
        assert_eq!(reply.headers["cache-control"], "no-store", "{}", reply.body);
    }
    assert!(!app.anon().get("/.well-known/jwks.json").await.headers["cache-control"].is_empty());
}
