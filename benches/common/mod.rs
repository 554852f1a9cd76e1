//! What the benches through the real binary share: a connection that stays, what a process has used, when to run at all.

#![allow(dead_code, reason = "each bench uses a part of this")]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    str::FromStr,
};

use tokio::io::AsyncReadExt as _;

/// Whether the load is asked for: `cargo test --benches` gives no `--bench`, and `cargo bench -- --list` or `-- --test`
/// gives it with a flag that means otherwise.
pub fn wanted(name: &str) -> bool {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    if has("--list") {
        println!("{name}: benchmark");
    }
    has("--bench") && !has("--test") && !has("--list")
}

/// A setting of the bench: `NAME=value cargo bench …`.
#[expect(clippy::disallowed_methods, reason = "benches read their own switches")]
pub fn setting<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}?")))
}

/// A setting that is a list of numbers.
pub fn list(name: &str, default: usize) -> Vec<usize> {
    let text: String = setting(name, default.to_string());
    text.split(',').map(|one| one.trim().parse().unwrap_or_else(|_| panic!("{name}={text}?"))).collect()
}

/// User and system time of a process in microseconds (proc(5)); a tick is 10 ms on every Linux that Rust runs on.
pub fn cpu_micros(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum::<u64>() * 10_000
}

/// A line of a process's status in KiB: `VmRSS` now, `VmHWM` at its peak (proc(5)).
pub fn memory_kib(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let found = status.lines().find_map(|own| own.strip_prefix(line)?.strip_prefix(':')?.split_whitespace().next());
    found.and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Reads one answer; its status, or `None` when the connection broke. Head and body are in `buffer` then.
pub async fn read_answer(stream: &mut tokio::net::TcpStream, buffer: &mut Vec<u8>) -> Option<u16> {
    buffer.clear();
    loop {
        if let Some((status, _)) = answer_in(buffer) {
            return Some(status);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// The status of a whole answer, and where its body begins.
fn answer_in(buffer: &[u8]) -> Option<(u16, usize)> {
    let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&buffer[..end]).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    let whole = buffer.len() >= end + 4 + length.unwrap_or(0);
    whole.then(|| Some((head.split(' ').nth(1)?.parse().ok()?, end + 4)))?
}

/// A connection that stays open, for one call after the other.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP connection");
        Self { stream, buffer: Vec::new() }
    }

    /// The body of the answer, which must be a good one.
    pub fn get(&mut self, path: &str, token: &str) -> &[u8] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).expect("the server reads");
        self.buffer.clear();
        let mut chunk = [0; 16 * 1024];
        loop {
            let read = self.stream.read(&mut chunk).expect("the server answers");
            assert_ne!(read, 0, "the server closed the connection");
            self.buffer.extend_from_slice(&chunk[..read]);
            if let Some((status, body)) = answer_in(&self.buffer) {
                assert_eq!(status, 200, "{}", String::from_utf8_lossy(&self.buffer));
                return &self.buffer[body..];
            }
        }
    }
}
