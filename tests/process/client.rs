//! A connection that a test holds in its hand: requests as bytes, answers one by one.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
};

use super::server::{Answer, PATIENCE, Server};

/// An open connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(server: &Server) -> Self {
        Self { stream: BufReader::new(server.connect()) }
    }

    /// `None` when the server is gone.
    pub fn try_connect(server: &Server) -> Option<Self> {
        let stream = TcpStream::connect(&server.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(Self { stream: BufReader::new(stream) })
    }

    pub fn send(&mut self, bytes: &str) -> &mut Self {
        self.try_send(bytes).unwrap()
    }

    /// Sends, unless the connection has ended.
    pub fn try_send(&mut self, bytes: &str) -> Option<&mut Self> {
        self.stream.get_mut().write_all(bytes.as_bytes()).ok()?;
        Some(self)
    }

    /// A `GET` that keeps the connection.
    pub fn get(&mut self, path: &str, token: &str) -> Answer {
        self.send(&head("GET", path, token, "")).answer()
    }

    /// The next answer, read to its own end and no further.
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// The next answer, unless the connection ends before it is whole.
    pub fn try_answer(&mut self) -> Option<Answer> {
        let mut answer = self.head()?;
        let header = |name: &str| header(&answer.head, name);
        if header("transfer-encoding").is_some() {
            loop {
                match self.chunk()? {
                    end if end.is_empty() => break,
                    chunk => answer.body.push_str(&chunk),
                }
            }
        } else if let Some(length) = header("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body).ok()?;
            answer.body = String::from_utf8(body).unwrap();
        }
        Some(answer)
    }

    /// The next answer's status line and headers.
    pub fn head(&mut self) -> Option<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, head, body: String::new() })
    }

    /// The next chunk of a body; an empty one is its end, `None` a connection that broke off.
    pub fn chunk(&mut self) -> Option<String> {
        let mut size = String::new();
        self.stream.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut data = vec![0; size + 2];
        self.stream.read_exact(&mut data).ok()?;
        data.truncate(size);
        Some(String::from_utf8(data).unwrap())
    }

    /// Everything until the server closes; a reset is an end, too.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let end = self.stream.read_to_end(&mut rest);
        let timed_out = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "the server keeps the connection after {}", String::from_utf8_lossy(&rest));
        String::from_utf8(rest).unwrap()
    }
}

/// The head of a request; `more` is further header lines, each with its end.
pub fn head(method: &str, path: &str, token: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{more}\r\n")
}

/// A header's value.
pub fn header(head: &str, name: &str) -> Option<String> {
    let line = |line: &str| {
        let (own, value) = line.split_once(':')?;
        own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    head.lines().find_map(line)
}
