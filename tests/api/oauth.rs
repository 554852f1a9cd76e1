//! The token endpoint, machine clients, keys, and what is published about them.

use axum::{
    body::Body,
    extract::FromRef as _,
    http::{Request, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tollgate::identity::Identity;

use crate::support::{
    actors::Actor,
    app::{Reply, TestApp},
};

const TOKEN: &str = "/oauth2/token";

/// A form for the token endpoint.
fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Asks the token endpoint.
pub async fn token(app: &TestApp, fields: &[(&str, &str)]) -> Reply {
    ask(app, TOKEN, fields).await
}

/// Sends a form.
pub async fn ask(app: &TestApp, path: &str, fields: &[(&str, &str)]) -> Reply {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    app.send(request.body(Body::from(form(fields))).unwrap()).await
}

/// Asks with HTTP Basic.
async fn token_as(app: &TestApp, id: &str, secret: &str, fields: &[(&str, &str)]) -> Reply {
    let request = Request::post(TOKEN)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
        .header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))));
    app.send(request.body(Body::from(form(fields))).unwrap()).await
}

/// An error of RFC 6749 section 5.2, which no cache may keep.
#[track_caller]
pub fn refuses(reply: &Reply, status: u16, error: &str) {
    assert_eq!((reply.status.as_u16(), reply.text("/error").as_str()), (status, error), "{}", reply.body);
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
    assert!(reply.body["error_description"].is_string());
    let basic = reply.headers.get(header::WWW_AUTHENTICATE).is_some_and(|value| value == "Basic realm=\"tollgate\"");
    assert_eq!(basic, status == 401, "a challenge comes with 401 and with nothing else");
}

/// A machine client with a scope: its id and secret.
async fn client(owner: &Actor<'_>, scope: &str) -> (String, String) {
    let made = owner.post("/v1/clients", json!({"client_name": "robot", "scope": scope})).await.expect(201);
    (made.text("/client_id"), made.text("/client_secret"))
}

/// A machine client of the owner's tenant, signed in.
pub async fn robot<'a>(owner: &Actor<'a>) -> Actor<'a> {
    let (id, secret) = client(owner, "usage:read usage:write").await;
    let reply = token_as(owner.app, &id, &secret, &[GRANT]).await.expect(200);
    Actor { app: owner.app, token: reply.text("/access_token") }
}

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

#[tokio::test]
async fn a_machine_client_authenticates_by_basic_or_in_the_body() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let (id, secret) = client(&app.owner_of("Acme").await, "usage:read usage:write").await;
    let by_body = token(&app, &[GRANT, ("client_id", &id), ("client_secret", &secret)]).await.expect(200);
    let by_basic = token_as(&app, &id, &secret, &[GRANT]).await.expect(200);
    for reply in [by_body, by_basic] {
        assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(reply.text("/token_type"), "Bearer");
        assert_eq!(reply.text("/expires_in"), "600");
        assert_eq!(reply.text("/tenant_id"), tenant);
        assert!(reply.body.get("refresh_token").is_none(), "RFC 6749 section 4.4.3");
        let robot = Actor { app: &app, token: reply.text("/access_token") };
        assert_eq!(robot.get("/sample/hello").await.expect(200).text("/tenant_id"), tenant);
    }
}

#[tokio::test]
async fn a_wrong_secret_an_unknown_and_a_deleted_client_are_one_answer() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let (id, secret) = client(&owner, "usage:read").await;
    let robot = Actor { app: &app, token: token_as(&app, &id, &secret, &[GRANT]).await.text("/access_token") };
    robot.get("/sample/hello").await.expect(200);

    let wrong = token_as(&app, &id, "wrong", &[GRANT]).await;
    owner.delete(&format!("/v1/clients/{id}")).await.expect(204);
    let deleted = token_as(&app, &id, &secret, &[GRANT]).await;
    let unknown = token_as(&app, "00000000-0000-7000-8000-000000000000", &secret, &[GRANT]).await;
    let in_body = token(&app, &[GRANT, ("client_id", "nobody"), ("client_secret", "x")]).await;
    let nobody = token(&app, &[GRANT]).await;
    for reply in [&deleted, &unknown, &in_body, &nobody, &wrong] {
        refuses(reply, 401, "invalid_client");
        assert_eq!(reply.body, wrong.body);
    }
    robot.get("/sample/hello").await.refuses(401, &[]);
}

#[tokio::test]
async fn a_client_gets_no_more_scope_than_it_registered() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let (id, secret) = client(&owner, "usage:read").await;
    assert_eq!(token_as(&app, &id, &secret, &[GRANT]).await.text("/scope"), "usage:read");
    // RFC 6749 section 3.2: a parameter without a value is as good as absent.
    let empty = [GRANT, ("scope", ""), ("client_id", ""), ("client_secret", "")];
    assert_eq!(token_as(&app, &id, &secret, &empty).await.text("/scope"), "usage:read");
    for scope in ["usage:write", "usage:read usage:write", "tollgate:admin"] {
        refuses(&token_as(&app, &id, &secret, &[GRANT, ("scope", scope)]).await, 400, "invalid_scope");
    }
    let body = json!({"client_name": "x", "scope": "usage:read tollgate:admin"});
    owner.post("/v1/clients", body).await.refuses(422, &["scope"]);
    let both = client(&owner, "usage:read usage:write").await;
    let less = token_as(&app, &both.0, &both.1, &[GRANT, ("scope", "usage:write")]).await;
    assert_eq!(less.text("/scope"), "usage:write");
    let robot = Actor { app: &app, token: less.text("/access_token") };
    robot.get("/v1/usage").await.refuses(403, &[]);
}

