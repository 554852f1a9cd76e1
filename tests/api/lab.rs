//! Lab mode: not there without its switch; a clock to turn, tokens to mint, vendors' issuers, faults, fixtures.

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, header},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
use serde_json::{Value, json};

use super::{
    oauth::{refuses, token},
    pages::Browser,
    tokens::header_of,
};
use crate::support::{
    actors::Actor,
    app::{Reply, TestApp},
};

pub const ROBOT: &str = "01900000-0000-7000-8000-000000000001";
pub const APP: &str = "01900000-0000-7000-8000-000000000002";
const SECRET: &str = "lab-secret";
pub const ADA: &str = "ada@acme.example";
/// Too easy for anybody but a seed.
const PASSWORD: &str = "ada";
pub const CALLBACK: &str = "http://127.0.0.1:4711/callback";

/// A laboratory with a tenant, two people, a machine and an application.
pub fn settings(more: &str) -> String {
    format!(
        r#"
[lab]
enabled = true
[[seed.tenants]]
customer_name = "Acme"
tier = "standard"
external_id = "org_acme"
[[seed.tenants.users]]
email = "{ADA}"
password = "{PASSWORD}"
[[seed.tenants.users]]
email = "bob@acme.example"
password = "bob"
[[seed.tenants.clients]]
client_id = "{ROBOT}"
client_secret = "{SECRET}"
client_name = "robot"
[[seed.clients]]
client_id = "{APP}"
client_secret = "{SECRET}"
redirect_uris = ["http://127.0.0.1/callback"]
id_token_signed_response_alg = "ES256"
{more}
"#
    )
}

pub async fn lab() -> TestApp {
    TestApp::with(&settings("")).await
}

