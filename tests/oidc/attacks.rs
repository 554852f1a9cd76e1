//! What attackers do, and what comes of it.

use axum::http::{Method, header};
use serde_json::{Value, json};

use crate::{
    browser::{Browser, ISSUER, encoded, form_of, location, param, text},
    relying_party::{Client, acme, challenge_of, error_in, opens, owner, post, refused},
    support::actors::PASSWORD,
};

const CROSS: [(&str, &str); 2] = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];

/// Mix-up: an answer names its issuer, and a code of another client is worth nothing (RFC 9700 section 4.4).
#[tokio::test]
async fn a_mixed_up_client_can_tell_who_answered_and_a_thief_gets_nothing_for_the_code() {
    let app = acme().await;
    let (honest, evil) = (Client::web(&app).await, Client::web(&app).await);
    let browser = Browser::signed_in(&app, &owner()).await;
    let target = honest.authorize(&browser, &[]).await;
    assert_eq!(param(&target, "iss").unwrap(), ISSUER);
    refused(&evil.redeem(&param(&target, "code").unwrap()).await, 400, "invalid_grant");
    honest.redeem(&param(&target, "code").unwrap()).await.expect(200);
}

/// Code injection: a stolen code, put into another session of the same client, meets another verifier (RFC 9700 section 4.5).
#[tokio::test]
async fn an_injected_code_meets_another_verifier() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let victim = Browser::signed_in(&app, &owner()).await;
    let stolen = client.code(&victim, &[("code_challenge", &challenge_of(&"v".repeat(43)))]).await;
    refused(&client.redeem(&stolen).await, 400, "invalid_grant");
    // A client that uses no challenge has sent none: neither has the code.
    let bare = client.code(&victim, &[("code_challenge", ""), ("code_challenge_method", "")]).await;
    refused(&client.redeem(&bare).await, 400, "invalid_grant");
}

/// The decision comes from our own page, made for this browser (RFC 6749 section 10.12).
#[tokio::test]
async fn no_other_site_decides_for_a_person() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let other = Browser::signed_in(&app, &owner()).await;
    let form = form_of(&browser.get(&client.request(&[])).await.expect(200));
    let decided = |form_token: &str| {
        let mut form = form.with("form_token", form_token);
        form.fields.push(("decision".into(), "allow".into()));
        encoded(&form.fields)
    };
    let token = form.value("form_token").unwrap().to_owned();
    let path = "/oauth2/authorize";
    browser.request(Method::POST, path, Some(decided(&token)), &CROSS).await.expect(403);
    browser.request(Method::POST, path, Some(decided(&token)), &[("origin", "null")]).await.expect(403);
    let hidden = [("origin", "null"), ("sec-fetch-site", "cross-site")];
    browser.request(Method::POST, path, Some(decided(&token)), &hidden).await.expect(403);
    browser.request(Method::POST, path, Some(decided("")), &[]).await.expect(403);
    browser.request(Method::POST, path, Some(decided("guess")), &[]).await.expect(403);
    other.request(Method::POST, path, Some(decided(&token)), &[]).await.expect(403);
    // Nor by a link.
    let link = format!("{}&decision=allow&form_token={token}", client.request(&[]));
    let page = browser.get(&link).await.expect(200);
    assert!(text(&page).contains("Allow access?"));
    let target = location(&browser.submit(&form_of(&page), Some(("decision", "allow"))).await);
    assert!(param(&target, "code").is_some());
}

/// Fetch, "append a request Origin header": pages whose browser tells nobody where they are have the origin "null".
#[tokio::test]
async fn a_browser_that_keeps_its_origin_to_itself_decides_by_what_it_says_of_the_site() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let mut form = form_of(&browser.get(&client.request(&[])).await.expect(200));
    form.fields.push(("decision".into(), "allow".into()));
    let quiet = [("origin", "null"), ("sec-fetch-site", "same-origin")];
    let reply = browser.request(Method::POST, "/oauth2/authorize", Some(encoded(&form.fields)), &quiet).await;
    assert!(param(&location(&reply), "code").is_some());
}

