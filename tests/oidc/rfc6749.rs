//! RFC 6749, The OAuth 2.0 Authorization Framework: the authorization code grant and refresh.

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use serde_json::json;

use crate::{
    browser::{Browser, location, param, text},
    relying_party::{CALLBACK, Client, VERIFIER, acme, assert_stored_nowhere, error_in, opens, owner, post, refused},
    support::app::TestApp,
};

/// "Parameters sent without a value MUST be treated as if they were omitted."
#[tokio::test]
async fn rfc6749_3_1_a_parameter_without_a_value_is_as_good_as_absent() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let uri = format!("{}&response_mode=&prompt=&max_age=&nonce=", client.request(&[]));
    let target = browser.allow(browser.visit(&uri).await).await;
    client.redeem(&param(&target, "code").unwrap()).await.expect(200);
}

/// "The authorization server MUST ignore unrecognized request parameters."
#[tokio::test]
async fn rfc6749_3_1_unknown_parameters_are_ignored() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let more = [("color", "blue"), ("ui_locales", "fr"), ("acr_values", "x"), ("claims", "{}"), ("display", "touch")];
    let browser = Browser::signed_in(&app, &owner()).await;
    let code = client.code(&browser, &more).await;
    client.redeem_with(&code, &[("color", "blue")]).await.expect(200);
}

/// "Request and response parameters MUST NOT be included more than once."
#[tokio::test]
async fn rfc6749_3_1_a_parameter_given_twice_is_refused_at_every_endpoint() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let page = browser.get(&format!("{}&state=other", client.request(&[]))).await.expect(400);
    assert!(page.headers.get(header::LOCATION).is_none());
    browser.get("/oauth2/logout?state=a&state=b").await.expect(400);
    for path in ["token", "introspect", "revoke", "par", "device_authorization"] {
        let twice = [("token", "a"), ("token", "b"), ("grant_type", "client_credentials")];
        refused(&client.post(&format!("/oauth2/{path}"), &twice).await, 400, "invalid_request");
    }
}

/// "The authorization server MUST support the use of the HTTP "GET" method [...] and MAY support the use of the "POST"
/// method as well."
#[tokio::test]
async fn rfc6749_3_1_authorization_is_asked_for_by_get_and_by_post() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let uri = client.request(&[]);
    let form = uri.split_once('?').unwrap().1.to_owned();
    // From another site: the request is the client's, the decision is ours.
    let headers = [("origin", "https://app.example"), ("sec-fetch-site", "cross-site")];
    let page = browser.request(Method::POST, "/oauth2/authorize", Some(form), &headers).await;
    assert!(param(&browser.allow(page).await, "code").is_some());
}

/// "If an authorization request is missing the 'response_type' parameter, or if the response type is not understood, the
/// authorization server MUST return an error response as described in Section 4.1.2.1."
#[tokio::test]
async fn rfc6749_3_1_1_the_response_type_is_code() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::new(&app);
    for (given, error) in [
        ("", "invalid_request"),
        ("token", "unsupported_response_type"),
        ("code id_token", "unsupported_response_type"),
        ("CODE", "unsupported_response_type"),
    ] {
        let target = location(&browser.get(&client.request(&[("response_type", given)])).await);
        assert_eq!(error_in(&target), error, "{given}");
    }
}

/// "The endpoint URI MAY include an 'application/x-www-form-urlencoded' formatted query component, which MUST be retained
/// when adding additional query parameters."
#[tokio::test]
async fn rfc6749_3_1_2_the_query_of_a_redirect_uri_is_retained() {
    let app = acme().await;
    let with_query = "https://app.example/cb?shop=7&x=a%20b";
    let client = Client::web_with(&app, json!({"redirect_uris": [with_query]})).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let target = client.authorize(&browser, &[("redirect_uri", with_query)]).await;
    assert!(target.as_str().starts_with("https://app.example/cb?shop=7&x=a%20b&code="), "{target}");
}

/// "If multiple redirection URIs have been registered [...] the client MUST include a redirection URI with the authorization
/// request."
#[tokio::test]
async fn rfc6749_3_1_2_3_which_of_several_redirect_uris_must_be_said() {
    let app = acme().await;
    let client = Client::web_with(&app, json!({"redirect_uris": [CALLBACK, "https://app.example/other"]})).await;
    let request = client.request(&[("redirect_uri", ""), ("scope", "usage:read")]);
    Browser::new(&app).get(&request).await.expect(400);
}

