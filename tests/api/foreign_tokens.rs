//! Foreign tokens that must be refused, and the few oddities that must not.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use tollgate::kernel::Clock as _;

use super::foreign::echo;
use crate::support::{
    app::TestApp,
    issuer::{Issuer, Key},
};

fn with(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    match value {
        Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
        value => object[name] = value,
    }
    object
}

/// A text with another member in front of the first one.
fn doubled(object: &Value, member: &str) -> String {
    format!("{{{member},{}", &object.to_string()[1..])
}

struct Forge<'a> {
    key: &'a Key,
    header: Value,
    claims: Value,
}

impl Forge<'_> {
    fn signed(&self, header: &Value, claims: &Value) -> String {
        self.key.sign(&header.to_string(), &claims.to_string())
    }

    fn header(&self, name: &str, value: Value) -> String {
        self.signed(&with(&self.header, name, value), &self.claims)
    }

    fn claim(&self, name: &str, value: Value) -> String {
        self.signed(&self.header, &with(&self.claims, name, value))
    }

    fn texts(&self, header: &str, claims: &str) -> String {
        self.key.sign(header, claims)
    }

    /// HS256 with what is published of the key as the secret.
    fn confused(&self) -> String {
        let header = with(&self.header, "alg", "HS256".into());
        let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(self.claims.to_string()));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &self.key.public_der());
        format!("{message}.{}", BASE64.encode(hmac::sign(&secret, message.as_bytes())))
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[tokio::test]
async fn no_hostile_token_is_let_in() {
    let (key, stranger, curve) = (Key::rs256("one"), Key::rs256("one"), Key::es256("two"));
    let issuer = Issuer::start(&[&key, &curve]).await;
    let app =
        TestApp::with(&issuer.settings("on_unknown_tenant = \"create\"\nalgorithms = [\"RS256\", \"ES256\"]")).await;
    let now = app.clock.now().as_secs();
    let forge = Forge {
        key: &key,
        header: json!({"alg": "RS256", "typ": "JWT", "kid": "one"}),
        claims: issuer.claims("org_1", now),
    };
    let (header, claims) = (forge.header.to_string(), forge.claims.to_string());
    let good = forge.signed(&forge.header, &forge.claims);
    echo(&app, &good).await.expect(200);
    let parts: Vec<&str> = good.split('.').collect();
    let (algorithm, typ) = ("its algorithm is not accepted", "it is not an access token");
    let (malformed, claim) = ("it is malformed", "a claim is missing or malformed");
    let (twice, early) = ("a member is there twice", "it is not valid yet");
    let unsigned = format!("{}.{}.", BASE64.encode(r#"{"alg":"none","typ":"JWT","kid":"one"}"#), parts[1]);
    let table = [
        ("alg none", unsigned, algorithm),
        ("HS256 with the public key", forge.confused(), algorithm),
        ("an algorithm that is not set", key.as_alg("PS256").token(&forge.claims), algorithm),
        (
            "an algorithm that is set and not the key's",
            forge.header("alg", "ES256".into()),
            "its algorithm is not its key's",
        ),
        ("signed by another key under the name", stranger.token(&forge.claims), "its signature is wrong"),
        (
            "another's claims under a signature",
            format!("{}.{}.{}", parts[0], BASE64.encode(claims.replace("org_1", "org_2")), parts[2]),
            "its signature is wrong",
        ),
        ("an empty signature", format!("{}.{}.", parts[0], parts[1]), "its signature is wrong"),
        ("unknown kid", forge.header("kid", "three".into()), "its key is not known"),
        ("no kid, and several keys", forge.header("kid", Value::Null), "its key is not known"),
        ("typ of an ID token by another name", forge.header("typ", "id+jwt".into()), typ),
        ("no typ", forge.header("typ", Value::Null), typ),
        ("typ of a logout token", forge.header("typ", "logout+jwt".into()), typ),
        ("crit", forge.header("crit", json!(["exp"])), "it has critical extensions"),
        ("crit of nothing", forge.header("crit", json!([])), "it has critical extensions"),
        ("b64", forge.header("b64", false.into()), "it has critical extensions"),
        ("duplicate kid", forge.texts(&doubled(&forge.header, r#""kid":"two""#), &claims), twice),
        ("duplicate iss", forge.texts(&header, &doubled(&forge.claims, r#""iss":"https://other.example""#)), twice),
        (
            "duplicate org in another spelling",
            forge.texts(&header, &doubled(&forge.claims, r#""\u006frg":"org_2""#)),
            twice,
        ),
        ("duplicate within an object", forge.texts(&header, &doubled(&forge.claims, r#""x":{"a":1,"a":2}"#)), twice),
        (
            "JSON serialisation",
            json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string(),
            malformed,
        ),
        ("four parts", format!("{good}.x"), malformed),
        ("padding", format!("{good}="), malformed),
        ("a letter of the other alphabet", format!("{}+{}", &good[..20], &good[21..]), malformed),
        ("over 8 KiB", forge.claim("x", "x".repeat(9_000).into()), "too long"),
        ("claims no object", forge.texts(&header, "[]"), malformed),
        ("another iss", forge.claim("iss", "https://idp.example".into()), "its issuer is another"),
        ("iss with a slash", forge.claim("iss", format!("{}/", issuer.origin).into()), "its issuer is another"),
        ("iss of us", forge.claim("iss", "http://127.0.0.1:8080".into()), typ),
        ("iss as a list", forge.claim("iss", json!([issuer.origin])), claim),
        ("another audience", forge.claim("aud", "another".into()), "it is for another audience"),
        ("an audience in part", forge.claim("aud", "ap".into()), "it is for another audience"),
        ("audience of another type", forge.claim("aud", json!({"api": true})), claim),
        ("no audience", forge.claim("aud", Value::Null), "it is for another audience"),
        ("no exp", forge.claim("exp", Value::Null), claim),
        ("exp as text", forge.claim("exp", (now + 60).to_string().into()), claim),
        ("exp beyond all calendars", forge.claim("exp", json!(u64::MAX)), claim),
        ("future nbf", forge.claim("nbf", json!(now + 31)), early),
        ("future iat", forge.claim("iat", json!(now + 31)), early),
        ("sub of another type", forge.claim("sub", json!({"a": 1})), claim),
        ("an endless sub", forge.claim("sub", "x".repeat(1_025).into()), claim),
        ("nonce of an ID token", forge.claim("nonce", "n".into()), typ),
        ("at_hash of an ID token", forge.claim("at_hash", "h".into()), typ),
        ("token_use of an ID token", forge.claim("token_use", "id".into()), typ),
        ("claim typ of an ID token", forge.claim("typ", "ID".into()), typ),
        ("claim typ of a refresh token", forge.claim("typ", "Refresh".into()), typ),
        ("events of a logout token", forge.claim("events", json!({})), typ),
        ("no tenant", forge.claim("org", Value::Null), "it names no tenant"),
        ("no tenant in a list", forge.claim("org", json!([])), "it names no tenant"),
        ("two tenants", forge.claim("org", json!(["org_1", "org_2"])), "it names several tenants"),
        ("the same tenant twice", forge.claim("org", json!(["org_1", "org_1"])), "it names several tenants"),
        ("two tenants as an object", forge.claim("org", json!({"org_1": {}, "org_2": {}})), "it names several tenants"),
        ("a tenant of another type", forge.claim("org", true.into()), claim),
        ("a tenant of white space", forge.claim("org", " ".into()), claim),
        ("a tenant with white space round it", forge.claim("org", " org_1".into()), "its tenant is not known"),
        ("an endless tenant", forge.claim("org", "x".repeat(2_000).into()), claim),
    ];
    for (name, token, why) in table {
        let reply = echo(&app, &token).await;
        assert_eq!(reply.status, 401, "{name}: {}", reply.body);
        let challenge = reply.headers["www-authenticate"].to_str().unwrap();
        let expected = format!("error_description=\"the access token is not valid: {why}\"");
        assert!(challenge.contains(&expected), "{name}: {challenge}");
    }
    let expired = echo(&app, &forge.claim("exp", json!(now))).await.expect(401);
    assert!(expired.headers["www-authenticate"].to_str().unwrap().contains("expired"));
    for (name, token) in [
        ("an audience in a list", forge.claim("aud", json!(["x", "api"]))),
        ("typ with its prefix", forge.header("typ", "application/at+jwt".into())),
        ("a clock that is a little ahead", forge.claim("iat", json!(now + 30))),
        ("no iat", forge.claim("iat", Value::Null)),
        ("no jti", forge.claim("jti", Value::Null)),
        ("a tenant in a list", forge.claim("org", json!(["org_1"]))),
        ("a tenant as the only member", forge.claim("org", json!({"org_1": {"id": "x"}}))),
        (
            "a nonce in Keycloak's access token",
            forge.signed(&forge.header, &with(&with(&forge.claims, "nonce", "n".into()), "typ", "Bearer".into())),
        ),
        ("another key", curve.token(&forge.claims)),
        ("header and claims with other members", forge.claim("x", json!({"a": [{"b": 1}, {"b": 2}]}))),
    ] {
        let reply = echo(&app, &token).await;
        assert_eq!(reply.status, 200, "{name}: {}", reply.body);
    }
    // Whatever a subject looks like, it is a header of its own or none.
    for (sub, header) in [("a b", Some("a b")), ("a\r\nx-tenant-id: other", None), ("gr\u{fc}n", Some("gr\u{fc}n"))] {
        let seen = echo(&app, &forge.claim("sub", sub.into())).await.expect(200);
        assert_eq!(seen.body["headers"].get("x-user-id").and_then(Value::as_str), header, "{sub:?}");
    }
}

#[tokio::test]
async fn an_issuer_speaks_for_its_own_tenants_and_with_its_own_keys_alone() {
    let (one, two) = (Key::es256("same"), Key::es256("same"));
    let (first, second) = (Issuer::start(&[&one]).await, Issuer::start(&[&two]).await);
    let settings = |issuer: &Issuer, tenants: &str| {
        issuer.settings(&format!("algorithms = [\"ES256\"]\ntenants = {tenants}\non_unknown_tenant = \"create\""))
    };
    let both = format!("{}{}", settings(&first, "[\"org_1\"]"), settings(&second, "[\"org_2\", \"org_3\"]"));
    let app = TestApp::with(&both).await;
    let now = app.clock.now().as_secs();
    let tenant = echo(&app, &one.token(&first.claims("org_1", now))).await.expect(200).text("/headers/x-tenant-id");
    echo(&app, &two.token(&second.claims("org_2", now))).await.expect(200);
    for (name, token) in [
        ("the other's tenant", two.token(&second.claims("org_1", now))),
        ("the other's tenant, by its id", two.token(&second.claims(&tenant, now))),
        ("the other's iss", two.token(&first.claims("org_1", now))),
        ("the other's iss and tenant", one.token(&second.claims("org_2", now))),
        ("nobody's tenant", one.token(&first.claims("org_4", now))),
    ] {
        let reply = echo(&app, &token).await;
        assert_eq!(reply.status, 401, "{name}: {}", reply.body);
    }
    // By the id of a tenant that is its own, an issuer may name it.
    echo(&app, &one.token(&first.claims(&tenant, now))).await.expect(200);
    let tenants = app.admin().await.get("/admin/v1/tenants").await.expect(200);
    assert_eq!(tenants.body["items"].as_array().unwrap().len(), 2, "nobody else's tenant was made");
}

#[tokio::test]
async fn a_token_follows_its_tenant_and_dies_with_it() {
    let key = Key::es256("one");
    let issuer = Issuer::start(&[&key]).await;
    let app = TestApp::with(&issuer.settings("algorithms = [\"ES256\"]\non_unknown_tenant = \"create\"")).await;
    let token = key.token(&issuer.claims("org_1", app.clock.now().as_secs()));
    let first = echo(&app, &token).await.expect(200).text("/headers/x-tenant-id");
    let admin = app.admin().await;
    let at = |tenant: &str, call: &str| format!("/admin/v1/tenants/{tenant}{call}");
    admin.post(&at(&first, "/suspend"), Value::Null).await.expect(200);
    echo(&app, &token).await.refuses(403, &[]);
    admin.post(&at(&first, "/activate"), Value::Null).await.expect(200);
    echo(&app, &token).await.expect(200);
    // The name becomes another tenant's: so does the token that was seen before.
    admin.patch(&at(&first, ""), json!({"external_id": "moved"})).await.expect(200);
    let second = app.tenant("Bolt", "standard").await;
    admin.patch(&at(&second, ""), json!({"external_id": "org_1"})).await.expect(200);
    let seen = echo(&app, &token).await.expect(200);
    assert_eq!(
        (seen.text("/headers/x-tenant-id"), seen.text("/headers/x-tenant-tier")),
        (second.clone(), "standard".into())
    );
    // A tenant that was taken out does not come back by a token that is still good.
    admin.delete(&at(&second, "")).await.expect(200);
    echo(&app, &token).await.refuses(401, &[]);
    app.clock.advance_secs(5);
    let another = key.token(&issuer.claims("org_1", app.clock.now().as_secs()));
    echo(&app, &another).await.refuses(401, &[]);
}

#[tokio::test]
async fn a_request_has_one_credential() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let owner = app.owner_of("Acme").await;
    let form = |body: &'static str| {
        let request = axum::http::Request::post("/sample/echo")
            .header("authorization", format!("Bearer {}", owner.token))
            .header("content-type", "application/x-www-form-urlencoded");
        app.send(request.body(axum::body::Body::from(body)).unwrap())
    };
    let before = super::gateway::used(&owner, "apis").await;
    for reply in [
        form("a=1&access_token=x").await,
        form("access%5Ftoken=x").await,
        owner.get("/sample/echo?access_token=x").await,
        owner.get("/v1/usage?meter=apis&access_token=x").await,
    ] {
        let reply = reply.refuses(400, &[]);
        assert!(reply.headers["www-authenticate"].to_str().unwrap().contains("error=\"invalid_request\""));
    }
    assert_eq!(super::gateway::used(&owner, "apis").await, before);
    let seen = form("a=access_token&b=1").await.expect(200);
    assert_eq!(seen.text("/body"), "a=access_token&b=1");
}
