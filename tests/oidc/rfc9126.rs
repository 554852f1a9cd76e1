//! RFC 9126, Pushed Authorization Requests.

use axum::http::header;
use serde_json::json;

use crate::{
    browser::{Browser, encoded, form_of, location, param},
    relying_party::{CALLBACK, CHALLENGE, Client, Fields, acme, assert_stored_nowhere, error_in, owner, post, refused},
    support::app::Reply,
};

const PATH: &str = "/oauth2/par";
const REQUEST: Fields<'static> = &[
    ("response_type", "code"),
    ("redirect_uri", CALLBACK),
    ("scope", "openid usage:read"),
    ("state", "pushed"),
    ("code_challenge", CHALLENGE),
    ("code_challenge_method", "S256"),
];

async fn push(client: &Client<'_>, more: Fields<'_>) -> Reply {
    let mut fields = REQUEST.to_vec();
    for (name, value) in more {
        fields.retain(|(own, _)| own != name);
        fields.push((name, value));
    }
    client.post(PATH, &fields).await
}

fn by_name(client: &Client<'_>, request_uri: &str) -> String {
    format!("/oauth2/authorize?{}", encoded(&[("client_id", &*client.id), ("request_uri", request_uri)]))
}

/// "the server MUST [...] return the HTTP 201 status code" with "request_uri" and "expires_in".
#[tokio::test]
async fn rfc9126_2_2_a_pushed_request_gets_a_name_and_a_life() {
    let app = acme().await;
    for client in [Client::web(&app).await, Client::public(&app).await] {
        let reply = push(&client, &[]).await.expect(201);
        assert_stored_nowhere(&reply.headers);
        assert!(reply.text("/request_uri").starts_with("urn:ietf:params:oauth:request_uri:"));
        assert_eq!(reply.text("/expires_in"), "90");
        let browser = Browser::signed_in(&app, &owner()).await;
        let page = browser.visit(&by_name(&client, &reply.text("/request_uri"))).await;
        let target = browser.allow(page).await;
        assert_eq!(param(&target, "state").unwrap(), "pushed");
        client.redeem(&param(&target, "code").unwrap()).await.expect(200);
    }
}

/// "The rules for client authentication as defined in RFC6749 for token endpoint requests [...] apply for the PAR endpoint."
#[tokio::test]
async fn rfc9126_2_the_client_authenticates() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let mut named = REQUEST.to_vec();
    named.push(("client_id", &client.id));
    refused(&post(&app, PATH, &named, None).await, 401, "invalid_client");
    refused(&post(&app, PATH, REQUEST, None).await, 401, "invalid_client");
    refused(&push(&client, &[("client_id", "another")]).await, 400, "invalid_request");
}

/// "Validate the pushed request as it would an authorization request sent to the authorization endpoint"; "The "request_uri"
/// authorization request parameter MUST NOT be provided in this case."
#[tokio::test]
async fn rfc9126_2_1_a_bad_request_is_refused_when_it_is_pushed() {
    let app = acme().await;
    let (client, public) = (Client::web(&app).await, Client::public(&app).await);
    for (more, error) in [
        ([("request_uri", "urn:ietf:params:oauth:request_uri:x")], "invalid_request"),
        ([("redirect_uri", "https://evil.example/")], "invalid_request"),
        ([("response_type", "token")], "unsupported_response_type"),
        ([("scope", "tollgate:admin")], "invalid_scope"),
        ([("code_challenge_method", "plain")], "invalid_request"),
        ([("prompt", "none login")], "invalid_request"),
        ([("max_age", "soon")], "invalid_request"),
        ([("request", "a.b.c")], "request_not_supported"),
    ] {
        refused(&push(&client, &more).await, 400, error);
    }
    refused(&push(&public, &[("code_challenge", ""), ("code_challenge_method", "")]).await, 400, "invalid_request");
}

/// "the request_uri [...] MUST be bound to the client that posted the authorization request."
#[tokio::test]
async fn rfc9126_2_2_a_name_is_its_clients_alone() {
    let app = acme().await;
    let (own, other) = (Client::web(&app).await, Client::web(&app).await);
    let name = push(&own, &[]).await.expect(201).text("/request_uri");
    let browser = Browser::signed_in(&app, &owner()).await;
    browser.get(&by_name(&other, &name)).await.expect(400);
    browser.get(&by_name(&own, &name)).await.expect(200);
}

/// "the authorization server SHOULD treat "request_uri" values as one-time use".
#[tokio::test]
async fn rfc9126_4_a_name_works_once_and_for_ninety_seconds() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let once = push(&client, &[]).await.expect(201).text("/request_uri");
    browser.get(&by_name(&client, &once)).await.expect(200);
    let again = browser.get(&by_name(&client, &once)).await.expect(400);
    assert!(again.headers.get(header::LOCATION).is_none());
    let late = push(&client, &[]).await.expect(201).text("/request_uri");
    app.clock.advance_secs(90);
    browser.get(&by_name(&client, &late)).await.expect(400);
    browser.get(&by_name(&client, "urn:ietf:params:oauth:request_uri:made-up")).await.expect(400);
    // A name of somewhere else is never fetched.
    let elsewhere = location(&browser.get(&client.request(&[("request_uri", "https://evil.example/r")])).await);
    assert_eq!(error_in(&elsewhere), "request_uri_not_supported");
}

