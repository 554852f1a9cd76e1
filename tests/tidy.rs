//! The house rules that a compiler does not know: who may import whom, headers, sizes, scopes, samples, the top level.
//!
//! A file imports only from its left: `kernel ← model, rules, error ← store ← service ← web, http ← gateway ← settings,
//! app ← cli`. An error may wrap the store's or the journal's. Across services a file sees only the other's `mod.rs` face, and only in
//! the directions of [`MAY_USE`].

#![expect(clippy::unwrap_used, reason = "a test shows what failed by where it panics")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use syn::visit::Visit;

/// Which service may know which, by its face.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("mail", &[]),
    ("tenants", &[]),
    ("users", &["tenants"]),
    ("identity", &["users", "tenants", "mail"]),
    ("webhooks", &["identity", "users"]),
    ("metering", &[]),
    ("billing", &["metering"]),
    ("provisioning", &["tenants", "identity"]),
    ("onboarding", &["tenants", "users", "identity", "metering", "billing", "provisioning", "mail"]),
    ("stripe", &["billing", "metering", "onboarding"]),
];
/// Parts of models and rules that have files of their own; held to be as pure.
const PURE: &[&str] = &[
    "billing/address",
    "billing/amounts",
    "billing/cadence",
    "billing/cadence_wire",
    "billing/arithmetic",
    "billing/charges",
    "billing/forms/csv",
    "billing/forms/document",
    "billing/forms/html",
    "billing/forms/print",
    "billing/invoice",
    "billing/invoice_document",
    "billing/schedule",
    "billing/shares",
    "billing/evidence",
    "billing/export",
    "billing/plan",
    "billing/recompute",
    "billing/span_bill",
    "billing/span_evidence",
    "billing/spans",
    "billing/wire",
    "billing/transactions",
    "identity/access",
    "identity/client",
    "onboarding/tier_model",
    "metering/definition",
    "metering/event",
    "metering/meter",
    "metering/openmeter_filters",
    "metering/windows",
    "onboarding/leaving",
    "provisioning/drift",
    "stripe/amounts",
    "stripe/planned",
    "stripe/requests",
    "stripe/signature",
    "webhooks/toolkit",
];
/// At 400 lines ask which two nouns share the file; here the asking ends. (Clippy measures functions.)
const FILE_LINES: usize = 450;
const TOP_LEVEL: [&str; 8] = ["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "benches", "config", "docs", "src"];

/// How far right a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Kernel,
    Pure,
    Store,
    Service,
    Web,
    Gateway,
    App,
    Cli,
}

struct Source {
    /// Below `src/`, without `.rs`, by segments: `["tenants", "http"]`.
    module: Vec<String>,
    text: String,
    syntax: syn::File,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|own| own == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let below = root().join("src");
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let syntax = syn::parse_file(&text).unwrap();
        let module = path.strip_prefix(&below).unwrap().with_extension("");
        let module = module.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        Source { module, text, syntax }
    };
    files_below("src", "rs").iter().map(read).collect()
}

fn service(name: &str) -> Option<&'static [&'static str]> {
    MAY_USE.iter().find(|(own, _)| *own == name).map(|(_, uses)| *uses)
}

/// Whether a module is within a folder of handlers.
fn speaks_http(module: &[String]) -> bool {
    module.iter().skip(1).any(|part| ["oauth", "pages"].contains(&part.as_str()))
}

fn level(module: &[String]) -> Level {
    let name = module.last().map_or("", String::as_str);
    match module[0].as_str() {
        "kernel" => Level::Kernel,
        "store" => Level::Store,
        "web" => Level::Web,
        "gateway" => Level::Gateway,
        "cli" | "main" => Level::Cli,
        own if service(own).is_none() => Level::App,
        _ if name == "http" || name.ends_with("_http") || name == "openmeter_query" => Level::Web,
        _ if speaks_http(module) => Level::Web,
        // The face shows everything that is behind it.
        _ if name == "mod" => Level::Web,
        _ if ["model", "rules", "error"].contains(&name) || PURE.contains(&module.join("/").as_str()) => Level::Pure,
        _ => Level::Service,
    }
}