/// "the authorization server SHOULD inform the resource owner of the error and MUST NOT automatically redirect the user-agent
/// to the invalid redirection URI."
#[tokio::test]
async fn rfc6749_3_1_2_4_nobody_is_redirected_to_an_address_that_is_not_registered() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    for bad in ["https://evil.example/cb", "https://app.example/cb/", "https://app.example/cb?x", "javascript:alert(1)"]
    {
        let page =
            browser.get(&client.request(&[("redirect_uri", bad), ("response_type", "nonsense")])).await.expect(400);
        assert!(page.headers.get(header::LOCATION).is_none() && !text(&page).contains("evil.example"), "{bad}");
    }
    for id in ["", "nobody", "01900000-0000-7000-8000-000000000000"] {
        browser.get(&client.request(&[("client_id", id)])).await.expect(400);
    }
}

/// "The client MUST use the HTTP "POST" method when making access token requests."
#[tokio::test]
async fn rfc6749_3_2_tokens_are_asked_for_by_post_and_by_form() {
    let app = acme().await;
    let client = Client::machine(&app).await;
    let refusal = app.anon().get("/oauth2/token?grant_type=client_credentials").await;
    refused(&refusal, 405, "invalid_request");
    assert_eq!(refusal.headers[header::ALLOW], "POST");
    let as_json = Request::post("/oauth2/token")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, client.basic().unwrap())
        .body(Body::from(json!({"grant_type": "client_credentials"}).to_string()));
    refused(&app.send(as_json.unwrap()).await, 400, "invalid_request");
}

/// "scope-token = 1*( %x21 / %x23-5B / %x5D-7E )", separated by single spaces.
#[tokio::test]
async fn rfc6749_3_3_a_scope_is_written_as_the_grammar_has_it() {
    let app = acme().await;
    let (client, machine) = (Client::web(&app).await, Client::machine(&app).await);
    for bad in
        ["usage:read  usage:write", " usage:read", "usage:read\tusage:write", "\"usage:read\"", "usage\\read", "é"]
    {
        let target = location(&Browser::new(&app).get(&client.request(&[("scope", bad)])).await);
        assert_eq!(error_in(&target), "invalid_scope", "{bad:?}");
        let reply = machine.token(&[("grant_type", "client_credentials"), ("scope", bad)]).await;
        refused(&reply, 400, "invalid_scope");
    }
}

/// "If the issued access token scope is different from the one requested by the client, the authorization server MUST include
/// the 'scope' response parameter."
#[tokio::test]
async fn rfc6749_3_3_the_answer_says_what_was_granted() {
    let app = acme().await;
    let owner_of = app.owner_of("Acme").await;
    let member = json!({"email": "ann@acme.example", "role": "member", "password": crate::support::actors::PASSWORD});
    owner_of.post("/v1/users", member).await.expect(201);
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, "ann@acme.example").await;
    let code = client.code(&browser, &[("scope", "openid usage:read usage:write")]).await;
    assert_eq!(client.redeem(&code).await.expect(200).text("/scope"), "openid usage:read");
}

/// "REQUIRED if the 'state' parameter was present in the client authorization request. The exact value received from the
/// client."
#[tokio::test]
async fn rfc6749_4_1_2_state_comes_back_exactly() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    for state in ["a b+c%20&=?#/", "ünïcode ✓", "\"<script>\"", "  spaces  "] {
        let target = client.authorize(&browser, &[("state", state)]).await;
        assert_eq!(param(&target, "state").unwrap(), state);
        let refused = location(&browser.get(&client.request(&[("state", state), ("prompt", "x")])).await);
        assert_eq!(param(&refused, "state").unwrap(), state);
    }
    assert!(param(&client.authorize(&browser, &[("state", "")]).await, "state").is_none());
}

/// "The authorization code MUST expire shortly after it is issued": 60 seconds here.
#[tokio::test]
async fn rfc6749_4_1_2_a_code_expires() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let (first, second) = (client.code(&browser, &[]).await, client.code(&browser, &[]).await);
    app.clock.advance_secs(59);
    client.redeem(&first).await.expect(200);
    app.clock.advance_secs(1);
    refused(&client.redeem(&second).await, 400, "invalid_grant");
}

