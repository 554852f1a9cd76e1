//! Requests as bytes: limits, framing, slow and absent clients.

use std::io::{Read as _, Write as _};

use super::{
    customer::{customer, owner},
    server::Server,
};

pub fn served(more: &[&str]) -> (tempfile::TempDir, Server, String) {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), more);
    let token = customer(&server);
    (data, server, token)
}

fn status(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).split(' ').nth(1).unwrap_or("none").to_owned()
}

#[test]
fn ambiguous_and_oversized_requests_are_refused_and_not_counted() {
    let (_data, server, token) = served(&[]);
    let auth = format!("host: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n");
    let big = "x".repeat(300 * 1024);
    let many: String = (0..200).map(|n| ["x-", &n.to_string(), ": 1\r\n"].concat()).collect();
    let cases: [(&str, String, &[&str]); 6] = [
        (
            "two lengths",
            format!("POST /sample/echo HTTP/1.1\r\n{auth}content-length: 1\r\ncontent-length: 2\r\n\r\nab"),
            &["400"],
        ),
        ("no number", format!("POST /sample/echo HTTP/1.1\r\n{auth}content-length: -1\r\n\r\n"), &["400"]),
        ("long head", format!("GET /sample/hello HTTP/1.1\r\n{auth}x-big: {big}\r\n\r\n"), &["431", "400", "none"]),
        ("long path", format!("GET /sample/{big} HTTP/1.1\r\n{auth}\r\n"), &["414", "431", "none"]),
        ("many headers", format!("GET /sample/hello HTTP/1.1\r\n{auth}{many}\r\n"), &["431", "400", "none"]),
        ("no request", "\u{16}\u{3}\u{1} hello\r\n\r\n".into(), &["400", "none"]),
    ];
    for (what, request, expected) in cases {
        let answer = server.raw(request.as_bytes());
        assert!(expected.contains(&status(&answer).as_str()), "{what}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(server.used(&token), 0);
}

#[test]
fn pipelined_requests_are_counted_one_by_one() {
    let (_data, server, token) = served(&[]);
    let one = format!("GET /sample/hello HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    let last = one.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    let answer = server.raw(format!("{one}{one}{last}").as_bytes());
    assert_eq!(String::from_utf8_lossy(&answer).matches("HTTP/1.1 200").count(), 3);
    assert_eq!(server.used(&token), 3);
}

#[test]
fn a_connection_lives_on_after_a_refusal() {
    let (_data, server, token) = served(&[]);
    let refused = "GET /sample/hello HTTP/1.1\r\nhost: x\r\n\r\n";
    let fine =
        format!("GET /sample/hello HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
    let answer = String::from_utf8(server.raw(format!("{refused}{fine}").as_bytes())).unwrap();
    let (first, second) = (answer.find("HTTP/1.1 401"), answer.find("HTTP/1.1 200"));
    assert!(first.is_some() && first < second, "{answer}");
}

#[test]
fn a_client_that_leaves_a_stream_half_way_is_billed_once() {
    let (data, server, token) = served(&[]);
    let mut stream = server.connect();
    let request = format!("GET /sample/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut some = [0; 64];
    stream.read_exact(&mut some).unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200"));
    drop(stream);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let again = Server::start(data.path(), &[]);
    assert_eq!(again.used(&owner(&again)), 1);
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("fast.toml");
    std::fs::write(&settings, "[server]\nheader_read_timeout_s = 1\n").unwrap();
    let (_data, server, _) = served(&["--config", settings.to_str().unwrap()]);
    let mut stream = server.connect();
    stream.write_all(b"GET /sample/hello HTTP/1.1\r\nhost: ").unwrap();
    let mut rest = Vec::new();
    // Ends because the server closes, long before the test's own patience does.
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty() || status(&rest) == "408", "{}", String::from_utf8_lossy(&rest));
}
