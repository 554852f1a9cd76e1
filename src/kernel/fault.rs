//! What is wrong with an input: every field and why, at once.

/// One refused field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Path of the field as the caller wrote it: `prices[0].unit`.
    pub field: String,
    /// Why it was refused.
    pub detail: String,
}

/// Collects faults while values are parsed, so that the caller hears of all of them.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// None so far.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Records a fault.
    #[expect(clippy::needless_pass_by_value, reason = "errors are handed over, not lent")]
    pub fn add(&mut self, field: impl Into<String>, detail: impl ToString) {
        self.0.push(Fault { field: field.into(), detail: detail.to_string() });
    }

    /// The value of a result, or its error recorded under `field`.
    pub fn check<T, E: ToString>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// The parsed text, or the reason why not recorded under `field`.
    pub fn parse<T: std::str::FromStr<Err: ToString>>(&mut self, field: &str, text: &str) -> Option<T> {
        self.check(field, text.parse())
    }

    /// The parsed text of a field that must be there.
    pub fn require<T: std::str::FromStr<Err: ToString>>(&mut self, field: &str, text: Option<&str>) -> Option<T> {
        if let Some(text) = text {
            self.parse(field, text)
        } else {
            self.add(field, "is required");
            None
        }
    }

    /// `Ok(value)` when all of it was there and nothing was wrong.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}

/// An error and everything below it, in one line: for logs.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let below = cause.to_string();
        if !text.ends_with(&below) {
            text.push_str(": ");
            text.push_str(&below);
        }
        source = cause.source();
    }
    text
}
