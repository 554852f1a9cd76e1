//! A JSON pointer (RFC 6901) to a place in a document.

use std::{fmt, str::FromStr, sync::Arc};

/// The most steps of a pointer.
pub(super) const MAX_STEPS: usize = 32;
/// The longest step, in bytes.
const MAX_STEP: usize = 256;

/// A pointer with at least one step, such as `/usage/total_tokens`.
#[derive(Clone, PartialEq, Eq)]
pub struct Pointer {
    text: Arc<str>,
    steps: Arc<[String]>,
}

/// The text is no pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a JSON pointer such as /usage/total_tokens (RFC 6901), of 32 steps at most")]
pub struct PointerError;

impl Pointer {
    /// The steps, unescaped.
    pub(super) fn steps(&self) -> &[String] {
        &self.steps
    }
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        let step = |step: &str| {
            let mut rest = step;
            while let Some(at) = rest.find('~') {
                rest = rest.get(at + 1..).filter(|rest| rest.starts_with(['0', '1']))?;
            }
            // In this order: `~01` is `~1` (RFC 6901 section 4).
            (step.len() <= MAX_STEP).then(|| step.replace("~1", "/").replace("~0", "~"))
        };
        let steps = text.strip_prefix('/').ok_or(PointerError)?.split('/');
        let steps: Arc<[String]> = steps.map(step).collect::<Option<_>>().ok_or(PointerError)?;
        if steps.len() > MAX_STEPS {
            return Err(PointerError);
        }
        Ok(Self { text: text.into(), steps })
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
