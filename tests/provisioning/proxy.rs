//! A way to a PostgreSQL server that can be cut.

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

pub struct Proxy {
    /// The server's address, by this way.
    pub address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    refuses: AtomicBool,
    asked: AtomicUsize,
}

impl Proxy {
    /// To the server of an address.
    pub fn start(address: &str) -> Self {
        let (before, rest) = address.split_once('@').unwrap();
        let (target, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let (state, target) = (Arc::<State>::default(), target.to_owned());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.asked.fetch_add(1, Ordering::SeqCst);
                if !shared.refuses.load(Ordering::SeqCst) {
                    let server = TcpStream::connect(&target).unwrap();
                    pass(stream.try_clone().unwrap(), server.try_clone().unwrap());
                    pass(server, stream);
                }
            }
        });
        Self { address: format!("{before}@{own}/{database}"), state }
    }

    /// Whether whoever comes is sent away.
    pub fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::SeqCst);
    }

    /// How many have come.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        drop(io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Both));
    });
}
