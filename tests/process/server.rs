//! A server process of a test's own, and the least of an HTTP client.

#![allow(dead_code, reason = "benches use a part of this")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, mpsc},
    time::Duration,
};

use serde_json::Value;

use crate::support::app::ADMIN_PASSWORD;

/// A process that hangs longer than this has failed its test.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn tollgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.env_clear().env("TOLLGATE_ADMIN_PASSWORD", ADMIN_PASSWORD).stdin(Stdio::null());
    command
}

/// A server that listens; killed on drop.
pub struct Server {
    child: Child,
    pub address: String,
    /// The lines of its standard error.
    lines: Mutex<mpsc::Receiver<String>>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{} {}", self.head, self.body))
    }
}

impl Server {
    /// Starts on a free port with a data folder, and waits until it says that it listens.
    pub fn start(data: &Path, more: &[&str]) -> Self {
        Self::run(tollgate().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more))
    }

    pub fn run(command: &mut Command) -> Self {
        Self::try_run(command).unwrap_or_else(|| panic!("the server did not begin to listen"))
    }

    /// `None` when it ended before it listened.
    pub fn try_run(command: &mut Command) -> Option<Self> {
        let mut child = command.env("TOLLGATE_LOG", "info").stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || errors.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut server = Self { child, address: String::new(), lines: Mutex::new(lines) };
        let line = server.find_line("listening", PATIENCE).ok()?;
        let address = line.split("address=\"").nth(1).and_then(|rest| rest.split('"').next());
        address.unwrap_or_else(|| panic!("no address: {line}")).clone_into(&mut server.address);
        Some(server)
    }

    /// Waits for a line of standard error.
    pub fn line_with(&self, text: &str) -> String {
        self.line_within(text, PATIENCE)
    }

    /// The same of something that takes its time.
    pub fn line_within(&self, text: &str, patience: Duration) -> String {
        self.find_line(text, patience).unwrap_or_else(|(seen, error)| panic!("{error}: no {text:?} in {seen:#?}"))
    }

    fn find_line(&self, text: &str, patience: Duration) -> Result<String, (Vec<String>, mpsc::RecvTimeoutError)> {
        let mut seen = Vec::new();
        loop {
            match self.lines.lock().unwrap().recv_timeout(patience) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(line) => seen.push(line),
                Err(error) => return Err((seen, error)),
            }
        }
    }

    /// Ends the process that this one runs, where this one only watches over it.
    pub fn stop_child(&self) {
        let parent = self.pid().to_string();
        let children = Command::new("pgrep").args(["-P", &parent]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        assert!(Command::new("kill").args(children.split_whitespace()).status().unwrap().success());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub fn ended(self) -> ExitStatus {
        self.last_words().1
    }

    /// Waits for its end: what it had still to say, and its exit status.
    pub fn last_words(mut self) -> (String, ExitStatus) {
        let mut said = String::new();
        loop {
            match self.lines.lock().unwrap().recv_timeout(PATIENCE) {
                Ok(line) => said.extend([line.as_str(), "\n"]),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end: {said}"),
            }
        }
        let status = self.child.wait().unwrap();
        (said, status)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes and reads until the server closes.
    pub fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is an end, too.
        drop(stream.read_to_end(&mut answer));
        answer
    }

    /// One call on a connection of its own; `None` when the server went away.
    pub fn try_call(&self, method: &str, path: &str, token: &str, body: &Value) -> Option<Answer> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("{method} {path} HTTP/1.1\r\nauthorization: Bearer {token}\r\n");
        self.exchange(&head, "application/json", &body)
    }

    fn exchange(&self, head: &str, content_type: &str, body: &str) -> Option<Answer> {
        let request = format!(
            "{head}host: {}\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        // A body that broke off is no answer.
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let whole = length.is_none_or(|length: usize| length == body.len());
        whole.then(|| Answer { status, head: head.to_owned(), body: body.to_owned() })
    }

    pub fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        self.try_call(method, path, token, body).unwrap_or_else(|| panic!("{method} {path} got no answer"))
    }

    /// Posts a form without a token.
    pub fn form(&self, path: &str, form: &str) -> Answer {
        let head = format!("POST {path} HTTP/1.1\r\n");
        self.exchange(&head, "application/x-www-form-urlencoded", form).expect("an answer")
    }

    pub fn get(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path, token, &Value::Null)
    }

    /// The token of whoever signs in.
    pub fn token(&self, email: &str, password: &str) -> String {
        let login = self.call("POST", "/v1/login", "", &serde_json::json!({"email": email, "password": password}));
        login.json()["access_token"].as_str().unwrap_or_else(|| panic!("{}", login.body)).to_owned()
    }

    pub fn used(&self, token: &str) -> u64 {
        let usage = self.get("/v1/usage?meter=apis", token).json();
        usage["data"][0]["value"].as_str().map_or(0, |value| value.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