pub fn claims_of(token: &str) -> Value {
    serde_json::from_slice(&BASE64.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

pub async fn minted(admin: &Actor<'_>, path: &str, body: Value) -> String {
    admin.post(path, body).await.expect(200).text("/token")
}

async fn hello(app: &TestApp, token: &str) -> Reply {
    app.call(Method::GET, "/sample/hello", token, Value::Null).await
}

/// A form with a client's Basic authentication.
pub async fn form(app: &TestApp, path: &str, client: &str, pairs: &[(&str, &str)]) -> Reply {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{client}:{SECRET}"));
    let request = Request::post(path)
        .header(header::AUTHORIZATION, format!("Basic {basic}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    app.send(request.body(Body::from(body)).unwrap()).await
}

/// A path of this server out of an address of its own.
pub fn path_of(address: &str) -> String {
    url::Url::parse(address).unwrap().path().to_owned()
}

/// The discovery document of an issuer, found the way clients find it.
pub async fn discovered(app: &TestApp, issuer: &str) -> Value {
    let path = format!("{}/.well-known/openid-configuration", path_of(issuer).trim_end_matches('/'));
    let document = app.anon().get(&path).await.expect(200).body;
    assert_eq!(document["issuer"], issuer, "OpenID Connect Discovery section 4.3");
    document
}

/// Whether a token's signature is one of the issuer's published keys.
async fn is_signed_by(app: &TestApp, document: &Value, token: &str) -> bool {
    let keys = app.anon().get(&path_of(document["jwks_uri"].as_str().unwrap())).await.expect(200).body;
    let keys: JwkSet = serde_json::from_value(keys).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    let Some(key) = header.kid.as_deref().and_then(|kid| keys.find(kid)) else { return false };
    let mut validation = Validation::new(header.alg);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).is_ok()
}

#[tokio::test]
async fn without_its_switch_nothing_of_the_lab_is_there() {
    let app = TestApp::new().await;
    let admin = app.admin().await;
    for (method, path) in [
        (Method::GET, "/admin/v1/lab/clock"),
        (Method::POST, "/admin/v1/lab/clock"),
        (Method::POST, "/admin/v1/lab/tokens"),
        (Method::POST, "/admin/v1/lab/tokens/bad"),
        (Method::POST, "/admin/v1/lab/faults"),
        (Method::POST, "/admin/v1/lab/registrations"),
        (Method::POST, "/admin/v1/lab/tier-changes"),
        (Method::GET, "/admin/v1/lab/issuers"),
        (Method::POST, "/admin/v1/lab/issuers/okta/tokens"),
        (Method::GET, "/lab/issuers/okta/.well-known/openid-configuration"),
        (Method::POST, "/lab/issuers/auth0/oauth/token"),
    ] {
        let reply = app.call(method, path, &admin.token, json!({})).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.body);
    }
    assert!(!app.anon().get("/login").await.expect(200).text("").contains("Lab mode"));
    assert!(!app.folder.path().join("lab").exists(), "nor a file of it");
    refuses(
        &token(&app, &[("grant_type", "password"), ("username", ADA), ("password", PASSWORD)]).await,
        400,
        "unsupported_grant_type",
    );
}

#[tokio::test]
async fn the_lab_is_the_administrators_alone() {
    let app = lab().await;
    let owner = app.signed_in(ADA, PASSWORD).await;
    let description = app.anon().get("/openapi.json").await.expect(200).body;
    let mut count = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        if !path.starts_with("/admin/v1/lab/") {
            continue;
        }
        for method in methods.as_object().unwrap().keys() {
            let (method, path) = (method.to_uppercase().parse::<Method>().unwrap(), path.replace("{name}", "okta"));
            app.call(method.clone(), &path, "", json!({})).await.refuses(401, &[]);
            app.call(method, &path, &owner.token, json!({})).await.refuses(403, &[]);
            count += 1;
        }
    }
    assert_eq!(count, 16, "as many as there are");
}

#[tokio::test]
async fn every_page_says_that_this_is_a_laboratory() {
    let app = lab().await;
    let bad = format!("/oauth2/authorize?client_id={APP}&redirect_uri=https://evil.example");
    for path in ["/login", "/docs", "/docs/problems", &bad, "/lab/issuers/okta/v1/authorize?client_id=nobody"] {
        let page = app.anon().get(path).await;
        assert!(page.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"), "{path}");
        let text = page.body.as_str().unwrap().to_owned();
        assert_eq!(text.matches("<strong>Lab mode.</strong>").count(), 1, "{path}: {text}");
        let (banner, heading) = (text.find("Lab mode"), text.find("<h1"));
        assert!(banner < heading, "{path}: before everything else");
    }
    assert!(!app.anon().get("/openapi.json").await.body.to_string().contains("Trust nothing"));
}

#[tokio::test]
async fn the_clock_is_the_whole_servers() {
    let app = lab().await;
    let admin = app.admin().await;
    let owner = app.signed_in(ADA, PASSWORD).await;
    assert_eq!(admin.get("/admin/v1/lab/clock").await.expect(200).text("/now"), "2026-11-10T12:00:00Z");
    let turned = admin.post("/admin/v1/lab/clock", json!({"advance_s": 599})).await.expect(200);
    assert_eq!(turned.body, json!({"now": "2026-11-10T12:09:59Z", "frozen": false}));
    owner.get("/sample/hello").await.expect(200);
    admin.post("/admin/v1/lab/clock", json!({"advance_s": 1})).await.expect(200);
    owner.get("/sample/hello").await.refuses(401, &[]);
    admin.get("/admin/v1/lab/clock").await.refuses(401, &[]);

    // A month later there is another bill, and yesterday's call is on the old one.
    let admin = app.admin().await;
    admin.post("/admin/v1/lab/clock", json!({"set": "2026-12-10T12:00:00Z", "freeze": true})).await.expect(200);
    let (admin, owner) = (app.admin().await, app.signed_in(ADA, PASSWORD).await);
    app.clock.advance_secs(3_600);
    assert_eq!(admin.get("/admin/v1/lab/clock").await.text("/now"), "2026-12-10T12:00:00Z");
    owner.get("/sample/hello").await.expect(200);
    assert_eq!(owner.get("/v1/bill").await.text("/period/from"), "2026-12-01T00:00:00Z");
    for (from, to) in [("2026-11-01", "2026-12-01"), ("2026-12-01", "2027-01-01")] {
        let query = format!("/v1/usage?meter=apis&window=month&from={from}T00:00:00Z&to={to}T00:00:00Z");
        assert_eq!(owner.get(&query).await.expect(200).text("/data/0/value"), "1", "{from}");
    }

    let unfrozen = admin.post("/admin/v1/lab/clock", json!({"freeze": false})).await.expect(200);
    assert_eq!(unfrozen.body["frozen"], false);
    app.clock.advance_secs(5);
    assert_eq!(admin.get("/admin/v1/lab/clock").await.text("/now"), "2026-12-10T12:00:05Z");
    let at = admin.post("/admin/v1/lab/clock", json!({"freeze": "2026-12-10T12:01:00Z"})).await.expect(200);
    assert_eq!(at.body, json!({"now": "2026-12-10T12:01:00Z", "frozen": true}));
    let reset = admin.delete("/admin/v1/lab/clock").await.expect(200);
    assert_eq!(reset.body["frozen"], false);
}

#[tokio::test]
async fn a_clock_that_goes_back_brings_the_old_periods_quotas_back() {
    let app = TestApp::with(&settings("").replace("standard", "free")).await;
    let (admin, owner) = (app.admin().await, app.signed_in(ADA, PASSWORD).await);
    let tenant = owner.get("/v1/me").await.text("/tenant/tenant_id");
    let quota = json!([{"meter": "apis", "limit": "2", "period": "day", "mode": "hard"}]);
    admin.put(&format!("/admin/v1/tenants/{tenant}/quotas"), quota).await.expect(200);
    owner.get("/sample/hello").await.expect(200);
    let later = json!({"set": "2026-11-11T12:00:00Z"});
    admin.post("/admin/v1/lab/clock", later).await.expect(200);
    let (admin, owner) = (app.admin().await, app.signed_in(ADA, PASSWORD).await);
    for status in [200, 200, 429] {
        owner.get("/sample/hello").await.expect(status);
    }
    admin.post("/admin/v1/lab/clock", json!({"set": "2026-11-10T12:00:01Z"})).await.expect(200);
    let owner = app.signed_in(ADA, PASSWORD).await;
    for status in [200, 429] {
        owner.get("/sample/hello").await.expect(status);
    }
}

#[tokio::test]
async fn the_clock_survives_a_restart_and_vendors_keys_do() {
    let app = lab().await;
    let admin = app.admin().await;
    let jwks = "/lab/issuers/zitadel/oauth/v2/keys";
    admin.put("/admin/v1/lab/issuers/zitadel", json!({"algorithm": "EdDSA"})).await.expect(200);
    let keys = app.anon().get(jwks).await.expect(200).body;
    admin.post("/admin/v1/lab/clock", json!({"set": "2031-05-06T07:08:09Z", "freeze": true})).await.expect(200);
    let app = app.restarted().await;
    let admin = app.admin().await;
    assert_eq!(admin.get("/admin/v1/lab/clock").await.text("/now"), "2031-05-06T07:08:09Z");
    admin.put("/admin/v1/lab/issuers/zitadel", json!({"algorithm": "EdDSA"})).await.expect(200);
    assert_eq!(app.anon().get(jwks).await.expect(200).body, keys);
}

#[tokio::test]
async fn a_turn_that_makes_no_sense_is_refused() {
    let app = lab().await;
    let admin = app.admin().await;
    for (body, fields) in [
        (json!({}), &["set"][..]),
        (json!({"advance_s": -1}), &["advance_s"]),
        (json!({"advance_s": "1"}), &["advance_s"]),
        (json!({"advance_s": i64::MAX}), &["advance_s"]),
        (json!({"set": "tomorrow"}), &["set"]),
        (json!({"set": "1969-12-31T00:00:00Z"}), &["set"]),
        (json!({"set": "2200-01-01T00:00:00Z"}), &["set"]),
        (json!({"set": "2030-01-01T00:00:00Z", "freeze": "2030-01-01T00:00:00Z"}), &["freeze"]),
        (json!({"freeze": 7}), &["freeze"]),
        (json!({"back_s": 7}), &["back_s"]),
    ] {
        admin.post("/admin/v1/lab/clock", body.clone()).await.refuses(422, fields);
    }
    assert_eq!(admin.get("/admin/v1/lab/clock").await.text("/now"), "2026-11-10T12:00:00Z");
}

#[tokio::test]
async fn a_good_token_is_minted_for_any_user_and_client() {
    let app = lab().await;
    let admin = app.admin().await;
    let tokens = "/admin/v1/lab/tokens";
    for (body, scope) in [
        (json!({"user": ADA}), "usage:read usage:write offline_access"),
        (json!({"user": "bob@acme.example", "tenant": "org_acme"}), "usage:read offline_access"),
        (json!({"client_id": ROBOT}), "usage:read usage:write"),
    ] {
        let token = minted(&admin, tokens, body).await;
        hello(&app, &token).await.expect(200);
        assert_eq!(claims_of(&token)["scope"], scope);
    }
    // As a sign-in gives it, but for the session.
    let (signed_in, token) =
        (app.signed_in(ADA, PASSWORD).await.token, minted(&admin, tokens, json!({"user": ADA})).await);
    let (mut expected, mut found) = (claims_of(&signed_in), claims_of(&token));
    for claims in [&mut expected, &mut found] {
        claims.as_object_mut().unwrap().retain(|name, _| name != "jti" && name != "sid");
    }
    assert_eq!((header_of(&token), found), (header_of(&signed_in), expected));
    let admins = minted(&admin, tokens, json!({"user": "admin@localhost"})).await;
    app.call(Method::GET, "/admin/v1/tenants", &admins, Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_token_says_what_it_is_told_to() {
    let app = lab().await;
    let admin = app.admin().await;
    let tokens = "/admin/v1/lab/tokens";
    let exact = json!({"sub": "x", "exp": null, "b": [1, 2], "a": {"c": 1.5}});
    let token = minted(&admin, tokens, json!({"claims": exact})).await;
    assert_eq!(claims_of(&token).to_string(), exact.to_string(), "claims that stand alone are taken as they are");
    assert_eq!(header_of(&token)["typ"], "at+jwt");
    let body = json!({"user": ADA, "header": {"typ": null, "x5u": "https://evil.example"},
        "claims": {"exp": null, "tenant_id": "another"}});
    let token = minted(&admin, tokens, body).await;
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&header_of(&token)), ["alg", "kid", "x5u"]);
    assert_eq!(claims_of(&token)["tenant_id"], "another");
    assert!(claims_of(&token).get("exp").is_none());
    // What is taken away and put back is good again.
    let whole = claims_of(&minted(&admin, tokens, json!({"user": ADA})).await);
    hello(&app, &minted(&admin, tokens, json!({"claims": whole})).await).await.expect(200);
    let kid = header_of(&token)["kid"].clone();
    hello(&app, &minted(&admin, tokens, json!({"claims": whole, "key": kid})).await).await.expect(200);
}

#[tokio::test]
async fn our_own_gateway_refuses_every_bad_token_of_the_mint() {
    let app = lab().await;
    let admin = app.admin().await;
    for (body, least) in [(json!({"user": ADA}), 26), (json!({"client_id": ROBOT}), 26)] {
        let minted = admin.post("/admin/v1/lab/tokens/bad", body).await.expect(200);
        hello(&app, &minted.text("/good")).await.expect(200);
        let items = minted.body["items"].as_array().unwrap();
        assert!(items.len() >= least, "{}", items.len());
        for item in items {
            let reply = hello(&app, item["token"].as_str().unwrap()).await;
            assert_eq!(reply.status, 401, "{}: {}", item["name"], reply.body);
            assert!(reply.headers[header::WWW_AUTHENTICATE].to_str().unwrap().contains("invalid_token"));
        }
        let names: Vec<&str> = items.iter().map(|item| item["name"].as_str().unwrap()).collect();
        for name in [
            "alg_none",
            "hs256_public_key",
            "wrong_typ",
            "wrong_iss",
            "wrong_aud",
            "missing_exp",
            "crit",
            "future_iat",
            "20_kb",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        let long = items.iter().find(|item| item["name"] == "20_kb").unwrap()["token"].as_str().unwrap();
        assert!((20_000..21_000).contains(&long.len()), "{}", long.len());
    }
    // The same one by one, as the contract has them.
    let whole = claims_of(&minted(&admin, "/admin/v1/lab/tokens", json!({"user": ADA})).await);
    for body in [
        json!({"claims": whole, "key": "none"}),
        json!({"claims": whole, "key": "hs256-public"}),
        json!({"claims": whole, "header": {"typ": "JWT"}}),
        json!({"claims": whole, "header": {"crit": ["exp"]}}),
        json!({"claims": whole, "bytes": 20_000}),
        json!({"claims": {"sub": "x"}}),
    ] {
        let token = minted(&admin, "/admin/v1/lab/tokens", body.clone()).await;
        assert_eq!(hello(&app, &token).await.status, 401, "{body}");
    }
}

#[tokio::test]
async fn hs256_over_the_public_key_is_what_a_careless_verifier_would_take() {
    let app = lab().await;
    let admin = app.admin().await;
    let token = minted(&admin, "/admin/v1/lab/tokens", json!({"user": ADA, "key": "hs256-jwk"})).await;
    let keys = app.anon().get("/.well-known/jwks.json").await.body;
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, keys["keys"][0].to_string().as_bytes());
    let (message, signature) = token.rsplit_once('.').unwrap();
    aws_lc_rs::hmac::verify(&key, message.as_bytes(), &BASE64.decode(signature).unwrap()).unwrap();
    assert_eq!(header_of(&token)["alg"], "HS256");
    let none = minted(&admin, "/admin/v1/lab/tokens", json!({"user": ADA, "key": "none"})).await;
    assert!(none.ends_with('.') && header_of(&none)["alg"] == "none");
}

#[tokio::test]
async fn what_cannot_be_minted_is_refused_with_the_field() {
    let app = lab().await;
    let admin = app.admin().await;
    let (tokens, okta) = ("/admin/v1/lab/tokens", "/admin/v1/lab/issuers/okta/tokens");
    for (path, body, fields) in [
        (tokens, json!({}), &["claims"][..]),
        (tokens, json!({"claims": []}), &["claims"]),
        (tokens, json!({"claims": {}, "key": "nobody"}), &["key"]),
        (tokens, json!({"claims": {}, "key": 7}), &["key"]),
        (tokens, json!({"user": "nobody@acme.example"}), &["user"]),
        (tokens, json!({"user": ADA, "tenant": "org_globex"}), &["user"]),
        (tokens, json!({"client_id": "nobody"}), &["client_id"]),
        (tokens, json!({"client_id": ROBOT, "tenant": "org_globex"}), &["tenant"]),
        (tokens, json!({"claims": {}, "bytes": 2_000_000}), &["bytes"]),
        (tokens, json!({"claims": {}, "realm": "x", "scope": "y"}), &["realm", "scope"]),
        (tokens, json!({"claims": {}, "surprise": 1}), &["surprise"]),
        (
            okta,
            json!({"variant": "object", "realm": "../x", "token_use": "refresh"}),
            &["variant", "realm", "token_use"],
        ),
        (okta, json!({"token_use": "id"}), &["user"]),
    ] {
        admin.post(path, body.clone()).await.refuses(422, fields);
    }
    admin.post("/admin/v1/lab/issuers/ping/tokens", json!({})).await.refuses(404, &[]);
    admin.put("/admin/v1/lab/issuers/ping", json!({})).await.refuses(404, &[]);
    let wrong = json!({"variant": "x", "algorithm": "none", "access_token_ttl_s": 0});
    let fields = ["variant", "algorithm", "access_token_ttl_s"];
    admin.put("/admin/v1/lab/issuers/okta", wrong).await.refuses(422, &fields);
}

/// A vendor's issuer as its own kind of client meets it, with what its tokens must have and must not have.
fn vendors() -> [(&'static str, &'static str, Value); 7] {
    let base = "http://127.0.0.1:8080/lab/issuers";
    let issuer = |path: &str| -> &'static str { format!("{base}/{path}").leak() };
    let directory = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    [
        ("auth0", issuer("auth0/"), json!({"org_id": "org_acme", "azp": APP, "client_id": null, "typ": null})),
        (
            "okta",
            issuer("okta/oauth2/default"),
            json!({"ver": 1, "cid": APP, "sub": ADA, "scope": null,
            "scp": ["openid", "email", "profile", "offline_access"], "aud": "api://default"}),
        ),
        (
            "cognito",
            issuer("cognito/eu-central-1_Lab"),
            json!({"token_use": "access", "client_id": APP, "version": 2,
            "aud": null, "cognito:groups": ["owner"], "scope": "openid email profile offline_access"}),
        ),
        (
            "keycloak",
            issuer("keycloak/realms/acme"),
            json!({"typ": "Bearer", "azp": APP, "preferred_username": ADA, "email": ADA}),
        ),
        (
            "entra",
            issuer(&format!("entra/{directory}/v2.0")),
            json!({"ver": "2.0", "tid": directory, "azpacr": "1", "scp": null, "roles": null}),
        ),
        ("zitadel", issuer("zitadel"), json!({"azp": APP, "client_id": APP})),
        (
            "workos",
            issuer("workos/user_management/client_lab"),
            json!({"org_id": "org_acme", "role": "owner",
            "roles": ["owner"], "aud": null}),
        ),
    ]
}

/// Signs in at an issuer without a page: the parameters of the answer.
pub async fn authorized(app: &TestApp, document: &Value, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pairs = vec![
        ("client_id", APP),
        ("redirect_uri", CALLBACK),
        ("response_type", "code"),
        ("scope", "openid email profile offline_access"),
        ("state", "s"),
        ("nonce", "n"),
        ("login_hint", ADA),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in more {
        pairs.retain(|(own, _)| own != name);
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let path = path_of(document["authorization_endpoint"].as_str().unwrap());
    let reply = app.anon().get(&format!("{path}?{query}")).await.expect(303);
    let target = url::Url::parse(reply.headers[header::LOCATION].to_str().unwrap()).unwrap();
    assert!(target.as_str().starts_with(CALLBACK));
    target.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

pub fn param(pairs: &[(String, String)], name: &str) -> String {
    pairs.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("no {name} in {pairs:?}")).1.clone()
}

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

pub fn redemption(code: &str) -> [(&str, &str); 4] {
    [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)]
}

#[tokio::test]
async fn each_vendors_issuer_signs_people_in_and_speaks_its_dialect() {
    let app = lab().await;
    for (name, issuer, expected) in vendors() {
        let document = discovered(&app, issuer).await;
        let answer = authorized(&app, &document, &[]).await;
        assert_eq!(param(&answer, "state"), "s", "{name}");
        let endpoint = path_of(document["token_endpoint"].as_str().unwrap());
        let code = param(&answer, "code");
        let set = form(&app, &endpoint, APP, &redemption(&code)).await.expect(200);
        assert_eq!(set.headers[header::CACHE_CONTROL], "no-store");
        let access = set.text("/access_token");
        assert!(is_signed_by(&app, &document, &access).await, "{name}");
        let claims = claims_of(&access);
        assert_eq!(claims["iss"], issuer);
        for (claim, value) in expected.as_object().unwrap() {
            assert_eq!(claims.get(claim).unwrap_or(&Value::Null), value, "{name}: {claim} in {claims}");
        }
        let header = header_of(&access);
        assert_eq!(header["alg"], "RS256");
        let typed = ["auth0", "keycloak", "entra", "zitadel"].contains(&name);
        assert_eq!(header.get("typ"), typed.then_some(&json!("JWT")), "{name}");

        let id = claims_of(&set.text("/id_token"));
        assert!(is_signed_by(&app, &document, &set.text("/id_token")).await, "{name}");
        assert_eq!((&id["iss"], &id["aud"], &id["nonce"]), (&json!(issuer), &json!(APP), &json!("n")), "{name}");
        assert_eq!(id["email"], ADA);
        // The same person is the same subject, but for Okta, whose access tokens have the login.
        assert!(id["sub"].is_string() && (name == "okta" || id["sub"] == claims["sub"]), "{name}: {id} {claims}");

        refuses(&form(&app, &endpoint, APP, &redemption(&code)).await, 400, "invalid_grant");
        let refresh = set.text("/refresh_token");
        let again = [("grant_type", "refresh_token"), ("refresh_token", &*refresh)];
        let fresh = form(&app, &endpoint, APP, &again).await.expect(200);
        assert_eq!(claims_of(&fresh.text("/access_token"))["sub"], claims["sub"]);
        refuses(&form(&app, &endpoint, APP, &again).await, 400, "invalid_grant");
        // It is for other people's resource servers.
        assert_eq!(hello(&app, &access).await.status, 401, "{name}");
    }
}

#[tokio::test]
async fn a_machine_gets_a_token_of_each_vendor_by_its_seeded_secret() {
    let app = lab().await;
    for (name, issuer, _) in vendors() {
        let document = discovered(&app, issuer).await;
        let endpoint = path_of(document["token_endpoint"].as_str().unwrap());
        let pairs = [("grant_type", "client_credentials"), ("scope", "read:orders"), ("audience", "https://orders")];
        let set = form(&app, &endpoint, ROBOT, &pairs).await.expect(200);
        assert!(set.body.get("id_token").is_none() && set.body.get("refresh_token").is_none());
        let claims = claims_of(&set.text("/access_token"));
        assert!(is_signed_by(&app, &document, &set.text("/access_token")).await, "{name}");
        let lived = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(json!(lived), set.body["expires_in"], "{name}");
        let (claim, value) = match name {
            "auth0" => ("sub", json!(format!("{ROBOT}@clients"))),
            "okta" => ("scp", json!(["read:orders"])),
            "cognito" => ("sub", json!(ROBOT)),
            "keycloak" => ("aud", json!(["https://orders", "account"])),
            "entra" => ("roles", json!(["read:orders"])),
            "zitadel" => ("aud", json!([ROBOT, "https://orders"])),
            _ => ("org_id", json!("org_acme")),
        };
        assert_eq!(claims[claim], value, "{name}: {claims}");
        let wrong = [("grant_type", "client_credentials"), ("client_id", ROBOT), ("client_secret", "wrong")];
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(wrong).finish();
        let request = Request::post(&endpoint).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        refuses(&app.send(request.body(Body::from(body)).unwrap()).await, 401, "invalid_client");
    }
}

#[tokio::test]
async fn an_issuer_honours_pkce_redirects_and_the_minute_of_a_code() {
    let app = lab().await;
    let document = discovered(&app, "http://127.0.0.1:8080/lab/issuers/zitadel").await;
    let endpoint = path_of(document["token_endpoint"].as_str().unwrap());
    for (more, error) in [
        (&[("response_type", "token")][..], "unsupported_response_type"),
        (&[("code_challenge_method", "plain")], "invalid_request"),
        (&[("login_hint", "")], "login_required"),
        (&[("login_hint", "nobody@acme.example")], "access_denied"),
        (&[("organization", "org_globex")], "access_denied"),
    ] {
        let answer = authorized(&app, &document, more).await;
        assert_eq!((param(&answer, "error"), param(&answer, "state")), (error.into(), "s".into()), "{more:?}");
    }
    let path = path_of(document["authorization_endpoint"].as_str().unwrap());
    for query in [format!("client_id={APP}&redirect_uri=https://evil.example/"), "client_id=nobody".to_owned()] {
        assert!(!app.anon().get(&format!("{path}?{query}")).await.expect(400).headers.contains_key(header::LOCATION));
    }
    let new_code = async || param(&authorized(&app, &document, &[]).await, "code");
    let code = new_code().await;
    let mut wrong = redemption(&code);
    wrong[3].1 = "another-verifier-another-verifier-another-verifier";
    refuses(&form(&app, &endpoint, APP, &wrong).await, 400, "invalid_grant");
    let code = new_code().await;
    refuses(&form(&app, &endpoint, APP, &redemption(&code)[..3]).await, 400, "invalid_grant");
    let code = new_code().await;
    refuses(&form(&app, &endpoint, ROBOT, &redemption(&code)).await, 400, "invalid_grant");
    let code = new_code().await;
    app.clock.advance_secs(60);
    refuses(&form(&app, &endpoint, APP, &redemption(&code)).await, 400, "invalid_grant");
    let code = new_code().await;
    refuses(&form(&app, "/lab/issuers/okta/v1/token", APP, &redemption(&code)).await, 400, "invalid_grant");
    refuses(&form(&app, &endpoint, APP, &[("grant_type", "password")]).await, 400, "unsupported_grant_type");
    app.anon().get(&endpoint).await.refuses(405, &[]);
    app.anon().get("/lab/issuers/zitadel/nothing").await.refuses(404, &[]);
    app.anon().get("/lab/issuers/ping/.well-known/openid-configuration").await.refuses(404, &[]);
}

#[tokio::test]
async fn a_dialect_has_variants_and_claims_of_ones_own() {
    let app = lab().await;
    let admin = app.admin().await;
    let mint = async |name: &str, body: Value| {
        claims_of(&minted(&admin, &format!("/admin/v1/lab/issuers/{name}/tokens"), body).await)
    };
    let tenant = mint("zitadel", json!({"user": ADA})).await;
    assert_eq!(tenant["urn:zitadel:iam:user:resourceowner:id"], "org_acme");
    let object = mint("keycloak", json!({"user": ADA, "variant": "object", "realm": "acme"})).await;
    assert_eq!(object["iss"], "http://127.0.0.1:8080/lab/issuers/keycloak/realms/acme");
    assert!(object["organization"]["org_acme"]["id"].is_string(), "{object}");
    let token = minted(&admin, "/admin/v1/lab/issuers/auth0/tokens", json!({"user": ADA, "variant": "rfc9068"})).await;
    assert_eq!(header_of(&token)["typ"], "at+jwt");
    assert!(claims_of(&token)["client_id"].is_string() && claims_of(&token).get("azp").is_none());
    let id = mint("cognito", json!({"user": ADA, "token_use": "id", "nonce": "n", "client_id": "app"})).await;
    assert_eq!((&id["token_use"], &id["aud"]), (&json!("id"), &json!("app")));
    let own = mint("entra", json!({"user": ADA, "claims": {"tid": null, "wids": ["x"]}})).await;
    assert!(own.get("tid").is_none() && own["wids"] == json!(["x"]));

    let set = json!({"variant": "object", "tenant_claim": "tenant", "audience": "api", "access_token_ttl_s": 7,
        "claims": {"acr": null, "region": "eu"}});
    let view = admin.put("/admin/v1/lab/issuers/keycloak", set).await.expect(200);
    assert_eq!((view.text("/variant"), view.text("/audience")), ("object".into(), "api".into()));
    let claims = mint("keycloak", json!({"user": ADA})).await;
    assert_eq!(
        (&claims["tenant"], &claims["region"], &claims["aud"][0]),
        (&json!("org_acme"), &json!("eu"), &json!("api"))
    );
    assert!(claims.get("acr").is_none() && claims["organization"].is_object());
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 7);
    let list = admin.get("/admin/v1/lab/issuers").await.expect(200);
    assert_eq!(list.body["items"].as_array().unwrap().len(), 7);
    let bad = admin.post("/admin/v1/lab/issuers/okta/tokens/bad", json!({"user": ADA})).await.expect(200);
    let document = discovered(&app, "http://127.0.0.1:8080/lab/issuers/okta").await;
    assert!(is_signed_by(&app, &document, &bad.text("/good")).await);
    let foreign = bad.body["items"].as_array().unwrap().iter().find(|item| item["name"] == "foreign_key").unwrap();
    assert!(!is_signed_by(&app, &document, foreign["token"].as_str().unwrap()).await);
}

#[tokio::test]
async fn documents_are_slow_failing_cut_off_or_anothers() {
    let app = lab().await;
    let admin = app.admin().await;
    let ours = ["/.well-known/jwks.json", "/.well-known/openid-configuration"];
    let theirs = ["/lab/issuers/okta/v1/keys", "/lab/issuers/okta/.well-known/openid-configuration"];
    admin.put("/admin/v1/lab/issuers/okta", json!({"algorithm": "ES256"})).await.expect(200);
    for (issuer, [jwks, discovery]) in [(Value::Null, ours), (json!("okta"), theirs)] {
        let set = async |target: &str, more: Value| {
            let mut body = json!({"target": target, "issuer": issuer});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            admin.post("/admin/v1/lab/faults", body).await.expect(200)
        };
        let good = [app.anon().get(jwks).await.expect(200).body, app.anon().get(discovery).await.expect(200).body];
        let on = set("jwks", json!({"kind": "fail", "status": 500, "times": 2})).await;
        assert_eq!(
            on.body["items"],
            json!([{"target": "jwks", "issuer": issuer, "kind": "fail", "status": 500, "times": 2}])
        );
        for status in [500, 500, 200] {
            app.anon().get(jwks).await.expect(status);
        }
        set("discovery", json!({"kind": "fail"})).await;
        app.anon().get(discovery).await.expect(503);
        assert_eq!(app.anon().get(jwks).await.expect(200).body, good[0], "of the other document nothing");
        set("discovery", json!({"kind": "truncate"})).await;
        let half = app.anon().get(discovery).await.expect(200);
        assert!(good[1].to_string().starts_with(half.body.as_str().unwrap()), "{}", half.body);
        set("discovery", json!({"kind": "wrong_issuer"})).await;
        let wrong = app.anon().get(discovery).await.expect(200).body;
        assert_eq!(
            (&wrong["issuer"], &wrong["jwks_uri"]),
            (&json!("https://wrong-issuer.example"), &good[1]["jwks_uri"])
        );
        set("jwks", json!({"kind": "wrong_issuer"})).await;
        let keys = app.anon().get(jwks).await.expect(200).body;
        assert!(keys["keys"][0]["kid"].is_string() && keys["keys"][0]["kid"] != good[0]["keys"][0]["kid"]);
        set("discovery", json!({"kind": "slow", "delay_ms": 1})).await;
        assert_eq!(app.anon().get(discovery).await.expect(200).body, good[1]);
        set("discovery", json!({"kind": "off"})).await;
        admin.delete("/admin/v1/lab/faults").await.expect(204);
        assert_eq!(admin.get("/admin/v1/lab/faults").await.body["items"], json!([]));
        assert_eq!(app.anon().get(jwks).await.expect(200).body, good[0]);
    }
    for (body, fields) in [
        (json!({"target": "jwks", "kind": "melt"}), &["kind"][..]),
        (json!({"target": "token", "kind": "fail"}), &["target"]),
        (json!({"target": "jwks", "kind": "fail", "issuer": "ping"}), &["issuer"]),
        (json!({"target": "jwks", "kind": "fail", "status": 200, "times": 0}), &["status", "times"]),
        (json!({"target": "jwks", "kind": "slow", "delay_ms": 60_001}), &["delay_ms"]),
        (json!({"kind": "fail"}), &["target"]),
    ] {
        admin.post("/admin/v1/lab/faults", body).await.refuses(422, fields);
    }
}

#[tokio::test]
async fn fixtures_are_made_once_and_work() {
    let app = lab().await;
    let admin = app.admin().await;
    let tenants = admin.get("/admin/v1/tenants").await.expect(200);
    let acme = &tenants.body["items"][0];
    assert_eq!((&acme["customer_name"], &acme["tier"]), (&json!("Acme"), &json!("standard")));
    assert_eq!((&acme["external_id"], &acme["status"]), (&json!("org_acme"), &json!("active")));
    let owner = app.signed_in(ADA, PASSWORD).await;
    let users = owner.get("/v1/users").await.expect(200);
    let role = |user: &Value| user["role"].as_str().unwrap().to_owned();
    let mut roles: Vec<_> = users.body["items"].as_array().unwrap().iter().map(role).collect();
    // They are made in one millisecond, so their ids come in any order.
    roles.sort_unstable();
    assert_eq!(roles, ["member", "owner"]);
    let robot = form(&app, "/oauth2/token", ROBOT, &[("grant_type", "client_credentials")]).await.expect(200);
    hello(&app, &robot.text("/access_token")).await.expect(200);

    // What has changed since is not changed back, and nothing is made twice.
    let tenant = acme["tenant_id"].as_str().unwrap();
    admin.post(&format!("/admin/v1/tenants/{tenant}/tier"), json!({"tier": "premium"})).await;
    let app = app.restarted().await;
    let admin = app.admin().await;
    let again = admin.get("/admin/v1/tenants").await.expect(200);
    assert_eq!(again.body["items"].as_array().unwrap().len(), 1);
    assert_eq!((again.text("/items/0/tenant_id"), again.text("/items/0/tier")), (tenant.to_owned(), "premium".into()));
    assert_eq!(admin.get("/admin/v1/clients").await.body["items"].as_array().unwrap().len(), 2);
    app.signed_in(ADA, PASSWORD).await;
}

#[tokio::test]
async fn a_fixture_that_contradicts_what_is_there_says_which() {
    let app = lab().await;
    let contradicted = settings("")
        .replace("external_id = \"org_acme\"", "external_id = \"org_other\"")
        .replace("email = \"bob@acme.example\"", "email = \"bob@acme.example\"\nrole = \"admin\"")
        .replace(&format!("client_secret = \"{SECRET}\"\nclient_name"), "client_secret = \"other\"\nclient_name");
    let error = app.restarted_with(&contradicted).await.err().unwrap().to_string();
    let expected = [
        "seed.tenants[0].external_id: the tenant has org_acme",
        "seed.tenants[0].users[1].role: the user is member",
        &format!("seed.tenants[0].clients[0]: the client {ROBOT} is there with another secret or other metadata"),
    ];
    assert_eq!(error, format!("seeds contradict what is there: {}", expected.join("; ")));
}

#[tokio::test]
async fn one_person_may_be_seeded_into_several_tenants() {
    let more = format!(
        "[[seed.tenants]]\ncustomer_name = \"Globex\"\nusers = [{{ email = \"{ADA}\", password = \"{PASSWORD}\" }}]"
    );
    let app = TestApp::with(&settings(&more)).await;
    let choice = app.anon().post("/v1/login", json!({"email": ADA, "password": PASSWORD})).await.refuses(409, &[]);
    assert_eq!(choice.body["tenants"].as_array().unwrap().len(), 2);
    let admin = app.admin().await;
    let token = minted(&admin, "/admin/v1/lab/tokens", json!({"user": ADA, "tenant": "org_acme"})).await;
    hello(&app, &token).await.expect(200);
}

#[tokio::test]
async fn passwords_are_taken_at_the_token_endpoint_where_the_laboratory_says_so() {
    let app = TestApp::with(&settings("[identity]\nallow_password_grant = true")).await;
    let grants = app.anon().get("/.well-known/openid-configuration").await.body["grant_types_supported"].clone();
    assert!(grants.as_array().unwrap().contains(&json!("password")));
    let good = [("grant_type", "password"), ("username", ADA), ("password", PASSWORD)];
    let set = token(&app, &good).await.expect(200);
    hello(&app, &set.text("/access_token")).await.expect(200);
    let refreshed = [("grant_type", "refresh_token"), ("refresh_token", &*set.text("/refresh_token"))];
    token(&app, &refreshed).await.expect(200);

    let asked = [&good[..], &[("scope", "openid usage:read")]].concat();
    let set = form(&app, "/oauth2/token", APP, &asked).await.expect(200);
    assert_eq!(claims_of(&set.text("/access_token"))["client_id"], APP);
    assert!(set.text("/id_token").contains('.') && set.body.get("refresh_token").is_none());
    for (pairs, error) in [
        (&[("grant_type", "password"), ("username", ADA), ("password", "wrong")][..], "invalid_grant"),
        (&[("grant_type", "password"), ("username", "ada"), ("password", PASSWORD)], "invalid_grant"),
        (&[("grant_type", "password"), ("username", ADA)], "invalid_request"),
        (&[("grant_type", "password"), ("username", ADA), ("password", PASSWORD), ("scope", "admin")], "invalid_scope"),
        (&[("grant_type", "password"), ("username", ADA), ("password", PASSWORD), ("tenant", "x")], "invalid_request"),
    ] {
        refuses(&token(&app, pairs).await, 400, error);
    }
    // The platform is no client's.
    let admins = [
        ("grant_type", "password"),
        ("username", "admin@localhost"),
        ("password", crate::support::app::ADMIN_PASSWORD),
    ];
    token(&app, &admins).await.expect(200);
    refuses(&form(&app, "/oauth2/token", APP, &admins).await, 400, "invalid_grant");
}

/// Nothing of a laboratory may be kept by a cache between two tests.
#[tokio::test]
async fn what_an_issuer_publishes_is_not_kept() {
    let app = lab().await;
    let fresh = |headers: &HeaderMap| headers[header::CACHE_CONTROL] == "no-store";
    for path in ["/lab/issuers/okta/.well-known/openid-configuration", "/lab/issuers/auth0/.well-known/jwks.json"] {
        assert!(fresh(&app.anon().get(path).await.expect(200).headers), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_at_once_all_count_and_a_key_is_made_once() {
    let app = lab().await;
    let admin = app.admin().await;
    let turns = (0..20).map(|_| admin.post("/admin/v1/lab/clock", json!({"advance_s": 1})));
    for reply in futures_util::future::join_all(turns).await {
        reply.expect(200);
    }
    assert_eq!(admin.get("/admin/v1/lab/clock").await.text("/now"), "2026-11-10T12:00:20Z");
    let anon = app.anon();
    let asked = (0..4).map(|_| anon.get("/lab/issuers/okta/v1/keys"));
    let keys: Vec<Value> = futures_util::future::join_all(asked).await.into_iter().map(|reply| reply.body).collect();
    assert!(keys[0]["keys"][0]["kid"].is_string() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn the_log_in_page_has_the_newest_letters_and_their_links_work() {
    let app = lab().await;
    let page = async |path: &str| app.anon().get(path).await.expect(200).text("");
    assert!(page("/login").await.contains("Nobody has been written to yet."));
    let mut asking = Browser::new(&app);
    asking.fill("/reset", &[("email", ADA)]).await.expect(200);
    asking.fill("/reset", &[("email", "nobody@acme.example")]).await.expect(200);
    let shown = page("/login").await;
    assert!(shown.contains(&format!("To {ADA}")) && !shown.contains("nobody@acme.example"), "{shown}");
    let link = shown.split_once("<a href=\"http://127.0.0.1:8080/reset?token=").unwrap().1.split_once('"').unwrap().0;
    Browser::new(&app).open(&format!("/reset?token={link}")).await.expect(200);
    assert!(!page("/reset").await.contains(link), "on no other page");

    // A wrong password shows them as well; only the newest are there, and what people wrote is text.
    let owner = app.signed_in(ADA, PASSWORD).await;
    for n in 0..6 {
        app.clock.advance_secs(1);
        let body = json!({"email": format!("guest-{n}@acme.example"), "role": "member"});
        owner.post("/v1/invitations", body).await.expect(201);
    }
    let wrong = Browser::new(&app).fill("/login", &[("email", ADA), ("password", "wrong")]).await.expect(401).text("");
    let there: Vec<bool> = (0..6).map(|n| wrong.contains(&format!("To guest-{n}@acme.example"))).collect();
    assert_eq!(there, [false, true, true, true, true, true], "{wrong}");
    assert_eq!(wrong.matches("<strong>Lab mode.</strong>").count(), 1);

    // Letters that a server takes are not shown.
    let smtp = "[mail]\nsmtp = \"smtp://127.0.0.1:1\"\nfrom = \"no-reply@acme.example\"";
    let app = TestApp::with(&settings(smtp)).await;
    Browser::new(&app).fill("/reset", &[("email", ADA)]).await.expect(200);
    assert!(!app.anon().get("/login").await.expect(200).text("").contains("Newest letters"));
}

#[tokio::test]
async fn a_step_of_a_registration_fails_as_often_as_is_asked_for() {
    let app = lab().await;
    let (admin, path) = (app.admin().await, "/admin/v1/lab/registrations");
    let rig = admin.post(path, json!({"fail": "provisioning", "times": 1})).await.expect(200);
    assert_eq!((rig.text("/fail"), rig.text("/times")), ("provisioning".into(), "1".into()));
    let body = crate::support::actors::registration("Globex", "free");
    let made = admin.post("/admin/v1/registrations", body).await.expect(201);
    assert_eq!(made.text("/status"), "failed");
    assert_eq!(admin.get(path).await.expect(200).body["fail"], Value::Null, "that was all");
    let retry = format!("/admin/v1/registrations/{}/retry", made.text("/registration_id"));
    assert_eq!(admin.post(&retry, Value::Null).await.expect(200).text("/status"), "active");
    for (body, field) in [
        (json!({"halt_at": "tenant:later"}), "halt_at"),
        (json!({"fail": "lunch"}), "fail"),
        (json!({"fail": "user", "times": 0}), "times"),
    ] {
        admin.post(path, body).await.refuses(422, &[field]);
    }
    admin.post(path, json!({"fail": 7})).await.refuses(422, &["fail"]);
    let points = admin.get(path).await.expect(200).body["points"].as_array().unwrap().clone();
    assert!(points.contains(&json!("undo_tenant:written")), "{points:?}");
    let path = "/admin/v1/lab/tier-changes";
    admin.post(path, json!({"halt_at": "switch:later"})).await.refuses(422, &["halt_at"]);
    let halted = admin.post(path, json!({"halt_at": "switch:acted"})).await.expect(200);
    assert_eq!(admin.get(path).await.expect(200).body, halted.body);
}