/// A sign-in is not sent from another site, so that nobody is signed in as somebody else unawares.
#[tokio::test]
async fn no_other_site_signs_a_person_in() {
    let app = acme().await;
    let browser = Browser::new(&app);
    let fields = encoded(&[("email", &*owner()), ("password", PASSWORD)]);
    browser.request(Method::POST, "/login", Some(fields), &CROSS).await.expect(403);
    assert!(!browser.has_cookie());
}

/// The cookie is new with each sign-in, and one that was planted opens nothing (session fixation).
#[tokio::test]
async fn a_planted_cookie_is_worth_nothing() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let planted = [("cookie", "tollgate_browser=planted")];
    let reply = Browser::new(&app).request(Method::GET, &client.request(&[]), None, &planted).await;
    assert_eq!(location(&reply).path(), "/login");
    let browser = Browser::new(&app);
    let page = browser.get("/login").await.expect(200);
    let reply = browser.submit_sign_in(&page, &owner()).await;
    let cookie = reply.headers[header::SET_COOKIE].to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("planted"));
}

/// A sign-in leads on to paths of ours alone (open redirect).
#[tokio::test]
async fn a_sign_in_leads_nobody_away() {
    let app = acme().await;
    for target in [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/%0d%0aSet-Cookie:x=y",
        "http:evil.example",
        "/\t/evil.example",
    ] {
        let browser = Browser::new(&app);
        let page = browser.get(&format!("/login?{}", encoded(&[("return_to", target)]))).await.expect(200);
        let led_to = location(&browser.submit_sign_in(&page, &owner()).await);
        assert_eq!(led_to.origin().ascii_serialization(), ISSUER, "{target}");
    }
}

/// Nothing that a client says of itself or of a request is markup on our pages.
#[tokio::test]
async fn no_text_of_a_client_is_markup() {
    let app = acme().await;
    let client = Client::web_with(&app, json!({"client_name": "<script>alert(1)</script>"})).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let evil = "\"><script>alert(2)</script>";
    let page = browser.get(&client.request(&[("state", evil), ("nonce", evil), ("color", evil)])).await.expect(200);
    assert!(!text(&page).contains("<script"));
    assert!(!text(&browser.get(&format!("/device?user_code={}", encoded(&[("x", evil)]))).await).contains("<script>"));
    let target = location(&browser.submit(&form_of(&page), Some(("decision", "allow"))).await);
    assert_eq!(param(&target, "state").unwrap(), evil);
}

/// One kind of token is not another: as bearer, as refresh token, as code, as subject, as hint.
#[tokio::test]
async fn no_token_stands_for_another_kind() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let tokens = client.tokens(&[]).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let code = client.code(&browser, &[]).await;
    let (access, refresh, id) = (tokens.text("/access_token"), tokens.text("/refresh_token"), tokens.text("/id_token"));
    for wrong in [&refresh, &id, &code] {
        assert!(!opens(&app, wrong).await);
    }
    for wrong in [&access, &id, &code] {
        refused(&client.refresh(wrong, &[]).await, 400, "invalid_grant");
    }
    for wrong in [&access, &id, &refresh] {
        refused(&client.redeem(wrong).await, 400, "invalid_grant");
    }
    for wrong in [&access, &refresh, &code] {
        let target = location(&browser.get(&client.request(&[("id_token_hint", wrong)])).await);
        assert_eq!(error_in(&target), "invalid_request");
    }
    assert_eq!(client.introspect(&code).await, json!({"active": false}));
    client.redeem(&code).await.expect(200);
}

/// What a token costs to guess does not depend on the endpoint: garbage of every shape is a plain refusal.
#[tokio::test]
async fn garbage_is_refused_and_breaks_nothing() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let huge = "x".repeat(20_000);
    for garbage in ["", " ", "..", "é€𝄞", "%00", "\u{202e}", &huge, "eyJhbGciOiJub25lIn0.e30."] {
        let reply = client.refresh(garbage, &[]).await;
        assert!([400].contains(&reply.status.as_u16()), "{garbage}: {}", reply.status);
        let reply = client.redeem_with("x", &[("code", garbage)]).await;
        assert_eq!(reply.status, 400, "{garbage}");
        if !garbage.is_empty() {
            assert_eq!(client.introspect(garbage).await, json!({"active": false}));
            client.post("/oauth2/revoke", &[("token", garbage)]).await.expect(200);
        }
    }
    let too_large = "x".repeat(70_000);
    refused(&client.post("/oauth2/token", &[("code", &too_large)]).await, 400, "invalid_request");
    refused(
        &post(&app, "/oauth2/token", &[("grant_type", "client_credentials")], Some("Basic")).await,
        401,
        "invalid_client",
    );
}

