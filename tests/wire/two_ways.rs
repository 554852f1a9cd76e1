//! A call may go to its upstream by a short way, as bytes, or by the long way (`gateway::short`). Nobody can tell which, but by
//! the spelling and the order of headers' names.

use tollgate::kernel::SeededRng;

use super::{
    client::{Client, head},
    configured::with_settings,
    customer::{admin, customer},
    differential::{Draw, HEADERS, made},
    server::Server,
    support::actors::{PASSWORD, email_of, registration},
    target::{Peer, Request, Target, route},
};

const REQUESTS: usize = 400;
/// Said once, and different each time.
const OF_ITS_OWN: [&str; 6] = ["x-request-id", "x-tenant-id", "x-user-id", "traceparent", "date", "ratelimit"];

/// What the upstream answers. After the last ones it closes.
const ANSWERS: [&str; 23] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 201 Made\r\nDate: Sat, 29 Oct 1994 19:43:31 GMT\r\nServer: x\r\ncontent-length: 2\r\nX-Twice: 1\r\nx-twice: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=tollgate\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nset-cookie: tollgate_browser=x\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX-End: 1\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nX-Own: 1\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
    "HTTP/1.1 404 Nowhere To Be Seen\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\ngone",
    "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops",
    "HTTP/1.1 299 Own\r\nContent-Length: 4\r\n\r\nmine",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTollgate-Usage: compute=5\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nRateLimit: \"forged\";r=1\r\nRateLimit-Policy: \"forged\";q=1\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    // From here on it closes.
    "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "nothing that anybody could read\r\n\r\n",
];
const CLOSES_FROM: usize = 18;

fn serve(mut peer: Peer) {
    while let Some(request) = peer.request() {
        let number: usize = super::client::header(&request.head, "x-answer").unwrap().parse().unwrap();
        let answer = ANSWERS[number];
        let is_head = request.head.starts_with("HEAD ") && !answer.contains("100 Continue");
        let end = if is_head { answer.find("\r\n\r\n").unwrap() + 4 } else { answer.len() };
        if !peer.write(&answer.as_bytes()[..end]) || number >= CLOSES_FROM || answer.contains("Connection: close") {
            return;
        }
    }
}

/// A message's first line, and its headers by name, with the values of those that are the same each time.
fn told(head: &str) -> (String, Vec<(String, String)>) {
    let (first, lines) = head.split_once("\r\n").unwrap();
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let name = name.to_ascii_lowercase();
        let value = if OF_ITS_OWN.contains(&&*name) { String::new() } else { value.trim().to_owned() };
        Some((name, value))
    };
    let mut headers: Vec<_> = lines.lines().filter_map(field).collect();
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    (first.to_owned(), headers)
}

type Told = (String, Vec<(String, String)>, String);

/// What a client sees of the answer to a request.
fn answer(client: &mut Client, request: &str) -> Option<Told> {
    client.send(request);
    let answer = if request.starts_with("HEAD ") { client.head() } else { client.try_answer() }?;
    let (first, headers) = told(&answer.head);
    Some((first, headers, answer.body))
}

/// What an upstream sees of a request, and whether names are spelt as the client spells them.
fn arrived(Request { head, body }: Request) -> (Told, bool) {
    let (first, headers) = told(&head);
    ((first, headers, body), head.contains("X-Spelt"))
}

