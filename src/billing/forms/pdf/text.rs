//! Text in lines: each character as the glyph of a face that has it, broken where lines may be broken.
//!
//! Lengths are whole twentieths of a point ("twips"), so that the same text breaks in the same places on every machine. No
//! kerning, no ligatures: each glyph stands for one character, and can be searched and copied as that.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization;

use super::{
    super::{
        error::{FormError, Unprintable},
        print,
    },
    fonts::{Face, Fonts, Glyph, Weight},
    scripts::{self, Writing},
};

/// Twips in a point.
pub(super) const POINT: i32 = 20;

/// What a text looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// In twips.
    pub(super) size: i32,
    pub(super) weight: Weight,
    pub(super) ink: Ink,
}

/// The colours of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// What is read.
    Dark,
    /// What explains.
    Grey,
    /// What warns.
    Red,
    /// Rules between rows.
    Pale,
}

/// A line that fits.
#[derive(Clone)]
pub(super) struct TextLine {
    pub(super) style: Style,
    pub(super) pieces: Vec<Piece>,
    /// Without spaces at its end.
    pub(super) width: i32,
}

/// A part of a line in one face.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) face: Face,
    pub(super) text: String,
    pub(super) glyphs: Vec<Glyph>,
    /// In twips, as far as whole twips go.
    pub(super) width: i32,
}

/// A character and its glyph.
struct Shaped {
    character: char,
    glyph: Glyph,
    /// In `faces`.
    face: usize,
    /// In 64ths of a twip, so that sums stay true.
    advance: i64,
}

/// Makes lines, and remembers what no font has.
pub(super) struct Setter<'a> {
    fonts: &'a Fonts,
    missing: BTreeSet<char>,
}

impl<'a> Setter<'a> {
    pub(super) const fn new(fonts: &'a Fonts) -> Self {
        Self { fonts, missing: BTreeSet::new() }
    }

    /// A text in lines of a width; `language` says which shapes Han characters have. Line ends in it stay line ends.
    pub(super) fn lines(&mut self, text: &str, style: Style, width: i32, language: Option<&str>) -> Vec<TextLine> {
        let guessed = language.or_else(|| scripts::language_of([text]));
        let paragraphs = text.lines().map(|paragraph| print::visible(paragraph).nfc().collect::<Vec<char>>());
        paragraphs.flat_map(|paragraph| self.paragraph(&paragraph, style, width, guessed)).collect()
    }

    /// As much of a text as fits one line.
    pub(super) fn cut(&mut self, text: &str, style: Style, width: i32) -> TextLine {
        let lines = self.lines(&text.replace(['\n', '\r'], " "), style, width, None);
        lines.into_iter().next().unwrap_or(TextLine { style, pieces: Vec::new(), width: 0 })
    }

    /// A text in one line, however long.
    pub(super) fn line(&mut self, text: &str, style: Style) -> TextLine {
        self.cut(text, style, i32::MAX)
    }

