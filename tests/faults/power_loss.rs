//! Power losses: the data folder is on an ext4 image in a file, and the file is copied while the server is under load.
//!
//! What the kernel has not written to the image when it is copied is what a power loss takes. The server's threads are
//! stopped meanwhile, which ends calls to the disk that are under way, and a copy counts only when the image is the same
//! after it: it is the disk of one instant.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    client::{Client, head},
    mount::{Mounted, ext4_image},
    scene::{Scene, agrees, events_counted, post, say, start},
    server::Server,
};

/// The flush interval when nothing else is set.
const INTERVAL: Duration = Duration::from_millis(10);

/// What the clients know, as they know it.
#[derive(Default)]
struct Book {
    /// Calls that wait for the disk: sent and answered.
    durable: (AtomicU64, AtomicU64),
    /// Calls that do not: sent, and when each was answered.
    relaxed: (AtomicU64, Mutex<Vec<Instant>>),
    events: (AtomicU64, AtomicU64),
    /// The slowest durable call since the last cut, in microseconds: what the flusher does just then, and one sync.
    slowest: AtomicU64,
    /// How often the server was stopped: calls across that are slow for another reason.
    stops: AtomicU64,
}

/// The book at one instant.
struct Page {
    durable: (u64, u64),
    relaxed: (u64, Vec<Instant>),
    events: (u64, u64),
    at: Instant,
}

impl Book {
    #[expect(clippy::disallowed_methods, reason = "a stopwatch")]
    fn page(&self) -> Page {
        let load = |pair: &(AtomicU64, AtomicU64)| (pair.0.load(Ordering::SeqCst), pair.1.load(Ordering::SeqCst));
        let relaxed = (self.relaxed.0.load(Ordering::SeqCst), self.relaxed.1.lock().unwrap().clone());
        Page { durable: load(&self.durable), relaxed, events: load(&self.events), at: Instant::now() }
    }

    #[expect(clippy::disallowed_methods, reason = "a stopwatch")]
    fn calls(&self, server: &Server, scene: &Scene, over: &AtomicBool, kind: usize) {
        // Whoever fails ends it for all.
        let _over = Over(over);
        let mut client = Client::connect(server);
        while !over.load(Ordering::Relaxed) {
            let (before, stops) = (Instant::now(), self.stops.load(Ordering::SeqCst));
            let stopped = || self.stops.load(Ordering::SeqCst) != stops;
            let get = |path| head("GET", path, &scene.token, "");
            let (sent, request, wanted) = match kind {
                0 => (&self.durable.0, get("/sample/echo"), 200),
                1 => (&self.relaxed.0, get("/sample/hello"), 200),
                _ => (&self.events.0, String::new(), 204),
            };
            let number = sent.fetch_add(1, Ordering::SeqCst);
            let status = match kind {
                0 | 1 => client.try_send(&request).and_then(Client::try_answer).map(|answer| answer.status),
                _ => post(&mut client, &scene.token, &scene.event(number)),
            };
            if status != Some(wanted) && stopped() {
                // A server that was stopped for longer than a call may wait has broken it off.
                client = Client::connect(server);
                continue;
            }
            assert_eq!(status, Some(wanted));
            match kind {
                0 => {
                    self.durable.1.fetch_add(1, Ordering::SeqCst);
                    let micros = u64::try_from(before.elapsed().as_micros()).unwrap();
                    if !stopped() {
                        self.slowest.fetch_max(micros, Ordering::SeqCst);
                    }
                }
                1 => self.relaxed.1.lock().unwrap().push(Instant::now()),
                _ => drop(self.events.1.fetch_add(1, Ordering::SeqCst)),
            }
        }
    }
}

/// Tells the others at its end that it is over, also when it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Stops every thread of a server, and returns when none runs: no call to the disk is under way then.
fn freeze(server: &Server) {
    server.signal("STOP");
    let stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with('T'))
    };
    while !fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().all(|task| stopped(task.unwrap())) {
        std::thread::yield_now();
    }
}

/// The image of one instant.
fn copy_image(image: &Path, copy: &Path) {
    loop {
        assert!(Command::new("cp").args(["--sparse=always"]).arg(image).arg(copy).status().unwrap().success());
        if Command::new("cmp").arg("-s").arg(image).arg(copy).status().unwrap().success() {
            return;
        }
    }
}

