//! A prepared data folder, a script of requests and events, and the comparison afterwards.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    client::{Client, head},
    server::{Server, tollgate},
    support::{
        actors::{PASSWORD, email_of, registration},
        app::{ADMIN_EMAIL, ADMIN_PASSWORD},
    },
};

/// Requests of a script; two of three wait for the disk.
pub const REQUESTS: u64 = 200;
/// Events of a script.
pub const EVENTS: u64 = 50;
/// The smallest segments, so that the script fills several.
const SEGMENT: &str = "segment_bytes = 262144\n";
/// Tokens that outlive every restart, and a route of each kind.
const SETTINGS: &str = "[identity]\naccess_token_ttl_s = 86400\n\
    [[gateway.routes]]\npath = \"/sample/\"\nupstream = \"builtin:sample\"\n\
    [[gateway.routes]]\npath = \"/sample/echo\"\nupstream = \"builtin:sample\"\ndurability = \"durable\"\n[metering]\nroll_ms = 50\n";

/// Whether all of a proof is asked for, not a sample.
#[expect(clippy::disallowed_methods, reason = "a test reads its own switch")]
pub fn all() -> bool {
    std::env::var("TOLLGATE_FAULTS").is_ok_and(|which| which == "all")
}

/// Says what was proved; the test harness would swallow `println!`.
pub fn say(what: &str) {
    drop(writeln!(std::io::stderr(), "{what}"));
}

/// A data folder with a tenant, a meter and a token, to be copied for each trial.
pub struct Scene {
    folder: tempfile::TempDir,
    pub token: String,
    pub tenant: String,
}

impl Scene {
    pub fn prepare() -> Self {
        Self::prepare_with(SEGMENT)
    }

    /// With more settings; the first belong to `[metering]`.
    pub fn prepare_with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("faults.toml"), format!("{SETTINGS}{more}")).unwrap();
        let server = start(folder.path());
        let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
        let made = server.call("POST", "/admin/v1/registrations", &admin, &registration("Acme", "premium")).json();
        let meter = json!({"key": "tokens", "event_type": "prompt", "aggregation": "sum", "value_property": "$.n"});
        assert_eq!(server.call("POST", "/admin/v1/meters", &admin, &meter).status, 201);
        // No limit stands between a script and the journal.
        let mut plan = server.get("/admin/v1/plans/premium", &admin).json();
        let members = plan.as_object_mut().unwrap();
        members.retain(|name, _| !["tier", "version", "rate_limit", "quotas"].contains(&name.as_str()));
        members.insert("effective".to_owned(), "now".into());
        let put = server.call("PUT", "/admin/v1/plans/premium", &admin, &plan);
        assert_eq!(put.status, 200, "{}", put.body);
        let token = server.token(&email_of("Acme"), PASSWORD);
        server.signal("TERM");
        assert!(server.ended().success());
        Self { folder, token, tenant: made["tenant_id"].as_str().unwrap().to_owned() }
    }

    /// Where it is, for a proof that needs no copy.
    pub fn place(&self) -> &Path {
        self.folder.path()
    }

    /// A copy of it in a place of its own.
    pub fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        self.copy_to(copy.path());
        copy
    }

    pub fn copy_to(&self, place: &Path) {
        copy_all(self.folder.path(), place);
    }

    pub fn event(&self, id: u64) -> Value {
        json!({"specversion": "1.0", "id": id.to_string(), "source": "script", "type": "prompt",
            "subject": self.tenant, "data": {"n": 1}})
    }
}

/// Copies what is in a folder.
pub fn copy_all(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from.join(".")).arg(to).status().unwrap().success());
}

/// The server's command line on a scene's copy, behind the program that watches over it if there is one. One worker thread,
/// so that it alone writes all records.
pub fn serve(watched_by: &[&str], place: &Path) -> Command {
    let words = [watched_by, &[env!("CARGO_BIN_EXE_tollgate"), "serve", "--listen", "127.0.0.1:0", "--data"]].concat();
    let mut command = Command::new(words[0]);
    // Nothing of the test's own environment: its switches are no settings.
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
        .env("TOLLGATE_ADMIN_PASSWORD", ADMIN_PASSWORD)
        .env("TOLLGATE_SERVER__WORKERS", "1")
        .env("TOKIO_WORKER_THREADS", "1")
        .stdin(Stdio::null());
    command.args(&words[1..]).arg(place.join("data")).arg("--config").arg(place.join("faults.toml"));
    command
}