/// "If an authorization code is used more than once, the authorization server MUST deny the request and SHOULD revoke (when
/// possible) all tokens previously issued based on that authorization code."
#[tokio::test]
async fn rfc6749_4_1_2_a_second_use_of_a_code_revokes_what_the_first_gave() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let code = client.code(&browser, &[]).await;
    let first = client.redeem(&code).await.expect(200);
    assert!(opens(&app, &first.text("/access_token")).await);
    refused(&client.redeem(&code).await, 400, "invalid_grant");
    assert!(!opens(&app, &first.text("/access_token")).await);
    refused(&client.refresh(&first.text("/refresh_token"), &[]).await, 400, "invalid_grant");
    assert_eq!(client.introspect(&first.text("/access_token")).await, json!({"active": false}));
}

/// "access_denied: The resource owner or authorization server denied the request."
#[tokio::test]
async fn rfc6749_4_1_2_1_a_person_says_no() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let page = browser.get(&client.request(&[])).await.expect(200);
    let form = crate::browser::form_of(&page);
    let target = location(&browser.submit(&form, Some(("decision", "deny"))).await);
    assert_eq!(error_in(&target), "access_denied");
    assert_eq!(param(&target, "state").unwrap(), "af0ifjsldkj");
    assert!(param(&target, "code").is_none());
}

/// "invalid_scope: The requested scope is invalid, unknown, or malformed."
#[tokio::test]
async fn rfc6749_4_1_2_1_scope_beyond_what_was_registered_is_refused() {
    let app = acme().await;
    let client = Client::web_with(&app, json!({"scope": "openid usage:read"})).await;
    for scope in ["openid usage:write", "tollgate:admin", "everything"] {
        let target = location(&Browser::new(&app).get(&client.request(&[("scope", scope)])).await);
        assert_eq!(error_in(&target), "invalid_scope", "{scope}");
    }
}

/// "unauthorized_client: The client is not authorized to request an authorization code using this method."
#[tokio::test]
async fn rfc6749_4_1_2_1_a_client_without_the_grant_gets_no_code() {
    let app = acme().await;
    let more = json!({"grant_types": ["urn:ietf:params:oauth:grant-type:device_code"]});
    let client = Client::web_with(&app, more).await;
    let target = location(&Browser::new(&app).get(&client.request(&[])).await);
    assert_eq!(error_in(&target), "unauthorized_client");
    refused(&client.redeem("anything").await, 400, "unauthorized_client");
}

/// "redirect_uri: REQUIRED, if the 'redirect_uri' parameter was included in the authorization request [...] and their values
/// MUST be identical."
#[tokio::test]
async fn rfc6749_4_1_3_redirect_uri_must_be_identical() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let code = client.code(&browser, &[]).await;
    for other in
        ["", "https://app.example/cb/", "https://app.example/CB", "https://app.example/cb?", "https://evil.example/cb"]
    {
        refused(&client.redeem_with(&code, &[("redirect_uri", other)]).await, 400, "invalid_grant");
    }
    // Whoever guessed wrong has not used the code up.
    client.redeem(&code).await.expect(200);
}

/// The same: it may be left out when the authorization request left it out.
#[tokio::test]
async fn rfc6749_4_1_3_redirect_uri_may_be_omitted_when_it_was_omitted() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let plain = [("redirect_uri", ""), ("scope", "usage:read")];
    let code = client.code(&browser, &plain).await;
    client.redeem_with(&code, &[("redirect_uri", "")]).await.expect(200);
    let code = client.code(&browser, &plain).await;
    refused(&client.redeem_with(&code, &[("redirect_uri", "https://evil.example/")]).await, 400, "invalid_grant");
    client.redeem(&code).await.expect(200);
}

