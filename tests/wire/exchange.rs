//! One exchange with an upstream: what is sent, what comes back, and what becomes of the connection.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use super::{
    client::{Client, head, header},
    configured::with_settings,
    scripted::{Scripted, ok},
};

#[test]
fn a_connection_is_used_again_and_a_closed_one_is_not() {
    let upstream = Scripted::start(|number, connection| {
        // The first connection is closed after two answers, without a word.
        let most = if number == 0 { 2 } else { usize::MAX };
        for _ in 0..most {
            let Some(_) = connection.head() else { return };
            connection.say(ok(&number.to_string()));
        }
        connection.close();
    });
    let (_folder, server) = with_settings(&upstream.route());
    let mut client = Client::connect(&server);
    let bodies: Vec<String> = (0..5).map(|_| client.get("/up/", "").body).collect();
    assert_eq!(bodies, ["0", "0", "1", "1", "1"]);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_request_that_may_have_been_done_is_not_sent_twice() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let upstream = Scripted::start(move |number, connection| {
        if number == 0 {
            // Takes the second request, and closes without an answer.
            connection.head();
            connection.say(ok("first"));
            let head = connection.head().unwrap();
            assert!(head.starts_with("POST"), "{head}");
            count.fetch_add(1, Ordering::SeqCst);
            connection.close();
        } else {
            connection.head();
            count.fetch_add(1, Ordering::SeqCst);
            connection.say(ok("again"));
        }
    });
    let (_folder, server) = with_settings(&upstream.route());
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/up/", "").body, "first");
    let answer = client.send(&head("POST", "/up/", "", "content-length: 0\r\n")).answer();
    assert_eq!(answer.status, 502, "{}", answer.body);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[test]
fn bodies_of_every_length_arrive_whole_in_both_directions() {
    let upstream = Scripted::start(|_, connection| {
        while let Some(head) = connection.head() {
            let body = match header(&head, "content-length") {
                Some(length) => connection.body(length.parse().unwrap()),
                None => connection.chunks(),
            };
            // Back in pieces, so that they meet in the middle of everything.
            connection.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            for piece in body.chunks(10_007) {
                connection.say([format!("{:X}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            }
            connection.say("0\r\n\r\n");
        }
    });
    let (_folder, server) = with_settings(&upstream.route());
    let mut client = Client::connect(&server);
    for length in [1, 2, 1_000, 8_192, 16_384, 16_385, 100_000, 3_000_000] {
        let body: String = (0..length).map(|n| char::from(b'a' + u8::try_from(n % 23).unwrap())).collect();
        client.send(&head("POST", "/up/", "", &format!("content-length: {length}\r\n"))).send(&body);
        assert!(client.answer().body == body, "{length} bytes by length");
        client.send(&head("PUT", "/up/", "", "transfer-encoding: chunked\r\n"));
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
    let upstream = Scripted::start(|_, connection| {
        connection.head();
        connection.say("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig");
        connection.close();
    });
    let (_folder, server) = with_settings(&upstream.route());
    let mut client = Client::connect(&server);
    client.send(&head("POST", "/up/", "", "content-length: 1000000\r\n")).send("only the beginning");
    let answer = client.answer();
    assert_eq!((answer.status, answer.body.as_str()), (413, "big"));
}

#[test]
fn a_body_goes_on_while_its_answer_flows() {
    // An echo that answers each line as it comes: neither side ends before the other.
    let upstream = Scripted::start(|_, connection| {
        connection.head();
        connection.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            let chunk = connection.body("1\r\nx\r\n".len());
            connection.say(chunk);
        }
        connection.body("0\r\n\r\n".len());
        connection.say("0\r\n\r\n");
    });
    let (_folder, server) = with_settings(&upstream.route());
    let mut client = Client::connect(&server);
    client.send(&head("POST", "/up/", "", "transfer-encoding: chunked\r\n"));
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
    let upstream = Scripted::start(move |_, connection| {
        let head = connection.head().unwrap();
        sender.send(header(&head, "expect").unwrap()).unwrap();
        connection.say("HTTP/1.1 100 Continue\r\n\r\n");
        let body = connection.body(4);
        sender.send(String::from_utf8(body).unwrap()).unwrap();
        connection.say(ok("taken"));
    });
    let (_folder, server) = with_settings(&upstream.route());
    let mut client = Client::connect(&server);
    client.send(&head("PUT", "/up/", "", "expect: 100-continue\r\ncontent-length: 4\r\n"));
    assert_eq!(receiver.recv().unwrap(), "100-continue");
    assert_eq!(client.head().unwrap().status, 100);
    client.send("body");
    assert_eq!(receiver.recv().unwrap(), "body");
    assert_eq!(client.answer().body, "taken");
}

#[test]
fn a_client_that_waits_to_go_on_is_refused_before_it_sends() {
    let upstream = Scripted::start(|_, connection| {
        connection.head();
        connection.say("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
    });
    let (_folder, server) = with_settings(&upstream.route());
    let mut client = Client::connect(&server);
    client.send(&head("PUT", "/up/", "", "expect: 100-continue\r\ncontent-length: 4\r\n"));
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
    let upstream = Scripted::start(move |number, connection| {
        connection.head();
        connection.say(answers[number]);
        if answers[number].is_empty() {
            connection.close();
        } else {
            // Still open, and not asked again.
            assert_eq!(connection.head(), None);
        }
    });
    let (_folder, server) = with_settings(&upstream.route());
    let mut client = Client::connect(&server);
    for answer in answers {
        let got = client.get("/up/", "");
        assert_eq!(got.status, 502, "{answer:?}: {}", got.body);
    }
    assert_eq!(upstream.connections(), answers.len());
}

#[test]
fn an_answer_that_breaks_off_is_broken_off() {
    let (close, closing) = mpsc::channel::<()>();
    let closing = Mutex::new(closing);
    let upstream = Scripted::start(move |number, connection| {
        connection.head();
        connection.say(match number {
            0 => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
            _ => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        });
        closing.lock().unwrap().recv().unwrap();
        connection.close();
    });
    let (_folder, server) = with_settings(&upstream.route());
    for rest in ["abc", "3\r\nabc\r\n"] {
        let mut client = Client::connect(&server);
        assert_eq!(client.send(&head("GET", "/up/", "", "")).head().unwrap().status, 200);
        close.send(()).unwrap();
        assert_eq!(client.rest(), rest);
    }
}

#[test]
fn what_an_upstream_says_unasked_belongs_to_no_answer() {
    let upstream = Scripted::start(|number, connection| {
        connection.head();
        if number == 0 {
            // A second answer that nobody asked for must not become the next client's.
            connection.say(format!("{}{}", ok("mine"), ok("poison")));
        } else {
            connection.say(ok("clean"));
        }
        connection.head();
    });
    let (_folder, server) = with_settings(&upstream.route());
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/up/", "").body, "mine");
    assert_eq!(client.get("/up/", "").body, "clean");
}

#[test]
fn an_answer_without_a_length_ends_with_its_connection() {
    let upstream = Scripted::start(|_, connection| {
        connection.head();
        connection.say("HTTP/1.1 200 OK\r\n\r\nuntil the end");
        connection.close();
    });
    let (_folder, server) = with_settings(&upstream.route());
    let mut client = Client::connect(&server);
    for _ in 0..2 {
        assert_eq!(client.get("/up/", "").body, "until the end");
    }
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn many_calls_at_once_get_each_its_own_answer() {
    let upstream = Scripted::start(|_, connection| {
        while let Some(head) = connection.head() {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            connection.say(ok(&path));
        }
    });
    let (_folder, server) = with_settings(&upstream.route());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut client = Client::connect(server);
                for call in 0..500 {
                    let path = format!("/up/{thread}/{call}");
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
    let upstream = Scripted::start(|_, connection| {
        while let Some(head) = connection.head() {
            connection.say(ok(&header(&head, "upgrade").unwrap_or_default()));
        }
    });
    let (_folder, server) = with_settings(&upstream.route());
    let mut client = Client::connect(&server);
    let ask = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n";
    let answer = client.send(&head("GET", "/up/", "", ask)).answer();
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(client.send("CONNECT up:1 HTTP/1.1\r\nhost: up:1\r\n\r\n").head().unwrap().status, 405);
}
