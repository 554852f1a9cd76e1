//! A disk that fails: the n-th sync or write of the journal ends with an error.

use std::time::{Duration, Instant};

use crate::{
    client::{Client, head},
    scene::{Scene, Told, compare, say, script, start},
    server::Server,
    strace::{Attached, Threads, usable},
};

/// A journal that was broken takes records again within this of its disk's recovery.
const RECOVERY: Duration = Duration::from_secs(5);

/// What is done now and then is done within this.
const NOW_AND_THEN: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn stopwatch() -> Instant {
    Instant::now()
}

#[test]
fn after_a_failed_call_nothing_is_lost_and_the_server_goes_on() {
    if !usable() {
        return;
    }
    let scene = Scene::prepare();
    let faults = [
        (Threads::Flusher, "fdatasync", "error=EIO:when=3"),
        (Threads::Flusher, "fdatasync", "error=EIO:when=3..5"),
        (Threads::Flusher, "pwrite64", "error=EIO:when=7"),
        (Threads::Worker, "pwrite64", "error=EIO:when=20"),
        (Threads::Worker, "pwrite64", "error=ENOSPC:when=20..40"),
        (Threads::Flusher, "fallocate", "error=ENOSPC:when=1"),
        (Threads::Flusher, "fsync", "error=EIO:when=1"),
        (Threads::Flusher, "rename", "error=EIO:when=1"),
        (Threads::Any, "unlink", "error=EIO:when=1"),
        (Threads::Store, "fsync", "error=EIO:when=3"),
        (Threads::Store, "pwrite64", "error=ENOSPC:when=30"),
    ];
    for (threads, call, fault) in faults {
        let copy = scene.copy();
        let server = start(copy.path());
        let strace = Attached::to(&server, threads, call, fault);
        let told = script(&server, &scene);
        let what = format!("{threads:?} {call} {fault}");
        assert!(!told.died, "{what}: {told:?}");
        // It may be still to come: the more a round of counting costs, the longer the next one waits.
        let waits = stopwatch();
        while strace.injected() == 0 && waits.elapsed() < NOW_AND_THEN {
            std::thread::yield_now();
        }
        server.signal("KILL");
        server.ended();
        assert!(strace.injected() > 0, "{what}: no call failed");
        drop(strace);
        compare(&scene, copy.path(), &told, &what);
        say(&format!("{what}: {} refused, lost 0, doubled 0", told.refused));
    }
}

#[test]
fn a_dead_disk_refuses_at_once_and_a_mended_one_is_used_again() {
    if !usable() {
        return;
    }
    let scene = Scene::prepare();
    let copy = scene.copy();
    let server = start(copy.path());
    let mut told = script(&server, &scene);
    let strace = Attached::to(&server, Threads::Any, "fdatasync", "error=EIO:when=3+");
    let refused = calls_until(&server, &scene, &mut told, 503);
    assert!(refused < Duration::from_secs(1), "a refusal took {refused:?}");
    assert!(strace.injected() > 0);
    drop(strace);
    let recovered = calls_until(&server, &scene, &mut told, 200);
    assert!(recovered < RECOVERY, "it took {recovered:?} to recover");
    server.signal("KILL");
    server.ended();
    compare(&scene, copy.path(), &told, "a dead disk");
    say(&format!(
        "a dead disk: {} refused, the slowest after {refused:?}; mended: used after {recovered:?}",
        told.refused
    ));
}

#[test]
fn a_call_without_a_body_that_is_refused_is_not_counted() {
    if !usable() {
        return;
    }
    let scene = Scene::prepare();
    let copy = scene.copy();
    let server = start(copy.path());
    let mut told = Told::default();
    let mut client = Client::try_connect(&server);
    // A durable route: the record is written before the sync fails.
    let mut call = |server: &Server| {
        let head = head("HEAD", "/sample/echo", &scene.token, "");
        told.sent += 1;
        let status = client.as_mut().and_then(|client| client.try_send(&head)).and_then(Client::head);
        match status.map(|answer| answer.status) {
            Some(200) => told.answered += 1,
            Some(_) => told.refused += 1,
            None => client = Client::try_connect(server),
        }
    };
    (0..3).for_each(|_| call(&server));
    let strace = Attached::to(&server, Threads::Any, "fdatasync", "error=EIO");
    (0..6).for_each(|_| call(&server));
    assert!(strace.injected() > 0);
    server.signal("KILL");
    server.ended();
    drop(strace);
    assert_eq!(told.answered, 3, "{told:?}");
    assert!(told.refused < 6, "the first is broken off: {told:?}");
    let counted = compare(&scene, copy.path(), &told, "without a body");
    say(&format!("without a body: {} refused of {}, {counted} counted; doubled 0", told.refused, told.sent));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn a_disk_that_hangs_holds_up_no_call_that_does_not_wait_for_it() {
    if !usable() {
        return;
    }
    let scene = Scene::prepare();
    let copy = scene.copy();
    let server = start(copy.path());
    let mut told = Told::default();
    let mut client = Client::try_connect(&server);
    let strace = Attached::to(&server, Threads::Any, "fdatasync", "delay_enter=3s");
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    // More than a segment holds, so that a sync is in the way of the next one, too.
    while told.sent < 6_000 && begun.elapsed() < Duration::from_secs(12) && told.refused < 20 {
        for path in ["/sample/hello", "/healthz"] {
            let before = Instant::now();
            if path == "/sample/hello" {
                told.call(&server, &scene, &mut client, path);
            } else {
                client.as_mut().unwrap().get(path, &scene.token);
            }
            slowest = slowest.max(before.elapsed());
        }
    }
    // strace says so at the end of a call.
    while strace.injected() == 0 && begun.elapsed() < Duration::from_secs(12) {
        std::thread::yield_now();
    }
    assert!(strace.injected() > 0);
    // Held up, they take as long as a sync; a busy machine is not that slow.
    assert!(slowest < Duration::from_secs(2), "a call took {slowest:?}");
    server.signal("KILL");
    server.ended();
    drop(strace);
    compare(&scene, copy.path(), &told, "a disk that hangs");
    let Told { sent, answered, refused, .. } = told;
    say(&format!(
        "a disk that hangs: {sent} calls, {answered} answered, {refused} refused, the slowest after {slowest:?}"
    ));
}

/// Calls a durable route until it answers with a status; how long that took, or the slowest refusal on the way to one.
#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
pub fn calls_until(server: &Server, scene: &Scene, told: &mut Told, status: u16) -> Duration {
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    let mut client = Client::try_connect(server);
    loop {
        let before = Instant::now();
        let answer = told.call(server, scene, &mut client, "/sample/echo");
        slowest = slowest.max(before.elapsed());
        if answer == Some(status) {
            return if status == 200 { begun.elapsed() } else { slowest };
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "still {answer:?}");
    }
}
