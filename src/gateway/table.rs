//! Which route a request takes: the longest prefix of whole segments, then the exact host before `*.` and any, then a route
//! for this method before one for all.
//!
//! Prefixes are a tree of segments, and hosts at one prefix are sorted, so finding a route costs a few comparisons for each
//! segment of the path, however many routes there are, and no allocation unless the host has capitals.

use std::{borrow::Cow, fmt, str::FromStr};

use axum::http::{HeaderMap, Method, Uri, header};

/// Which hosts a route is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRule {
    /// This one, in small letters.
    Exact(String),
    /// Every name below this one, at any depth: `*.example.com`.
    Below(String),
}

/// The text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a host name without a port, such as api.example.com or *.example.com")]
pub struct HostRuleError;

impl FromStr for HostRule {
    type Err = HostRuleError;

    fn from_str(text: &str) -> Result<Self, HostRuleError> {
        let good = |name: &str| {
            let label = |label: &str| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
            match address {
                Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
                None => name.len() <= 253 && name.split('.').all(label),
            }
        };
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        match text.strip_prefix("*.") {
            Some(name) if good(name) && !name.starts_with('[') => Ok(Self::Below(name.to_owned())),
            None if good(&text) => Ok(Self::Exact(text)),
            _ => Err(HostRuleError),
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// What a route is for.
#[derive(Debug, Clone, Copy)]
pub struct Pattern<'a> {
    /// Prefix of the path.
    pub path: &'a str,
    /// Which hosts; all when absent.
    pub host: Option<&'a HostRule>,
    /// Which methods; all when empty.
    pub methods: &'a [Method],
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Match {
    /// This pattern, by its place.
    Route(usize),
    /// There are patterns of this path and host, and none of this method; those that there are.
    Method(Vec<Method>),
    /// Nothing.
    None,
}

/// Patterns, sorted.
#[derive(Debug, Default)]
pub struct Table {
    /// The first is the root: `/`.
    nodes: Vec<Node>,
    hosts: bool,
}

/// A prefix.
#[derive(Debug, Default)]
struct Node {
    /// Further segments, sorted, and their nodes.
    children: Vec<(Box<str>, usize)>,
    /// The next shorter prefix that has routes.
    shorter: Option<usize>,
    exact: Vec<(Box<str>, Vec<Choice>)>,
    below: Vec<(Box<str>, Vec<Choice>)>,
    any: Vec<Choice>,
}

/// A pattern at a prefix and host; those with methods come first.
#[derive(Debug)]
struct Choice {
    methods: Vec<Method>,
    place: usize,
}

impl Table {
    /// Of patterns by their places.
    pub fn new<'a>(patterns: impl Iterator<Item = Pattern<'a>>) -> Self {
        let mut table = Self { nodes: vec![Node::default()], hosts: false };
        for (place, pattern) in patterns.enumerate() {
            let node = table.node(pattern.path);
            table.hosts |= pattern.host.is_some();
            let choices = match pattern.host {
                None => &mut table.nodes[node].any,
                Some(HostRule::Exact(name)) => under(&mut table.nodes[node].exact, name),
                Some(HostRule::Below(name)) => under(&mut table.nodes[node].below, name),
            };
            let at = choices.partition_point(|other| !other.methods.is_empty() || pattern.methods.is_empty());
            choices.insert(at, Choice { methods: pattern.methods.to_vec(), place });
        }
        table.link(0, None);
        table
    }

    fn node(&mut self, path: &str) -> usize {
        let mut at = 0;
        for segment in segments(path) {
            let next = self.nodes.len();
            let children = &mut self.nodes[at].children;
            at = match children.binary_search_by(|(name, _)| (**name).cmp(segment)) {
                Ok(found) => children[found].1,
                Err(place) => {
                    children.insert(place, (segment.into(), next));
                    self.nodes.push(Node::default());
                    next
                }
            };
        }
        at
    }

    fn link(&mut self, at: usize, shorter: Option<usize>) {
        self.nodes[at].shorter = shorter;
        let own = if self.nodes[at].is_empty() { shorter } else { Some(at) };
        let children: Vec<usize> = self.nodes[at].children.iter().map(|(_, child)| *child).collect();
        for child in children {
            self.link(child, own);
        }
    }

    /// Which pattern a request has.
    pub fn find(&self, uri: &Uri, headers: &HeaderMap, method: &Method) -> Match {
        let named = || headers.get(header::HOST).and_then(|value| value.to_str().ok());
        self.find_by(uri.path(), uri.host().or_else(named), method)
    }

    /// The same, by its path and what it says that its host is.
    pub(super) fn find_by(&self, path: &str, host: Option<&str>, method: &Method) -> Match {
        let Some(mut at) = self.nodes.first().map(|_| 0) else { return Match::None };
        for segment in segments(path) {
            let children = &self.nodes[at].children;
            match children.binary_search_by(|(name, _)| (**name).cmp(segment)) {
                Ok(found) => at = children[found].1,
                Err(_) => break,
            }
        }
        let host = host.filter(|_| self.hosts).map(|host| folded(without_port(host)));
        let mut allowed = Vec::new();
        let mut next = Some(at);
        while let Some(at) = next {
            let node = &self.nodes[at];
            if let Some(host) = host.as_deref().filter(|_| node.has_hosts()) {
                for choices in node.by_host(host) {
                    if let Some(place) = choose(choices, method, &mut allowed) {
                        return Match::Route(place);
                    }
                }
            }
            if let Some(place) = choose(&node.any, method, &mut allowed) {
                return Match::Route(place);
            }
            next = node.shorter;
        }
        if allowed.is_empty() { Match::None } else { Match::Method(allowed) }
    }
}

/// The choice for a method, or what other methods there are.
fn choose(choices: &[Choice], method: &Method, allowed: &mut Vec<Method>) -> Option<usize> {
    for Choice { methods, place } in choices {
        if methods.is_empty() || methods.contains(method) {
            return Some(*place);
        }
        for method in methods {
            if !allowed.contains(method) {
                allowed.push(method.clone());
            }
        }
    }
    None
}

impl Node {
    fn is_empty(&self) -> bool {
        self.any.is_empty() && !self.has_hosts()
    }

    fn has_hosts(&self) -> bool {
        !self.exact.is_empty() || !self.below.is_empty()
    }

    /// What is for a host and not for all, the nearest first.
    fn by_host(&self, host: &str) -> impl Iterator<Item = &[Choice]> {
        let above = host.match_indices('.').map(move |(dot, _)| &host[dot + 1..]);
        let below = above.filter_map(|name| found(&self.below, name));
        found(&self.exact, host).into_iter().chain(below)
    }
}

fn found<'l>(list: &'l [(Box<str>, Vec<Choice>)], name: &str) -> Option<&'l [Choice]> {
    list.binary_search_by(|(own, _)| (**own).cmp(name)).ok().map(|at| &*list[at].1)
}

