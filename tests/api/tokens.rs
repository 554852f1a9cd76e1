//! What is no access token of ours, held against a gateway route and an admin route.

use axum::{
    body::Body,
    extract::FromRef as _,
    http::{HeaderValue, Request, header},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use tollgate::{
    identity::{Identity, Verifier},
    kernel::Clock as _,
};

use crate::support::app::{Reply, TestApp};

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&BASE64.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

/// The header of a token.
pub fn header_of(token: &str) -> Value {
    part(token, 0)
}

/// A good token taken apart, to be put together otherwise.
struct Forge {
    identity: Identity,
    header: Value,
    claims: Value,
    token: String,
}

impl Forge {
    fn new(app: &TestApp, token: &str) -> Self {
        let identity = Identity::from_ref(app.app.state());
        Self { identity, header: header_of(token), claims: part(token, 1), token: token.to_owned() }
    }

    /// Signed with the server's own key, whatever it says.
    fn signed(&self, header: &str, claims: &str) -> String {
        self.identity.sign_as_is(header, claims).unwrap().expose().to_owned()
    }

    /// With one claim other than it was; null takes it away.
    fn claim(&self, name: &str, value: Value) -> String {
        self.signed(&self.header.to_string(), &with(&self.claims, name, value).to_string())
    }

    /// With one header member other than it was.
    fn header(&self, name: &str, value: Value) -> String {
        self.signed(&with(&self.header, name, value).to_string(), &self.claims.to_string())
    }

    /// The claims under a header that names no signature of ours.
    fn unsigned(&self, alg: &str, signature: &[u8]) -> String {
        let header = with(&self.header, "alg", alg.into()).to_string();
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(self.claims.to_string()));
        format!("{message}.{}", BASE64.encode(signature))
    }

    /// HS256 with the published key as the secret.
    fn confused(&self) -> String {
        let secret = self.identity.jwks()["keys"][0].to_string();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        let token = self.unsigned("HS256", b"");
        let message = token.trim_end_matches('.');
        format!("{message}.{}", BASE64.encode(aws_lc_rs::hmac::sign(&key, message.as_bytes())))
    }
}

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

const MALFORMED: &str = "it is malformed";
const TWICE: &str = "a member is there twice";
const CLAIM: &str = "a claim is missing or malformed";

