//! Vendors' dialects of the lab: what each vendor does that the others do not, by its documentation.

use serde_json::{Value, json};

use super::{
    lab::{ADA, APP, ROBOT, authorized, claims_of, discovered, form, lab, minted, param, path_of, redemption},
    oauth::refuses,
    tokens::header_of,
};
use crate::support::app::{Reply, TestApp};

const ISSUERS: &str = "http://127.0.0.1:8080/lab/issuers";

/// Signs Ada in at an issuer; the answer of its token endpoint.
async fn signed_in(app: &TestApp, issuer: &str, more: &[(&str, &str)]) -> Reply {
    let document = discovered(app, &format!("{ISSUERS}/{issuer}")).await;
    let code = param(&authorized(app, &document, more).await, "code");
    form(app, &path_of(document["token_endpoint"].as_str().unwrap()), APP, &redemption(&code)).await.expect(200)
}

async fn access_claims(app: &TestApp, issuer: &str, more: &[(&str, &str)]) -> Value {
    claims_of(&signed_in(app, issuer, more).await.text("/access_token"))
}

/// Microsoft: "Access token claims reference" (`aud`, `scp`, `roles`), "Scopes and permissions" (`.default`).
#[tokio::test]
async fn entras_tokens_are_for_the_client_id_of_the_api_and_have_its_scopes_alone() {
    let app = lab().await;
    let api = "11111111-2222-4333-8444-555555555555";
    let own = "01900000-0000-7000-8000-000000000003";
    for (scope, aud, scp) in [
        (format!("openid offline_access api://{api}/.default"), api, json!("usage:read usage:write")),
        (format!("openid api://{api}/orders.read api://{api}/orders.write"), api, json!("orders.read orders.write")),
        (format!("{api}/orders.read"), api, json!("orders.read")),
        // A URI of one's own choice says nothing of the id, which the issuer is told.
        ("openid offline_access api://orders/.default".to_owned(), own, json!("usage:read usage:write")),
        ("openid https://orders.example/read".to_owned(), own, json!("read")),
        ("openid profile".to_owned(), own, Value::Null),
    ] {
        let claims = access_claims(&app, "entra", &[("scope", &scope)]).await;
        assert_eq!((&claims["aud"], &claims["scp"]), (&json!(aud), &scp), "{scope}");
        assert!(claims.get("roles").is_none());
    }
    let machine = async |scope: &str| {
        let pairs = [("grant_type", "client_credentials"), ("scope", scope)];
        form(&app, "/lab/issuers/entra/oauth2/v2.0/token", ROBOT, &pairs).await
    };
    let claims = claims_of(&machine(&format!("api://{api}/.default")).await.expect(200).text("/access_token"));
    assert_eq!((&claims["aud"], &claims["roles"]), (&json!(api), &json!(["usage:read", "usage:write"])));
    assert!(claims.get("scp").is_none());
    // Two APIs, and all beside one: neither can be in one token.
    for scope in ["api://one/read api://two/read", "api://one/.default api://one/read"] {
        refuses(&machine(scope).await, 400, "invalid_scope");
        let document = discovered(&app, &format!("{ISSUERS}/entra")).await;
        assert_eq!(param(&authorized(&app, &document, &[("scope", scope)]).await, "error"), "invalid_scope");
    }
    let admin = app.admin().await;
    let mint = "/admin/v1/lab/issuers/entra/tokens";
    admin.post(mint, json!({"user": ADA, "scope": "api://one/read api://two/read"})).await.refuses(422, &["scope"]);
    let set = json!({"audience": "22222222-2222-4333-8444-555555555555"});
    admin.put("/admin/v1/lab/issuers/entra", set.clone()).await.expect(200);
    let claims = claims_of(&minted(&admin, mint, json!({"user": ADA, "scope": "api://orders/read"})).await);
    assert_eq!((&claims["aud"], &claims["scp"]), (&set["audience"], &json!("read")));
}

/// `WorkOS`: "Session tokens" (`permissions` are those that are assigned to the role).
#[tokio::test]
async fn permissions_at_workos_are_the_roles_and_not_the_scope() {
    let app = lab().await;
    for (email, role, permissions) in
        [(ADA, "owner", json!(["usage:read", "usage:write"])), ("bob@acme.example", "member", json!(["usage:read"]))]
    {
        let claims = access_claims(&app, "workos", &[("scope", "openid profile email"), ("login_hint", email)]).await;
        assert_eq!((&claims["role"], &claims["permissions"]), (&json!(role), &permissions));
    }
}

