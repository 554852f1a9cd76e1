//! The PDF form: A4, tagged, text that can be searched and copied, fonts embedded and cut down to what is used.
//!
//! A document is laid out in whole numbers (`layout`), text being set in lines of glyphs (`text`) from fonts (`fonts`), and
//! written (`writer`).

mod folders;
mod fonts;
mod layout;
mod page;
mod scripts;
mod text;
mod writer;

pub use fonts::Fonts;

use super::{document::Document, error::FormError};

/// The document as a PDF file.
pub(super) fn render(document: &Document, fonts: &Fonts) -> Result<Vec<u8>, FormError> {
    writer::write(document, &layout::lay_out(document, fonts)?)
}