/// What must be refused, with the reason that the caller is told.
fn forgeries(forge: &Forge, now: i64) -> Vec<(&'static str, String, &'static str)> {
    let (header, claims) = (forge.header.to_string(), forge.claims.to_string());
    let parts: Vec<&str> = forge.token.split('.').collect();
    let mut flipped = BASE64.decode(parts[2]).unwrap();
    flipped[10] ^= 1;
    let resigned = |signature: &str| format!("{}.{}.{signature}", parts[0], parts[1]);
    let algorithm = "its algorithm is not accepted";
    let typ = "it is not an access token";
    let mut table = vec![
        ("alg none without a signature", forge.unsigned("none", b""), algorithm),
        ("alg None with one", forge.unsigned("None", b"x"), algorithm),
        ("HS256 with the public key", forge.confused(), algorithm),
        ("ES384", forge.header("alg", "ES384".into()), algorithm),
        ("typ JWT", forge.header("typ", "JWT".into()), typ),
        ("no typ", forge.header("typ", Value::Null), typ),
        ("typ of a logout token", forge.header("typ", "logout+jwt".into()), typ),
        ("unknown kid", forge.header("kid", "another".into()), "its key is not known"),
        ("no kid", forge.header("kid", Value::Null), "its key is not known"),
        ("kid of another type", forge.header("kid", json!([1])), MALFORMED),
        ("crit", forge.header("crit", json!(["exp"])), "it has critical extensions"),
        ("wrong iss", forge.claim("iss", "https://evil.example".into()), "its issuer is another"),
        ("iss with a slash", forge.claim("iss", "http://127.0.0.1:8080/".into()), "its issuer is another"),
        ("wrong aud", forge.claim("aud", "https://evil.example".into()), "it is for another audience"),
        ("aud as a list", forge.claim("aud", json!(["https://evil.example"])), CLAIM),
        ("future iat", forge.claim("iat", json!(now + 6)), "it is not valid yet"),
        ("future nbf", forge.claim("nbf", json!(now + 6)), "it is not valid yet"),
        ("exp as text", forge.claim("exp", json!("2100-01-01")), CLAIM),
        ("exp beyond all calendars", forge.claim("exp", json!(i64::MAX)), CLAIM),
        ("sub no id", forge.claim("sub", "admin".into()), CLAIM),
        ("tenant_id no id", forge.claim("tenant_id", "acme".into()), CLAIM),
        (
            "duplicate sub",
            forge.signed(&header, &doubled(&forge.claims, r#""sub":"00000000-0000-7000-8000-000000000000""#)),
            TWICE,
        ),
        ("duplicate alg", forge.signed(&doubled(&forge.header, r#""alg":"none""#), &claims), TWICE),
        (
            "duplicate of a claim that is not ours",
            forge.signed(&header, &doubled(&with(&forge.claims, "x", 1.into()), r#""x":2"#)),
            TWICE,
        ),
        ("b64", forge.header("b64", false.into()), "it has critical extensions"),
        (
            "JSON serialisation",
            json!({"payload": parts[1], "protected": parts[0], "signature": parts[2]}).to_string(),
            MALFORMED,
        ),
        ("header no object", forge.signed("[]", &claims), MALFORMED),
        ("claims no object", forge.signed(&header, "[]"), MALFORMED),
        ("another signature", resigned(&BASE64.encode(flipped)), "its signature is wrong"),
        ("an empty signature", resigned(""), "its signature is wrong"),
        ("a signature of zeros", resigned(&BASE64.encode([0; 64])), "its signature is wrong"),
        ("truncated", forge.token[..forge.token.len() - 22].to_owned(), "its signature is wrong"),
        ("two parts", format!("{}.{}", parts[0], parts[1]), MALFORMED),
        ("four parts", format!("{}.x", forge.token), MALFORMED),
        ("a dot behind", format!("{}.", forge.token), MALFORMED),
        ("a dot before", format!(".{}", forge.token), MALFORMED),
        ("padding", format!("{}==", forge.token), MALFORMED),
        ("no token at all", "opaque".into(), MALFORMED),
        ("20 kB", format!("{}.{}", parts[0], "x".repeat(20_000)), "too long"),
        ("empty", String::new(), MALFORMED),
    ];
    for name in ["iss", "aud", "exp", "iat", "sub", "jti", "client_id", "scope"] {
        table.push((name, forge.claim(name, Value::Null), CLAIM));
    }
    table
}

async fn ask(app: &TestApp, path: &str, authorization: &[&str]) -> Reply {
    let mut request = Request::get(path);
    for value in authorization {
        request = request.header(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

fn challenge(reply: &Reply) -> String {
    reply.headers[header::WWW_AUTHENTICATE].to_str().unwrap().to_owned()
}

/// A route with a token that opens it.
async fn doors(app: &TestApp) -> [(&'static str, String); 3] {
    app.tenant("Acme", "standard").await;
    let (owner, admin) = (app.owner_of("Acme").await.token, app.admin().await.token);
    [("/sample/hello", owner.clone()), ("/v1/usage", owner), ("/admin/v1/tenants", admin)]
}

#[tokio::test]
async fn no_forged_token_opens_a_route() {
    let app = TestApp::new().await;
    for (path, token) in doors(&app).await {
        let forge = Forge::new(&app, &token);
        // The forge itself is good: what it signs unchanged is taken.
        let same = forge.signed(&forge.header.to_string(), &forge.claims.to_string());
        assert_ne!(same, token);
        ask(&app, path, &[&format!("Bearer {same}")]).await.expect(200);
        for (name, forged, why) in forgeries(&forge, app.clock.now().as_secs()) {
            let reply = ask(&app, path, &[&format!("Bearer {forged}")]).await;
            assert_eq!(reply.status, 401, "{path}: {name}: {}", reply.body);
            let expected = format!(
                "Bearer realm=\"tollgate\", error=\"invalid_token\", error_description=\"the access token is not valid: {why}\""
            );
            assert_eq!(challenge(&reply), expected, "{path}: {name}");
            reply.refuses(401, &[]);
        }
        let expired = forge.claim("exp", json!(app.clock.now().as_secs()));
        let reply = ask(&app, path, &[&format!("Bearer {expired}")]).await.refuses(401, &[]);
        assert!(
            challenge(&reply).contains("error=\"invalid_token\", error_description=\"the access token has expired\"")
        );
    }
}

#[tokio::test]
async fn a_token_must_come_once_and_as_a_bearer_token() {
    let app = TestApp::new().await;
    for (path, token) in doors(&app).await {
        let good = format!("Bearer {token}");
        // RFC 6750 section 3.1: without authentication, or with another scheme, no error is named.
        for authorization in
            [&[][..], &[&*format!("Basic {token}")], &[&token], &["Bearer"], &[&good, &good], &[&good, "Basic x"]]
        {
            let reply = ask(&app, path, authorization).await.refuses(401, &[]);
            assert_eq!(challenge(&reply), "Bearer realm=\"tollgate\"", "{path} {authorization:?}");
        }
        ask(&app, path, &[&format!("bearer {token}")]).await.expect(200);
        ask(&app, &format!("{path}?access_token={token}"), &[]).await.refuses(401, &[]);
    }
}

#[tokio::test]
async fn typ_is_compared_as_a_media_type() {
    let app = TestApp::new().await;
    let [(path, token), ..] = doors(&app).await;
    let forge = Forge::new(&app, &token);
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        let token = forge.header("typ", typ.into());
        ask(&app, path, &[&format!("Bearer {token}")]).await.expect(200);
    }
}

#[tokio::test]
async fn a_token_is_for_its_own_side_of_the_house() {
    let app = TestApp::new().await;
    let [(gateway, tenants), _, (administration, admins)] = doors(&app).await;
    let reply = ask(&app, administration, &[&format!("Bearer {tenants}")]).await.refuses(403, &[]);
    let expected = "Bearer realm=\"tollgate\", error=\"insufficient_scope\", scope=\"tollgate:admin\"";
    assert_eq!(challenge(&reply), expected);
    ask(&app, gateway, &[&format!("Bearer {admins}")]).await.refuses(403, &[]);
    ask(&app, "/v1/usage", &[&format!("Bearer {admins}")]).await.refuses(403, &[]);
    // Neither scope alone nor the lack of a tenant alone makes an administrator.
    let forge = Forge::new(&app, &tenants);
    for token in [forge.claim("scope", "tollgate:admin".into()), forge.claim("tenant_id", Value::Null)] {
        ask(&app, administration, &[&format!("Bearer {token}")]).await.refuses(403, &[]);
    }
    // A token without a tenant opens nothing of a tenant's.
    let nobodys = forge.claim("tenant_id", Value::Null);
    ask(&app, gateway, &[&format!("Bearer {nobodys}")]).await.refuses(403, &[]);
    ask(&app, "/v1/usage", &[&format!("Bearer {nobodys}")]).await.refuses(403, &[]);
    // A tenant that never was is no tenant.
    let stranger = forge.claim("tenant_id", "01900000-0000-7000-8000-000000000000".into());
    ask(&app, gateway, &[&format!("Bearer {stranger}")]).await.refuses(401, &[]);
}

#[tokio::test]
async fn an_access_token_has_the_claims_of_rfc_9068() {
    let app = TestApp::new().await;
    let [(_, owner), _, (_, admin)] = doors(&app).await;
    assert_eq!(header_of(&owner)["typ"], "at+jwt");
    assert_eq!(header_of(&owner)["alg"], "ES256");
    let (claims, admins) = (part(&owner, 1), part(&admin, 1));
    for name in ["iss", "sub", "aud", "client_id", "jti", "scope", "tenant_id"] {
        assert!(claims[name].is_string(), "{name}");
    }
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    assert_eq!(claims["roles"], json!(["owner"]));
    assert!(claims.get("tier").is_none(), "the tier is the tenant's fact, not the token's");
    assert!(admins.get("tenant_id").is_none());
    assert!(admins["scope"].as_str().unwrap().split(' ').any(|value| value == "tollgate:admin"));
    // What the server signs, its verifier takes: the same one that guards every route.
    Verifier::from_ref(app.app.state()).verify(&owner).unwrap();
}
