//! Settings that are read a second time: from where they came, and what of them can change while the program runs.

use std::{collections::BTreeMap, fmt};

use toml::{Table, Value};

use super::{Flags, SettingFaults, Settings};

/// What can change while the program runs, by the beginnings of keys.
const LIVE: [&str; 4] = ["gateway.", "identity.issuers", "server.tls", "billing.plans"];

/// The keys that were given, with what they were given as. Not shown: there may be passwords among them.
#[derive(Clone, Default)]
pub struct Given(BTreeMap<String, Value>);

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

impl Given {
    /// Of all layers, one laid over the other.
    pub(super) fn of(table: &Table) -> Self {
        let mut given = BTreeMap::new();
        for (section, value) in table {
            match value {
                Value::Table(keys) => {
                    given.extend(keys.iter().map(|(key, value)| (format!("{section}.{key}"), value.clone())));
                }
                other => drop(given.insert(section.clone(), other.clone())),
            }
        }
        Self(given)
    }

    fn differing(&self, other: &Self) -> Vec<String> {
        let keys = self.0.keys().chain(other.0.keys().filter(|key| !self.0.contains_key(*key)));
        let mut keys: Vec<String> = keys.filter(|key| self.0.get(*key) != other.0.get(*key)).cloned().collect();
        keys.sort_unstable();
        keys
    }
}

impl Settings {
    /// What the same file, environment and flags say now; `None` when that is not where these settings are from.
    pub fn again(&self) -> Option<Result<Self, SettingFaults>> {
        let flags: Flags = self.flags.clone()?;
        Some(Self::from_process(flags))
    }

    /// The keys of what differs in others and cannot change while the program runs.
    pub fn fixed_that_differ(&self, others: &Self) -> Vec<String> {
        let mut keys = self.given.differing(&others.given);
        // A listener has TLS or it has not; the files may be others.
        let tls_begins_or_ends = self.server.tls.is_some() != others.server.tls.is_some();
        keys.retain(|key| {
            !LIVE.iter().any(|live| key.starts_with(live)) || (key == "server.tls" && tls_begins_or_ends)
        });
        keys
    }

    /// Takes over what can change while the program runs.
    pub fn take_over(&mut self, others: Self) {
        self.gateway.routes = others.gateway.routes;
        if self.server.tls.is_some() && others.server.tls.is_some() {
            self.server.tls = others.server.tls;
        }
        if self.billing.currency == others.billing.currency {
            self.billing.plans = others.billing.plans;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    fn settings(text: &str) -> Settings {
        let file = Some(("tollgate.toml".to_owned(), text.to_owned()));
        Settings::load(&Sources { file, ..Sources::default() }).unwrap()
    }

    #[test]
    fn what_needs_a_restart_is_named_by_its_key_and_nothing_else_is() {
        let route = "[[gateway.routes]]\npath = \"/a/\"\nupstream = \"builtin:sample\"\n";
        let one = settings(&format!("[server]\nlisten = \"127.0.0.1:1\"\n[metering]\nflush_ms = 5\n{route}"));
        let other =
            settings(&format!("[server]\nlisten = \"127.0.0.1:2\"\n[store]\ndata = \"./x\"\n{route}public = true\n"));
        assert_eq!(one.fixed_that_differ(&other), ["metering.flush_ms", "server.listen", "store.data"]);
        assert!(one.fixed_that_differ(&one).is_empty());
    }

    #[test]
    fn what_was_given_is_not_shown() {
        let secret = settings("[store]\nurl = \"postgres://u:secret@localhost/db\"\n");
        assert!(!format!("{:?}", secret.given).contains("secret"));
    }

    #[test]
    fn settings_of_a_program_that_embeds_the_server_are_not_read_again() {
        assert!(settings("").again().is_none());
    }
}
