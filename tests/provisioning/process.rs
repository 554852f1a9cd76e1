//! The `process` driver: a tenant's own process answers its requests, is started again when it dies, and outlives nobody.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::drift::unavailable;
use crate::{
    server::{Server, tollgate},
    support::{
        actors::{Actor, PASSWORD, email_of, registration},
        app::{ADMIN_EMAIL, ADMIN_PASSWORD, TestApp},
        skip,
    },
};

/// Says who it is, and what it was asked.
const PROGRAM: &str = r#"
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        sick = os.path.exists(os.environ["FOLDER"] + "/sick-" + os.environ["TENANT_ID"])
        length = int(self.headers.get("content-length", "0"))
        said = json.dumps({"of": os.environ["TENANT_ID"], "pid": os.getpid(), "path": self.path, "method": self.command,
            "tenant": self.headers.get("x-tenant-id"), "host": self.headers.get("host"),
            "body": self.rfile.read(length).decode()}).encode()
        self.send_response(503 if sick and self.path == "/healthz" else 200)
        self.send_header("content-length", str(len(said)))
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(said)
    do_POST = do_GET
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args): pass
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

struct World {
    folder: TempDir,
    python: String,
    pool: Child,
    settings: String,
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.pool.kill());
        drop(self.pool.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl World {
    /// Settings with a route to the pool's own upstream; `None` where there is no Python.
    fn new(first_port: u16) -> Option<Self> {
        let python = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|path| Path::new(path).exists());
        let Some(python) = python else {
            skip("python", "Python");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program.py");
        fs::write(&program, PROGRAM).unwrap();
        let port = free_port();
        let pool = Command::new(python)
            .arg(&program)
            .arg(port.to_string())
            .env("TENANT_ID", "pool")
            .env("FOLDER", folder.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let (program, place, last) = (program.display(), folder.path().display(), first_port + 9);
        let settings = format!(
            "[provisioning]\nsilo = \"process\"\n[provisioning.process]\ncommand = [\"{python}\", \"{program}\", \"{{port}}\"]\n\
             first_port = {first_port}\nlast_port = {last}\nhealth = \"/healthz\"\nhealth_interval_s = 1\nstop_grace_s = 2\n\
             env = {{ FOLDER = \"{place}\" }}\n\
             [[gateway.upstreams]]\nname = \"product\"\ntargets = [\"http://127.0.0.1:{port}\"]\n\
             [[gateway.routes]]\npath = \"/product/\"\nupstream = \"product\"\n\
             [[gateway.routes]]\npath = \"/short/\"\nupstream = \"product\"\nstrip_prefix = \"/short\"\n"
        );
        Some(Self { folder, python: python.to_owned(), pool, settings })
    }
}

fn is_alive(pid: i64) -> bool {
    // A zombie is none.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn kill(pid: i64) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

async fn asked(actor: &Actor<'_>) -> Value {
    actor.get("/product/a?b=c").await.expect(200).body
}

/// Asks until another process than this one answers.
async fn asked_after(actor: &Actor<'_>, pid: i64) -> Value {
    loop {
        let reply = actor.get("/product/a?b=c").await;
        if reply.status == 200 && reply.body["pid"] != pid {
            return reply.body;
        }
        assert!(reply.status == 200 || [502, 503, 504].contains(&reply.status.as_u16()), "{}", reply.body);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_siloed_tenants_requests_go_to_its_own_process_and_others_to_the_pool() {
    let Some(world) = World::new(21_300) else { return };
    let app = TestApp::with(&world.settings).await;
    let (first, second, pooled) = (
        app.tenant("Acme", "premium").await,
        app.tenant("Globex", "premium").await,
        app.tenant("Initech", "standard").await,
    );
    let admin = app.admin().await;
    let (acme, globex, initech) =
        (app.owner_of("Acme").await, app.owner_of("Globex").await, app.owner_of("Initech").await);
    let mut pids = Vec::new();
    for (owner, of, id) in
        [(&acme, &first, &first), (&globex, &second, &second), (&initech, &"pool".to_owned(), &pooled)]
    {
        let said = asked(owner).await;
        assert_eq!((said["of"].as_str(), said["tenant"].as_str()), (Some(of.as_str()), Some(id.as_str())));
        assert_eq!(said["path"], "/product/a?b=c");
        pids.push(said["pid"].as_i64().unwrap());
    }
    // What is ours to answer stays ours.
    acme.get("/sample/hello").await.expect(200);
    let path = format!("/admin/v1/tenants/{first}");
    let place = admin.get(&format!("{path}/infrastructure")).await.expect(200);
    assert_eq!(place.text("/upstream"), format!("http://{}", place.text("/location")));
    // Killed, it is started again, and found.
    kill(pids[0]);
    let said = asked_after(&acme, pids[0]).await;
    assert_eq!(said["of"].as_str(), Some(first.as_str()));
    // Not well, too.
    let pid = said["pid"].as_i64().unwrap();
    let sick = world.folder.path().join(format!("sick-{first}"));
    fs::write(&sick, "").unwrap();
    while is_alive(pid) {
        tokio::task::yield_now().await;
    }
    fs::remove_file(&sick).unwrap();
    let pid = asked_after(&acme, pid).await["pid"].as_i64().unwrap();
    // It may answer before it was asked whether it is well.
    let verify =
        async || admin.post(&format!("{path}/infrastructure/verify"), Value::Null).await.expect(200).text("/state");
    while verify().await != "present" {}
    // A tier without a process of one's own ends it, and the pool answers.
    admin.post(&format!("{path}/tier"), json!({"tier": "standard"})).await.expect(200);
    assert_eq!(asked(&acme).await["of"], "pool");
    assert!(!is_alive(pid));
    admin.post(&format!("{path}/tier"), json!({"tier": "premium"})).await.expect(200);
    let again = asked(&acme).await;
    assert_eq!(again["of"].as_str(), Some(first.as_str()));
    for id in [&first, &second] {
        admin.delete(&format!("/admin/v1/tenants/{id}")).await.expect(200);
    }
    assert!(!is_alive(again["pid"].as_i64().unwrap()) && !is_alive(pids[1]));
    let notes: Vec<_> = fs::read_dir(app.folder.path().join("infrastructure/process"))
        .unwrap()
        .map(|one| one.unwrap().file_name())
        .collect();
    assert_eq!(notes, ["mark"]);
    assert_eq!(asked(&initech).await["of"], "pool");
}

#[tokio::test]
async fn a_process_that_is_not_well_makes_its_tenant_unavailable_until_it_is() {
    let Some(world) = World::new(21_360) else { return };
    let app = TestApp::with(&world.settings).await;
    let id = app.tenant("Acme", "premium").await;
    let (admin, owner) = (app.admin().await, app.owner_of("Acme").await);
    asked(&owner).await;
    let path = format!("/admin/v1/tenants/{id}");
    let verify =
        async || admin.post(&format!("{path}/infrastructure/verify"), Value::Null).await.expect(200).text("/state");
    let sick = world.folder.path().join(format!("sick-{id}"));
    fs::write(&sick, "").unwrap();
    while verify().await != "unwell" {
        tokio::task::yield_now().await;
    }
    for looks in 1..=3 {
        assert_eq!(unavailable(&admin, &id).await, None);
        let look = admin.post(&format!("{path}/reconcile"), Value::Null).await.expect(200).body;
        assert_eq!((&look["open"][0]["kind"], &look["open"][0]["looks"]), (&json!("unwell"), &json!(looks)));
        assert_eq!(look["repaired"], json!([]), "whoever runs it starts it again");
    }
    assert_eq!(unavailable(&admin, &id).await.as_deref(), Some("its infrastructure is not well"));
    owner.get("/product/a").await.refuses(503, &[]);
    fs::remove_file(&sick).unwrap();
    while verify().await != "present" {
        tokio::task::yield_now().await;
    }
    let look = admin.post(&format!("{path}/reconcile"), Value::Null).await.expect(200).body;
    assert_eq!(look["open"], json!([]));
    assert_eq!(unavailable(&admin, &id).await, None);
    assert_eq!(asked(&owner).await["of"].as_str(), Some(id.as_str()));
}

#[tokio::test]
async fn a_process_that_is_never_well_fails_the_registration_and_is_not_left() {
    let Some(world) = World::new(21_320) else { return };
    let pids = world.folder.path().join("pids");
    let command = format!(
        "command = [\"/bin/sh\", \"-c\", \"echo $$ >>{}; exec tail -f /dev/null\"]\nstart_timeout_s = 1",
        pids.display()
    );
    let program = format!(
        "command = [\"{}\", \"{}\", \"{{port}}\"]",
        world.python,
        world.folder.path().join("program.py").display()
    );
    let app = TestApp::with(&world.settings.replace(&program, &command)).await;
    let failed = app.admin().await.post("/admin/v1/registrations", registration("Acme", "premium")).await;
    assert_eq!(failed.text("/status"), "failed", "{}", failed.body);
    let started = fs::read_to_string(pids).unwrap();
    assert!(started.lines().count() > 0 && started.lines().all(|pid| !is_alive(pid.parse().unwrap())), "{started}");
}

/// A call on a connection of its own, by the short way where there is one.
fn product(server: &Server, token: &str, path: &str) -> Value {
    loop {
        let answer = server.get(path, token);
        if answer.status == 200 {
            return answer.json();
        }
        assert!([502, 503, 504].contains(&answer.status), "{} {}", answer.head, answer.body);
    }
}

#[test]
fn a_server_that_is_killed_leaves_nothing_after_the_next_start_and_one_that_ends_leaves_nothing_at_once() {
    let Some(world) = World::new(21_340) else { return };
    let data = tempfile::tempdir().unwrap();
    let config = world.folder.path().join("tollgate.toml");
    fs::write(&config, &world.settings).unwrap();
    let run = || {
        let mut command = tollgate();
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&config).arg("--data").arg(data.path());
        command.env("TOLLGATE_IDENTITY__PUBLISHED_ALGS", r#"["ES256"]"#);
        Server::run(&mut command)
    };
    let server = run();
    let admin = server.token(ADMIN_EMAIL, ADMIN_PASSWORD);
    let mut ids = Vec::new();
    for (name, tier) in [("Acme", "premium"), ("Globex", "premium"), ("Initech", "standard")] {
        let made = server.call("POST", "/admin/v1/registrations", &admin, &registration(name, tier));
        assert_eq!(made.status, 201, "{}", made.body);
        ids.push(made.json()["tenant_id"].as_str().unwrap().to_owned());
    }
    let tokens: Vec<String> = ["Acme", "Globex", "Initech"].map(|name| server.token(&email_of(name), PASSWORD)).into();
    let pids = |server: &Server| {
        let mut pids = Vec::new();
        for (token, of) in tokens.iter().zip([ids[0].as_str(), &ids[1], "pool"]) {
            for path in ["/product/x?y=1", "/short/x?y=1"] {
                let said = product(server, token, path);
                assert_eq!((said["of"].as_str(), said["method"].as_str()), (Some(of), Some("GET")), "{said}");
                assert!(said["path"].as_str().unwrap().ends_with("/x?y=1") && said["tenant"].is_string(), "{said}");
                pids.push(said["pid"].as_i64().unwrap());
            }
        }
        pids.truncate(4);
        pids.dedup();
        pids
    };
    let posted = server.call("POST", "/product/x", &tokens[0], &json!({"a": 1}));
    assert_eq!(
        (posted.json()["of"].as_str(), posted.json()["body"].as_str()),
        (Some(ids[0].as_str()), Some("{\"a\":1}"))
    );
    let first = pids(&server);
    assert_eq!(first.len(), 2);
    server.signal("KILL");
    drop(server);
    assert!(first.iter().all(|pid| is_alive(*pid)), "nobody ended them yet");
    let server = run();
    let second = pids(&server);
    assert!(first.iter().all(|pid| !is_alive(*pid)) && second.iter().all(|pid| !first.contains(pid)));
    // What was called is billed, wherever it went: two calls and a posted one before, two since.
    assert_eq!(server.used(&tokens[0]), 5);
    server.signal("TERM");
    assert!(server.ended().success());
    assert!(second.iter().all(|pid| !is_alive(*pid)));
    assert!(is_alive(i64::from(world.pool.id())), "the pool's is not ours to end");
}
