//! Forms of an invoice or a credit note, for people and their programs: CSV, HTML and PDF.
//!
//! Invariants: a form shows what the document says and adds nothing; the same document and fonts give the same bytes; a document
//! whose sums are not what its parts give has no form.
//!
//! Not here: working out a document, its JSON, and answering with one.

mod csv;
mod document;
mod error;
mod html;
mod pdf;
mod print;

pub use csv::COLUMNS;
pub use document::{Deduction, Document, Kind, Line, Party, Payment, Period, Price, Reference, Tax, TierRow};
pub use error::{FormError, Unprintable};
pub use html::policy;
pub use pdf::Fonts;

/// What a document can be had as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For spreadsheets.
    Csv,
    /// For browsers.
    Html,
    /// For people and archives.
    Pdf,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Csv, Self::Html, Self::Pdf];

    /// As a path ends: `csv`, `html`, `pdf`.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Html => "html",
            Self::Pdf => "pdf",
        }
    }

    /// As HTTP names it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Html => "text/html; charset=utf-8",
            Self::Pdf => "application/pdf",
        }
    }

    /// The form that a path's ending asks for.
    pub fn by_suffix(suffix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.suffix() == suffix)
    }
}

/// A document in a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The file.
    pub bytes: Vec<u8>,
    /// `Content-Type`
    pub content_type: &'static str,
    /// `Content-Security-Policy`, of HTML.
    pub policy: Option<String>,
    /// What to call it: letters, digits, `-`, `.` and `_` only, so that it can stand in a header.
    pub file_name: String,
}

/// A document in a form. Takes milliseconds, and may read fonts from the disk: not for a thread that serves others.
pub fn render(document: &Document, form: Form, fonts: &Fonts) -> Result<Rendered, FormError> {
    document.check()?;
    let bytes = match form {
        Form::Csv => csv::render(document).into_bytes(),
        Form::Html => html::render(document).into_bytes(),
        Form::Pdf => pdf::render(document, fonts)?,
    };
    let policy = (form == Form::Html).then(html::policy);
    let heading = print::heading(document).to_ascii_lowercase();
    let safe = |own: char| if own.is_ascii_alphanumeric() || ".-_".contains(own) { own } else { '-' };
    let name: String = heading.chars().map(safe).take(80).collect();
    Ok(Rendered { bytes, content_type: form.content_type(), policy, file_name: format!("{name}.{}", form.suffix()) })
}