/// A tenant's client lets in its tenant's people alone.
#[tokio::test]
async fn a_tenants_client_lets_nobody_else_in() {
    let app = acme().await;
    app.tenant("Globex", "standard").await;
    let body = json!({"redirect_uris": ["https://app.example/cb"], "id_token_signed_response_alg": "ES256"});
    let made = app.owner_of("Acme").await.post("/v1/clients", body).await.expect(201);
    let client = Client { app: &app, id: made.text("/client_id"), secret: Some(made.text("/client_secret")) };
    let stranger = Browser::signed_in(&app, &crate::support::actors::email_of("Globex")).await;
    assert_eq!(error_in(&location(&stranger.get(&client.request(&[])).await)), "access_denied");
    client.tokens(&[]).await;
}

/// What people allow a client is a scope, and none covers what their role may do or what is their own: RFC 9700 section 2.3,
/// "The privileges associated with an access token SHOULD be restricted to the minimum required".
#[tokio::test]
async fn a_client_of_an_owner_does_not_act_as_the_owner() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let token = client.tokens(&[("scope", "openid profile email offline_access usage:read usage:write")]).await;
    let token = token.text("/access_token");
    let call = async |method: Method, path: &str, body: Value| app.call(method, path, &token, body).await;
    call(Method::GET, "/v1/me", Value::Null).await.expect(200);
    call(Method::GET, "/v1/usage?meter=apis", Value::Null).await.expect(200);
    let passwords = json!({"current_password": PASSWORD, "new_password": "amber-Meadow-19-kites"});
    for (method, path, body) in [
        (Method::GET, "/v1/users", Value::Null),
        (Method::POST, "/v1/users", json!({"email": "evil@evil.example", "role": "owner"})),
        (Method::POST, "/v1/invitations", json!({"email": "evil@evil.example"})),
        (Method::GET, "/v1/clients", Value::Null),
        (Method::POST, "/v1/clients", json!({"client_name": "evil"})),
        (Method::PATCH, "/v1/me", json!({"name": "Evil"})),
        (Method::GET, "/v1/me/sessions", Value::Null),
        (Method::DELETE, "/v1/me/sessions", Value::Null),
        (Method::POST, "/v1/me/password", passwords),
    ] {
        let reply = call(method.clone(), path, body).await;
        assert_eq!(reply.status, 403, "{method} {path}: {}", reply.body);
        assert!(reply.text("/detail").contains("within its scope"), "{}", reply.body);
    }
    app.owner_of("Acme").await.get("/v1/users").await.expect(200);
}

