//! One frame: how a record lies on disk.
//!
//! ```text
//! offset  size  little-endian
//!      0     4  length of the frame in bytes, all of it
//!      4     4  CRC32C of everything after this field
//!      8     8  sequence number of the record; of other frames, that of the record before
//!     16     4  how many sequence numbers before that one the disk was known to have: 0 for its own
//!     20    16  hash of the frame before: BLAKE3, cut to 128 bits
//!     36     1  kind: 1 usage, 2 name of a meter, 3 name of a route, 4 mark, 5 padding
//!     37        payload
//!   last     1  0xED
//! ```
//!
//! A usage payload is `at` (8, microseconds), tenant (16), route (2), number of amounts (1), then meter (2) and
//! thousandths (8) for each amount. A name's payload is its number (2) and its text. A mark has none: it only says
//! what the disk has. Padding fills the rest of a block before a sync, so that a block that the disk has is never
//! written again: a power loss may ruin the whole block that is being written. The last byte is never zero, so that a frame of which only zeros are missing is not whole. 128
//! bits of hash keep a forger from finding another frame with the same one; they are no signature.

use uuid::Uuid;

use super::Record;
use crate::kernel::{TenantId, Timestamp};

/// The most amounts of one record.
pub const MAX_AMOUNTS: usize = 8;
/// The longest usage frame, in bytes.
pub(super) const MAX_USAGE_FRAME: usize = HEAD + 27 + MAX_AMOUNTS * 10 + 1;
/// The length of a mark, in bytes.
pub(super) const MARK_FRAME: usize = HEAD + 1;
/// What a power loss ruins at most of a write: a physical sector of a disk that says it has 512 bytes, a page.
pub(super) const BLOCK: usize = 4_096;
/// The longest padding: too little of a block is left for a frame, and the next is filled as well.
pub(super) const MAX_PADDING: usize = MARK_FRAME - 1 + BLOCK;
/// The longest frame of any kind; a longer length is damage.
pub(super) const MAX_FRAME: usize = 8_192;
/// The longest name of a meter or a route, in bytes.
const MAX_NAME: usize = 1_000;
const HEAD: usize = 37;
const END: u8 = 0xED;
const KIND_USAGE: u8 = 1;
const KIND_METER: u8 = 2;
const KIND_ROUTE: u8 = 3;
const KIND_MARK: u8 = 4;
const KIND_PADDING: u8 = 5;

/// The hash of a frame.
pub type Hash = [u8; 16];

/// The end of a chain of frames: the last record's number and the last frame's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain {
    /// The sequence number of the last record.
    pub seq: u64,
    /// The hash of the last frame.
    pub hash: Hash,
}

/// So many thousandths of a meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// The meter's number.
    pub meter: u16,
    /// What was used, in thousandths of its unit.
    pub thousandths: i64,
}

/// The amounts of one record, inline: the hot path does not allocate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    items: [Amount; MAX_AMOUNTS],
    len: u8,
}

impl Amounts {
    /// Adds an amount; `false`, and nothing added, when there is no room or nothing was used.
    pub fn push(&mut self, meter: u16, thousandths: i64) -> bool {
        let index = usize::from(self.len);
        if thousandths == 0 || index == MAX_AMOUNTS {
            return false;
        }
        self.items[index] = Amount { meter, thousandths };
        self.len += 1;
        true
    }

    /// The amounts.
    pub fn as_slice(&self) -> &[Amount] {
        &self.items[..usize::from(self.len)]
    }
}

/// What a valid frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Usage(Record),
    Meter(u16, String),
    Route(u16, String),
    Mark,
    Padding,
}

/// A valid frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) len: usize,
    pub(super) seq: u64,
    /// The last record that the disk was known to have when this was written.
    pub(super) durable: u64,
    pub(super) before: Hash,
    pub(super) hash: Hash,
    pub(super) content: Content,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoFrame {
    /// Zeros: nothing was written here.
    Empty,
    /// Something was, and it is not a whole frame.
    Damaged(&'static str),
}

pub(super) fn hash(frame: &[u8]) -> Hash {
    let mut cut = Hash::default();
    cut.copy_from_slice(&blake3::hash(frame).as_bytes()[..16]);
    cut
}

/// What a frame carries besides its content: its number, the last number that the disk has, the frame before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) durable: u64,
    pub(super) before: Hash,
}

/// Puts a usage frame into `buffer`; its length.
pub(super) fn encode_usage(buffer: &mut [u8; MAX_USAGE_FRAME], place: Place, record: &Record) -> usize {
    let amounts = record.amounts.as_slice();
    let payload = &mut buffer[HEAD..];
    payload[..8].copy_from_slice(&record.at.as_micros().to_le_bytes());
    payload[8..24].copy_from_slice(record.tenant.as_uuid().as_bytes());
    payload[24..26].copy_from_slice(&record.route.to_le_bytes());
    payload[26] = record.amounts.len;
    for (slot, amount) in payload[27..].chunks_exact_mut(10).zip(amounts) {
        slot[..2].copy_from_slice(&amount.meter.to_le_bytes());
        slot[2..].copy_from_slice(&amount.thousandths.to_le_bytes());
    }
    let len = HEAD + 27 + amounts.len() * 10 + 1;
    seal(&mut buffer[..len], place, KIND_USAGE);
    len
}

