//! A relying party: a registered client that makes requests, redeems codes and asks the other endpoints.

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    body::Body,
    http::{HeaderMap, Request, header},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::{
    browser::{Browser, encoded, param},
    support::{
        actors::{Actor, email_of},
        app::{Reply, TestApp},
    },
};

/// Where answers go.
pub const CALLBACK: &str = "https://app.example/cb";
/// The verifier of RFC 7636 appendix B, and its challenge.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// Grants with long names.
pub const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
pub const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Fields of a form.
pub type Fields<'f> = &'f [(&'f str, &'f str)];

/// A client.
pub struct Client<'a> {
    pub app: &'a TestApp,
    pub id: String,
    pub secret: Option<String>,
}

/// A server with a tenant, Acme, that has an owner.
pub async fn acme() -> TestApp {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    app
}

/// Acme's owner.
pub fn owner() -> String {
    email_of("Acme")
}

impl<'a> Client<'a> {
    /// Registered by the administrator, for people of every tenant.
    pub async fn register(app: &'a TestApp, metadata: Value) -> Client<'a> {
        let made = app.admin().await.post("/admin/v1/clients", metadata).await.expect(201);
        let secret = made.body["client_secret"].as_str().map(str::to_owned);
        Self { app, id: made.text("/client_id"), secret }
    }

    /// A web application with a secret.
    pub async fn web(app: &'a TestApp) -> Client<'a> {
        Self::register(app, web()).await
    }

    /// A web application with more metadata.
    pub async fn web_with(app: &'a TestApp, more: Value) -> Client<'a> {
        let mut metadata = web();
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Self::register(app, metadata).await
    }

    /// A public client.
    pub async fn public(app: &'a TestApp) -> Client<'a> {
        Self::web_with(app, json!({"token_endpoint_auth_method": "none"})).await
    }

    /// A machine client of Acme's.
    pub async fn machine(app: &'a TestApp) -> Client<'a> {
        let made = app.owner_of("Acme").await.post("/v1/clients", json!({"client_name": "robot"})).await.expect(201);
        Self { app, id: made.text("/client_id"), secret: Some(made.text("/client_secret")) }
    }

    /// HTTP Basic, for who has a secret.
    pub fn basic(&self) -> Option<String> {
        self.secret.as_ref().map(|secret| format!("Basic {}", STANDARD.encode(format!("{}:{secret}", self.id))))
    }

    /// Sends a form, authenticated as the client does.
    pub async fn post(&self, path: &str, fields: Fields<'_>) -> Reply {
        let mut fields = fields.to_vec();
        if self.secret.is_none() {
            fields.push(("client_id", &self.id));
        }
        post(self.app, path, &fields, self.basic().as_deref()).await
    }

    /// Asks the token endpoint.
    pub async fn token(&self, fields: Fields<'_>) -> Reply {
        self.post("/oauth2/token", fields).await
    }

    /// The address of an authorization request; `more` replaces what it would say, an empty value takes it away.
    pub fn request(&self, more: Fields<'_>) -> String {
        let mut fields = vec![
            ("response_type", "code"),
            ("client_id", &self.id),
            ("redirect_uri", CALLBACK),
            ("scope", "openid usage:read offline_access"),
            ("state", "af0ifjsldkj"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in more {
            fields.retain(|(own, _)| own != name);
            fields.push((name, value));
        }
        fields.retain(|(_, value)| !value.is_empty());
        format!("/oauth2/authorize?{}", encoded(&fields))
    }

    /// Where an authorization request leads when the person says yes to all.
    pub async fn authorize(&self, browser: &Browser<'_>, more: Fields<'_>) -> url::Url {
        let reply = browser.visit(&self.request(more)).await;
        browser.allow(reply).await
    }

    /// A code.
    pub async fn code(&self, browser: &Browser<'_>, more: Fields<'_>) -> String {
        let target = self.authorize(browser, more).await;
        param(&target, "code").unwrap_or_else(|| panic!("no code: {target}"))
    }

    /// Redeems a code as it should be.
    pub async fn redeem(&self, code: &str) -> Reply {
        self.redeem_with(code, &[]).await
    }

    /// Redeems a code; `more` replaces what would be said, an empty value takes it away.
    pub async fn redeem_with(&self, code: &str, more: Fields<'_>) -> Reply {
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        for (name, value) in more {
            fields.retain(|(own, _)| own != name);
            fields.push((name, value));
        }
        fields.retain(|(_, value)| !value.is_empty());
        self.token(&fields).await
    }

    /// Tokens for Acme's owner, in a browser of their own.
    pub async fn tokens(&self, more: Fields<'_>) -> Reply {
        let browser = Browser::signed_in(self.app, &owner()).await;
        let code = self.code(&browser, more).await;
        self.redeem(&code).await.expect(200)
    }

    /// Refreshes.
    pub async fn refresh(&self, refresh_token: &str, more: Fields<'_>) -> Reply {
        let mut fields = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        fields.extend(more);
        self.token(&fields).await
    }

    /// What introspection says of a token.
    pub async fn introspect(&self, token: &str) -> Value {
        self.post("/oauth2/introspect", &[("token", token)]).await.expect(200).body
    }
}

fn web() -> Value {
    json!({
        "client_name": "Web shop",
        "redirect_uris": [CALLBACK],
        "id_token_signed_response_alg": "ES256",
    })
}

/// Sends a form.
pub async fn post(app: &TestApp, path: &str, fields: Fields<'_>, authorization: Option<&str>) -> Reply {
    let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    app.send(request.body(Body::from(encoded(fields))).unwrap()).await
}

/// An error in the shape of RFC 6749 section 5.2, which no cache may keep.
#[track_caller]
pub fn refused(reply: &Reply, status: u16, error: &str) {
    assert_eq!((reply.status.as_u16(), reply.text("/error").as_str()), (status, error), "{}", reply.body);
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/json");
    assert_stored_nowhere(&reply.headers);
}

/// No cache may keep it.
#[track_caller]
pub fn assert_stored_nowhere(headers: &HeaderMap) {
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(headers[header::PRAGMA], "no-cache");
}

/// The error that an address carries.
#[track_caller]
pub fn error_in(target: &url::Url) -> String {
    param(target, "error").unwrap_or_else(|| panic!("no error: {target}"))
}

/// A part of a token: 0 its header, 1 its claims.
pub fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

/// The claims of a token in an answer.
pub fn claims(reply: &Reply, name: &str) -> Value {
    part(&reply.text(&format!("/{name}")), 1)
}

/// A challenge of method S256.
pub fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

/// Somebody with an access token of an answer.
pub fn bearer<'a>(app: &'a TestApp, reply: &Reply) -> Actor<'a> {
    Actor { app, token: reply.text("/access_token") }
}

/// Whether an access token opens the sample API.
pub async fn opens(app: &TestApp, access_token: &str) -> bool {
    let actor = Actor { app, token: access_token.to_owned() };
    actor.get("/sample/hello").await.status == 200
}
