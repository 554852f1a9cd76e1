//! How bodies flow: with limits of time, in small pieces, without being held, and not before they are wanted.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use super::{
    client::{Client, head, header},
    configured::with_settings,
    customer::customer,
    server::{PATIENCE, Server},
    target::{Target, public_route, route},
    wait::stopwatch,
};

#[test]
fn an_upstream_that_does_not_begin_to_answer_in_time_is_a_504_and_nothing_is_billed() {
    let target = Target::start(|mut peer| {
        peer.request();
        peer.rest();
    });
    let (_folder, server) = with_settings(&route(&[target.address], "", "timeout_s = 1"));
    let token = customer(&server);
    let answer = server.get("/x/", &token);
    assert_eq!((answer.status, server.used(&token)), (504, 0));
    assert_eq!(answer.json()["type"], "/docs/problems#gateway-timeout");
}

/// Sends a beginning, and then nothing more until it is closed.
fn stuck() -> Target {
    Target::start(|mut peer| {
        peer.request();
        peer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
        peer.rest();
    })
}

#[test]
fn an_answer_that_gets_stuck_is_broken_off() {
    for limit in ["idle_timeout_s = 1", "total_timeout_s = 1"] {
        let target = stuck();
        let (_folder, server) = with_settings(&public_route(&[target.address], limit));
        let mut client = Client::connect(&server);
        client.send(&head("GET", "/x/", "", ""));
        assert_eq!(client.head().unwrap().status, 200);
        assert_eq!(client.chunk().as_deref(), Some("hello"));
        // No end of the body: whoever reads knows that it is not whole.
        assert_eq!(client.chunk(), None, "{limit}");
    }
}

#[test]
fn a_slow_reader_is_no_stuck_upstream() {
    let target = Target::start(|mut peer| {
        peer.request();
        peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n");
        peer.write(&vec![b'x'; 20_000_000]);
    });
    let (_folder, server) = with_settings(&public_route(&[target.address], "idle_timeout_s = 1"));
    let mut stream = server.connect();
    stream.write_all(head("GET", "/x/", "", "connection: close\r\n").as_bytes()).unwrap();
    let mut first = [0; 1024];
    stream.read_exact(&mut first).unwrap();
    let begun = stopwatch();
    // Longer than the limit, meanwhile nobody reads.
    while begun.elapsed().as_millis() < 2_500 {
        assert_eq!(server.get("/healthz", "").status, 200);
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(first.len() + rest.len() > 20_000_000, "{}", rest.len());
}

#[test]
fn events_pass_one_by_one() {
    let (say, said) = mpsc::channel::<String>();
    let said = std::sync::Mutex::new(said);
    let target = Target::start(move |mut peer| {
        peer.request();
        peer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        while let Ok(event) = said.lock().unwrap().recv() {
            peer.write(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        }
        peer.write(b"0\r\n\r\n");
    });
    let (_folder, server) = with_settings(&public_route(&[target.address], ""));
    let mut client = Client::connect(&server);
    client.send(&head("GET", "/x/", "", ""));
    assert_eq!(header(&client.head().unwrap().head, "content-type").as_deref(), Some("text/event-stream"));
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        say.send(event.clone()).unwrap();
        // The next is sent only when this one has arrived.
        assert_eq!(client.chunk(), Some(event));
    }
    drop(say);
    assert_eq!(client.chunk().as_deref(), Some(""));
}

/// The memory that a server has in use, in bytes.
pub fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Waits until a count stands still.
fn settled(count: &AtomicUsize, server: &Server) -> usize {
    let (mut before, mut same, begun) = (0, 0, stopwatch());
    while same < 20 {
        assert_eq!(server.get("/healthz", "").status, 200);
        let now = count.load(Ordering::SeqCst);
        same = if now == before && now > 0 { same + 1 } else { 0 };
        before = now;
        assert!(begun.elapsed() < PATIENCE, "it never stands still: {now}");
    }
    before
}

const LARGE: usize = 256 * 1024 * 1024;
/// What the kernel's and our own buffers may hold of a body.
const BUFFERS: usize = 32 * 1024 * 1024;

#[test]
fn a_slow_client_holds_the_upstream_up_and_not_our_memory() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let target = Target::start(move |mut peer| {
        peer.request();
        peer.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").as_bytes());
        let piece = vec![b'x'; 64 * 1024];
        while count.load(Ordering::SeqCst) < LARGE && peer.write(&piece) {
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    let (_folder, server) = with_settings(&public_route(&[target.address], ""));
    let before = resident(&server);
    let mut stream = server.connect();
    stream.write_all(head("GET", "/x/", "", "connection: close\r\n").as_bytes()).unwrap();
    let stuck_at = settled(&sent, &server);
    assert!(stuck_at < BUFFERS, "{stuck_at} bytes were taken from the upstream for nobody");
    let mut read = 0;
    let mut piece = vec![0; 1024 * 1024];
    while let Ok(more @ 1..) = stream.read(&mut piece) {
        read += more;
    }
    assert!(read > LARGE, "{read}");
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < BUFFERS as u64, "{grown} bytes of memory for a body that passed through");
}

#[test]
fn a_slow_upstream_holds_the_client_up_and_not_our_memory() {
    let (go, going) = mpsc::channel::<()>();
    let going = std::sync::Mutex::new(going);
    let target = Target::start(move |mut peer| {
        drop(peer.head());
        let _ = going.lock().unwrap().recv();
        let mut left = LARGE;
        let mut piece = vec![0; 1024 * 1024];
        while left > 0 {
            let Ok(read @ 1..) = peer.stream.read(&mut piece) else { return };
            left -= read;
        }
        peer.answer("200 OK", "taken");
    });
    let (_folder, server) = with_settings(&public_route(&[target.address], ""));
    let before = resident(&server);
    let sent = AtomicUsize::new(0);
    let mut client = Client::connect(&server);
    client.send(&head("PUT", "/x/", "", &format!("content-length: {LARGE}\r\n")));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let piece = "x".repeat(64 * 1024);
            while sent.load(Ordering::SeqCst) < LARGE {
                client.send(&piece);
                sent.fetch_add(piece.len(), Ordering::SeqCst);
            }
        });
        let stuck_at = settled(&sent, &server);
        assert!(stuck_at < BUFFERS, "{stuck_at} bytes were taken from the client for nobody");
        go.send(()).unwrap();
    });
    assert_eq!(client.answer().body, "taken");
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < BUFFERS as u64, "{grown} bytes of memory for a body that passed through");
}