/// The frame that names a meter or a route; a name is cut where a frame ends.
pub(super) fn encode_name(place: Place, is_meter: bool, number: u16, name: &str) -> Vec<u8> {
    let mut frame = vec![0; HEAD];
    frame.extend_from_slice(&number.to_le_bytes());
    let end = (0..=MAX_NAME.min(name.len())).rfind(|end| name.is_char_boundary(*end)).unwrap_or(0);
    frame.extend_from_slice(&name.as_bytes()[..end]);
    frame.push(END);
    seal(&mut frame, place, if is_meter { KIND_METER } else { KIND_ROUTE });
    frame
}

/// The frame that says what the disk has.
pub(super) fn encode_mark(place: Place) -> [u8; MARK_FRAME] {
    let mut frame = [0; MARK_FRAME];
    seal(&mut frame, place, KIND_MARK);
    frame
}

/// The frame that fills what is left of the block at `offset`.
pub(super) fn encode_padding(place: Place, offset: u64) -> Vec<u8> {
    let block = BLOCK as u64;
    let end = (offset + MARK_FRAME as u64).next_multiple_of(block);
    // At most MAX_PADDING.
    let mut frame = vec![0; usize::try_from(end - offset).unwrap_or(MAX_PADDING)];
    seal(&mut frame, place, KIND_PADDING);
    frame
}

fn seal(frame: &mut [u8], place: Place, kind: u8) {
    // A frame is at most MAX_FRAME bytes; a distance that does not fit says that nothing is known.
    let [len, ahead] =
        [frame.len() as u64, place.seq.saturating_sub(place.durable)].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame[8..16].copy_from_slice(&place.seq.to_le_bytes());
    frame[16..20].copy_from_slice(&ahead.to_le_bytes());
    frame[20..36].copy_from_slice(&place.before);
    frame[36] = kind;
    if let Some(last) = frame.last_mut() {
        *last = END;
    }
    let crc = crc32c::crc32c(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the frame at the start of `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Result<Frame, NoFrame> {
    let Some(length) = bytes.first_chunk::<4>() else { return Err(NoFrame::Empty) };
    let len = u32::from_le_bytes(*length) as usize;
    if len == 0 {
        let nothing = bytes.iter().take(HEAD).all(|b| *b == 0);
        return Err(if nothing { NoFrame::Empty } else { NoFrame::Damaged("no length") });
    }
    if !(MARK_FRAME..=MAX_FRAME).contains(&len) {
        return Err(NoFrame::Damaged("an impossible length"));
    }
    let frame = bytes.get(..len).ok_or(NoFrame::Damaged("cut off"))?;
    if frame[len - 1] != END {
        return Err(NoFrame::Damaged("no end"));
    }
    if crc32c::crc32c(&frame[8..]) != u32::from_le_bytes(array(&frame[4..])) {
        return Err(NoFrame::Damaged("a wrong checksum"));
    }
    let content = content(frame[36], &frame[HEAD..len - 1]).ok_or(NoFrame::Damaged("an unknown content"))?;
    let seq = u64::from_le_bytes(array(&frame[8..]));
    let durable = match u32::from_le_bytes(array(&frame[16..])) {
        u32::MAX => 0,
        ahead => seq.saturating_sub(u64::from(ahead)),
    };
    Ok(Frame { len, seq, durable, before: array(&frame[20..]), hash: hash(frame), content })
}

fn content(kind: u8, payload: &[u8]) -> Option<Content> {
    match kind {
        KIND_USAGE => usage(payload).map(Content::Usage),
        KIND_METER | KIND_ROUTE => {
            let (number, name) = payload.split_first_chunk::<2>()?;
            let name = String::from_utf8(name.to_vec()).ok()?;
            let number = u16::from_le_bytes(*number);
            Some(if kind == KIND_METER { Content::Meter(number, name) } else { Content::Route(number, name) })
        }
        KIND_MARK => payload.is_empty().then_some(Content::Mark),
        KIND_PADDING => payload.iter().all(|byte| *byte == 0).then_some(Content::Padding),
        _ => None,
    }
}

fn usage(payload: &[u8]) -> Option<Record> {
    let (head, amounts) = payload.split_first_chunk::<27>()?;
    let count = usize::from(head[26]);
    if count > MAX_AMOUNTS || amounts.len() != count * 10 {
        return None;
    }
    let mut record = Record {
        at: Timestamp::from_micros(i64::from_le_bytes(array(&head[..])))?,
        tenant: TenantId::from_uuid(Uuid::from_bytes(array(&head[8..]))),
        route: u16::from_le_bytes(array(&head[24..])),
        amounts: Amounts::default(),
    };
    for amount in amounts.chunks_exact(10) {
        let (meter, thousandths) = (u16::from_le_bytes(array(amount)), i64::from_le_bytes(array(&amount[2..])));
        record.amounts.push(meter, thousandths);
    }
    Some(record)
}

/// The first `N` bytes; callers have checked that they are there.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}
