//! A target that behaves as a test says: each connection is a function's, on a thread of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
};

use super::server::PATIENCE;

/// A target that listens until it is dropped, and what arrived there.
pub struct Target {
    pub address: SocketAddr,
    arrived: Mutex<mpsc::Receiver<Request>>,
    connections: Arc<AtomicUsize>,
    gone: Arc<AtomicBool>,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    pub head: String,
    pub body: String,
}

/// The other end of a connection.
pub struct Peer {
    /// Which of the target's connections this is, from 0.
    pub number: usize,
    pub stream: BufReader<TcpStream>,
    arrive: mpsc::Sender<Request>,
}

impl Target {
    pub fn start(serve: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), serve)
    }

    pub fn start_at(address: SocketAddr, serve: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (arrive, arrived) = mpsc::channel();
        let (gone, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (serve, ended, count) = (Arc::new(serve), Arc::clone(&gone), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (serve, arrive, number) =
                    (Arc::clone(&serve), arrive.clone(), count.fetch_add(1, Ordering::SeqCst));
                std::thread::spawn(move || serve(Peer { number, stream: BufReader::new(stream), arrive }));
            }
        });
        Self { address, arrived: Mutex::new(arrived), connections, gone }
    }

    /// Answers every request with 200 and a name.
    pub fn answering(name: &'static str) -> Self {
        Self::start(move |mut peer| while peer.request().is_some() && peer.answer("200 OK", name) {})
    }

    /// Takes every request and closes without an answer.
    pub fn breaking_off() -> Self {
        Self::start(|mut peer| drop(peer.request()))
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits for the next request.
    pub fn request(&self) -> Request {
        self.arrived.lock().unwrap().recv_timeout(PATIENCE).expect("a request at the target")
    }

    /// What arrived and was not asked for yet.
    pub fn requests(&self) -> Vec<Request> {
        self.arrived.lock().unwrap().try_iter().collect()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
        // Wakes the listener, which then ends.
        drop(TcpStream::connect(self.address));
    }
}

impl Peer {
    /// The next request with its body; `None` at the connection's end.
    pub fn request(&mut self) -> Option<Request> {
        let head = self.head()?;
        let field = |name: &str| super::client::header(&head, name);
        let mut body = Vec::new();
        if let Some(length) = field("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body).ok()?;
        } else if field("transfer-encoding").is_some() {
            loop {
                match self.chunk()? {
                    end if end.is_empty() => break,
                    chunk => body.extend_from_slice(&chunk),
                }
            }
        }
        let request = Request { head, body: String::from_utf8_lossy(&body).into_owned() };
        drop(self.arrive.send(request.clone()));
        Some(request)
    }

    /// The head alone, told to nobody.
    pub fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read_until(b'\n', &mut head).ok()? == 0 {
                return None;
            }
        }
        // Whatever is beyond ASCII is one byte a letter.
        Some(head.into_iter().map(char::from).collect())
    }

    /// The next chunk of a body; an empty one is its end.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        self.stream.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut data = vec![0; size + 2];
        self.stream.read_exact(&mut data).ok()?;
        data.truncate(size);
        Some(data)
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Whether the other end still took it.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    pub fn answer(&mut self, status: &str, body: &str) -> bool {
        self.write(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())
    }

    /// Waits until the other end closes; every byte that came before.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        drop(self.stream.read_to_end(&mut rest));
        rest
    }
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Settings of a route `/x/` to an upstream of these targets; `more` is further keys of the upstream.
pub fn route(targets: &[SocketAddr], more: &str, of_route: &str) -> String {
    let targets: Vec<String> = targets.iter().map(|address| format!("\"http://{address}\"")).collect();
    format!(
        "[[gateway.upstreams]]\nname = \"x\"\ntargets = [{}]\n{more}\n\
         [[gateway.routes]]\npath = \"/x/\"\nupstream = \"x\"\n{of_route}\n",
        targets.join(", ")
    )
}

/// The same, for requests without a token.
pub fn public_route(targets: &[SocketAddr], more: &str) -> String {
    route(targets, more, "public = true")
}
