//! Fuzz target: whatever lies in the journal's folder, it is recovered twice to the same bytes, or refused. What is taken is
//! the chain of frames from the segment's header on, and the next process reads it all, each record once and in order.
//!
//! Frames carry a checksum and the hash of the frame before, which no fuzzer guesses. So an input is a list of edits of a
//! journal that was really written, or a segment of its own; and its first byte says what of that is made right again.

#![no_main]
#![expect(clippy::unwrap_used, reason = "a fuzz target shows what failed by where it panics")]

#[path = "../journal/disk.rs"]
#[expect(dead_code, reason = "the model test crashes it")]
mod disk;

use std::sync::{Arc, LazyLock};

use disk::SimDisk;
use libfuzzer_sys::fuzz_target;
use tollgate::{
    kernel::{NodeId, SystemClock, TenantId, Timestamp},
    metering::journal::{
        Amounts, Counted, Disk, Identity, Journal, JournalError, MAX_AMOUNTS, Options, Past, Reader, Record, recover,
        survey,
    },
};
use uuid::Uuid;

const HEADER: usize = 128;
/// The shortest and the longest frame.
const FRAMES: std::ops::RangeInclusive<usize> = 38..=8_192;
const SEGMENT_BYTES: u64 = 32 * 1_024;

type Files = Vec<(String, Vec<u8>)>;

/// Journals as processes leave them: new, synced, killed with records that no frame says the disk has, full of segments, and
/// taken over by a second process.
static JOURNALS: LazyLock<Vec<Files>> = LazyLock::new(|| {
    let grown = |steps: &[(u16, bool)]| {
        let disk = SimDisk::new(1);
        for (epoch, (records, tended)) in (1..).zip(steps) {
            let past = recover(&disk, &Counted::new(), false).expect("a good journal");
            let journal = begin(&disk, &past, epoch).expect("a good disk");
            (0..*records).for_each(|number| append(&journal, number));
            if *tended {
                journal.tend();
            }
        }
        files(&disk)
    };
    vec![
        grown(&[]),
        grown(&[(0, false)]),
        grown(&[(9, true)]),
        grown(&[(9, false)]),
        grown(&[(9, true), (5, false)]),
        grown(&[(300, true), (9, true), (3, false)]),
    ]
});

fn begin(disk: &SimDisk, past: &Past, epoch: u64) -> Result<Journal, JournalError> {
    let options = Options {
        segment_bytes: SEGMENT_BYTES,
        flush_ms: Options::FLUSH_MS,
        meters: vec!["apis".into(), "compute".into()],
        routes: vec!["/a/".into(), "/b/".into()],
    };
    let identity = Identity {
        node: NodeId::from_uuid(Uuid::from_u128(1)),
        epoch,
        boot: Uuid::from_u128(0x0b00_0000 + u128::from(epoch)),
    };
    Journal::begin(Arc::new(disk.clone()), options, past, identity, Arc::new(SystemClock))
}

fn append(journal: &Journal, number: u16) {
    let mut amounts = Amounts::default();
    for meter in 0..number % (u16::try_from(MAX_AMOUNTS).unwrap() + 1) {
        amounts.push(meter, i64::from(number) + 1);
    }
    let at = Timestamp::from_secs(1_800_000_000 + i64::from(number)).unwrap();
    let tenant = TenantId::from_uuid(Uuid::from_u128(u128::from(number % 5)));
    loop {
        if let Ok(room) = journal.reserve() {
            room.append(&Record { tenant, at, route: number % 2, amounts }).expect("a good disk");
            return;
        }
        journal.tend();
    }
}

fn files(disk: &SimDisk) -> Files {
    let read = |name: String| {
        let file = disk.open(&name).expect("it was listed");
        let mut bytes = vec![0; usize::try_from(file.bytes().expect("a length")).unwrap()];
        file.read_at(&mut bytes, 0).expect("all of it");
        (name, bytes)
    };
    disk.list().expect("names").into_iter().map(read).collect()
}

fn disk_of(files: &Files) -> SimDisk {
    let disk = SimDisk::new(2);
    for (name, bytes) in files {
        let file = disk.create(name, bytes.len() as u64).expect("room");
        if !bytes.is_empty() {
            file.write_at(bytes, 0).expect("room");
        }
        file.sync().expect("a good disk");
    }
    disk.sync().expect("a good disk");
    disk
}

/// Edits of four bytes each: where (two bytes, in 65,536ths of all files), what, and with which value.
fn edit(files: &mut Files, edits: &[u8]) {
    for edit in edits.chunks_exact(4) {
        let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % total.max(1);
        let Some((_, bytes)) = files.iter_mut().find(|(_, bytes)| {
            let here = at < bytes.len();
            at -= if here { 0 } else { bytes.len() };
            here
        }) else {
            return;
        };
        let value = edit[3];
        let end = (at + usize::from(value) * 16).min(bytes.len());
        let target = HEADER.min(bytes.len() - (end - at));
        match edit[2] % 8 {
            0 => bytes[at] = value,
            1 => bytes[at] ^= 1 << (value % 8),
            2 => bytes.truncate(at),
            3 => bytes[at..end].fill(0),
            4 => bytes[at..].fill(0),
            5 => bytes.copy_within(at..end, target),
            6 => bytes[at] = bytes[at].wrapping_add(value),
            _ => drop(bytes.splice(at..at, std::iter::repeat_n(value, usize::from(value)))),
        }
    }
}

