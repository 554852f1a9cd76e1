//! Packages of npm, and scripts that use them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::scratch;
use crate::support;

/// A folder with packages from npm.
pub struct Npm {
    folder: PathBuf,
}

impl Npm {
    /// With packages as `name@version`; `None`, said aloud, where that cannot be.
    pub fn with(packages: &[&str]) -> Option<Self> {
        for program in ["node", "npm"] {
            if !scratch::installed(program, "--version") {
                support::skip("clients", program);
                return None;
            }
        }
        let install = |folder: &Path| {
            fs::write(folder.join("package.json"), "{\"private\": true, \"type\": \"module\"}\n").unwrap();
            let mut npm = Command::new("npm");
            npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1", "--cache"]);
            scratch::install(npm.arg(folder.join("cache")).args(packages).current_dir(folder))
        };
        Some(Self { folder: scratch::folder("npm", packages, install)? })
    }

    /// Runs a script of `tests/clients`.
    #[track_caller]
    pub fn run(&self, script: &str, variables: &[(&str, String)]) {
        // Modules are looked for from where the script is.
        let copy = self.folder.join(script);
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script), &copy).unwrap();
        let mut node = self.node(&copy);
        scratch::run(node.envs(variables.iter().map(|(name, value)| (name, value))));
    }

    /// Runs a script that a document has; what it said.
    #[track_caller]
    pub fn run_text(&self, name: &str, text: &str) -> String {
        let script = self.folder.join(name);
        fs::write(&script, text).unwrap();
        scratch::run(&mut self.node(&script))
    }

    fn node(&self, script: &Path) -> Command {
        let mut node = Command::new("node");
        node.arg(script).current_dir(&self.folder);
        node
    }
}
