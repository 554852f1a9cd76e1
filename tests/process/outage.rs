//! A database that goes away for a while: calls go on and are counted when it is back.

use std::{
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    customer::{customer, owner},
    server::Server,
};
use crate::support::postgres;

/// The cable to the database, which the test can cut and mend.
struct Cable {
    address: SocketAddr,
    whole: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    fn to(database: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cable = Self {
            address: listener.local_addr().unwrap(),
            whole: Arc::new(AtomicBool::new(true)),
            ends: Arc::default(),
        };
        let (whole, ends) = (Arc::clone(&cable.whole), Arc::clone(&cable.ends));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if !whole.load(Ordering::Acquire) {
                    continue;
                }
                let far = TcpStream::connect(database).unwrap();
                let both = [near.try_clone().unwrap(), far.try_clone().unwrap()];
                ends.lock().unwrap().extend(both);
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    std::thread::spawn(move || {
                        drop(std::io::copy(&mut from, &mut to));
                        drop(to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        cable
    }

    fn cut(&self) {
        self.whole.store(false, Ordering::Release);
        for end in self.ends.lock().unwrap().drain(..) {
            drop(end.shutdown(Shutdown::Both));
        }
    }

    fn mend(&self) {
        self.whole.store(true, Ordering::Release);
    }
}

fn calls_go_on(database: &str) {
    let (before, after) = database.split_once('@').unwrap();
    let (host, name) = after.split_once('/').unwrap();
    let cable = Cable::to(host.parse().unwrap());
    let url = format!("{before}@{}/{name}", cable.address);
    let data = tempfile::tempdir().unwrap();
    let more = ["--database-url", &url];
    let server = Server::start(data.path(), &more);
    let token = customer(&server);
    let call = |times: u64| (0..times).for_each(|_| assert_eq!(server.get("/sample/hello", &token).status, 200));
    call(3);

    cable.cut();
    assert_eq!(server.get("/readyz", "").status, 503);
    assert_eq!(server.get("/healthz", "").status, 200, "a restart would mend nothing");
    call(5);
    cable.mend();
    assert_eq!(server.used(&token), 8);
    assert_eq!(server.get("/readyz", "").status, 200);

    cable.cut();
    call(2);
    server.signal("TERM");
    let (said, status) = server.last_words();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the store did not answer"), "{said}");
    cable.mend();
    let again = Server::start(data.path(), &more);
    assert_eq!(again.used(&owner(&again)), 10, "the journal had them");
}

#[tokio::test]
async fn calls_go_on_without_the_database_and_are_counted_when_it_is_back() {
    let Some(server) = postgres::shared() else { return };
    let database = server.database().await;
    tokio::task::spawn_blocking(move || calls_go_on(&database)).await.unwrap();
}