#[test]
fn a_body_is_asked_for_only_when_somebody_will_read_it() {
    let target = Target::answering("taken");
    let (_folder, server) = with_settings(&route(&[target.address], "", ""));
    let token = customer(&server);
    let ask = "expect: 100-continue\r\ncontent-length: 5\r\n";
    let mut client = Client::connect(&server);
    client.send(&head("POST", "/x/", &token, ask));
    let interim = client.head().unwrap();
    assert_eq!(interim.status, 100, "{}", interim.head);
    client.send("hello");
    assert_eq!(client.answer().body, "taken");
    let arrived = target.request();
    assert_eq!(arrived.body, "hello");
    // The upstream was asked, too, and this one does not answer that: after a second the body is sent all the same.
    assert_eq!(header(&arrived.head, "expect").as_deref(), Some("100-continue"));
    // Whoever is not let in is told so instead.
    let mut refused = Client::connect(&server);
    refused.send(&head("POST", "/x/", "no-token", ask));
    assert_eq!(refused.head().unwrap().status, 401);
    assert!(target.requests().is_empty());
}

#[test]
fn trailers_are_for_clients_that_take_them_and_say_nothing_of_who_calls() {
    let target = Target::start(|mut peer| {
        peer.request();
        peer.write(
            b"HTTP/1.1 200 OK\r\ntrailer: x-checksum, x-tenant-id\r\ntransfer-encoding: chunked\r\n\r\n\
              5\r\nhello\r\n0\r\nx-checksum: 1\r\nx-tenant-id: forged\r\n\r\n",
        );
    });
    let (_folder, server) = with_settings(&public_route(&[target.address], ""));
    for (more, taken) in [("te: trailers\r\n", true), ("", false)] {
        let answer = server.raw(head("GET", "/x/", "", &format!("{more}connection: close\r\n")).as_bytes());
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("hello") && !answer.contains("forged"), "{answer}");
        assert_eq!(answer.contains("x-checksum: 1\r\n"), taken, "{answer}");
        assert_eq!(header(&target.request().head, "te").is_some(), taken);
    }
}

#[test]
fn a_slow_upload_is_no_slow_upstream() {
    let target = Target::answering("taken");
    let (_folder, server) = with_settings(&route(&[target.address], "", "public = true\ntimeout_s = 1"));
    let mut client = Client::connect(&server);
    client.send(&head("PUT", "/x/", "", "transfer-encoding: chunked\r\n"));
    let begun = stopwatch();
    // For longer than the upstream may take, which has nothing to answer yet.
    while begun.elapsed().as_millis() < 2_500 {
        client.send("5\r\nhello\r\n");
        assert_eq!(server.get("/healthz", "").status, 200);
    }
    client.send("0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.body), (200, "taken"), "{}", answer.head);
}