#[tokio::test]
async fn a_suspended_tenants_client_gets_no_token() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let (id, secret) = client(&app.owner_of("Acme").await, "usage:read").await;
    let admin = app.admin().await;
    admin.post(&format!("/admin/v1/tenants/{tenant}/suspend"), Value::Null).await.expect(200);
    refuses(&token_as(&app, &id, &secret, &[GRANT]).await, 400, "unauthorized_client");
    // Whoever does not know the secret learns nothing of the tenant.
    refuses(&token_as(&app, &id, "wrong", &[GRANT]).await, 401, "invalid_client");
}

#[tokio::test]
async fn a_secret_is_shown_once() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let (id, _) = client(&owner, "usage:read").await;
    for list in [owner.get("/v1/clients").await, app.admin().await.get("/admin/v1/clients").await] {
        assert_eq!(list.text("/items/0/client_id"), id);
        assert!(list.body.pointer("/items/0/client_secret").is_none());
    }
}

#[tokio::test]
async fn bad_token_requests_are_refused_in_the_words_of_oauth() {
    let app = TestApp::new().await;
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[], "invalid_request"),
        (&[("grant_type", "password")], "unsupported_grant_type"),
        (&[GRANT, GRANT], "invalid_request"),
        (&[("grant_type", "refresh_token")], "invalid_request"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "")], "invalid_request"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "made-up")], "invalid_grant"),
    ];
    for (fields, error) in cases {
        refuses(&token(&app, fields).await, 400, error);
    }
    let as_json = app.anon().post(TOKEN, json!({"grant_type": "client_credentials"})).await;
    refuses(&as_json, 400, "invalid_request");
    let twice = [GRANT, ("client_id", "a"), ("client_secret", "b")];
    refuses(&token_as(&app, "a", "b", &twice).await, 400, "invalid_request");
    let two_names = [GRANT, ("client_id", "another")];
    refuses(&token_as(&app, "a", "b", &two_names).await, 400, "invalid_request");
    for broken in ["Basic %%%", "Basic YQ==", "Bearer abc", "Basic"] {
        let request = Request::post(TOKEN)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::AUTHORIZATION, broken);
        let reply = app.send(request.body(Body::from(form(&[GRANT]))).unwrap()).await;
        refuses(&reply, 401, "invalid_client");
    }
}

/// The ids of the published keys.
/// Withdraws a token of a direct sign-in.
pub async fn revoke(app: &TestApp, token: &str) {
    ask(app, "/oauth2/revoke", &[("client_id", "tollgate"), ("token", token)]).await.expect(200);
}

/// The ids of the keys that are published.
pub async fn published(app: &TestApp) -> Vec<String> {
    let jwks = app.anon().get("/.well-known/jwks.json").await.expect(200);
    for key in jwks.body["keys"].as_array().unwrap() {
        let public = ["kty", "crv", "x", "y", "kid", "use", "alg"];
        assert!(key.as_object().unwrap().keys().all(|name| public.contains(&name.as_str())), "{key}");
    }
    jwks.body["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn keys_rotate_and_tokens_of_the_old_one_live_out_their_life() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let before = published(&app).await;
    let (owner, admin) = (app.owner_of("Acme").await, app.admin().await);
    app.clock.advance_secs(1);
    let rotated = admin.post("/admin/v1/keys/rotate?wait_s=0", Value::Null).await.expect(201).text("/kid");
    let both = published(&app).await;
    assert_eq!((both.len(), both.contains(&before[0]), both.contains(&rotated)), (2, true, true));
    owner.get("/sample/hello").await.expect(200);
    let new = app.owner_of("Acme").await;
    assert_eq!(super::tokens::header_of(&new.token)["kid"], rotated.as_str());
    assert_ne!(super::tokens::header_of(&owner.token)["kid"], rotated.as_str());
    let listed = admin.get("/admin/v1/keys").await.expect(200);
    assert!(listed.body["items"][0]["retired_at"].is_string() && listed.body["items"][1]["retired_at"].is_null());

    app.clock.advance_secs(601);
    Identity::from_ref(app.app.state()).tidy().await.unwrap();
    assert_eq!(published(&app).await, [rotated], "no token of the old key is alive any more");
}

#[tokio::test]
async fn a_new_key_is_published_before_it_signs() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let admin = app.admin().await;
    let old = published(&app).await;
    let rotated = admin.post("/admin/v1/keys/rotate?wait_s=60", Value::Null).await.expect(201).text("/kid");
    let kid = async || super::tokens::header_of(&app.owner_of("Acme").await.token)["kid"].clone();
    assert_eq!((kid().await, published(&app).await.len()), (old[0].as_str().into(), 2));
    app.clock.advance_secs(60);
    assert_eq!(kid().await, rotated.as_str());
    app.owner_of("Acme").await.get("/sample/hello").await.expect(200);
}