fn used_by_route(server: &Server, scene: &Scene, route: &str) -> u64 {
    let usage = server.get("/v1/usage?meter=apis&group_by=route", &scene.token).json();
    let rows = usage["data"].as_array().unwrap().clone();
    let of_route = rows.iter().filter(|row| row["group"]["route"] == route);
    of_route.map(|row| row["value"].as_str().unwrap().parse::<u64>().unwrap()).sum()
}

/// Starts on a copy of the image: what the disk was said to have is there. Gives how many answered
/// relaxed calls were lost, and how long before the cut the first of them was.
fn check(scene: &Scene, copy: &Path, page: &Page, allowed: Duration) -> (usize, Duration) {
    let disk = Mounted::image(copy).unwrap();
    let server = start(disk.path());
    let durable = used_by_route(&server, scene, "/sample/echo");
    assert!(
        page.durable.1 <= durable && durable <= page.durable.0,
        "durable: {} answered, {durable} counted, {} sent",
        page.durable.1,
        page.durable.0
    );
    let events = events_counted(&server, scene);
    assert!(
        page.events.1 <= events && events <= page.events.0,
        "events: {} answered, {events} counted, {} sent",
        page.events.1,
        page.events.0
    );
    let relaxed = used_by_route(&server, scene, "/sample/");
    assert!(relaxed <= page.relaxed.0, "relaxed: {relaxed} counted, {} sent", page.relaxed.0);
    // Records reach the disk in order, so what is lost is the last.
    let answered = &page.relaxed.1;
    let lost = answered.get(usize::try_from(relaxed).unwrap()..).unwrap_or_default();
    let window = lost.first().map_or(Duration::ZERO, |first| page.at.duration_since(*first));
    assert!(window <= allowed, "relaxed: lost what was answered {window:?} before the cut, longer than {allowed:?}");
    drop(server);
    agrees(disk.path(), "after a power loss");
    (lost.len(), window)
}

#[test]
fn three_power_losses_take_no_more_than_the_last_interval() {
    let folder = tempfile::tempdir().unwrap();
    let Some(image) = ext4_image(folder.path(), 96) else { return };
    let Some(disk) = Mounted::image(&image) else { return };
    // Segments that many calls do not fill faster than the next one is made.
    let scene = Scene::prepare_with("segment_bytes = 8388608\n");
    scene.copy_to(disk.path());
    assert!(Command::new("sync").arg("-f").arg(disk.path()).status().unwrap().success());
    let server = start(disk.path());
    let (book, over) = (Book::default(), AtomicBool::new(false));
    let (book, over, scene) = (&book, &over, &scene);
    std::thread::scope(|scope| {
        for kind in [0, 0, 1, 1, 2, 2] {
            let server = &server;
            scope.spawn(move || book.calls(server, scene, over, kind));
        }
        let _over = Over(over);
        for cut in 1..=3 {
            let enough = book.page().durable.1 + 300;
            while book.durable.1.load(Ordering::SeqCst) < enough {
                assert!(!over.load(Ordering::SeqCst), "a client failed");
                std::thread::yield_now();
            }
            book.stops.fetch_add(1, Ordering::SeqCst);
            freeze(&server);
            // Every answer that a client has by now was given before; what it has not read yet is sent, not answered.
            let page = book.page();
            let copy = folder.path().join(format!("cut{cut}.img"));
            copy_image(&image, &copy);
            server.signal("CONT");
            // An interval, and then what a durable call waits for: what the flusher does to the disk just then, and a sync.
            let slowest = Duration::from_micros(book.slowest.swap(0, Ordering::SeqCst));
            let allowed = INTERVAL + slowest;
            let (lost, window) = check(scene, &copy, &page, allowed);
            say(&format!(
                "power loss {cut}: {} durable calls, {} relaxed, {} events; durable lost 0, events lost 0, relaxed lost \
                 {lost}, of the last {window:?} of {allowed:?}; doubled 0",
                page.durable.1,
                page.relaxed.1.len(),
                page.events.1
            ));
        }
    });
}
