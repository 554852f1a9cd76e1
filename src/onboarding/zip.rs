//! Archives as ZIP (APPNOTE.TXT 6.3.10 of PKWARE), written from front to back: sizes and checksums follow what they are of, so that
//! nothing need be known before it is written, and nothing is kept but the list at the end.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use aws_lc_rs::digest::{Context, SHA256};
use flate2::{Compression, write::DeflateEncoder};

use crate::kernel::Timestamp;

/// 2.0: deflated.
const VERSION: u16 = 20;
/// Made on a system with POSIX modes.
const MADE_BY: u16 = (3 << 8) | VERSION;
/// A regular file that its owner alone reads.
const MODE: u32 = 0o100_600 << 16;
/// Sizes and checksum follow (bit 3); names are UTF-8 (bit 11).
const FLAGS: u16 = (1 << 3) | (1 << 11);
const DEFLATED: u16 = 8;

/// An archive that is being written.
pub(super) struct Zip {
    out: Vec<u8>,
    /// How much was taken out of `out` before.
    taken: u64,
    time: (u16, u16),
    entries: Vec<Entry>,
    open: Option<Open>,
}

/// A file that is written.
struct Entry {
    name: String,
    crc: u32,
    packed: u32,
    size: u32,
    offset: u32,
}

/// A file that is being written.
struct Open {
    name: String,
    encoder: DeflateEncoder<Vec<u8>>,
    crc: crc32fast::Hasher,
    sha256: Context,
    size: u64,
    packed: u64,
    offset: u64,
}

impl Zip {
    /// One whose files are of an instant.
    pub(super) fn new(at: Timestamp) -> Self {
        Self { out: Vec::new(), taken: 0, time: dos_time(at), entries: Vec::new(), open: None }
    }

    /// Begins a file.
    pub(super) fn begin(&mut self, name: &str) {
        let offset = self.taken + self.out.len() as u64;
        self.u32(0x0403_4b50);
        self.u16s(&[VERSION, FLAGS, DEFLATED, self.time.1, self.time.0]);
        for word in [0, 0, 0] {
            self.u32(word);
        }
        self.name_and_extra(name);
        self.out.extend_from_slice(name.as_bytes());
        let encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        let (name, crc, sha256) = (name.to_owned(), crc32fast::Hasher::new(), Context::new(&SHA256));
        self.open = Some(Open { name, encoder, crc, sha256, size: 0, packed: 0, offset });
    }

    /// The next bytes of the file.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Err(io::Error::other("no file is open")) };
        open.encoder.write_all(bytes)?;
        open.crc.update(bytes);
        open.sha256.update(bytes);
        open.size += bytes.len() as u64;
        open.packed += open.encoder.get_ref().len() as u64;
        self.out.append(open.encoder.get_mut());
        Ok(())
    }

    /// Ends the file; its SHA-256 in hexadecimal digits.
    pub(super) fn end(&mut self) -> io::Result<String> {
        let Some(open) = self.open.take() else { return Err(io::Error::other("no file is open")) };
        let rest = open.encoder.finish()?;
        self.out.extend_from_slice(&rest);
        let packed = open.packed + rest.len() as u64;
        let (crc, packed, size) = (open.crc.finalize(), fits(packed)?, fits(open.size)?);
        for word in [0x0807_4b50, crc, packed, size] {
            self.u32(word);
        }
        let offset = fits(open.offset)?;
        self.entries.push(Entry { name: open.name, crc, packed, size, offset });
        let digest = open.sha256.finish();
        Ok(digest.as_ref().iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// Ends the archive.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let begin = self.taken + self.out.len() as u64;
        let entries = std::mem::take(&mut self.entries);
        for entry in &entries {
            self.u32(0x0201_4b50);
            self.u16s(&[MADE_BY, VERSION, FLAGS, DEFLATED, self.time.1, self.time.0]);
            for word in [entry.crc, entry.packed, entry.size] {
                self.u32(word);
            }
            self.name_and_extra(&entry.name);
            self.u16s(&[0, 0, 0]);
            self.u32(MODE);
            self.u32(entry.offset);
            self.out.extend_from_slice(entry.name.as_bytes());
        }
        let size = self.taken + self.out.len() as u64 - begin;
        let count = u16::try_from(entries.len()).map_err(|_| too_large())?;
        self.u32(0x0605_4b50);
        self.u16s(&[0, 0, count, count]);
        self.u32(fits(size)?);
        self.u32(fits(begin)?);
        self.u16s(&[0]);
        Ok(())
    }

    /// How much has not been taken out.
    pub(super) const fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes out what is written so far.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.taken += self.out.len() as u64;
        std::mem::take(&mut self.out)
    }

    fn name_and_extra(&mut self, name: &str) {
        // Names are ours, and short.
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.u16s(&[length, 0]);
    }

    fn u16s(&mut self, words: &[u16]) {
        for word in words {
            self.out.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn u32(&mut self, word: u32) {
        self.out.extend_from_slice(&word.to_le_bytes());
    }
}

/// Sizes of more than 4 GiB would need another form (ZIP64).
fn fits(size: u64) -> io::Result<u32> {
    u32::try_from(size).map_err(|_| too_large())
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "an export of more than 4 GiB or 65,535 files")
}

