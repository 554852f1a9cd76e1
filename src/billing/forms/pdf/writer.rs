//! Pages as a file: PDF 1.7, tagged, as PDF/A-2a and PDF/UA-1 ask it. The one place with binary fractions: PDF coordinates.
//!
//! No clock and no randomness: the date in it is the document's own.

use std::num::NonZeroU16;

use krilla::{
    Document as File, SerializeSettings,
    color::rgb,
    configure::{Accessibility, Archival, ConfigurationBuilder, PdfVersion},
    destination::XyzDestination,
    geom::{PathBuilder, Point, Rect},
    metadata::{DateTime, Metadata},
    num::NormalizedF32,
    outline::{Outline, OutlineNode},
    page::PageSettings,
    paint::{Fill, FillRule},
    surface::Surface,
    tagging::{
        Artifact, ArtifactType, ContentTag, Identifier, Node as Tagged, SpanTag, TableHeaderScope, Tag, TagGroup,
        TagKind, TagTree,
    },
    text::{GlyphId, KrillaGlyph},
};

use super::{
    super::{
        document::Document,
        error::FormError,
        print::{self, visible},
    },
    layout::Layout,
    page::{Child, Item, Node, PAGE, Part, Role},
    text::{Ink, POINT, Piece, TextLine},
};

/// The date in a document that has none: the file formats for archives ask for one.
const NO_DATE: (u16, u8, u8) = (1970, 1, 1);

/// The pages of a document as a file.
pub(super) fn write(document: &Document, layout: &Layout) -> Result<Vec<u8>, FormError> {
    let mut file = File::new_with(settings()?);
    let mut places = Vec::new();
    for page in &layout.sheet.pages {
        let size = PageSettings::from_wh(points(PAGE.0), points(PAGE.1));
        let mut sheet = file.start_page_with(size.unwrap_or_default());
        let mut surface = sheet.surface();
        places.push(page.items.iter().map(|item| draw(&mut surface, item)).collect::<Vec<_>>());
        surface.finish();
        sheet.finish();
    }
    let mut tree = TagTree::new().with_lang(Some("en".to_owned()));
    for node in &layout.nodes {
        if let Some(group) = tag(node, &mut places) {
            tree.push(group);
        }
    }
    file.set_tag_tree(tree);
    let mut outline = Outline::new();
    let top = XyzDestination::new(0, Point::from_xy(0.0, 0.0));
    outline.push_child(OutlineNode::new(print::heading(document), top));
    file.set_outline(outline);
    file.set_metadata(metadata(document));
    file.finish().map_err(|error| FormError::Pdf(format!("{error:?}")))
}

fn settings() -> Result<SerializeSettings, FormError> {
    let configuration = ConfigurationBuilder::new()
        .with_version(PdfVersion::Pdf17)
        .with_archival_validator(Archival::A2_A)
        .with_accessibility_validator(Accessibility::UA1)
        .finish();
    let configuration = configuration.map_err(|error| FormError::Pdf(format!("{error:?}")))?;
    Ok(SerializeSettings { configuration, ..SerializeSettings::default() })
}

fn metadata(document: &Document) -> Metadata {
    let date = document.issued.or(document.period.map(|period| period.until.date())).or(document.due);
    let given = date.and_then(|date| {
        let part = |own: i8| u8::try_from(own).ok();
        Some((u16::try_from(date.year()).ok()?, part(date.month())?, part(date.day())?))
    });
    let (year, month, day) = given.unwrap_or(NO_DATE);
    let date = DateTime::new(year).month(month).day(day).hour(0).minute(0).second(0).utc_offset_hour(0);
    Metadata::new()
        .title(format!("{} \u{2013} {}", print::heading(document), visible(&document.seller.name)))
        .authors(vec![visible(&document.seller.name)])
        .producer("Tollgate".to_owned())
        .language("en".to_owned())
        .creation_date(date)
}

