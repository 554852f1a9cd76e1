//! One exchange with an upstream: what is sent, what comes back, and what becomes of the connection.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use super::{
    client::{Client, head, header},
    configured::with_settings,
    target::{Target, public_route},
};

#[test]
fn a_connection_is_used_again_and_a_closed_one_is_not() {
    let upstream = Target::start(|mut peer| {
        let number = peer.number;
        // The first connection is closed after two answers, without a word.
        let most = if number == 0 { 2 } else { usize::MAX };
        for _ in 0..most {
            let Some(_) = peer.head() else { return };
            peer.answer("200 OK", &number.to_string());
        }
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    let mut client = Client::connect(&server);
    let bodies: Vec<String> = (0..5).map(|_| client.get("/x/", "").body).collect();
    assert_eq!(bodies, ["0", "0", "1", "1", "1"]);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_request_that_may_have_been_done_is_not_sent_twice() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let upstream = Target::start(move |mut peer| {
        let number = peer.number;
        if number == 0 {
            // Takes the second request, and closes without an answer.
            peer.head();
            peer.answer("200 OK", "first");
            let head = peer.head().unwrap();
            assert!(head.starts_with("POST"), "{head}");
            count.fetch_add(1, Ordering::SeqCst);
        } else {
            peer.head();
            count.fetch_add(1, Ordering::SeqCst);
            peer.answer("200 OK", "again");
        }
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/x/", "").body, "first");
    let answer = client.send(&head("POST", "/x/", "", "content-length: 0\r\n")).answer();
    assert_eq!(answer.status, 502, "{}", answer.body);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[test]
fn bodies_of_every_length_arrive_whole_in_both_directions() {
    let upstream = Target::start(|mut peer| {
        while let Some(request) = peer.request() {
            let body = request.body.into_bytes();
            // Back in pieces, so that they meet in the middle of everything.
            peer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            for piece in body.chunks(10_007) {
                peer.write(&[format!("{:X}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            }
            peer.write(b"0\r\n\r\n");
        }
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    let mut client = Client::connect(&server);
    for length in [1, 2, 1_000, 8_192, 16_384, 16_385, 100_000, 3_000_000] {
        let body: String = (0..length).map(|n| char::from(b'a' + u8::try_from(n % 23).unwrap())).collect();
        client.send(&head("POST", "/x/", "", &format!("content-length: {length}\r\n"))).send(&body);
        assert!(client.answer().body == body, "{length} bytes by length");
        client.send(&head("PUT", "/x/", "", "transfer-encoding: chunked\r\n"));
        for piece in body.as_bytes().chunks(9_001) {
            client.send(&format!("{:x}\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap()));
        }
        client.send("0\r\n\r\n");
        assert!(client.answer().body == body, "{length} bytes in chunks");
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_answer_may_come_before_the_body_is_sent() {
    let upstream = Target::start(|mut peer| {
        peer.head();
        peer.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig");
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    let mut client = Client::connect(&server);
    client.send(&head("POST", "/x/", "", "content-length: 1000000\r\n")).send("only the beginning");
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (413, "big"));
}

#[test]
fn a_body_goes_on_while_its_answer_flows() {
    // An echo that answers each line as it comes: neither side ends before the other.
    let upstream = Target::start(|mut peer| {
        peer.head();
        peer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            let chunk = peer.bytes("1\r\nx\r\n".len());
            peer.write(&chunk);
        }
        peer.bytes("0\r\n\r\n".len());
        peer.write(b"0\r\n\r\n");
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    let mut client = Client::connect(&server);
    client.send(&head("POST", "/x/", "", "transfer-encoding: chunked\r\n"));
    assert_eq!(client.head().unwrap().status, 200);
    for letter in ["a", "b", "c"] {
        client.send(&format!("1\r\n{letter}\r\n"));
        assert_eq!(client.chunk().unwrap(), letter);
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk().unwrap(), "");
}

#[test]
fn a_client_that_waits_to_go_on_is_told_by_the_upstream() {
    let (sender, receiver) = mpsc::channel();
    let upstream = Target::start(move |mut peer| {
        let head = peer.head().unwrap();
        sender.send(header(&head, "expect").unwrap()).unwrap();
        peer.write(b"HTTP/1.1 100 Continue\r\n\r\n");
        let body = peer.bytes(4);
        sender.send(String::from_utf8(body).unwrap()).unwrap();
        peer.answer("200 OK", "taken");
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    let mut client = Client::connect(&server);
    client.send(&head("PUT", "/x/", "", "expect: 100-continue\r\ncontent-length: 4\r\n"));
    assert_eq!(receiver.recv().unwrap(), "100-continue");
    assert_eq!(client.head().unwrap().status, 100);
    client.send("body");
    assert_eq!(receiver.recv().unwrap(), "body");
    assert_eq!(client.answer().body, "taken");
}

#[test]
fn a_client_that_waits_to_go_on_is_refused_before_it_sends() {
    let upstream = Target::start(|mut peer| {
        peer.head();
        peer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    let mut client = Client::connect(&server);
    client.send(&head("PUT", "/x/", "", "expect: 100-continue\r\ncontent-length: 4\r\n"));
    assert_eq!(client.answer().status, 401, "nobody told it to go on");
}

#[test]
fn an_answer_that_is_none_is_a_bad_gateway_and_the_connection_is_not_used_again() {
    let answers: [&str; 6] = [
        "",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
    ];
    let upstream = Target::start(move |mut peer| {
        let number = peer.number;
        peer.head();
        peer.write(answers[number].as_bytes());
        if answers[number].is_empty() {
        } else {
            // Still open, and not asked again.
            assert_eq!(peer.head(), None);
        }
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    let mut client = Client::connect(&server);
    for answer in answers {
        let got = client.get("/x/", "");
        assert_eq!(got.status, 502, "{answer:?}: {}", got.body);
    }
    assert_eq!(upstream.connections(), answers.len());
}

#[test]
fn an_answer_that_breaks_off_is_broken_off() {
    let (close, closing) = mpsc::channel::<()>();
    let closing = Mutex::new(closing);
    let upstream = Target::start(move |mut peer| {
        let number = peer.number;
        peer.head();
        peer.write(match number {
            0 => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
            _ => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        });
        closing.lock().unwrap().recv().unwrap();
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    for rest in ["abc", "3\r\nabc\r\n"] {
        let mut client = Client::connect(&server);
        assert_eq!(client.send(&head("GET", "/x/", "", "")).head().unwrap().status, 200);
        close.send(()).unwrap();
        assert_eq!(client.rest(), rest);
    }
}

#[test]
fn what_an_upstream_says_unasked_belongs_to_no_answer() {
    let upstream = Target::start(|mut peer| {
        let number = peer.number;
        peer.head();
        if number == 0 {
            // A second answer that nobody asked for must not become the next client's.
            peer.answer("200 OK", "mine");
            peer.answer("200 OK", "poison");
        } else {
            peer.answer("200 OK", "clean");
        }
        peer.head();
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/x/", "").body, "mine");
    assert_eq!(client.get("/x/", "").body, "clean");
}

#[test]
fn an_answer_without_a_length_ends_with_its_connection() {
    let upstream = Target::start(|mut peer| {
        peer.head();
        peer.write(b"HTTP/1.1 200 OK\r\n\r\nuntil the end");
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        assert_eq!(client.get("/x/", "").body, "until the end");
    }
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn many_calls_at_once_get_each_its_own_answer() {
    let upstream = Target::start(|mut peer| {
        while let Some(head) = peer.head() {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            peer.answer("200 OK", &path);
        }
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut client = Client::connect(server);
                for call in 0..500 {
                    let path = format!("/x/{thread}/{call}");
                    assert_eq!(client.get(&path, "").body, path);
                }
            });
        }
    });
}

#[test]
fn http_2_without_tls_is_for_those_who_switched_it_on() {
    let (_folder, server) = with_settings("");
    // The preface, an empty SETTINGS frame, and a GET of /healthz by indexed headers.
    let frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86";
    let answer = server.raw(frames);
    let text = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || text.starts_with("HTTP/1.1 400"), "{text:?}");
}

#[test]
fn no_protocol_but_websocket_is_asked_of_an_upstream() {
    let upstream = Target::start(|mut peer| {
        while let Some(head) = peer.head() {
            peer.answer("200 OK", &header(&head, "upgrade").unwrap_or_default());
        }
    });
    let (_folder, server) = with_settings(&public_route(&[upstream.address], ""));
    let mut client = Client::connect(&server);
    let ask = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n";
    let answer = client.send(&head("GET", "/x/", "", ask)).answer();
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(client.send("CONNECT up:1 HTTP/1.1\r\nhost: up:1\r\n\r\n").head().unwrap().status, 405);
}
