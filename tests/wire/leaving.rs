//! Clients that go away before they have an answer: what they sent whole is billed by what the upstream made of it, and
//! nothing else is.

use std::sync::{Mutex, mpsc};

use super::{
    client::{Client, head},
    configured::with_settings,
    customer::customer,
    server::Server,
    target::{Target, route},
    wait::eventually,
};

/// Two calls at a time: whoever looks finds out whether another is under way, and keeps none out.
const TWO: &str = "max_concurrency = 2\ntimeout_s = 2";

/// Whether another call is under way on the route. The one that finds it out is not billed: its upstream says 500.
fn is_busy(server: &Server, token: &str) -> bool {
    let answer = server.get("/x/free", token);
    assert_eq!(answer.status, 500);
    answer.head.contains("\"route-concurrency\";r=0")
}

/// Waits until nothing else is under way on the route.
fn until_free(server: &Server, token: &str) {
    eventually("the earlier call is over", || !is_busy(server, token));
}

/// A target that says 500 to whoever only asks whether it is free, and answers every other request with what the test says.
fn asking() -> (Target, mpsc::Sender<&'static str>) {
    let (say, said) = mpsc::channel::<&'static str>();
    let said = Mutex::new(said);
    let target = Target::start(move |mut peer| {
        while let Some(request) = peer.request() {
            let free = request.head.starts_with("GET /x/free ");
            let Some(status) = (if free { Some("500 Free") } else { said.lock().unwrap().recv().ok() }) else { return };
            peer.answer(status, "done");
        }
    });
    (target, say)
}

/// An order; `rest` is the lines that say how long its body is, and the body.
fn request(token: &str, rest: &str) -> String {
    let head = head("POST", "/x/order", token, "");
    format!("{}{rest}", head.strip_suffix("\r\n").unwrap())
}

#[test]
fn a_client_that_leaves_before_the_answer_pays_by_what_the_upstream_answered() {
    let (target, say) = asking();
    let (_folder, server) = with_settings(&route(&[target.address], "", TWO));
    let token = customer(&server);
    let mut billed = 0;
    for (status, is_billed) in [("500 Broken", 0), ("200 OK", 1), ("503 Busy", 0), ("404 Not Found", 1)] {
        for body in
            ["\r\n", "content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
        {
            let mut client = Client::connect(&server);
            client.send(&request(&token, body));
            target.request();
            drop(client);
            // It is under way as long as the upstream works on it, whoever waits for it.
            assert!(is_busy(&server, &token));
            say.send(status).unwrap();
            until_free(&server, &token);
            billed += is_billed;
            assert_eq!(server.used(&token), billed, "{status} {body:?}");
            target.requests();
        }
    }
}

#[test]
fn a_request_that_its_client_did_not_send_whole_is_given_up_with_it() {
    let (target, _say) = asking();
    let (_folder, server) = with_settings(&route(&[target.address], "", TWO));
    let token = customer(&server);
    for half in ["content-length: 10\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let mut client = Client::connect(&server);
        client.send(&request(&token, half));
        eventually(half, || is_busy(&server, &token));
        drop(client);
        until_free(&server, &token);
        assert_eq!(server.used(&token), 0);
        let whole = target.requests().into_iter().filter(|request| request.head.starts_with("POST"));
        assert_eq!(whole.count(), 0, "the upstream took half a request for a whole one");
    }
}

#[test]
fn an_upstream_that_never_answers_holds_a_client_that_left_no_longer_than_one_that_waits() {
    let target = Target::start(|mut peer| {
        let Some(request) = peer.request() else { return };
        if request.head.starts_with("GET /x/free ") {
            peer.answer("500 Free", "");
        } else {
            peer.rest();
        }
    });
    let (_folder, server) = with_settings(&route(&[target.address], "", TWO));
    let token = customer(&server);
    let mut client = Client::connect(&server);
    client.send(&head("GET", "/x/order", &token, ""));
    target.request();
    drop(client);
    until_free(&server, &token);
    assert_eq!(server.used(&token), 0);
}

#[test]
fn a_client_that_left_keeps_nobody_out_while_its_call_goes_on() {
    let (target, say) = asking();
    let settings = format!("[server]\nmax_connections = 1\n{}", route(&[target.address], "", "timeout_s = 60"));
    let (_folder, server) = with_settings(&settings);
    let token = customer(&server);
    let mut client = Client::connect(&server);
    client.send(&head("GET", "/x/order", &token, ""));
    target.request();
    drop(client);
    assert_eq!(server.get("/healthz", "").status, 200);
    say.send("200 OK").unwrap();
    eventually("it is billed", || server.used(&token) == 1);
}
