//! A tenant's export, read by the list at its end, as other programs read it.

use std::{collections::BTreeMap, fmt::Write as _, io::Read as _};

use serde_json::Value;

/// The files of an archive.
pub struct Archive(pub BTreeMap<String, Vec<u8>>);

impl Archive {
    /// Reads one, and holds its manifest to be true.
    #[track_caller]
    pub fn read(bytes: &[u8]) -> Self {
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let u32_at = |at: usize| u16_at(at) | (u16_at(at + 2) << 16);
        let end = bytes.len() - 22;
        assert_eq!(&bytes[end..end + 4], b"PK\x05\x06");
        let (mut at, mut files) = (u32_at(end + 16), BTreeMap::new());
        for _ in 0..u16_at(end + 10) {
            let (packed, length, offset) = (u32_at(at + 20), u16_at(at + 28), u32_at(at + 42));
            let name = String::from_utf8(bytes[at + 46..at + 46 + length].to_vec()).unwrap();
            let begin = offset + 30 + u16_at(offset + 26) + u16_at(offset + 28);
            let mut content = Vec::new();
            let mut decoder = flate2::read::DeflateDecoder::new(&bytes[begin..begin + packed]);
            decoder.read_to_end(&mut content).unwrap();
            assert_eq!(crc32fast::hash(&content) as usize, u32_at(at + 16), "{name}");
            assert!(files.insert(name, content).is_none(), "two of one name");
            at += 46 + length;
        }
        let archive = Self(files);
        let manifest = archive.json("manifest.json");
        assert_eq!(manifest["format"], "tollgate-export/1");
        let listed = manifest["files"].as_array().unwrap();
        assert_eq!(listed.len(), archive.0.len() - 1, "{manifest}");
        for file in listed {
            let name = file["name"].as_str().unwrap();
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &archive.0[name]);
            let digest = digest.as_ref().iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").unwrap();
                text
            });
            assert_eq!(file["sha256"], digest, "{name}");
            let entries = archive.json(name).as_array().map_or(1, Vec::len);
            assert_eq!(file["entries"], entries, "{name}");
        }
        archive
    }

    /// One of its files.
    #[track_caller]
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(self.0.get(name).unwrap_or_else(|| panic!("no {name}"))).unwrap()
    }

    /// The names of its files.
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Whether a text is anywhere in it.
    pub fn has(&self, text: &str) -> bool {
        self.0.values().any(|file| file.windows(text.len()).any(|part| part == text.as_bytes()))
    }
}
