//! Clients of every kind: patient, rude and hostile ones.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
};

use super::{
    super::{
        client::{Client, head, header},
        server::{Answer, PATIENCE, Server},
        tunnels::handshake,
        wait::stopwatch,
    },
    dice::Dice,
};

/// What a client saw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub calls: u64,
    /// Answers of a target's below 500, read to their end.
    pub whole: u64,
    /// Bytes of their bodies, and those that came through tunnels.
    pub read: u64,
    /// Answers that the gateway gave itself with a status below 500.
    pub refused: u64,
    /// 5xx, whoever gave them.
    pub failed: u64,
    /// Answers that broke off, or never came.
    pub broken: u64,
    /// Calls that the client left.
    pub left: u64,
    pub tunnels: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        for (own, more) in [
            (&mut self.calls, other.calls),
            (&mut self.whole, other.whole),
            (&mut self.read, other.read),
            (&mut self.refused, other.refused),
            (&mut self.failed, other.failed),
            (&mut self.broken, other.broken),
            (&mut self.left, other.left),
            (&mut self.tunnels, other.tunnels),
        ] {
            *own += more;
        }
    }
}

/// One client, who calls for a tenant.
pub struct Caller<'a> {
    server: &'a Server,
    token: &'a str,
    number: usize,
    dice: Dice,
    client: Option<Client>,
    pub seen: Seen,
}

impl<'a> Caller<'a> {
    pub fn new(server: &'a Server, token: &'a str, number: usize) -> Self {
        Self { server, token, number, dice: Dice::new(number as u64), client: None, seen: Seen::default() }
    }

    /// One call, of a kind that is drawn.
    pub fn call(&mut self) {
        let begun = stopwatch();
        self.seen.calls += 1;
        match self.dice.below(200) {
            0..100 => self.get(),
            100..140 => self.upload(),
            140..152 => {
                let events = 1 + self.dice.below(20);
                self.ask("GET", &format!("/x/events/{events}"), "", "");
            }
            152..158 => self.leave_in_the_body("/x/events/50"),
            158..164 => self.leave_in_the_body("/x/answer/200/300000/length"),
            164..172 => self.leave_before_the_head("/x/late/200/500/length"),
            172 => self.leave_before_the_head("/never/"),
            173 => self.ask("GET", "/never/", "", ""),
            174..180 => self.leave_in_the_upload(),
            180..186 => self.tunnel(),
            186..190 => {
                let path = "/x/answer/200/10/length";
                self.send_and_see(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"), "");
                self.send_and_see(&head("GET", path, "no.good.token", ""), "");
            }
            _ => self.too_large(),
        }
        assert!(begun.elapsed() < PATIENCE, "a call hangs");
    }

    fn get(&mut self) {
        let status = ["200", "200", "200", "201", "204", "304", "404"][self.dice.below(7)];
        let bytes = [0, 1, 100, 5_000, 40_000][self.dice.below(5)];
        let framing = ["length", "chunked"][self.dice.below(2)];
        let method = ["GET", "GET", "GET", "DELETE"][self.dice.below(4)];
        self.ask(method, &format!("/x/answer/{status}/{bytes}/{framing}"), "", "");
    }

    fn upload(&mut self) {
        let (more, body) = self.body([1, 100, 20_000, 60_000]);
        let method = ["POST", "PUT", "PATCH"][self.dice.below(3)];
        self.ask(method, "/x/answer/200/100/length", &more, &body);
    }

    fn too_large(&mut self) {
        let (more, body) = self.body([60_001, 70_000, 100_000, 200_000]);
        self.ask("POST", "/x/answer/200/0/length", &more, &body);
        // Whatever was not read of it stands in the way of the next.
        self.client = None;
    }

    /// The header that says how long a body is, and the body as it is sent.
    fn body(&mut self, sizes: [usize; 4]) -> (String, String) {
        let body = "y".repeat(sizes[self.dice.below(4)]);
        if self.dice.below(2) == 0 {
            return (format!("content-length: {}\r\n", body.len()), body);
        }
        let piece = |piece: &[u8]| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
        let pieces: String = body.as_bytes().chunks(9_001).map(piece).collect();
        ("transfer-encoding: chunked\r\n".to_owned(), pieces + "0\r\n\r\n")
    }

    /// Calls, and reads the answer to its end.
    fn ask(&mut self, method: &str, path: &str, more: &str, body: &str) {
        let call = self.name();
        let head = head(method, path, self.token, &format!("x-call: {call}\r\n{more}"));
        self.send_and_see(&(head + body), &call);
    }

    fn name(&self) -> String {
        format!("{}-{}", self.number, self.seen.calls)
    }

    fn send_and_see(&mut self, request: &str, call: &str) {
        let client = self.client.get_or_insert_with(|| Client::connect(self.server));
        // Whoever is refused early may be cut off while it sends.
        client.try_send(request);
        let answer = client.try_answer();
        if answer.as_ref().is_none_or(|answer| header(&answer.head, "connection").as_deref() == Some("close")) {
            self.client = None;
        }
        self.see(answer, call);
    }

    fn see(&mut self, answer: Option<Answer>, call: &str) {
        let Some(answer) = answer else {
            self.seen.broken += 1;
            return;
        };
        match header(&answer.head, "x-call") {
            _ if answer.status >= 500 => self.seen.failed += 1,
            None => self.seen.refused += 1,
            Some(own) => {
                assert_eq!(own, call, "somebody else's answer");
                self.seen.whole += 1;
                self.seen.read += answer.body.len() as u64;
            }
        }
    }

    /// Calls on a connection of its own, to be left.
    fn alone(&mut self, request: &str) -> Client {
        self.seen.left += 1;
        let mut client = Client::connect(self.server);
        client.try_send(request);
        client
    }

    fn leave_before_the_head(&mut self, path: &str) {
        let (more, body) = self.body([1, 100, 1_000, 5_000]);
        let request = if self.dice.below(2) == 0 {
            head("GET", path, self.token, "")
        } else {
            head("POST", path, self.token, &more) + &body
        };
        drop(self.alone(&request));
    }

    fn leave_in_the_body(&mut self, path: &str) {
        let request = head("GET", path, self.token, "");
        let mut client = self.alone(&request);
        drop(client.head());
    }

    fn leave_in_the_upload(&mut self) {
        let (more, body) = self.body([100, 1_000, 20_000, 50_000]);
        let request = head("POST", "/x/answer/200/100/length", self.token, &more) + &body[..body.len() / 2];
        drop(self.alone(&request));
    }

    /// Opens a tunnel, says something, hears it, and closes it or lets go of it.
    fn tunnel(&mut self) {
        let mut stream = self.server.connect();
        stream.write_all(handshake("/ws/socket", self.token).as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => break,
            }
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            self.seen.refused += 1;
            return;
        }
        self.seen.tunnels += 1;
        for size in [5, 1_000, 3_000] {
            let said = vec![b'z'; size];
            stream.write_all(&said).unwrap();
            let mut echo = vec![0; size];
            stream.read_exact(&mut echo).unwrap();
            assert_eq!(said, echo);
            self.seen.read += size as u64;
        }
        match self.dice.below(3) {
            0 => {
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            }
            1 => stream.write_all(b"nobody waits for the echo of this").unwrap(),
            _ => {}
        }
    }
}
