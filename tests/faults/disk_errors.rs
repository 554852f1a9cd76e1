//! A disk that fails: the n-th sync or write of the journal ends with an error.

use std::time::{Duration, Instant};

use crate::{
    client::Client,
    scene::{Scene, Told, compare, say, script, start},
    server::Server,
    strace::{Attached, Threads, usable},
};

/// A journal that was broken takes records again within this of its disk's recovery.
const RECOVERY: Duration = Duration::from_secs(5);

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
        (Threads::Worker, "pwrite64", "retval=100:when=20"),
        (Threads::Flusher, "fallocate", "error=ENOSPC:when=1"),
        (Threads::Worker, "rename", "error=EIO:when=1"),
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
        server.signal("KILL");
        server.ended();
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
    let strace = Attached::to(&server, Threads::Flusher, "fdatasync", "error=EIO:when=3+");
    let also = Attached::to(&server, Threads::Worker, "fdatasync", "error=EIO");
    let refused = calls_until(&server, &scene, &mut told, 503);
    assert!(refused < Duration::from_secs(1), "a refusal took {refused:?}");
    drop((strace, also));
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
