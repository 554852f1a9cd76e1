//! Tokens of foreign issuers at the gateway: who is let in, as whom, and who is not.

use serde_json::{Value, json};
use tollgate::kernel::Clock as _;

use crate::support::{
    actors::Actor,
    app::{Reply, TestApp},
    issuer::{Issuer, Key},
};

/// A call of the gateway's own echo with a token.
pub async fn echo(app: &TestApp, token: &str) -> Reply {
    Actor { app, token: token.to_owned() }.get("/sample/echo").await
}

#[tokio::test]
async fn a_foreign_token_opens_routes_for_the_tenant_that_it_names_and_nothing_of_ours() {
    let key = Key::rs256("one");
    let issuer = Issuer::start(&[&key]).await;
    let app = TestApp::with(&issuer.settings("")).await;
    let admin = app.admin().await;
    let tenant = app.tenant("Acme", "standard").await;
    admin.patch(&format!("/admin/v1/tenants/{tenant}"), json!({"external_id": "org_1"})).await.expect(200);
    let now = app.clock.now().as_secs();
    for name in ["org_1", tenant.as_str()] {
        let token = key.token(&issuer.claims(name, now));
        for _ in 0..2 {
            let seen = echo(&app, &token).await.expect(200);
            assert_eq!(seen.text("/headers/x-tenant-id"), tenant);
            assert_eq!(seen.text("/headers/x-user-id"), "user|1");
            assert_eq!(seen.text("/headers/x-tenant-tier"), "standard");
        }
        let caller = Actor { app: &app, token };
        for path in ["/v1/me", "/v1/usage", "/v1/users", "/admin/v1/tenants", "/api/v1/meters", "/oauth2/userinfo"] {
            caller.get(path).await.expect(401);
        }
    }
    assert_eq!(issuer.fetches(), 1);
    // It is metered as any other call.
    let usage = admin.get(&format!("/admin/v1/tenants/{tenant}/usage?meter=apis")).await.expect(200);
    assert_eq!(usage.text("/data/0/value"), "4");
}

#[tokio::test]
async fn an_unknown_tenant_is_refused_or_made_once_as_the_settings_say() {
    let key = Key::es256("one");
    let issuer = Issuer::start(&[&key]).await;
    let refusing = TestApp::with(&issuer.settings("algorithms = [\"ES256\"]")).await;
    let now = refusing.clock.now().as_secs();
    let token = key.token(&issuer.claims("org_9", now));
    echo(&refusing, &token).await.refuses(401, &[]);

    let making = TestApp::with(&issuer.settings("algorithms = [\"ES256\"]\non_unknown_tenant = \"create\"")).await;
    let tokens: Vec<String> = (0..20)
        .map(|n| {
            let mut claims = issuer.claims("org_9", now);
            claims["jti"] = n.to_string().into();
            key.token(&claims)
        })
        .collect();
    let requests = tokens.iter().map(|token| {
        let request = axum::http::Request::get("/sample/echo").header("authorization", format!("Bearer {token}"));
        request.body(axum::body::Body::empty()).unwrap()
    });
    let answers = making.send_together(requests.collect()).await;
    let tenants: Vec<String> =
        answers.into_iter().map(|reply| reply.expect(200).text("/headers/x-tenant-id")).collect();
    assert!(tenants.iter().all(|tenant| *tenant == tenants[0]));
    let listed = making.admin().await.get("/admin/v1/tenants").await.expect(200);
    let [only] = listed.body["items"].as_array().unwrap().as_slice() else { panic!("{}", listed.body) };
    assert_eq!(only["external_id"], "org_9");
    assert_eq!(only["tier"], "free");
    assert_eq!(only["status"], "active");
    assert_eq!(only["tenant_id"], Value::from(tenants[0].clone()));
}

#[tokio::test]
async fn the_performance_harness_is_let_in() {
    let key = Key::rs256("perf-RS256");
    let issuer = Issuer::start(&[&key]).await;
    let settings = format!(
        "[[identity.issuers]]\nissuer = \"https://idp.perf.example\"\njwks_uri = \"{}/jwks\"\nalgorithms = [\"RS256\"]\n\
         audience = [\"perf-api\"]\naccept_typ = [\"at+jwt\", \"JWT\"]\ntenant_claim = \"tenant_id\"\ntenants = [\"*\"]\n\
         on_unknown_tenant = \"create\"\n",
        issuer.origin
    );
    let app = TestApp::with(&settings).await;
    let now = app.clock.now().as_secs();
    let claims = json!({
        "iss": "https://idp.perf.example", "sub": "client-00001", "aud": "perf-api", "iat": now, "nbf": now - 60,
        "exp": now + 86_400, "jti": "0123456789abcdef", "scope": "api:read api:write", "tenant_id": "tenant-00001",
    });
    let seen = echo(&app, &key.token(&claims)).await.expect(200);
    assert_eq!(seen.text("/headers/x-user-id"), "client-00001");
    let mut forged = key.token(&claims);
    let end = forged.len() - 10;
    forged.replace_range(end..=end, if &forged[end..=end] == "A" { "B" } else { "A" });
    echo(&app, &forged).await.refuses(401, &[]);
}
