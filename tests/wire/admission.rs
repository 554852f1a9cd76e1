//! Limits and units over sockets: quotas under 64 connections, suspension between two requests of one connection, streams
//! under way, bodies at their limit, an AI service's tokens.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Mutex,
};

use serde_json::{Value, json};

use super::{
    client::{Client, head},
    configured::with_settings,
    customer::{admin, customer},
    server::Server,
    upstream::Upstream,
};

/// The tenant of the tests' customer.
fn tenant(server: &Server, token: &str) -> String {
    server.get("/v1/me", token).json()["tenant"]["tenant_id"].as_str().unwrap().to_owned()
}

fn hard_quota(server: &Server, token: &str, limit: u32) {
    let path = format!("/admin/v1/tenants/{}/quotas", tenant(server, token));
    let quotas = json!([{"meter": "apis", "limit": limit.to_string(), "period": "month", "mode": "hard"}]);
    assert_eq!(server.call("PUT", &path, &admin(server), &quotas).status, 200);
}

/// Changes the plan of the customer's tier from now on.
fn change_plan(server: &Server, token: &str, changes: &Value) {
    let tier = server.get("/v1/quota", token).json()["tier"].as_str().unwrap().to_owned();
    let path = format!("/admin/v1/plans/{tier}");
    let mut plan = server.get(&path, &admin(server)).json();
    plan["effective"] = json!("now");
    plan.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    assert_eq!(server.call("PUT", &path, &admin(server), &plan).status, 200);
}

#[test]
fn of_64_connections_exactly_a_thousand_calls_are_answered() {
    let (_folder, server) = with_settings("");
    let token = customer(&server);
    change_plan(&server, &token, &json!({"rate_limit": null}));
    hard_quota(&server, &token, 1_000);
    let statuses = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut client = Client::connect(&server);
                let mut own: Vec<u16> = Vec::new();
                while own.last() != Some(&429) {
                    own.push(client.get("/sample/hello", &token).status);
                }
                statuses.lock().unwrap().extend(own);
            });
        }
    });
    let statuses = statuses.into_inner().unwrap();
    let count = |status| statuses.iter().filter(|own| **own == status).count();
    assert_eq!((count(200), count(429), statuses.len()), (1_000, 64, 1_064));
    assert_eq!(server.used(&token), 1_000);
}

#[test]
fn a_tenant_that_is_suspended_between_two_requests_of_one_connection_is_refused_the_second() {
    let (_folder, server) = with_settings("");
    let token = customer(&server);
    let path = format!("/admin/v1/tenants/{}", tenant(&server, &token));
    let mut client = Client::connect(&server);
    for (verb, status) in [("activate", 200), ("suspend", 403), ("activate", 200)] {
        // Activating an active tenant is no change; the connection stays the same throughout.
        server.call("POST", &format!("{path}/{verb}"), &admin(&server), &Value::Null);
        let answer = client.get("/sample/hello", &token);
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    assert_eq!(server.used(&token), 2);
}

#[test]
fn streams_hold_their_place_until_they_end_or_their_client_goes_away() {
    let (_folder, server) = with_settings("");
    let token = customer(&server);
    change_plan(&server, &token, &json!({"max_concurrency": 2}));
    let mut quick = Client::connect(&server);
    let endless = || {
        let mut client = Client::connect(&server);
        client.send(&head("GET", "/sample/stream?events=1000&interval_ms=1000", &token, ""));
        assert_eq!(client.head().unwrap().status, 200);
        client
    };
    let (first, second) = (endless(), endless());
    let refused = quick.get("/sample/hello", &token);
    assert_eq!(refused.status, 429);
    assert!(refused.head.to_lowercase().contains("retry-after: 1\r\n"), "{}", refused.head);
    assert_eq!(refused.json()["violated-policies"], json!(["concurrency"]));
    drop(first);
    // The server notices at the next event; until then the place is taken.
    while quick.get("/sample/hello", &token).status != 200 {}
    drop(second);
    while quick.get("/sample/hello", &token).status != 200 {}
}

/// An upstream that reads whole requests, of any number of connections at once, and answers with what it is given.
struct Service {
    address: SocketAddr,
}

impl Service {
    fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve(&stream, answer));
            }
        });
        Self { address }
    }

    fn route(&self, more: &str) -> String {
        format!(
            "[[gateway.upstreams]]\nname = \"ai\"\ntargets = [\"http://{}\"]\n\
             [[gateway.routes]]\npath = \"/ai/\"\nupstream = \"ai\"\n{more}\n\
             [[metering.meters]]\nkey = \"tokens\"\nevent_type = \"prompt\"\naggregation = \"sum\"\nvalue_property = \"$.n\"\n",
            self.address
        )
    }
}

