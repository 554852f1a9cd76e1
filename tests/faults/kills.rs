//! A script of requests and events, cut short at every call of a kind.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    server::{Server, tollgate},
    support::{
        actors::{PASSWORD, email_of, registration},
        app::{ADMIN_EMAIL, ADMIN_PASSWORD},
        skip,
    },
};

const REQUESTS: u64 = 200;
const EVENTS: u64 = 50;
/// Every so many calls a kill, when only a sample is asked for. strace counts the calls of each thread by itself.
const SAMPLE: u64 = 67;
/// A thread makes fewer calls for the journal than this; what comes after them is the store's, thousands, of which a
/// sample will do: each a quarter further than the one before.
const JOURNAL: u64 = 100;
const SETTINGS: &str = "[identity]\naccess_token_ttl_s = 86400\n[metering]\nroll_ms = 50\n";

/// A data folder with a tenant, a meter and a token, to be copied for each kill.
struct Prepared {
    folder: tempfile::TempDir,
    token: String,
    tenant: String,
}

impl Prepared {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("faults.toml"), SETTINGS).unwrap();
        let settings = folder.path().join("faults.toml");
        let server = Server::start(&folder.path().join("data"), &["--config", settings.to_str().unwrap()]);
        let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
        let made = server.call("POST", "/admin/v1/registrations", &admin, &registration("Acme", "premium")).json();
        let meter = json!({"key": "tokens", "event_type": "prompt", "aggregation": "sum", "value_property": "$.n"});
        assert_eq!(server.call("POST", "/admin/v1/meters", &admin, &meter).status, 201);
        let token = server.token(&email_of("Acme"), PASSWORD);
        server.signal("TERM");
        assert!(server.ended().success());
        Self { folder, token, tenant: made["tenant_id"].as_str().unwrap().to_owned() }
    }

    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        let from = self.folder.path().join(".");
        assert!(Command::new("cp").arg("-r").arg(from).arg(copy.path()).status().unwrap().success());
        copy
    }
}

fn settings(folder: &Path) -> String {
    folder.join("faults.toml").display().to_string()
}

/// What the script was told.
#[derive(Default)]
struct Told {
    sent: u64,
    answered: u64,
    events_sent: u64,
    events_answered: u64,
    died: bool,
}

/// Requests and events in turn, until the end or until the server is gone.
fn script(server: &Server, prepared: &Prepared) -> Told {
    let mut told = Told::default();
    for n in 0..REQUESTS {
        told.sent += 1;
        match server.try_call("GET", "/sample/hello", &prepared.token, &Value::Null) {
            Some(answer) => told.answered += u64::from(answer.status == 200),
            None => return Told { died: true, ..told },
        }
        if n % (REQUESTS / EVENTS) == 0 {
            let event = json!({"specversion": "1.0", "id": n.to_string(), "source": "script", "type": "prompt",
                "subject": prepared.tenant, "data": {"n": 1}});
            told.events_sent += 1;
            match server.try_call("POST", "/api/v1/events", &prepared.token, &event) {
                Some(answer) => told.events_answered += u64::from(answer.status == 204),
                None => return Told { died: true, ..told },
            }
        }
    }
    told
}

/// Runs the script until the n-th `call` of any thread of the server; `false` when there is no such call.
fn killed_at(prepared: &Prepared, call: &str, n: u64) -> bool {
    let copy = prepared.copy();
    let mut command = Command::new("strace");
    // Nothing of the test's own environment: its switches are no settings.
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("TOLLGATE_ADMIN_PASSWORD", ADMIN_PASSWORD);
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=KILL:when={n}")]);
    command.arg(env!("CARGO_BIN_EXE_tollgate")).args(["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(copy.path().join("data")).args(["--config", &settings(copy.path())]).stdin(Stdio::null());
    let told = match Server::try_run(&mut command) {
        Some(server) => {
            let told = script(&server, prepared);
            if !told.died {
                server.stop_child();
            }
            server.ended();
            told
        }
        // It died before it listened.
        None => Told { died: true, ..Told::default() },
    };
    let again = Server::start(&copy.path().join("data"), &["--config", &settings(copy.path())]);
    let counted = again.used(&prepared.token);
    let events = again.get("/api/v1/meters/tokens/query", &prepared.token).json();
    let events: u64 = events["data"][0]["value"].to_string().parse().unwrap_or(0);
    let place = format!("{call} {n}");
    let Told { sent, answered, events_sent, events_answered, died } = told;
    assert!(answered <= counted && counted <= sent, "{place}: {answered} answered, {counted} counted, {sent} sent");
    assert!(
        events_answered <= events && events <= events_sent,
        "{place}: {events_answered} events answered, {events} counted, {events_sent} sent"
    );
    let doctor = tollgate().args(["doctor", "--data"]).arg(copy.path().join("data")).output().unwrap();
    assert!(doctor.status.success(), "{place}: {}", String::from_utf8_lossy(&doctor.stderr));
    died
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its own switch")]
fn no_kill_at_any_system_call_loses_or_doubles_usage() {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if !traced.is_ok_and(|output| output.status.success()) {
        return skip("faults", "strace that may trace");
    }
    let all = std::env::var("TOLLGATE_KILLS").is_ok_and(|which| which == "all");
    let prepared = Prepared::new();
    let mut kills = 0;
    // Journal records and the store's pages are written by the first, made durable by the second; segments get their
    // names by the third.
    for (call, every) in [("pwrite64", 1), ("fdatasync", 1), ("rename", 1), ("fsync", 7)] {
        let mut n = 1;
        while killed_at(&prepared, call, n) {
            kills += 1;
            n += match (all, n < JOURNAL) {
                (false, _) => SAMPLE.max(n),
                (true, true) => every,
                (true, false) => n / 4,
            };
        }
    }
    let mut out = std::io::stderr();
    drop(writeln!(out, "{kills} kills at system calls: lost 0, doubled 0"));
    assert!(kills >= 4);
}
