//! RFC 8693, Token Exchange, to switch to another tenant.

use serde_json::{Value, json};

use crate::{
    relying_party::{Client, EXCHANGE, Fields, acme, assert_stored_nowhere, claims, opens, owner, part, post, refused},
    support::{
        actors::{Actor, PASSWORD, email_of, registration},
        app::{Reply, TestApp},
    },
};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A second tenant, to which Acme's owner belongs, too; its id.
async fn globex(app: &TestApp) -> String {
    let mut second = registration("Globex", "free");
    second["email"] = email_of("Acme").into();
    second["allow_membership"] = true.into();
    app.admin().await.post("/admin/v1/registrations", second).await.expect(201).text("/tenant_id")
}

async fn acme_id(app: &TestApp) -> String {
    let found = app.admin().await.get("/admin/v1/tenants?customer_name=Acme").await.expect(200);
    found.text("/items/0/tenant_id")
}

async fn login(app: &TestApp, email: &str, tenant: &str) -> Reply {
    let body = json!({"email": email, "password": PASSWORD, "tenant_id": tenant});
    app.anon().post("/v1/login", body).await.expect(200)
}

/// Exchanges a token of a direct sign-in; `more` replaces what would be said, an empty value takes it away.
async fn exchange(app: &TestApp, token: &str, tenant: &str, more: Fields<'_>) -> Reply {
    let mut fields = vec![
        ("grant_type", EXCHANGE),
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
        ("tenant", tenant),
    ];
    for (name, value) in more {
        fields.retain(|(own, _)| own != name);
        fields.push((name, value));
    }
    fields.retain(|(_, value)| !value.is_empty());
    post(app, "/oauth2/token", &fields, None).await
}

/// "issued_token_type: REQUIRED. An identifier [...] for the representation of the issued security token."
#[tokio::test]
async fn rfc8693_2_2_1_the_answer_says_what_kind_of_token_it_is() {
    let app = acme().await;
    let (from, to) = (acme_id(&app).await, globex(&app).await);
    let first = login(&app, &owner(), &from).await;
    let reply = exchange(&app, &first.text("/access_token"), &to, &[]).await.expect(200);
    assert_stored_nowhere(&reply.headers);
    assert_eq!((reply.text("/issued_token_type"), reply.text("/token_type")), (ACCESS_TOKEN.into(), "Bearer".into()));
    assert_eq!(reply.text("/tenant_id"), to);
    let hello = Actor { app: &app, token: reply.text("/access_token") }.get("/sample/hello").await.expect(200);
    assert_eq!(hello.text("/tenant_id"), to);
    // The first goes on.
    assert!(opens(&app, &first.text("/access_token")).await);
    exchange(&app, &first.text("/access_token"), &to, &[("client_id", "tollgate")]).await.expect(200);
}

/// "A refresh token will typically not be issued when the exchange is of one temporary credential [...] for a different
/// temporary credential"; and the new token lives no longer than the old one.
#[tokio::test]
async fn rfc8693_2_2_1_nobody_lives_longer_by_exchange() {
    let app = acme().await;
    let (from, to) = (acme_id(&app).await, globex(&app).await);
    let first = login(&app, &owner(), &from).await;
    app.clock.advance_secs(400);
    let reply = exchange(&app, &first.text("/access_token"), &to, &[]).await.expect(200);
    assert!(reply.body.get("refresh_token").is_none());
    assert_eq!(reply.text("/expires_in"), "200");
    assert_eq!(claims(&reply, "access_token")["exp"], claims(&first, "access_token")["exp"]);
    let back = exchange(&app, &reply.text("/access_token"), &from, &[]).await.expect(200);
    assert_eq!(back.text("/expires_in"), "200");
    app.clock.advance_secs(200);
    refused(&exchange(&app, &back.text("/access_token"), &to, &[]).await, 400, "invalid_request");
}

/// The scope is what the role in the other tenant and the subject token both have.
#[tokio::test]
async fn rfc8693_2_1_no_scope_grows() {
    let app = acme().await;
    let from = acme_id(&app).await;
    let ann = json!({"email": "ann@acme.example", "role": "member", "password": PASSWORD});
    app.owner_of("Acme").await.post("/v1/users", ann).await.expect(201);
    let mut second = registration("Globex", "free");
    second["email"] = "ann@acme.example".into();
    second["allow_membership"] = true.into();
    let to = app.admin().await.post("/admin/v1/registrations", second).await.expect(201).text("/tenant_id");
    let member = login(&app, "ann@acme.example", &from).await;
    let grown = exchange(&app, &member.text("/access_token"), &to, &[]).await.expect(200);
    assert_eq!(grown.text("/scope"), "usage:read offline_access", "an owner there, by a member's token");
    let more = exchange(&app, &member.text("/access_token"), &to, &[("scope", "usage:write")]).await;
    refused(&more, 400, "invalid_scope");
    let owner_there = login(&app, "ann@acme.example", &to).await;
    let shrunk = exchange(&app, &owner_there.text("/access_token"), &from, &[]).await.expect(200);
    assert_eq!(shrunk.text("/scope"), "usage:read offline_access");
    let narrowed =
        exchange(&app, &owner_there.text("/access_token"), &from, &[("scope", "usage:read")]).await.expect(200);
    assert_eq!(narrowed.text("/scope"), "usage:read");
}

