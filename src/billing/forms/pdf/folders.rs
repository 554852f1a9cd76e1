//! Finds fonts in folders: which characters each has, without reading more of a file than its tables of names and characters.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use skrifa::raw::{
    FontData, FontRead,
    tables::{
        cmap::{Cmap, CmapSubtable},
        name::Name,
    },
};

/// Where systems keep their fonts.
const USUAL: [&str; 6] = [
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "/opt/homebrew/share/fonts",
    "C:\\Windows\\Fonts",
];
/// Folders within folders are searched so deep.
const DEPTH: usize = 8;
/// Of so many files at most.
const FILES: usize = 20_000;
/// A table that is larger is not one.
const TABLE_BYTES: u32 = 8 << 20;
/// Faces in a collection at most.
const FACES: u32 = 64;

/// A face of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    /// Its place in a collection.
    pub(super) index: u32,
    /// `Noto Sans CJK JP`
    pub(super) family: String,
    /// 400 is regular.
    pub(super) weight: u16,
    /// The codes of its characters, first to last, in order.
    ranges: Vec<(u32, u32)>,
}

impl Candidate {
    pub(super) fn has(&self, character: char) -> bool {
        let code = u32::from(character);
        let after = self.ranges.partition_point(|(first, _)| *first <= code);
        after > 0 && code <= self.ranges[after - 1].1
    }
}

/// Every face that can be embedded, of given folders and of the usual ones, in an order that does not depend on the disk.
pub(super) fn candidates(folders: &[PathBuf]) -> Vec<Candidate> {
    let mut files = Vec::new();
    for folder in folders.iter().map(PathBuf::as_path).chain(USUAL.iter().map(Path::new)) {
        let mut of_folder = Vec::new();
        collect(folder, DEPTH, &mut of_folder);
        of_folder.sort();
        files.extend(of_folder);
    }
    files.dedup();
    // A file that cannot be read, or is no font, has no faces.
    files.iter().flat_map(|path| faces(path).unwrap_or_default()).collect()
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if files.len() >= FILES {
            return;
        }
        let path = entry.path();
        let extension = path.extension().and_then(|own| own.to_str()).map(str::to_ascii_lowercase);
        // Not behind links: those may lead in a circle.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth > 0 {
            collect(&path, depth - 1, files);
        } else if extension.is_some_and(|own| ["ttf", "otf", "ttc", "otc"].contains(&own.as_str())) {
            files.push(path);
        }
    }
}

fn faces(path: &Path) -> io::Result<Vec<Candidate>> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(Vec::new());
    }
    let head = read(&mut file, 0, 12)?;
    let starts: Vec<u32> = if head.starts_with(b"ttcf") {
        let count = u32_at(&head, 8).unwrap_or(0).min(FACES);
        let offsets = read(&mut file, 12, count * 4)?;
        offsets.chunks_exact(4).filter_map(|bytes| u32_at(bytes, 0)).collect()
    } else {
        vec![0]
    };
    let mut found = Vec::new();
    for (index, start) in (0..).zip(starts) {
        if let Some((family, weight, ranges)) = Tables::read(&mut file, start)?.face(&mut file)? {
            found.push(Candidate { path: path.to_owned(), index, family, weight, ranges });
        }
    }
    Ok(found)
}

/// What a face says of itself: its family, its weight, its characters.
type Facts = (String, u16, Vec<(u32, u32)>);

/// The directory of a face: tag, offset, length.
struct Tables(Vec<([u8; 4], u32, u32)>);

impl Tables {
    fn read(file: &mut File, start: u32) -> io::Result<Self> {
        let head = read(file, start, 12)?;
        let count = u32::from(u16_at(&head, 4).unwrap_or(0));
        let records = read(file, start.saturating_add(12), count * 16)?;
        let tables = records.chunks_exact(16).filter_map(|record| {
            let tag = record.first_chunk::<4>()?;
            Some((*tag, u32_at(record, 8)?, u32_at(record, 12)?))
        });
        Ok(Self(tables.collect()))
    }