/// Draws a thing; what is read has a mark, by which the structure finds it.
fn draw(surface: &mut Surface<'_>, item: &Item) -> Option<Identifier> {
    match item {
        Item::Rule { x, y, width, height, ink } => {
            surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(ArtifactType::Layout)));
            rule(surface, (*x, *y), (*width, *height), *ink);
            surface.end_tagged();
            None
        }
        Item::Text { x, y, line, part } => {
            let kind = match part {
                Part::Content => None,
                Part::Header => Some(ArtifactType::Header),
                Part::Footer => Some(ArtifactType::Footer),
            };
            let mark = match kind {
                None => Some(surface.start_tagged(ContentTag::Span(SpanTag::empty()))),
                Some(kind) => {
                    surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(kind)));
                    None
                }
            };
            text(surface, (*x, *y), line);
            surface.end_tagged();
            mark
        }
    }
}

fn rule(surface: &mut Surface<'_>, (x, y): (i32, i32), (width, height): (i32, i32), ink: Ink) {
    let Some(area) = Rect::from_xywh(points(x), points(y), points(width), points(height)) else { return };
    let mut path = PathBuilder::new();
    path.push_rect(area);
    if let Some(path) = path.finish() {
        surface.set_fill(Some(fill(ink)));
        surface.draw_path(&path);
    }
}

fn text(surface: &mut Surface<'_>, (x, y): (i32, i32), line: &TextLine) {
    surface.set_fill(Some(fill(line.style.ink)));
    let mut x = x;
    for piece in &line.pieces {
        let start = Point::from_xy(points(x), points(y));
        surface.draw_glyphs(start, &glyphs(piece), piece.face.font(), &piece.text, points(line.style.size), false);
        x += piece.width;
    }
}

fn glyphs(piece: &Piece) -> Vec<KrillaGlyph> {
    let units = f32::from(piece.face.units());
    let characters = piece.text.char_indices().zip(&piece.glyphs);
    let glyph = |((start, character), glyph): ((usize, char), &super::fonts::Glyph)| {
        let advance = f32::from(glyph.advance) / units;
        let range = start..start + character.len_utf8();
        KrillaGlyph::new(GlyphId::new(glyph.id), advance, 0.0, 0.0, 0.0, range, None)
    };
    characters.map(glyph).collect()
}

fn fill(ink: Ink) -> Fill {
    let color = match ink {
        Ink::Dark => rgb::Color::new(0x1b, 0x1f, 0x24),
        Ink::Grey => rgb::Color::new(0x57, 0x60, 0x6a),
        Ink::Red => rgb::Color::new(0xa3, 0x20, 0x1d),
        Ink::Pale => rgb::Color::new(0xd5, 0xd9, 0xde),
    };
    Fill { paint: color.into(), opacity: NormalizedF32::ONE, rule: FillRule::default() }
}

/// Twips as points. No page is longer than an `i16` of them; what lies beyond is not seen.
fn points(twips: i32) -> f32 {
    let bounded = i16::try_from(twips).unwrap_or(if twips < 0 { i16::MIN } else { i16::MAX });
    f32::from(bounded) / POINT_F
}

/// Twips in a point.
const POINT_F: f32 = {
    assert!(POINT == 20, "as below");
    20.0
};

/// A part of the structure; parts without anything in them but cells, which a row must have, are left out.
fn tag(node: &Node, places: &mut [Vec<Option<Identifier>>]) -> Option<TagGroup> {
    let mut children = Vec::new();
    for child in &node.children {
        match child {
            Child::Node(node) => children.extend(tag(node, places).map(Tagged::from)),
            // Each mark has one place in the structure.
            Child::Item(page, place) => children.extend(places[*page][*place].take().map(Tagged::from)),
        }
    }
    let is_cell = matches!(node.role, Role::Cell | Role::RowHeader | Role::ColumnHeader);
    (is_cell || !children.is_empty()).then(|| TagGroup::with_children(kind(node), children))
}

fn kind(node: &Node) -> TagKind {
    let language = node.language.clone();
    match &node.role {
        Role::Heading(title) => Tag::Hn(NonZeroU16::MIN, Some(title.clone())).into(),
        Role::Paragraph => Tag::P.with_lang(language).into(),
        Role::Table(summary) => Tag::Table.with_summary(Some((*summary).to_owned())).into(),
        Role::Head => Tag::THead.into(),
        Role::Body => Tag::TBody.into(),
        Role::Row => Tag::TR.into(),
        Role::ColumnHeader => Tag::TH(TableHeaderScope::Column).into(),
        Role::RowHeader => Tag::TH(TableHeaderScope::Row).into(),
        Role::Cell => Tag::TD.into(),
    }
}
