//! The journal on a real file system.

use std::{fs::OpenOptions, os::unix::fs::FileExt};

use super::*;
use crate::kernel::{SeededRng, SystemClock};

fn options(folder: &std::path::Path) -> Options {
    Options {
        folder: folder.to_owned(),
        segment_bytes: 4_096,
        flush_ms: 1,
        meters: vec!["apis".into(), "compute".into()],
        routes: vec!["/sample/".into()],
        accept_loss: false,
    }
}

fn open(folder: &std::path::Path) -> Journal {
    Journal::open(options(folder), &SystemClock, &SeededRng::new(1)).unwrap()
}

fn record(n: i64) -> Record {
    let mut amounts = Amounts::default();
    amounts.push(0, 1_000);
    amounts.push(1, n);
    let tenant = TenantId::from_uuid(uuid::Uuid::from_u128(7));
    Record { tenant, at: Timestamp::from_secs(n).unwrap(), route: 0, amounts }
}

fn append(journal: &Journal, records: std::ops::Range<i64>) {
    for n in records {
        journal.reserve().unwrap().append(&record(n)).unwrap();
    }
}

fn read_all(journal: &Journal, after: u64) -> Vec<Entry> {
    let mut reader = Reader::new(journal, after);
    let mut all = Vec::new();
    loop {
        let batch = reader.next_batch(7).unwrap();
        if batch.is_empty() {
            return all;
        }
        all.extend(batch);
    }
}

#[test]
fn records_come_back_in_order_across_segments_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    append(&first, 1..101);
    drop(first);
    let second = open(folder.path());
    append(&second, 101..151);
    let entries = read_all(&second, 0);
    let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=150).collect::<Vec<_>>());
    assert_eq!(entries[149].record, record(150));
    assert_eq!((&*entries[149].route, &*entries[149].meters[1]), ("/sample/", "compute"));
    assert_eq!(second.epoch(), 2);
}

#[test]
fn a_reader_goes_on_after_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..41);
    let seqs: Vec<u64> = read_all(&journal, 35).iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [36, 37, 38, 39, 40]);
}

/// The last segment and where its last frame ends.
fn tail(folder: &std::path::Path) -> (PathBuf, u64) {
    let ending = recovery::recover(folder, false).unwrap().unwrap();
    (segment::path(folder, ending.segment), ending.holds)
}

#[test]
fn a_torn_tail_is_cut_before_the_first_append() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..6);
    drop(journal);
    let (path, end) = tail(folder.path());
    // The first half of a frame, as a power loss leaves it.
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[80, 0, 0, 0, 1, 2, 3], end).unwrap();
    let journal = open(folder.path());
    append(&journal, 6..8);
    let seqs: Vec<u64> = read_all(&journal, 0).iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn damage_before_valid_records_stops_with_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..11);
    drop(journal);
    let (path, end) = tail(folder.path());
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0xff; 4], end - 200).unwrap();
    let refused = Journal::open(options(folder.path()), &SystemClock, &SeededRng::new(1));
    assert!(matches!(refused, Err(JournalError::Damaged { .. })));
    let accepted = Options { accept_loss: true, ..options(folder.path()) };
    assert!(Journal::open(accepted, &SystemClock, &SeededRng::new(1)).is_ok());
}

#[test]
fn an_edited_record_breaks_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..11);
    let (number, before) = {
        let inner = journal.shared.lock();
        (inner.number, inner.offset)
    };
    drop(journal);
    // A whole valid frame in place of the last one, with another amount and the right checksum.
    let path = segment::path(folder.path(), number);
    let forged = {
        let mut buffer = [0; frame::MAX_USAGE_FRAME];
        let len = frame::encode_usage(&mut buffer, 10, &[9; 16], &record(999));
        buffer[..len].to_vec()
    };
    let at = before - forged.len() as u64;
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&forged, at).unwrap();
    let ending = recovery::recover(folder.path(), true).unwrap().unwrap();
    assert_eq!(ending.last_seq, 9);
}

#[test]
fn room_is_promised_only_while_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let mut held = Vec::new();
    while let Ok(reservation) = journal.reserve() {
        held.push(reservation);
        assert!(held.len() < 1_000, "two segments of 4 KiB hold fewer");
    }
    assert!(held.len() > 30);
    for (reservation, n) in held.into_iter().zip(1..) {
        reservation.append(&record(n)).unwrap();
    }
}

#[test]
fn segments_that_were_counted_are_removed_and_the_rest_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..201);
    let before = segment::list(folder.path()).unwrap().len();
    journal.retain_after(150).unwrap();
    assert!(segment::list(folder.path()).unwrap().len() < before);
    let seqs: Vec<u64> = read_all(&journal, 150).iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (151..=200).collect::<Vec<_>>());
    drop(journal);
    append(&open(folder.path()), 201..202);
}

#[tokio::test]
async fn durable_waits_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let seq = journal.reserve().unwrap().append(&record(1)).unwrap();
    journal.durable(seq).await;
    assert!(journal.health().durable_seq >= seq);
}
