//! The way down: what runs is finished, what comes is refused, what does not end is cut at the deadline and counted.

use std::{net::TcpStream, path::PathBuf};

use super::{
    client::{Client, head},
    configured::with_settings,
    customer::{customer, owner},
    server::{PATIENCE, Server},
    upstream::Upstream,
};

fn data(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("data")
}

/// What the customer used, by the next start's count.
fn counted_by_the_next_start(folder: &tempfile::TempDir) -> u64 {
    let again = Server::start(&data(folder), &[]);
    again.used(&owner(&again))
}

/// Between the signal and the end of listening the kernel may still take connections; none of them is served, and soon
/// none is taken.
fn refuses_connections(address: &str) -> bool {
    (0..1_000).any(|_| match TcpStream::connect(address) {
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(mut stream) => {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let served = std::io::Read::read(&mut stream, &mut [0; 1]).is_ok_and(|read| read > 0);
            assert!(!served, "a draining server serves a new connection");
            false
        }
    })
}

#[test]
fn a_slow_upstream_is_waited_for_while_new_connections_are_refused() {
    for signal in ["TERM", "INT"] {
        let upstream = Upstream::start();
        let (folder, server) = with_settings(&upstream.route());
        let token = customer(&server);
        let mut client = Client::connect(&server);
        client.send(&head("GET", "/slow/1", &token, ""));
        assert!(upstream.request().starts_with("GET /slow/1 HTTP/1.1\r\n"));

        server.signal(signal);
        server.line_with("draining");
        assert!(refuses_connections(&server.address), "SIG{signal}");
        upstream.answer("at last");
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.as_str()), (200, "at last"));
        assert_eq!(client.rest(), "", "the connection ends with its request");
        assert_eq!(server.ended().code(), Some(0));
        assert_eq!(counted_by_the_next_start(&folder), 1);
    }
}

#[test]
fn a_stream_is_sent_to_its_end_before_the_server_ends() {
    let (folder, server) = with_settings("");
    let token = customer(&server);
    let mut client = Client::connect(&server);
    let first = client.send(&head("GET", "/sample/stream?events=10&interval_ms=50", &token, "")).head().unwrap();
    assert_eq!(first.status, 200);
    let mut events = client.chunk().unwrap();
    server.signal("TERM");
    server.line_with("draining");
    loop {
        match client.chunk().expect("the whole stream") {
            end if end.is_empty() => break,
            chunk => events.push_str(&chunk),
        }
    }
    assert_eq!(events.matches("event: tick").count(), 10, "{events}");
    assert_eq!(server.ended().code(), Some(0));
    assert_eq!(counted_by_the_next_start(&folder), 1);
}

#[test]
fn a_stream_that_outlasts_the_deadline_is_cut_and_counted_once() {
    let (folder, server) = with_settings("[server]\ndrain_s = 1\n");
    let token = customer(&server);
    let mut client = Client::connect(&server);
    client.send(&head("GET", "/sample/stream?events=1000&interval_ms=1000", &token, ""));
    assert_eq!(client.head().unwrap().status, 200);
    client.chunk().unwrap();
    server.signal("TERM");
    let (said, status) = server.last_words();
    assert!(said.contains("deadline") && !said.contains("ERROR"), "{said}");
    assert_eq!(status.code(), Some(0));
    assert!(!client.rest().ends_with("0\r\n\r\n"), "a stream that was cut does not look whole");
    assert_eq!(counted_by_the_next_start(&folder), 1, "what the client got of it is counted");
}

#[test]
fn work_that_cannot_be_cut_does_not_hold_up_the_end() {
    let (folder, server) = with_settings("[server]\ndrain_s = 1\n");
    let token = customer(&server);
    // Most of a minute's work, on a thread that nothing interrupts.
    let body = r#"{"work":1000000}"#;
    let more = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let mut client = Client::connect(&server);
    client.send(&head("POST", "/sample/compute", &token, &format!("{more}expect: 100-continue\r\n")));
    assert_eq!(client.head().unwrap().status, 100);
    client.send(body);
    server.signal("TERM");
    server.line_with("draining");
    assert_eq!(server.ended().code(), Some(0), "long before the work is done");
    assert_eq!(counted_by_the_next_start(&folder), 0, "what was not answered is not counted");
}

#[test]
fn an_idle_connection_holds_up_nothing() {
    let (_folder, server) = with_settings("[server]\ndrain_s = 600\nheader_read_timeout_s = 600\n");
    let mut idle = Client::connect(&server);
    assert_eq!(idle.get("/healthz", "").status, 200);
    let mut silent = Client::connect(&server);
    server.signal("TERM");
    assert_eq!((idle.rest().as_str(), silent.rest().as_str()), ("", ""));
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn a_request_that_has_begun_is_waited_for_whatever_way_it_goes() {
    let upstream = Upstream::start();
    let (_folder, server) = with_settings(&upstream.route());
    let token = customer(&server);
    let requests = [head("GET", "/slow/1", &token, ""), head("GET", "/sample/hello", &token, "")];
    let mut clients = [Client::connect(&server), Client::connect(&server)];
    for (client, request) in clients.iter_mut().zip(&requests) {
        client.send(&request[..40]);
    }
    // They were accepted, and looked at, before this one.
    assert_eq!(Client::connect(&server).get("/sample/hello", &token).status, 200);
    server.signal("TERM");
    server.line_with("draining");
    assert!(refuses_connections(&server.address), "and every worker knows");
    for (client, request) in clients.iter_mut().zip(&requests) {
        client.send(&request[40..]);
    }
    assert!(upstream.request().starts_with("GET /slow/1 HTTP/1.1\r\n"));
    upstream.answer("at last");
    for client in &mut clients {
        let answer = client.answer();
        assert!(answer.status == 200 && answer.head.contains("\r\nconnection: close\r\n"), "{}", answer.head);
    }
    assert_eq!(server.ended().code(), Some(0));
}
