//! Histories that chance finds rarely, one by one.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tollgate::{
    kernel::{NodeId, SystemClock, TenantId, Timestamp},
    metering::journal::{Amounts, Counted, Flusher, Identity, Journal, Options, Reader, Record, recover},
};
use uuid::Uuid;

use super::disk::{Crash, Fault, Op, SimDisk};

/// What takes longer than this waited for something.
const AT_ONCE: Duration = Duration::from_secs(2);

pub fn options() -> Options {
    Options { segment_bytes: 32 * 1_024, flush_ms: 1, meters: vec!["apis".into()], routes: vec!["/sample/".into()] }
}

fn begin(disk: &SimDisk) -> Journal {
    let past = recover(disk, &Counted::new(), false).unwrap();
    let epoch = past.identity().map_or(1, |before| before.epoch + 1);
    let identity = Identity { node: NodeId::from_uuid(Uuid::from_u128(1)), epoch, boot: Uuid::from_u128(epoch.into()) };
    Journal::begin(Arc::new(disk.clone()), options(), &past, identity, Arc::new(SystemClock)).unwrap()
}

fn record() -> Record {
    let mut amounts = Amounts::default();
    amounts.push(0, 1_000);
    Record { tenant: TenantId::from_uuid(Uuid::from_u128(7)), at: Timestamp::from_secs(1).unwrap(), route: 0, amounts }
}

fn append(journal: &Journal) -> bool {
    journal.reserve().is_ok_and(|room| room.append(&record()).is_ok())
}

fn seqs(journal: &Journal) -> Vec<u64> {
    let mut reader = Reader::new(journal);
    let batches = std::iter::from_fn(|| reader.next_batch(100).unwrap());
    batches.flat_map(|batch| batch.entries).map(|entry| entry.seq).collect()
}