/// A connection on which everything goes the long way.
fn by_the_long_way(server: &Server) -> Client {
    let mut client = Client::connect(server);
    assert_eq!(client.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").answer().status, 200);
    client
}

#[test]
fn nobody_can_tell_by_which_way_a_call_went() {
    let target = Target::start(serve);
    let (_folder, server) =
        with_settings(&route(&[target.address], "", "meters = [\"apis\", \"ingress_bytes\", \"egress_bytes\"]"));
    let one = customer(&server);
    let made_one = server.call("POST", "/admin/v1/registrations", &admin(&server), &registration("Globex", "premium"));
    assert_eq!(made_one.status, 201, "{}", made_one.body);
    let other = server.token(&email_of("Globex"), PASSWORD);
    let draw = Draw(SeededRng::new(7));
    // A second credential is refused by either way, and nothing arrives; what is no UTF-8 goes with the bytes around it.
    let others: Vec<&str> =
        HEADERS.into_iter().filter(|line| !line.starts_with("Authorization") && line.is_ascii()).collect();
    let mut shorts = 0;
    for number in 0..REQUESTS {
        let which = draw.below(ANSWERS.len());
        let request =
            made(&draw, &format!("X-Spelt: 1\r\nX-Answer: {which}\r\nAuthorization: Bearer TOKEN\r\n"), &others);
        let text = String::from_utf8(request).unwrap();
        let with = |token: &str| text.replace("TOKEN", token);
        let long = answer(&mut by_the_long_way(&server), &with(&one));
        let (seen_long, spelt) = arrived(target.request());
        assert!(!spelt, "{number}: {text}");
        let short = answer(&mut Client::connect(&server), &with(&other));
        let (seen_short, spelt) = arrived(target.request());
        shorts += usize::from(spelt);
        assert_eq!(seen_short, seen_long, "{number}: {text}");
        assert_eq!(short, long, "{number}: {text}{}", ANSWERS[which]);
    }
    assert!(shorts > REQUESTS / 3, "only {shorts} of {REQUESTS} went the short way");
    for meter in ["apis", "ingress_bytes", "egress_bytes", "compute"] {
        let used =
            |token: &str| server.get(&format!("/v1/usage?meter={meter}"), token).json()["data"][0]["value"].clone();
        assert_eq!(used(&other), used(&one), "{meter}");
    }
}

#[test]
fn a_request_that_comes_in_pieces_is_one() {
    let target = Target::answering("ok");
    let (_folder, server) = with_settings(&route(&[target.address], "", ""));
    let token = customer(&server);
    let mut client = Client::connect(&server);
    let request = format!("{}12345", head("POST", "/x/", &token, "X-Spelt: 1\r\nContent-Length: 5\r\n"));
    for _ in 0..2 {
        for byte in request.split_inclusive(|_| true) {
            client.send(byte);
        }
        assert_eq!(client.answer().status, 200);
        let (seen, spelt) = arrived(target.request());
        assert!(spelt && seen.2 == "12345", "{seen:?}");
    }
    // Two at once, and the beginning of a third.
    let (first, rest) = request.split_at(40);
    client.send(&format!("{request}{request}{first}"));
    assert_eq!([client.answer().status, client.answer().status], [200, 200]);
    assert_eq!(client.send(rest).answer().status, 200);
    assert_eq!(server.used(&token), 5);
}

#[test]
fn a_refused_call_takes_nothing_and_keeps_its_connection() {
    let target = Target::answering("ok");
    let other = "[[gateway.routes]]\npath = \"/z/\"\nupstream = \"x\"\nscopes = [\"nobody:has-this\"]\n";
    let (_folder, server) = with_settings(&format!("{}{other}", route(&[target.address], "", "body_limit = 4")));
    let token = customer(&server);
    let mut client = Client::connect(&server);
    for _ in 0..3 {
        assert_eq!(client.get("/z/", &token).status, 403);
        assert_eq!(client.get("/x/", "no.such.token").status, 401);
        // What is not asked for would be taken for the next answer.
        client.send(&head("HEAD", "/x/", "no.such.token", ""));
        assert_eq!(client.head().unwrap().status, 401);
        let large = head("PUT", "/x/", &token, "content-length: 5\r\n") + "12345";
        assert_eq!(client.send(&large).answer().status, 413);
        assert_eq!(client.get("/x/", &token).status, 200);
    }
    assert_eq!((target.requests().len(), target.connections()), (3, 1));
    assert_eq!(server.used(&token), 3);
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for_nor_is_a_client_that_asks_nothing() {
    let target = Target::answering("ok");
    let settings = format!("[server]\nheader_read_timeout_s = 1\n{}", route(&[target.address], "", ""));
    let (_folder, server) = with_settings(&settings);
    let token = customer(&server);
    let begun = head("GET", "/x/", &token, "");
    for more in ["", &begun[..30]] {
        let mut client = Client::connect(&server);
        assert_eq!(client.get("/x/", &token).status, 200);
        assert_eq!(client.send(more).rest(), "", "{more}");
    }
    assert_eq!(server.used(&token), 2);
}

#[test]
fn the_news_of_an_upstream_that_never_answers_have_an_end() {
    let target = Target::start(|mut peer| {
        drop(peer.request());
        while peer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n") {}
    });
    let (_folder, server) = with_settings(&route(&[target.address], "", "timeout_s = 30"));
    let token = customer(&server);
    for mut client in [Client::connect(&server), by_the_long_way(&server)] {
        assert_eq!(client.get("/x/", &token).status, 502);
    }
}

#[test]
fn a_connection_that_had_answers_over_http_1_does_not_change_to_http_2() {
    let target = Target::answering("ok");
    let (_folder, server) = with_settings(&format!("[server]\nh2c = true\n{}", route(&[target.address], "", "")));
    let token = customer(&server);
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/x/", &token).status, 200);
    let rest = client.send(preface).rest();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 "), "{rest:?}");
}
