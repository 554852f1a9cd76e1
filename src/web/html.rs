//! Pages for people: HTML made here, without a script, under a policy that lets nothing else in.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};

/// The style of every page.
const STYLE: &str = include_str!("pages.css");

/// The address of the style sheet: an inline one would need a hole in the policy.
pub const STYLE_PATH: &str = "/console/pages.css";

/// The picture by which browsers tell pages apart.
const ICON: &str = include_str!("icon.svg");

/// The address of the picture: without one, browsers ask for `/favicon.ico`.
pub const ICON_PATH: &str = "/console/icon.svg";

/// The address of the script that sends the form of a page that sends itself.
pub const SEND_PATH: &str = "/console/send.js";

/// A page. Its forms lead to us, and nowhere else unless that is said.
#[derive(Debug)]
#[must_use]
pub struct Page {
    status: StatusCode,
    title: String,
    body: Markup,
    form_targets: String,
    script: Option<&'static str>,
}

impl Page {
    /// A page with a title and what comes below it.
    pub fn new(title: impl Into<String>, body: Markup) -> Self {
        Self { status: StatusCode::OK, title: title.into(), body, form_targets: String::new(), script: None }
    }

    /// Another status than 200.
    pub const fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Answers to its forms may redirect to these origins, too: browsers hold `form-action` over redirects.
    pub fn forms_lead_to(mut self, origins: &str) -> Self {
        origins.clone_into(&mut self.form_targets);
        self
    }

    /// A script of ours that the page is more comfortable with; it works without.
    pub const fn script(mut self, path: &'static str) -> Self {
        self.script = Some(path);
        self
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Self { status, title, body, form_targets, script } = self;
        let document = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    title { (title) }
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    link rel="icon" href=(ICON_PATH);
                    link rel="stylesheet" href=(STYLE_PATH);
                    @if let Some(path) = script { script src=(path) defer {} }
                }
                body { main { h1 { (title) } (body) } }
            }
        };
        let scripts = if script.is_some() { "script-src 'self'; connect-src 'self'; " } else { "" };
        let policy = format!(
            "default-src 'none'; {scripts}style-src 'self'; img-src 'self' data:; form-action 'self' {form_targets}; \
             frame-ancestors 'none'; base-uri 'none'"
        );
        let mut response = (status, document.into_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Nobody else learns an address of ours. With `no-referrer`, forms would come from the origin "null" (Fetch,
        // "append a request Origin header").
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        response
    }
}

/// What was done, above a form.
pub fn notice(text: Option<&str>) -> Markup {
    html! { @if let Some(text) = text { p role="status" { (text) } } }
}

/// What was wrong, above a form.
pub fn alert(fault: Option<&str>) -> Markup {
    html! { @if let Some(fault) = fault { p role="alert" { (fault) } } }
}

/// A labelled input; `kind` and `autocomplete` as HTML names them.
pub fn field(label: &str, name: &str, kind: &str, autocomplete: &str, value: &str) -> Markup {
    html! {
        label for=(name) { (label) }
        input id=(name) name=(name) type=(kind) autocomplete=(autocomplete) required value=(value);
    }
}

/// Whose account a form is about: people see it, and what keeps their passwords reads it. It is not sent.
pub fn account(email: &str) -> Markup {
    html! {
        label for="account" { "Account" }
        input id="account" type="email" autocomplete="username" readonly value=(email);
    }
}

/// A field that people do not see.
pub fn hidden(name: &str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}

/// The style sheet.
pub async fn style() -> Response {
    let kind = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=3600")];
    (kind, STYLE).into_response()
}

/// The picture of every page.
pub async fn icon() -> Response {
    let kind = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "public, max-age=3600")];
    (kind, ICON).into_response()
}

/// The script of pages that send themselves.
pub async fn send() -> Response {
    let kind =
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=3600")];
    (kind, "document.forms[0].submit();\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let markup = hidden("x", "<b title='\"&'>").into_string();
        assert_eq!(markup, "<input type=\"hidden\" name=\"x\" value=\"&lt;b title='&quot;&amp;'&gt;\">");
    }
}