/// "If the request itself is not valid or if either the "subject_token" or "actor_token" are invalid for any reason [...] the
/// value of the "error" parameter MUST be the "invalid_request" error code."
#[tokio::test]
async fn rfc8693_2_2_2_a_bad_subject_token_is_a_bad_request() {
    let app = acme().await;
    let robot = Client::machine(&app).await;
    let (from, to) = (acme_id(&app).await, globex(&app).await);
    let first = login(&app, &owner(), &from).await;
    let (token, refresh) = (first.text("/access_token"), first.text("/refresh_token"));
    let machine = robot.token(&[("grant_type", "client_credentials")]).await.text("/access_token");
    let id_token = Client::web(&app).await.tokens(&[("tenant", &from)]).await.text("/id_token");
    for bad in ["garbage", &refresh, &machine, &id_token, &app.admin().await.token] {
        refused(&exchange(&app, bad, &to, &[]).await, 400, "invalid_request");
    }
    for more in [
        [("subject_token", "")],
        [("subject_token_type", "")],
        [("subject_token_type", "urn:ietf:params:oauth:token-type:id_token")],
        [("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")],
        [("actor_token", "x")],
        [("tenant", "")],
    ] {
        refused(&exchange(&app, &token, &to, &more).await, 400, "invalid_request");
    }
    exchange(&app, &token, &to, &[("requested_token_type", ACCESS_TOKEN)]).await.expect(200);
}

/// "invalid_target" where the server "is unwilling or unable to issue a token" for it: tenants of others, suspended ones, and
/// those in which the person is disabled are one answer.
#[tokio::test]
async fn rfc8693_2_2_2_a_tenant_that_cannot_be_entered_is_no_target() {
    let app = acme().await;
    let (from, to) = (acme_id(&app).await, globex(&app).await);
    let foreign = app.tenant("Initech", "free").await;
    let token = login(&app, &owner(), &from).await.text("/access_token");
    let mut answers = Vec::new();
    for tenant in [&*foreign, "01900000-0000-7000-8000-000000000000"] {
        answers.push(exchange(&app, &token, tenant, &[]).await);
    }
    let admin = app.admin().await;
    admin.post(&format!("/admin/v1/tenants/{to}/suspend"), Value::Null).await.expect(200);
    answers.push(exchange(&app, &token, &to, &[]).await);
    admin.post(&format!("/admin/v1/tenants/{to}/activate"), Value::Null).await.expect(200);
    for answer in &answers {
        refused(answer, 400, "invalid_target");
        assert_eq!(answer.body, answers[0].body);
    }
    refused(&exchange(&app, &token, "not-an-id", &[]).await, 400, "invalid_target");
    for (name, value) in [("audience", "https://api.example"), ("resource", "https://api.example/")] {
        refused(&exchange(&app, &token, &to, &[(name, value)]).await, 400, "invalid_target");
    }
    exchange(&app, &token, &to, &[("audience", crate::browser::ISSUER)]).await.expect(200);
}

/// A client exchanges its own users' tokens, authenticated, once it has registered the grant.
#[tokio::test]
async fn rfc8693_2_1_a_client_exchanges_its_own_tokens_alone() {
    let app = acme().await;
    let (from, to) = (acme_id(&app).await, globex(&app).await);
    let grants = json!({"grant_types": ["authorization_code", EXCHANGE]});
    let (own, other) = (Client::web_with(&app, grants.clone()).await, Client::web_with(&app, grants).await);
    let token = own.tokens(&[("tenant", &from)]).await.text("/access_token");
    let ask = async |client: &Client<'_>, token: &str| {
        let fields = [
            ("grant_type", EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
            ("tenant", &*to),
        ];
        client.token(&fields).await
    };
    // What was allowed for one tenant says nothing of another.
    refused(&ask(&own, &token).await, 400, "invalid_target");
    own.tokens(&[("tenant", &to), ("scope", "openid")]).await;
    let switched = ask(&own, &token).await.expect(200);
    assert_eq!(claims(&switched, "access_token")["client_id"], own.id.as_str());
    assert_eq!(switched.text("/scope"), "openid", "as much as was allowed there");
    refused(&ask(&other, &token).await, 400, "invalid_request");
    refused(&exchange(&app, &token, &to, &[]).await, 400, "invalid_request");
    let direct = login(&app, &owner(), &from).await.text("/access_token");
    refused(&ask(&own, &direct).await, 400, "invalid_request");
    refused(&exchange(&app, &token, &to, &[("client_id", &own.id)]).await, 401, "invalid_client");
    let without = Client::web(&app).await;
    let token = without.tokens(&[("tenant", &from)]).await.text("/access_token");
    refused(&ask(&without, &token).await, 400, "unauthorized_client");
}

