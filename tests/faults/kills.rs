//! Killed at every system call of the journal, and at a sample of the store's; killed again while it recovers.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::{
    scene::{Scene, Told, all, compare, copy_all, say, script},
    strace::{Attached, Threads, made_while_starting, started_with, usable},
};

/// A kind of call of some threads, and at how many of them the server is killed.
#[derive(Debug, Clone, Copy)]
struct Calls {
    threads: Threads,
    name: &'static str,
    /// At every so many of them; the store's calls are thousands.
    every: u64,
    /// In a sample, at every so many.
    sample: u64,
}

const fn calls(threads: Threads, name: &'static str, every: u64, sample: u64) -> Calls {
    Calls { threads, name, every, sample }
}

/// The worker writes records. The flusher pads, marks and syncs, makes segments and goes on to the next. The roller syncs,
/// too, and removes segments that are counted. The store writes its log and its pages, and syncs both.
const CALLS: [Calls; 9] = [
    calls(Threads::Worker, "pwrite64", 1, 90),
    calls(Threads::Flusher, "pwrite64", 1, 150),
    calls(Threads::Any, "fdatasync", 1, 70),
    calls(Threads::Flusher, "fsync", 1, 2),
    calls(Threads::Any, "rename", 1, 2),
    calls(Threads::Any, "unlink", 1, 2),
    calls(Threads::Flusher, "fallocate", 1, 2),
    calls(Threads::Store, "pwrite64", 19, 400),
    calls(Threads::Store, "fsync", 2, 50),
];

/// Runs the script until the n-th call; `false` when the script was over before.
fn killed_at(scene: &Scene, calls: Calls, n: u64) -> bool {
    let copy = scene.copy();
    let server = crate::scene::start(copy.path());
    let strace = Attached::to(&server, calls.threads, calls.name, &format!("signal=KILL:when={n}"));
    let told = script(&server, scene);
    if told.died {
        // It was killed by strace, not by us.
        server.ended();
    } else {
        drop((strace, server));
    }
    compare(scene, copy.path(), &told, &format!("{:?} {} {n}", calls.threads, calls.name));
    told.died
}

/// How many calls of a kind the script leads to, without a kill.
fn made(scene: &Scene, calls: Calls) -> u64 {
    let copy = scene.copy();
    let server = crate::scene::start(copy.path());
    let strace = Attached::watching(&server, calls.threads, calls.name);
    assert!(!script(&server, scene).died);
    strace.made(calls.name)
}

/// Kills at every so many calls of one kind, on two lanes; how many there were. At least half of those that a run without
/// kills makes, because the flusher's share of them varies.
fn killed_throughout(scene: &Scene, calls: Calls) -> u64 {
    let step = if all() { calls.every } else { calls.sample };
    let made = made(scene, calls);
    assert!(made > 0, "the script makes no {} of {:?}", calls.name, calls.threads);
    let (next, kills, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let lane = || {
        while !over.load(Ordering::Relaxed) {
            let n = 1 + step * next.fetch_add(1, Ordering::Relaxed);
            // strace counts no further (strace(1), "when").
            if n > 65_535 || !killed_at(scene, calls, n) {
                over.store(true, Ordering::Relaxed);
            } else {
                kills.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(lane);
        scope.spawn(lane);
    });
    let kills = kills.into_inner();
    say(&format!("{:?} {}: {made} calls, {kills} kills", calls.threads, calls.name));
    let wanted = made.div_ceil(step).div_ceil(2);
    assert!(kills >= wanted, "{calls:?}: {kills} kills at {made} calls, fewer than {wanted}");
    kills
}

#[test]
fn no_kill_at_any_system_call_loses_or_doubles_usage() {
    if !usable() {
        return;
    }
    let scene = Scene::prepare();
    let kills: u64 = CALLS.into_iter().map(|calls| killed_throughout(&scene, calls)).sum();
    say(&format!("{kills} kills at system calls: lost 0, doubled 0"));
}

#[test]
fn no_kill_while_it_recovers_loses_or_doubles_usage() {
    if !usable() {
        return;
    }
    let scene = Scene::prepare();
    // What a kill in the middle of the script leaves is recovered by each of the next starts.
    let left = scene.copy();
    let server = crate::scene::start(left.path());
    let strace = Attached::to(&server, Threads::Worker, "pwrite64", "signal=KILL:when=120");
    let told: Told = script(&server, &scene);
    assert!(told.died);
    server.ended();
    drop(strace);
    let (kills, step) = (AtomicU64::new(0), if all() { 1 } else { 6 });
    let queue = Mutex::new(vec!["pwrite64", "fdatasync", "fsync", "rename", "fallocate", "unlink", "ftruncate"]);
    let lane = || {
        while let Some(call) = queue.lock().unwrap().pop() {
            let mut n = 1;
            let whole = tempfile::tempdir().unwrap();
            copy_all(left.path(), whole.path());
            let made = made_while_starting(whole.path(), call);
            assert!(made > 0, "a start makes no {call}");
            let mut own = 0;
            loop {
                let copy = tempfile::tempdir().unwrap();
                copy_all(left.path(), copy.path());
                let started = started_with(copy.path(), call, &format!("signal=KILL:when={n}"));
                let listens = started.is_some();
                if let Some(server) = started {
                    server.stop_child();
                    server.ended();
                }
                compare(&scene, copy.path(), &told, &format!("start, {call} {n}"));
                if listens {
                    break;
                }
                own += 1;
                n += step;
            }
            let wanted = made.div_ceil(step).div_ceil(2);
            assert!(own >= wanted, "start, {call}: {own} kills at {made} calls, fewer than {wanted}");
            say(&format!("start, {call}: {made} calls, {own} kills"));
            kills.fetch_add(own, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(lane);
        scope.spawn(lane);
    });
    say(&format!("{} kills while it recovers: lost 0, doubled 0", kills.into_inner()));
}
