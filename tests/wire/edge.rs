//! What does not cross the gateway, and whom it believes.

use serde_json::Value;

use super::{
    client::{Client, head},
    configured::with_settings,
    customer::{admin, customer},
    upstream::Upstream,
};

#[test]
fn a_browsers_sign_in_is_neither_given_to_an_upstream_nor_taken_from_one() {
    let upstream = Upstream::start();
    let (_folder, server) = with_settings(&upstream.route());
    let token = customer(&server);
    let mut client = Client::connect(&server);
    let cookies = "cookie: theme=dark; tollgate_browser=secret; lang=en\r\n";
    client.send(&head("GET", "/slow/1", &token, cookies));
    let arrived = upstream.request();
    assert!(arrived.contains("theme=dark; lang=en") && !arrived.contains("tollgate_browser"), "{arrived}");
    upstream.answer_with("set-cookie: cart=1\r\nset-cookie: tollgate_browser=theirs; Path=/\r\n", "");
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("cart=1") && !answer.head.contains("tollgate_browser"), "{}", answer.head);
}

#[test]
fn who_calls_is_what_a_trusted_proxy_says_and_nobody_else() {
    for (settings, address) in [
        ("", "127.0.0.1"),
        ("[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\n", "127.0.0.1"),
        ("[server]\ntrusted_proxies = [\"127.0.0.1\"]\n", "203.0.113.9"),
    ] {
        let (_folder, server) = with_settings(settings);
        let body = r#"{"email":"nobody@example.com","password":"wrong"}"#;
        let request = format!(
            "POST /v1/login HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: 198.51.100.7, 203.0.113.9\r\n\
             content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = server.raw(request.as_bytes());
        assert!(answer.starts_with(b"HTTP/1.1 401 "), "{}", String::from_utf8_lossy(&answer));
        let audit = server.get("/admin/v1/audit?limit=500", &admin(&server)).json();
        let failed = |entry: &&Value| entry["action"] == "sign_in.failed";
        let entries: Vec<_> = audit["items"].as_array().unwrap().iter().filter(failed).collect();
        let [entry] = entries[..] else { panic!("{audit}") };
        assert!(entry["detail"].as_str().unwrap().contains(&format!("from {address}")), "{entry}");
    }
}