/// "ensure that the authorization code was issued to the authenticated confidential client, or if the client is public,
/// ensure that the code was issued to 'client_id' in the request"
#[tokio::test]
async fn rfc6749_4_1_3_a_code_is_its_clients_alone() {
    let app = acme().await;
    let (own, other, public) = (Client::web(&app).await, Client::web(&app).await, Client::public(&app).await);
    let browser = Browser::signed_in(&app, &owner()).await;
    let code = own.code(&browser, &[]).await;
    for thief in [&other, &public] {
        refused(&thief.redeem(&code).await, 400, "invalid_grant");
    }
    // A thief who is refused does not harm whose it is.
    own.redeem(&code).await.expect(200);
}

/// "require client authentication for confidential clients or for any client that was issued client credentials"
#[tokio::test]
async fn rfc6749_4_1_3_a_confidential_client_must_authenticate() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let code = client.code(&browser, &[]).await;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("client_id", client.id.as_str()),
    ];
    refused(&post(&app, "/oauth2/token", &fields, None).await, 401, "invalid_client");
    client.redeem(&code).await.expect(200);
}

/// "The authorization server MUST include the HTTP "Cache-Control" response header field with a value of "no-store" [...] as
/// well as the "Pragma" response header field with a value of "no-cache"."
#[tokio::test]
async fn rfc6749_5_1_no_cache_keeps_a_token_or_an_error() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let tokens = client.tokens(&[]).await;
    assert_stored_nowhere(&tokens.headers);
    let (access, refresh) = (tokens.text("/access_token"), tokens.text("/refresh_token"));
    assert_stored_nowhere(&client.refresh(&refresh, &[]).await.expect(200).headers);
    assert_stored_nowhere(&client.post("/oauth2/introspect", &[("token", &access)]).await.expect(200).headers);
    assert_stored_nowhere(&client.post("/oauth2/revoke", &[("token", "x")]).await.expect(200).headers);
    assert_stored_nowhere(&client.token(&[]).await.expect(400).headers);
    let names: Vec<&String> = tokens.body.as_object().unwrap().keys().collect();
    assert_eq!(names, ["access_token", "token_type", "expires_in", "refresh_token", "id_token", "scope", "tenant_id"]);
}

/// "The authorization server MAY issue a new refresh token, in which case the client MUST discard the old refresh token":
/// here always.
#[tokio::test]
async fn rfc6749_6_a_refresh_token_is_replaced_each_time_for_public_clients_too() {
    let app = acme().await;
    for client in [Client::web(&app).await, Client::public(&app).await] {
        let mut tokens = client.tokens(&[]).await;
        for _ in 0..3 {
            let next = client.refresh(&tokens.text("/refresh_token"), &[]).await.expect(200);
            assert_ne!(next.text("/refresh_token"), tokens.text("/refresh_token"));
            app.clock.advance_secs(11);
            assert!(opens(&app, &next.text("/access_token")).await);
            tokens = next;
        }
    }
}

/// "The requested scope MUST NOT include any scope not originally granted by the resource owner, and if omitted is treated as
/// equal to the scope originally granted."
#[tokio::test]
async fn rfc6749_6_a_refresh_asks_for_the_same_scope_or_less() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let tokens = client.tokens(&[]).await;
    let refresh = tokens.text("/refresh_token");
    refused(&client.refresh(&refresh, &[("scope", "usage:read usage:write")]).await, 400, "invalid_scope");
    let narrow = client.refresh(&refresh, &[("scope", "usage:read")]).await.expect(200);
    assert_eq!(narrow.text("/scope"), "usage:read");
    assert!(narrow.body.get("id_token").is_none(), "openid was left out");
    let whole = client.refresh(&narrow.text("/refresh_token"), &[]).await.expect(200);
    assert_eq!(whole.text("/scope"), tokens.text("/scope"));
}

/// "the authorization server MUST maintain the binding between a refresh token and the client to whom it was issued"
#[tokio::test]
async fn rfc6749_6_a_refresh_token_is_its_clients_alone() {
    let app = acme().await;
    let own = Client::web(&app).await;
    let refresh = own.tokens(&[]).await.text("/refresh_token");
    for thief in [Client::web(&app).await, Client::public(&app).await] {
        refused(&thief.refresh(&refresh, &[]).await, 400, "invalid_grant");
    }
    // Without saying who: our own client's users hold no such token.
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    refused(&post(&app, "/oauth2/token", &fields, None).await, 400, "invalid_grant");
    let named = [fields[0], fields[1], ("client_id", own.id.as_str())];
    refused(&post(&app, "/oauth2/token", &named, None).await, 401, "invalid_client");
    own.refresh(&refresh, &[]).await.expect(200);
}

