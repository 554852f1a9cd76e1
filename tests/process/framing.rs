//! Where one request ends and the next begins, whose it is, and what is refused for being too much or too slow.

use std::io::Write as _;

use super::{
    client::{Client, head, header},
    customer::owner,
    server::Server,
    wire::served,
};

/// A body's limit.
const MIB: usize = 1024 * 1024;

/// Sends bytes on a connection of their own; the statuses of all answers until the server closes.
fn statuses(server: &Server, bytes: &str) -> Vec<u16> {
    let text = Client::connect(server).send(bytes).rest();
    let status = |rest: &str| rest.get(..3).and_then(|status| status.parse().ok());
    text.match_indices("HTTP/1.").filter_map(|(at, _)| status(&text[at + "HTTP/1.1 ".len()..])).collect()
}

#[test]
fn a_length_beside_a_transfer_coding_smuggles_nothing_in() {
    let (_data, server, token) = served(&[]);
    let hidden = head("GET", "/sample/hello", &token, "");
    for headers in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "content-length: 4\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n",
    ] {
        // RFC 9112 section 6.3: the coding decides, and the connection ends with the answer.
        let request = format!("{}0\r\n\r\n{hidden}", head("POST", "/sample/echo", &token, headers));
        assert_eq!(statuses(&server, &request), [200], "{headers}");
    }
    assert_eq!(server.used(&token), 3);
}