fn under<'l>(list: &'l mut Vec<(Box<str>, Vec<Choice>)>, name: &str) -> &'l mut Vec<Choice> {
    let place = match list.binary_search_by(|(own, _)| (**own).cmp(name)) {
        Ok(found) => found,
        Err(place) => {
            list.insert(place, (name.into(), Vec::new()));
            place
        }
    };
    &mut list[place].1
}

/// The segments of a path: `/a/b/` and `/a/b` have the same.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    // By hand: the searcher of `split` takes longer to set up than a segment is to read.
    std::iter::from_fn(move || {
        while let Some(after) = rest.strip_prefix('/') {
            rest = after;
        }
        let end = rest.bytes().position(|byte| byte == b'/').unwrap_or(rest.len());
        let (segment, after) = rest.split_at(end);
        rest = after;
        (!segment.is_empty()).then_some(segment)
    })
}

/// A host without its port.
fn without_port(host: &str) -> &str {
    let end = host.rfind(':').filter(|colon| host[colon + 1..].bytes().all(|b| b.is_ascii_digit()));
    let host = end.map_or(host, |colon| &host[..colon]);
    host.strip_suffix('.').unwrap_or(host)
}

fn folded(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Own(&'static str, &'static str, &'static [Method]);

    fn table(routes: &[Own]) -> Table {
        let hosts: Vec<Option<HostRule>> = routes.iter().map(|route| route.1.parse().ok()).collect();
        let pattern = |(route, host): (&Own, _)| Pattern { path: route.0, host, methods: route.2 };
        // The closure borrows what lives as long as the iterator.
        Table::new(routes.iter().zip(hosts.iter().map(Option::as_ref)).map(pattern))
    }

    fn find(table: &Table, method: &Method, host: &str, path: &str) -> Match {
        let headers = [(header::HOST, host.parse().unwrap())].into_iter().collect();
        table.find(&path.parse().unwrap(), &headers, method)
    }

    #[test]
    fn the_longest_prefix_wins_then_the_nearest_host_then_the_method() {
        let table = table(&[
            Own("/", "", &[]),
            Own("/orders", "", &[]),
            Own("/orders/", "api.example.com", &[]),
            Own("/orders", "*.example.com", &[]),
            Own("/orders", "*.eu.example.com", &[]),
            Own("/orders", "api.example.com", &[Method::GET, Method::PUT]),
            Own("/orders/old/", "", &[Method::DELETE]),
        ]);
        for (method, host, path, place) in [
            (Method::GET, "other.com", "/anything", 0),
            (Method::GET, "other.com", "/orders-old", 0),
            (Method::GET, "other.com", "/orders", 1),
            (Method::GET, "other.com", "/orders/", 1),
            (Method::GET, "example.com", "/orders/1?x=/", 1),
            (Method::GET, "www.example.com", "/orders/1", 3),
            (Method::GET, "a.b.example.com:8080", "/orders/1", 3),
            (Method::GET, "a.eu.example.com", "/orders/1", 4),
            (Method::GET, "API.Example.COM.", "/orders/1", 5),
            (Method::POST, "api.example.com", "/orders/1", 2),
            (Method::DELETE, "api.example.com", "/orders/old/1", 6),
            (Method::POST, "other.com", "/orders/old/1", 1),
            (Method::POST, "xexample.com", "/orders/old", 1),
        ] {
            assert_eq!(find(&table, &method, host, path), Match::Route(place), "{method} {host} {path}");
        }
    }

    #[test]
    fn another_method_is_told_from_another_path() {
        let table = table(&[Own("/a", "", &[Method::GET]), Own("/a/b", "", &[Method::PUT]), Own("/h", "x.com", &[])]);
        assert_eq!(find(&table, &Method::POST, "h", "/a/b"), Match::Method(vec![Method::PUT, Method::GET]));
        assert_eq!(find(&table, &Method::GET, "h", "/a/b"), Match::Route(0));
        assert_eq!(find(&table, &Method::GET, "h", "/b"), Match::None);
        assert_eq!(find(&table, &Method::GET, "y.com", "/h"), Match::None);
        assert_eq!(find(&table, &Method::GET, "x.com", "/h/1"), Match::Route(2));
        assert_eq!(find(&Table::default(), &Method::GET, "h", "/"), Match::None);
    }

    #[test]
    fn hosts_are_read_and_others_refused() {
        for (text, rule) in
            [("API.example.com.", "api.example.com"), ("*.Example.com", "*.example.com"), ("[::1]", "[::1]")]
        {
            assert_eq!(text.parse::<HostRule>().unwrap().to_string(), rule);
        }
        for text in ["", "*", "*.", "a..b", "a b", "example.com:80", "http://a", "a.*.b", "*.*.a", "[1]", "é.com"] {
            assert_eq!(text.parse::<HostRule>(), Err(HostRuleError), "{text}");
        }
    }

    /// The route among many that a slow search in order of rank finds.
    #[test]
    fn among_five_hundred_routes_the_tree_finds_what_a_search_finds() {
        let paths: Vec<String> = (0..500).map(|n: u32| format!("/s{}/t{}/u{}", n % 7, n % 31, n)).collect();
        let cut = |path: &String, n: usize| path.split('/').take(2 + n % 3).collect::<Vec<_>>().join("/");
        let prefixes: Vec<String> = paths.iter().enumerate().map(|(n, path)| cut(path, n)).collect();
        let pattern = |path| Pattern { path, host: None, methods: &[] };
        let table = Table::new(prefixes.iter().map(|path| pattern(path.as_str())));
        for path in paths.iter().flat_map(|path| [path.clone(), format!("{path}/x"), format!("{path}x")]) {
            let below = |prefix: &&String| super::super::path::is_below(&path, prefix);
            let longest = prefixes.iter().filter(below).map(String::len).max();
            let found = match find(&table, &Method::GET, "h", &path) {
                Match::Route(place) => Some(prefixes[place].len()),
                _ => None,
            };
            assert_eq!(found, longest, "{path}");
        }
    }
}