/// A first-party refresh token is not a client's.
#[tokio::test]
async fn rfc6749_6_a_token_of_a_direct_sign_in_is_no_clients() {
    let app = acme().await;
    let body = json!({"email": owner(), "password": crate::support::actors::PASSWORD});
    let login = app.anon().post("/v1/login", body).await.expect(200);
    let client = Client::web(&app).await;
    refused(&client.refresh(&login.text("/refresh_token"), &[]).await, 400, "invalid_grant");
}

/// A client that is deleted has no tokens any more, nor have its users with it.
#[tokio::test]
async fn rfc6749_2_a_deleted_clients_tokens_are_dead_at_once() {
    let app = acme().await;
    let (client, other) = (Client::web(&app).await, Client::web(&app).await);
    let (tokens, of_other) = (client.tokens(&[]).await, other.tokens(&[]).await);
    let browser = Browser::signed_in(&app, &owner()).await;
    let code = client.code(&browser, &[]).await;
    app.admin().await.delete(&format!("/admin/v1/clients/{}", client.id)).await.expect(204);
    assert!(!opens(&app, &tokens.text("/access_token")).await && opens(&app, &of_other.text("/access_token")).await);
    assert_eq!(other.introspect(&tokens.text("/refresh_token")).await, json!({"active": false}));
    refused(&client.refresh(&tokens.text("/refresh_token"), &[]).await, 401, "invalid_client");
    refused(&client.redeem(&code).await, 401, "invalid_client");
    browser.get(&client.request(&[])).await.expect(400);
}

/// A suspended tenant and a disabled user stop a client on its next request.
#[tokio::test]
async fn rfc6749_6_a_refresh_looks_again_whether_the_person_may() {
    let app = TestApp::new().await;
    let tenant = app.tenant("Acme", "standard").await;
    let client = Client::web(&app).await;
    let tokens = client.tokens(&[]).await;
    let admin = app.admin().await;
    admin.post(&format!("/admin/v1/tenants/{tenant}/suspend"), serde_json::Value::Null).await.expect(200);
    assert!(!opens(&app, &tokens.text("/access_token")).await);
    refused(&client.refresh(&tokens.text("/refresh_token"), &[]).await, 400, "invalid_grant");
    assert_eq!(client.introspect(&tokens.text("/access_token")).await, json!({"active": false}));
    let browser = Browser::signed_in(&app, &owner()).await;
    assert_eq!(error_in(&location(&browser.visit(&client.request(&[])).await)), "access_denied");
}

/// "Values for the "error_description" parameter MUST NOT include characters outside the set %x20-21 / %x23-5B / %x5D-7E."
#[tokio::test]
async fn rfc6749_5_2_a_description_is_plain_whatever_the_caller_sent() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let plain = |text: &str| text.bytes().all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    let twice = [("\"é\\\n", "1"), ("\"é\\\n", "2")];
    for path in ["/oauth2/token", "/oauth2/par", "/oauth2/introspect", "/oauth2/revoke", "/oauth2/userinfo"] {
        let reply = client.post(path, &twice).await;
        refused(&reply, 400, "invalid_request");
        let text = reply.text("/error_description");
        assert!(plain(&text) && text.contains("given twice"), "{text}");
    }
    let token =
        app.admin().await.post("/admin/v1/clients/initial-access-tokens", serde_json::json!({})).await.expect(201);
    let metadata = serde_json::json!({"grant_types": ["\"é\\"], "redirect_uris": ["é\""], "client_name": {"\"é": 1}});
    let reply =
        app.call(axum::http::Method::POST, "/oauth2/register", &token.text("/initial_access_token"), metadata).await;
    assert_eq!(reply.status, 400);
    assert!(plain(&reply.text("/error_description")), "{}", reply.body);
    // And in an address (section 4.1.2.1).
    let browser = Browser::signed_in(&app, &owner()).await;
    let target = location(&browser.get(&client.request(&[("scope", "openid \"é\\")])).await);
    assert!(plain(&param(&target, "error_description").unwrap()), "{target}");
}
