//! A browser without a screen: keeps cookies, follows nothing, fills forms in.

use std::net::IpAddr;

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use serde_json::Value;
use tollgate::web::extract::Peer;

use crate::support::app::{Reply, TestApp};

/// A browser.
pub struct Browser<'a> {
    pub app: &'a TestApp,
    /// Whence it calls.
    pub address: Option<IpAddr>,
    cookies: Vec<(String, String)>,
}

impl<'a> Browser<'a> {
    /// Without any cookies.
    pub fn new(app: &'a TestApp) -> Self {
        Self { app, address: None, cookies: Vec::new() }
    }

    /// Opens a page.
    pub async fn open(&mut self, path: &str) -> Reply {
        self.send(Method::GET, path, None, Body::empty()).await
    }

    /// Sends a form.
    pub async fn fill(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send(Method::POST, path, Some("application/x-www-form-urlencoded"), Body::from(form)).await
    }

    /// What a script of a page sends.
    pub async fn post_json(&mut self, path: &str, value: &Value) -> Reply {
        self.send(Method::POST, path, Some("application/json"), Body::from(value.to_string())).await
    }

    async fn send(&mut self, method: Method, path: &str, content_type: Option<&str>, body: Body) -> Reply {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = Request::builder().method(method).uri(path).header(header::COOKIE, cookies.join("; "));
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let mut request = request.body(body).unwrap();
        if let Some(address) = self.address {
            request.extensions_mut().insert(Peer(address));
        }
        let reply = self.app.send(request).await;
        for cookie in reply.headers.get_all(header::SET_COOKIE) {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            self.cookies.retain(|(own, _)| own != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        reply
    }

    /// Whether there is a cookie.
    pub fn has(&self, name: &str) -> bool {
        self.cookies.iter().any(|(own, _)| own == name)
    }

    /// Signs in by the page; where it leads.
    pub async fn sign_in(&mut self, email: &str, password: &str, return_to: &str) -> String {
        let fields = [("email", email), ("password", password), ("return_to", return_to)];
        let reply = self.fill("/login", &fields).await.expect(303);
        reply.headers[header::LOCATION].to_str().unwrap().to_owned()
    }

    /// The form token of a page.
    pub async fn form_token(&mut self, path: &str) -> String {
        let page = self.open(path).await.expect(200);
        value_of(&page, "form_token")
    }
}

/// The value of a page's first field of a name.
pub fn value_of(page: &Reply, name: &str) -> String {
    let html = page.body.as_str().unwrap();
    let (_, rest) =
        html.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no {name}: {html}"));
    rest.split('"').next().unwrap().to_owned()
}

/// The text between two others.
pub fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}"));
    rest.split_once(after).unwrap().0
}

#[tokio::test]
async fn every_page_is_accessible_and_lets_nothing_in() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let mut browser = Browser::new(&app);
    browser.sign_in("owner@acme.example", crate::support::actors::PASSWORD, "").await;
    for path in ["/login", "/signup", "/reset", "/account", "/account/password", "/account/factors"] {
        let page = browser.open(path).await.expect(200);
        let html = page.body.as_str().unwrap();
        assert_eq!(html.matches("<h1>").count(), 1, "{path}");
        assert!(html.contains("<html lang=\"en\">") && html.contains("<title>"), "{path}");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(!policy.contains("script-src") || html.contains("<script src=\"/console/"), "{path}: {policy}");
        assert_eq!(page.headers["cache-control"], "no-store", "{path}");
        assert!(!html.contains("<script>") && !html.contains(" style=") && !html.contains(" onclick="), "{path}");
        // Every field that people see has its label.
        for input in html.split("<input ").skip(1).filter(|input| !input.contains("type=\"hidden\"")) {
            let id = between(input, "id=\"", "\"");
            assert!(html.contains(&format!("<label for=\"{id}\">")), "{path}: {id}");
            assert!(input.contains("autocomplete=\""), "{path}: {id}");
        }
    }
    let script = browser.open("/console/passkeys.js").await.expect(200);
    assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
}

#[tokio::test]
async fn a_form_from_elsewhere_does_nothing() {
    let app = TestApp::new().await;
    app.tenant("Acme", "standard").await;
    let mut browser = Browser::new(&app);
    browser.sign_in("owner@acme.example", crate::support::actors::PASSWORD, "").await;
    for path in ["/account/password", "/account/sessions", "/account/sign-out", "/account/factors"] {
        browser.fill(path, &[("act", "renew_recovery_codes"), ("session_id", "others")]).await.expect(403);
        browser.fill(path, &[("form_token", "made-up"), ("session_id", "others")]).await.expect(403);
    }
    browser.open("/account").await.expect(200);
    for path in ["/login", "/reset", "/signup", "/signup/verify", "/invitation", "/login/factor"] {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ORIGIN, "https://evil.example");
        app.send(request.body(Body::from("email=owner%40acme.example&token=x")).unwrap()).await.expect(403);
    }
}