/// "the authorization server MUST only use the parameters" of the pushed request: what stands beside its name counts for
/// nothing (RFC 9101 section 6.3).
#[tokio::test]
async fn rfc9126_4_what_stands_beside_the_name_counts_for_nothing() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let name = push(&client, &[]).await.expect(201).text("/request_uri");
    let browser = Browser::signed_in(&app, &owner()).await;
    let uri = format!("{}&scope=usage:write&state=other&redirect_uri=https://evil.example/", by_name(&client, &name));
    let target = browser.allow(browser.get(&uri).await).await;
    assert_eq!(param(&target, "state").unwrap(), "pushed");
    let tokens = client.redeem(&param(&target, "code").unwrap()).await.expect(200);
    assert_eq!(tokens.text("/scope"), "openid usage:read");
}

/// "require_pushed_authorization_requests: Boolean parameter indicating whether the only means of initiating an authorization
/// request the client is allowed to use is PAR."
#[tokio::test]
async fn rfc9126_6_a_client_that_pushes_is_answered_by_no_other_request() {
    let app = acme().await;
    let client = Client::web_with(&app, json!({"require_pushed_authorization_requests": true})).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    assert_eq!(error_in(&location(&browser.get(&client.request(&[])).await)), "invalid_request");
    // A sign-in on the way does not lose the request, and nobody can change it on the way.
    let name = push(&client, &[]).await.expect(201).text("/request_uri");
    let browser = Browser::new(&app);
    let sign_in = browser.visit(&by_name(&client, &name)).await.expect(200);
    let back = browser.submit_sign_in(&sign_in, &owner()).await;
    let back = back.headers[header::LOCATION].to_str().unwrap().to_owned();
    let changed = browser.get(&back.replace("usage%3Aread", "usage%3Awrite")).await;
    assert_eq!(error_in(&location(&changed)), "invalid_request");
    let page = browser.get(&back).await.expect(200);
    let form = form_of(&page);
    let changed = browser.submit(&form.with("scope", "usage:write"), Some(("decision", "allow"))).await;
    assert_eq!(error_in(&location(&changed)), "invalid_request");
    let target = location(&browser.submit(&form, Some(("decision", "allow"))).await);
    client.redeem(&param(&target, "code").unwrap()).await.expect(200);
}

/// Section 2.3: "413 Payload Too Large: if the request size was beyond the upper bound that the authorization server allows".
#[tokio::test]
async fn rfc9126_2_3_a_request_that_is_too_large_gets_413() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let large = "x".repeat(70_000);
    refused(&push(&client, &[("state", &large)]).await, 413, "invalid_request");
}

/// "If the request did not use the POST method, the authorization server responds with an HTTP 405 (Method Not Allowed)."
#[tokio::test]
async fn rfc9126_2_3_another_method_gets_405_in_the_shape_of_oauth() {
    let app = acme().await;
    for path in ["par", "token", "introspect", "revoke", "register", "device_authorization"] {
        let refusal = app.anon().get(&format!("/oauth2/{path}")).await;
        refused(&refusal, 405, "invalid_request");
        assert_eq!(refusal.headers[header::ALLOW], "POST", "{path}");
    }
}

/// Section 4, "one-time use": of a pushed request comes one code, however often its form is sent, at once or later.
#[tokio::test]
async fn rfc9126_4_a_pushed_request_gives_one_code() {
    let app = acme().await;
    for more in [json!({}), json!({"require_pushed_authorization_requests": true})] {
        let client = Client::web_with(&app, more).await;
        let browser = Browser::signed_in(&app, &owner()).await;
        let name = push(&client, &[]).await.expect(201).text("/request_uri");
        let form = form_of(&browser.get(&by_name(&client, &name)).await.expect(200));
        let allow = || browser.submit(&form, Some(("decision", "allow")));
        let mut statuses: Vec<_> = futures_util::future::join_all((0..5).map(|_| allow())).await;
        statuses.push(allow().await);
        let given = statuses.iter().filter(|reply| reply.status == 303).count();
        assert_eq!(given, 1);
        assert!(statuses.iter().all(|reply| [303, 400].contains(&reply.status.as_u16())));
        // Nor does the request that a sign-in leads back to.
        let name = push(&client, &[]).await.expect(201).text("/request_uri");
        let other = Browser::new(&app);
        let back = param(&location(&other.get(&by_name(&client, &name)).await), "return_to").unwrap();
        assert!(param(&location(&browser.get(&back).await), "code").is_some());
        browser.get(&back).await.expect(400);
        // The same request, pushed once more, is another one.
        let name = push(&client, &[]).await.expect(201).text("/request_uri");
        assert!(param(&location(&browser.get(&by_name(&client, &name)).await), "code").is_some());
    }
}