/// The new token has a session of its own, and ends with the one it came from.
#[tokio::test]
async fn rfc8693_a_switched_session_ends_by_itself_and_with_its_parent() {
    let app = acme().await;
    let (from, to) = (acme_id(&app).await, globex(&app).await);
    let first = login(&app, &owner(), &from).await.text("/access_token");
    let sid = |token: &str| part(token, 1)["sid"].as_str().unwrap().to_owned();
    let switch = async |token: &str| exchange(&app, token, &to, &[]).await.expect(200).text("/access_token");
    let (one, two) = (switch(&first).await, switch(&first).await);
    let three = switch(&two).await;
    let admin = app.admin().await;
    admin.delete(&format!("/admin/v1/sessions/{}", sid(&one))).await.expect(204);
    assert!(!opens(&app, &one).await && opens(&app, &two).await && opens(&app, &first).await);
    admin.delete(&format!("/admin/v1/sessions/{}", sid(&first))).await.expect(204);
    for token in [&first, &two, &three] {
        assert!(!opens(&app, token).await);
        refused(&exchange(&app, token, &to, &[]).await, 400, "invalid_request");
    }
}

/// A token of a tenant that is suspended opens nothing, and leads nowhere else.
#[tokio::test]
async fn rfc8693_2_2_2_a_token_of_a_suspended_tenant_is_no_subject() {
    let app = acme().await;
    let (from, to) = (acme_id(&app).await, globex(&app).await);
    let token = login(&app, &owner(), &from).await.text("/access_token");
    let admin = app.admin().await;
    admin.post(&format!("/admin/v1/tenants/{from}/suspend"), Value::Null).await.expect(200);
    refused(&exchange(&app, &token, &to, &[]).await, 400, "invalid_request");
    admin.post(&format!("/admin/v1/tenants/{from}/activate"), Value::Null).await.expect(200);
    exchange(&app, &token, &to, &[]).await.expect(200);
}

/// What a token could not do, none does that came of it: a narrowed one, and a member's, do not act in the role that their
/// person has elsewhere.
#[tokio::test]
async fn rfc8693_2_1_no_role_grows() {
    let app = acme().await;
    let (from, to) = (acme_id(&app).await, globex(&app).await);
    let first = login(&app, &owner(), &from).await;
    let whole = exchange(&app, &first.text("/access_token"), &to, &[]).await.expect(200);
    let narrowed = exchange(&app, &first.text("/access_token"), &to, &[("scope", "usage:read")]).await.expect(200);
    let users = async |token: &Reply| Actor { app: &app, token: token.text("/access_token") }.get("/v1/users").await;
    users(&whole).await.expect(200);
    users(&narrowed).await.refuses(403, &[]);
    let back = exchange(&app, &narrowed.text("/access_token"), &from, &[]).await.expect(200);
    users(&back).await.refuses(403, &[]);
}

/// A person who changes their password by a token that was switched stays signed in where they are.
#[tokio::test]
async fn rfc8693_a_switched_session_that_changes_the_password_goes_on() {
    let app = acme().await;
    let (from, to) = (acme_id(&app).await, globex(&app).await);
    let (first, other) = (login(&app, &owner(), &from).await, login(&app, &owner(), &from).await);
    let switched = exchange(&app, &first.text("/access_token"), &to, &[]).await.expect(200).text("/access_token");
    let sibling = exchange(&app, &first.text("/access_token"), &to, &[]).await.expect(200).text("/access_token");
    let change = json!({"current_password": PASSWORD, "new_password": "amber-Meadow-19-kites"});
    Actor { app: &app, token: switched.clone() }.post("/v1/me/password", change).await.expect(204);
    assert!(opens(&app, &switched).await && opens(&app, &first.text("/access_token")).await);
    assert!(!opens(&app, &other.text("/access_token")).await && !opens(&app, &sibling).await);
}