/// Sources: see `Vendor::refreshes_when_asked`.
#[tokio::test]
async fn a_plain_code_is_worth_a_refresh_token_where_the_vendor_gives_one() {
    let app = lab().await;
    for (issuer, given) in [
        ("auth0/", false),
        ("okta", false),
        ("entra", false),
        ("zitadel", false),
        ("cognito", true),
        ("keycloak", true),
        ("workos", true),
    ] {
        let plain = signed_in(&app, issuer, &[("scope", "openid profile")]).await;
        assert_eq!(plain.body.get("refresh_token").is_some(), given, "{issuer}");
        let asked = signed_in(&app, issuer, &[("scope", "openid offline_access")]).await;
        assert!(asked.body.get("refresh_token").is_some(), "{issuer}");
        if given {
            let document = discovered(&app, &format!("{ISSUERS}/{issuer}")).await;
            let endpoint = path_of(document["token_endpoint"].as_str().unwrap());
            let refresh = plain.text("/refresh_token");
            let pairs = [("grant_type", "refresh_token"), ("refresh_token", &*refresh)];
            form(&app, &endpoint, APP, &pairs).await.expect(200);
        }
    }
}

/// Keycloak: server administration guide, "Mapping organization claims".
#[tokio::test]
async fn keycloak_names_the_organization_for_its_scope_alone() {
    let app = lab().await;
    let named = json!(["org_acme"]);
    for (scope, organization) in [
        ("openid email", Value::Null),
        ("openid organization", named.clone()),
        ("openid organization:*", named.clone()),
        ("openid organization:org_acme", named.clone()),
        ("openid organization:org_globex", Value::Null),
        ("openid organizations", Value::Null),
    ] {
        let set = signed_in(&app, "keycloak/realms/acme", &[("scope", scope)]).await;
        for token in ["/access_token", "/id_token"] {
            assert_eq!(claims_of(&set.text(token))["organization"], organization, "{scope} {token}");
        }
    }
    let admin = app.admin().await;
    let mint = async |body: Value| {
        claims_of(&minted(&admin, "/admin/v1/lab/issuers/keycloak/tokens", body).await)["organization"].clone()
    };
    assert_eq!(mint(json!({"user": ADA})).await, named, "as a mint without a scope has it");
    assert_eq!(mint(json!({"user": ADA, "scope": "openid"})).await, Value::Null);
}

/// Zitadel: "Claims" (when requested) and "Scopes" (reserved scopes).
#[tokio::test]
async fn zitadel_names_the_owning_organization_for_its_scope_alone() {
    let app = lab().await;
    let owner = "urn:zitadel:iam:user:resourceowner";
    for (scope, id, name) in [
        ("openid profile".to_owned(), Value::Null, Value::Null),
        (format!("openid {owner}"), json!("org_acme"), json!("Acme")),
    ] {
        let set = signed_in(&app, "zitadel", &[("scope", &scope)]).await;
        let access = claims_of(&set.text("/access_token"));
        assert_eq!((&access[format!("{owner}:id")], &access[format!("{owner}:name")]), (&id, &name), "{scope}");
        assert_eq!(claims_of(&set.text("/id_token"))[format!("{owner}:id")], id, "{scope}");
        assert!(access["urn:zitadel:iam:org:project:roles"]["owner"].is_object(), "as a project may be set to assert");
    }
}

/// Amazon: "Understanding the identity (ID) token": a custom attribute is there where a pool defines it.
#[tokio::test]
async fn cognito_has_no_claim_for_a_tenant_until_it_is_told_one() {
    let app = lab().await;
    let of_tenant = |set: &Reply, token: &str| {
        let claims = claims_of(&set.text(token));
        claims
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, value)| **value == "org_acme")
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    let set = signed_in(&app, "cognito", &[]).await;
    for token in ["/access_token", "/id_token"] {
        assert_eq!(of_tenant(&set, token), Vec::<String>::new(), "{token}");
    }
    let told = json!({"tenant_claim": "custom:tenant_id"});
    app.admin().await.put("/admin/v1/lab/issuers/cognito", told).await.expect(200);
    let set = signed_in(&app, "cognito", &[]).await;
    assert_eq!(of_tenant(&set, "/id_token"), ["custom:tenant_id"]);
}

