//! The shipped profiles of vendors, held against what the vendors document of their tokens: access tokens are taken, ID tokens
//! are not.

use std::fs;

use serde_json::{Map, Value, json};
use tollgate::kernel::Clock as _;
use toml::Table;

use super::foreign::echo;
use crate::support::{
    app::TestApp,
    issuer::{Issuer, Key},
};

/// A shipped section, with an issuer that can be reached.
struct Profile {
    section: Table,
}

impl Profile {
    fn read(vendor: &str, index: usize) -> Self {
        let text = fs::read_to_string(format!("config/issuers/{vendor}.toml")).unwrap();
        let table: Table = text.parse().unwrap();
        let section = table["identity"]["issuers"][index].as_table().unwrap().clone();
        Self { section }
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let texts = self.section.get(key).and_then(|value| value.as_array()).into_iter().flatten();
        texts.map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    async fn app(&self, issuer: &Issuer) -> TestApp {
        let mut section = self.section.clone();
        // The name of the issuer stays the vendor's; its keys are here. A set of keys of one client ends with it.
        let own = self.texts("client_id").first().map_or("jwks".to_owned(), |client| format!("jwks?/{client}"));
        section.insert("jwks_uri".into(), format!("{}/{own}", issuer.origin).into());
        section.insert("on_unknown_tenant".into(), "create".into());
        let mut issuers = Table::new();
        issuers.insert("issuers".into(), toml::Value::Array(vec![section.into()]));
        let mut settings = Table::new();
        settings.insert("identity".into(), issuers.into());
        TestApp::with(&settings.to_string()).await
    }

    /// A value for a claim of a documented form; those that the profile looks at are as it wants them.
    fn value(&self, token: &str, name: &str, form: &str, now: i64) -> Value {
        let client = self.texts("client_id").first().cloned().unwrap_or_else(|| "client".to_owned());
        match (name, form) {
            ("iss", _) => self.section["issuer"].as_str().unwrap().into(),
            // An ID token is for a client.
            ("aud", _) if token == "id" => client.into(),
            ("aud", "text|texts") => json!([self.texts("audience").first().cloned().unwrap_or(client), "another"]),
            ("aud", _) => self.texts("audience").first().cloned().unwrap_or(client).into(),
            ("client_id" | "azp" | "cid", _) => client.into(),
            ("exp", _) => (now + 600).into(),
            ("token_use", _) => token.into(),
            ("typ", _) => if token == "id" { "ID" } else { "Bearer" }.into(),
            ("tid", _) => "11111111-2222-4333-8444-555555555555".into(),
            (_, "integer") => now.into(),
            (_, "flag") => true.into(),
            (_, "texts" | "texts|object") => json!(["one"]),
            (_, "object") => json!({"one": {}}),
            _ => "one".into(),
        }
    }
}

fn is_header_typ(row: &Value) -> Option<&'static str> {
    row["header"].get("typ")?;
    Some(if row["variant"] == "rfc9068" { "at+jwt" } else { "JWT" })
}

#[tokio::test]
async fn documented_access_tokens_are_taken_by_their_vendors_profile_and_id_tokens_are_not() {
    let rows: Vec<Value> =
        serde_json::from_str(&fs::read_to_string("tests/fixtures/vendor_tokens.json").unwrap()).unwrap();
    let key = Key::rs256("one");
    // Entra's keys name no algorithm.
    let issuer = Issuer::start(&[&key.with("alg", Value::Null)]).await;
    for vendor in ["auth0", "okta", "cognito", "keycloak", "entra", "zitadel", "workos"] {
        let profile = Profile::read(vendor, 0);
        let app = profile.app(&issuer).await;
        let now = app.clock.now().as_secs();
        let own: Vec<&Value> = rows.iter().filter(|row| row["vendor"] == vendor).collect();
        assert!(own.len() > 1, "{vendor}");
        for row in own {
            let token = row["token"].as_str().unwrap();
            let mut header = json!({"alg": "RS256", "kid": "one"});
            if let Some(typ) = is_header_typ(row) {
                header["typ"] = typ.into();
            }
            let mut claims = Map::new();
            for (name, form) in row["always"].as_object().unwrap() {
                claims.insert(name.clone(), profile.value(token, name, form.as_str().unwrap(), now));
            }
            // A vendor that has no claim for a customer gets the one that its profile says how to add.
            claims.insert(profile.section["tenant_claim"].as_str().unwrap().to_owned(), json!("one"));
            if vendor == "entra" {
                claims.insert("tid".into(), profile.value(token, "tid", "text", now));
            }
            let signed = key.sign(&header.to_string(), &Value::from(claims.clone()).to_string());
            let status = echo(&app, &signed).await;
            let expected = if token == "id" { 401 } else { 200 };
            assert_eq!(status.status, expected, "{vendor} {token}: {claims:?} {}", status.body);
        }
    }
}