/// From now on, for good.
fn fail(disk: &SimDisk, op: Op) {
    disk.inject(Fault { op, after: 0, times: u32::MAX, full: true });
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn stopwatch() -> Instant {
    Instant::now()
}

#[test]
fn requests_under_way_have_their_room_on_a_full_disk_though_each_is_synced_by_itself() {
    let disk = SimDisk::new(1);
    let journal = begin(&disk);
    // Many more than the two segments have blocks.
    let held: Vec<_> = (0..150).map(|_| journal.reserve().unwrap()).collect();
    fail(&disk, Op::Create);
    for (room, seq) in held.into_iter().zip(1..) {
        assert_eq!(room.append(&record()).unwrap(), seq);
        journal.tend();
        assert_eq!(journal.health().durable_seq, seq);
    }
    assert!(journal.health().cramped, "who knows, knows that blocks are shared");
    drop(journal);
    assert_eq!(recover(&disk.crash(Crash::Dropped), &Counted::new(), false).unwrap().last_seq(), 150);
}

#[test]
fn who_is_let_in_on_a_full_disk_gets_a_block() {
    let disk = SimDisk::new(1);
    let journal = begin(&disk);
    fail(&disk, Op::Create);
    let mut answered = 0;
    while append(&journal) {
        journal.tend();
        answered += 1;
        assert!(!journal.health().cramped, "nobody was let in who has no block");
    }
    assert!((8..16).contains(&answered), "two segments of eight blocks hold {answered}");
    disk.heal();
    journal.tend();
    assert!(append(&journal), "there is room again");
}

#[test]
fn a_sync_that_hangs_holds_up_no_record_and_no_refusal() {
    // The sync of the old segment, that of the new one, that of its name.
    for which in 0..3 {
        let disk = SimDisk::new(1);
        let journal = begin(&disk);
        let held: Vec<_> = (0..9).map(|_| journal.reserve().unwrap()).collect();
        while append(&journal) {}
        assert!(journal.last_seq() > 100, "a segment is nearly full");
        let (hangs, is_hanging) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        disk.meanwhile(
            which,
            Box::new(move || {
                hangs.send(()).unwrap();
                // Much longer than anybody should wait; a journal that waits fails the test, and does not hang it.
                let _ = may_go_on.recv_timeout(5 * AT_ONCE);
            }),
        );
        let before = journal.last_seq();
        let its = journal.clone();
        let flusher = std::thread::spawn(move || its.tend());
        is_hanging.recv().unwrap();
        let begun = stopwatch();
        for (room, more) in held.into_iter().zip(1..) {
            assert_eq!(room.append(&record()).unwrap(), before + more, "sync {which}: who has room is recorded");
        }
        while append(&journal) {}
        let took = begun.elapsed();
        assert!(took < AT_ONCE, "sync {which}: records and a refusal took {took:?}");
        drop(go_on);
        flusher.join().unwrap();
        // What was written meanwhile may have filled the new one.
        journal.tend();
        assert!(append(&journal), "there is a new segment");
        journal.tend();
        let last = journal.last_seq();
        assert!(last > before + 9, "sync {which}: what was written meanwhile is there");
        assert_eq!(seqs(&journal), (1..=last).collect::<Vec<_>>());
        let after = recover(&disk.crash(Crash::Dropped), &Counted::new(), false).unwrap();
        assert_eq!(after.last_seq(), last);
    }
}

#[test]
fn a_closing_journal_does_not_trust_the_file_that_failed() {
    let disk = SimDisk::new(1);
    let journal = begin(&disk);
    assert!(append(&journal));
    // Its sync fails once, and there is no other segment to be had. The next sync of the same file would be a lie.
    disk.inject(Fault { op: Op::Sync, after: 0, times: 1, full: false });
    fail(&disk, Op::Rename);
    journal.tend();
    assert!(journal.health().error.is_some());
    journal.close();
    assert_eq!(journal.health().durable_seq, 0, "nobody counts what the disk may not have");
    let killed = recover(&disk.crash(Crash::Kill), &Counted::new(), false).unwrap();
    assert_eq!(killed.last_seq(), 1, "nothing is given up");
}

#[test]
fn a_broken_journal_that_closes_tries_another_segment() {
    let disk = SimDisk::new(1);
    let journal = begin(&disk);
    assert!(append(&journal));
    disk.inject(Fault { op: Op::Sync, after: 0, times: 1, full: false });
    disk.inject(Fault { op: Op::Rename, after: 0, times: 1, full: false });
    journal.flush();
    assert_eq!(journal.health().durable_seq, 0);
    journal.close();
    assert_eq!(journal.health().durable_seq, 1);
    assert!(!append(&journal), "it is closed");
    let after = recover(&disk.crash(Crash::Dropped), &Counted::new(), false).unwrap();
    assert_eq!(after.last_seq(), 1);
}

#[test]
fn a_write_that_falls_short_anywhere_leaves_nothing_of_its_record() {
    for bytes in 0..75 {
        for how in [Crash::Kill, Crash::Dropped] {
            let disk = SimDisk::new(1);
            let journal = begin(&disk);
            assert!(append(&journal));
            disk.cut_short(bytes);
            assert!(!append(&journal), "a record that is not written whole is refused");
            journal.tend();
            assert!(append(&journal));
            journal.tend();
            assert_eq!(seqs(&journal), [1, 2]);
            assert_eq!(recover(&disk.crash(how), &Counted::new(), false).unwrap().last_seq(), 2);
        }
    }
}

#[test]
fn records_reach_the_disk_on_time_while_there_is_no_room_for_another_segment() {
    let disk = SimDisk::new(1);
    let journal = begin(&disk);
    fail(&disk, Op::Create);
    // Takes the segment that was prepared.
    let held: Vec<_> = (0..150).map(|_| journal.reserve().unwrap()).collect();
    assert!(held.into_iter().all(|room| room.append(&record()).is_ok()));
    while journal.health().error.is_none() {
        append(&journal);
        journal.tend();
    }
    let flusher = Flusher::start(&journal).unwrap();
    let begun = stopwatch();
    let mut written = 0;
    while written < 4 && append(&journal) {
        written += 1;
        // Nobody asks for it: the interval is a millisecond, making room is tried again every 500.
        while journal.health().durable_seq < journal.last_seq() {
            assert!(begun.elapsed() < AT_ONCE, "record {written} waits");
            std::thread::yield_now();
        }
    }
    assert!(written >= 2);
    let took = begun.elapsed() / written;
    assert!(took < Duration::from_millis(250), "a record waits {took:?}");
    drop(flusher);
}
