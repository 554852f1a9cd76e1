//! A small HTTP client for the demo: JSON in, JSON out, one token.

use std::net::SocketAddr;

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// No answer.
    #[error("{0}: no answer")]
    NoAnswer(String),
    /// An answer with another status.
    #[error("{call}: expected {expected}, got {status}: {body}")]
    Status { call: String, expected: u16, status: u16, body: Value },
    /// An answer that says something else.
    #[error("{0}")]
    Wrong(String),
}

/// A call's answer.
pub(super) struct Answer {
    pub(super) call: String,
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Answer {
    /// The answer, if it has the status that was expected.
    pub(super) fn expect(self, expected: u16) -> Result<Self, Broken> {
        let Self { call, status, body } = self;
        if status == expected {
            Ok(Self { call, status, body })
        } else {
            Err(Broken::Status { call, expected, status, body })
        }
    }

    /// A text of the body, empty where there is none.
    pub(super) fn text(&self, pointer: &str) -> String {
        match self.body.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

pub(super) struct Client {
    http: HyperClient<HttpConnector, Body>,
    base: String,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        let http = HyperClient::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { http, base: format!("http://{address}") }
    }

    /// Calls a path; `token` and `body` may be absent.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> Result<Answer, Broken> {
        let call = format!("{method} {path}");
        let no_answer = || Broken::NoAnswer(call.clone());
        let mut request = Request::builder().method(method.clone()).uri(format!("{}{path}", self.base));
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(json) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(json.to_string())
            }
            None => Body::empty(),
        };
        let request = request.body(body).map_err(|_| no_answer())?;
        let response = self.http.request(request).await.map_err(|_| no_answer())?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(|_| no_answer())?.to_bytes();
        let body =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
        Ok(Answer { call, status, body })
    }

    pub(super) async fn get(&self, path: &str, token: &str) -> Result<Answer, Broken> {
        self.call(Method::GET, path, token, None).await
    }

    pub(super) async fn post(&self, path: &str, token: &str, body: Value) -> Result<Answer, Broken> {
        self.call(Method::POST, path, token, Some(body)).await
    }
}
