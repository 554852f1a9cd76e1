//! Cells of CSV files (RFC 4180).

/// A text as a cell that no spreadsheet runs.
pub fn cell(text: &str) -> String {
    let text: String = text.chars().filter(|own| !own.is_control() || ['\n', '\r', '\t'].contains(own)).collect();
    let text = if is_formula(&text) { format!("'{text}") } else { text };
    if text.contains([',', '"', '\r', '\n', ';', '\t', '\'']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// Whether a spreadsheet might run it: what begins with one of OWASP's characters, in either width, whatever spaces and quotes are
/// before that.
fn is_formula(text: &str) -> bool {
    if text.starts_with(['\t', '\r', '\n']) {
        return true;
    }
    let begins = text.trim_start_matches(|own: char| own.is_whitespace() || "\"'\u{feff}\u{200b}`".contains(own));
    begins.starts_with(['=', '+', '-', '@', '|', '%', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}', '\u{2212}'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_begin_like_formulas_get_an_apostrophe() {
        for (text, expected) in [
            ("=1+1", "\"'=1+1\""),
            ("+4930", "\"'+4930\""),
            ("-2+3", "\"'-2+3\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("\r=1", "\"'\r=1\""),
            (" =1", "\"' =1\""),
            ("\"=1", "\"'\"\"=1\""),
            ("'=1", "\"''=1\""),
            ("\u{a0}\u{feff}=1", "\"'\u{a0}\u{feff}=1\""),
            ("\u{ff1d}1", "\"'\u{ff1d}1\""),
            ("\0=1", "\"'=1\""),
            ("a=1", "a=1"),
            ("a,\"b\"\nc", "\"a,\"\"b\"\"\nc\""),
            ("", ""),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
    }
}