/// Date and time as MS-DOS has them, in UTC: two seconds at a time, from 1980 on.
fn dos_time(at: Timestamp) -> (u16, u16) {
    let at = at.to_jiff().to_zoned_datetime(jiff::tz::TimeZone::UTC).datetime();
    let part = |part: i8| u16::try_from(part).unwrap_or(0);
    let year = u16::try_from(at.year() - 1980).unwrap_or(0).min(127);
    let date = (year << 9) | (part(at.month()) << 5) | part(at.day());
    let time = (part(at.hour()) << 11) | (part(at.minute()) << 5) | (part(at.second()) / 2);
    (date, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive by its list, as other programs do.
    fn read(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([archive[at], archive[at + 1]]));
        let u32_at = |at: usize| u16_at(at) | (u16_at(at + 2) << 16);
        let end = archive.len() - 22;
        assert_eq!(u32_at(end), 0x0605_4b50);
        let mut at = u32_at(end + 16);
        let mut files = Vec::new();
        for _ in 0..u16_at(end + 10) {
            assert_eq!(u32_at(at), 0x0201_4b50);
            let (packed, size, length, offset) = (u32_at(at + 20), u32_at(at + 24), u16_at(at + 28), u32_at(at + 42));
            let name = String::from_utf8(archive[at + 46..at + 46 + length].to_vec()).unwrap();
            let begin = offset + 30 + u16_at(offset + 26) + u16_at(offset + 28);
            let mut decoder = flate2::read::DeflateDecoder::new(&archive[begin..begin + packed]);
            let mut content = Vec::new();
            io::Read::read_to_end(&mut decoder, &mut content).unwrap();
            assert_eq!((content.len(), crc32fast::hash(&content) as usize), (size, u32_at(at + 16)));
            // The same stands behind the file.
            assert_eq!(u32_at(begin + packed + 4), u32_at(at + 16));
            files.push((name, content));
            at += 46 + length;
        }
        files
    }

    #[test]
    fn what_is_written_piece_by_piece_is_read_as_a_whole() {
        let mut zip = Zip::new("2026-11-10T12:00:01Z".parse().unwrap());
        let mut archive = Vec::new();
        let large = b"0123456789abcdef".repeat(20_000);
        for (name, content) in [("a.json", &b"[]"[..]), ("invoices/b.json", &large), ("empty", b"")] {
            zip.begin(name);
            for piece in content.chunks(1_000) {
                zip.write(piece).unwrap();
                archive.extend(zip.take());
            }
            let digest = zip.end().unwrap();
            assert_eq!(digest.len(), 64);
        }
        zip.finish().unwrap();
        archive.extend(zip.take());
        let expected = [("a.json", b"[]".to_vec()), ("invoices/b.json", large), ("empty", Vec::new())];
        assert_eq!(read(&archive), expected.map(|(name, content)| (name.to_owned(), content)));
        assert!(archive.len() < 10_000, "it is packed");
    }
}
