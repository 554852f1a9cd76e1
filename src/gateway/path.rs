//! Paths that two programs could read differently are refused before routing.

/// Why a path is refused, or `None` when every reader reads it alike: no dot segments, no encoded or doubled
/// separators, no parameters, no control characters.
pub fn fault(path: &str) -> Option<&'static str> {
    let bytes = path.as_bytes();
    let suspicious = |(at, byte): (usize, &u8)| match byte {
        b'%' | b'\\' | b';' => true,
        b'/' => matches!(bytes.get(at + 1), Some(b'/' | b'.')),
        byte => byte.is_ascii_control(),
    };
    // Nearly every path is plain, and is looked at once.
    if bytes.iter().enumerate().any(suspicious) { fault_of_suspicious(path) } else { None }
}

fn fault_of_suspicious(path: &str) -> Option<&'static str> {
    let lower = path.to_ascii_lowercase();
    for (bad, why) in [
        ("//", "an empty segment"),
        ("\\", "a backslash"),
        (";", "a path parameter"),
        ("%2f", "an encoded slash"),
        ("%5c", "an encoded backslash"),
        ("%00", "an encoded zero byte"),
        ("%3b", "an encoded path parameter"),
        ("%25", "an encoded percent sign"),
    ] {
        if lower.contains(bad) {
            return Some(why);
        }
    }
    if path.bytes().any(|b| b.is_ascii_control()) {
        return Some("a control character");
    }
    let is_dots = |segment: &str| matches!(segment.replace("%2e", ".").as_str(), "." | "..");
    lower.split('/').any(is_dots).then_some("a dot segment")
}

/// Whether `path` lies below `prefix`, by whole segments: `/orders/` and `/orders` both take `/orders` and `/orders/1`,
/// and neither takes `/orders-old`.
pub fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_can_be_read_in_two_ways_are_refused() {
        for path in [
            "/a/../b",
            "/..",
            "/a/.",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "//a",
            "/a//b",
            "/a;x=1/b",
            "/a%00",
            "/a%252e",
            "/a%3Bx",
        ] {
            assert!(fault(path).is_some(), "{path}");
        }
        for path in ["/", "/a/b", "/a/...", "/a/.hidden", "/a/b..c", "/%C3%A9t%C3%A9", "/a b"] {
            assert_eq!(fault(path), None, "{path}");
        }
    }

    #[test]
    fn prefixes_match_whole_segments() {
        assert!(is_below("/orders", "/orders/"));
        assert!(is_below("/orders/1", "/orders"));
        assert!(!is_below("/orders-old", "/orders"));
        assert!(is_below("/anything", "/"));
    }
}