/// Core 3.1.2.1, "login: The Authorization Server SHOULD prompt the End-User for reauthentication": who sends the decision
/// without having been asked gets no further than who asks.
#[tokio::test]
async fn a_decision_sent_directly_is_no_way_round_a_sign_in() {
    let app = acme().await;
    app.tenant("Globex", "standard").await;
    let client = Client::web_with(&app, json!({"default_max_age": 60})).await;
    let pushing =
        Client::web_with(&app, json!({"default_max_age": 60, "require_pushed_authorization_requests": true})).await;
    let somebody = Browser::signed_in(&app, &crate::support::actors::email_of("Globex")).await;
    let hint = client.redeem(&client.code(&somebody, &[]).await).await.expect(200).text("/id_token");
    let browser = Browser::signed_in(&app, &owner()).await;
    let token = form_of(&browser.get(&client.request(&[])).await.expect(200)).value("form_token").unwrap().to_owned();
    let allow = async |uri: &str| {
        let query = uri.split_once('?').unwrap().1;
        let form = format!("{query}&{}", encoded(&[("decision", "allow"), ("form_token", &*token)]));
        let own = [("origin", ISSUER), ("sec-fetch-site", "same-origin")];
        location(&browser.request(Method::POST, "/oauth2/authorize", Some(form), &own).await)
    };
    assert!(param(&allow(&client.request(&[])).await, "code").is_some());
    assert_eq!(error_in(&allow(&client.request(&[("prompt", "none")])).await), "interaction_required");
    app.clock.advance_secs(61);
    let anew: [&[(&str, &str)]; 5] = [
        &[("max_age", "1000"), ("prompt", "login")],
        &[("max_age", "1000"), ("prompt", "select_account")],
        &[("max_age", "1")],
        &[],
        &[("max_age", "1000"), ("id_token_hint", &hint)],
    ];
    for more in anew {
        let target = allow(&client.request(more)).await;
        assert_eq!(target.path(), "/login", "{more:?}: {target}");
        // Nor by what a sign-in is to lead back to.
        let target = allow(&param(&target, "return_to").unwrap()).await;
        assert_eq!(target.path(), "/login", "{more:?}: {target}");
    }
    let fields = pushing.request(&[]);
    let fields: Vec<_> = url::form_urlencoded::parse(fields.split_once('?').unwrap().1.as_bytes()).collect();
    let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let pushed = pushing.post("/oauth2/par", &fields).await.expect(201).text("/request_uri");
    let uri = format!("/oauth2/authorize?{}", encoded(&[("client_id", &*pushing.id), ("request_uri", &pushed)]));
    let back = param(&location(&browser.get(&uri).await), "return_to").unwrap();
    assert_eq!(allow(&back).await.path(), "/login");
}

/// What a browser was given ends with its sign-in, a code that nobody has redeemed yet, too.
#[tokio::test]
async fn a_code_does_not_outlive_the_sign_in_of_its_browser() {
    let app = acme().await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let code = client.code(&browser, &[]).await;
    let page = browser.get("/account").await.expect(200);
    let token = text(&page).split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let own = [("origin", ISSUER), ("sec-fetch-site", "same-origin")];
    let form = encoded(&[("form_token", token)]);
    assert_eq!(browser.request(Method::POST, "/account/sign-out", Some(form), &own).await.status, 303);
    refused(&client.redeem(&code).await, 400, "invalid_grant");
}

/// A browser that signs in anew has one cookie that opens something. The same person goes on with what came of it before;
/// when somebody else signs in, the first is signed out.
#[tokio::test]
async fn a_browser_that_signs_in_anew_leaves_its_former_sign_in() {
    let app = acme().await;
    app.tenant("Globex", "standard").await;
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let cookie = browser.cookie("tollgate_browser").unwrap();
    let code = client.code(&browser, &[]).await;
    let token = client.redeem(&client.code(&browser, &[]).await).await.expect(200).text("/access_token");
    let opens_account = async |cookie: &str| {
        let planted = format!("tollgate_browser={cookie}");
        Browser::new(&app).request(Method::GET, "/account", None, &[("cookie", &planted)]).await.status == 200
    };
    assert!(opens_account(&cookie).await);
    browser.sign_in(&owner()).await;
    let second = browser.cookie("tollgate_browser").unwrap();
    assert!(!opens_account(&cookie).await && opens_account(&second).await);
    assert!(opens(&app, &token).await);
    client.redeem(&code).await.expect(200);
    browser.sign_in(&crate::support::actors::email_of("Globex")).await;
    assert!(!opens_account(&second).await && !opens(&app, &token).await);
    browser.get("/account").await.expect(200);
}