/// Makes right again what an input's first byte says: ends and checksums, numbers, hashes, headers.
fn mend(bytes: &mut [u8], what: u8) {
    if bytes.len() < HEADER {
        return;
    }
    let [checksums, numbers, hashes, headers] = [1, 2, 4, 8].map(|bit| what & bit != 0);
    if headers {
        bytes[..8].copy_from_slice(b"TGJRNL02");
        let crc = crc32c::crc32c(&bytes[..96]);
        bytes[96..100].copy_from_slice(&crc.to_le_bytes());
    }
    let mut seq = u64::from_le_bytes(bytes[56..64].try_into().unwrap());
    let mut hash: [u8; 16] = bytes[64..80].try_into().unwrap();
    let mut rest = &mut bytes[HEADER..];
    while let Some(len) = rest.first_chunk().map(|len| u32::from_le_bytes(*len) as usize)
        && FRAMES.contains(&len)
        && len <= rest.len()
    {
        let (frame, after) = rest.split_at_mut(len);
        seq = seq.wrapping_add(u64::from(frame[36] == 1));
        if numbers {
            frame[8..16].copy_from_slice(&seq.to_le_bytes());
        }
        if hashes {
            frame[20..36].copy_from_slice(&hash);
        }
        if checksums {
            frame[len - 1] = 0xED;
            let crc = crc32c::crc32c(&frame[8..]);
            frame[4..8].copy_from_slice(&crc.to_le_bytes());
        }
        hash.copy_from_slice(&blake3::hash(frame).as_bytes()[..16]);
        rest = after;
    }
}

/// The last number of the chain in one segment, told without the reader.
fn chain(bytes: &[u8]) -> u64 {
    let mut seq = u64::from_le_bytes(bytes[56..64].try_into().unwrap());
    let mut hash: [u8; 16] = bytes[64..80].try_into().unwrap();
    let mut rest = &bytes[HEADER..];
    while let Some(len) = rest.first_chunk().map(|len| u32::from_le_bytes(*len) as usize)
        && FRAMES.contains(&len)
        && len <= rest.len()
    {
        let (frame, after) = rest.split_at(len);
        let next = seq.wrapping_add(u64::from(frame[36] == 1));
        let good = crc32c::crc32c(&frame[8..]).to_le_bytes() == frame[4..8]
            && frame[8..16] == next.to_le_bytes()
            && frame[20..36] == hash;
        if !good {
            break;
        }
        seq = next;
        hash.copy_from_slice(&blake3::hash(frame).as_bytes()[..16]);
        rest = after;
    }
    seq
}

/// Every record from the oldest on, read as the roller does.
fn read(journal: &Journal) -> Vec<u64> {
    let (mut reader, mut seqs) = (Reader::new(journal), Vec::new());
    while let Some(batch) = reader.next_batch(100).expect("what was recovered can be read") {
        seqs.extend(batch.entries.iter().map(|entry| entry.seq));
    }
    seqs
}

fuzz_target!(|bytes: &[u8]| {
    let [what, rest @ ..] = bytes else { return };
    let mut files = match JOURNALS.get(usize::from(what >> 4)) {
        Some(journal) => {
            let mut files = journal.clone();
            edit(&mut files, rest);
            files
        }
        None => vec![("0000000000000001.journal".to_owned(), rest.to_vec())],
    };
    for (_, bytes) in &mut files {
        mend(bytes, *what);
    }
    let disk = disk_of(&files);
    let past = match recover(&disk, &Counted::new(), false) {
        Ok(past) => past,
        Err(_) => match recover(&disk, &Counted::new(), true) {
            Ok(past) => past,
            Err(_) => return,
        },
    };
    assert_eq!(recover(&disk, &Counted::new(), true).as_ref().ok(), Some(&past), "recovery changes nothing");
    let accepted = recover(&disk, &Counted::new(), false).is_ok();
    if accepted {
        let (_, damage) = survey(&disk, &[]).expect("a good disk");
        assert!(damage.is_none(), "what recovery takes the doctor takes: {damage:?}");
    }
    if let [(_, only)] = &files[..]
        && accepted
        && past.identity().is_some()
    {
        assert!(past.last_seq() <= chain(only), "more than the chain");
    }
    let [one, other] = [disk_of(&files), disk_of(&files)];
    let begun = [&one, &other].map(|disk| begin(disk, &past, 1_000));
    let [Ok(journal), Ok(_)] = begun else { panic!("a journal that was recovered cannot go on") };
    assert!(self::files(&one) == self::files(&other), "recovering twice gives two journals");
    let seqs = read(&journal);
    assert!(seqs.windows(2).all(|two| two[0] + 1 == two[1]), "{seqs:?}");
    assert!(seqs.last().is_none_or(|last| *last == past.last_seq()), "{seqs:?} {}", past.last_seq());
    append(&journal, 1);
    journal.flush();
    assert_eq!(read(&journal).last(), Some(&(past.last_seq() + 1)));
    let after = recover(&one, &Counted::new(), false).expect("a journal that went on is good");
    assert_eq!(after.last_seq(), past.last_seq() + 1);
});
