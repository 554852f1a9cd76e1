//! Several targets: which of them a request goes to, and what happens when they fail.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    client::{Client, head, header},
    configured::with_settings,
    customer::admin,
    server::{PATIENCE, Server},
    target::{Target, nobody, public_route},
    wait::eventually,
};

fn post(body: &str) -> String {
    head("POST", "/x/orders", "", &format!("content-length: {}\r\n", body.len())) + body
}

/// The state of the targets, by the administrator.
fn targets(server: &Server, token: &str) -> Vec<Value> {
    let upstreams = server.get("/admin/v1/upstreams", token).json();
    upstreams["items"][0]["targets"].as_array().unwrap().clone()
}

/// Waits until a target is in a state.
fn until(server: &Server, token: &str, number: usize, key: &str, state: &str) {
    eventually(state, || targets(server, token)[number][key] == state);
}

#[test]
fn a_dead_target_costs_nobody_a_request_while_another_lives() {
    let alive = Target::answering("alive");
    let settings = public_route(&[nobody(), alive.address], "eject_s = 300");
    let (_folder, server) = with_settings(&settings);
    let mut client = Client::connect(&server);
    for number in 0..20 {
        let (get, post) = (client.get("/x/orders", "").body, client.send(&post(&format!("order {number}"))).answer());
        assert_eq!((&*get, post.status, &*post.body), ("alive", 200, "alive"), "{number}");
    }
    let posted: Vec<String> = alive
        .requests()
        .into_iter()
        .filter(|request| request.head.starts_with("POST"))
        .map(|request| request.body)
        .collect();
    assert_eq!(posted, (0..20).map(|number| format!("order {number}")).collect::<Vec<_>>());
    let states = targets(&server, &admin(&server));
    assert_eq!((&states[0]["state"], &states[1]["state"]), (&"out".into(), &"in".into()), "{states:?}");
}

#[test]
fn what_may_have_arrived_is_sent_again_only_where_twice_is_as_good_as_once() {
    let (breaking, alive) = (Target::breaking_off(), Target::answering("alive"));
    let settings = public_route(&[breaking.address, alive.address], "eject_after = 0\nretry_budget_percent = 100");
    let (_folder, server) = with_settings(&settings);
    let mut client = Client::connect(&server);
    for _ in 0..20 {
        assert_eq!(client.get("/x/orders", "").body, "alive");
    }
    let gets = breaking.requests().len();
    assert!(gets > 0 && alive.requests().len() == 20, "{gets}");
    let mut failed = 0;
    for number in 0..20 {
        let answer = client.send(&post(&format!("order {number}"))).answer();
        assert!([200, 502].contains(&answer.status), "{}", answer.body);
        failed += usize::from(answer.status == 502);
        // Neither the upstream's name nor its address.
        assert!(answer.status == 200 || !answer.body.contains("127.0.0.1"), "{}", answer.body);
    }
    let (broken, answered) = (breaking.requests().len(), alive.requests().len());
    assert_eq!((broken, answered), (failed, 20 - failed), "each order arrived once");
    assert!(failed > 0, "the lot never fell on the target that breaks off");
    let line = server.line_with("request failed");
    assert!(line.contains("upstream x, target http://127.0.0.1:"), "{line}");
}

#[test]
fn a_target_that_comes_back_is_tried_by_one_request_and_then_used() {
    let (alive, address) = (Target::answering("alive"), nobody());
    let settings = public_route(&[address, alive.address], "eject_after = 1\neject_s = 1");
    let (_folder, server) = with_settings(&settings);
    let token = admin(&server);
    let mut client = Client::connect(&server);
    while targets(&server, &token)[0]["state"] == "in" {
        assert_eq!(client.get("/x/", "").body, "alive");
    }
    let _back =
        Target::start_at(address, |mut peer| while peer.request().is_some() && peer.answer("200 OK", "back") {});
    until(&server, &token, 0, "state", "trial");
    assert_eq!(client.get("/x/", "").body, "back");
    assert_eq!(targets(&server, &token)[0]["state"], "in");
}

#[test]
fn an_upstream_that_fails_fast_is_spared_and_one_that_does_not_is_tried() {
    let address = nobody();
    for (more, second) in [("fail_fast = true\neject_after = 2\neject_s = 1", 503), ("eject_after = 2", 502)] {
        let (_folder, server) = with_settings(&public_route(&[address], more));
        let mut client = Client::connect(&server);
        let statuses: Vec<u16> = (0..4).map(|_| client.get("/x/", "").status).collect();
        assert_eq!(statuses, [502, 502, second, second], "{more}");
        if second == 503 {
            let refused = client.get("/x/", "");
            assert!(
                header(&refused.head, "retry-after").is_some() && !refused.body.contains("\"x\""),
                "{}",
                refused.head
            );
            let _back =
                Target::start_at(address, |mut peer| while peer.request().is_some() && peer.answer("200 OK", "") {});
            until(&server, &admin(&server), 0, "state", "trial");
            assert_eq!([client.get("/x/", "").status, client.get("/x/", "").status], [200, 200]);
        }
    }
}