/// Reads a request to its end and answers, until the connection does.
fn serve(stream: &TcpStream, answer: &str) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if head.contains("transfer-encoding: chunked") {
            let mut line = String::new();
            while line != "0\r\n" {
                line.clear();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
            }
            reader.read_line(&mut line).ok()?;
        } else {
            reader.read_exact(&mut vec![0; length.unwrap_or(0)]).ok()?;
        }
        (&*stream).write_all(answer.as_bytes()).ok()?;
    }
}

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 57\r\n\r\n\
                    {\"id\": \"x\", \"choices\": [], \"usage\": {\"total_tokens\": 37}}";
const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                      1a\r\ndata: {\"choices\": [\"one\"]}\r\n40\r\n\n\ndata: {\"choices\": [], \"usage\": {\"total_tokens\": 41}}\n\ndata: [D\r\n\
                      7\r\nONE]\n\n\n\r\n0\r\n\r\n";

#[test]
fn an_ai_service_is_metered_by_tokens_without_changing_it() {
    for (answer, tokens) in [(JSON, "37"), (EVENTS, "41")] {
        let service = Service::start(answer);
        let meters = "meters = [\"apis\", { meter = \"tokens\", value = \"json:/usage/total_tokens\" }]";
        let (_folder, server) = with_settings(&service.route(meters));
        let token = customer(&server);
        let mut client = Client::connect(&server);
        let body = "{\"prompt\": \"hello\"}";
        let length = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        let said = client.send(&head("POST", "/ai/chat", &token, &length)).send(body).answer();
        assert_eq!(said.status, 200);
        assert!(said.body.contains(&format!("\"total_tokens\": {tokens}")), "{}", said.body);
        let usage = server.get("/v1/usage?meter=tokens", &token).json();
        assert_eq!(usage["data"][0]["value"], tokens, "{usage}");
        let health = server.get("/admin/v1/metering/health", &admin(&server)).json();
        assert_eq!(health["unread"], json!([]));
    }
}

#[test]
fn bodies_at_the_limit_pass_and_those_beyond_it_do_not_with_length_and_in_chunks() {
    let service = Service::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let (_folder, server) = with_settings(&service.route("body_limit = 100000"));
    let token = customer(&server);
    let with_length = |bytes: usize| {
        let mut client = Client::connect(&server);
        client.send(&head("POST", "/ai/x", &token, &format!("content-length: {bytes}\r\n")));
        // Whoever is refused by the length alone may be cut off while it sends.
        client.try_send(&"x".repeat(bytes));
        client.try_answer().map(|answer| answer.status)
    };
    let in_chunks = |bytes: usize| {
        let mut client = Client::connect(&server);
        client.send(&head("POST", "/ai/x", &token, "transfer-encoding: chunked\r\n"));
        for piece in "x".repeat(bytes).as_bytes().chunks(4_096) {
            let piece = std::str::from_utf8(piece).unwrap();
            client.try_send(&format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
        client.try_send("0\r\n\r\n");
        client.try_answer().map(|answer| answer.status)
    };
    assert_eq!((with_length(100_000), in_chunks(100_000)), (Some(200), Some(200)));
    assert_eq!((with_length(100_001), in_chunks(100_001)), (Some(413), Some(413)));
    assert_eq!(server.used(&token), 2, "what was refused is not billed");
    // One that waits to be asked for its body is told before it sends it.
    let mut polite = Client::connect(&server);
    let answer =
        polite.send(&head("POST", "/ai/x", &token, "content-length: 100001\r\nexpect: 100-continue\r\n")).answer();
    assert_eq!(answer.status, 413);
}

#[test]
fn an_upstream_that_answers_one_at_a_time_is_held_by_one_tenant_alone_where_the_route_says_so() {
    let upstream = Upstream::start();
    let (_folder, server) =
        with_settings(&upstream.route().replace("path = \"/slow/\"", "path = \"/slow/\"\nmax_concurrency = 1"));
    let token = customer(&server);
    let mut waiting = Client::connect(&server);
    waiting.send(&head("GET", "/slow/1", &token, ""));
    upstream.request();
    let refused = Client::connect(&server).get("/slow/2", &token);
    assert_eq!((refused.status, &refused.json()["violated-policies"]), (429, &json!(["route-concurrency"])));
    upstream.answer("done");
    assert_eq!(waiting.answer().body, "done");
    let mut next = Client::connect(&server);
    next.send(&head("GET", "/slow/3", &token, ""));
    upstream.request();
    upstream.answer("again");
    assert_eq!(next.answer().status, 200);
    assert_eq!(server.used(&token), 2);
}
