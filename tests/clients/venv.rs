//! Packages of the Python Package Index, and scripts that use them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::scratch;
use crate::support;

/// A virtual environment with packages.
pub struct Venv {
    folder: PathBuf,
}

impl Venv {
    /// With packages as `name==version`; `None`, said aloud, where that cannot be.
    pub fn with(packages: &[&str]) -> Option<Self> {
        if !scratch::installed("python3", "--version") {
            support::skip("clients", "python3");
            return None;
        }
        let install = |folder: &Path| {
            let venv = folder.join("venv");
            scratch::install(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
            let mut pip = Command::new(venv.join("bin/python"));
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]);
            scratch::install(pip.args(packages).current_dir(folder))
        };
        Some(Self { folder: scratch::folder("venv", packages, install)? })
    }

    /// Runs a script of `tests/clients`.
    #[track_caller]
    pub fn run(&self, script: &str, variables: &[(&str, String)]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
        scratch::run(self.python(&script).envs(variables.iter().map(|(name, value)| (name, value))));
    }

    /// Runs a script that a document has; what it said.
    #[track_caller]
    pub fn run_text(&self, name: &str, text: &str) -> String {
        let script = self.folder.join(name);
        fs::write(&script, text).unwrap();
        scratch::run(&mut self.python(&script))
    }

    fn python(&self, script: &Path) -> Command {
        let mut python = Command::new(self.folder.join("venv/bin/python"));
        // Isolated: a script that is called like the package it uses must not be taken for it.
        python.args(["-I", "-B"]).arg(script).current_dir(&self.folder);
        python
    }
}
