//! Fetch, "CORS protocol": which pages of other origins may call what. `tests/browser` has a real one do it.

use axum::{
    body::Body,
    http::{Method, Request},
};
use serde_json::json;

use crate::{
    relying_party::{Client, acme},
    support::app::{Reply, TestApp},
};

const OF_CLIENTS: [&str; 3] = ["/oauth2/token", "/oauth2/revoke", "/oauth2/userinfo"];

async fn from(app: &TestApp, origin: &str, method: Method, path: &str) -> Reply {
    let mut request = Request::builder().method(method.clone()).uri(path).header("origin", origin);
    if method == Method::OPTIONS {
        request = request.header("access-control-request-method", "POST");
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

fn allowed(reply: &Reply) -> Option<&str> {
    assert!(!reply.headers.contains_key("access-control-allow-credentials"));
    reply.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn the_origins_of_public_clients_may_call_what_takes_a_token_or_a_code() {
    let app = acme().await;
    let client = Client::public(&app).await;
    let loopback = json!({"redirect_uris": ["http://127.0.0.1/cb"], "token_endpoint_auth_method": "none"});
    Client::web_with(&app, loopback).await;
    for path in OF_CLIENTS {
        for origin in ["https://app.example", "http://127.0.0.1:4711"] {
            let preflight = from(&app, origin, Method::OPTIONS, path).await.expect(204);
            assert_eq!(allowed(&preflight), Some(origin));
            assert_eq!(preflight.headers["access-control-allow-headers"], "authorization, content-type");
            assert_eq!(preflight.headers["access-control-allow-methods"], "GET, POST");
            // A refusal can be read as well.
            let refusal = from(&app, origin, Method::POST, path).await;
            assert!(refusal.status.is_client_error());
            assert_eq!(allowed(&refusal), Some(origin), "{path}");
            assert_eq!(refusal.headers["vary"], "origin");
        }
        for stranger in [
            "https://evil.example",
            "https://app.example.evil.example",
            "https://app.example/",
            "https://APP.example",
            "http://app.example",
            "https://app.example:8443",
            "http://localhost:4711",
            "null",
            "*",
            "",
        ] {
            assert_eq!(allowed(&from(&app, stranger, Method::OPTIONS, path).await), None, "{stranger}");
            let reply = from(&app, stranger, Method::POST, path).await;
            assert_eq!(allowed(&reply), None, "{stranger}");
            // A cache may not give it to those who are known.
            assert_eq!(reply.headers["vary"], "origin");
        }
    }
    app.admin().await.delete(&format!("/admin/v1/clients/{}", client.id)).await.expect(204);
    assert_eq!(allowed(&from(&app, "https://app.example", Method::POST, "/oauth2/token").await), None, "it is deleted");
}

#[tokio::test]
async fn a_client_with_a_secret_does_not_live_in_a_browser() {
    let app = acme().await;
    Client::web(&app).await;
    assert_eq!(allowed(&from(&app, "https://app.example", Method::OPTIONS, "/oauth2/token").await), None);
}

#[tokio::test]
async fn every_page_may_read_what_is_public_and_none_calls_what_is_for_people_or_servers() {
    let app = acme().await;
    Client::public(&app).await;
    let public =
        ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/.well-known/jwks.json"];
    for path in public {
        assert_eq!(allowed(&from(&app, "https://any.example", Method::GET, path).await.expect(200)), Some("*"));
    }
    for path in
        ["/oauth2/authorize", "/oauth2/introspect", "/oauth2/par", "/oauth2/logout", "/login", "/v1/me", "/v1/login"]
    {
        for method in [Method::OPTIONS, Method::GET, Method::POST] {
            assert_eq!(allowed(&from(&app, "https://app.example", method, path).await), None, "{path}");
        }
    }
}
