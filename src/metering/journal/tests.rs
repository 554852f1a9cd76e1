//! The journal on a real file system.

use std::{fs::OpenOptions, os::unix::fs::FileExt, path::Path, sync::Arc};

use uuid::Uuid;

use super::*;
use crate::kernel::{Clock as _, NodeId, SeededRng, SystemClock};

const OPEN: &str = "the journal opens";

fn options() -> Options {
    Options {
        segment_bytes: 32 * 1_024,
        flush_ms: 1,
        meters: vec!["apis".into(), "compute".into()],
        routes: vec!["/sample/".into()],
    }
}

fn try_open(folder: &Path, accept_loss: bool) -> Result<Journal, JournalError> {
    let disk = Arc::new(Folder::open(folder.to_owned()).expect(OPEN));
    let past = recover(&*disk, accept_loss)?;
    let before = past.identity();
    let node = before.map_or_else(|| NodeId::generate(SystemClock.now(), &SeededRng::new(1)), |before| before.node);
    let epoch = before.map_or(1, |before| before.epoch + 1);
    let identity = Identity { node, epoch, boot: Uuid::from_u128(u128::from(epoch)) };
    Journal::begin(disk, options(), &past, identity, Arc::new(SystemClock))
}

fn open(folder: &Path) -> Journal {
    try_open(folder, false).expect(OPEN)
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
        journal.tend();
    }
}

fn read_all(journal: &Journal) -> Vec<Entry> {
    let mut reader = Reader::new(journal);
    let mut all = Vec::new();
    while let Some(batch) = reader.next_batch(7).unwrap() {
        all.extend(batch.entries);
    }
    all
}

#[test]
fn records_come_back_in_order_across_segments_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    append(&first, 1..101);
    drop(first);
    let second = open(folder.path());
    append(&second, 101..151);
    let entries = read_all(&second);
    let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=150).collect::<Vec<_>>());
    assert_eq!(entries[149].record, record(150));
    assert_eq!((&*entries[149].route, &*entries[149].meters[1]), ("/sample/", "compute"));
    assert_eq!(second.identity().epoch, 2);
}

/// The last segment and where its last frame ends.
fn tail(folder: &Path) -> (std::path::PathBuf, u64) {
    let past = recover(&Folder::open(folder.to_owned()).unwrap(), false).unwrap();
    let ending = past.ending.unwrap();
    // After the last record come its padding, to the end of the block, and a mark.
    let end = ending.holds.next_multiple_of(frame::BLOCK as u64) + frame::MARK_FRAME as u64;
    (folder.join(segment::name(ending.segment)), end)
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
    let seqs: Vec<u64> = read_all(&journal).iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn damage_before_valid_records_stops_with_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..11);
    drop(journal);
    let (path, end) = tail(folder.path());
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(&[0xff; 4], end - 3 * frame::BLOCK as u64)
        .unwrap();
    assert!(matches!(try_open(folder.path(), false), Err(JournalError::Damaged { .. })));
    let journal = try_open(folder.path(), true).unwrap();
    let seqs: Vec<u64> = read_all(&journal).iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert!((5..10).contains(&seqs.len()), "what came before the damage is kept: {seqs:?}");
    drop(journal);
    assert!(try_open(folder.path(), false).is_ok(), "the next start finds a whole journal");
}

#[test]
fn an_edited_record_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..11);
    drop(journal);
    let (path, end) = tail(folder.path());
    // A whole valid frame in place of the last one, with another amount and the right checksum.
    let place = frame::Place { seq: 10, durable: 9, before: [9; 16] };
    let mut forged = [0; frame::MAX_USAGE_FRAME];
    let len = frame::encode_usage(&mut forged, place, &record(999));
    // Each record was synced by itself: a mark, the record, and padding to the end of the block.
    let at = end - frame::BLOCK as u64;
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&forged[..len], at).unwrap();
    let found = try_open(folder.path(), false);
    assert!(matches!(found, Err(JournalError::Damaged { why: "a broken chain of hashes", seq: 9, .. })));
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
    let mut reader = Reader::new(&journal);
    let last = reader.next_batch(150).unwrap().unwrap().last.seq;
    let disk = Folder::open(folder.path().to_owned()).unwrap();
    let before = segment::list(&disk).unwrap().len();
    journal.remove_before(reader.segment()).unwrap();
    assert!(segment::list(&disk).unwrap().len() < before || reader.segment() == 1);
    while let Some(batch) = reader.next_batch(150).unwrap() {
        assert!(batch.last.seq > last);
    }
    journal.remove_before(reader.segment()).unwrap();
    assert_eq!(segment::list(&disk).unwrap().len(), 1);
    drop(journal);
    append(&open(folder.path()), 201..202);
}

#[tokio::test]
async fn durable_waits_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let flusher = Flusher::start(&journal).unwrap();
    let seq = journal.reserve().unwrap().append(&record(1)).unwrap();
    journal.durable(seq).await.unwrap();
    assert!(journal.health().durable_seq >= seq);
    drop(flusher);
}