#[tokio::test]
async fn entras_tokens_of_version_1_are_taken_by_their_own_section() {
    let key = Key::rs256("one");
    let issuer = Issuer::start(&[&key.with("alg", Value::Null)]).await;
    let profile = Profile::read("entra", 1);
    let app = profile.app(&issuer).await;
    let now = app.clock.now().as_secs();
    // "Access token claims reference", v1.0: `appid` in place of `azp`, `ver` 1.0.
    let claims = json!({
        "aud": "api://66666666-7777-4888-8999-aaaaaaaaaaaa", "iss": profile.section["issuer"].as_str().unwrap(), "iat": now, "nbf": now,
        "exp": now + 3_600, "appid": "client", "appidacr": "1", "oid": "one", "sub": "one", "scp": "orders.read",
        "tid": "11111111-2222-4333-8444-555555555555", "uti": "one", "ver": "1.0",
    });
    let seen = echo(&app, &key.token(&claims)).await.expect(200);
    assert_eq!(seen.text("/headers/x-user-id"), "one");
    let mut id_token = claims.clone();
    id_token.as_object_mut().unwrap().remove("appid");
    echo(&app, &key.token(&id_token)).await.refuses(401, &[]);
}

#[tokio::test]
async fn a_claim_is_found_by_its_path_whatever_dots_are_in_its_names() {
    let key = Key::es256("one");
    let issuer = Issuer::start(&[&key]).await;
    for (path, claims, tenant) in [
        ("https://app.example.com/org", json!({"https://app.example.com/org": "a1"}), Some("a1")),
        (
            "https://app.example.com/claims.org.id",
            json!({"https://app.example.com/claims": {"org": {"id": "a2"}}}),
            Some("a2"),
        ),
        ("a.b.c", json!({"a.b": {"c": "a3"}}), Some("a3")),
        ("a.b.c", json!({"a": {"b.c": "a4"}}), Some("a4")),
        ("a.b", json!({"a.b": "a5", "a": {"b": "a6"}}), None),
        ("a.b", json!({"a": ["b"]}), None),
        ("a", json!({"a": 17}), Some("17")),
        ("a", json!({"a": -1.5}), None),
    ] {
        let settings = issuer.settings("algorithms = [\"ES256\"]\non_unknown_tenant = \"create\"");
        let settings = settings.replace("tenant_claim = \"org\"", &format!("tenant_claim = \"{path}\""));
        let app = TestApp::with(&settings).await;
        let mut all = issuer.claims("unused", app.clock.now().as_secs());
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let reply = echo(&app, &key.token(&all)).await;
        assert_eq!(reply.status, if tenant.is_some() { 200 } else { 401 }, "{path} {claims}: {}", reply.body);
        if let Some(tenant) = tenant {
            let listed = app.admin().await.get("/admin/v1/tenants").await.expect(200);
            assert_eq!(listed.text("/items/0/external_id"), tenant);
        }
    }
}

#[tokio::test]
async fn a_claim_may_say_what_a_token_is_for_as_the_vendor_writes_it() {
    let key = Key::es256("one");
    let issuer = Issuer::start(&[&key]).await;
    let route = "[[gateway.routes]]\npath = \"/sample/\"\nupstream = \"builtin:sample\"\nscopes = [\"orders:read\"]\n";
    let own = issuer.settings(
        "algorithms = [\"ES256\"]\non_unknown_tenant = \"create\"\nscope_claims = [\"scope\", \"scp\", \"roles\"]",
    );
    let app = TestApp::with(&format!("{own}{route}")).await;
    for (name, value, status) in [
        ("scope", json!("x orders:read"), 200),
        ("scp", json!(["orders:read"]), 200),
        ("roles", json!(["x", "orders:read"]), 200),
        ("permissions", json!(["orders:read"]), 403),
        ("scope", json!("orders:reads"), 403),
        ("scp", json!(7), 401),
    ] {
        let mut claims = issuer.claims("org_1", app.clock.now().as_secs());
        claims[name] = value;
        echo(&app, &key.token(&claims)).await.expect(status);
    }
}
