//! `tollgate demo`: the journey, then a server to try.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::server::tollgate;

/// A demo that goes on serving; killed on drop.
struct Demo {
    child: Child,
    /// What it printed until it asked to be tried.
    text: String,
}

impl Demo {
    fn start(temporary: &Path) -> Self {
        let mut child = tollgate().arg("demo").env("TMPDIR", temporary).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut text = String::new();
        // An example of a call is its last line.
        for line in lines {
            text.extend([line.as_str(), "\n"]);
            if line.contains("-d '{") {
                break;
            }
        }
        Self { child, text }
    }

    /// What stands behind a name in the last lines.
    fn shown(&self, name: &str) -> Vec<String> {
        let line = self.text.lines().rev().find(|line| line.trim_start().starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {}", self.text));
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    }

    fn base(&self) -> String {
        self.shown("reference")[0].trim_end_matches("/docs").to_owned()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Status and body of a call to an address that a demo printed.
fn call(method: &str, url: &str, body: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(super::server::PATIENCE)).unwrap();
    let length = body.len();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a stopwatch, not a clock")]
fn the_demo_shows_the_journey_and_ends_well_within_ten_seconds() {
    let temporary = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let output = tollgate().args(["demo", "--exit"]).env("TMPDIR", temporary.path()).output().unwrap();
    let took = began.elapsed();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let journey = [
        "The platform administrator signs in",
        "Onboarding: tenant",
        "customer_1 registers again",
        "Everybody signs in",
        "Calls through the gateway",
        "What we know of customer_1",
        "What we know of customer_2",
        "What we know of customer_3",
        "customer_1 moves to premium",
        "customer_1 is unregistered",
        "every step did what it should",
    ];
    let mut rest = text.as_str();
    for step in journey {
        rest = rest.split_once(step).unwrap_or_else(|| panic!("no {step:?}, or not in its place, in {text}")).1;
    }
    for fact in ["billing account", "infrastructure", "usage", "total", "POST /v1/login  →  401"] {
        assert!(text.contains(fact), "no {fact:?} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours where there is no terminal");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the folder is gone");
}

#[test]
fn the_demo_goes_on_serving_at_addresses_and_logins_that_work() {
    let temporary = tempfile::tempdir().unwrap();
    // Whoever comes second finds the demo's own port taken.
    let demos = [Demo::start(temporary.path()), Demo::start(temporary.path())];
    assert_ne!(demos[0].base(), demos[1].base());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 2);
    for (demo, signal) in demos.into_iter().zip(["TERM", "INT"]) {
        assert_eq!(call("GET", &demo.shown("reference")[0], "").0, 200);
        for name in ["administrator", "customer_2", "customer_3"] {
            let [email, password] = demo.shown(name).try_into().unwrap();
            let login = serde_json::json!({"email": email, "password": password}).to_string();
            let (status, body) = call("POST", &format!("{}/v1/login", demo.base()), &login);
            assert_eq!(status, 200, "{name}: {body}");
        }
        demo.signal(signal);
        let mut demo = demo;
        assert_eq!(demo.child.wait().unwrap().code(), Some(0));
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "the folders are gone");
}