#[tokio::test]
async fn each_algorithm_signs_tokens_that_the_gateway_takes() {
    for algorithm in ["ES256", "RS256", "EdDSA"] {
        let settings = format!("[identity]\nsigning_alg = \"{algorithm}\"\npublished_algs = [\"ES256\"]\n");
        let app = TestApp::with(&settings).await;
        app.tenant("Acme", "standard").await;
        let owner = app.owner_of("Acme").await;
        assert_eq!(super::tokens::header_of(&owner.token)["alg"], algorithm);
        owner.get("/sample/hello").await.expect(200);
    }
}

#[tokio::test]
async fn keys_and_tokens_survive_a_restart() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let (keys, token) = (published(&app).await, app.owner_of("Acme").await.token);
    let app = app.restarted().await;
    assert_eq!(published(&app).await, keys);
    Actor { app: &app, token }.get("/sample/hello").await.expect(200);
}

#[tokio::test]
async fn discovery_advertises_what_works_and_nothing_else() {
    let app = TestApp::with("[server]\nissuer = \"https://id.example.com\"").await;
    let openid = app.anon().get("/.well-known/openid-configuration").await.expect(200).body;
    let oauth = app.anon().get("/.well-known/oauth-authorization-server").await.expect(200).body;
    assert_eq!(openid, oauth);
    assert_eq!(openid["issuer"], "https://id.example.com");
    let members = openid.as_object().unwrap();
    for (name, value) in members.iter().filter(|(name, _)| name.ends_with("_endpoint") || *name == "jwks_uri") {
        let path = value.as_str().unwrap().strip_prefix("https://id.example.com").unwrap();
        let by_get = ["jwks_uri", "authorization_endpoint", "userinfo_endpoint"].contains(&name.as_str());
        let reply = if by_get { app.anon().get(path).await } else { ask(&app, path, &[]).await };
        assert!(![404, 405].contains(&reply.status.as_u16()), "{name} {}", reply.status);
    }
    let grants = openid["grant_types_supported"].as_array().unwrap();
    for grant in ["client_credentials", "refresh_token", "authorization_code", "password", "implicit"] {
        let works = token(&app, &[("grant_type", grant)]).await.text("/error") != "unsupported_grant_type";
        assert_eq!(works, grants.contains(&grant.into()), "{grant}");
    }
    assert_eq!(openid["response_types_supported"], json!(["code"]));
}

/// What a private key begins with in PKCS #8 (RFC 5958): the algorithms' object identifiers (RFC 5480, 8017, 8410).
const PKCS8: [&[u8]; 3] = [
    &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01],
    &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04],
];

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn private_keys_are_in_the_store_under_the_key_file_alone() {
    use aws_lc_rs::{encoding::AsDer as _, rsa, signature};
    let app = TestApp::with("[identity]\npublished_algs = [\"ES256\", \"RS256\", \"EdDSA\"]\n").await;
    app.admin().await.post("/admin/v1/keys/rotate", Value::Null).await.expect(201);
    let listed = app.admin().await.get("/admin/v1/keys").await.expect(200).body;
    let mut stored = Vec::new();
    for entry in std::fs::read_dir(app.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("tollgate.db") {
            stored.extend(std::fs::read(path).unwrap());
        }
    }
    let keys = listed["items"].as_array().unwrap();
    assert_eq!(keys.len(), 6);
    assert!(keys.iter().all(|key| holds(&stored, key["kid"].as_str().unwrap().as_bytes())), "this is the store");
    for part in PKCS8.into_iter().chain([&b"\"d\":"[..], b"PRIVATE KEY"]) {
        assert!(!holds(&stored, part), "{part:x?}");
    }
    let key_file = std::fs::read(app.folder.path().join("identity.key")).unwrap();
    assert!(key_file.len() >= 32 && !holds(&stored, &key_file[..32]));
    // Keys in the clear would have been found.
    let ecdsa = signature::EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let rsa: aws_lc_rs::encoding::Pkcs8V1Der<'_> =
        rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap().as_der().unwrap();
    let ed25519 = signature::Ed25519KeyPair::generate().unwrap();
    let (ecdsa, ed25519) = (ecdsa.to_pkcs8v1().unwrap(), ed25519.to_pkcs8().unwrap());
    for (der, part) in [ecdsa.as_ref(), rsa.as_ref(), ed25519.as_ref()].into_iter().zip(PKCS8) {
        assert!(holds(der, part));
    }

    // And nothing opens them but that file.
    let other = TestApp::new().await;
    std::fs::copy(other.folder.path().join("identity.key"), app.folder.path().join("identity.key")).unwrap();
    let refused = app.restarted_with("").await.err().unwrap();
    assert!(matches!(refused, tollgate::app::BuildError::Identity(_)), "{refused}");
}