/// A token that was narrowed is handed on because it can do less: it does not make itself more by what its person may do.
#[tokio::test]
async fn a_narrowed_token_does_not_widen_itself() {
    let app = acme().await;
    let login = json!({"email": owner(), "password": PASSWORD});
    let login = app.anon().post("/v1/login", login).await.expect(200);
    for (scope, is_whole) in
        [("usage:read", false), ("usage:read usage:write", false), ("usage:read usage:write offline_access", true)]
    {
        let refresh_token = login.text("/refresh_token");
        let fields = [("grant_type", "refresh_token"), ("refresh_token", &*refresh_token), ("scope", scope)];
        let token = post(&app, "/oauth2/token", &fields, None).await.expect(200).text("/access_token");
        let call = async |method: Method, path: &str, body: Value| app.call(method, path, &token, body).await;
        call(Method::GET, "/v1/me", Value::Null).await.expect(200);
        for (method, path, body, fine) in [
            (Method::POST, "/v1/clients", json!({"client_name": "x", "scope": "usage:read usage:write"}), 201),
            (Method::POST, "/v1/users", json!({"email": "eve@acme.example", "password": PASSWORD}), 201),
            (Method::GET, "/v1/users", Value::Null, 200),
            (Method::POST, "/v1/invitations", json!({"email": "eva@acme.example"}), 201),
            (Method::PATCH, "/v1/me", json!({"name": "Eve"}), 200),
            (Method::GET, "/v1/me/sessions", Value::Null, 200),
        ] {
            let reply = call(method.clone(), path, body).await;
            // Whoever has a role there has none by a token that has less.
            let expected =
                if is_whole || (scope.contains("offline") && path.starts_with("/v1/me")) { fine } else { 403 };
            assert_eq!(reply.status, expected, "{scope}: {method} {path}: {}", reply.body);
        }
    }
}

/// Core 5.4: a client learns of a person what the scope that they allowed stands for, wherever it asks.
#[tokio::test]
async fn a_client_sees_of_a_person_what_its_scope_stands_for() {
    let app = acme().await;
    app.owner_of("Acme").await.patch("/v1/me", json!({"name": "Ada"})).await.expect(200);
    let client = Client::web(&app).await;
    let read = async |scope: &str, path: &str| {
        let token = client.tokens(&[("scope", scope), ("prompt", "consent")]).await.text("/access_token");
        app.call(Method::GET, path, &token, Value::Null).await
    };
    let me = read("openid", "/v1/me").await.expect(200).body;
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((members(&me["user"]), members(&me["tenant"])), (vec!["user_id".into()], vec!["tenant_id".into()]));
    assert!(me.get("features").is_none());
    read("openid", "/v1/quota").await.refuses(403, &[]);
    let me = read("openid email", "/v1/me").await.expect(200).body;
    assert_eq!((me["user"]["email"].as_str(), me["user"].get("name")), (Some(&*owner()), None));
    assert_eq!(me["user"]["email_verified"], false);
    let me = read("openid profile", "/v1/me").await.expect(200).body;
    assert_eq!((me["user"].get("email"), me["user"]["name"].as_str()), (None, Some("Ada")));
    let me = read("openid usage:read", "/v1/me").await.expect(200).body;
    assert_eq!((me["tenant"]["customer_name"].as_str(), me["features"].is_array()), (Some("Acme"), true));
    read("openid usage:read", "/v1/quota").await.expect(200);
}

/// What a person allows a client is for the tenant that the page names, and for no other of theirs.
#[tokio::test]
async fn what_is_allowed_for_one_tenant_is_not_allowed_for_another() {
    let app = acme().await;
    let mut second = crate::support::actors::registration("Globex", "free");
    second["email"] = owner().into();
    second["allow_membership"] = true.into();
    let admin = app.admin().await;
    let globex = admin.post("/admin/v1/registrations", second).await.expect(201).text("/tenant_id");
    let acme = admin.get("/admin/v1/tenants?customer_name=Acme").await.expect(200).text("/items/0/tenant_id");
    let client = Client::web(&app).await;
    let browser = Browser::signed_in(&app, &owner()).await;
    let page = browser.get(&client.request(&[("tenant", &acme)])).await.expect(200);
    assert!(text(&page).contains("Acme") && !text(&page).contains("Globex"));
    let form = form_of(&page);
    assert_eq!(form.value("tenant"), Some(&*acme));
    location(&browser.submit(&form, Some(("decision", "allow"))).await);
    let silent =
        async |tenant: &str| location(&browser.get(&client.request(&[("tenant", tenant), ("prompt", "none")])).await);
    assert!(param(&silent(&acme).await, "code").is_some());
    assert_eq!(error_in(&silent(&globex).await), "consent_required");
    let page = browser.get(&client.request(&[("tenant", &globex)])).await.expect(200);
    assert!(text(&page).contains("Globex") && !text(&page).contains("Acme"));
    location(&browser.submit(&form_of(&page), Some(("decision", "allow"))).await);
    assert!(param(&silent(&globex).await, "code").is_some());
}
