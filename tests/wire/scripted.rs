//! An upstream that does with each connection what a test says, byte by byte.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::server::PATIENCE;

/// It ends with the test's process.
pub struct Scripted {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// A connection from the gateway.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Scripted {
    /// Does this with each connection, told its number from 0, on a thread of its own.
    pub fn start(act: impl Fn(usize, &mut Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (count, act) = (Arc::clone(&connections), Arc::new(act));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let (number, act) = (count.fetch_add(1, Ordering::SeqCst), Arc::clone(&act));
                std::thread::spawn(move || act(number, &mut Connection { stream: BufReader::new(stream) }));
            }
        });
        Self { address, connections }
    }

    /// Settings of a public route `/up/` to it.
    pub fn route(&self) -> String {
        format!(
            "[[gateway.upstreams]]\nname = \"up\"\ntargets = [\"http://{}\"]\n\
             [[gateway.routes]]\npath = \"/up/\"\nupstream = \"up\"\npublic = true\n",
            self.address
        )
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Connection {
    /// The next request's head; `None` when there is no further one.
    pub fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        Some(head)
    }

    /// So many bytes of a request's body.
    pub fn body(&mut self, bytes: usize) -> Vec<u8> {
        let mut body = vec![0; bytes];
        self.stream.read_exact(&mut body).unwrap();
        body
    }

    /// A request's body in chunks, put together.
    pub fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            let chunk = self.body(length + 2);
            if length == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // A gateway that went away is the test's business.
        drop(self.stream.get_mut().write_all(bytes.as_ref()));
    }

    pub fn close(&mut self) {
        drop(self.stream.get_mut().shutdown(Shutdown::Both));
    }
}

/// An answer with this body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