pub fn start(place: &Path) -> Server {
    Server::run(&mut serve(&[], place))
}

/// What a script was told.
#[derive(Debug, Default, Clone)]
pub struct Told {
    pub sent: u64,
    pub answered: u64,
    /// Answered with an error: never to be counted.
    pub refused: u64,
    pub events_sent: u64,
    pub events_answered: u64,
    pub died: bool,
}

/// Requests and events in turn, until the end or until the server is gone. A connection that breaks off while the server
/// stays is no answer, and another one is made.
pub fn script(server: &Server, scene: &Scene) -> Told {
    let mut told = Told::default();
    let mut client = Client::try_connect(server);
    for n in 0..REQUESTS {
        told.call(server, scene, &mut client, if n % 3 == 0 { "/sample/hello" } else { "/sample/echo" });
        if n % (REQUESTS / EVENTS) == 0 && client.is_some() {
            told.events_sent += 1;
            let status = client.as_mut().and_then(|client| post(client, &scene.token, &scene.event(n)));
            told.events_answered += u64::from(status == Some(204));
            if status.is_none() {
                client = Client::try_connect(server);
            }
        }
        if client.is_none() {
            return Told { died: true, ..told };
        }
    }
    told
}

impl Told {
    /// One call on a connection, which is made anew when it breaks off; its status, if it had one.
    pub fn call(&mut self, server: &Server, scene: &Scene, client: &mut Option<Client>, path: &str) -> Option<u16> {
        let open = client.as_mut()?;
        self.sent += 1;
        let answer = open.try_send(&head("GET", path, &scene.token, "")).and_then(Client::try_answer);
        match &answer {
            Some(answer) => {
                self.answered += u64::from(answer.status == 200);
                self.refused += u64::from(answer.status != 200);
            }
            None => *client = Client::try_connect(server),
        }
        answer.map(|answer| answer.status)
    }
}

/// Posts events; the status of the answer.
pub fn post(client: &mut Client, token: &str, events: &Value) -> Option<u16> {
    let body = events.to_string();
    let more = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let request = head("POST", "/api/v1/events", token, &more) + &body;
    client.try_send(&request).and_then(Client::try_answer).map(|answer| answer.status)
}

/// Starts again and compares: what was answered is counted, and nothing twice. Then every event is sent once more, and
/// each counts once. Gives what is counted of requests.
pub fn compare(scene: &Scene, place: &Path, told: &Told, what: &str) -> u64 {
    let server = start(place);
    let counted = server.used(&scene.token);
    let Told { sent, answered, refused, events_sent, events_answered, .. } = *told;
    assert!(
        answered <= counted && counted <= sent - refused,
        "{what}: {answered} answered, {counted} counted, {refused} refused, {sent} sent"
    );
    let events = events_counted(&server, scene);
    assert!(
        events_answered <= events && events <= events_sent,
        "{what}: {events_answered} events answered, {events} counted, {events_sent} sent"
    );
    if events_sent > 0 {
        let again: Vec<Value> = (0..events_sent).map(|n| scene.event(n * (REQUESTS / EVENTS))).collect();
        let status = post(&mut Client::connect(&server), &scene.token, &again.into());
        assert_eq!(status, Some(204), "{what}");
        assert_eq!(events_counted(&server, scene), events_sent, "{what}: every event sent again counts once");
    }
    agrees(place, what);
    counted
}

pub fn events_counted(server: &Server, scene: &Scene) -> u64 {
    let events = server.get("/api/v1/meters/tokens/query", &scene.token).json();
    events["data"][0]["value"].to_string().parse().unwrap_or(0)
}

/// `tollgate doctor` finds nothing.
pub fn agrees(place: &Path, what: &str) {
    let mut doctor = tollgate();
    doctor.args(["doctor", "--data"]).arg(place.join("data")).arg("--config").arg(place.join("faults.toml"));
    let doctor = doctor.output().unwrap();
    assert!(doctor.status.success(), "{what}: {}", String::from_utf8_lossy(&doctor.stderr));
}
