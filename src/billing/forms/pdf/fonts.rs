//! The fonts of the PDF form: two that come along, with Latin, Greek and Cyrillic, and those of the system for the rest.

use std::{
    collections::HashMap,
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use krilla::{Data, text::Font};
use skrifa::{FontRef, MetadataProvider, raw::TableProvider};

use super::folders::{self, Candidate};

/// Liberation Sans 2.1.5, see `OFL.txt` beside it.
const REGULAR: &[u8] = include_bytes!("../fonts/LiberationSans-Regular.ttf");
/// Its bold face.
const BOLD: &[u8] = include_bytes!("../fonts/LiberationSans-Bold.ttf");

/// A face whose glyphs can be measured and embedded.
#[derive(Clone)]
pub(super) struct Face {
    data: Data,
    index: u32,
    font: Font,
    /// Of the em, in which its advances are given.
    units: u16,
}

/// The shape of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Glyph {
    pub(super) id: u32,
    /// In the face's own units.
    pub(super) advance: u16,
}

impl Face {
    fn new(data: Data, index: u32) -> Option<Self> {
        let units = FontRef::from_index(data.as_ref(), index).ok()?.head().ok()?.units_per_em();
        let font = Font::new(data.clone(), index)?;
        (units > 0).then_some(Self { data, index, font, units })
    }

    /// The glyph of a character, if the face has one.
    pub(super) fn glyph(&self, character: char) -> Option<Glyph> {
        let font = FontRef::from_index(self.data.as_ref(), self.index).ok()?;
        let id = font.charmap().map(character)?;
        let advance = font.hmtx().ok()?.advance(id)?;
        (id.to_u32() != 0).then_some(Glyph { id: id.to_u32(), advance })
    }

    pub(super) const fn units(&self) -> u16 {
        self.units
    }

    pub(super) fn font(&self) -> Font {
        self.font.clone()
    }
}

/// The fonts that documents are printed with. Made once; those of the system are looked for when a character first needs one, and a
/// file that was used stays in memory.
pub struct Fonts {
    regular: Option<Face>,
    bold: Option<Face>,
    folders: Vec<PathBuf>,
    found: OnceLock<Vec<Candidate>>,
    files: Mutex<HashMap<PathBuf, Data>>,
    faces: Mutex<HashMap<usize, Option<Face>>>,
}

impl fmt::Debug for Fonts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fonts").field("folders", &self.folders).finish_non_exhaustive()
    }
}

impl Fonts {
    /// With these folders searched before the system's own.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders, found: OnceLock::new(), ..Self::built_in() }
    }

    /// Without any but those that come along.
    pub fn built_in() -> Self {
        Self {
            regular: Face::new(REGULAR.into(), 0),
            bold: Face::new(BOLD.into(), 0),
            folders: Vec::new(),
            found: OnceLock::from(Vec::new()),
            files: Mutex::default(),
            faces: Mutex::default(),
        }
    }

    /// The face that comes along.
    pub(super) fn own(&self, weight: Weight) -> Option<&Face> {
        match weight {
            Weight::Regular => self.regular.as_ref(),
            Weight::Bold => self.bold.as_ref(),
        }
    }

    /// A face of the system for as much as possible of a run's beginning, and how many of its characters that is.
    pub(super) fn other(&self, run: &[char], language: Option<&str>) -> Option<(Face, usize)> {
        let found = self.found.get_or_init(|| folders::candidates(&self.folders));
        let reach = |own: &Candidate| run.iter().take_while(|character| own.has(**character)).count();
        let mut ranked: Vec<(usize, usize)> =
            found.iter().enumerate().map(|(place, own)| (reach(own), place)).filter(|(reach, _)| *reach > 0).collect();
        ranked.sort_by_key(|(reach, place)| (std::cmp::Reverse(*reach), rank(&found[*place], language), *place));
        // One that cannot be read after all is as good as none.
        ranked.into_iter().find_map(|(reach, place)| Some((self.face(place, &found[place])?, reach)))
    }

    fn face(&self, place: usize, candidate: &Candidate) -> Option<Face> {
        let mut faces = self.faces.lock().unwrap_or_else(PoisonError::into_inner);
        faces.entry(place).or_insert_with(|| Face::new(self.file(&candidate.path)?, candidate.index)).clone()
    }

    fn file(&self, path: &PathBuf) -> Option<Data> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(data) = files.get(path) {
            return Some(data.clone());
        }
        let data = Data::from(Arc::new(fs::read(path).ok()?));
        files.insert(path.clone(), data.clone());
        Some(data)
    }
}

/// How heavy a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// As most is.
    Regular,
    /// As headings are.
    Bold,
}

/// Least is best: of the language's own shapes, without serifs, not made for columns of code, regular.
fn rank(candidate: &Candidate, language: Option<&str>) -> (u8, u8, u8, u16) {
    let family = &candidate.family;
    let of_language = family.ends_with(region(language));
    let is_sans = ["Sans", "Gothic", "Hei"].iter().any(|own| family.contains(own));
    let is_mono = family.contains("Mono");
    (u8::from(!of_language), u8::from(!is_sans), u8::from(is_mono), candidate.weight.abs_diff(400))
}

/// How families of many languages name theirs: `Noto Sans CJK JP`.
fn region(language: Option<&str>) -> &'static str {
    match language.map(str::to_ascii_lowercase).as_deref().unwrap_or_default() {
        own if own.starts_with("ja") => "JP",
        own if own.starts_with("ko") => "KR",
        "zh-hk" | "zh-hant-hk" | "zh-mo" => "HK",
        own if own.starts_with("zh-hant") || own.starts_with("zh-tw") => "TC",
        _ => "SC",
    }
}
