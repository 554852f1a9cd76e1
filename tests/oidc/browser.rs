//! A person's browser: it keeps cookies, follows redirections within the server, and fills in forms by their fields.

use std::{cell::RefCell, collections::BTreeMap};

use axum::{
    body::Body,
    http::{Method, Request, header},
};

use crate::support::{
    actors::PASSWORD,
    app::{Reply, TestApp},
};

/// The issuer of a server without settings.
pub const ISSUER: &str = "http://127.0.0.1:8080";

/// A form of a page.
#[derive(Debug, Clone)]
pub struct Form {
    pub action: String,
    /// Inputs by name, with what they were given.
    pub fields: Vec<(String, String)>,
    /// Buttons that say something.
    pub buttons: Vec<(String, String)>,
    /// What may be chosen, by name.
    pub choices: Vec<(String, Vec<String>)>,
}

impl Form {
    /// Its fields, one of them other than it was.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut form = self.clone();
        form.fields.retain(|(own, _)| own != name);
        form.fields.push((name.into(), value.into()));
        form
    }

    /// A field's value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// A browser.
pub struct Browser<'a> {
    pub app: &'a TestApp,
    cookies: RefCell<BTreeMap<String, String>>,
}

/// Encoded as a form.
pub fn encoded<N: AsRef<str>, V: AsRef<str>>(fields: &[(N, V)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Where an answer leads.
#[track_caller]
pub fn location(reply: &Reply) -> url::Url {
    assert_eq!(reply.status, 303, "{}", reply.body);
    let base: url::Url = ISSUER.parse().unwrap();
    base.join(reply.headers[header::LOCATION].to_str().unwrap()).unwrap()
}

/// A parameter of an address.
pub fn param(uri: &url::Url, name: &str) -> Option<String> {
    uri.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
}

/// The text of a page.
#[track_caller]
pub fn text(reply: &Reply) -> &str {
    reply.body.as_str().unwrap_or_else(|| panic!("not a page: {}", reply.body))
}

/// Where on this server an answer leads, if it does.
fn local_target(reply: &Reply) -> Option<String> {
    let target = reply.headers.get(header::LOCATION)?.to_str().unwrap();
    target.starts_with('/').then(|| target.to_owned())
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = &tag[start..start + tag[start..].find('"')?];
    Some(value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}

/// The tags of a kind in a text.
fn tags<'t>(html: &'t str, kind: &str) -> Vec<&'t str> {
    html.split(&format!("<{kind}")).skip(1).filter_map(|rest| rest.split('>').next()).collect()
}

/// The one form of a page.
#[track_caller]
pub fn form_of(reply: &Reply) -> Form {
    let html = text(reply);
    let form = html.split("<form").nth(1).unwrap_or_else(|| panic!("no form: {html}"));
    let form = form.split("</form>").next().unwrap();
    let named = |kind: &str| -> Vec<(String, String)> {
        let pair = |tag: &str| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default()));
        tags(form, kind).into_iter().filter_map(pair).collect()
    };
    let choices = form.split("<select").skip(1).map(|rest| {
        let name = attribute(rest.split('>').next().unwrap(), "name").unwrap();
        let rest = rest.split("</select>").next().unwrap();
        (name, tags(rest, "option").into_iter().filter_map(|tag| attribute(tag, "value")).collect())
    });
    Form {
        action: attribute(form.split('>').next().unwrap(), "action").unwrap(),
        fields: named("input"),
        buttons: named("button"),
        choices: choices.collect(),
    }
}

impl<'a> Browser<'a> {
    /// A new one.
    pub fn new(app: &'a TestApp) -> Self {
        Self { app, cookies: RefCell::default() }
    }

    /// A new one with somebody signed in.
    pub async fn signed_in(app: &'a TestApp, email: &str) -> Browser<'a> {
        let browser = Self::new(app);
        browser.sign_in(email).await;
        browser
    }

    /// Signs in on the page of its own.
    pub async fn sign_in(&self, email: &str) {
        let page = self.get("/login").await.expect(200);
        assert_eq!(self.submit_sign_in(&page, email).await.status, 303);
    }

    /// Fills in a sign-in page.
    pub async fn submit_sign_in(&self, page: &Reply, email: &str) -> Reply {
        let form = form_of(page).with("email", email).with("password", PASSWORD);
        self.submit(&form, None).await
    }

    /// Goes to an address.
    pub async fn get(&self, uri: &str) -> Reply {
        self.request(Method::GET, uri, None, &[]).await
    }

    /// Goes to an address, and on as long as redirections stay here.
    pub async fn visit(&self, uri: &str) -> Reply {
        let mut reply = self.get(uri).await;
        for _ in 0..5 {
            match local_target(&reply) {
                Some(path) => reply = self.get(&path).await,
                None => break,
            }
        }
        reply
    }

    /// Sends a form by one of its buttons.
    pub async fn submit(&self, form: &Form, button: Option<(&str, &str)>) -> Reply {
        let mut fields = form.fields.clone();
        for (name, choices) in &form.choices {
            if !fields.iter().any(|(own, _)| own == name) {
                fields.push((name.clone(), choices[0].clone()));
            }
        }
        if let Some((name, value)) = button {
            assert!(form.buttons.contains(&(name.into(), value.into())), "no button {name}={value}: {form:?}");
            fields.push((name.into(), value.into()));
        }
        let own = [("origin", ISSUER), ("sec-fetch-site", "same-origin")];
        self.request(Method::POST, &form.action, Some(encoded(&fields)), &own).await
    }

    /// Any request, with this browser's cookies.
    pub async fn request(
        &self,
        method: Method,
        uri: &str,
        form: Option<String>,
        headers: &[(&'static str, &str)],
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let jar: Vec<String> = self.cookies.borrow().iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !jar.is_empty() {
            request = request.header(header::COOKIE, jar.join("; "));
        }
        let request = match form {
            Some(form) => {
                request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(Body::from(form))
            }
            None => request.body(Body::empty()),
        };
        let reply = self.app.send(request.unwrap()).await;
        for cookie in reply.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (name, rest) = cookie.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if cookie.contains("Max-Age=0") {
                self.cookies.borrow_mut().remove(name);
            } else {
                self.cookies.borrow_mut().insert(name.into(), value.into());
            }
        }
        reply
    }

    /// Whether it has a cookie of ours.
    pub fn has_cookie(&self) -> bool {
        self.cookies.borrow().contains_key("tollgate_browser")
    }

    /// A cookie's value.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.borrow().get(name).cloned()
    }

    /// Says yes on a page that asks, if this is one; where the answer leads.
    pub async fn allow(&self, reply: Reply) -> url::Url {
        if reply.status == 303 {
            return location(&reply);
        }
        let form = form_of(&reply.expect(200));
        location(&self.submit(&form, Some(("decision", "allow"))).await)
    }
}
