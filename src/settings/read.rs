//! Reads typed values out of layered TOML tables, consuming keys and recording every fault; what is left over is unknown.

use std::{collections::BTreeMap, fmt};

use toml::{Table, Value};

use super::Given;

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingFault {
    /// The key's path: `gateway.routes[2].upstream`.
    pub path: String,
    /// What is wrong.
    pub detail: String,
    /// Where the value came from.
    pub source: String,
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingFaults(pub Vec<SettingFault>);

impl SettingFaults {
    /// A single fault.
    pub fn one(path: &str, detail: &str, source: &str) -> Self {
        Self(vec![SettingFault { path: path.to_owned(), detail: detail.to_owned(), source: source.to_owned() }])
    }
}

impl fmt::Display for SettingFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, SettingFault { path, detail, source }) in self.0.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{path}: {detail}")?;
            if !source.is_empty() {
                write!(f, " ({source})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for SettingFaults {}

/// The layers, and what was found wrong so far.
pub struct Reader {
    table: Table,
    /// Where single keys came from, if not from the file.
    origins: Vec<(String, String)>,
    file: String,
    faults: Vec<SettingFault>,
    known: Vec<String>,
}

/// An item of an array of both.
pub enum TextOrTable {
    /// A text.
    Text(String),
    /// A table.
    Table(Reader),
}

impl Reader {
    /// Without any layer: everything has its default.
    pub(super) fn new() -> Self {
        Self { table: Table::new(), origins: Vec::new(), file: String::new(), faults: Vec::new(), known: Vec::new() }
    }

    /// The file's table.
    pub(super) fn add_layer(&mut self, table: Table, file: &str) {
        self.table = table;
        file.clone_into(&mut self.file);
    }

    /// `TOLLGATE_SECTION__KEY`: a TOML value where it is one, text otherwise.
    pub(super) fn add_variable(&mut self, name: &str, value: &str) {
        let path: Vec<String> = name.trim_start_matches("TOLLGATE_").split("__").map(str::to_ascii_lowercase).collect();
        if path.len() < 2 {
            let detail = "names no setting: the form is TOLLGATE_SECTION__KEY";
            self.faults.push(SettingFault {
                path: name.to_owned(),
                detail: detail.to_owned(),
                source: "environment".into(),
            });
            return;
        }
        let as_toml = format!("x = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("x"));
        let value = as_toml.unwrap_or_else(|| Value::String(value.to_owned()));
        self.set(&path.join("."), value, name);
    }

    /// A flag of the command line.
    pub(super) fn add_flag(&mut self, path: &str, value: Option<Value>, flag: &str) {
        if let Some(value) = value {
            self.set(path, value, flag);
        }
    }

    fn set(&mut self, path: &str, value: Value, origin: &str) {
        let (section, key) = path.split_once('.').unwrap_or(("", path));
        let slot = self.table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        match slot {
            Value::Table(table) => {
                table.insert(key.to_owned(), value);
                self.origins.push((path.to_owned(), origin.to_owned()));
            }
            _ => self.fault(section, "must be a table"),
        }
    }

    /// Everything that was given and not taken yet.
    pub(super) fn given(&self) -> Given {
        Given::of(&self.table)
    }

    /// Records a fault.
    pub fn fault(&mut self, path: &str, detail: &str) {
        let origin = self.origins.iter().rev().find(|(own, _)| own == path).map(|(_, origin)| origin.clone());
        let source = origin.unwrap_or_else(|| self.file.clone());
        self.faults.push(SettingFault { path: path.to_owned(), detail: detail.to_owned(), source });
    }

    /// The keys that faults were recorded of.
    pub fn faulty(&self) -> Vec<String> {
        self.faults.iter().map(|fault| fault.path.clone()).collect()
    }

    /// Takes a key out.
    pub fn take(&mut self, path: &str) -> Option<Value> {
        self.known.push(path.to_owned());
        let (section, key) = path.split_once('.')?;
        match self.table.get_mut(section)? {
            Value::Table(table) => table.remove(key),
            _ => None,
        }
    }

    /// Whether a key is there, which from then on is known to be a setting.
    pub fn has(&mut self, path: &str) -> bool {
        self.known.push(path.to_owned());
        let Some((section, key)) = path.split_once('.') else { return false };
        self.table.get(section).and_then(Value::as_table).is_some_and(|table| table.contains_key(key))
    }

    /// A text; `default` when absent.
    pub fn string(&mut self, path: &str, default: &str) -> Option<String> {
        match self.take(path) {
            None => Some(default.to_owned()),
            Some(Value::String(text)) => Some(text),
            Some(other) => {
                self.wrong_type(path, "a text", &other);
                None
            }
        }
    }

    /// A text that may be absent; one of another type is a fault.
    pub fn optional_string(&mut self, path: &str) -> Option<String> {
        match self.take(path)? {
            Value::String(text) => Some(text),
            other => {
                self.wrong_type(path, "a text", &other);
                None
            }
        }
    }

    /// A text with a form of its own.
    pub fn parsed<T: std::str::FromStr<Err: fmt::Display>>(&mut self, path: &str, default: &str) -> Option<T> {
        let text = self.string(path, default)?;
        text.parse().map_err(|error: T::Err| self.fault(path, &error.to_string())).ok()
    }

    /// One of a few texts.
    pub fn choice(&mut self, path: &str, default: &str, choices: &[&str]) -> Option<String> {
        let text = self.string(path, default)?;
        if choices.contains(&text.as_str()) {
            return Some(text);
        }
        self.fault(path, &format!("must be one of {}", choices.join(", ")));
        None
    }

    /// A switch.
    pub fn switch(&mut self, path: &str, default: bool) -> Option<bool> {
        match self.take(path) {
            None => Some(default),
            Some(Value::Boolean(value)) => Some(value),
            Some(other) => {
                self.wrong_type(path, "true or false", &other);
                None
            }
        }
    }

    /// A whole number within bounds.
    pub fn number(&mut self, path: &str, default: i64, least: i64, most: i64) -> Option<i64> {
        match self.take(path) {
            None => Some(default),
            Some(Value::Integer(value)) if (least..=most).contains(&value) => Some(value),
            Some(Value::Integer(_)) => {
                self.fault(path, &format!("must be from {least} to {most}"));
                None
            }
            Some(other) => {
                self.wrong_type(path, "a whole number", &other);
                None
            }
        }
    }

    /// An array of tables, each to be read by a reader of its own.
    pub fn tables(&mut self, path: &str) -> Vec<(String, Self)> {
        let items = match self.take(path) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.wrong_type(path, "an array of tables", &other);
                return Vec::new();
            }
        };
        let mut readers = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let prefix = format!("{path}[{index}]");
            let reader = self.part(&prefix, item);
            readers.extend(reader.map(|reader| (prefix, reader)));
        }
        readers
    }

    /// An array of texts and tables, the tables each to be read by a reader of its own; `None` when absent.
    pub fn texts_and_tables(&mut self, path: &str) -> Option<Vec<(String, TextOrTable)>> {
        let items = match self.take(path)? {
            Value::Array(items) => items,
            other => {
                self.wrong_type(path, "an array of texts and tables", &other);
                return Some(Vec::new());
            }
        };
        let mut found = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let prefix = format!("{path}[{index}]");
            match item {
                Value::String(text) => found.push((prefix, TextOrTable::Text(text))),
                table @ Value::Table(_) => {
                    let reader = self.part(&prefix, table);
                    found.extend(reader.map(|reader| (prefix, TextOrTable::Table(reader))));
                }
                other => self.wrong_type(&prefix, "a text or a table", &other),
            }
        }
        Some(found)
    }

    /// A table that may be absent, to be read by a reader of its own.
    pub fn table(&mut self, path: &str) -> Option<Self> {
        let value = self.take(path)?;
        self.part(path, value)
    }

    fn part(&mut self, path: &str, value: Value) -> Option<Self> {
        let Value::Table(table) = value else {
            self.wrong_type(path, "a table", &value);
            return None;
        };
        let mut reader = Self::new();
        reader.file.clone_from(&self.file);
        reader.table.insert(String::new(), Value::Table(table));
        Some(reader)
    }

    /// Takes over what was wrong with an item of [`Self::tables`] or with a [`Self::table`], its unknown keys too.
    pub fn finish_item(&mut self, prefix: &str, mut item: Self) {
        item.unknown_keys();
        for mut fault in item.faults {
            fault.path = format!("{prefix}{}", fault.path);
            self.faults.push(fault);
        }
    }

    /// An array of texts.
    pub fn strings(&mut self, path: &str, default: &[&str]) -> Option<Vec<String>> {
        let items = match self.take(path) {
            None => return Some(default.iter().map(|text| (*text).to_owned()).collect()),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.wrong_type(path, "an array of texts", &other);
                return None;
            }
        };
        let count = items.len();
        let texts: Vec<String> = items.into_iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
        if texts.len() != count {
            self.fault(path, "must be an array of texts");
            return None;
        }
        Some(texts)
    }

    /// A table of texts.
    pub fn texts(&mut self, path: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        match self.take(path) {
            None => {}
            Some(Value::Table(table)) => {
                for (key, value) in table {
                    match value {
                        Value::String(text) => drop(texts.insert(key, text)),
                        other => self.wrong_type(&format!("{path}.{key}"), "a text", &other),
                    }
                }
            }
            Some(other) => self.wrong_type(path, "a table of texts", &other),
        }
        texts
    }

    fn wrong_type(&mut self, path: &str, wanted: &str, found: &Value) {
        self.fault(path, &format!("must be {wanted}, not {}", found.type_str()));
    }

    fn unknown_keys(&mut self) {
        let mut unknown = Vec::new();
        for (section, value) in &self.table {
            match value {
                Value::Table(table) => {
                    let dot = if section.is_empty() { "." } else { &format!("{section}.") };
                    unknown.extend(table.keys().map(|key| format!("{dot}{key}")));
                    if !section.is_empty()
                        && !self.known.iter().any(|known| known.starts_with(&format!("{section}.")))
                        && table.is_empty()
                    {
                        unknown.push(section.clone());
                    }
                }
                _ => unknown.push(section.clone()),
            }
        }
        for path in unknown {
            let near = self.known.iter().find(|known| is_near(known, &path)).cloned();
            match near {
                Some(near) => self.fault(&path, &format!("is not a setting; did you mean {near}?")),
                None => self.fault(&path, "is not a setting"),
            }
        }
    }

    /// The settings, if nothing was wrong.
    pub(super) fn finish<T>(mut self, settings: Option<T>) -> Result<T, SettingFaults> {
        self.unknown_keys();
        match settings {
            Some(settings) if self.faults.is_empty() => Ok(settings),
            _ => Err(SettingFaults(self.faults)),
        }
    }
}

/// Whether two names differ by one or two letters.
fn is_near(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return false;
    }
    // Levenshtein distance, one row at a time.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()] <= 2
}