/// Sources: see `Vendor::says_who_answers`.
#[tokio::test]
async fn only_a_vendor_that_says_who_answers_advertises_it() {
    let app = lab().await;
    for issuer in ["auth0/", "okta", "entra", "zitadel", "cognito", "keycloak", "workos"] {
        let issuer = format!("{ISSUERS}/{issuer}");
        let document = discovered(&app, &issuer).await;
        let said = document.get("authorization_response_iss_parameter_supported");
        let is_keycloak = issuer.ends_with("keycloak");
        assert_eq!(said, is_keycloak.then_some(&json!(true)), "{issuer}");
        for more in [&[][..], &[("login_hint", "nobody@acme.example")]] {
            let answer = authorized(&app, &document, more).await;
            let iss = answer.iter().find(|(name, _)| name == "iss").map(|(_, value)| value);
            assert_eq!(iss, is_keycloak.then_some(&issuer), "{issuer} {more:?}");
        }
    }
}

/// Whether a value has the form that a fixture gives by word.
fn is_of(form: &str, value: &Value) -> bool {
    form.split('|').any(|form| match form {
        "text" => value.is_string(),
        "integer" => value.is_i64(),
        "flag" => value.is_boolean(),
        "texts" => value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(Value::is_string)),
        "object" => value.is_object(),
        other => panic!("the fixture has the form {other:?}"),
    })
}

/// What is wrong: each member must be documented, in its form, and what is documented as always there must be there.
fn compared(what: &str, found: &Value, always: &Value, sometimes: &Value) -> Vec<String> {
    let found = found.as_object().unwrap();
    let wrong = found.iter().filter_map(|(name, value)| match always.get(name).or_else(|| sometimes.get(name)) {
        None => Some(format!("{what}: {name} is not documented")),
        Some(form) if is_of(form.as_str().unwrap(), value) => None,
        Some(form) => Some(format!("{what}: {name} is {value}, not {form}")),
    });
    let missing = always.as_object().unwrap().keys().filter(|name| !found.contains_key(*name));
    wrong.chain(missing.map(|name| format!("{what}: no {name}"))).collect()
}

/// The facts and their sources are in `tests/fixtures/vendor_tokens.json`.
#[tokio::test]
async fn tokens_have_the_members_and_forms_that_the_vendors_document() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../fixtures/vendor_tokens.json")).unwrap();
    let app = lab().await;
    let admin = app.admin().await;
    let mut wrong = Vec::new();
    for row in &rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default();
        let (vendor, token, variant) = (text("vendor"), text("token"), text("variant"));
        let set = if variant.is_empty() { json!({}) } else { json!({ "variant": variant }) };
        admin.put(&format!("/admin/v1/lab/issuers/{vendor}"), set).await.expect(200);
        let issuer = if vendor == "auth0" { "auth0/" } else { vendor };
        let scope = match vendor {
            "entra" => "openid profile email orders.read",
            "keycloak" => "openid profile email organization",
            "zitadel" => "openid profile email urn:zitadel:iam:user:resourceowner",
            _ => "openid profile email",
        };
        let what = format!("{vendor} {token} {variant}");
        let answer = if token == "machine" {
            let document = discovered(&app, &format!("{ISSUERS}/{issuer}")).await;
            let pairs = [("grant_type", "client_credentials"), ("scope", "orders.read")];
            form(&app, &path_of(document["token_endpoint"].as_str().unwrap()), ROBOT, &pairs).await.expect(200)
        } else {
            signed_in(&app, issuer, &[("scope", scope)]).await
        };
        let made = answer.text(if token == "id" { "/id_token" } else { "/access_token" });
        wrong.extend(compared(&format!("{what}, header"), &header_of(&made), &row["header"], &json!({})));
        wrong.extend(compared(&what, &claims_of(&made), &row["always"], &row["sometimes"]));
        assert!(text("source").len() > 20, "{what} says where it is from");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let of = |token: &str| rows.iter().filter(|row| row["token"] == token).count();
    assert_eq!((of("access"), of("id")), (8, 7), "each vendor's, and Auth0's two");
}