#[test]
fn a_body_whose_end_is_not_plain_is_refused_and_not_counted() {
    let (_data, server, token) = served(&[]);
    for headers in [
        "content-length: 1\r\ncontent-length: 2\r\n",
        "content-length: 1, 2\r\n",
        "content-length: +1\r\n",
        "content-length: 0x1\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding: chunked\r\n folded: x\r\n",
        "x: a\rtransfer-encoding: chunked\r\n",
    ] {
        let request = format!("{}0\r\n\r\n", head("POST", "/sample/echo", &token, headers));
        assert_eq!(statuses(&server, &request), [400], "{headers}");
    }
    let old = head("POST", "/sample/echo", &token, "transfer-encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(statuses(&server, &format!("{old}0\r\n\r\n")), [400], "HTTP/1.0 has no chunks");
    assert_eq!(server.used(&token), 0);
}

#[test]
fn a_request_names_one_host() {
    let (_data, server, token) = served(&[]);
    let request = |version: &str, hosts: &str| {
        let auth = format!("authorization: Bearer {token}\r\nconnection: close\r\n");
        statuses(&server, &format!("GET /sample/hello HTTP/{version}\r\n{hosts}{auth}\r\n"))
    };
    for hosts in
        ["", "host: a\r\nhost: b\r\n", "host: a\r\nhost: a\r\n", "host: a b\r\n", "host: a/b\r\n", "host: u@a\r\n"]
    {
        assert_eq!(request("1.1", hosts), [400], "{hosts}");
    }
    assert_eq!(request("1.0", "host: a\r\nhost: b\r\n"), [400]);
    assert_eq!(server.used(&token), 0);
    for hosts in ["host: a\r\n", "host: a:80\r\n", "host: [::1]:8080\r\n", "host:\r\n"] {
        assert_eq!(request("1.1", hosts), [200], "{hosts}");
    }
    assert_eq!(request("1.0", ""), [200], "HTTP/1.0 knew no Host");
    assert_eq!(server.used(&token), 5);
    let refused = Client::connect(&server).send("GET /sample/hello HTTP/1.1\r\n\r\n").answer();
    assert_eq!(header(&refused.head, "content-type").unwrap(), "application/problem+json");
}

#[test]
fn a_head_request_is_counted_and_has_no_body() {
    let (_data, server, token) = served(&[]);
    let mut client = Client::connect(&server);
    for path in ["/sample/hello", "/sample/stream"] {
        let answer = client.send(&head("HEAD", path, &token, "")).head().unwrap();
        assert_eq!(answer.status, 200, "{path}");
    }
    let next = client.get("/sample/hello", &token);
    assert_eq!(next.json()["message"], "hello", "no byte of a body came before");
    assert_eq!(server.used(&token), 3);
}

#[test]
fn a_body_is_asked_for_only_when_it_will_be_read() {
    let (_data, server, token) = served(&[]);
    let asks = |path: &str, token: &str, length: usize| {
        let more = format!("content-length: {length}\r\nexpect: 100-continue\r\n");
        let mut client = Client::connect(&server);
        let answer = client.send(&head("POST", path, token, &more)).head().unwrap();
        (client, answer.status)
    };
    assert_eq!(asks("/sample/echo", "", 4).1, 401);
    assert_eq!(asks("/nowhere", &token, 4).1, 404);
    let (mut client, status) = asks("/sample/echo", &token, 4);
    assert_eq!(status, 100);
    assert_eq!(client.send("body").answer().json()["body"], "body");
}

#[test]
fn a_body_above_the_limit_is_refused_however_it_is_sent() {
    let (_data, server, token) = served(&[]);
    let at_limit = "x".repeat(MIB);
    let chunk = format!("{:x}\r\n{at_limit}\r\n", at_limit.len());
    let by_length = |body: &str| {
        let more = format!("content-length: {}\r\nconnection: close\r\n", body.len());
        Client::connect(&server).send(&head("POST", "/sample/echo", &token, &more)).send(body).answer().status
    };
    let by_chunks = |more: &str| {
        let request = head("POST", "/sample/echo", &token, "transfer-encoding: chunked\r\nconnection: close\r\n");
        Client::connect(&server).send(&request).send(&chunk).send(more).answer().status
    };
    assert_eq!(by_length(&at_limit), 200);
    assert_eq!(by_chunks("0\r\n\r\n"), 200);
    assert_eq!(by_length(&format!("{at_limit}x")), 413);
    assert_eq!(by_chunks("1\r\nx\r\n0\r\n\r\n"), 413);
}

#[test]
fn a_connection_lives_on_after_every_refusal_whose_body_was_small() {
    let (_data, server, token) = served(&[]);
    let mut client = Client::connect(&server);
    let json = "content-type: application/json\r\n";
    for (method, path, token, more, body, status) in [
        ("POST", "/sample/echo", "", "content-length: 4\r\n", "body", 401),
        ("GET", "/nowhere", token.as_str(), "", "", 404),
        ("DELETE", "/v1/login", "", "", "", 405),
        ("POST", "/v1/login", "", "content-length: 2\r\n", "{}", 415),
        ("POST", "/v1/login", "", &format!("{json}content-length: 2\r\n"), "{}", 422),
        ("POST", "/v1/login", "", &format!("{json}transfer-encoding: chunked\r\n"), "1\r\n{\r\n0\r\n\r\n", 400),
        ("GET", "/sample/../admin", token.as_str(), "", "", 400),
    ] {
        let answer = client.send(&format!("{}{body}", head(method, path, token, more))).answer();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    }
    assert_eq!(client.get("/sample/hello", &token).status, 200);
    assert_eq!(server.used(&token), 1);
}

#[test]
fn whoever_says_nothing_or_goes_on_saying_little_is_cut_off() {
    for protocol in ["h2c = false", "h2c = true"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fast.toml");
        std::fs::write(&file, format!("[server]\nheader_read_timeout_s = 1\n{protocol}\n")).unwrap();
        let server = Server::start(&folder.path().join("data"), &["--config", file.to_str().unwrap()]);
        let mut after_an_answer = Client::connect(&server);
        assert_eq!(after_an_answer.get("/healthz", "").status, 200);
        assert_eq!(after_an_answer.rest(), "", "{protocol}");
        for beginning in ["", "GET /healthz HT", "PRI * HT", "GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: "] {
            assert_eq!(Client::connect(&server).send(beginning).rest(), "", "{protocol}: {beginning:?}");
        }
        // Each byte in time, the head never.
        let mut stream = server.connect();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ").unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let cut = (0..400).any(|_| {
            let quiet = std::io::Read::read(&mut stream, &mut [0; 64]);
            let waits = quiet.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            !waits || stream.write_all(b"x").is_err()
        });
        assert!(cut, "{protocol}");
    }
}

#[test]
fn a_client_that_leaves_an_upstream_that_never_answers_is_not_counted() {
    let upstream = super::upstream::Upstream::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slow.toml");
    std::fs::write(&file, format!("[server]\ndrain_s = 1\n{}", upstream.route())).unwrap();
    let (data, server, token) = served(&["--config", file.to_str().unwrap()]);
    let mut gone = Client::connect(&server);
    gone.send(&head("GET", "/slow/1", &token, ""));
    upstream.request();
    drop(gone);
    let mut half = Client::connect(&server);
    half.send(&head("POST", "/slow/2", &token, "content-length: 100\r\n")).send("half");
    drop(half);
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let again = Server::start(data.path(), &[]);
    assert_eq!(again.used(&owner(&again)), 0, "the upstream answered neither");
}