    fn has(&self, tag: [u8; 4]) -> bool {
        self.0.iter().any(|(own, ..)| *own == tag)
    }

    fn table(&self, file: &mut File, tag: [u8; 4]) -> io::Result<Vec<u8>> {
        match self.0.iter().find(|(own, ..)| *own == tag) {
            Some((_, offset, length)) if *length <= TABLE_BYTES => read(file, *offset, *length),
            _ => Ok(Vec::new()),
        }
    }

    /// `None` for what cannot stand in for upright text: pictures, italics, fonts whose makers forbid embedding.
    fn face(&self, file: &mut File) -> io::Result<Option<Facts>> {
        if !self.has(*b"glyf") && !self.has(*b"CFF ") {
            return Ok(None);
        }
        let os2 = self.table(file, *b"OS/2")?;
        let weight = u16_at(&os2, 4).unwrap_or(400);
        // Bits 0 to 3 of `fsType`: 2 is "restricted licence embedding".
        let is_restricted = u16_at(&os2, 8).is_some_and(|kind| kind & 0xf == 2);
        // Bit 0 of `fsSelection`.
        let is_italic = u16_at(&os2, 62).is_some_and(|kind| kind & 1 == 1);
        if is_restricted || is_italic {
            return Ok(None);
        }
        let family = family(&self.table(file, *b"name")?);
        let ranges = ranges(&self.table(file, *b"cmap")?);
        Ok((!ranges.is_empty()).then_some((family, weight, ranges)))
    }
}

fn family(table: &[u8]) -> String {
    let Ok(name) = Name::read(FontData::new(table)) else { return String::new() };
    let mut records = name.name_record().iter().filter(|record| record.is_unicode());
    let record = records.find(|record| record.name_id().to_u16() == 1);
    let text = record.and_then(|record| record.string(name.string_data()).ok());
    text.map(|text| text.chars().collect()).unwrap_or_default()
}

fn ranges(table: &[u8]) -> Vec<(u32, u32)> {
    let Ok(map) = Cmap::read(FontData::new(table)) else { return Vec::new() };
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    let mut add = |code: u32| match ranges.last_mut() {
        Some((_, last)) if *last + 1 == code => *last = code,
        Some((_, last)) if *last >= code => {}
        _ => ranges.push((code, code)),
    };
    match map.best_subtable() {
        Some((_, _, CmapSubtable::Format4(table))) => {
            table.iter().filter(|(_, glyph)| glyph.to_u32() != 0).for_each(|(code, _)| add(code));
        }
        Some((_, _, CmapSubtable::Format12(table))) => {
            table.iter().filter(|(_, glyph)| glyph.to_u32() != 0).for_each(|(code, _)| add(code));
        }
        _ => {}
    }
    ranges
}

fn read(file: &mut File, offset: u32, bytes: u32) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset.into()))?;
    let mut buffer = Vec::new();
    file.take(bytes.into()).read_to_end(&mut buffer)?;
    Ok(buffer)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|own| u16::from_be_bytes(*own))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|own| u32::from_be_bytes(*own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_named_comes_before_the_system_and_says_what_its_fonts_have() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/billing/forms/fonts");
        let found = candidates(std::slice::from_ref(&folder));
        let names: Vec<_> = found.iter().take(2).map(|own| (own.path.strip_prefix(&folder).ok(), own.weight)).collect();
        let name = |own: &'static str| Some(Path::new(own));
        assert_eq!(names, [(name("LiberationSans-Bold.ttf"), 700), (name("LiberationSans-Regular.ttf"), 400)]);
        let regular = &found[1];
        assert_eq!(regular.family, "Liberation Sans");
        assert!(['a', '\u{142}', 'Ω', 'Я', '€', '\u{2212}'].iter().all(|own| regular.has(*own)));
        assert!(['\u{0}', '京', 'ひ', '서', '\u{10ffff}'].iter().all(|own| !regular.has(*own)));
    }
}
