//! Many clients at once while the server is killed again and again: on the embedded store, and on PostgreSQL.

use std::sync::{
    Mutex, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::Value;

use crate::{
    client::{Client, head},
    scene::{Scene, agrees, all, events_counted, post, say, start},
    server::Server,
    support::postgres,
};

/// Posts in which a client of a storm sends all events.
const POSTS: u64 = 20;

/// A repeatable shuffle: the numbers of a linear congruential generator (Knuth, MMIX).
struct Shuffle(u64);

impl Shuffle {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn order(&mut self, count: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..count).collect();
        for index in (1..order.len()).rev() {
            order.swap(index, usize::try_from(self.next(index as u64 + 1)).unwrap());
        }
        order
    }
}

/// A server that comes back.
struct Phoenix<'s> {
    scene: &'s Scene,
    server: RwLock<Option<Server>>,
    answers: AtomicU64,
}

impl<'s> Phoenix<'s> {
    fn of(scene: &'s Scene) -> Self {
        Self { scene, server: RwLock::new(Some(start(scene.place()))), answers: AtomicU64::new(0) }
    }

    /// A connection to whichever server is there now.
    fn connect(&self) -> Client {
        loop {
            if let Some(client) = self.server.read().unwrap().as_ref().and_then(Client::try_connect) {
                return client;
            }
        }
    }

    /// Kills it after so many more answers, and starts it again.
    fn kill_after(&self, more: u64) {
        let enough = self.answers.load(Ordering::Relaxed) + more;
        while self.answers.load(Ordering::Relaxed) < enough {
            std::thread::yield_now();
        }
        let mut server = self.server.write().unwrap();
        let old = server.take().unwrap();
        old.signal("KILL");
        old.ended();
        *server = Some(start(self.scene.place()));
    }

    fn last(self) -> Server {
        self.server.into_inner().unwrap().unwrap()
    }
}

/// Clients that send their events again until each is answered, in an order of their own.
fn storm(scene: &Scene, clients: u64, events: u64, kills: u64) {
    let phoenix = Phoenix::of(scene);
    let over = AtomicBool::new(false);
    let chunk = usize::try_from(events / POSTS).unwrap();
    let all_events: Vec<Value> = (0..events).map(|id| scene.event(id)).collect();
    // Once at least, and again until the last kill is over.
    let resend = |seed: u64| {
        let (mut client, mut shuffle) = (phoenix.connect(), Shuffle(seed));
        loop {
            for ids in shuffle.order(events).chunks(chunk) {
                let batch: Vec<&Value> = ids.iter().map(|id| &all_events[usize::try_from(*id).unwrap()]).collect();
                let batch = serde_json::to_value(batch).unwrap();
                loop {
                    match post(&mut client, &scene.token, &batch) {
                        Some(204) => break,
                        // Unavailable for a moment: nothing of it was taken.
                        Some(status) => assert_eq!(status, 503, "the same event is never a conflict"),
                        None => client = phoenix.connect(),
                    }
                }
                phoenix.answers.fetch_add(1, Ordering::Relaxed);
            }
            if over.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let resend = &resend;
        (0..clients).for_each(|seed| drop(scope.spawn(move || resend(seed))));
        let apart = clients * POSTS / (kills + 1);
        (0..kills).for_each(|_| phoenix.kill_after(apart));
        over.store(true, Ordering::Relaxed);
    });
    let posts = phoenix.answers.load(Ordering::Relaxed);
    let server = phoenix.last();
    assert_eq!(events_counted(&server, scene), events, "each counts once");
    agrees(scene.place(), "after the storm");
    say(&format!(
        "{clients} clients sent the same {events} events in {posts} posts over {kills} kills: lost 0, doubled 0"
    ));
}

/// Calls and events on eight connections, over kills at random moments.
fn killed_at_random(scene: &Scene, kills: u64) {
    let phoenix = Phoenix::of(scene);
    let (sent, answered, events) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(0_u64));
    let over = AtomicBool::new(false);
    let call = |path: &str| {
        let mut client = phoenix.connect();
        while !over.load(Ordering::Relaxed) {
            sent.fetch_add(1, Ordering::SeqCst);
            match client.try_send(&head("GET", path, &scene.token, "")).and_then(Client::try_answer) {
                Some(answer) => {
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    answered.fetch_add(1, Ordering::SeqCst);
                    phoenix.answers.fetch_add(1, Ordering::Relaxed);
                }
                None => client = phoenix.connect(),
            }
        }
    };
    let tell = || {
        let mut client = phoenix.connect();
        while !over.load(Ordering::Relaxed) {
            let id = {
                let mut next = events.lock().unwrap();
                *next += 1;
                *next
            };
            while post(&mut client, &scene.token, &scene.event(id)) != Some(204) {
                client = phoenix.connect();
            }
        }
    };
    std::thread::scope(|scope| {
        for path in
            ["/sample/hello", "/sample/echo", "/sample/hello", "/sample/echo", "/sample/stream?events=2&interval_ms=0"]
        {
            scope.spawn(move || call(path));
        }
        (0..3).for_each(|_| drop(scope.spawn(tell)));
        let mut random = Shuffle(20);
        for _ in 0..kills {
            phoenix.kill_after(1 + random.next(400));
        }
        over.store(true, Ordering::Relaxed);
    });
    let server = phoenix.last();
    let (sent, answered, events) = (sent.into_inner(), answered.into_inner(), events.into_inner().unwrap());
    let counted = server.used(&scene.token);
    assert!(answered <= counted && counted <= sent, "{answered} answered, {counted} counted, {sent} sent");
    assert_eq!(events_counted(&server, scene), events);
    agrees(scene.place(), "after kills at random");
    say(&format!(
        "{kills} kills at random: {answered} answered, {counted} counted, {sent} sent, {events} events: lost 0, doubled 0"
    ));
}

#[test]
fn each_event_of_a_storm_of_retries_counts_once() {
    let (clients, events) = if all() { (200, 5_000) } else { (200, 200) };
    storm(&Scene::prepare(), clients, events, 5);
}

#[test]
fn kills_at_random_under_load_lose_and_double_nothing() {
    killed_at_random(&Scene::prepare(), if all() { 20 } else { 5 });
}

#[tokio::test]
async fn a_storm_and_kills_on_postgres_lose_and_double_nothing() {
    let Some(server) = postgres::shared() else { return };
    let (one, other) = (server.database().await, server.database().await);
    let proofs = move || {
        let on = |database: &str| Scene::prepare_with(&format!("[store]\nurl = \"{database}\"\n"));
        storm(&on(&one), 200, if all() { 1_000 } else { 100 }, 5);
        killed_at_random(&on(&other), if all() { 20 } else { 3 });
    };
    tokio::task::spawn_blocking(proofs).await.unwrap();
}
