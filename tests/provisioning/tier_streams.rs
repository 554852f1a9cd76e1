//! Calls that are under way when a tier changes: those that end are waited for, and those that last are not, until the old place is
//! to go.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    server::{PATIENCE, Server, tollgate},
    support::{
        actors::{PASSWORD, email_of, registration},
        app::{ADMIN_EMAIL, ADMIN_PASSWORD},
    },
};

/// An upstream of one connection after the other: it says what it was asked, and sends what it is told.
struct Upstream {
    route: String,
    asked: mpsc::Receiver<String>,
    /// Pieces of its answer; nothing closes.
    says: mpsc::Sender<Option<&'static str>>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let route = format!(
            "[[gateway.upstreams]]\nname = \"slow\"\ntargets = [\"http://{}\"]\n\
             [[gateway.routes]]\npath = \"/slow/\"\nupstream = \"slow\"\n",
            listener.local_addr().unwrap()
        );
        let ((ask, asked), (says, to_say)) = (mpsc::channel(), mpsc::channel::<Option<&'static str>>());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                if ask.send(read_head(&mut stream)).is_err() {
                    return;
                }
                while let Ok(Some(piece)) = to_say.recv() {
                    // A gateway that went away is the test's business.
                    drop(stream.write_all(piece.as_bytes()));
                }
            }
        });
        Self { route, asked, says }
    }

    fn request(&self) -> String {
        self.asked.recv_timeout(PATIENCE).unwrap()
    }

    fn say(&self, piece: &'static str) {
        self.says.send(Some(piece)).unwrap();
    }

    fn close(&self) {
        self.says.send(None).unwrap();
    }
}

/// All up to the empty line.
fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

struct World {
    _folder: TempDir,
    server: Server,
    admin: String,
    token: String,
    path: String,
}

impl World {
    fn new(upstream: &Upstream, waits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("tollgate.toml");
        let more = "[onboarding]\nretry_first_s = 1\n[identity]\npublished_algs = [\"ES256\"]\n";
        std::fs::write(&config, format!("[provisioning]\n{waits}\n{more}{}", upstream.route)).unwrap();
        let mut command = tollgate();
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&config);
        let server = Server::run(command.arg("--data").arg(folder.path().join("data")));
        let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
        let made = server.call("POST", "/admin/v1/registrations", &admin, &registration("Acme", "standard"));
        assert_eq!(made.status, 201, "{}", made.body);
        let path = format!("/admin/v1/tenants/{}", made.json()["tenant_id"].as_str().unwrap());
        let token = server.token(&email_of("Acme"), PASSWORD);
        Self { _folder: folder, server, admin, token, path }
    }

    /// Sends a request, and leaves its answer to be read.
    fn ask(&self, more: &str) -> TcpStream {
        let mut stream = self.server.connect();
        let (address, token) = (&self.server.address, &self.token);
        let request = format!("GET /slow/x HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn change(&self, tier: &str) -> (u16, Value) {
        let answer = self.server.call("POST", &format!("{}/tier", self.path), &self.admin, &json!({"tier": tier}));
        (answer.status, answer.json())
    }

    /// Waits until the last change has a step that stands so.
    #[expect(clippy::disallowed_methods, reason = "a stopwatch, so that a test that hangs fails")]
    fn until(&self, step: usize, status: &str) -> Value {
        let since = Instant::now();
        loop {
            let listed = self.server.get(&format!("{}/tier-changes", self.path), &self.admin).json();
            let last = listed["items"].as_array().unwrap().last().cloned().unwrap_or_default();
            if last["steps"][step]["status"] == status {
                return last;
            }
            assert!(since.elapsed() < PATIENCE, "it is not {status}: {last:#}");
        }
    }
}

const SWITCH: usize = 3;
const DRAIN: usize = 4;
const RELEASE: usize = 5;

#[test]
fn a_call_that_does_not_end_in_time_puts_the_switch_off_and_others_go_on() {
    let upstream = Upstream::start();
    let world = World::new(&upstream, "hold_ms = 100");
    let mut slow = world.ask("connection: close\r\n");
    upstream.request();
    let (status, answer) = world.change("premium");
    assert_eq!(
        (status, answer["change"].as_str(), answer["status"].as_str()),
        (202, Some("running"), Some("changing_tier"))
    );
    assert!(answer["steps"][SWITCH]["error"].as_str().unwrap().contains("more than the 100 ms"), "{answer}");
    assert!(answer["steps"][SWITCH]["next_try_at"].is_string(), "{answer}");
    assert_eq!(world.server.get("/sample/hello", &world.token).status, 200);
    upstream.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
    // Its head is there, and its body is not.
    read_head(&mut slow);
    assert_eq!(world.change("premium").0, 202, "it is the same");
    upstream.say("done");
    upstream.close();
    let mut rest = String::new();
    slow.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "done");
    let done = world.until(RELEASE, "done");
    assert!(done["steps"][SWITCH]["attempts"].as_i64().unwrap() > 1, "{done}");
    assert_eq!(world.server.get(&world.path, &world.admin).json()["tier"], "premium");
}

#[test]
fn streams_are_not_waited_for_before_the_switch_and_are_before_the_old_place_goes() {
    let upstream = Upstream::start();
    let world = World::new(&upstream, "drain_s = 600");
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let switching = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n";
    let streaming = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    for (asks, head, tier) in [("", streaming, "premium"), (websocket, switching, "standard")] {
        let mut stream = world.ask(asks);
        upstream.request();
        upstream.say(head);
        let begun = read_head(&mut stream);
        assert!(begun.starts_with(head.split("\r\n").next().unwrap()), "{begun}");
        std::thread::scope(|scope| {
            let change = scope.spawn(|| world.change(tier));
            let drains = world.until(DRAIN, "running");
            assert_eq!(drains["steps"][SWITCH]["attempts"], 1, "{drains}");
            assert_eq!(world.server.get(&world.path, &world.admin).json()["tier"], tier);
            // Calls are let in to the new place, and the stream goes on.
            assert_eq!(world.server.get("/sample/hello", &world.token).status, 200);
            upstream.say("data: more\n\n");
            let mut more = Vec::new();
            while !String::from_utf8_lossy(&more).contains("more") {
                let mut byte = [0];
                assert_eq!(stream.read(&mut byte).unwrap(), 1, "the stream was broken off");
                more.push(byte[0]);
            }
            upstream.close();
            drop(stream);
            let (status, answer) = change.join().unwrap();
            assert!(status == 202 || answer["change"] == "done", "{answer}");
        });
        world.until(RELEASE, "done");
    }
}

#[test]
fn a_stream_that_does_not_end_keeps_the_old_place_for_so_long_and_no_longer() {
    let upstream = Upstream::start();
    let world = World::new(&upstream, "drain_s = 1");
    let mut stream = world.ask("");
    upstream.request();
    upstream.say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    read_head(&mut stream);
    let (status, answer) = world.change("premium");
    assert_eq!((status, answer["change"].as_str()), (200, Some("done")), "{answer}");
    upstream.say("data: last\n\n");
    upstream.close();
    let mut rest = String::new();
    // Chunked, without its last chunk.
    drop(stream.read_to_string(&mut rest));
    assert!(rest.contains("data: last"), "{rest}");
}
