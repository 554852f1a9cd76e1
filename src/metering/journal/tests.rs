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
    open_counted(folder, &Counted::new(), accept_loss)
}

fn open_counted(folder: &Path, counted: &Counted, accept_loss: bool) -> Result<Journal, JournalError> {
    let disk = Arc::new(Folder::open(folder.to_owned()).expect(OPEN));
    let past = recover(&*disk, counted, accept_loss)?;
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

#[test]
fn routes_that_are_named_under_load_keep_their_names_for_whoever_reads_later() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    let flusher = Flusher::start(&journal).unwrap();
    let mut names = vec!["/sample/".to_owned()];
    let append = |route: u16| {
        // Without room for a moment, as a request would be told; then it comes again.
        let reservation = std::iter::repeat_with(|| {
            std::thread::yield_now();
            journal.reserve()
        });
        let mut reservation = reservation.take(3_000_000);
        let found = reservation.find_map(Result::ok);
        found
            .unwrap_or_else(|| panic!("no room: {:?}", journal.health()))
            .append(&Record { route, ..record(1) })
            .unwrap();
    };
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| (0..3_000).for_each(|_| append(0)));
        (1..=20).try_for_each(|number| {
            names.push(format!("/route-{number}/"));
            journal.name(&journal.meter_names(), &names)?;
            // A number is used at once.
            (0..10).for_each(|_| append(number));
            Ok::<_, JournalError>(())
        })
    });
    outcome.unwrap();
    drop((flusher, journal));
    // By a process that has other names.
    let entries = read_all(&open(folder.path()));
    assert!(entries.iter().all(|entry| *entry.route == *names[usize::from(entry.record.route)]));
    assert_eq!(entries.iter().filter(|entry| entry.record.route > 0).count(), 200);
}

#[test]
fn a_closed_journal_takes_no_names() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    journal.close();
    assert!(matches!(journal.name(&journal.meter_names(), &["/a/".to_owned()]), Err(JournalError::Unavailable)));
}

/// The last segment and where its last frame ends.
fn tail(folder: &Path) -> (std::path::PathBuf, u64) {
    let past = recover(&Folder::open(folder.to_owned()).unwrap(), &Counted::new(), false).unwrap();
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

#[tokio::test]
async fn an_answer_does_not_wait_for_a_disk_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    // Nobody syncs.
    let seq = journal.reserve().unwrap().append(&record(1)).unwrap();
    let waited = journal.durable_within(seq, std::time::Duration::from_millis(1)).await;
    assert!(matches!(waited, Err(JournalError::TooSlow)));
}

/// The segments of a journal of several, and how many records are in them.
fn several_segments(folder: &Path) -> (Vec<u64>, u64) {
    let journal = open(folder);
    append(&journal, 1..31);
    let segments = segment::list(&Folder::open(folder.to_owned()).unwrap()).unwrap();
    assert!(segments.len() >= 4, "{segments:?}");
    (segments, journal.last_seq())
}

fn overwrite(folder: &Path, number: u64, at: u64) {
    let file = OpenOptions::new().write(true).open(folder.join(segment::name(number))).unwrap();
    file.write_all_at(&[0xff; 4], at).unwrap();
}

/// The last record of all segments before one, as its header says.
fn last_before(folder: &Path, number: u64) -> Chain {
    segment::Header::read(&Folder::open(folder.to_owned()).unwrap(), number).unwrap().before
}

#[test]
fn a_segment_before_a_damaged_header_or_a_missing_one_is_kept_whole() {
    for missing in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (segments, _) = several_segments(folder.path());
        let bad = segments[2];
        let before = last_before(folder.path(), bad).seq;
        if missing {
            std::fs::remove_file(folder.path().join(segment::name(bad))).unwrap();
        } else {
            overwrite(folder.path(), bad, 60);
        }
        assert!(try_open(folder.path(), false).is_err(), "that is a loss");
        let journal = try_open(folder.path(), true).unwrap();
        let seqs: Vec<u64> = read_all(&journal).iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, (1..=before).collect::<Vec<_>>(), "all before it, and nothing twice");
        drop(journal);
        assert!(try_open(folder.path(), false).is_ok(), "the next start finds a whole journal");
    }
}

#[test]
fn damage_to_segments_that_are_counted_loses_nothing() {
    for at in [60, segment::HEADER_BYTES + 200] {
        let folder = tempfile::tempdir().unwrap();
        let (segments, last) = several_segments(folder.path());
        let end = last_before(folder.path(), segments[2]);
        overwrite(folder.path(), segments[0], at);
        overwrite(folder.path(), segments[1], at);
        assert!(try_open(folder.path(), false).is_err(), "uncounted, it would be a loss");
        let journal = open_counted(folder.path(), &Counted::from([(Uuid::from_u128(1), end)]), false).unwrap();
        let seqs: Vec<u64> = read_all(&journal).iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, (end.seq + 1..=last).collect::<Vec<_>>());
    }
}

#[test]
fn damage_to_the_counted_part_of_a_segment_loses_nothing_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path());
    append(&journal, 1..7);
    let mut reader = Reader::new(&journal);
    let counted = reader.next_batch(3).unwrap().unwrap().last;
    assert!((1..6).contains(&counted.seq));
    drop((reader, journal));
    let number = segment::list(&Folder::open(folder.path().to_owned()).unwrap()).unwrap()[0];
    // In the first record: a block of names is before it.
    overwrite(folder.path(), number, frame::BLOCK as u64 + 50);
    assert!(matches!(try_open(folder.path(), false), Err(JournalError::Damaged { seq: 0, .. })));
    let journal = open_counted(folder.path(), &Counted::from([(Uuid::from_u128(1), counted)]), false).unwrap();
    let entries = read_all(&journal);
    let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (counted.seq + 1..=6).collect::<Vec<_>>());
    assert_eq!(&*entries[0].meters[0], "apis", "their meters have names");
    append(&journal, 7..9);
    assert_eq!(journal.last_seq(), 8);
    drop(journal);
    // Damage behind the cursor is a loss.
    overwrite(folder.path(), number, u64::from(u16::try_from(counted.seq).unwrap() + 1) * frame::BLOCK as u64 + 100);
    assert!(open_counted(folder.path(), &Counted::from([(Uuid::from_u128(1), counted)]), false).is_err());
}