    fn paragraph(&mut self, text: &[char], style: Style, width: i32, language: Option<&str>) -> Vec<TextLine> {
        let mut faces: Vec<Face> = Vec::new();
        let shaped = self.shape(text, style, language, &mut faces);
        let mut lines = Vec::new();
        let mut rest = shaped.as_slice();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(break_at(rest, i64::from(width) * 64));
            lines.push(assemble(line, style, &faces));
            rest = after;
        }
        lines
    }

    fn shape(&mut self, text: &[char], style: Style, language: Option<&str>, faces: &mut Vec<Face>) -> Vec<Shaped> {
        let mut shaped = Vec::with_capacity(text.len());
        let own = self.fonts.own(style.weight);
        faces.extend(own.cloned());
        let mut at = 0;
        while at < text.len() {
            let is_own = |character: char| own.is_some_and(|face| face.glyph(character).is_some());
            if scripts::of(text[at]).writing == Writing::Plain && is_own(text[at]) {
                push(&mut shaped, text[at], faces, 0, style);
                at += 1;
                continue;
            }
            let run =
                text[at..].iter().take_while(|character| !is_own(**character) || character.is_whitespace()).count();
            at += self.foreign(&text[at..at + run.max(1)], style, language, faces, &mut shaped);
        }
        shaped
    }

    /// Shapes what it can of a run that the own face does not have, at least a character; says how many.
    fn foreign(
        &mut self,
        run: &[char],
        style: Style,
        language: Option<&str>,
        faces: &mut Vec<Face>,
        shaped: &mut Vec<Shaped>,
    ) -> usize {
        let simple = run.iter().take_while(|character| scripts::of(**character).writing == Writing::Plain).count();
        let Some((face, reach)) = self.fonts.other(&run[..simple], language) else {
            self.missing.insert(run[0]);
            return 1;
        };
        faces.push(face);
        let place = faces.len() - 1;
        for character in &run[..reach] {
            if !push(shaped, *character, faces, place, style) {
                self.missing.insert(*character);
            }
        }
        reach
    }

    /// Whether everything could be set.
    pub(super) fn finish(self) -> Result<(), FormError> {
        let (mut shaped, mut without) = (Vec::<Unprintable>::new(), Vec::<Unprintable>::new());
        for character in self.missing {
            let script = scripts::of(character);
            let (list, remedy) = match script.writing {
                Writing::Plain => (&mut without, Some(script.remedy)),
                Writing::Shaped => (&mut shaped, None),
            };
            let place = list.iter().position(|own| own.script == script.name).unwrap_or_else(|| {
                list.push(Unprintable { script: script.name, characters: Vec::new(), count: 0, remedy });
                list.len() - 1
            });
            let of_script = &mut list[place];
            of_script.count += 1;
            if of_script.characters.len() < Unprintable::NAMED {
                of_script.characters.push(character);
            }
        }
        match (shaped.is_empty(), without.is_empty()) {
            (true, true) => Ok(()),
            (false, _) => Err(FormError::Script(shaped)),
            (true, false) => Err(FormError::NoFont(without)),
        }
    }
}

fn push(shaped: &mut Vec<Shaped>, character: char, faces: &[Face], face: usize, style: Style) -> bool {
    let Some(glyph) = faces[face].glyph(character) else { return false };
    let advance = i64::from(glyph.advance) * i64::from(style.size) * 64 / i64::from(faces[face].units());
    shaped.push(Shaped { character, glyph, face, advance });
    true
}

/// How many characters the first line takes, at least one.
fn break_at(rest: &[Shaped], width: i64) -> usize {
    let (mut sum, mut last_chance) = (0, None);
    for (index, shaped) in rest.iter().enumerate() {
        // Spaces may hang over.
        if sum + shaped.advance > width && shaped.character != ' ' {
            return last_chance.unwrap_or(index).max(1);
        }
        sum += shaped.advance;
        if let Some(next) = rest.get(index + 1)
            && may_break(shaped.character, next.character)
        {
            last_chance = Some(index + 1);
        }
    }
    rest.len()
}

fn may_break(before: char, after: char) -> bool {
    if after == ' ' || scripts::clings_to_the_left(after) || scripts::clings_to_the_right(before) {
        return false;
    }
    before == ' '
        || (matches!(before, '-' | '/' | '_' | '\u{2013}' | '\u{2014}') && after.is_alphabetic())
        || scripts::is_broken_anywhere(before)
        || scripts::is_broken_anywhere(after)
}

fn assemble(line: &[Shaped], style: Style, faces: &[Face]) -> TextLine {
    let mut pieces: Vec<(usize, Piece)> = Vec::new();
    let (mut start, mut sum, mut width) = (0, 0, 0);
    for shaped in line {
        if pieces.last().is_none_or(|(face, _)| *face != shaped.face) {
            start = sum;
            let face = faces[shaped.face].clone();
            pieces.push((shaped.face, Piece { face, text: String::new(), glyphs: Vec::new(), width: 0 }));
        }
        sum += shaped.advance;
        if let Some((_, piece)) = pieces.last_mut() {
            piece.text.push(shaped.character);
            piece.glyphs.push(shaped.glyph);
            piece.width = twips(sum) - twips(start);
        }
        if shaped.character != ' ' {
            width = sum;
        }
    }
    TextLine { style, pieces: pieces.into_iter().map(|(_, piece)| piece).collect(), width: twips(width) }
}

/// Rounded up; a line that no page holds is as wide as can be said.
fn twips(sixty_fourths: i64) -> i32 {
    i32::try_from((sixty_fourths + 63) / 64).unwrap_or(i32::MAX)
}