#[test]
fn of_two_targets_the_one_with_less_to_do_gets_the_request() {
    let (free, held) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(true)));
    let (gate, holds) = (Arc::clone(&free), Arc::clone(&held));
    // Holds its first request.
    let slow = Target::start(move |mut peer| {
        while peer.request().is_some() {
            if holds.swap(false, Ordering::SeqCst) {
                gate.wait();
            }
            peer.answer("200 OK", "slow");
        }
    });
    let quick = Target::answering("quick");
    let (_folder, server) = with_settings(&public_route(&[slow.address, quick.address], ""));
    let mut waiting = Vec::new();
    // Until one is stuck at the slow target.
    while held.load(Ordering::SeqCst) {
        let mut client = Client::connect(&server);
        client.send(&head("GET", "/x/", "", ""));
        if slow.requests().is_empty() {
            waiting.push(client);
        } else {
            waiting.push(client);
            break;
        }
        std::thread::yield_now();
    }
    let mut client = Client::connect(&server);
    let token = admin(&server);
    let in_flight = |target: &Value| target["in_flight"].as_u64().unwrap();
    eventually("one is stuck", || targets(&server, &token).iter().map(in_flight).eq([1, 0]));
    for _ in 0..30 {
        assert_eq!(client.get("/x/", "").body, "quick");
    }
    free.wait();
    for mut client in waiting {
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn probes_put_a_target_out_and_bring_it_back() {
    let well = Arc::new(AtomicBool::new(true));
    let is_well = Arc::clone(&well);
    let probed = Target::start(move |mut peer| {
        while let Some(request) = peer.request() {
            let ill = request.head.starts_with("GET /healthz ") && !is_well.load(Ordering::SeqCst);
            peer.answer(if ill { "500 Internal Server Error" } else { "200 OK" }, "probed");
        }
    });
    let other = Target::answering("other");
    let health =
        "health = { path = \"/healthz\", interval_s = 1, timeout_s = 1, healthy_after = 1, unhealthy_after = 2 }";
    let (_folder, server) = with_settings(&public_route(&[probed.address, other.address], health));
    let token = admin(&server);
    let mut client = Client::connect(&server);
    let mut answers = |count: usize| (0..count).map(|_| client.get("/x/", "").body).collect::<Vec<_>>();
    assert!(answers(40).contains(&"probed".to_owned()));
    well.store(false, Ordering::SeqCst);
    until(&server, &token, 0, "health", "down");
    assert!(answers(40).iter().all(|answer| answer == "other"));
    well.store(true, Ordering::SeqCst);
    until(&server, &token, 0, "health", "up");
    assert!(answers(40).contains(&"probed".to_owned()));
}

/// A target that holds every request until the test lets one go.
fn holding() -> (Target, std::sync::mpsc::Sender<()>) {
    let (release, released) = std::sync::mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let target = Target::start(move |mut peer| {
        while peer.request().is_some() {
            let _ = released.lock().unwrap().recv_timeout(Duration::from_secs(10));
            peer.answer("200 OK", "done");
        }
    });
    (target, release)
}

fn limited(addresses: &[SocketAddr], waiting: u32) -> String {
    public_route(addresses, &format!("max_requests = 1\nmax_waiting = {waiting}"))
}

#[test]
fn a_target_has_no_more_to_do_than_it_may_and_a_short_queue() {
    let (target, release) = holding();
    let (_folder, server) = with_settings(&limited(&[target.address], 1));
    let mut first = Client::connect(&server);
    first.send(&head("GET", "/x/", "", ""));
    target.request();
    // Of two more one waits, and the other has no place to.
    let (tell, statuses) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for mut client in [Client::connect(&server), Client::connect(&server)] {
            let tell = tell.clone();
            scope.spawn(move || tell.send(client.get("/x/", "").status));
        }
        assert_eq!(statuses.recv_timeout(PATIENCE), Ok(503));
        assert_eq!(target.requests().len(), 0);
        release.send(()).unwrap();
        assert_eq!(first.answer().status, 200);
        target.request();
        release.send(()).unwrap();
        assert_eq!(statuses.recv_timeout(PATIENCE), Ok(200));
    });
}

#[test]
fn what_a_client_does_not_send_is_not_its_targets_failure() {
    let tls = |http: &str| format!("http = \"{http}\"\nfail_fast = true\neject_after = 1\neject_s = 60");
    // Reads what comes, and says nothing: of HTTP/2 not even that it speaks it.
    let target = Target::start(|mut peer| drop(peer.rest()));
    for http in ["1", "2"] {
        let settings = public_route(&[target.address], &tls(http)) + "timeout_s = 1\n";
        let (_folder, server) = with_settings(&settings);
        let token = admin(&server);
        let mut slow = Client::connect(&server);
        slow.send(&head("POST", "/x/", "", "content-length: 10\r\n")).send("only");
        assert_eq!(slow.answer().status, 504);
        let mut broken = Client::connect(&server);
        broken.send(&head("POST", "/x/", "", "content-length: 10\r\n")).send("only");
        drop(broken);
        let state = targets(&server, &token);
        assert_eq!((&state[0]["state"], &state[0]["failures"]), (&json!("in"), &json!(0)), "HTTP/{http}");
        // A whole request without an answer is one.
        let mut whole = Client::connect(&server);
        assert_eq!(whole.send(&post("all of it")).answer().status, 504);
        assert_eq!(targets(&server, &token)[0]["state"], "out", "HTTP/{http}");
    }
}
