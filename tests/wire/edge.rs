//! What does not cross the gateway, and whom it believes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use serde_json::Value;

use super::{
    client::{Client, head, header},
    configured::with_settings,
    customer::{admin, customer},
    support::actors::{PASSWORD, email_of, registration},
    target::{Target, public_route, route},
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

#[test]
fn an_upstream_hears_how_a_request_came_from_us_and_from_proxies_of_ours() {
    let target = Target::answering("ok");
    let claims = "x-forwarded-for: 198.51.100.7\r\nX_Forwarded_For: 198.51.100.8\r\nforwarded: for=198.51.100.7\r\n\
                  x-forwarded-proto: https\r\nx-real-ip: 198.51.100.9\r\n";
    for (settings, addresses, forwarded, protocol) in [
        ("", "127.0.0.1", "for=127.0.0.1;proto=http;host=\"localhost\"", "http"),
        (
            "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n",
            "198.51.100.7, 127.0.0.1",
            "for=198.51.100.7, for=127.0.0.1;proto=http;host=\"localhost\"",
            "https",
        ),
    ] {
        let (_folder, server) = with_settings(&format!("{settings}{}", public_route(&[target.address], "")));
        let mut client = Client::connect(&server);
        assert_eq!(client.send(&head("GET", "/x/", "", claims)).answer().status, 200);
        let arrived = target.request().head;
        let said = |name: &str| header(&arrived, name);
        assert_eq!(said("x-forwarded-for").as_deref(), Some(addresses), "{arrived}");
        assert_eq!(said("forwarded").as_deref(), Some(forwarded), "{arrived}");
        assert_eq!(said("x-forwarded-proto").as_deref(), Some(protocol), "{arrived}");
        assert_eq!(said("x-forwarded-host").as_deref(), Some("localhost"), "{arrived}");
        assert!(!arrived.contains("198.51.100.8") && !arrived.contains("198.51.100.9"), "{arrived}");
    }
}

/// Requests that are on their way at once.
const AT_ONCE: usize = 50;

#[test]
fn ten_thousand_requests_of_two_tenants_on_one_connection_are_each_their_own() {
    let counts: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
    let counted = Arc::clone(&counts);
    let target = Target::start(move |mut peer| {
        while let Some(head) = peer.head() {
            let tenant = header(&head, "x-tenant-id").unwrap();
            *counted.lock().unwrap().entry(tenant.clone()).or_default() += 1;
            peer.answer("200 OK", &tenant);
        }
    });
    let (_folder, server) = with_settings(&route(&[target.address], "", ""));
    let one = customer(&server);
    let made = server.call("POST", "/admin/v1/registrations", &admin(&server), &registration("Globex", "premium"));
    assert_eq!(made.status, 201, "{}", made.body);
    let other = server.token(&email_of("Globex"), PASSWORD);
    let of = |token: &str| server.get("/v1/me", token).json()["tenant"]["tenant_id"].as_str().unwrap().to_owned();
    let tenants = [(of(&one), &one), (of(&other), &other)];
    let mut client = Client::connect(&server);
    for _ in 0..10_000 / AT_ONCE {
        let heads = (0..AT_ONCE).map(|number| head("GET", "/x/", tenants[number % 2].1, ""));
        client.send(&heads.collect::<String>());
        for number in 0..AT_ONCE {
            let answer = client.answer();
            assert_eq!((answer.status, &answer.body), (200, &tenants[number % 2].0), "{}", answer.head);
        }
    }
    for (tenant, token) in &tenants {
        assert_eq!((server.used(token), counts.lock().unwrap()[tenant]), (5_000, 5_000));
    }
}