/// Every path of a file that begins with `crate` or `super`, written out from the crate.
struct Paths {
    module: Vec<String>,
    found: BTreeSet<Vec<String>>,
}

impl Paths {
    fn of(source: &Source) -> BTreeSet<Vec<String>> {
        let mut module = source.module.clone();
        module.retain(|part| part != "mod");
        let mut paths = Self { module, found: BTreeSet::new() };
        paths.visit_file(&source.syntax);
        paths.found
    }

    fn add(&mut self, segments: &[String]) {
        let mut base = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super") => self.module.clone(),
            _ => return,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" => {}
                "super" => drop(base.pop()),
                _ => base.push(segment.clone()),
            }
        }
        self.found.insert(base);
    }

    fn flatten(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            syn::UseTree::Path(path) => self.flatten(&path.tree, &with(path.ident.to_string())),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.flatten(item, before)),
            syn::UseTree::Name(name) if name.ident == "self" => self.add(before),
            syn::UseTree::Name(name) => self.add(&with(name.ident.to_string())),
            syn::UseTree::Rename(name) => self.add(&with(name.ident.to_string())),
            syn::UseTree::Glob(_) => self.add(before),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.flatten(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments);
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Tests may look anywhere.
        if item.ident != "tests" {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

/// What a service's face shows, and the file it comes from: `("tenants", "Tenant") → "model"`.
fn faces(sources: &[Source]) -> BTreeMap<(String, String), String> {
    let mut faces = BTreeMap::new();
    for source in sources.iter().filter(|source| source.module.len() == 2 && source.module[1] == "mod") {
        for item in &source.syntax.items {
            let syn::Item::Use(item) = item else { continue };
            let syn::UseTree::Path(from) = &item.tree else { continue };
            let names: Vec<String> = match &*from.tree {
                syn::UseTree::Name(name) => vec![name.ident.to_string()],
                syn::UseTree::Group(group) => group
                    .items
                    .iter()
                    .filter_map(|item| match item {
                        syn::UseTree::Name(name) => Some(name.ident.to_string()),
                        _ => None,
                    })
                    .collect(),
                _ => continue,
            };
            for name in names {
                faces.insert((source.module[0].clone(), name), from.ident.to_string());
            }
        }
    }
    faces
}

/// Where a path leads: the module that is meant, a face being looked through.
fn target(path: &[String], modules: &BTreeSet<Vec<String>>, faces: &BTreeMap<(String, String), String>) -> Vec<String> {
    if let [feature, name, ..] = path
        && let Some(file) = faces.get(&(feature.clone(), name.clone()))
    {
        return vec![feature.clone(), file.clone()];
    }
    let longest = (1..=path.len()).rev().map(|length| &path[..length]).find(|part| modules.contains(*part));
    longest.unwrap_or(path).to_vec()
}

fn arrows_broken(source: &Source, path: &[String], target: &[String]) -> Option<String> {
    let (own, other) = (&source.module, path.first()?);
    let is_face = own.len() == 2 && own[1] == "mod" && own[0] == *other;
    if is_face || own[0] == "lib" {
        return None;
    }
    let from = level(own);
    if let (Some(may_use), Some(_)) = (service(&own[0]), service(other))
        && own[0] != *other
    {
        if !may_use.contains(&other.as_str()) {
            return Some(format!("{} may not know {other}", own[0]));
        }
        if path.len() > 2 && path[1].chars().next().is_some_and(char::is_lowercase) {
            return Some(format!("{} goes past the face of {other}", path.join("::")));
        }
    }
    // A whole face (`tenants::{self}`) is used for its error by pure files, for its service by others.
    let to = if path.len() == 1 && service(other).is_some() { Level::Pure } else { level(target) };
    let wraps_the_store = own.last().is_some_and(|name| name == "error")
        && path.last().is_some_and(|name| ["StoreError", "JournalError"].contains(&name.as_str()));
    (to > from && !wraps_the_store).then(|| format!("{} ({to:?}) lies to its right ({from:?})", path.join("::")))
}

#[test]
fn a_file_imports_only_from_its_left_and_services_only_by_their_faces() {
    let sources = sources();
    let faces = faces(&sources);
    let modules: BTreeSet<Vec<String>> =
        sources.iter().map(|source| source.module.iter().filter(|part| *part != "mod").cloned().collect()).collect();
    let mut broken = String::new();
    for source in &sources {
        for path in Paths::of(source).iter().filter(|path| !path.is_empty()) {
            if let Some(why) = arrows_broken(source, path, &target(path, &modules, &faces)) {
                writeln!(broken, "src/{}.rs: {why}", source.module.join("/")).unwrap();
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

/// What a decision must not do.
#[derive(Default)]
struct Impure(Vec<String>);

impl<'ast> Visit<'ast> for Impure {
    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if signature.asyncness.is_some() {
            self.0.push(format!("{} is async", signature.ident));
        }
        syn::visit::visit_signature(self, signature);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let first = path.segments[0].ident.to_string();
        if ["axum", "http", "sqlx", "tracing", "tokio"].contains(&first.as_str()) {
            self.0.push(format!("uses {first}"));
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_use_path(&mut self, path: &'ast syn::UsePath) {
        let first = path.ident.to_string();
        if ["axum", "http", "sqlx", "tracing", "tokio"].contains(&first.as_str()) {
            self.0.push(format!("imports {first}"));
        }
    }
}

#[test]
fn models_and_rules_do_nothing_but_decide() {
    for source in sources() {
        let name = source.module.last().unwrap();
        let decides = name == "model" || name == "rules" || PURE.contains(&source.module.join("/").as_str());
        if service(&source.module[0]).is_some() && decides {
            let mut impure = Impure::default();
            impure.visit_file(&source.syntax);
            assert!(impure.0.is_empty(), "src/{}.rs: {:?}", source.module.join("/"), impure.0);
        }
    }
}

/// Numbers that cannot hold a tenth.
#[derive(Default)]
struct Floats(Vec<String>);

impl<'ast> Visit<'ast> for Floats {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string());
        self.0.extend(names.filter(|name| ["f32", "f64"].contains(&name.as_str())));
        syn::visit::visit_path(self, path);
    }

    fn visit_lit_float(&mut self, literal: &'ast syn::LitFloat) {
        self.0.push(literal.to_string());
    }
}

#[test]
fn usage_and_money_never_pass_through_floats() {
    const COUNTED: [&str; 5] = ["billing", "metering", "store", "kernel", "gateway"];
    for source in sources().iter().filter(|source| COUNTED.contains(&source.module[0].as_str())) {
        let place = source.module.join("/");
        // Where on a page something is drawn is no amount; a test may make up what somebody sends.
        if place.starts_with("billing/forms/pdf") || place.ends_with("tests") {
            continue;
        }
        let mut floats = Floats::default();
        floats.visit_file(&source.syntax);
        assert!(floats.0.is_empty(), "src/{place}.rs: {:?}", floats.0);
    }
}

#[test]
fn scopes_are_made_by_extractors_and_named_jobs() {
    let makers = |source: &&Source| source.module[0] == "store" || source.module.join("/") == "web/extract";
    for source in sources().iter().filter(|source| !makers(source)) {
        let (module, place) = (&source.module, source.module.join("/"));
        let code = source.text.split("#[cfg(test)]").next().unwrap();
        let of_requests = ["Scope::Platform", "Scope::Tenant("].iter().any(|made| code.contains(made));
        assert!(!of_requests, "src/{place}.rs makes a scope; web/extract.rs does that");
        let named = code.contains("Scope::Job(");
        let http =
            module.last().is_some_and(|name| name.ends_with("http")) || (module[0] != "store" && speaks_http(module));
        assert!(!named || !http, "src/{place}.rs: a handler is not a job");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for folder in ["src", "tests", "benches"] {
        for path in files_below(folder, "rs") {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("//! "), "{} has no header", path.display());
        }
    }
}

#[test]
fn files_stay_small() {
    let mut long = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES {
            long.push(format!("src/{}.rs has {lines} lines", source.module.join("/")));
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn no_test_sleeps_or_is_ignored() {
    // Put together here, so that this file does not find itself.
    let banned = [concat!("#[", "ignore"), concat!("thread::", "sleep"), concat!("time::", "sleep(")];
    for path in files_below("tests", "rs") {
        let text = fs::read_to_string(&path).unwrap();
        for word in banned {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
}

#[test]
fn the_samples_are_valid() {
    use tollgate::settings::{Settings, Sources};
    for path in files_below("config", "toml") {
        let text = fs::read_to_string(&path).unwrap();
        if path.ends_with("plans.toml") {
            assert!(tollgate::billing::parse_plans(&text).is_ok());
            continue;
        }
        let sources = Sources { file: Some((path.display().to_string(), text)), ..Sources::default() };
        if let Err(faults) = Settings::load(&sources) {
            panic!("{}: {faults}", path.display());
        }
    }
}

#[test]
fn the_top_level_holds_what_it_should() {
    let names = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let known = |name: &String| {
        name.starts_with('.')
            || TOP_LEVEL.contains(&name.as_str())
            || ["tests", "target", "tollgate-data"].contains(&name.as_str())
    };
    let strangers: Vec<_> = names.filter(|name| !known(name)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut documents = files_below("docs", "md");
    documents.extend(files_below("benches", "md"));
    documents.extend(files_below("tests", "md"));
    documents.push(root().join("README.md"));
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let path = document.parent().unwrap().join(link);
            assert!(path.exists(), "{}: {link}", document.display());
        }
    }
}

#[test]
fn the_events_table_has_every_event_and_each_has_a_test() {
    use tollgate::kernel::EventName;
    let docs = fs::read_to_string(root().join("docs/webhooks.md")).unwrap();
    let (_, table) = docs.split_once("| event | when |").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|') || line.starts_with(' '));
    let listed: Vec<&str> = rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let names: Vec<&str> = EventName::ALL.iter().map(|name| name.name()).collect();
    assert_eq!(listed, names);
    let tests = fs::read_to_string(root().join("tests/api/webhook_events.rs")).unwrap();
    let untested: Vec<_> = names.iter().filter(|name| !tests.contains(&format!("\"{name}\""))).collect();
    assert!(untested.is_empty(), "{untested:?}");
}

/// Texts in quotes that have the form `noun.verb`, and `sign_out`.
fn actions_in(text: &str, quote: char) -> BTreeSet<&str> {
    let of_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_action =
        |text: &&str| *text == "sign_out" || text.split_once('.').is_some_and(|(a, b)| of_word(a) && of_word(b));
    text.split(quote).filter(is_action).collect()
}

#[test]
fn the_audits_table_has_every_action_and_each_has_a_test() {
    let docs = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let (_, table) = docs.split_once("## What is noted").unwrap();
    let rows: String = table.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| `")).collect();
    let listed = actions_in(&rows, '`');
    let nouns: BTreeSet<&str> = listed.iter().filter_map(|action| Some(action.split_once('.')?.0)).collect();
    // Other texts of that form are names of settings, files and members.
    let sources = sources();
    let of_services = |source: &&Source| {
        !["settings", "lab", "cli"].contains(&source.module[0].as_str()) && source.module.join("/") != "kernel/event"
    };
    let noted: BTreeSet<&str> = sources
        .iter()
        .filter(of_services)
        .flat_map(|source| actions_in(&source.text, '"'))
        .filter(|text| *text != "billing_address.city")
        .filter(|text| text.split_once('.').is_none_or(|(noun, verb)| verb != "json" && nouns.contains(noun)))
        .collect();
    assert_eq!(listed, noted);
    let tests: Vec<String> = files_below("tests", "rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let tested: BTreeSet<&str> = tests.iter().flat_map(|text| actions_in(text, '"')).collect();
    let untested: Vec<_> = listed.difference(&tested).collect();
    assert!(untested.is_empty(), "{untested:?}");
}
