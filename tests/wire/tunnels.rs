//! WebSocket and other changes of protocol: only after the upstream's agreement, counted, and settled once.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
};

use super::{
    client::{Client, header},
    configured::with_settings,
    customer::{customer, owner},
    server::Server,
    target::{Target, route},
    wait::eventually,
};

/// RFC 6455 section 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Agrees with `accept`, then says everything again that it hears.
fn echoing(accept: &'static str) -> Target {
    Target::start(move |mut peer| {
        if peer.request().is_none() {
            return;
        }
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        );
        peer.write(answer.as_bytes());
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = peer.stream.read(&mut buffer) {
            peer.write(&buffer[..read]);
        }
    })
}

pub fn handshake(path: &str, token: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: keep-alive, Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\nx-tenant-id: forged\r\n\r\n"
    )
}

/// A client in a tunnel, and the head of the 101.
fn open(server: &Server, token: &str) -> (std::net::TcpStream, String) {
    let mut stream = server.connect();
    stream.write_all(handshake("/x/socket", token).as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

fn used(server: &Server, token: &str, meter: &str) -> String {
    let usage = server.get(&format!("/v1/usage?meter={meter}"), token).json();
    usage["data"][0]["value"].as_str().unwrap_or("0").to_owned()
}

fn settings(target: &Target) -> String {
    route(&[target.address], "", "meters = [\"apis\", \"ingress_bytes\", \"egress_bytes\"]")
}

#[test]
fn bytes_flow_both_ways_and_are_billed_once_when_the_tunnel_ends() {
    let target = echoing(ACCEPT);
    let (_folder, server) = with_settings(&settings(&target));
    let token = customer(&server);
    let (mut stream, head) = open(&server, &token);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(header(&head, "sec-websocket-accept").as_deref(), Some(ACCEPT));
    let arrived = target.request().head;
    assert_eq!(header(&arrived, "upgrade").as_deref(), Some("websocket"), "{arrived}");
    assert_eq!(header(&arrived, "sec-websocket-key").as_deref(), Some(KEY));
    assert!(!arrived.contains("forged") && !arrived.to_lowercase().contains("authorization"), "{arrived}");
    for message in ["hello", "another message"] {
        stream.write_all(message.as_bytes()).unwrap();
        let mut echo = vec![0; message.len()];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, message.as_bytes());
    }
    assert_eq!(used(&server, &token, "apis"), "0", "not before its end");
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    eventually("the tunnel is settled", || used(&server, &token, "apis") != "0");
    assert_eq!(["apis", "ingress_bytes", "egress_bytes"].map(|meter| used(&server, &token, meter)), ["1", "20", "20"]);
}

#[test]
fn no_tunnel_without_the_upstreams_agreement() {
    let (wrong, plain) = (echoing("bm90IHRoZSBhbnN3ZXIgdG8gaXQ="), Target::answering("no sockets here"));
    for (target, status) in [(&wrong, 502), (&plain, 200)] {
        let (_folder, server) = with_settings(&settings(target));
        let token = customer(&server);
        let (_stream, head) = open(&server, &token);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(header(&head, "upgrade"), None);
        // A refused call is not billed; an answered one is.
        assert_eq!(server.used(&token), u64::from(status == 200));
    }
}

#[test]
fn an_upstream_does_not_change_a_protocol_that_nobody_asked_to_change() {
    let target = echoing(ACCEPT);
    let (_folder, server) = with_settings(&settings(&target));
    let token = customer(&server);
    let plain = server.get("/x/", &token);
    assert_eq!((plain.status, server.used(&token)), (502, 0));
}

#[test]
fn a_tunnel_ends_at_the_drains_deadline_and_is_billed() {
    let target = echoing(ACCEPT);
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("tollgate.toml"), folder.path().join("data"));
    std::fs::write(&file, format!("[server]\ndrain_s = 1\n{}", settings(&target))).unwrap();
    let start = || Server::start(&data, &["--config", file.to_str().unwrap()]);
    let server = start();
    let token = customer(&server);
    let (mut stream, _) = open(&server, &token);
    stream.write_all(b"hello").unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).unwrap();
    server.signal("TERM");
    server.line_with("draining");
    // Open until the deadline, in use, and closed by it.
    stream.write_all(b"again").unwrap();
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"again");
    assert!(matches!(stream.read(&mut echo), Ok(0) | Err(_)));
    let (said, status) = server.last_words();
    assert!(status.success(), "{said}");
    let server = start();
    let token = owner(&server);
    assert_eq!(["apis", "ingress_bytes", "egress_bytes"].map(|meter| used(&server, &token, meter)), ["1", "10", "10"]);
}

#[test]
fn a_tunnel_counts_among_the_servers_connections_until_it_ends() {
    let target = echoing(ACCEPT);
    let (_folder, server) = with_settings(&format!("[server]\nmax_connections = 3\n{}", settings(&target)));
    let token = customer(&server);
    let (mut tunnels, mut other) = ([open(&server, &token).0, open(&server, &token).0], Client::connect(&server));
    assert_eq!(other.get("/healthz", "").status, 200);
    // All three places are taken: whoever comes now is not accepted, however often the others are served.
    let mut waiting = server.connect();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    waiting.set_nonblocking(true).unwrap();
    let mut byte = [0];
    for round in 0..50 {
        let tunnel = &mut tunnels[round % 2];
        tunnel.write_all(b"x").unwrap();
        tunnel.read_exact(&mut byte).unwrap();
        assert_eq!(other.get("/healthz", "").status, 200);
        assert_eq!(waiting.read(&mut byte).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "round {round}");
    }
    waiting.set_nonblocking(false).unwrap();
    drop(tunnels);
    let mut answer = Vec::new();
    waiting.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}
