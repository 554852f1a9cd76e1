//! Folders below `target` in which clients are installed once, and programs that are run and must end.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use crate::support;

/// A client that takes longer than this has failed its test.
const PATIENCE: Duration = Duration::from_mins(2);
/// A registry that takes longer than this is not there.
const INSTALLING: Duration = Duration::from_secs(400);

/// The folder of some packages, with them in it: `install` is run unless it was before. `None`, said aloud, when it
/// fails.
pub fn folder(kind: &str, packages: &[&str], install: impl FnOnce(&Path) -> Result<(), String>) -> Option<PathBuf> {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    let name: String = packages.join("_").chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let folder = all.join(kind).join(name.trim_matches('-'));
    fs::create_dir_all(&folder).unwrap();
    // Tests run side by side, in this process and in others.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let done = folder.join("installed");
    if !done.exists() {
        if let Err(why) = install(&folder) {
            support::skip("clients", &format!("{}: {why}", packages.join(" ")));
            return None;
        }
        fs::write(done, packages.join("\n")).unwrap();
    }
    Some(folder)
}

/// Whether a program can be run at all.
pub fn installed(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a step of an installation; what it complained of, when it failed.
pub fn install(command: &mut Command) -> Result<(), String> {
    let output = finished(command, INSTALLING).ok_or("it takes too long")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // npm and pip both begin with what is wrong, and end with advice.
    let wrong = said.lines().find(|line| line.to_lowercase().contains("error")).unwrap_or(&said);
    if output.status.success() { Ok(()) } else { Err(format!("cannot be installed: {}", wrong.trim())) }
}

/// Runs a client, which must end well; what it said.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = finished(command, PATIENCE).unwrap_or_else(|| panic!("{command:?} does not end"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// A program's output, once it has ended; it is ended when it does not end by itself.
fn finished(command: &mut Command, patience: Duration) -> Option<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = child.id().to_string();
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(patience) else {
        drop(Command::new("kill").args(["-KILL", &pid]).status());
        return None;
    };
    Some(output.unwrap())
}
