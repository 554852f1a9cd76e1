//! Targets that misbehave, and their own account of what they gave to whom.
//!
//! An entry is made the moment that the kernel has the whole head of an answer below 500, with nothing between the two where a
//! target could be killed: what it has then reaches the gateway, whatever becomes of the connection.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    super::{
        client::header,
        tunnels::{ACCEPT, KEY},
    },
    dice::Dice,
};

/// What a tenant was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Given {
    /// Answers with a status below 500, whose head was sent.
    pub answers: u64,
    /// Bytes of these requests' bodies, all of which were read before the answer; and what came through tunnels.
    pub taken: u64,
    /// Bytes of these answers' bodies that would have been sent if nothing had come between; and what went through tunnels.
    pub offered: u64,
}

/// What targets did wrong.
#[derive(Debug, Default)]
pub struct Faults {
    pub reset_before_head: AtomicU64,
    pub reset_in_body: AtomicU64,
    pub closed_in_body: AtomicU64,
    pub closed_after_answer: AtomicU64,
    pub failed: AtomicU64,
    pub slow: AtomicU64,
    pub silent: AtomicU64,
    pub killed: AtomicU64,
}

impl Faults {
    pub fn all(&self) -> [(&'static str, u64); 8] {
        [
            ("reset before the head", &self.reset_before_head),
            ("reset in the body", &self.reset_in_body),
            ("closed in the body", &self.closed_in_body),
            ("closed after the answer", &self.closed_after_answer),
            ("5xx", &self.failed),
            ("slow", &self.slow),
            ("silent", &self.silent),
            ("killed", &self.killed),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// The account of all targets.
#[derive(Debug, Default)]
pub struct Account {
    tenants: Mutex<BTreeMap<String, Given>>,
    pub faults: Faults,
}

impl Account {
    pub fn of(&self, tenant: &str) -> Given {
        self.tenants.lock().unwrap().get(tenant).copied().unwrap_or_default()
    }

    fn note(&self, tenant: &str, more: Given) {
        let mut tenants = self.tenants.lock().unwrap();
        let given = tenants.entry(tenant.to_owned()).or_default();
        given.answers += more.answers;
        given.taken += more.taken;
        given.offered += more.offered;
    }
}

/// Serves an address until it is dropped, which closes all its connections at once.
pub async fn serve(address: SocketAddr, account: Arc<Account>, seed: u64) {
    let listener = TcpListener::bind(address).await.unwrap();
    let mut connections = JoinSet::new();
    for number in 0.. {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let peer = Peer {
            stream: BufReader::new(stream),
            account: Arc::clone(&account),
            dice: Dice::new(seed.wrapping_mul(1 << 32) + number),
        };
        connections.spawn(peer.run());
        while connections.try_join_next().is_some() {}
    }
}

/// Serves an address, with lives of a second and deaths of a third of one.
pub async fn serve_and_die(address: SocketAddr, account: Arc<Account>) {
    for life in 0.. {
        let alive = serve(address, Arc::clone(&account), 1_000 + life);
        drop(tokio::time::timeout(Duration::from_secs(1), alive).await);
        add(&account.faults.killed);
        pause(333).await;
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

async fn pause(ms: u64) {
    drop(tokio::time::timeout(Duration::from_millis(ms), std::future::pending::<()>()).await);
}

/// A connection of the gateway's.
struct Peer {
    stream: BufReader<TcpStream>,
    account: Arc<Account>,
    dice: Dice,
}

struct Request {
    head: String,
    body: u64,
}

impl Request {
    fn of(&self, name: &str) -> String {
        header(&self.head, name).unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

impl Peer {
    async fn run(mut self) {
        while self.one().await.is_some() {}
    }

    /// The next request and what comes of it; `None` when the connection is to be closed.
    async fn one(&mut self) -> Option<()> {
        let request = self.request().await?;
        let path: Vec<&str> = request.path().split('/').collect();
        let faults = &self.account.faults;
        match path[1..] {
            ["never", ..] => {
                add(&faults.silent);
                drop(self.stream.read(&mut [0]).await);
                return None;
            }
            ["ws", ..] => return self.tunnel(&request).await,
            _ => {}
        }
        let draw = self.dice.below(100);
        match draw {
            0..4 => {
                add(&faults.reset_before_head);
                return self.reset();
            }
            4..8 => {
                add(&faults.failed);
                let status = [500, 502, 503, 507][self.dice.below(4)];
                let head = format!("HTTP/1.1 {status} No\r\ncontent-length: 4\r\n\r\nsick");
                return self.stream.write_all(head.as_bytes()).await.ok();
            }
            8..13 => {
                add(&faults.slow);
                pause(20 + self.dice.below(130) as u64).await;
            }
            _ => {}
        }
        match path[2..] {
            ["events", count] => self.events(&request, count.parse().unwrap(), draw).await,
            [what, status, bytes, framing] => {
                if what == "late" {
                    pause(5 + self.dice.below(30) as u64).await;
                }
                let body = "x".repeat(bytes.parse().unwrap());
                self.answer(&request, status, &body, framing == "chunked", draw).await
            }
            _ => panic!("nobody asks for {}", request.path()),
        }
    }

    /// Sends the head of an answer below 500, and notes it down.
    async fn head(&mut self, request: &Request, lines: &str, offered: usize) -> Option<()> {
        let head = format!("HTTP/1.1 {lines}\r\nx-call: {}\r\n\r\n", request.of("x-call"));
        self.stream.write_all(head.as_bytes()).await.ok()?;
        let given = Given { answers: 1, taken: request.body, offered: offered as u64 };
        self.account.note(&request.of("x-tenant-id"), given);
        Some(())
    }

    async fn answer(&mut self, request: &Request, status: &str, body: &str, chunked: bool, draw: usize) -> Option<()> {
        if matches!(status, "204" | "304") {
            return self.head(request, &format!("{status} Fine"), 0).await;
        }
        let length = body.len();
        let (framing, body) = if chunked {
            let pieces: Vec<String> = body
                .as_bytes()
                .chunks(7_001)
                .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))
                .collect();
            ("transfer-encoding: chunked".to_owned(), pieces.concat() + "0\r\n\r\n")
        } else {
            (format!("content-length: {length}"), body.to_owned())
        };
        self.head(request, &format!("{status} Fine\r\n{framing}"), length).await?;
        let faults = &self.account.faults;
        let breaks = (13..19).contains(&draw) && body.len() > 1;
        let sent = if breaks { body.len() / 2 } else { body.len() };
        self.stream.write_all(&body.as_bytes()[..sent]).await.ok()?;
        match draw {
            13..16 if breaks => {
                add(&faults.reset_in_body);
                self.reset()
            }
            16..19 if breaks => {
                add(&faults.closed_in_body);
                None
            }
            19..22 => {
                add(&faults.closed_after_answer);
                None
            }
            _ => Some(()),
        }
    }

    async fn events(&mut self, request: &Request, count: usize, draw: usize) -> Option<()> {
        let event = "c\r\ndata: event\n\r\n";
        let lines = "200 Fine\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked";
        self.head(request, lines, 12 * count).await?;
        for number in 0..count {
            if (13..16).contains(&draw) && number > count / 2 {
                add(&self.account.faults.reset_in_body);
                return self.reset();
            }
            self.stream.write_all(event.as_bytes()).await.ok()?;
            pause(2).await;
        }
        self.stream.write_all(b"0\r\n\r\n").await.ok()
    }

    /// Says again what it hears, until the end.
    async fn tunnel(&mut self, request: &Request) -> Option<()> {
        assert_eq!(request.of("sec-websocket-key"), KEY);
        let lines = format!(
            "101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {ACCEPT}"
        );
        self.head(request, &lines, 0).await?;
        let tenant = request.of("x-tenant-id");
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = self.stream.read(&mut buffer).await {
            self.account.note(&tenant, Given { answers: 0, taken: read as u64, offered: read as u64 });
            // Who does not listen any more may have said something before that.
            drop(self.stream.write_all(&buffer[..read]).await);
        }
        None
    }

    /// Has the connection closed with a reset instead of an end.
    fn reset(&self) -> Option<()> {
        self.stream.get_ref().set_zero_linger().unwrap();
        None
    }

    async fn request(&mut self) -> Option<Request> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        let mut body = 0;
        if let Some(length) = header(&head, "content-length") {
            body = length.parse().unwrap();
            self.skip(body).await?;
        } else if header(&head, "transfer-encoding").is_some() {
            loop {
                let mut size = String::new();
                self.stream.read_line(&mut size).await.ok()?;
                let size = u64::from_str_radix(size.trim(), 16).ok()?;
                self.skip(size + 2).await?;
                if size == 0 {
                    break;
                }
                body += size;
            }
        }
        Some(Request { head, body })
    }

    async fn skip(&mut self, bytes: u64) -> Option<()> {
        let mut rest = (&mut self.stream).take(bytes);
        let skipped = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.ok()?;
        (skipped == bytes).then_some(())
    }
}
