//! An upstream that answers when the test says so.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
};

use super::server::PATIENCE;

/// An upstream of one request after the other.
pub struct Upstream {
    address: SocketAddr,
    arrived: mpsc::Receiver<String>,
    answers: mpsc::Sender<String>,
}

impl Upstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arrive, arrived) = mpsc::channel();
        let (answers, to_send) = mpsc::channel::<String>();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Ok(()) = arrive.send(head(&stream)) else { return };
                let Ok(answer) = to_send.recv() else { return };
                // A gateway that went away is the test's business.
                drop((&stream).write_all(answer.as_bytes()));
            }
        });
        Self { address, arrived, answers }
    }

    /// Settings of a route `/slow/` to it.
    pub fn route(&self) -> String {
        format!(
            "[[gateway.upstreams]]\nname = \"slow\"\ntargets = [\"http://{}\"]\n\
             [[gateway.routes]]\npath = \"/slow/\"\nupstream = \"slow\"\n",
            self.address
        )
    }

    /// Waits for a request: its head.
    pub fn request(&self) -> String {
        self.arrived.recv_timeout(PATIENCE).expect("a request at the upstream")
    }

    /// Answers the request that arrived, and closes.
    pub fn answer(&self, body: &str) {
        self.answer_with("", body);
    }

    /// The same, with further header lines, each with its end.
    pub fn answer_with(&self, more: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n{body}");
        self.answers.send(answer).unwrap();
    }
}

fn head(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
    head
}
