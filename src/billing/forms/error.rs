//! Why a document has no form.

use std::fmt;

use crate::kernel::{Money, MoneyError};

/// Why a document has no form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A sum is not what its parts give.
    #[error("the {what} is {} {}, and its parts give {}", stated.currency(), stated.amount(), parts.amount())]
    Sum {
        /// Which sum.
        what: &'static str,
        /// What the document says.
        stated: Money,
        /// What its parts give.
        parts: Money,
    },
    /// Amounts cannot be added.
    #[error("the amounts cannot be added")]
    Money(#[from] MoneyError),
    /// No font has these characters.
    #[error("no font has {}", Joined(.0))]
    NoFont(Vec<Unprintable>),
    /// The characters belong to scripts whose letters join, reorder or run from the right.
    #[error("the PDF form does not print {}; the other forms do", Joined(.0))]
    Script(Vec<Unprintable>),
    /// The writer of PDF files refused.
    #[error("the PDF file cannot be written: {0}")]
    Pdf(String),
}

/// Characters of one script that cannot be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unprintable {
    /// The script.
    pub script: &'static str,
    /// The characters, each once, in the order of their codes; the first few of them.
    pub characters: Vec<char>,
    /// How many there are in all.
    pub count: usize,
    /// What would help.
    pub remedy: Option<&'static str>,
}

impl Unprintable {
    /// So many characters are named.
    pub(crate) const NAMED: usize = 8;
}

impl fmt::Display for Unprintable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} characters", self.script)?;
        for (index, character) in self.characters.iter().enumerate() {
            let comma = if index == 0 { " " } else { ", " };
            write!(f, "{comma}{character} (U+{:04X})", u32::from(*character))?;
        }
        if self.count > self.characters.len() {
            write!(f, " and {} more", self.count - self.characters.len())?;
        }
        if let Some(remedy) = self.remedy {
            write!(f, ": {remedy}")?;
        }
        Ok(())
    }
}

struct Joined<'a>(&'a [Unprintable]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, unprintable) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "; nor " };
            write!(f, "{between}{unprintable}")?;
        }
        Ok(())
    }
}
